"""A database that is a SQLite file: how it is opened, told from another one, and what can be wrong with it.

Each transaction that writes begins with BEGIN IMMEDIATE, so that it waits for another one at its start and
never fails in its middle.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from sqlalchemy import Column, ColumnElement, Connection, Engine, LargeBinary, cast, create_engine, event
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from monitor.store.problem import DamagedError, StoreError

_WHY = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: give the monitor write access to the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "its directory must exist and be writable by the monitor",
    sqlite3.SQLITE_PERM: "it cannot be opened: give the monitor write access to the file and its directory",
    sqlite3.SQLITE_BUSY: "another program has locked it: stop that program, or wait for it",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database: use another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore a backup, or move it away and a new one is created",
    sqlite3.SQLITE_IOERR: "disk error: check quotas and the kernel log",
}
"""By primary result code (sqlite.org/rescode.html): what is wrong and what would be right."""


_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_SHORT_READ}
"""Codes for which no other disk, right or lock would help."""


def _nothing_claimed() -> None:
    """Nothing is to be let go of."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A file, and how long to wait for another program's lock on it."""

    path: Path
    busy_seconds: float

    dialect: ClassVar[Dialect] = dialect()
    shared: ClassVar[bool] = False

    def __str__(self) -> str:
        return str(self.path)

    def engine(self, *, writes: bool) -> Engine:
        """An engine that makes a new connection each time: a file that was replaced is never taken for the
        new one.

        Synchronous FULL, so that a power cut too loses no more than a kill does. NORMAL would lose all since
        the last checkpoint, hours where connections are few; and with a commit or two a second, off the loop,
        FULL costs nothing.
        """
        uri = f"{self.path.as_uri()}?mode={'rwc' if writes else 'rw'}"

        def connect() -> sqlite3.Connection:
            if writes:
                self._make_private()
            # No isolation level: the library's own BEGIN would come late, and not at all before a CREATE
            # TABLE.
            return sqlite3.connect(uri, uri=True, timeout=self.busy_seconds, isolation_level=None)

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

    def _make_private(self) -> None:
        """Make the file, where there is none, for its owner alone; what SQLite puts beside it follows.

        One that is there is never opened here: to close it would let go SQLite's locks on it (fcntl(2)).
        """
        with suppress(OSError):  # what is wrong with the directory, SQLite says
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Turns what the world does to the file into a StoreError. A mistake of ours passes as it is."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if type(cause) not in {sqlite3.OperationalError, sqlite3.DatabaseError}:
                raise
            whole = getattr(cause, "sqlite_errorcode", 0)
            code = whole & 0xFF
            damaged = whole in _DAMAGED or code in _DAMAGED or str(cause).startswith("no such table")
            kind = DamagedError if damaged else StoreError
            raise kind(f"The database {self} can't be used: {_WHY.get(code, cause)}.") from error

    def stamp(self) -> object | None:
        """Device and inode of what is at the path; None where nothing is."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """A transaction that writes. BEGIN IMMEDIATE keeps other writers out."""
        with connection.begin():
            yield

    alone = writing

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection to read by. Raises StoreError."""
        with self.in_words(), engine.connect() as connection:
            yield connection

    @property
    def claim_path(self) -> Path:
        """The file beside it that each of its daemons locks."""
        return Path(f"{self.path}-daemon")

    def claim(self) -> Callable[[], None]:
        """Be the one daemon of this file, until what this gives is called, or the process ends.

        Raises StoreError where another is.

        By a lock on a file beside it, which the kernel lets go with the process, however that ends: one on
        the database would go with the first descriptor of it that is closed (fcntl(2)).
        """
        try:
            descriptor = os.open(self.claim_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return _nothing_claimed  # what is wrong with the directory, opening the database says
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise StoreError(
                    f"The database {self} is another running daemon's: stop that one, or name another file"
                    " for this one. Two would double the logins and write over each other's history."
                ) from None
            # Else the file system knows no locks, as some networks' don't, and nobody can tell.
            return _nothing_claimed
        return partial(os.close, descriptor)

    def settle(self, connection: Connection) -> None:
        """Only once it is known to be ours, as this mode stays in the file. In it reads and writes go on side
        by side. Where a file system can't do that (a network's), the old mode stays.
        """
        connection.connection.cursor().execute("PRAGMA journal_mode=WAL")

    def raw(self, text: Column[str]) -> ColumnElement[bytes]:
        """A text as bytes: a damaged one need not be UTF-8, and one such row would fail the whole query."""
        return cast(text, LargeBinary)
