"""Maintenance windows, single or weekly, in which notifications are held back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Once:
    """A single window, excluding its end."""

    start: datetime
    end: datetime

    def windows(self, _since: datetime, _end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Its beginning and end."""
        yield self.start, self.end


@dataclass(frozen=True, slots=True)
class Weekly:
    """A window that begins at a time of day on a weekday, in a time zone."""

    weekday: int
    """0 is Monday."""
    at: time
    lasts: timedelta
    """At most a week."""
    zone: str = "UTC"
    """An IANA time zone, such as Europe/Berlin. A start that daylight saving skips is as clocks would have
    shown it."""

    def windows(self, since: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Those that reach into `since` to `end`, and the last that ended by `end`, at least."""
        zone = ZoneInfo(self.zone)
        today = end.astimezone(zone).date()
        latest = today - timedelta(days=(today.weekday() - self.weekday) % 7)
        for weeks in range(3 + (end - since) // WEEK):
            start = datetime.combine(latest - weeks * WEEK, self.at, zone).astimezone(UTC)
            yield start, start + self.lasts


Maintenance = Once | Weekly


def until(maintenances: Iterable[Maintenance], now: datetime) -> datetime | None:
    """When the last of the current maintenances ends; None without one."""
    windows = (window for one in maintenances for window in one.windows(now, now))
    return max((end for start, end in windows if start <= now < end), default=None)


def ended(maintenances: Iterable[Maintenance], now: datetime) -> datetime | None:
    """When the last maintenance ended; None if none has."""
    windows = (window for one in maintenances for window in one.windows(now, now))
    return max((end for _, end in windows if end <= now), default=None)
