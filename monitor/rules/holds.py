"""How long something must last before it is an alert, given a configuration's intervals and settle times."""

from dataclasses import dataclass
from datetime import timedelta

from monitor.config import Settings
from monitor.core.cadence import CONFIRM, THROTTLED

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
    lingers: timedelta
    """An alert of a fault that comes and goes stays for so long: its end shows at the next look."""
    window: timedelta
    """Over which failures are counted."""

    @classmethod
    def of(cls, settings: Settings) -> "Holds":
        """The times that follow from the settings."""
        interval = settings.interval
        slowest = max((each.interval for each in settings.connections), default=interval)
        settle = max((each.settle for each in settings.connections), default=settings.settle)
        confirmed = min(CONFIRM, max(slowest, interval)) + EXCHANGE + SCRAPE
        usual = max(confirmed, min(TRANSIENT_INTERVALS * interval, LONGEST_TRANSIENT))
        transient = usual if settings.alerts.transient_for is None else settings.alerts.transient_for
        return cls(
            confirmed=confirmed,
            transient=transient,
            settling=max(settle, settings.settle) + EXCHANGE + SCRAPE,
            throttled=THROTTLED + EXCHANGE + SCRAPE,
            many_confirmed=SCRAPE,
            many_transient=max(min(confirmed, transient), transient - interval),
            late=max(SHORTEST_LATENESS, min(interval, LONGEST_LATENESS)),
            lingers=min(interval, LONGEST_TRANSIENT),
            window=max(STEADINESS_WINDOW, min(STEADINESS_INTERVALS * interval, LONGEST_STEADINESS_WINDOW)),
        )
