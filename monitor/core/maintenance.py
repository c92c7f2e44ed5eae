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

    def until(self, now: datetime) -> datetime | None:
        """When the current maintenance ends; None without one."""
        return self.end if self.start <= now < self.end else None

    def ended(self, now: datetime) -> datetime | None:
        """When it ended; None before that."""
        return self.end if self.end <= now else None

    def windows(self, _since: datetime, _end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Its beginnings and ends between two moments, at least."""
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

    def until(self, now: datetime) -> datetime | None:
        """When the current maintenance ends; None without one."""
        return next((end for start, end in self._latest(now) if start <= now < end), None)

    def ended(self, now: datetime) -> datetime | None:
        """When it last ended."""
        return next((end for _, end in self._latest(now) if end <= now), None)

    def windows(self, since: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Its beginnings and ends between two moments, at least."""
        now = end
        while now > since - WEEK:
            yield from self._latest(now)
            now -= 3 * WEEK

    def _latest(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Start and end of recent windows, latest first; the first may still be in the future."""
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        latest = today - timedelta(days=(today.weekday() - self.weekday) % 7)
        for weeks in range(3):
            start = datetime.combine(latest - weeks * WEEK, self.at, zone).astimezone(UTC)
            yield start, start + self.lasts


Maintenance = Once | Weekly


def until(maintenances: Iterable[Maintenance], now: datetime) -> datetime | None:
    """When the last of the current maintenances ends; None without one."""
    return max((end for one in maintenances if (end := one.until(now))), default=None)


def ended(maintenances: Iterable[Maintenance], now: datetime) -> datetime | None:
    """When the last maintenance ended; None if none has."""
    return max((end for one in maintenances if (end := one.ended(now))), default=None)
