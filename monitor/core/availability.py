"""A connection's availability, from the state changes in its events.

A state lasts from the check that found it to the check that found another. Healthy and degraded are up,
failing is down. Unknown, settling, maintenance, and days without a verdict are not counted.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

from monitor.core.finding import State
from monitor.core.history import Event, state_change
from monitor.core.maintenance import Maintenance, until

UP = frozenset({State.HEALTHY, State.DEGRADED})

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Availability:
    """Time up and down in a period."""

    up: timedelta = timedelta(0)
    down: timedelta = timedelta(0)
    outages: int = 0
    longest: timedelta = timedelta(0)

    @property
    def share(self) -> float | None:
        """The share of counted time that was up, from 0 to 1; None if nothing was counted."""
        counted = self.up + self.down
        return self.up / counted if counted else None


def availability(
    events: Iterable[Event],
    state: State,
    since: datetime,
    end: datetime,
    *,
    maintenance: Sequence[Maintenance] = (),
    days: Collection[date],
) -> Availability:
    """The availability from `since` to `end`, counted on `days`; `state`: if no event gives one."""
    changes = sorted((event.at, *change) for event in events if (change := state_change(event)))
    edges = _edges((at for at, _, _ in changes), maintenance, since, end)
    up = down = longest = outage = timedelta(0)
    outages = place = 0
    state = changes[0][1] if changes else state
    for start, stop in pairwise(edges):
        while place < len(changes) and changes[place][0] <= start:
            state = changes[place][2]
            place += 1
        if state is not State.FAILING:
            outage = timedelta(0)
        counted = start.date() in days and not until(maintenance, start)
        if counted and state in UP:
            up += stop - start
        elif counted and state is State.FAILING:
            outages += not outage
            outage += stop - start
            down += stop - start
            longest = max(longest, outage)
    return Availability(up, down, outages, longest)


def _edges(
    changes: Iterable[datetime], maintenance: Sequence[Maintenance], since: datetime, end: datetime
) -> list[datetime]:
    """The times at which state, maintenance or day changes."""
    windows = [edge for one in maintenance for window in one.windows(since, end) for edge in window]
    midnights = [
        datetime.combine(since.date() + number * _DAY, time(), UTC)
        for number in range((end.date() - since.date()).days + 1)
    ]
    inner = {at for at in (*changes, *windows, *midnights) if since < at < end}
    return sorted({since, end, *inner}) if since < end else []


def known_since(events: Sequence[Event], kept: Mapping[bool, int], first_seen: datetime) -> datetime:
    """Since when all state changes are known: the number of kept events is limited, by failure or not."""
    since = first_seen
    for failure, most in kept.items():
        of_sort = [event.at for event in events if event.failure is failure]
        if len(of_sort) >= most:
            since = max(since, min(of_sort))
    return since
