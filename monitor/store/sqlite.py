"""A SQLite file: how it is opened and identified, and what its errors mean.

Write transactions begin with BEGIN IMMEDIATE: they wait for a lock at the start and never fail halfway.
"""

import errno
import fcntl
import os
import sqlite3
import time
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
    sqlite3.SQLITE_CANTOPEN: (
        "its directory must exist, and the user that runs this must be able to write to it and to the file"
    ),
    sqlite3.SQLITE_PERM: "it cannot be opened: give the monitor write access to the file and its directory",
    sqlite3.SQLITE_BUSY: "another program has locked it: stop that program, or wait for it",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database: use another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore a backup, or move it away and a new one is created",
    sqlite3.SQLITE_IOERR: "disk error: check free space, quotas and the kernel log",
}
"""By primary result code (sqlite.org/rescode.html): what is wrong and how to fix it."""


_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_SHORT_READ}
"""Codes that mean damage: no permission or lock would help."""

SWITCH_AGAIN_SECONDS = 0.01
"""Until another try to switch the file to WAL mode: another program's switch takes milliseconds."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A file. `busy_seconds`: how long to wait for another program's lock."""

    path: Path
    busy_seconds: float

    dialect: ClassVar[Dialect] = dialect()
    shared: ClassVar[bool] = False
    """Whether several daemons write to it."""

    def __str__(self) -> str:
        return str(self.path)

    def engine(self, *, writes: bool) -> Engine:
        """An engine without a pool: each connection opens the file that is there now.

        synchronous=FULL: a power cut loses no more than a kill. NORMAL could lose everything since the last
        checkpoint, hours in a small deployment. With a commit or two a second, off the event loop, FULL costs
        nothing.
        """
        uri = f"{self.path.as_uri()}?mode={'rwc' if writes else 'rw'}"

        def connect() -> sqlite3.Connection:
            if writes:
                self._make_private()
            # No isolation level: sqlite3's implicit BEGIN would come late, and not at all before CREATE
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
        """Create a missing file with mode 0600; SQLite gives its WAL the same mode.

        Never opens an existing file: closing it would release SQLite's locks (fcntl(2)).
        """
        with suppress(OSError):  # SQLite reports what is wrong with the directory
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Convert outside faults to StoreError. Our own bugs pass unchanged."""
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
            raise kind(f"The database {self} cannot be used: {_WHY.get(code, cause)}.") from error

    def stamp(self) -> object | None:
        """Device and inode of the file, to notice a replacement; None if it is missing."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """A write transaction. BEGIN IMMEDIATE keeps other writers out."""
        with connection.begin():
            yield

    alone = writing
    """The same: an exclusive transaction, for creating and upgrading tables."""

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection for reading. Raises StoreError."""
        with self.in_words(), engine.connect() as connection:
            yield connection

    @property
    def claim_path(self) -> Path:
        """The lock file next to the database."""
        return Path(f"{self.path}-daemon")

    def claim(self) -> Callable[[], None]:
        """Claim the file, until the returned function is called or the process ends.

        Raises StoreError if another daemon has it.

        Locks a separate file; the kernel releases the lock when the process ends, however it ends. A lock on
        the database itself would be released when any descriptor of it is closed (fcntl(2)).
        """
        try:
            descriptor = os.open(self.claim_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return lambda: None  # opening the database reports what is wrong with the directory
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise StoreError(
                    f"The database {self} is in use by another daemon. Stop that daemon, or use another file"
                    " for this one. Two daemons would double the logins and overwrite each other's history."
                ) from None
            # Some network file systems have no locks; then we can't tell.
            return lambda: None
        return partial(os.close, descriptor)

    def settle(self, connection: Connection) -> None:
        """Switch to WAL mode, in which reads do not block writes. The mode is persistent, so only for a file
        of ours. File systems that can't do it (on a network) keep the old mode.

        SQLite does not wait for another program that is switching, or writing, at this moment: we do.
        """
        end = time.monotonic() + self.busy_seconds
        while True:
            try:
                connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            else:
                return
            time.sleep(SWITCH_AGAIN_SECONDS)

    def raw(self, text: Column[str]) -> ColumnElement[bytes]:
        """The text as bytes: one damaged row that isn't UTF-8 would fail the whole query."""
        return cast(text, LargeBinary)
