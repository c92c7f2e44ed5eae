"""The Store: queues changes at once, writes them shortly after, and retries failed writes.

The event loop only queues (`save`): it never waits for the disk and gets no exceptions from it. If the disk
is full, read-only or gone, `problem` says so, `errors` counts it, and unwritten changes stay in memory,
bounded, until it works again. A database that was deleted or replaced meanwhile gets all histories again.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Self

import structlog
from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import DBAPIError

from monitor.core.causes import Cause
from monitor.core.history import Event, EventKind, History
from monitor.core.telling import Told
from monitor.store.damage import CheckUps, salvaged
from monitor.store.database import DAYS_KEPT, Database, told_in
from monitor.store.place import Place, place_of
from monitor.store.problem import DamagedError, StoreError
from monitor.store.schema import CAUSES, CONNECTIONS, DAYS, EVENTS, EXCHANGES, UPGRADES, Upgrades
from monitor.store.sqlite import SqliteFile
from monitor.store.waiting import (
    VERDICTS,
    Lease,
    PastExchange,
    Waiting,
    date_of,
    day_number,
    from_milliseconds,
)

log = structlog.get_logger(__name__)

BATCH = 500
"""Connections per transaction: enough to make the cost of the commit negligible."""

WRITE_AFTER_SECONDS = 0.5
"""How long a change may wait to share a commit. A kill loses at most a second: this, and a commit."""

BUSY_SECONDS = 5.0
"""How long to wait for another program's lock on the file, for example a backup's."""

RETRY_SECONDS = (1.0, 30.0)
"""First and longest pause before a failed write is retried; it doubles in between. Short enough to notice
within half a minute that a full disk has room again, long enough not to flood the system log."""

NAMES_AT_ONCE = 1000
"""Names per query: SQLite takes at most 32,766 values (sqlite.org/limits.html, point 9)."""

HANGS_SECONDS = 10.0
"""A disk without an answer for this long is reported as hanging. A busy one takes a second or two."""

OWN_FAULT = "An internal error keeps the monitor from writing its database: see the log."


@dataclass(frozen=True, slots=True)
class DayCounts:
    """The outcomes of one connection's exchanges on one UTC day."""

    day: date
    granted: int
    refused: int
    no_verdict: int


class Store:
    """Everything the monitor remembers. Created by `Store.open`.

    Call `save`, `histories`, `tell`, `told`, `errors`, `problem` and `unreadable` on the event loop, the
    other methods on a thread: they wait for the disk.
    """

    def __init__(
        self,
        place: Place,
        upgrades: Upgrades,
        retry_seconds: tuple[float, float],
        *,
        alone: bool,
    ) -> None:
        self.place = place
        """Where the database is."""
        self._check_ups = CheckUps(place) if alone and isinstance(place, SqliteFile) else None
        self.damage: str | None = None
        """What was done about a damaged file, as a sentence for the operator; None if there was none."""
        with place.in_words():
            self._release: Callable[[], None] | None = place.claim() if alone else None
        self._upgrades = upgrades
        self._retry_seconds = retry_seconds
        self._for_writing = place.engine(writes=True)
        self._for_reading = place.engine(writes=False)
        self._database: Database | None = None
        self._seen: tuple[object | None, str] = (None, "")
        self._asked = 0
        try:
            self._read_all()
        except DamagedError as error:
            moved = self._check_ups.moved_away() if self._check_ups and self._check_ups.used else None
            if moved is None:
                raise
            known = salvaged(moved)
            self._read_all()
            self._known, self._seen, self._asked = known, (None, ""), 1  # so that all is written
            self._say_damaged(str(error), moved)
        for name, reason in self.unreadable.items():
            log.warning("history_unreadable", connection=name, reason=reason)
        self._changed = threading.Condition()
        self._waiting: dict[str, Waiting] = {}
        self._unwritten_told: dict[tuple[str, str], Told | None] = {}
        self._answered = 0
        self._closing = False
        self._problem: str | None = None
        self._unwritten_since: float | None = None
        """When the oldest unwritten change was queued, by the monotonic clock."""
        self._tidied = 0
        self._rehearsal_wanted = False
        """Whether a rehearsal was requested."""
        self._writer = threading.Thread(target=self._write_until_closed, name="store", daemon=True)
        self._writer.start()

    def _read_all(self) -> None:
        self._database = database = Database.open(self._for_writing, self.place, self._upgrades)
        try:
            with self.place.in_words():
                self._known, self.unreadable = database.read_histories()
                with self.place.writing(database.connection):
                    self._told = told_in(database.connection)
        finally:
            self._seen = database.identity
            self._close_database()  # the writer opens its own

    @classmethod
    def open(
        cls,
        url_or_path: str | Path,
        *,
        upgrades: Upgrades | None = None,
        busy_seconds: float = BUSY_SECONDS,
        retry_seconds: tuple[float, float] = RETRY_SECONDS,
        alone: bool = False,
    ) -> Self:
        """Open a database, creating or upgrading it as needed, and read all histories.

        `alone`: claim the database as the only daemon that writes to it, until it is closed.

        Raises StoreError if it can't be used: missing directory, not writable, locked, damaged, not a
        database, used by another program or daemon, written by a newer version, or of an unsupported kind.
        """
        place = place_of(url_or_path, busy_seconds)
        return cls(place, upgrades or UPGRADES[place.dialect.name], retry_seconds, alone=alone)

    damages = 0
    """Damaged files moved away since the start."""
    errors = 0
    """Failed writes since the start."""
    unreadable: Mapping[str, str]
    """Connections whose history could not be read at the start, and why. The text is kept, set aside."""

    @property
    def problem(self) -> str | None:
        """Why changes are not being written, as a sentence for the operator; None if they are."""
        if self._problem is None and (seconds := self.unwritten_seconds) > HANGS_SECONDS:
            return (
                f"The database {self.place} has not responded for {seconds:.0f} seconds: its disk may be"
                " hanging."
            )
        return self._problem

    @property
    def unwritten_seconds(self) -> float:
        """How long the oldest unwritten change has waited."""
        since = self._unwritten_since
        return 0.0 if since is None else time.monotonic() - since

    def histories(self) -> dict[str, History]:
        """All histories by connection, including those that are no longer configured."""
        with self._changed:
            return dict(self._known)

    def save(
        self, name: str, history: History, events: tuple[Event, ...] = (), lease: Lease | None = None
    ) -> None:
        """Queue a history and its new events for writing. Returns at once.

        The history's last exchange is counted unless the previous save had the same one. A replica passes its
        lease: if that has ended by the time of writing, nothing is written.
        """
        with self._changed:
            self._unwritten_since = self._unwritten_since or time.monotonic()
            before = self._known.get(name)
            self._known[name] = history
            waiting = self._waiting.get(name)
            if waiting is None:
                waiting = self._waiting[name] = Waiting(history)
                if len(self._waiting) in {1, BATCH}:  # the only times the writer must wake up
                    self._changed.notify_all()
            elif waiting.lease:
                waiting.lease.end(written=False)
            waiting.history, waiting.lease, waiting.restored = history, lease, False
            exchange, past = history.last_exchange, before.last_exchange if before else None
            if exchange is not None and (past is None or exchange.at != past.at):
                waiting.count(history, exchange)
            if events:
                waiting.add_events(events)

    def told(self, sink: str) -> dict[str, Told]:
        """What a sink was last told, by alert group."""
        with self._changed:
            return dict(self._told.get(sink, {}))

    def tell(self, sink: str, changes: Mapping[str, Told | None]) -> None:
        """Queue what a sink was told about these groups; None removes the group. Returns at once."""
        with self._changed:
            known = self._told.setdefault(sink, {})
            for alert, told in changes.items():
                if told is None:
                    known.pop(alert, None)
                else:
                    known[alert] = told
                self._unwritten_told[sink, alert] = told
            self._changed.notify_all()

    def reread_told(self) -> None:
        """Reread what sinks were told: another replica may have told them. Raises StoreError."""
        with self._reading() as connection:
            told = told_in(connection)
        with self._changed:
            self._told = told

    def take_over(self, name: str, history: History) -> None:
        """Take over a history that another replica has written."""
        with self._changed:
            self._known[name] = history

    def refused(self) -> str | None:
        """Why nothing can be written now. None: all that waited is written, and a rehearsal succeeded."""
        self._rehearsal_wanted = True
        # Twice: a result that can never be written is dropped by the first flush.
        if self.flush() or self.flush():
            return None
        return self._problem or f"The database {self.place} takes too long to write to."

    def give_up(self) -> None:
        """End the leases of all that waits: replicas that can write check those connections again."""
        with self._changed:
            for waiting in self._waiting.values():
                if waiting.lease:
                    waiting.lease.end(written=False)

    def flush(self, timeout: float = 10.0) -> bool:
        """Write what waits, now. True if all of it is on disk; gives up after `timeout` seconds.

        A failing disk is tried once, without waiting for the next retry.
        """
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._answered >= asked, timeout) and self._problem is None

    def close(self, timeout: float = 10.0) -> bool:
        """Write what waits, and stop. True if all of it is on disk. Later saves are never written."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join(timeout)
        if self._release and not self._writer.is_alive():
            self._release()
            self._release = None
        return not self._writer.is_alive() and self._problem is None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self.place.reading(self._for_reading) as connection:
                yield connection
        except StoreError as error:
            self._suspect(error)
            raise

    def events(self, name: str | None, limit: int) -> list[tuple[str, Event]]:
        """The newest events of one connection, or of all if `name` is None, with the connection's name.

        Newest first. Raises StoreError.
        """
        rows = (
            select(CONNECTIONS.c.name, EVENTS, CAUSES.c.code)
            .join_from(EVENTS, CONNECTIONS)
            .outerjoin(CAUSES)
            .where(EVENTS.c.kind.in_(list(EventKind)))  # skips kinds that only a newer version knows
            .order_by(EVENTS.c.id.desc())
            .limit(limit)
        )
        if name is not None:
            rows = rows.where(CONNECTIONS.c.name == name)
        with self._reading() as connection:
            return [(row.name, _event(row)) for row in connection.execute(rows)]

    def exchanges(self, name: str) -> list[PastExchange]:
        """The last exchanges of a connection, newest first. Raises StoreError."""
        rows = (
            select(EXCHANGES, CAUSES.c.code)
            .join_from(EXCHANGES, CONNECTIONS)
            .outerjoin(CAUSES)
            .where(CONNECTIONS.c.name == name)
            .order_by(EXCHANGES.c.at_ms.desc())
        )
        with self._reading() as connection:
            return [
                PastExchange(
                    from_milliseconds(row.at_ms),
                    VERDICTS[row.verdict],
                    _cause(row.code),
                    row.status,
                    None if row.duration_ms is None else row.duration_ms / 1000,
                )
                for row in connection.execute(rows)
            ]

    def days(
        self, names: Sequence[str], since: date, count: int = DAYS_KEPT + 1
    ) -> dict[str, list[DayCounts]]:
        """Daily counts by connection for `count` days from `since` on, oldest first.

        Days without exchanges and connections without days are left out. Raises StoreError.
        """
        found: dict[str, list[DayCounts]] = {}
        with self._reading() as connection:
            # A list of days, not a range: the key is (day, connection), and a range would scan all
            # connections.
            days = [day_number(since) + number for number in range(count)]
            for start in range(0, len(names), NAMES_AT_ONCE):
                rows = (
                    select(CONNECTIONS.c.name, DAYS)
                    .join_from(DAYS, CONNECTIONS)
                    .where(DAYS.c.day.in_(days), CONNECTIONS.c.name.in_(names[start : start + NAMES_AT_ONCE]))
                    .order_by(DAYS.c.day)
                )
                for row in connection.execute(rows):
                    counts = DayCounts(date_of(row.day), row.granted, row.refused, row.no_verdict)
                    found.setdefault(row.name, []).append(counts)
        return found

    def _write_until_closed(self) -> None:
        """The writer thread's loop. Only this thread uses `_database`, `_seen` and `_tidied`."""
        pause = 0.0
        closing = False
        while not closing:
            asked, closing = self._wait(pause)
            try:
                problem = self._write_all()
            except StoreError as error:
                problem = str(error)
                self._suspect(error)
            except Exception:  # this thread must survive our own bugs
                log.exception("store_failed")
                problem = OWN_FAULT
            if problem or closing:
                self._close_database()
            first, longest = self._retry_seconds
            pause = min(pause * 2 or first, longest) if problem else 0.0
            self._report(problem, asked)

    def _wait(self, pause: float) -> tuple[int, bool]:
        """Sleep until there is a reason to write: a full batch, an old change, or a request."""

        def urgent() -> bool:
            return self._closing or self._asked > self._answered

        with self._changed:
            if pause:
                self._changed.wait_for(urgent, pause)
            else:
                self._changed.wait_for(lambda: bool(self._waiting or self._unwritten_told) or urgent())
                self._changed.wait_for(lambda: len(self._waiting) >= BATCH or urgent(), WRITE_AFTER_SECONDS)
            return self._asked, self._closing

    def _write_all(self) -> str | None:
        """Write all that waits. Gives our own bug as text, if any; raises StoreError for outside faults."""
        size, newest, fault = BATCH, 0, None
        self._check_up()
        while True:
            if self._rehearsal_wanted:
                self._close_database()  # the database may have been replaced or upgraded
            database = self._open()
            if self._rehearsal_wanted:
                self._rehearse(database)
            self._write_told(database)
            batch = self._take(size)
            if not batch:
                break
            try:
                with self.place.in_words():
                    database.write(batch)
            except StoreError:
                self._give_back(batch)
                raise
            except Exception:  # one bad connection must not stop the others
                log.exception("history_not_written", connections=list(batch)[:5], count=len(batch))
                self._close_database()
                fault = OWN_FAULT
                if size > 1:  # retry one by one; the one that fails is dropped
                    self._give_back(batch)
                    size = 1
                else:
                    for waiting in batch.values():
                        if waiting.lease:
                            waiting.lease.end(written=None)
            else:
                newest = max(newest, *(waiting.today for waiting in batch.values()))
        if newest > self._tidied:
            with self.place.in_words():
                while database.tidy(newest) and not self._closing:
                    pass
            self._tidied = newest
        return fault

    def _suspect(self, error: StoreError) -> None:
        """Request a full check if the error is damage: readers may meet it before the writer."""
        if self._check_ups and isinstance(error, DamagedError):
            self._check_ups.soon()

    def _check_up(self) -> None:
        """If the file is damaged, write everything known to a new one."""
        found = self._check_ups.damage() if self._check_ups else None
        if self._check_ups is None or found is None:
            return
        self._close_database()
        moved = self._check_ups.moved_away()
        if moved is None:
            raise DamagedError(found)
        self._say_damaged(found, moved)

    def _say_damaged(self, found: str, moved: Path) -> None:
        self.damages += 1
        self.damage = (
            f"The database {self.place} was damaged. It was moved to {moved.name}, and a new one was created"
            f" with {len(self._known):,} histories. Past events and counts are only in the old one."
        )
        log.error("store_damaged", problem=found, moved_to=str(moved), histories=len(self._known))

    def _rehearse(self, database: Database) -> None:
        try:
            with self.place.in_words():
                database.rehearse()
        except DBAPIError as error:
            why = str(error.orig).splitlines()[0]
            raise StoreError(f"The database {self.place} accepts no results: {why}.") from error
        self._rehearsal_wanted = False

    def _write_told(self, database: Database) -> None:
        with self._changed:
            changes, self._unwritten_told = self._unwritten_told, {}
        if not changes:
            return
        try:
            with self.place.in_words():
                database.write_told(changes)
        except StoreError:
            with self._changed:
                self._unwritten_told = changes | self._unwritten_told
            raise

    def _open(self) -> Database:
        """The database at the place: the open one, or its replacement."""
        if self._database is not None and not self._database.is_still_there():
            self._close_database()
        if self._database is None:
            self._database = Database.open(self._for_writing, self.place, self._upgrades)
            if self._database.identity != self._seen:
                self._seen = self._database.identity
                log.warning("store_replaced", path=str(self.place), histories=len(self._known))
                with self._changed:
                    shared = self.place.shared
                    for name, history in self._known.items():
                        self._waiting.setdefault(name, Waiting(history, restored=shared))
                    # Only the replica that notifies knows what was told last.
                    for sink, known in {} if shared else self._told.items():
                        for alert, told in known.items():
                            self._unwritten_told.setdefault((sink, alert), told)
        return self._database

    def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _take(self, size: int) -> dict[str, Waiting]:
        with self._changed:
            if not self._waiting:
                self._unwritten_since = None
            return {name: self._waiting.pop(name) for name in list(islice(self._waiting, size))}

    def _give_back(self, batch: Mapping[str, Waiting]) -> None:
        with self._changed:
            for name, older in batch.items():
                newer = self._waiting.get(name)
                self._waiting[name] = older.followed_by(newer) if newer else older

    def _report(self, problem: str | None, asked: int) -> None:
        with self._changed:
            before, self._problem = self._problem, problem
            self.errors += problem is not None
            self._answered = asked
            self._changed.notify_all()
        if problem and problem != before:
            log.error("store_failing", problem=problem)
        elif before and not problem:
            log.info("store_recovered")


_CODES = frozenset(Cause)


def _event(row: Row[Any]) -> Event:
    kind, at = EventKind(row.kind), from_milliseconds(row.at_ms)
    return Event(at, kind, row.text, _cause(row.code), row.failure)


def _cause(code: str | None) -> Cause | None:
    """The cause of a code; None if there is no code or only a newer version knows it."""
    return Cause(code) if code is not None and code in _CODES else None
