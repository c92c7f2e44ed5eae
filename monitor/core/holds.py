"""How long something must last before it is an alert, given a configuration's intervals and settle times."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from monitor.core.cadence import BACK_OFF, CONFIRM, SLOWED_TO_AT_MOST, THROTTLED
from monitor.core.catalogue import CATALOGUE, Hold
from monitor.core.causes import Cause
from monitor.core.connection import Connection

MANY = 5
"""So many connections at least make one event of many: fewer alerts are read one by one."""

MANY_SHARE = 0.25
"""The share of the fleet that makes one event of many. Half of it is where the daemon itself calls a fault
its own; a quarter is told half an interval earlier."""

MANY_LEFT = SLOWED_TO_AT_MOST
"""Once fewer than that share are left, the alert about many goes on in an Alertmanager for so long at most:
by then each of them was looked at again, and while it goes on, whoever fails anew for that cause is muted."""

SCRAPE = timedelta(seconds=30)
"""The longest scrape interval that the rules are made for; that of deploy/ is shorter or equal."""

EXCHANGE = timedelta(seconds=30)
"""An exchange's limit: so late may a confirmed refusal be known."""

TRANSIENT_INTERVALS = 3
"""A fault of network or server is looked at again within seconds, then at the interval. After three intervals
five looks and more found nothing but the fault."""

LONGEST_TRANSIENT = timedelta(hours=1)
"""However long the interval is: the quick repeats after a fault have failed an hour ago by then."""

UNCHECKED = timedelta(minutes=15)
"""10,000 connections are first looked at within 500 s: who has no verdict after 900 is not merely waiting."""

SHORTEST_LATENESS = timedelta(minutes=2)
LONGEST_LATENESS = timedelta(hours=1)
"""A check is late when it is overdue by an interval, within these bounds: a full queue takes a minute to
empty, and of a check that comes once a day nobody wants to hear a day too late."""

STEADINESS_WINDOW = timedelta(hours=1)
STEADINESS_INTERVALS = 12
LONGEST_STEADINESS_WINDOW = timedelta(days=1)
"""Over so much time are a connection's failures counted: a dozen intervals, an hour at 5 minutes."""

UNSTEADY_SHARE = 0.5
"""Of the exchanges that count, failed: an outage just short of an alert of its own makes 7 of 16 at 5
minutes, with its quick repeats."""


def seen_again(refused: Iterable[Connection]) -> timedelta:
    """Within so long each of the refused is looked at again: the longest back-off, or their longest interval.

    Only where more than a hundred are refused are looks further apart.
    """
    return max((BACK_OFF[-1], *(each.interval for each in refused)))


@dataclass(frozen=True, slots=True)
class Holds:
    """The times of one configuration."""

    confirmed: timedelta
    """A refusal was seen twice: the first look, the confirming one, its exchange, and the scrape after it."""
    transient: timedelta
    """A fault without a verdict is no passing one."""
    settling: timedelta
    """Every settle time is over, and the look at its end was scraped."""
    throttled: timedelta
    """After `login rate exceeded` the next look comes late."""
    many_confirmed: timedelta
    """Many refused at once confirm each other: one more scrape is enough. At 5 minutes a quarter of a fleet
    is seen within 75 s, so that this comes before the first single alert."""
    many_transient: timedelta
    """The last of many is seen an interval after the first, and must not be told later than that one."""
    late: timedelta
    """A check is overdue by so much."""
    refused: timedelta
    """Whoever was refused is looked at again within so long."""
    lingers: timedelta
    """An alert of a fault that comes and goes stays for so long: its end shows at the next look."""
    window: timedelta
    """Over which failures are counted."""

    @classmethod
    def of(
        cls,
        connections: Iterable[Connection],
        *,
        interval: timedelta,
        settle: timedelta,
        transient_for: timedelta | None,
    ) -> "Holds":
        """The times that follow from what is configured; `transient_for` is the operator's own, if any."""
        listed = list(connections)
        slowest = max((each.interval for each in listed), default=interval)
        longest_settle = max((settle, *(each.settle for each in listed)))
        confirmed = min(CONFIRM, max(slowest, interval)) + EXCHANGE + SCRAPE
        usual = max(confirmed, min(TRANSIENT_INTERVALS * interval, LONGEST_TRANSIENT))
        transient = usual if transient_for is None else transient_for
        return cls(
            confirmed=confirmed,
            transient=transient,
            settling=longest_settle + EXCHANGE + SCRAPE,
            throttled=THROTTLED + EXCHANGE + SCRAPE,
            many_confirmed=SCRAPE,
            many_transient=max(min(confirmed, transient), transient - interval),
            late=max(SHORTEST_LATENESS, min(interval, LONGEST_LATENESS)),
            refused=seen_again(listed),
            lingers=min(interval, LONGEST_TRANSIENT),
            window=max(STEADINESS_WINDOW, min(STEADINESS_INTERVALS * interval, LONGEST_STEADINESS_WINDOW)),
        )

    def of_cause(self, cause: Cause) -> timedelta:
        """How long this cause must hold."""
        match CATALOGUE[cause].hold:
            case Hold.CONFIRMED:
                return self.confirmed
            case Hold.TRANSIENT:
                return self.transient
            case Hold.SETTLING:
                return self.settling
            case Hold.THROTTLED:
                return self.throttled
