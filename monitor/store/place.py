"""Where a database is: a SQLite file or a PostgreSQL server. The interface of both."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Protocol

from sqlalchemy import Column, ColumnElement, Connection, Engine
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError

from monitor.store.problem import StoreError
from monitor.store.sqlite import SqliteFile


class Place(Protocol):
    """What differs between kinds of databases."""

    dialect: ClassVar[Dialect]
    shared: ClassVar[bool]
    """Whether several daemons write to it."""

    def engine(self, *, writes: bool) -> Engine:
        """An engine without a pool."""

    def writing(self, connection: Connection) -> AbstractContextManager[None]:
        """A write transaction."""

    def alone(self, connection: Connection) -> AbstractContextManager[None]:
        """An exclusive transaction, for creating and upgrading tables."""

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A connection for reading. Raises StoreError."""

    def in_words(self) -> AbstractContextManager[None]:
        """Convert outside faults to StoreError. Our own bugs pass unchanged."""

    def stamp(self) -> object | None:
        """Identifies what is at the place, to notice a replacement; None if nothing is there."""

    def claim(self) -> Callable[[], None]:
        """Claim a database that can't be shared, until the returned function is called or the process ends.
        Raises StoreError if another daemon has it.
        """

    def settle(self, connection: Connection) -> None:
        """Prepare a database that is known to be ours."""

    def raw(self, text: Column[str]) -> ColumnElement[bytes] | ColumnElement[str]:
        """A text column in a form that can be read even if it is damaged."""


def place_of(url_or_path: str | Path, busy_seconds: float) -> Place:
    """The server that a PostgreSQL URL names, or the file at a path. Raises StoreError for a bad URL."""
    if not str(url_or_path).startswith("postgresql://"):
        return SqliteFile(Path(url_or_path).absolute(), busy_seconds)
    try:
        return _server(make_url(str(url_or_path)))
    except (ArgumentError, ValueError):  # the text may hold a password, so it isn't repeated
        raise StoreError("The database must be postgresql://USER@HOST/DATABASE.") from None


def _server(url: URL) -> Place:
    try:
        import procrastinate  # noqa: F401 # before the tables are upgraded for it

        from monitor.store.postgresql import Server  # its libraries are an extra
    except ImportError:
        raise StoreError(
            "PostgreSQL support is not installed: pip install 'bearerwatch[postgresql]'."
        ) from None
    return Server(url)
