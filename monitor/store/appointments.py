"""Appointments that several replicas keep together, in PostgreSQL: who checks which connection when.

1. A connection's appointment is one row. Who checks it holds the row; each time it is taken or its result is
   written, its epoch grows.
2. A result is written only by the epoch under which the row was taken, with the next appointment, in one
   transaction (`settled`). Who slept meanwhile changes nothing.
3. A replica that has not been heard of for ALIVE_SECONDS holds nothing any more.
4. Time is the server's, so that the clocks of the replicas' machines do not matter.

All of it happens while no other writer is at work (`Place.writing`): it is short, and there is no deadlock.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from pydantic import ValidationError
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, Row, Table, Text, text

from monitor.core.history import History
from monitor.store import records
from monitor.store.logins import LOGINS, Budget, Logins, forget_logins
from monitor.store.place import Place, place_of
from monitor.store.waiting import Turn, milliseconds, moment

ALIVE_SECONDS = 10.0
"""After so long without a word a replica counts as dead. Ten of its words are lost by then; and the shortest
interval is as long, so that what it held is taken over within one."""

FORGOTTEN_SECONDS = 3600
"""For so long the row of a dead replica is left to be looked at."""

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
    "WHERE due_ms <= :now AND (holder IS NULL OR holder = :me OR holder <> ALL(CAST(:alive AS text[]))) "
    "AND connection_id <> ALL(CAST(:not_these AS int[])) ORDER BY due_ms LIMIT :room) due "
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
_PUT_OFF = text(
    "UPDATE appointments a SET change = nextval('appointment_changes'), writer = :me "
    "WHERE a.connection_id = ANY(CAST(:ids AS int[]))"
)
"""So that the others hear of the later moment."""

_SETTLE = text(
    "UPDATE appointments a SET holder = NULL, epoch = a.epoch + 1, due_ms = least(f.due_ms, a.wanted_ms), "
    "change = nextval('appointment_changes'), writer = f.writer "
    "FROM unnest(CAST(:ids AS int[]), CAST(:epochs AS bigint[]), CAST(:dues AS bigint[]), "
    "CAST(:writers AS text[])) AS f (connection_id, epoch, due_ms, writer) "
    "WHERE a.connection_id = f.connection_id AND a.epoch = f.epoch RETURNING a.connection_id"
)
"""A turn is good for one write: its epoch ends with it. Where the answer to a commit is lost, the store tries
again to write what may be there."""
_CHANGED = text(
    "SELECT c.name, a.due_ms, h.body FROM appointments a JOIN connections c ON c.id = a.connection_id "
    "JOIN histories h ON h.connection_id = a.connection_id "
    "WHERE a.change > :since AND a.writer IS DISTINCT FROM :me"
)
_LAST_CHANGE = text("SELECT last_value FROM appointment_changes")
_HOLDERS = text("SELECT DISTINCT holder FROM appointments WHERE holder > ''")
_ALL = text(
    "SELECT c.id, c.name, a.configuration FROM appointments a JOIN connections c ON c.id = a.connection_id"
)
_REMOVE = text("DELETE FROM appointments WHERE connection_id = ANY(CAST(:ids AS int[])) AND holder IS NULL")
_LEAVE = (
    text("UPDATE appointments SET holder = NULL WHERE holder = :me"),
    text("DELETE FROM replicas WHERE id = :me"),
)


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
    """A connection that another replica checked, or whose check was put off."""

    history: History
    due: datetime


@dataclass(frozen=True, slots=True)
class Configured:
    """What a replica has configured of a connection."""

    configuration: str
    """Changes with anything that is sent."""
    username: str


@dataclass(frozen=True, slots=True)
class Word:
    """What a replica says of itself, and what it wants."""

    configuration: str
    """Differs where replicas watch differently."""
    configured: Mapping[str, Configured]
    """What it is to check, by name."""
    logins_per_hour: int
    """The budget of each username's checks."""
    wanted: Mapping[str, datetime] = field(default_factory=dict)
    """The moments at which connections are to be checked at the latest."""
    sooner: bool = True
    """Whether those that have an appointment get a sooner one."""
    busy: Collection[str] = ()
    """Held and under way, or yet to be written."""
    given_back: Mapping[str, Turn] = field(default_factory=dict)
    room: int = 0
    """How many connections it would take."""
    judges: bool = False
    """Whether it takes from the dead: it has been there for long enough that the others could be heard of."""
    reconcile: bool = False
    """Whether appointments are compared with what is configured."""


@dataclass(slots=True)
class Heard:
    """What one word to the database brings."""

    alive: tuple[str, ...]
    """Replicas, the eldest first."""
    configurations: int
    """How many different ones they have."""
    scheduled: int | None = None
    """Our connections that have an appointment; None where it was not counted this time."""
    taken: list[Taken] = field(default_factory=list)
    deferred: int = 0
    """Checks put off for want of logins."""
    news: dict[str, News] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Held:
    """An appointment that has just been taken, before it is known whether it is for us."""

    id: int
    name: str
    epoch: int
    due_ms: int
    configuration: str
    known: History | None
    readable: bool


class Appointments:
    """The tables, for one replica, in one thread. Each method is a transaction, or raises StoreError."""

    def __init__(self, place: Place, me: str) -> None:
        self._place = place
        self._me = me
        self._engine = place.engine(writes=True)
        self._connection: Connection | None = None
        self._ids: dict[str, int] = {}
        self._foreign: set[int] = set()
        """What another replica has in a newer configuration or version."""
        self._change = -1

    @classmethod
    def open(cls, url: str, me: str) -> Self:
        """The tables at a URL, made where there are none. Raises StoreError."""
        place = place_of(url, 0)
        appointments = cls(place, me)
        with place.in_words(), appointments._engine.connect() as connection, place.writing(connection):
            SHARED.create_all(connection)
            LOGINS.create(connection, checkfirst=True)
            connection.execute(_MAKE)
        return appointments

    def say(self, word: Word) -> Heard:
        """Say that we live, want, give back and take; and hear what the others did."""
        with self._writing() as connection:
            now = _now(connection)
            heard = self._who_lives(connection, word.configuration, now)
            self._want(connection, word.configured, word.wanted, sooner=word.sooner)
            if word.reconcile:
                agreed = heard.configurations == 1
                heard.scheduled = self._reconciled(connection, word.configured, now, agreed=agreed)
            self._give_back(connection, word.given_back)
            if word.room > 0:
                not_from = heard.alive if word.judges else (*heard.alive, *_holders(connection))
                self._take(connection, word, not_from, now, heard)
            change, rows = self._changed(connection)
        self._change = change
        for row in rows:  # now that others may write again
            if (history := _history(row.body)) is not None:
                heard.news[row.name] = News(history, moment(row.due_ms))
        return heard

    def take_next_key(self, username: str, per_hour: int) -> bool:
        """Take one login for a try of a next key. Whether there was one."""
        with self._writing() as connection:
            left = Logins(connection, Budget.NEXT_KEYS, [username], per_hour, _now(connection))
            there = left.take(username) is None
            left.count()
        return there

    def leave(self) -> None:
        """Give everything back, and be no replica any more."""
        with self._writing() as connection:
            for statement in _LEAVE:
                connection.execute(statement, {"me": self._me})
        self.close()

    def close(self) -> None:
        """Let go of the connection; the next word makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._place.in_words():
            if self._connection is None:
                self._connection = self._engine.connect()
            try:
                with self._place.writing(self._connection):
                    yield self._connection
            except BaseException:
                self.close()
                raise

    def _who_lives(self, connection: Connection, configuration: str, now: int) -> Heard:
        """Say that we do, and hear who else does."""
        connection.execute(_SEEN, {"me": self._me, "now": now, "configuration": configuration})
        rows = connection.execute(_ALIVE, {"since": now - round(ALIVE_SECONDS * 1000)}).all()
        return Heard(tuple(row.id for row in rows), len({row.configuration for row in rows}))

    def _want(
        self,
        connection: Connection,
        configured: Mapping[str, Configured],
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

    def _reconciled(
        self, connection: Connection, configured: Mapping[str, Configured], now: int, *, agreed: bool
    ) -> int:
        """An appointment for each configured connection, and none for others. How many of ours there were.

        While replicas differ in their configuration, nothing that another one may want is taken away.
        """
        rows = connection.execute(_ALL).all()
        there = {row.name: row.configuration for row in rows}
        self._ids = {row.name: row.id for row in rows}
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
        connection.execute(_FORGET, {"before": now - FORGOTTEN_SECONDS * 1000})
        forget_logins(connection, now)
        return len(configured.keys() & there.keys())

    def _give_back(self, connection: Connection, given_back: Mapping[str, Turn]) -> None:
        _free(connection, {self._ids[name]: turn for name, turn in given_back.items() if name in self._ids})

    def _take(
        self, connection: Connection, word: Word, not_from: Sequence[str], now: int, heard: Heard
    ) -> None:
        """What is ours to check, and what is put off for want of logins."""
        held = self._hold(connection, word, not_from, now)
        if not held:
            return
        ours: list[tuple[_Held, str]] = []
        free: dict[int, Turn] = {}
        for one in held:
            wanted = word.configured.get(one.name)
            if wanted and wanted.configuration == one.configuration and one.readable:
                ours.append((one, wanted.username))
            else:
                # Another replica's: our configuration is older or doesn't have it, or our version is older.
                self._foreign.add(one.id)
                free[one.id] = Turn(one.epoch, one.due_ms, self._me)
        left = Logins(
            connection, Budget.CHECKS, {username for _, username in ours}, word.logins_per_hour, now
        )
        put_off: list[int] = []
        for one, username in ours:
            if again_ms := left.take(username):
                free[one.id] = Turn(one.epoch, again_ms, self._me)
                put_off.append(one.id)
                if one.known:
                    heard.news[one.name] = News(one.known, moment(again_ms))
            else:
                heard.taken.append(Taken(one.name, one.epoch, moment(one.due_ms), one.known))
        left.count()
        _free(connection, free)
        if put_off:
            connection.execute(_PUT_OFF, {"ids": put_off, "me": self._me})
        heard.deferred = len(put_off)

    def _hold(self, connection: Connection, word: Word, not_from: Sequence[str], now: int) -> list[_Held]:
        """Become the holder of what is due and free; what was due first comes first."""
        rows = connection.execute(
            _TAKE,
            {
                "me": self._me,
                "now": now,
                "alive": list(not_from),
                "not_these": [*self._foreign, *(self._ids[name] for name in word.busy if name in self._ids)],
                "room": word.room,
            },
        ).all()
        if not rows:
            return []
        of = {row.id: row for row in connection.execute(_TAKEN, {"ids": [row.connection_id for row in rows]})}
        self._ids |= {row.name: row.id for row in of.values()}
        held: list[_Held] = []
        for row in sorted(rows, key=lambda row: row.due_ms):
            name, body = of[row.connection_id].name, of[row.connection_id].body
            known = _history(body)
            readable = body is None or known is not None
            held.append(
                _Held(row.connection_id, name, row.epoch, row.due_ms, row.configuration, known, readable)
            )
        return held

    def _changed(self, connection: Connection) -> tuple[int, Sequence[Row[Any]]]:
        """The last change there is, and the histories that others changed since the one we knew."""
        last: int = connection.scalar(_LAST_CHANGE)
        since = self._change if self._change <= last else -1  # an older database was put in its place
        return last, connection.execute(_CHANGED, {"since": since, "me": self._me}).all()


def settled(connection: Connection, turns: Mapping[int, Turn]) -> set[int]:
    """Write down the next appointments. Gives the connections that were still ours to write of."""
    return set(
        connection.scalars(_SETTLE, _columns(turns) | {"writers": [turn.by for turn in turns.values()]})
    )


def _free(connection: Connection, turns: Mapping[int, Turn]) -> None:
    if turns:
        connection.execute(_FREE, _columns(turns))


def _holders(connection: Connection) -> list[str]:
    return list(connection.scalars(_HOLDERS))


def _now(connection: Connection) -> int:
    """Milliseconds since 1970, by the server's clock."""
    now: int = connection.scalar(_NOW)
    return now


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
        return records.read(body)
    except ValidationError:
        return None
