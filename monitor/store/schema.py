"""The tables, their version, and how an older database becomes one of today."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

SCHEMA = MetaData()

META = Table(
    "meta",
    SCHEMA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""`schema`: the version of the tables. `mark`: a random word that tells this database from another one."""

CONNECTIONS = Table(
    "connections",
    SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)
CAUSES = Table(
    "causes",
    SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("code", Text, nullable=False, unique=True),
)
"""Names as small integers, for the rows that are many."""

HISTORIES = Table(
    "histories",
    SCHEMA,
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), primary_key=True),
    Column("body", Text, nullable=False),
)
"""All that is remembered of a connection, as JSON."""

UNREADABLE = Table(
    "unreadable",
    SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
)
"""Histories that could not be read: damaged, or written by a newer version. Kept for a person to look at."""

EXCHANGES = Table(
    "exchanges",
    SCHEMA,
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), primary_key=True),
    Column("slot", SmallInteger, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("verdict", SmallInteger, nullable=False),
    Column("cause_id", ForeignKey(CAUSES.c.id)),
    Column("status", SmallInteger),
    Column("duration_ms", Integer),
    sqlite_with_rowid=False,
)
"""The last exchanges of each connection, in a ring of slots."""

DAYS = Table(
    "days",
    SCHEMA,
    # The day comes first: one day's counts lie side by side, so a batch and the tidy touch few pages.
    Column("day", Integer, primary_key=True),
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), primary_key=True),
    Column("granted", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("no_verdict", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""How a connection's exchanges went on one UTC day, numbered from 1970."""

EVENTS = Table(
    "events",
    SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("cause_id", ForeignKey(CAUSES.c.id)),
    Column("failure", Boolean, nullable=False),
    Column("text", Text, nullable=False),
    Index("events_of_connection", "connection_id", "failure", "id"),
    Index("events_by_age", "failure", "at_ms"),
)
"""Every change of state, cause, key and configuration."""

TOLD = Table(
    "told",
    SCHEMA,
    Column("sink", Text, primary_key=True),
    Column("alert", Text, primary_key=True),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What each receiver of notifications knows of each alert, as JSON: what was told is not told again."""

Upgrade = Callable[[Connection], None]


def _add_told(connection: Connection) -> None:
    rows = "WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    connection.exec_driver_sql(
        "CREATE TABLE told ( sink TEXT NOT NULL, alert TEXT NOT NULL, body TEXT NOT NULL,"
        f" PRIMARY KEY (sink, alert) ) {rows}"
    )


UPGRADES: Mapping[int, Upgrade] = MappingProxyType({1: _add_told})
"""From each version of the schema to the next: what stands under 1 makes a version 2 of a version 1, and so
on.

The tables above are always those of the last version. An upgrade spells its SQL out and never uses them,
because it must still do the same when they have changed again. All that are needed run in one transaction.
"""
