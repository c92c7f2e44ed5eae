"""CPU of a whole check: against a bare exchange, and for a large fleet against a small one.

A check is a look at the credential, the signature, the exchange, the diagnosis, what is remembered and
written of it, and the new status. Fleets and yardstick take turns, so that a busy machine shifts them all.

Like is compared with like: checks in a row with bare exchanges in a row, and checks on schedule with bare
exchanges at the schedule's pace. Whoever begins anew every 30 ms finds the core's caches and clock cold, and
pays a third more for the very same exchange; the monitor can't help that.
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
    bare, in_a_row, paced, scheduled, at_large = [], [], [], [], []
    for _ in range(rounds):
        bare.append(small.call(Watching.floor, times))
        in_a_row.append(small.call(Watching.checks, times, AT_ONCE))
        bare.append(small.call(Watching.floor, times))
        paced.append(small.call(Watching.floor_at_pace, seconds))
        scheduled.append(small.call(Watching.on_schedule, seconds))
        at_large.append(large.call(Watching.on_schedule, seconds))
        paced.append(small.call(Watching.floor_at_pace, seconds))
    floor, floor_at_pace = _around(bare), _around(paced)
    what = "CPU of a bare signature and a bare TLS exchange"
    return [
        Figure(f"{what}, in a row", 1000 * statistics.median(floor), "ms"),
        Figure(f"{what}, at the schedule's pace", 1000 * statistics.median(floor_at_pace), "ms"),
        Figure("CPU of a check on schedule", 1000 * statistics.median(scheduled), "ms"),
        Figure("CPU of a check, in a row / bare, in a row", median_ratio(in_a_row, floor), goal=GOAL_RATIO),
        Figure(
            "CPU of a check on schedule / bare, at its pace",
            median_ratio(scheduled, floor_at_pace),
            goal=GOAL_RATIO,
        ),
        Figure("CPU of a check on schedule / bare, in a row", median_ratio(scheduled, floor)),
        Figure(
            "CPU of a check in the large fleet / in the small one, same rate",
            median_ratio(at_large, scheduled),
            goal=GOAL_FLATNESS,
        ),
    ]


def _around(measured: list[float]) -> list[float]:
    """The means of what was measured just before and just after."""
    return [statistics.mean(measured[turn : turn + 2]) for turn in range(0, len(measured), 2)]
