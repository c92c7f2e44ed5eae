"""CPU of a complete check, compared with a bare exchange, and for a large fleet compared with a small one.

A check loads the credential, signs, exchanges, diagnoses, stores the history, and updates the status. Fleets
and baseline alternate, so that a busy machine affects all of them.

Like is compared with like: back-to-back checks with back-to-back exchanges, scheduled checks with exchanges
at the same rate. At one exchange per 30 ms, the CPU's caches and clock are cold, which costs a third more for
the same exchange.
"""

import statistics

from bench.daemon import Watching
from bench.elsewhere import Elsewhere
from bench.figures import Figure, median_ratio

GOAL_RATIO = 1.1
GOAL_RATIO_OF_FEW = 1.3
"""At 5 a second: fewer checks begin together, and share what each second costs."""
GOAL_FLATNESS = 1.15

AT_ONCE = 16
"""Concurrent checks when running without a schedule."""


def figures(
    small: Elsewhere[Watching],
    large: Elsewhere[Watching],
    few: Elsewhere[Watching],
    *,
    rounds: int,
    times: int,
    seconds: float,
) -> list[Figure]:
    """All ratios. A turn has `times` exchanges, or `seconds` on schedule. `small` and `large` have the same
    rate, `few` a lower one.
    """
    for fleet in (small, few):  # the large one has been checked before
        fleet.call(Watching.each_once, AT_ONCE)
    bare, in_a_row, paced, scheduled, at_large, few_paced, of_few = [], [], [], [], [], [], []
    for _ in range(rounds):
        bare.append(small.call(Watching.floor, times))
        in_a_row.append(small.call(Watching.checks, times, AT_ONCE))
        bare.append(small.call(Watching.floor, times))
        paced.append(small.call(Watching.floor_at_pace, seconds))
        scheduled.append(small.call(Watching.on_schedule, seconds))
        at_large.append(large.call(Watching.on_schedule, seconds))
        paced.append(small.call(Watching.floor_at_pace, seconds))
        few_paced.append(few.call(Watching.floor_at_pace, seconds))
        of_few.append(few.call(Watching.on_schedule, seconds))
        few_paced.append(few.call(Watching.floor_at_pace, seconds))
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
            "CPU of a check on schedule at 5 a second / bare, at its pace",
            median_ratio(of_few, _around(few_paced)),
            goal=GOAL_RATIO_OF_FEW,
        ),
        Figure(
            "CPU of a check in the large fleet / in the small one, same rate",
            median_ratio(at_large, scheduled),
            goal=GOAL_FLATNESS,
        ),
    ]


def _around(measured: list[float]) -> list[float]:
    """The means of adjacent measurements."""
    return [statistics.mean(measured[turn : turn + 2]) for turn in range(0, len(measured), 2)]
