"""Runs every target, or those named, for a time each: no crash, no hang, no growth of memory.

    python -m tests.fuzz [--minutes 10] [--seed 1] [TARGET ...]

What is found is printed smallest first, with the seed; it belongs into the tests of what it broke.
"""

import argparse
import faulthandler
import gc
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.targets import TARGETS, Target

BATCH = 300
"""Examples of one seed. Hypothesis remembers what it tried in a run, which would look like our growth."""

HANGS_AFTER_SECONDS = 120.0
"""One example. The slowest of ours, a 16,384-bit key, takes a second; the machine may be busy."""

WARM_BATCHES = 5
"""After this many inputs all caches are full; memory is measured from there."""

GROWTH_AT_MOST_MIB = 48
"""Allocators keep what they were lent once, some MiB; a leak of a KiB an example is more in ten minutes."""


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", choices=[[], *(target.name for target in TARGETS)])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("uvicorn.error").setLevel(
        logging.ERROR
    )  # as in the daemon: a line for each bad request
    for target in TARGETS:
        if not options.targets or target.name in options.targets:
            fuzz(target, options.minutes * 60, options.seed)


def fuzz(target: Target, seconds: float, first_seed: int) -> None:
    """Tries a target with one seed after another until the time is over; raises what it finds."""
    tried = 0
    number = first_seed
    warm = 0.0
    until = time.monotonic() + seconds
    with target.opened() as holds:

        def one(example: Any) -> None:
            nonlocal tried
            tried += 1
            faulthandler.dump_traceback_later(HANGS_AFTER_SECONDS, exit=True)
            holds(example)

        while time.monotonic() < until:
            try:
                batch(one, target, number)()
            except BaseException:
                print(f"{target.name}: found with --seed {number}, after {tried} examples")
                raise
            number += 1
            if number - first_seed == WARM_BATCHES:
                warm = resident_mib()
    faulthandler.cancel_dump_traceback_later()
    grown = resident_mib() - warm if warm else 0.0
    print(f"{target.name}: {tried} examples, {grown:+.1f} MiB", flush=True)
    assert grown < GROWTH_AT_MOST_MIB, f"{target.name} grew by {grown:.0f} MiB"


def batch(one: Callable[[Any], None], target: Target, number: int) -> Callable[[], None]:
    """BATCH examples of one seed."""
    run = given(target.tried)(one)
    limits = settings(
        max_examples=BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    made: Callable[[], None] = seed(number)(limits(run))
    return made


def resident_mib() -> float:
    """Memory of this process, in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
