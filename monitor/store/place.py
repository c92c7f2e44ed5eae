"""Where a database is: a SQLite file or a PostgreSQL server. Both have the same methods."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from monitor.store.problem import StoreError
from monitor.store.sqlite import SqliteFile

if TYPE_CHECKING:
    from monitor.store.postgresql import Server

Place: TypeAlias = "SqliteFile | Server"


def place_of(url_or_path: str | Path, busy_seconds: float) -> Place:
    """The server that a PostgreSQL URL names, or the file at a path. Raises StoreError for a bad URL."""
    if not str(url_or_path).startswith("postgresql://"):
        return SqliteFile(Path(url_or_path).absolute(), busy_seconds)
    try:
        import procrastinate  # noqa: F401 # before the tables are upgraded for it

        from monitor.store.postgresql import Server  # its libraries are an extra

        return Server(make_url(str(url_or_path)))
    except ImportError:
        raise StoreError(
            "PostgreSQL support is not installed: pip install 'bearerwatch[postgresql]'."
        ) from None
    except (ArgumentError, ValueError):  # the text may hold a password, so it isn't repeated
        raise StoreError("The database must be postgresql://USER@HOST/DATABASE.") from None
