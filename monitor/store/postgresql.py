"""A database that is a PostgreSQL server's: how it is reached, and what can be wrong with it.

A server that is cut off doesn't say so. Each of our transactions has an end that is kept here, by shutting
its socket down; and one that we leave open (a process that is stopped in its middle) is ended by the server.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, ClassVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Column, ColumnElement, Connection, Engine, create_engine, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from monitor.store.problem import StoreError
from monitor.store.schema import ENGINE_MIGRATIONS

CONNECT_WITHIN_SECONDS = 5
"""A server that is there answers in milliseconds."""

TRANSACTION_WITHIN_SECONDS = 8.0
"""The longest of ours, 500 connections, takes a tenth of a second; it may have to wait for the server to end
one that was left open."""

LEFT_OPEN_MS = 5_000
"""After so long without a word within a transaction the server ends it: it holds the others up. So it does
where what it sends isn't taken for so long, as by a machine that is cut off in the middle of an answer: of
itself it would wait a quarter of an hour, and all other writers with it."""

UPGRADERS = 0x6265_6172
"""The number of the advisory lock of who makes and upgrades tables; any will do that no other program in the
same database takes ("bear")."""

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
    shared: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def how(self, *, writes: bool) -> dict[str, Any]:
        """What psycopg needs to know to connect."""
        address = self.url.render_as_string(hide_password=False)
        own = conninfo_to_dict(address).get("options") or ""
        options = (
            f"{own} -c idle_in_transaction_session_timeout={LEFT_OPEN_MS} -c tcp_user_timeout={LEFT_OPEN_MS}"
            f" -c default_transaction_read_only={'off' if writes else 'on'}"
        )
        return {
            "conninfo": address,
            "connect_timeout": CONNECT_WITHIN_SECONDS,
            "options": options.strip(),
            "application_name": "bearerwatch",
        }

    def engine(self, *, writes: bool) -> Engine:
        """An engine that makes a new connection each time."""
        how = self.how(writes=writes)
        return create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(**how), poolclass=NullPool
        )

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
        """A transaction that writes. Each connection's rows are one replica's at a time."""
        with _in_time(connection), connection.begin():
            yield

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[None]:
        """A transaction that no other of these is beside."""
        with self.writing(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADERS})")
            yield

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection to read by. Raises StoreError."""
        with self.in_words(), engine.connect() as connection, _in_time(connection):
            yield connection

    def claim(self) -> Callable[[], None]:
        """Nothing to do: daemons share it."""
        return lambda: None

    def settle(self, connection: Connection) -> None:
        """Bring the engine's tables to its installed version: its own files, each once, by name.

        Each in a transaction of its own, as a new value of an enum can be used only after it.
        """
        with self.alone(connection):
            done = set(connection.scalars(select(ENGINE_MIGRATIONS.c.name)))
        for file in sorted(
            files("procrastinate.sql").joinpath("migrations").iterdir(), key=lambda one: one.name
        ):
            if file.name in done or not file.name.endswith(".sql"):
                continue
            with self.alone(connection):
                made = postgresql.insert(ENGINE_MIGRATIONS).values(name=file.name).on_conflict_do_nothing()
                if connection.scalar(made.returning(ENGINE_MIGRATIONS.c.name)):  # else another has
                    connection.connection.cursor().execute(file.read_text())

    def raw(self, text: Column[str]) -> ColumnElement[str]:
        """A text as it is: the server keeps no other than UTF-8."""
        return text.expression


@contextmanager
def _in_time(connection: Connection) -> Iterator[None]:
    """Shuts the connection's socket down where the block takes longer than TRANSACTION_WITHIN_SECONDS.

    By a descriptor of our own: psycopg's may be closed, and its number another's, by then.
    """
    raw: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment] # its own
    with _socket(raw) as handle:
        timer = threading.Timer(TRANSACTION_WITHIN_SECONDS, _break_off, (handle,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def shut_down(link: psycopg.AsyncConnection[Any]) -> None:
    """Break a connection off, as it would wait for ever for a server that can't be reached."""
    if not link.closed:
        with _socket(link) as handle:
            _break_off(handle)


def _socket(link: psycopg.Connection | psycopg.AsyncConnection[Any]) -> socket.socket:
    return socket.socket(fileno=os.dup(link.fileno()))


def _break_off(handle: socket.socket) -> None:
    with suppress(OSError):  # it may be closed just now
        handle.shutdown(socket.SHUT_RDWR)
