"""Copies a SQLite file into a PostgreSQL database: all rows of all tables, in one transaction."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Table, delete, func, insert, select

from monitor.core.causes import Cause
from monitor.store.database import Database
from monitor.store.keeper import BUSY_SECONDS
from monitor.store.place import place_of
from monitor.store.problem import StoreError
from monitor.store.schema import CAUSES, HISTORIES, META, SCHEMA, UPGRADES
from monitor.store.sqlite import SqliteFile

ROWS_AT_ONCE = 5_000
"""Rows in memory at a time."""

log = structlog.get_logger(__name__)


def move(source: Path, to: str) -> int:
    """Copy a file into an empty database. Gives the number of histories.

    Raises StoreError if either can't be used, if a daemon uses the file, or if the target isn't empty.
    """
    if not source.is_file():
        raise StoreError(f"The database {source} cannot be moved: the file does not exist.")
    if not to.startswith("postgresql://"):
        raise StoreError("The target database must be postgresql://USER@HOST/DATABASE.")
    here, there = SqliteFile(source.absolute(), BUSY_SECONDS), place_of(to, BUSY_SECONDS)
    with (
        _without_daemon(here),
        closing(Database.open(here.engine(writes=True), here, UPGRADES["sqlite"])) as old,
        closing(Database.open(there.engine(writes=True), there, UPGRADES["postgresql"])) as new,
        here.in_words(),
        there.in_words(),
        old.connection.begin(),
        new.connection.begin(),
    ):
        if known := new.connection.scalar(select(func.count()).select_from(HISTORIES)):
            raise StoreError(
                f"The database {there} already has the history of {known:,}"
                f" connection{'' if known == 1 else 's'}. Use an empty one."
            )
        new.connection.execute(delete(CAUSES))
        for table in SCHEMA.sorted_tables:
            if table is not META:
                _copy(old.connection, new.connection, table)
        codes = set(new.connection.scalars(select(CAUSES.c.code)))
        if lacking := [{"code": cause} for cause in Cause if cause not in codes]:
            new.connection.execute(insert(CAUSES), lacking)
        return new.connection.scalar(select(func.count()).select_from(HISTORIES)) or 0


@contextmanager
def _without_daemon(file: SqliteFile) -> Iterator[None]:
    """Keep daemons from using the file meanwhile. Raises StoreError if one does."""
    if not file.claim_path.exists():  # a copy that no daemon has used: nothing is left beside it
        yield
        return
    try:
        release = file.claim()
    except StoreError:
        raise StoreError(
            f"The database {file} is in use by a daemon. Stop it first: later results would be lost."
        ) from None
    try:
        yield
    finally:
        release()


def _copy(old: Connection, new: Connection, table: Table) -> None:
    """Copy all rows of a table, and let its sequence continue after the highest id."""
    names = [column.name for column in table.columns]
    cursor = new.connection.cursor()
    with cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
        for row in _rows(old, table):
            copy.write_row(row)
    if table.autoincrement_column is not None and names[0] == "id":
        highest = select(func.max(table.c.id)).scalar_subquery()
        new.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), highest)))


def _rows(old: Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    for row in old.execute(select(table), execution_options={"yield_per": ROWS_AT_ONCE}):
        # PostgreSQL keeps no NUL in a text.
        yield tuple(
            value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
            for value in row
        )
