"""What the store remembers of one connection, beside the Snapshot: days, exchanges, events."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from monitor.core.history import Event
from monitor.store import DayCounts, PastExchange, Store, StoreError
from monitor.web.drawing import STRIP_DAYS

EVENTS_SHOWN = 50
"""Events on a page: weeks of a connection that flaps, years of one that does not."""


@dataclass(frozen=True, slots=True)
class Record:
    """All None where the store can't be read, so that nobody takes that for "nothing happened"."""

    days: list[DayCounts] | None = None
    exchanges: list[PastExchange] | None = None
    """The newest first."""
    events: list[Event] | None = None
    """The newest first."""
    problem: str | None = None
    """Why it can't be read, for the operator."""


def read_record(store: Store, name: str, now: datetime) -> Record:
    """What is remembered of a connection. Waits for the disk."""
    try:
        return Record(
            store.days([name], first_day(now)).get(name, []),
            store.exchanges(name),
            [event for _, event in store.events(name, EVENTS_SHOWN)],
        )
    except StoreError as error:
        return Record(problem=str(error))


def first_day(now: datetime) -> date:
    """The first day of a strip that ends today."""
    return now.date() - timedelta(days=STRIP_DAYS - 1)
