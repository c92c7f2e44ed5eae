"""A database on a PostgreSQL server: how to connect, and what its errors mean.

A server that is cut off does not say so. We bound each transaction ourselves, by shutting its socket down;
the server ends transactions that we leave open (a process suspended in the middle of one).
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from procrastinate.schema import SchemaManager
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
"""A reachable server answers in milliseconds."""

TRANSACTION_WITHIN_SECONDS = 8.0
"""Our longest transaction, 500 connections, takes 0.1 s, but may have to wait until the server ends an
abandoned one."""

LEFT_OPEN_MS = 5_000
"""The server ends a transaction that is idle for this long, as it blocks others. The same limit applies, on
both sides, to a peer that does not acknowledge data: by default we, or the server and with it all other
writers, would wait for a quarter of an hour."""

UPGRADERS = 0x6265_6172
"""The advisory lock for creating and upgrading tables. Any number ("bear") that no other program in the same
database uses."""

_WORLD = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.InsufficientPrivilege,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
)
"""Errors that the server or the operator causes, not a bug of ours."""


@dataclass(frozen=True, slots=True)
class Server:
    """A database by its URL. The password comes from PGPASSWORD or PGPASSFILE, as usual with libpq."""

    url: URL = field(repr=False)

    dialect: ClassVar[Dialect] = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call] # theirs
    shared: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def how(self, *, writes: bool) -> dict[str, Any]:
        """Connection parameters for psycopg."""
        address = self.url.render_as_string(hide_password=False)
        own = conninfo_to_dict(address).get("options") or ""
        options = (
            f"{own} -c idle_in_transaction_session_timeout={LEFT_OPEN_MS} -c tcp_user_timeout={LEFT_OPEN_MS}"
            f" -c default_transaction_read_only={'off' if writes else 'on'} -c idle_session_timeout=0"
            r" -c default_transaction_isolation=read\ committed"  # others' writes, seen as they come
        )
        return {
            "conninfo": address,
            "connect_timeout": CONNECT_WITHIN_SECONDS,
            "tcp_user_timeout": LEFT_OPEN_MS,
            "options": options.strip(),
            "application_name": "bearerwatch",
            "client_encoding": "UTF8",
        }

    def engine(self, *, writes: bool) -> Engine:
        """An engine without a pool."""
        how = self.how(writes=writes)
        return create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(**how), poolclass=NullPool
        )

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Convert outside faults to StoreError. Our own bugs pass unchanged."""
        try:
            yield
        except (DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if not isinstance(cause, _WORLD):
                raise
            why = " ".join((str(cause) or type(cause).__name__).split("\n")[0].split()).rstrip(".")
            raise StoreError(f"The database {self} cannot be used: {why}.") from error

    def stamp(self) -> object | None:
        """The address. A replaced database is recognised by its mark."""
        return str(self)

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """A write transaction. Only one replica at a time writes a given connection's rows."""
        with _in_time(connection), connection.begin():
            yield

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[None]:
        """A transaction that holds the upgraders' lock."""
        with self.writing(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADERS})")
            yield

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection for reading. Raises StoreError."""
        with self.in_words(), engine.connect() as connection, _in_time(connection):
            yield connection

    def claim(self) -> Callable[[], None]:
        """Nothing to claim: daemons share the server."""
        return lambda: None

    def settle(self, connection: Connection) -> None:
        """Upgrade the engine's own tables: run each of its migration files once.

        Each runs in a separate transaction, as a new enum value can be used only after the commit.
        """
        link: Any = connection.connection.driver_connection
        encoding = link.info.parameter_status("server_encoding")
        if encoding not in {"UTF8", "SQL_ASCII", None}:  # a pooler may not tell
            raise StoreError(f"The database {self} has the encoding {encoding}. Create one with UTF8.")
        with self.alone(connection):
            done = set(connection.scalars(select(ENGINE_MIGRATIONS.c.name)))
        for file in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql")):
            if file.name in done:
                continue
            with self.alone(connection):
                made = postgresql.insert(ENGINE_MIGRATIONS).values(name=file.name).on_conflict_do_nothing()
                if connection.scalar(made.returning(ENGINE_MIGRATIONS.c.name)):  # else already run
                    connection.connection.cursor().execute(file.read_text())

    def raw(self, text: Column[str]) -> ColumnElement[str]:
        """The column itself: we send only valid UTF-8."""
        return text.expression


@contextmanager
def _in_time(connection: Connection) -> Iterator[None]:
    """Shut the connection's socket down if the block takes longer than TRANSACTION_WITHIN_SECONDS."""
    link: Any = connection.connection.driver_connection
    with _socket(link) as handle:
        timer = threading.Timer(TRANSACTION_WITHIN_SECONDS, _shut_down, (handle,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def shut_down(link: psycopg.Connection | psycopg.AsyncConnection[Any]) -> None:
    """Break a connection that would otherwise wait forever for an unreachable server."""
    with suppress(psycopg.Error), _socket(link) as handle:  # a closed connection has none
        _shut_down(handle)


def _socket(link: psycopg.Connection | psycopg.AsyncConnection[Any]) -> socket.socket:
    """A duplicate: psycopg may close its own meanwhile, and another connection may get its number."""
    return socket.socket(fileno=os.dup(link.fileno()))


def _shut_down(handle: socket.socket) -> None:
    with suppress(OSError):  # already disconnected
        handle.shutdown(socket.SHUT_RDWR)
