"""What the store remembers of one connection, beside the Snapshot: days, exchanges, events, availability."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from monitor.core.availability import Availability, availability, known_since
from monitor.core.history import Event
from monitor.core.maintenance import Maintenance
from monitor.core.status import ConnectionStatus
from monitor.store import EVENTS_KEPT, DayCounts, PastExchange, Store, StoreError
from monitor.web.drawing import STRIP_DAYS

EVENTS_SHOWN = 50
"""Events on a page: weeks of a connection that flaps, years of one that does not."""

AVAILABILITY_DAYS = (7, 30, 90)
"""Days over which a page tells how available a connection was: successes are remembered for 90."""


@dataclass(frozen=True, slots=True)
class Record:
    """All None where the store can't be read, so that nobody takes that for "nothing happened"."""

    days: list[DayCounts] | None = None
    """Of the last STRIP_DAYS, the oldest first."""
    exchanges: list[PastExchange] | None = None
    """The newest first."""
    events: list[Event] | None = None
    """The newest first."""
    availability: Mapping[int, Availability] = field(default_factory=dict)
    """By over how many days."""
    problem: str | None = None
    """Why it can't be read, for the operator."""


def read_record(
    store: Store, status: ConnectionStatus, now: datetime, maintenance: tuple[Maintenance, ...] = ()
) -> Record:
    """What is remembered of a connection; `maintenance` is that of all. Waits for the disk.

    Availability is told up to the last check, so that nothing changes while only time passes.
    """
    name, last = status.name, status.history.last_exchange
    end = last.at if last else now
    try:
        days = store.days([name], (now - timedelta(max(AVAILABILITY_DAYS))).date()).get(name, [])
        events = all_events(store, name)
        return Record(
            [day for day in days if day.day >= first_day(now)],
            store.exchanges(name),
            events[:EVENTS_SHOWN],
            {
                span: lived(status, events, days, end - timedelta(span), end, maintenance)
                for span in AVAILABILITY_DAYS
            },
        )
    except StoreError as error:
        return Record(problem=str(error))


def all_events(store: Store, name: str) -> list[Event]:
    """Every event of a connection that is kept, the newest first. Raises StoreError."""
    return [event for _, event in store.events(name, sum(EVENTS_KEPT.values()))]


def lived(
    status: ConnectionStatus,
    events: Sequence[Event],
    days: Sequence[DayCounts],
    since: datetime,
    end: datetime,
    maintenance: tuple[Maintenance, ...],
) -> Availability:
    """How available a connection was between two moments, as far as that is remembered."""
    return availability(
        events,
        status.history.state,
        max(since, known_since(events, EVENTS_KEPT, status.history.first_seen)),
        end,
        maintenance=maintenance + status.connection.maintenance,
        days={day.day for day in days if day.granted or day.refused},
    )


def first_day(now: datetime) -> date:
    """The first day of a strip that ends today."""
    return now.date() - timedelta(days=STRIP_DAYS - 1)
