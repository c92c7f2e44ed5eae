"""Maintenance: times in which nobody is told of anything, once or every week."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Once:
    """From one moment to another, the last not included."""

    start: datetime
    end: datetime

    def until(self, now: datetime) -> datetime | None:
        """When the maintenance ends that holds at `now`; None where none does."""
        return self.end if self.start <= now < self.end else None

    def ended(self, now: datetime) -> datetime | None:
        """When it ended, once it has."""
        return self.end if self.end <= now else None

    def windows(self, _since: datetime, _end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Its beginnings and ends between two moments, at least."""
        yield self.start, self.end


@dataclass(frozen=True, slots=True)
class Weekly:
    """From a time of a weekday on, as the clocks of a zone show it, for as long as given."""

    weekday: int
    """0 is Monday."""
    at: time
    lasts: timedelta
    """At most a week."""
    zone: str = "UTC"
    """Of the IANA database, e.g. Europe/Berlin."""

    def until(self, now: datetime) -> datetime | None:
        """When the maintenance ends that holds at `now`; None where none does.

        Where clocks are put ahead past its time, it begins when they would have shown it.
        """
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
        """Beginning and end of the last ones, the latest first; it may be yet to come today."""
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        latest = today - timedelta(days=(today.weekday() - self.weekday) % 7)
        for weeks in range(3):
            start = datetime.combine(latest - weeks * WEEK, self.at, zone).astimezone(UTC)
            yield start, start + self.lasts


Maintenance = Once | Weekly


def until(maintenances: Iterable[Maintenance], now: datetime) -> datetime | None:
    """When the last of the maintenances ends that hold at `now`; None where none does."""
    return max((end for one in maintenances if (end := one.until(now))), default=None)


def ended(maintenances: Iterable[Maintenance], now: datetime) -> datetime | None:
    """When the last of the maintenances ended that have; None where none has."""
    return max((end for one in maintenances if (end := one.ended(now))), default=None)
