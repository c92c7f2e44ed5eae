"""The tables, their version, and the upgrades from older versions."""

from collections.abc import Callable, Mapping
from pathlib import Path
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
    inspect,
)

SCHEMA = MetaData()

META = Table(
    "meta",
    SCHEMA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""`schema`: the version of the tables. `mark`: a random identifier of this database."""

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
"""Connections and causes by small integers, to keep frequent rows short."""

HISTORIES = Table(
    "histories",
    SCHEMA,
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), primary_key=True),
    Column("body", Text, nullable=False),
)
"""The history of each connection, as JSON, without its audit."""

AUDITS = Table(
    "audits",
    SCHEMA,
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), primary_key=True),
    Column("body", Text, nullable=False),
)
"""What the last audit of each connection read, as JSON: many times as long as a history, and changed once a
day. It counts only if the history names its time."""

UNREADABLE = Table(
    "unreadable",
    SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
)
"""Histories that could not be read: damaged, or written by a newer version. Kept for manual inspection."""

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
"""The last exchanges of each connection, as a ring buffer."""

DAYS = Table(
    "days",
    SCHEMA,
    # The day comes first: rows of one day are adjacent, so a batch or a clean-up touches few pages.
    Column("day", Integer, primary_key=True),
    Column("connection_id", ForeignKey(CONNECTIONS.c.id), primary_key=True),
    Column("granted", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("no_verdict", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Outcomes of a connection's exchanges per UTC day, in days since 1970."""

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
"""Changes of state, cause, key and configuration."""

TOLD = Table(
    "told",
    SCHEMA,
    Column("sink", Text, primary_key=True),
    Column("alert", Text, primary_key=True),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What each sink was last told about each alert group, as JSON."""

ENGINE_MIGRATIONS = Table("engine_migrations", MetaData(), Column("name", Text, primary_key=True))
"""The engine's migrations that have run (PostgreSQL only, as the tables in due.sql)."""

Upgrade = Callable[[Connection], None]


def _add_told(connection: Connection) -> None:
    rows = "WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    connection.exec_driver_sql(
        "CREATE TABLE told ( sink TEXT NOT NULL, alert TEXT NOT NULL, body TEXT NOT NULL,"
        f" PRIMARY KEY (sink, alert) ) {rows}"
    )


_FROM_APPOINTMENTS = """
INSERT INTO due (connection_id, due_at, configuration, version, epoch, changed_at)
SELECT connection_id, to_timestamp(due_ms / 1000.0), '', configuration, epoch, now() FROM appointments;
DROP TABLE appointments;
DROP SEQUENCE appointment_changes"""


def add_due(connection: Connection) -> None:
    """Create the tables that replicas share, in a new database or one from before there were any."""
    replicated = inspect(connection).has_table("appointments")
    tables = Path(__file__).with_name("due.sql").read_text(encoding="utf-8")
    connection.connection.cursor().execute(tables + (_FROM_APPOINTMENTS if replicated else ""))


def _add_audits(connection: Connection) -> None:
    connection.exec_driver_sql(
        "CREATE TABLE audits ( connection_id INTEGER NOT NULL, body TEXT NOT NULL,"
        " PRIMARY KEY (connection_id), FOREIGN KEY(connection_id) REFERENCES connections (id) )"
    )


Upgrades = Mapping[int, Upgrade]
"""By schema version: the upgrade from that version to the next."""

UPGRADES: Mapping[str, Upgrades] = MappingProxyType(
    {
        "sqlite": {1: _add_told, 2: _add_audits},
        "postgresql": {1: _add_told, 2: add_due, 3: _add_audits},
    }
)
"""By dialect. If a change does not affect a dialect, its version stays, so that an older bearerwatch can
still open the database.

The tables above always have the newest version. An upgrade contains its own SQL and never refers to them, as
they will change again. All upgrades that are needed run in one transaction.
"""
