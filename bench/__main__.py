"""`make bench`: measures everything, prints one table, and exits with 1 if a goal is missed.

It takes a quarter of an hour on two cores. Everything is measured against a baseline in the same run, so a
busy machine affects both; only the ratio counts, never the milliseconds.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench import audits, blackbox, exchange, load, pages, preflight, replicas, scrape, store, whole
from bench.daemon import Watching
from bench.elsewhere import Elsewhere
from bench.figures import Figure
from bench.material import prepare
from bench.server import SERVER_CORE, pin, serving


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the benchmarks."""

    small: int = 100
    medium: int = 1_000
    medium_seconds: float = 15.0
    large: int = 10_000
    large_seconds: float = 300.0
    """The usual interval: 33 checks a second."""
    few: int = 300
    few_seconds: float = 60.0
    """5 checks a second."""
    rounds: int = 5
    times: int = 200
    turn_seconds: float = 6.0
    start_seconds: float = 15.0
    shared: int = 4_000
    """Connections for replicas under full load: 400 checks per second are due."""
    shared_seconds: float = 6.0
    usual: tuple[int, ...] = (10_000, 50_000)
    """Connections for replicas at the default interval."""
    usual_seconds: float = 60.0
    largest: int = 50_000
    """Connections in one process at the default interval, for `usual_seconds`."""

    @property
    def small_seconds(self) -> float:
        """The interval at which the small fleet is checked as often as the large one."""
        return self.large_seconds * self.small / self.large


def measure(sizes: Sizes, place: Path) -> Iterator[Figure]:
    """All figures, each as soon as it is measured."""
    yield from scrape.figures(sizes.medium, rounds=3 * sizes.rounds)
    yield from scrape.figures(sizes.large, rounds=3 * sizes.rounds)
    yield from pages.figures(sizes.large, sizes.rounds)
    yield from store.figures(place, sizes.large, sizes.rounds)
    material = prepare(place, sizes.largest)
    yield from preflight.figures(material, sizes.rounds)
    with ExitStack() as stack:
        url = stack.enter_context(serving(material, sizes.largest))

        def watching(count: int, seconds: float) -> Elsewhere[Watching]:
            return stack.enter_context(Elsewhere(Watching, material, url, count, seconds))

        medium = watching(sizes.medium, sizes.medium_seconds)
        yield from load.whole_interval(medium, sizes.medium)
        yield from load.all_at_once(medium, sizes.medium)
        large = watching(sizes.large, sizes.large_seconds)
        yield from load.whole_interval(large, sizes.large)
        yield from load.all_at_once(large, sizes.large)
        small = watching(sizes.small, sizes.small_seconds)
        small.call(Watching.take_on)
        few = watching(sizes.few, sizes.few_seconds)
        few.call(Watching.take_on)
        yield from exchange.figures(
            small, large, few, rounds=sizes.rounds, times=sizes.times, seconds=sizes.turn_seconds
        )
        if blackbox.PROGRAM:
            yield from blackbox.figures(material, url, small, rounds=sizes.rounds, times=sizes.times)
        yield from whole.command(material, url, sizes.medium, small)
        yield from whole.start(material, url, sizes.large, sizes.start_seconds)
        yield from whole.at_pace(material, url, sizes.largest, sizes.usual_seconds)
        yield from audits.figures(small, rounds=sizes.rounds, times=sizes.times)


def main() -> int:
    """Measure and print. Gives the exit code."""
    argparse.ArgumentParser(prog="make bench", description=__doc__).parse_args()
    pin(SERVER_CORE)
    began = time.monotonic()
    missed = []
    sizes = Sizes()
    with tempfile.TemporaryDirectory(prefix="bearerwatch-bench-") as name:
        place = Path(name)
        several = replicas.figures(
            place / "replicas", sizes.shared, sizes.shared_seconds, sizes.usual, sizes.usual_seconds
        )
        for figure in chain(measure(sizes, place), several if replicas.measurable() else ()):
            sys.stdout.write(f"{figure}\n")
            sys.stdout.flush()
            missed += [figure.what] * figure.missed
    if not blackbox.PROGRAM:
        sys.stdout.write(
            "blackbox_exporter: not measured, as it is not installed (Debian: prometheus-blackbox-exporter)\n"
        )
    if not replicas.measurable():
        sys.stdout.write(
            "replicas: not measured, as PostgreSQL's server is not installed (Debian: postgresql)\n"
        )
    verdict = f"missed: {'; '.join(missed)}" if missed else "all goals met"
    sys.stdout.write(f"{time.monotonic() - began:.0f} s; {verdict}\n")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
