"""An open database in one thread: made or upgraded, read, written batch by batch; its errors in words.

SQLite is used through SQLAlchemy's Core. Each transaction that writes begins with BEGIN IMMEDIATE, so that
it waits for another one at its start and never fails in its middle.
"""

import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    LargeBinary,
    Table,
    bindparam,
    cast,
    create_engine,
    delete,
    event,
    false,
    func,
    insert,
    inspect,
    literal,
    select,
)
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from monitor.core.causes import Cause
from monitor.core.history import Event, History
from monitor.store.schema import (
    CAUSES,
    CONNECTIONS,
    DAYS,
    EVENTS,
    EXCHANGES,
    HISTORIES,
    META,
    SCHEMA,
    UNREADABLE,
    Upgrade,
)
from monitor.store.waiting import EVENTS_KEPT, MS_A_DAY, Waiting, milliseconds

DAYS_KEPT = 400
"""Days for which counts and events of failures are kept: a year and a month, so that the same month a year
ago is still there to compare with."""

EVENT_DAYS = {True: DAYS_KEPT, False: 90}
"""Days for which events are kept, by whether they are failures: those of successes are many and tell
little."""

EVENTS_SLICE = 1000
"""Old events deleted in one transaction: a few milliseconds, so that no other writer is held up."""

REASON_LENGTH = 300
"""Characters kept of why a history can't be read: the first few problems say it all."""


class StoreError(Exception):
    """The database can't be used: one sentence for the operator."""


_WHY = {
    sqlite3.SQLITE_FULL: "the disk is full: make room on it",
    sqlite3.SQLITE_READONLY: "it is read-only: the monitor must be able to write the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "its directory must exist, and the monitor must be able to write there",
    sqlite3.SQLITE_PERM: "it can't be opened: the monitor must be able to write the file and its directory",
    sqlite3.SQLITE_BUSY: "another program has locked it: stop that program, or wait until it is done",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database: name another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away and a new one is made, or put a backup in its place",
    sqlite3.SQLITE_IOERR: "the disk can't be read or written: look for a quota, and at the kernel's log",
}
"""By primary result code (sqlite.org/rescode.html): what is wrong and what would be right."""


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turns what the world does to a database into a StoreError. A mistake of ours passes as it is."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if type(cause) not in {sqlite3.OperationalError, sqlite3.DatabaseError}:
            raise
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        raise StoreError(f"The database {path} can't be used: {_WHY.get(code, cause)}.") from error


def path_of(url_or_path: str | Path) -> Path:
    """The file that a path or a `sqlite:///` URL names. Raises StoreError for any other URL."""
    if isinstance(url_or_path, str) and "://" in url_or_path:
        try:
            url = make_url(url_or_path)
        except ArgumentError:
            # The text may hold a password, so it isn't repeated.
            raise StoreError(
                "The database is neither a path nor a URL such as sqlite:////var/lib/x.db."
            ) from None
        if url.get_backend_name() != "sqlite":
            raise StoreError(
                f"A {url.get_backend_name()} database is not supported in this version: "
                "name the path of a SQLite file."
            )
        if url.query or url.host:
            raise StoreError("The URL of a SQLite database is sqlite:/// and a path, with nothing after it.")
        url_or_path = url.database or ""
    if str(url_or_path) in {"", ".", ":memory:"}:
        raise StoreError("The database must be a file: what is in memory alone is forgotten at a restart.")
    path = Path(url_or_path).absolute()
    if path.is_dir():
        raise StoreError(f"The database {path} can't be used: it is a directory: name a file in it.")
    return path


def engine_for(path: Path, *, busy_seconds: float, writes: bool) -> Engine:
    """An engine that makes a new connection each time: a file that was replaced is never taken for the new
    one.

    Synchronous FULL, so that a power cut too loses no more than a kill does. NORMAL would lose all since the
    last checkpoint, hours where connections are few; and with a commit or two a second, off the loop, FULL
    costs nothing.
    """
    uri = f"{path.as_uri()}?mode={'rwc' if writes else 'rw'}"

    def connect() -> sqlite3.Connection:
        # No isolation level: the library's own BEGIN would come late, and not at all before a CREATE TABLE.
        return sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    pragma = "synchronous=FULL" if writes else "query_only=ON"

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


_HISTORY = TypeAdapter(History)

_Row = tuple[int | str | None, ...]


def _upsert(table: Table, *summed: str) -> str:
    """Writes a row over the one with the same key; adds to the columns `summed`.

    As SQL text, with a value for each column in the table's order: these statements take a row of every
    exchange, and what the library does to a dictionary for each costs as much as SQLite itself.
    """
    statement = insert_or(table)
    keys = [column.name for column in table.primary_key]
    values: dict[str, ColumnElement[Any]] = {
        name: table.c[name] + value if name in summed else value
        for name, value in statement.excluded.items()
        if name not in keys
    }
    return str(statement.on_conflict_do_update(index_elements=keys, set_=values).compile(dialect=dialect()))


def _trim() -> Executable:
    """Deletes all but the newest events of one connection and sort."""
    same = (EVENTS.c.connection_id == bindparam("connection"), EVENTS.c.failure == bindparam("failing"))
    newest_of_the_rest = (
        select(EVENTS.c.id).where(*same).order_by(EVENTS.c.id.desc()).limit(1).offset(bindparam("kept"))
    )
    return delete(EVENTS).where(*same, EVENTS.c.id <= newest_of_the_rest.scalar_subquery())


_WRITE_HISTORY = _upsert(HISTORIES)
_WRITE_EXCHANGE = _upsert(EXCHANGES)
_ADD_TO_DAY = _upsert(DAYS, "granted", "refused", "no_verdict")
_WRITE_EVENT = insert(EVENTS)
_TRIM_EVENTS = _trim()


def _history_rows(connection_id: int, waiting: Waiting) -> Iterator[_Row]:
    yield connection_id, _HISTORY.dump_json(waiting.history).decode()


def _day_rows(connection_id: int, waiting: Waiting) -> Iterator[_Row]:
    for day, (granted, refused, no_verdict) in waiting.days.items():
        yield day, connection_id, granted, refused, no_verdict


@dataclass(frozen=True, slots=True)
class Database:
    """A database that one thread writes to."""

    connection: Connection
    file: tuple[int, int] | None
    """Device and inode; None where the file was gone again at once."""
    mark: str
    """A random word of this database. The inode alone doesn't tell: a new file may get that of a deleted
    one."""
    connection_ids: dict[str, int]
    cause_ids: dict[str, int]

    @classmethod
    def open(cls, engine: Engine, path: Path, upgrades: Mapping[int, Upgrade]) -> Self:
        """Opens a database; makes it where there is none, upgrades an older one. Raises StoreError."""
        with in_words(path):
            connection = engine.connect()
            try:
                with connection.begin():
                    mark = _made_or_upgraded(connection, path, upgrades)
                    connection_ids = _ids(connection, CONNECTIONS, ())
                    cause_ids = _ids(connection, CAUSES, list(Cause))
                # Only once it is known to be ours, as this mode stays in the file. In it reads and writes go
                # on side by side. Where a file system can't do that (a network's), the old mode stays.
                connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
                return cls(connection, _device_and_inode(path), mark, connection_ids, cause_ids)
            except BaseException:
                connection.close()
                raise

    @property
    def identity(self) -> tuple[tuple[int, int] | None, str]:
        """What tells this database from every other, also from a copy of it."""
        return self.file, self.mark

    def is_still_at(self, path: Path) -> bool:
        """Whether the file at this path is still the one that is open here."""
        return self.file is not None and _device_and_inode(path) == self.file

    def close(self) -> None:
        """Lets go of the file."""
        self.connection.close()

    def read_histories(self) -> tuple[dict[str, History], dict[str, str]]:
        """All histories, and why some could not be read: those are moved to the table `unreadable`."""
        histories: dict[str, History] = {}
        unreadable: dict[str, str] = {}
        # As bytes, because a damaged text need not be UTF-8, and one such row would fail the whole query.
        body = cast(HISTORIES.c.body, LargeBinary)
        with self.connection.begin():
            rows = select(CONNECTIONS.c.id, CONNECTIONS.c.name, body).join_from(HISTORIES, CONNECTIONS)
            for row_id, name, text in self.connection.execute(rows).all():
                try:
                    histories[name] = _HISTORY.validate_json(text)
                except ValidationError as error:
                    unreadable[name] = _reason(error)
                    self._set_aside(row_id, unreadable[name])
        return histories, unreadable

    def _set_aside(self, connection_id: int, reason: str) -> None:
        this = HISTORIES.c.connection_id == connection_id
        copied = select(HISTORIES.c.connection_id, literal(reason), HISTORIES.c.body).where(this)
        self.connection.execute(insert(UNREADABLE).from_select(["connection_id", "reason", "body"], copied))
        self.connection.execute(delete(HISTORIES).where(this))

    def write(self, batch: Mapping[str, Waiting]) -> None:
        """Writes a batch in one transaction. After an error, close: ids may have been made in vain."""
        with self.connection.begin():
            if new := [name for name in batch if name not in self.connection_ids]:
                self.connection_ids.update(_ids(self.connection, CONNECTIONS, new))
            items = [(self.connection_ids[name], waiting) for name, waiting in batch.items()]
            for upsert, rows_of in (
                (_WRITE_HISTORY, _history_rows),
                (_WRITE_EXCHANGE, self._exchange_rows),
                (_ADD_TO_DAY, _day_rows),
            ):
                if rows := [
                    row for connection_id, waiting in items for row in rows_of(connection_id, waiting)
                ]:
                    self.connection.exec_driver_sql(upsert, rows)
            for connection_id, waiting in items:
                if waiting.events:
                    self._write_events(connection_id, waiting.events)

    def _exchange_rows(self, connection_id: int, waiting: Waiting) -> Iterator[_Row]:
        for slot, row in waiting.exchanges.items():
            cause_id = self.cause_ids[row.cause] if row.cause else None
            yield connection_id, slot, row.at_ms, row.verdict, cause_id, row.status, row.duration_ms

    def _write_events(self, connection_id: int, events: Sequence[Event]) -> None:
        rows = [
            {
                "connection_id": connection_id,
                "at_ms": milliseconds(told.at),
                "kind": told.kind,
                "cause_id": self.cause_ids[told.cause] if told.cause else None,
                "failure": told.failure,
                "text": told.text,
            }
            for told in events
        ]
        self.connection.execute(_WRITE_EVENT, rows)
        for failure in {told.failure for told in events}:
            surplus = {"connection": connection_id, "failing": failure, "kept": EVENTS_KEPT[failure]}
            self.connection.execute(_TRIM_EVENTS, surplus)

    def tidy(self, today: int) -> bool:
        """Deletes one slice of what is too old on a day (since 1970). Whether there may be more."""
        with self.connection.begin():
            old_day = select(func.min(DAYS.c.day)).where(DAYS.c.day < today - DAYS_KEPT).scalar_subquery()
            deleted = self.connection.execute(delete(DAYS).where(DAYS.c.day == old_day)).rowcount
            for failure, days in EVENT_DAYS.items():
                old = (
                    select(EVENTS.c.id)
                    .where(EVENTS.c.failure == failure, EVENTS.c.at_ms < (today - days) * MS_A_DAY)
                    .limit(EVENTS_SLICE)
                )
                deleted += self.connection.execute(delete(EVENTS).where(EVENTS.c.id.in_(old))).rowcount
        return deleted > 0


def _made_or_upgraded(connection: Connection, path: Path, upgrades: Mapping[int, Upgrade]) -> str:
    """Brings the tables to the last version; the database's mark."""
    last = 1 + len(upgrades)
    tables = set(inspect(connection).get_table_names())
    if not tables:
        SCHEMA.create_all(connection)
        mark = secrets.token_hex(8)
        connection.execute(
            insert(META), [{"key": "schema", "value": str(last)}, {"key": "mark", "value": mark}]
        )
        return mark
    ours = {META.name, CONNECTIONS.name, HISTORIES.name} <= tables
    meta = {row.key: row.value for row in connection.execute(select(META))} if ours else {}
    if not str(meta.get("schema", "")).isdecimal():
        raise StoreError(f"The database {path} can't be used: another program made it: name another file.")
    version = int(meta["schema"])
    if version > last:
        raise StoreError(
            f"The database {path} can't be used: a newer version of bearerwatch wrote it "
            f"(its schema is {version}, this version knows {last}): run that version, or name another file."
        )
    # Writes nothing, but fails where the file is read-only: BEGIN IMMEDIATE alone doesn't (observed).
    connection.execute(META.update().where(false()).values(value=META.c.value))
    for step in range(version, last):
        upgrades[step](connection)
    if version < last:
        connection.execute(META.update().where(META.c.key == "schema").values(value=str(last)))
    return str(meta.get("mark", ""))


def _ids(connection: Connection, table: Table, names: Sequence[str]) -> dict[str, int]:
    """The small integers of all names in a table of names, after these have been added to it."""
    name = table.c[1]
    if names:
        known = set(connection.scalars(select(name)))
        if new := [{name.name: one} for one in names if one not in known]:
            connection.execute(insert(table), new)
    return {text: number for number, text in connection.execute(select(table))}


def _device_and_inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _reason(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # What is missing goes last: of an outcome it only says that it isn't one of the other kinds.
    problems.sort(key=lambda one: one["type"] == "missing")
    return ("; ").join((f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}") for one in problems)[
        :REASON_LENGTH
    ]
