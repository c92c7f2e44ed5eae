"""CPU that audits add to a day of checks: one audit per connection, with checks at the default interval.

Each audited org shows everything, and 500 logins: that takes all the calls that an audit may make. What it
found is judged again and written down with each check that follows, which is a figure of its own.
"""

import statistics

from bench.daemon import Watching
from bench.elsewhere import Elsewhere
from bench.exchange import AT_ONCE
from bench.figures import Figure, median_ratio

GOAL_SHARE = 0.05
GOAL_AFTER = 1.1

CHECKS_A_DAY = 288
"""One in five minutes, the usual interval."""

IN_A_ROW = 5
"""So many turns of the other figures in one of these: what is looked for is small."""


def figures(watching: Elsewhere[Watching], *, rounds: int, times: int) -> list[Figure]:
    """What an audit takes against a check, its share of a day, and what it leaves behind."""
    audited = statistics.median(watching.call(Watching.audits, AT_ONCE) for _ in range(rounds))
    turns = [watching.call(Watching.checks_after_audits, IN_A_ROW * times, AT_ONCE) for _ in range(rounds)]
    without, after = [turn.without for turn in turns], [turn.after for turn in turns]
    audit = (audited - statistics.median(after)) / statistics.median(without)
    return [
        Figure("CPU of an audit / of a check", audit),
        Figure("CPU of a day's audits / of a day's checks", audit / CHECKS_A_DAY, goal=GOAL_SHARE),
        Figure("CPU of a check after an audit / without one", median_ratio(after, without), goal=GOAL_AFTER),
    ]
