"""CPU that audits add to a day of checks: one audit per connection, with checks at the default interval.

Each audited org shows everything, and 500 logins: that takes all the calls that an audit may make. What it
found also costs each check that follows a little. The goal is for both together.
"""

import statistics

from bench.daemon import Watching
from bench.elsewhere import Elsewhere
from bench.exchange import AT_ONCE
from bench.figures import Figure, median_ratio

GOAL_SHARE = 0.05

CHECKS_A_DAY = 288
"""One in five minutes, the usual interval."""

IN_A_ROW = 5
"""So many turns of the other figures in one of these: what is looked for is small."""


def figures(watching: Elsewhere[Watching], *, rounds: int, times: int) -> list[Figure]:
    """What an audit takes against a check, its share of a day, what it leaves behind, and the sum."""
    audited = statistics.median(watching.call(Watching.audits, AT_ONCE) for _ in range(rounds))
    turns = [watching.call(Watching.checks_after_audits, IN_A_ROW * times, AT_ONCE) for _ in range(rounds)]
    without = [burst for turn in turns for burst in turn.without]
    after = [burst for turn in turns for burst in turn.after]
    audit = (audited - statistics.median(after)) / statistics.median(without)
    share, later = audit / CHECKS_A_DAY, median_ratio(after, without)
    return [
        Figure("CPU of an audit / of a check", audit),
        Figure("CPU of a day's audits / of a day's checks", share),
        Figure("CPU of a check after an audit / without one", later),
        Figure("CPU that audits add to a day's checks / of these checks", share + later - 1, goal=GOAL_SHARE),
    ]
