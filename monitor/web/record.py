"""A connection's past, from the store: days, exchanges, events, availability."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.core.availability import Availability, availability, known_since
from monitor.core.history import Event
from monitor.core.maintenance import Maintenance
from monitor.core.status import ConnectionStatus
from monitor.store import EVENTS_KEPT, DayCounts, PastExchange, Store, StoreError
from monitor.web.drawing import first_day

EVENTS_SHOWN = 50
"""Events on a connection's page: weeks if it flaps, otherwise years."""

FLEET_EVENTS = 200
"""Events of all connections: a night with a few changes."""

AVAILABILITY_DAYS = (7, 30, 90)
"""Periods of availability in days; success events are kept for 90."""


@dataclass(frozen=True, slots=True)
class Record:
    """A connection's past."""

    days: list[DayCounts]
    """Those of a strip, oldest first."""
    exchanges: list[PastExchange]
    """Newest first."""
    events: list[Event]
    """Newest first."""
    availability: Mapping[int, Availability]
    """By period in days."""


def read_record(
    store: Store, status: ConnectionStatus, now: datetime, maintenance: tuple[Maintenance, ...] = ()
) -> tuple[Record | None, str | None]:
    """Read a connection's past; None, and why, if the store can't be read. `maintenance` is the global one.

    Availability ends at the last check, so that it does not change by the passing of time alone.
    """
    name, last = status.name, status.history.last_exchange
    end = last.at if last else now
    try:
        days = store.days([name], (now - timedelta(max(AVAILABILITY_DAYS))).date()).get(name, [])
        events = all_events(store, name)
        record = Record(
            [day for day in days if day.day >= first_day(now.date())],
            store.exchanges(name),
            events[:EVENTS_SHOWN],
            {
                span: availability_of(status, events, days, end - timedelta(span), end, maintenance)
                for span in AVAILABILITY_DAYS
            },
        )
    except StoreError as error:
        return None, str(error)
    return record, None


def all_events(store: Store, name: str) -> list[Event]:
    """All stored events of a connection, newest first. Raises StoreError."""
    return [event for _, event in store.events(name, sum(EVENTS_KEPT.values()))]


def availability_of(
    status: ConnectionStatus,
    events: Sequence[Event],
    days: Sequence[DayCounts],
    since: datetime,
    end: datetime,
    maintenance: tuple[Maintenance, ...],
) -> Availability:
    """A connection's availability in a period, as far as known."""
    return availability(
        events,
        status.history.state,
        max(since, known_since(events, EVENTS_KEPT, status.history.first_seen)),
        end,
        maintenance=maintenance + status.connection.maintenance,
        days={day.day for day in days if day.granted or day.refused},
    )


def read_events(store: Store) -> tuple[list[tuple[str, Event]] | None, str | None]:
    """The latest events of all connections, newest first; None, and why, if the store can't be read."""
    try:
        return sorted(store.events(None, FLEET_EVENTS), key=lambda each: each[1].at, reverse=True), None
    except StoreError as error:
        return None, str(error)
