"""How long something must last before it is an alert, given a configuration's intervals and settle times."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from monitor.core.cadence import CONFIRM, THROTTLED
from monitor.core.catalogue import CATALOGUE, Hold
from monitor.core.causes import Cause
from monitor.core.connection import Connection

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

KEPT = timedelta(minutes=5)
"""An alert goes on for so long after its end: a restart, or a move to another node, takes one to two minutes,
and BearerwatchAbsent, which holds the alerts of connections back, fires after three."""


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
    many_transient: timedelta
    """The last of many is seen an interval after the first, and must not be told later than that one."""
    late: timedelta
    """A check is overdue by so much."""
    lingers: timedelta
    """So long after its end does an alert about a fault that comes and goes go on: the next look shows it."""
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
            many_transient=max(min(confirmed, transient), transient - interval),
            late=max(SHORTEST_LATENESS, min(interval, LONGEST_LATENESS)),
            lingers=max(KEPT, min(interval, LONGEST_TRANSIENT)),
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

    def kept(self, cause: str) -> timedelta:
        """How long an alert about this cause, or about none that is known, goes on after its end."""
        transient = any(entry.transient for known, entry in CATALOGUE.items() if known == cause)
        return self.lingers if transient else KEPT
