"""Appointments that several replicas keep together, in PostgreSQL: who checks which connection when.

1. A connection's appointment is one row. Who checks it holds the row; each time it is taken, its epoch grows.
2. A result is written only by the epoch under which the row was taken, with the next appointment, in one
   transaction (`settled`). Who slept meanwhile changes nothing.
3. A replica that has not been heard of for ALIVE_SECONDS holds nothing any more.
4. Time is the server's, so that the clocks of the replicas' machines do not matter.

All of it happens while no other writer is at work (`Place.writing`): it is short, and there is no deadlock.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, Row, Table, Text, text

from monitor.core.history import History
from monitor.store.place import Place, place_of
from monitor.store.waiting import Turn, milliseconds, moment

ALIVE_SECONDS = 10.0
"""After so long without a word a replica counts as dead. Ten of its words are lost by then; and the shortest
interval is as long, so that what it held is taken over within one."""

FORGOTTEN_SECONDS = 3600
"""For so long the row of a dead replica is left to be looked at."""

MINUTES_AN_HOUR = 60

SHARED = MetaData()

APPOINTMENTS = Table(
    "appointments",
    SHARED,
    Column("connection_id", Integer, primary_key=True),
    Column("due_ms", BigInteger, nullable=False),
    Column("wanted_ms", BigInteger),
    Column("configuration", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text),
    Column("change", BigInteger, nullable=False),
    Column("writer", Text),
    Index("appointments_by_due", "due_ms"),
    Index("appointments_by_change", "change"),
)
"""`wanted_ms`: when somebody wanted it next, since it was taken. `configuration`: of what is sent,
as the replica has it that loaded last. `change`: grows with each result; `writer`: whose it was."""

REPLICAS = Table(
    "replicas",
    SHARED,
    Column("id", Text, primary_key=True),
    Column("started_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("configuration", Text, nullable=False),
)

LOGINS = Table(
    "logins",
    SHARED,
    Column("username", Text, primary_key=True),
    Column("minute", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
)
"""Logins by the minute since 1970, for the budget that all checks of one username share."""

_MAKE = text("CREATE SEQUENCE IF NOT EXISTS appointment_changes")

_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")

_SEEN = text(
    "INSERT INTO replicas (id, started_ms, seen_ms, configuration) VALUES (:me, :now, :now, :configuration) "
    "ON CONFLICT (id) DO UPDATE SET seen_ms = :now, configuration = :configuration"
)
_FORGET = text("DELETE FROM replicas WHERE seen_ms < :before")
_ALIVE = text("SELECT id, configuration FROM replicas WHERE seen_ms >= :since ORDER BY started_ms, id")

_NAMES = text(
    "INSERT INTO connections (name) SELECT unnest(CAST(:names AS text[])) ON CONFLICT (name) DO NOTHING"
)
_WANT = text(
    "INSERT INTO appointments (connection_id, due_ms, configuration, epoch, change) "
    "SELECT c.id, w.due_ms, w.configuration, 0, nextval('appointment_changes') "
    "FROM unnest(CAST(:names AS text[]), CAST(:dues AS bigint[]), CAST(:configurations AS text[])) "
    "AS w (name, due_ms, configuration) JOIN connections c ON c.name = w.name "
    "ON CONFLICT (connection_id) DO UPDATE SET configuration = excluded.configuration, "
    "due_ms = least(appointments.due_ms, excluded.due_ms), "
    "wanted_ms = CASE WHEN appointments.configuration <> excluded.configuration "
    "THEN least(appointments.wanted_ms, excluded.due_ms) ELSE appointments.wanted_ms END "
    "WHERE :sooner OR appointments.configuration <> excluded.configuration"
)
"""An appointment at the latest at a moment. Where it is being kept just now with another configuration, the
next one too. Who begins wants none sooner than it is: it knows less than those who have been there."""

_TAKE = text(
    "UPDATE appointments a SET holder = :me, epoch = epoch + 1, wanted_ms = NULL "
    "FROM (SELECT connection_id FROM appointments "
    "WHERE due_ms <= :now AND (holder IS NULL OR holder <> ALL(CAST(:alive AS text[])) "
    "OR (holder = :me AND connection_id <> ALL(CAST(:busy AS int[])))) "
    "AND connection_id <> ALL(CAST(:foreign AS int[])) ORDER BY due_ms LIMIT :room) due "
    "WHERE a.connection_id = due.connection_id "
    "RETURNING a.connection_id, a.epoch, a.due_ms, a.configuration"
)
"""Those that are due and free; also what we hold without knowing it, as when the answer to this was lost."""

_TAKEN = text(
    "SELECT c.id, c.name, h.body FROM connections c LEFT JOIN histories h ON h.connection_id = c.id "
    "WHERE c.id = ANY(CAST(:ids AS int[]))"
)
_FREE = text(
    "UPDATE appointments a SET holder = NULL, due_ms = least(f.due_ms, a.wanted_ms) "
    "FROM unnest(CAST(:ids AS int[]), CAST(:epochs AS bigint[]), CAST(:dues AS bigint[])) "
    "AS f (connection_id, epoch, due_ms) WHERE a.connection_id = f.connection_id AND a.epoch = f.epoch"
)
_SETTLE = text(
    "UPDATE appointments a SET holder = NULL, due_ms = least(f.due_ms, a.wanted_ms), "
    "change = nextval('appointment_changes'), writer = f.writer "
    "FROM unnest(CAST(:ids AS int[]), CAST(:epochs AS bigint[]), CAST(:dues AS bigint[]), "
    "CAST(:writers AS text[])) AS f (connection_id, epoch, due_ms, writer) "
    "WHERE a.connection_id = f.connection_id AND a.epoch = f.epoch RETURNING a.connection_id"
)
_CHANGED = text(
    "SELECT c.name, a.due_ms, h.body FROM appointments a JOIN connections c ON c.id = a.connection_id "
    "JOIN histories h ON h.connection_id = a.connection_id "
    "WHERE a.change > :since AND a.writer IS DISTINCT FROM :me"
)
_LAST_CHANGE = text("SELECT last_value FROM appointment_changes")
_ALL = text(
    "SELECT c.id, c.name, a.configuration FROM appointments a JOIN connections c ON c.id = a.connection_id"
)
_REMOVE = text("DELETE FROM appointments WHERE connection_id = ANY(CAST(:ids AS int[])) AND holder IS NULL")
_LEAVE = (
    text("UPDATE appointments SET holder = NULL WHERE holder = :me"),
    text("DELETE FROM replicas WHERE id = :me"),
)
_LOGINS = text(
    "SELECT username, minute, count AS logins FROM logins "
    "WHERE username = ANY(CAST(:usernames AS text[])) AND minute > :since ORDER BY minute"
)
_COUNT_LOGINS = text(
    "INSERT INTO logins (username, minute, count) "
    "SELECT u.username, :minute, u.count FROM unnest(CAST(:usernames AS text[]), CAST(:counts AS int[])) "
    "AS u (username, count) "
    "ON CONFLICT (username, minute) DO UPDATE SET count = logins.count + excluded.count"
)
_FORGET_LOGINS = text("DELETE FROM logins WHERE minute <= :before")

_HISTORY = TypeAdapter(History)


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection that is ours to check, once."""

    name: str
    epoch: int
    due: datetime
    known: History | None
    """What is remembered of it; None where nothing is."""


@dataclass(frozen=True, slots=True)
class News:
    """A connection that another replica checked."""

    history: History
    due: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a replica has configured of a connection."""

    configuration: str
    """Changes with anything that is sent."""
    username: str
    due: datetime | None = None
    """When it is to be checked at the latest, where that is new."""


@dataclass(slots=True)
class Round:
    """What one word to the database brings."""

    taken: list[Taken] = field(default_factory=list)
    deferred: int = 0
    """Checks put off for want of logins."""
    news: dict[str, News] = field(default_factory=dict)
    alive: tuple[str, ...] = ()
    """Replicas, the eldest first."""
    configurations: int = 1
    """How many different ones they have."""
    scheduled: int | None = None
    """Our connections that have an appointment; None where it was not counted this time."""


class Appointments:
    """The tables, for one replica, in one thread. Each method is a transaction, or raises StoreError."""

    def __init__(self, place: Place, me: str) -> None:
        self._place = place
        self._me = me
        self._engine = place.engine(writes=True)
        self._connection: Connection | None = None
        self._ids: dict[str, int] = {}
        self._foreign: set[int] = set()
        self._change = -1

    @classmethod
    def open(cls, url: str, me: str) -> Self:
        """The tables at a URL, made where there are none. Raises StoreError."""
        place = place_of(url, 0)
        appointments = cls(place, me)
        with place.in_words(), appointments._engine.connect() as connection, place.writing(connection):
            SHARED.create_all(connection)
            connection.execute(_MAKE)
        return appointments

    def round(
        self,
        configuration: str,
        configured: Mapping[str, Wanted],
        *,
        wanted: Mapping[str, datetime],
        sooner: bool,
        busy: Iterable[str],
        given_back: Mapping[str, Turn],
        room: int,
        budget: int,
        judges: bool,
        reconcile: bool,
    ) -> Round:
        """Say that we live, want, give back and take; and hear what the others did.

        `configured` holds what this replica is to check. `wanted` are the moments at which it is to be
        checked at the latest; those that have an appointment get a `sooner` one only where that is asked.
        `busy` is held and under way, or yet to be written. A replica that `judges` takes from the dead: it
        has been heard of for long enough that the others could be.
        """
        with self._place.in_words():
            connection = self._open()
            try:
                with self._place.writing(connection):
                    now: int = connection.scalar(_NOW)
                    found = Round()
                    connection.execute(_SEEN, {"me": self._me, "now": now, "configuration": configuration})
                    self._hear_who_lives(connection, found, now)
                    self._want(connection, configured, wanted, sooner=sooner)
                    if reconcile:
                        self._reconcile(connection, found, configured, now)
                    self._give_back(connection, given_back)
                    if room > 0:
                        self._take(connection, found, configured, now, busy, room, budget, judges=judges)
                    change, rows = self._hear_what_changed(connection)
            except BaseException:
                self.close()
                raise
        self._change = change
        for row in rows:  # now that others may write again
            if (history := _history(row.body)) is not None:
                found.news[row.name] = News(history, moment(row.due_ms))
        return found

    def leave(self) -> None:
        """Give everything back, and be no replica any more."""
        with self._place.in_words():
            connection = self._open()
            with self._place.writing(connection):
                for statement in _LEAVE:
                    connection.execute(statement, {"me": self._me})
        self.close()

    def close(self) -> None:
        """Let go of the connection; the next word makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _hear_who_lives(self, connection: Connection, found: Round, now: int) -> None:
        rows = connection.execute(_ALIVE, {"since": now - round(ALIVE_SECONDS * 1000)}).all()
        found.alive = tuple(row.id for row in rows)
        found.configurations = len({row.configuration for row in rows})

    def _want(
        self,
        connection: Connection,
        configured: Mapping[str, Wanted],
        wanted: Mapping[str, datetime],
        *,
        sooner: bool,
    ) -> None:
        names = [name for name in wanted if name in configured]
        if not names:
            return
        connection.execute(_NAMES, {"names": names})
        connection.execute(
            _WANT,
            {
                "names": names,
                "dues": [milliseconds(wanted[name]) for name in names],
                "configurations": [configured[name].configuration for name in names],
                "sooner": sooner,
            },
        )

    def _reconcile(
        self, connection: Connection, found: Round, configured: Mapping[str, Wanted], now: int
    ) -> None:
        """An appointment for each configured connection, and none for others.

        While replicas differ in their configuration, nothing that another one may want is taken away.
        """
        rows = connection.execute(_ALL).all()
        there = {row.name: row.configuration for row in rows}
        self._ids = {row.name: row.id for row in rows}
        agreed = found.configurations == 1
        lacking = [
            name
            for name, one in configured.items()
            if name not in there or (agreed and there[name] != one.configuration)
        ]
        self._want(connection, configured, dict.fromkeys(lacking, moment(now)), sooner=False)
        if agreed:
            self._foreign.clear()
            surplus = [row.id for row in rows if row.name not in configured]
            connection.execute(_REMOVE, {"ids": surplus})
        found.scheduled = len(configured.keys() & there.keys())
        connection.execute(_FORGET, {"before": now - FORGOTTEN_SECONDS * 1000})
        connection.execute(_FORGET_LOGINS, {"before": now // 60_000 - MINUTES_AN_HOUR})

    def _give_back(self, connection: Connection, given_back: Mapping[str, Turn]) -> None:
        if turns := {self._ids[name]: turn for name, turn in given_back.items() if name in self._ids}:
            connection.execute(_FREE, _columns(turns))

    def _take(
        self,
        connection: Connection,
        found: Round,
        configured: Mapping[str, Wanted],
        now: int,
        busy: Iterable[str],
        room: int,
        budget: int,
        *,
        judges: bool,
    ) -> None:
        alive = found.alive if judges else (*found.alive, *self._holders(connection))
        rows = connection.execute(
            _TAKE,
            {
                "me": self._me,
                "now": now,
                "alive": list(alive),
                "busy": [self._ids[name] for name in busy if name in self._ids],
                "foreign": list(self._foreign),
                "room": room,
            },
        ).all()
        if not rows:
            return
        known = {
            row.id: row for row in connection.execute(_TAKEN, {"ids": [row.connection_id for row in rows]})
        }
        free: dict[int, Turn] = {}
        wishes: list[tuple[Any, str]] = []
        for row in sorted(rows, key=lambda row: row.due_ms):
            name = known[row.connection_id].name
            self._ids[name] = row.connection_id
            one = configured.get(name)
            body = known[row.connection_id].body
            if one is None or one.configuration != row.configuration or (body and _history(body) is None):
                # Another replica's: our configuration is older or doesn't have it, or our version is older.
                self._foreign.add(row.connection_id)
                free[row.connection_id] = Turn(row.epoch, row.due_ms, self._me)
            else:
                wishes.append((row, name))
        left = _Logins(connection, {configured[name].username for _, name in wishes}, now, budget)
        for row, name in wishes:
            if again_ms := left.take(configured[name].username):
                found.deferred += 1
                free[row.connection_id] = Turn(row.epoch, again_ms, self._me)
                continue
            found.taken.append(
                Taken(name, row.epoch, moment(row.due_ms), _history(known[row.connection_id].body))
            )
        left.count(connection)
        if free:
            connection.execute(_FREE, _columns(free))

    def _holders(self, connection: Connection) -> list[str]:
        return list(connection.scalars(text("SELECT DISTINCT holder FROM appointments WHERE holder > ''")))

    def _hear_what_changed(self, connection: Connection) -> tuple[int, Sequence[Row[Any]]]:
        """The last change there is, and the histories that others changed since the one we knew."""
        last: int = connection.scalar(_LAST_CHANGE)
        since = self._change if self._change <= last else -1  # an older database was put in its place
        return last, connection.execute(_CHANGED, {"since": since, "me": self._me}).all()


class _Logins:
    """The logins of the last hour, of a few usernames."""

    def __init__(self, connection: Connection, usernames: Iterable[str], now: int, budget: int) -> None:
        self._minute = now // 60_000
        self._budget = budget
        self._taken: Counter[str] = Counter()
        self._past: dict[str, dict[int, int]] = {}
        since = self._minute - MINUTES_AN_HOUR
        for row in connection.execute(_LOGINS, {"usernames": list(usernames), "since": since}):
            self._past.setdefault(row.username, {})[row.minute] = row.logins

    def take(self, username: str) -> int | None:
        """Take one login. Gives None where there was one, else the moment at which there is one again."""
        past = self._past.get(username, {})
        if sum(past.values()) + self._taken[username] >= self._budget:
            return (min(past, default=self._minute) + MINUTES_AN_HOUR) * 60_000
        self._taken[username] += 1
        return None

    def count(self, connection: Connection) -> None:
        """Write down what was taken."""
        if self._taken:
            connection.execute(
                _COUNT_LOGINS,
                {
                    "minute": self._minute,
                    "usernames": list(self._taken),
                    "counts": list(self._taken.values()),
                },
            )


def settled(connection: Connection, turns: Mapping[int, Turn]) -> set[int]:
    """Write down the next appointments. Gives the connections that were still ours to write of."""
    return set(
        connection.scalars(_SETTLE, _columns(turns) | {"writers": [turn.by for turn in turns.values()]})
    )


def _columns(turns: Mapping[int, Turn]) -> dict[str, list[Any]]:
    return {
        "ids": list(turns),
        "epochs": [turn.epoch for turn in turns.values()],
        "dues": [turn.due_ms for turn in turns.values()],
    }


def _history(body: str | None) -> History | None:
    """A history; None where there is none that this version can read."""
    if body is None:
        return None
    try:
        return _HISTORY.validate_json(body)
    except ValidationError:
        return None
