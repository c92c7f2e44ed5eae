"""How long something must last before it is an alert, given a configuration's intervals and settle times."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitor.core.cadence import CONFIRM, THROTTLED
from monitor.core.catalogue import CATALOGUE, Entry, Hold
from monitor.core.causes import Cause
from monitor.core.connection import Connection

SCRAPE = timedelta(seconds=30)
"""The longest scrape interval that the rules support; the one in deploy/ is not longer."""

EXCHANGE = timedelta(seconds=30)
"""The time limit of an exchange, by which a confirmation may be delayed."""

TRANSIENT_INTERVALS = 3
"""After a fault of network or server, checks are repeated within seconds, then at the interval. After three
intervals, at least five checks have found it."""

LONGEST_TRANSIENT = timedelta(hours=1)
"""However long the interval: by then the quick retries failed an hour ago."""

UNCHECKED = timedelta(minutes=15)
"""10,000 connections are first checked within 500 s; one without a verdict after 900 s is not just
waiting."""

SHORTEST_LATENESS = timedelta(minutes=2)
LONGEST_LATENESS = timedelta(hours=1)
"""A check is late if overdue by an interval, within these bounds: a full queue takes a minute to drain, and a
missing daily check should be reported within the hour."""

STEADINESS_WINDOW = timedelta(hours=1)
STEADINESS_INTERVALS = 12
LONGEST_STEADINESS_WINDOW = timedelta(days=1)
"""The window in which a connection's failures are counted: a dozen intervals, an hour at 5 minutes."""

KEPT = timedelta(minutes=5)
"""How long an alert continues after its end: a restart or a move to another node takes one to two minutes,
and BearerwatchAbsent, which inhibits connections' alerts, fires after three."""


@dataclass(frozen=True, slots=True)
class Holds:
    """The hold times for one configuration."""

    by_hold: Mapping[Hold, timedelta]
    """How long a cause must last, until the check that proves it was scraped."""
    unexplained: timedelta
    """How long a connection must be without verdict and cause."""
    many_transient: timedelta
    """For many connections: the last one fails an interval after the first, but is reported with it."""
    late: timedelta
    """By how much a check must be overdue."""
    lingers: timedelta
    """How long an alert about an intermittent fault continues after its end: until the next check."""
    window: timedelta

    @classmethod
    def of(
        cls,
        connections: Iterable[Connection],
        *,
        interval: timedelta,
        settle: timedelta,
        transient_for: timedelta | None,
    ) -> "Holds":
        """Derive the times from the configuration; `transient_for` overrides one of them."""
        slowest = max((each.interval for each in connections), default=interval)
        confirmed = min(CONFIRM, max(slowest, interval)) + EXCHANGE + SCRAPE
        usual = max(confirmed, min(TRANSIENT_INTERVALS * interval, LONGEST_TRANSIENT))
        transient = usual if transient_for is None else transient_for
        return cls(
            by_hold={
                Hold.CONFIRMED: confirmed,
                Hold.TRANSIENT: transient,
                Hold.SETTLING: settle + EXCHANGE + SCRAPE,
                Hold.THROTTLED: THROTTLED + EXCHANGE + SCRAPE,
            },
            unexplained=max(transient, UNCHECKED),
            many_transient=max(min(confirmed, transient), transient - interval),
            late=max(SHORTEST_LATENESS, min(interval, LONGEST_LATENESS)),
            lingers=max(KEPT, min(interval, LONGEST_TRANSIENT)),
            window=max(STEADINESS_WINDOW, min(STEADINESS_INTERVALS * interval, LONGEST_STEADINESS_WINDOW)),
        )

    def of_cause(self, cause: Cause) -> timedelta:
        """How long this cause must last."""
        return self.by_hold[CATALOGUE[cause].hold]

    def kept(self, entry: Entry | None) -> timedelta:
        """How long an alert about this cause, or one without a known cause, continues after its end."""
        return self.lingers if entry and entry.transient else KEPT
