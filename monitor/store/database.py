"""A database opened by one thread: created or upgraded, read, written in batches (SQLAlchemy Core)."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

from pydantic import ValidationError
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    bindparam,
    delete,
    false,
    func,
    insert,
    inspect,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from monitor.core.cadence import EPOCH
from monitor.core.causes import Cause
from monitor.core.history import Event, EventKind, History
from monitor.core.inside import Facts
from monitor.core.telling import Told
from monitor.store import records
from monitor.store.place import Place
from monitor.store.problem import StoreError
from monitor.store.schema import (
    AUDITS,
    CAUSES,
    CONNECTIONS,
    DAYS,
    EVENTS,
    EXCHANGES,
    HISTORIES,
    META,
    SCHEMA,
    TOLD,
    UNREADABLE,
    Upgrades,
    add_due,
)
from monitor.store.waiting import EVENTS_KEPT, MS_A_DAY, Lease, PastExchange, Verdict, Waiting, milliseconds

DAYS_KEPT = 400
"""Days for which counts and failure events are kept: enough to compare with the same month last year."""

SUCCESS_DAYS = 90
EVENT_DAYS = {True: DAYS_KEPT, False: SUCCESS_DAYS}
"""Days for which events are kept, by whether they are failures. Successes are many and say little."""

EVENTS_SLICE = 1000
"""Old events deleted per transaction: takes a few milliseconds, so other writers are not held up."""

_Row = tuple[int | str | None, ...]


@cache
def _upsert(dialect: Dialect, table: Table, *summed: str, over: bool = True) -> str:
    """Insert a row. If its key exists, overwrite it (`over`) or add to the columns `summed`.

    SQL text with one value per column, in the table's order: these statements run for every exchange, and
    SQLAlchemy's handling of dictionaries costs as much as SQLite itself.
    """
    statement = postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)
    if not over:
        return str(statement.on_conflict_do_nothing().compile(dialect=dialect))
    keys = [column.name for column in table.primary_key]
    values: dict[str, ColumnElement[Any]] = {
        name: table.c[name] + value if name in summed else value
        for name, value in statement.excluded.items()
        if name not in keys
    }
    return str(statement.on_conflict_do_update(index_elements=keys, set_=values).compile(dialect=dialect))


_WRITE_EVENT = insert(EVENTS)
_OF_ONE_KIND = (EVENTS.c.connection_id == bindparam("connection"), EVENTS.c.failure == bindparam("failing"))
_NEWEST_OF_THE_REST = (
    select(EVENTS.c.id).where(*_OF_ONE_KIND).order_by(EVENTS.c.id.desc()).limit(1).offset(bindparam("kept"))
)
_TRIM_EVENTS = delete(EVENTS).where(*_OF_ONE_KIND, EVENTS.c.id <= _NEWEST_OF_THE_REST.scalar_subquery())
"""Deletes all but the newest events of one connection and kind (failure or success)."""


def _history_rows(connection_id: int, waiting: Waiting) -> Iterator[_Row]:
    yield connection_id, records.written(waiting.history)


def _day_rows(connection_id: int, waiting: Waiting) -> Iterator[_Row]:
    for day, (granted, refused, no_verdict) in waiting.days.items():
        yield day, connection_id, granted, refused, no_verdict


_NO_NAME = ""
"""A name that no connection has."""


class _Rehearsed(Exception):  # noqa: N818 # not an error: it rolls the rehearsal back
    pass


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Use it from one thread only."""

    place: Place
    connection: Connection
    stamp: object | None
    """Identifies the file or server at opening time. None if the file disappeared at once."""
    mark: str
    """Random identifier stored in the database. The stamp is not enough: inodes are reused."""
    connection_ids: dict[str, int]
    cause_ids: dict[str, int]
    audits: dict[int, Facts] = field(default_factory=dict)
    """The audits written since the database was opened."""

    @classmethod
    def open(cls, engine: Engine, place: Place, upgrades: Upgrades) -> Self:
        """Open a database, creating or upgrading it as needed. Raises StoreError."""
        with place.in_words():
            connection = engine.connect()
            try:
                with place.alone(connection):
                    mark = _made_or_upgraded(connection, place, upgrades)
                    connection_ids = _ids(connection, select(CONNECTIONS))
                    cause_ids = _ids_of(connection, CAUSES, list(Cause))
                place.settle(connection)
                return cls(place, connection, place.stamp(), mark, connection_ids, cause_ids)
            except BaseException:
                connection.close()
                raise

    @property
    def identity(self) -> tuple[object | None, str]:
        """Distinguishes this database from every other, including copies of it."""
        return self.stamp, self.mark

    def is_still_there(self) -> bool:
        """Whether the place still holds the database that is open here."""
        return self.stamp is not None and self.place.stamp() == self.stamp

    def close(self) -> None:
        """Close the connection and its engine."""
        self.connection.close()

    def read_histories(self) -> tuple[dict[str, History], dict[str, str]]:
        """All histories by name, and by name why the others can't be read.

        In a file, unreadable ones move to the table `unreadable`. In a shared database they stay, for
        replicas whose version can read them.
        """
        histories: dict[str, History] = {}
        unreadable: dict[str, str] = {}
        bodies = self.place.raw(HISTORIES.c.body), self.place.raw(AUDITS.c.body)
        rows = select(CONNECTIONS.c.id, CONNECTIONS.c.name, *bodies).join_from(HISTORIES, CONNECTIONS)
        rows = rows.outerjoin(AUDITS, AUDITS.c.connection_id == CONNECTIONS.c.id)
        with self.place.writing(self.connection):
            found = self.connection.execute(rows).all()
        damaged: dict[int, str] = {}
        for row_id, name, history, audit in found:  # outside the transaction: other writers need not wait
            try:
                histories[name] = records.read(history, audit)
            except ValidationError as error:
                damaged[row_id] = unreadable[name] = records.why(error)
        if damaged and not self.place.shared:
            with self.place.writing(self.connection):
                for row_id, reason in damaged.items():
                    self._set_aside(row_id, reason)
        return histories, unreadable

    def _set_aside(self, connection_id: int, reason: str) -> None:
        for table in HISTORIES, AUDITS:
            this = table.c.connection_id == connection_id
            copied = select(table.c.connection_id, literal(reason), table.c.body).where(this)
            self.connection.execute(
                insert(UNREADABLE).from_select(["connection_id", "reason", "body"], copied)
            )
            self.connection.execute(delete(table).where(this))

    def write_told(self, changes: Mapping[tuple[str, str], Told | None]) -> None:
        """Write what sinks were told, by sink and group. None deletes the row."""
        rows = [(*key, records.written_told(told)) for key, told in changes.items() if told]
        with self.place.writing(self.connection):
            self._write_told(rows, [key for key, told in changes.items() if told is None])

    def _write_told(self, rows: Sequence[_Row], forgotten: Sequence[tuple[str, str]]) -> None:
        if rows:
            self.connection.exec_driver_sql(_upsert(self.place.dialect, TOLD), rows)
        for sink, alert in forgotten:
            self.connection.execute(delete(TOLD).where(TOLD.c.sink == sink, TOLD.c.alert == alert))

    def write(self, batch: Mapping[str, Waiting]) -> None:
        """Write a batch in one transaction. After an error close it: the cached ids may be wrong."""
        with self.place.writing(self.connection):
            if new := [name for name in batch if name not in self.connection_ids]:
                self.connection_ids.update(_ids_of(self.connection, CONNECTIONS, new))
            items = [(self.connection_ids[name], waiting) for name, waiting in batch.items()]
            ours = self._settled({number: waiting.lease for number, waiting in items if waiting.lease})
            written = [item for item in items if item[1].lease is None or item[0] in ours]
            self._write_rows(written)
        for number, waiting in written:
            if waiting.history.audit and not waiting.restored:
                self.audits[number] = waiting.history.audit
        for number, waiting in items:
            if waiting.lease:
                waiting.lease.end(written=number in ours)

    def rehearse(self) -> None:
        """Write what a check and a notification would write, then roll back. Raises what a write would."""
        exchange, day = {0: PastExchange(EPOCH, Verdict.GRANTED, None, None, None)}, {0: [0, 0, 0]}
        with suppress(_Rehearsed), self.place.writing(self.connection):
            [number] = _ids_of(self.connection, CONNECTIONS, [_NO_NAME]).values()
            for _ in range(2):  # the second updates what the first inserted
                self._settled({number: Lease(-1, -1, 0.0, "")})
                history = History(EPOCH, EPOCH, audit=Facts(EPOCH))
                self._write_rows([(number, Waiting(history, exchange, day))])
                self._write_events([(number, Event(EPOCH, EventKind.STATE, ""))])
                self._write_told([("", "", "")], [("", "")])
            raise _Rehearsed

    def _settled(self, leases: dict[int, Lease]) -> set[int]:
        """Write the next due times. Gives the connections that no other replica has taken over meanwhile."""
        if not leases:
            return set()
        from monitor.store.due import settled  # its library is an extra

        return settled(self.connection, leases)

    def _write_rows(self, items: Sequence[tuple[int, Waiting]]) -> None:
        dialect = self.place.dialect
        restored = [item for item in items if item[1].restored]
        ours = [item for item in items if not item[1].restored]
        for upsert, those, rows_of in (
            (_upsert(dialect, HISTORIES), ours, _history_rows),
            (_upsert(dialect, HISTORIES, over=False), restored, _history_rows),
            (_upsert(dialect, AUDITS), ours, self._audit_rows),
            (_upsert(dialect, AUDITS, over=False), restored, self._audit_rows),
            (_upsert(dialect, EXCHANGES), items, self._exchange_rows),
            (_upsert(dialect, DAYS, "granted", "refused", "no_verdict"), items, _day_rows),
        ):
            if rows := [row for number, waiting in those for row in rows_of(number, waiting)]:
                self.connection.exec_driver_sql(upsert, rows)
        self._write_events([(number, event) for number, waiting in items for event in waiting.events])

    def _audit_rows(self, connection_id: int, waiting: Waiting) -> Iterator[_Row]:
        audit = waiting.history.audit
        if audit and audit != self.audits.get(connection_id):
            yield connection_id, records.written_audit(audit)

    def _exchange_rows(self, connection_id: int, waiting: Waiting) -> Iterator[_Row]:
        for slot, past in waiting.exchanges.items():
            cause_id = self.cause_ids[past.cause] if past.cause else None
            seconds, at_ms = past.duration_seconds, milliseconds(past.at)
            duration_ms = None if seconds is None else round(seconds * 1000)
            yield connection_id, slot, at_ms, past.verdict.code, cause_id, past.status, duration_ms

    def _write_events(self, told: Sequence[tuple[int, Event]]) -> None:
        if not told:
            return
        rows = [
            {
                "connection_id": connection_id,
                "at_ms": milliseconds(event.at),
                "kind": event.kind,
                "cause_id": self.cause_ids[event.cause] if event.cause else None,
                "failure": event.failure,
                "text": event.text.replace("\0", "\N{REPLACEMENT CHARACTER}"),  # PostgreSQL keeps no NUL
            }
            for connection_id, event in told
        ]
        self.connection.execute(_WRITE_EVENT, rows)
        surplus = [
            {"connection": connection_id, "failing": failure, "kept": EVENTS_KEPT[failure]}
            for connection_id, failure in dict.fromkeys((number, event.failure) for number, event in told)
        ]
        self.connection.execute(_TRIM_EVENTS, surplus)

    def tidy(self, today: int) -> bool:
        """Delete one slice of what is too old. `today` is in days since 1970. True if there may be more.

        Counts of future days are deleted too: the clock was wrong when they were written.
        """
        with self.place.alone(self.connection):
            deleted = 0
            for end, wrong in (func.min, DAYS.c.day < today - DAYS_KEPT), (func.max, DAYS.c.day > today + 1):
                day = select(end(DAYS.c.day)).where(wrong).scalar_subquery()
                deleted += self.connection.execute(delete(DAYS).where(DAYS.c.day == day)).rowcount
            for failure, days in EVENT_DAYS.items():
                old = (
                    select(EVENTS.c.id)
                    .where(EVENTS.c.failure == failure, EVENTS.c.at_ms < (today - days) * MS_A_DAY)
                    .limit(EVENTS_SLICE)
                )
                deleted += self.connection.execute(delete(EVENTS).where(EVENTS.c.id.in_(old))).rowcount
        return deleted > 0


def told_in(connection: Connection) -> dict[str, dict[str, Told]]:
    """What each sink was last told, by sink and group. Unreadable rows count as never told."""
    told: dict[str, dict[str, Told]] = {}
    for sink, alert, body in connection.execute(select(TOLD)):
        with suppress(ValidationError):
            told.setdefault(sink, {})[alert] = records.read_told(body)
    return told


def _made_or_upgraded(connection: Connection, place: Place, upgrades: Upgrades) -> str:
    """Create the tables or upgrade them to the current version. Gives the database's mark."""
    last = 1 + len(upgrades)
    tables = set(inspect(connection).get_table_names())
    if not tables:
        SCHEMA.create_all(connection)
        if place.shared:
            add_due(connection)
        mark = secrets.token_hex(8)
        connection.execute(
            insert(META), [{"key": "schema", "value": str(last)}, {"key": "mark", "value": mark}]
        )
        return mark
    ours = {META.name, CONNECTIONS.name, HISTORIES.name} <= tables
    meta = {row.key: row.value for row in connection.execute(select(META))} if ours else {}
    if not str(meta.get("schema", "")).isdecimal():
        raise StoreError(
            f"The database {place} cannot be used: another program created it. Use another file."
        )
    version = int(meta["schema"])
    if version > last:
        raise StoreError(
            f"The database {place} cannot be used: a newer version of bearerwatch wrote it (schema"
            f" {version}; this version knows {last}). Run that version, or use another file."
        )
    # Writes nothing, but fails where the file is read-only: BEGIN IMMEDIATE alone doesn't (observed).
    connection.execute(META.update().where(false()).values(value=META.c.value))
    for step in range(version, last):
        upgrades[step](connection)
    if version < last:
        connection.execute(META.update().where(META.c.key == "schema").values(value=str(last)))
    return str(meta.get("mark", ""))


def _ids(connection: Connection, rows: Select[Any]) -> dict[str, int]:
    return {name: number for number, name in connection.execute(rows)}


def _ids_of(connection: Connection, table: Table, names: Sequence[str]) -> dict[str, int]:
    """Ids of these names. Missing ones are inserted first."""
    name = table.c[1]
    rows = select(table).where(name.in_(names))
    known = _ids(connection, rows)
    if new := [{name.name: one} for one in names if one not in known]:
        connection.execute(insert(table), new)
        known = _ids(connection, rows)
    return known
