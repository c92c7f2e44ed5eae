"""A database that is a PostgreSQL server's: how it is reached, and what can be wrong with it.

Writers take turns: one advisory lock is held by each transaction that writes. So there is no deadlock, and
what was committed later has the higher number.

A server that is cut off doesn't say so. Each of our transactions has an end that is kept here, by shutting
its socket down; and one that we leave open (a process that is stopped in its middle) is ended by the server.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Column, ColumnElement, Connection, Engine, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from monitor.store.problem import StoreError

CONNECT_WITHIN_SECONDS = 5
"""A server that is there answers in milliseconds."""

TRANSACTION_WITHIN_SECONDS = 8.0
"""The longest of ours, 500 connections, takes a tenth of a second; it may have to wait for others' turns, and
for the server to end one that was left open."""

LEFT_OPEN_MS = 5_000
"""After so long without a word within a transaction the server ends it: it holds the others up. So it does
where what it sends isn't taken for so long, as by a machine that is cut off in the middle of an answer: of
itself it would wait a quarter of an hour, and all other writers with it."""

WRITERS = 0x6265_6172
"""The number of the advisory lock; any will do that no other program in the same database takes ("bear")."""

DAEMON = WRITERS + 1
"""The number of the advisory lock of the one daemon that is no replica."""

_NOTICE_THE_DEAD = """
    SELECT set_config('tcp_keepalives_idle', '20', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '4', false)
"""
"""A machine that died doesn't say so: its daemon may be started elsewhere after 40 seconds, not two hours."""

_WORLD = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.InsufficientPrivilege,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
)
"""What is the server's or the operator's, and no mistake of ours."""


@dataclass(frozen=True, slots=True)
class Server:
    """A database by its URL. A password comes from PGPASSWORD or PGPASSFILE, as libpq has it."""

    url: URL = field(repr=False)

    dialect: ClassVar[Dialect] = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call] # theirs

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def engine(self, *, writes: bool) -> Engine:
        """An engine that makes a new connection each time."""
        address = self.url.render_as_string(hide_password=False)
        own = conninfo_to_dict(address).get("options") or ""
        read_only = "off" if writes else "on"
        options = (
            f"{own} -c idle_in_transaction_session_timeout={LEFT_OPEN_MS} -c tcp_user_timeout={LEFT_OPEN_MS}"
            f" -c default_transaction_read_only={read_only}"
        ).strip()

        def connect() -> psycopg.Connection:
            return psycopg.connect(
                address,
                connect_timeout=CONNECT_WITHIN_SECONDS,
                options=options,
                application_name="bearerwatch",
            )

        return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Turns what the world does to the database into a StoreError. A mistake of ours passes as it is."""
        try:
            yield
        except (DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if not isinstance(cause, _WORLD):
                raise
            why = " ".join((str(cause) or type(cause).__name__).split("\n")[0].split()).rstrip(".")
            raise StoreError(f"The database {self} can't be used: {why}.") from error

    def stamp(self) -> object | None:
        """The address; a database in which other tables appear is told by its mark."""
        return str(self)

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """A transaction that writes, when it is our turn."""
        with _in_time(connection), connection.begin():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
            yield

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection to read by. Raises StoreError."""
        with self.in_words(), engine.connect() as connection, _in_time(connection):
            yield connection

    def claim(self) -> Callable[[], None]:
        """Be the one daemon of this database, until what this gives is called, or the process ends.

        Raises StoreError where another is. Replicas don't claim it: they keep out of each other's way. The
        claim is held by a connection of its own, which nobody looks after: where it is lost, as with the
        server's restart, the daemon goes on, and a second one is no longer refused.
        """
        with self.in_words():
            connection = psycopg.connect(
                self.url.render_as_string(hide_password=False),
                autocommit=True,
                connect_timeout=CONNECT_WITHIN_SECONDS,
                application_name="bearerwatch",
            )
            connection.execute(_NOTICE_THE_DEAD)
            taken = connection.execute("SELECT pg_try_advisory_lock(%s)", (DAEMON,)).fetchone()
        if taken != (True,):
            connection.close()
            raise StoreError(
                f"The database {self} is another running daemon's: stop that one, name another database for"
                " this one, or set `replicas: true` for both. Two would double the logins and write over each"
                " other's history."
            )
        return connection.close  # keeps it, too: without anybody who does it would be closed

    def settle(self, connection: Connection) -> None:
        """Nothing to do."""

    def raw(self, text: Column[str]) -> ColumnElement[str]:
        """A text as it is: the server keeps no other than UTF-8."""
        return text.expression


@contextmanager
def _in_time(connection: Connection) -> Iterator[None]:
    """Shuts the connection's socket down where the block takes longer than TRANSACTION_WITHIN_SECONDS.

    By a descriptor of our own: psycopg's may be closed, and its number another's, by then.
    """
    raw: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment] # its own
    with socket.socket(fileno=os.dup(raw.fileno())) as handle:
        timer = threading.Timer(TRANSACTION_WITHIN_SECONDS, _shut_down, (handle,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut_down(handle: socket.socket) -> None:
    with suppress(OSError):  # the block may have ended just now
        handle.shutdown(socket.SHUT_RDWR)
