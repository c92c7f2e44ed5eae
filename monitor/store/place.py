"""Where a database is: a SQLite file, or a PostgreSQL server; what is asked of either."""

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
    """What reading and writing need of a database."""

    dialect: ClassVar[Dialect]
    shared: ClassVar[bool]
    """Whether several daemons write to it."""

    def engine(self, *, writes: bool) -> Engine:
        """An engine that makes a new connection each time."""

    def writing(self, connection: Connection) -> AbstractContextManager[None]:
        """A transaction that writes."""

    def alone(self, connection: Connection) -> AbstractContextManager[None]:
        """A transaction that no other of these is beside."""

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A connection to read by. Raises StoreError."""

    def in_words(self) -> AbstractContextManager[None]:
        """Turns what the world does to a database into a StoreError. A mistake of ours passes as it is."""

    def stamp(self) -> object | None:
        """Tells the database that is there from one that took its place; None where there is none."""

    def claim(self) -> Callable[[], None]:
        """Be the one daemon of a database that can't be shared, until what this gives is called, or the
        process ends. Raises StoreError where another is.
        """

    def settle(self, connection: Connection) -> None:
        """What is to be done once it is known to be ours."""

    def raw(self, text: Column[str]) -> ColumnElement[bytes] | ColumnElement[str]:
        """A text column as it is read where it may be damaged."""


def place_of(url_or_path: str | Path, busy_seconds: float) -> Place:
    """The place that a path or a URL names. Raises StoreError where it names none."""
    if isinstance(url_or_path, str) and "://" in url_or_path:
        try:
            url = make_url(url_or_path)
        except ArgumentError:
            # The text may hold a password, so it isn't repeated.
            raise StoreError(
                "The database must be a path or a URL such as postgresql://db.example.com/bearerwatch."
            ) from None
        if url.drivername == "postgresql":
            return _server(url)
        if url.drivername != "sqlite":
            raise StoreError(
                f"A {url.drivername} database is not supported: name the path of a SQLite file, or a"
                " postgresql:// URL."
            )
        if url.query or url.host:
            raise StoreError("The URL of a SQLite database is sqlite:/// and a path, with nothing after it.")
        url_or_path = url.database or ""
    if str(url_or_path) in {"", ".", ":memory:"}:
        raise StoreError("The database must be a file: an in-memory database would be lost at a restart.")
    path = Path(url_or_path).absolute()
    if path.is_dir():
        raise StoreError(f"The database {path} can't be used: it is a directory: name a file in it.")
    return SqliteFile(path, busy_seconds)


def _server(url: URL) -> Place:
    try:
        import procrastinate  # noqa: F401 # before the tables are upgraded for it

        from monitor.store.postgresql import Server  # its libraries are an extra
    except ImportError:
        raise StoreError(
            "PostgreSQL support is not installed: pip install 'bearerwatch[postgresql]'."
        ) from None
    return Server(url)
