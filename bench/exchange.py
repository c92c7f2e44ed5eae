"""CPU of a whole check: against a bare exchange, and for a large fleet against a small one.

A check is a look at the credential, the signature, the exchange, the diagnosis, what is remembered and
written of it, and the new status. Fleets and yardstick take turns, so that a busy machine shifts them all.
"""

import statistics

from bench.daemon import Watching
from bench.elsewhere import Elsewhere
from bench.figures import Figure, median_ratio

GOAL_RATIO = 1.5
GOAL_FLATNESS = 1.15

AT_ONCE = 16
"""Checks under way while they are made without a schedule."""


def figures(
    small: Elsewhere[Watching], large: Elsewhere[Watching], *, rounds: int, times: int, seconds: float
) -> list[Figure]:
    """Both ratios. One turn is so many exchanges or seconds on schedule; the fleets have the same rate."""
    small.call(Watching.checks, times, AT_ONCE)
    bare, in_a_row, scheduled, at_large = [], [], [], []
    for _ in range(rounds):
        bare.append(small.call(Watching.floor, times))
        in_a_row.append(small.call(Watching.checks, times, AT_ONCE))
        scheduled.append(small.call(Watching.on_schedule, seconds))
        at_large.append(large.call(Watching.on_schedule, seconds))
        bare.append(small.call(Watching.floor, times))
    floor = [statistics.mean(bare[turn : turn + 2]) for turn in range(0, len(bare), 2)]
    return [
        Figure("CPU of a bare signature and a bare TLS exchange", 1000 * statistics.median(floor), "ms"),
        Figure("CPU of a check on schedule", 1000 * statistics.median(scheduled), "ms"),
        Figure("CPU of a check on schedule / bare", median_ratio(scheduled, floor), goal=GOAL_RATIO),
        Figure("CPU of a check, in a row / bare", median_ratio(in_a_row, floor), goal=GOAL_RATIO),
        Figure(
            "CPU of a check in the large fleet / in the small one, same rate",
            median_ratio(at_large, scheduled),
            goal=GOAL_FLATNESS,
        ),
    ]
