"""Who checks what, and when, in PostgreSQL: the rows that replicas share.

1. A connection has one row in `due`. It is free, or in the hands of one job of the engine (`watch.engine`).
2. A result is written only while the row is still in that job's hands, with the next due time, in the same
   transaction (`settled`). A job that was given up for dead writes nothing.
3. Times are the server's: a check says for how long, never when. The clocks of the replicas do not matter.
4. Login budgets are rows too. A job takes the logins of its checks as it begins, and gives back what it does
   not make.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from pydantic import ValidationError
from sqlalchemy import Connection

from monitor.core.history import History
from monitor.store import records
from monitor.store.schema import UPGRADES
from monitor.store.waiting import Turn

ALIVE_SECONDS = 10
"""After so long without a heartbeat a worker counts as dead. It is as long as the shortest interval, so what
a dead one held is checked again within one."""

TRANSACTION_ENDS_SECONDS = 10
"""Longer than any transaction lives (TRANSACTION_WITHIN_SECONDS in `postgresql`): what was changed longer ago
than this can be seen by all."""

RECENT_SECONDS = 120
"""Histories that changed longer ago are those that the store read when it was opened, seconds before a
replica first listens."""

EVER_SECONDS = 10**9
"""Afterwards all that changed is news: a replica may have been cut off for long."""

AT_ONCE = 2_000
"""Connections in the hands of jobs at most: a few seconds of work. Jobs that wait make each fetch slower."""

NOT_OURS_SECONDS = 60
"""For so long a row is put off that is in no configuration, until all replicas agree and it is removed."""

MINUTES_COUNTED = 62
"""An hour, and two minutes: a login may have been made at the end of the minute in which it was counted, or,
where its check had to wait for others, in the next one."""

Row = Any
"""A row with the names of its columns."""

Link = psycopg.AsyncConnection[Any]

_LOCK = "SELECT pg_advisory_xact_lock(x'64756573'::int)"
"""One plans at a time: so a budget is counted right, and two plans never wait for each other's rows."""

_NOW = """
SELECT now() AS now, (SELECT value FROM meta WHERE key = 'schema') AS schema,
  greatest(0, extract(epoch FROM now() - (SELECT min(due_at) FROM due)))::float AS overdue"""

_JOIN = "INSERT INTO replicas (worker, configuration) VALUES (%(worker)s, %(configuration)s)"
_ALIVE = """
SELECT r.worker, r.configuration FROM replicas r JOIN procrastinate_workers w ON w.id = r.worker
WHERE w.last_heartbeat > now() - %(alive)s * interval '1 second' ORDER BY r.worker"""

_FREE = (
    """
DELETE FROM replicas r WHERE NOT EXISTS (SELECT FROM procrastinate_workers w WHERE w.id = r.worker
  AND w.last_heartbeat > now() - %(alive)s * interval '1 second')""",
    """
DELETE FROM procrastinate_jobs j WHERE j.status = 'doing'
  AND NOT EXISTS (SELECT FROM replicas r WHERE r.worker = j.worker_id)
  OR j.status = 'todo'
  AND NOT EXISTS (SELECT FROM replicas r WHERE starts_with(j.queue_name, r.configuration))""",
    """
UPDATE due SET job = NULL WHERE connection_id IN (SELECT connection_id FROM due d WHERE d.job IS NOT NULL
  AND NOT EXISTS (SELECT FROM procrastinate_jobs j WHERE j.id = d.job) FOR UPDATE SKIP LOCKED)""",
)
"""Dead replicas, what they were doing, what waits for a configuration that nobody has; and so the rows."""

_TAKE = """
SELECT d.connection_id AS id, c.name FROM due d JOIN connections c ON c.id = d.connection_id
WHERE d.due_at <= now() AND d.job IS NULL
  AND (d.configuration = %(mine)s
    OR NOT EXISTS (SELECT FROM replicas r WHERE r.configuration = d.configuration))
ORDER BY d.due_at LIMIT greatest(0, %(at_once)s - (SELECT count(*) FROM due WHERE job IS NOT NULL))
FOR UPDATE OF d SKIP LOCKED"""
_GIVE = """
UPDATE due d SET job = s.job, configuration = %(mine)s, version = s.version
FROM unnest(%(ids)s::int[], %(jobs)s::bigint[], %(versions)s::text[]) AS s (id, job, version)
WHERE d.connection_id = s.id"""
_PUT_OFF = """
UPDATE due d SET job = NULL, due_at = now() + s.seconds * interval '1 second', writer = NULL,
  changed_at = clock_timestamp()
FROM unnest(%(ids)s::int[], %(seconds)s::float[]) AS s (id, seconds) WHERE d.connection_id = s.id"""
_SLICE = """
SELECT d.connection_id AS id, c.name, d.epoch, extract(epoch FROM now() - d.due_at)::float AS late, h.body
FROM due d JOIN connections c ON c.id = d.connection_id
LEFT JOIN histories h ON h.connection_id = d.connection_id
WHERE d.job = %(job)s AND EXISTS (
  SELECT FROM procrastinate_jobs j WHERE j.id = %(job)s AND j.worker_id = %(worker)s AND j.status = 'doing')
ORDER BY d.due_at"""
_RETURN = """
UPDATE due d SET job = NULL, due_at = now() + %(seconds)s * interval '1 second'
FROM connections c WHERE c.id = d.connection_id AND c.name = ANY(%(names)s) AND d.job = %(job)s
RETURNING c.name"""
_SETTLE = """
WITH turns AS (
  SELECT * FROM unnest(%(ids)s::int[], %(epochs)s::bigint[], %(jobs)s::bigint[], %(seconds)s::float[],
    %(writers)s::text[]) AS s (id, epoch, job, seconds, writer)
), ours AS (
  SELECT d.connection_id, s.seconds, s.writer FROM due d JOIN turns s ON s.id = d.connection_id
  WHERE d.epoch = s.epoch AND d.job = s.job ORDER BY d.connection_id FOR UPDATE OF d
)
UPDATE due d SET job = NULL, epoch = d.epoch + 1, due_at = now() + ours.seconds * interval '1 second',
  writer = ours.writer, changed_at = clock_timestamp()
FROM ours WHERE d.connection_id = ours.connection_id RETURNING d.connection_id"""

_NAMES = """
INSERT INTO connections (name) SELECT n FROM unnest(%(names)s::text[]) AS n
WHERE NOT EXISTS (SELECT FROM connections c WHERE c.name = n) ORDER BY n ON CONFLICT (name) DO NOTHING"""
_WANT = """
INSERT INTO due (connection_id, due_at, configuration, version, epoch, changed_at)
SELECT c.id, now() + w.seconds * interval '1 second', %(mine)s, w.version, 0, clock_timestamp()
FROM unnest(%(names)s::text[], %(seconds)s::float[], %(versions)s::text[]) AS w (name, seconds, version)
JOIN connections c ON c.name = w.name ORDER BY c.id
ON CONFLICT (connection_id) DO UPDATE SET due_at = least(due.due_at, excluded.due_at),
  configuration = CASE due.version WHEN excluded.version THEN due.configuration
    ELSE excluded.configuration END,
  job = CASE due.version WHEN excluded.version THEN due.job END, version = excluded.version
WHERE %(sooner)s OR due.version <> excluded.version"""
"""A check at the latest in so many seconds. What a job holds in another version is taken from it."""
_RECONCILE = """
WITH wanted AS (
  SELECT c.id, w.version FROM unnest(%(names)s::text[], %(versions)s::text[]) AS w (name, version)
  JOIN connections c ON c.name = w.name
), lacking AS (
  INSERT INTO due (connection_id, due_at, configuration, version, epoch, changed_at)
  SELECT w.id, now(), %(mine)s, w.version, 0, clock_timestamp() FROM wanted w
  WHERE NOT EXISTS (SELECT FROM due d WHERE d.connection_id = w.id) ORDER BY w.id ON CONFLICT DO NOTHING
), surplus AS (
  DELETE FROM due d WHERE %(agreed)s AND d.job IS NULL
  AND NOT EXISTS (SELECT FROM wanted w WHERE w.id = d.connection_id)
)
SELECT count(*) AS there FROM wanted w JOIN due d ON d.connection_id = w.id"""

_CHANGED = """
SELECT connection_id AS id, changed_at FROM due
WHERE changed_at > %(since)s::timestamptz - %(overlap)s * interval '1 second'
AND writer IS DISTINCT FROM %(me)s"""
_NEWS = """
SELECT c.name, CASE WHEN d.changed_at > now() - %(recent)s * interval '1 second' THEN h.body END AS body,
  extract(epoch FROM d.due_at - now())::float AS seconds
FROM due d JOIN connections c ON c.id = d.connection_id JOIN histories h ON h.connection_id = c.id
WHERE d.connection_id = ANY(%(ids)s)"""

_LOGINS = """
SELECT username, sum(count)::int AS made,
  (min(minute) + %(minutes)s - extract(epoch FROM now())::int / 60) * 60.0::float AS again
FROM login_budgets WHERE budget = %(budget)s AND username = ANY(%(usernames)s) AND count > 0
AND minute > extract(epoch FROM now())::int / 60 - %(minutes)s GROUP BY username"""
_COUNT = """
INSERT INTO login_budgets (budget, username, minute, count)
SELECT %(budget)s, u.username, extract(epoch FROM now())::int / 60, u.count
FROM unnest(%(usernames)s::text[], %(counts)s::int[]) AS u (username, count)
ON CONFLICT (budget, username, minute) DO UPDATE SET count = login_budgets.count + excluded.count"""
_UNCOUNT = """
UPDATE login_budgets b SET count = greatest(0, b.count - u.count)
FROM unnest(%(usernames)s::text[], %(counts)s::int[]) AS u (username, count)
WHERE b.budget = %(budget)s AND b.username = u.username AND b.minute = (
  SELECT max(minute) FROM login_budgets WHERE budget = b.budget AND username = b.username AND count > 0)"""
_FORGET = "DELETE FROM login_budgets WHERE minute <= extract(epoch FROM now())::int / 60 - %(minutes)s"


class Budget(StrEnum):
    """What logins are for; each has a budget of its own."""

    CHECKS = "checks"
    NEXT_KEYS = "next_keys"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a replica has configured of a connection."""

    version: str
    """Changes with anything that is sent."""
    username: str


@dataclass(frozen=True, slots=True)
class Configured:
    """What a replica has configured."""

    mark: str
    """Differs where replicas watch differently; the name of the queue."""
    connections: Mapping[str, Wanted]
    logins_per_hour: int
    """The budget of each username's checks."""


@dataclass(frozen=True, slots=True)
class News:
    """A connection that another replica checked, or whose check was put off; and how soon it is due."""

    history: History | None
    """None where it is as it was when the store was opened."""
    unreadable: str
    """Why this version can't read what is remembered; empty where it can."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """A connection in the hands of a job."""

    name: str
    epoch: int
    late: float
    """Seconds since it was due."""
    known: History | None
    """What is remembered of it; None where nothing is."""
    unreadable: str
    """Why this version can't read what is remembered; empty where it can."""


@dataclass(slots=True)
class Heard:
    """The state of the shared tables: who is alive, and what is new since the last time."""

    schema: bool = True
    """Whether the tables are of the version that we know."""
    alive: Sequence[tuple[int, str]] = ()
    """Workers and their configurations, the last that began at the end."""
    news: dict[str, News] = field(default_factory=dict)
    overdue: float = 0.0
    """Seconds since the connection was due that has waited longest."""


async def server_time(link: Link) -> datetime:
    """The present moment by the server's clock."""
    now: datetime = (await _one(link, "SELECT clock_timestamp() AS now")).now
    return now


class Ear:
    """Reads what others changed, each change once, however late its transaction ended."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._since: datetime | None = None
        self._heard: dict[int, datetime] = {}

    async def listen(self, link: Link) -> Heard:
        """All that is new."""
        async with link.transaction():
            head = await _one(link, _NOW)
            alive = await _all(link, _ALIVE, alive=ALIVE_SECONDS)
            # A copy that takes over may have an earlier clock.
            since = min(self._since, head.now) if self._since else "-infinity"
            changed = await _all(link, _CHANGED, since=since, overlap=TRANSACTION_ENDS_SECONDS, me=self._me)
            new = [row.id for row in changed if self._heard.get(row.id) != row.changed_at]
            recent = RECENT_SECONDS if self._since is None else EVER_SECONDS
            rows = await _all(link, _NEWS, ids=new, recent=recent) if new else []
        self._since, self._heard = head.now, {row.id: row.changed_at for row in changed}
        return Heard(
            head.schema == str(1 + len(UPGRADES["postgresql"])),
            [(row.worker, row.configuration) for row in alive],
            await asyncio.to_thread(_news, rows),
            head.overdue,
        )


def _news(rows: Sequence[Row]) -> dict[str, News]:
    return {row.name: News(*_known(row.body), row.seconds) for row in rows}


async def join(link: Link, worker: int, configuration: str) -> None:
    """Let the others know of a worker, and which configuration it has."""
    async with link.transaction():
        await link.execute(_JOIN, {"worker": worker, "configuration": configuration})


async def want(link: Link, configured: Configured, seconds: Mapping[str, float], *, sooner: bool) -> None:
    """Have these connections checked within so many seconds; `sooner` where they have a due time already."""
    names = [name for name in seconds if name in configured.connections]
    async with link.transaction():
        await link.execute(_LOCK)
        await link.execute(_NAMES, {"names": names})
        values = {
            "mine": configured.mark,
            "names": names,
            "seconds": [float(seconds[name]) for name in names],
            "versions": [configured.connections[name].version for name in names],
            "sooner": sooner,
        }
        await link.execute(_WANT, values)


async def reconcile(link: Link, configured: Configured, *, agreed: bool) -> int:
    """A row for each connection; none for others, where all are `agreed`. How many of ours there are."""
    names = list(configured.connections)
    versions = [one.version for one in configured.connections.values()]
    async with link.transaction():
        await link.execute(_LOCK)
        await link.execute(_NAMES, {"names": names})
        await link.execute(_FORGET, {"minutes": MINUTES_COUNTED})
        row = await _one(
            link, _RECONCILE, names=names, versions=versions, mine=configured.mark, agreed=agreed
        )
    return int(row.there)


@asynccontextmanager
async def planning(link: Link) -> AsyncIterator[None]:
    """A transaction in which nobody else plans."""
    async with link.transaction():
        await link.execute(_LOCK)
        yield


async def free(link: Link) -> None:
    """Take from the dead, within `planning`."""
    for statement in _FREE:
        await link.execute(statement, {"alive": ALIVE_SECONDS} if "%(" in statement else None)


async def take(link: Link, configured: Configured) -> list[tuple[int, str]]:
    """What is due (id, name), within `planning`."""
    rows = await _all(link, _TAKE, mine=configured.mark, at_once=AT_ONCE)
    await _put_off(link, {row.id: NOT_OURS_SECONDS for row in rows if row.name not in configured.connections})
    return [(row.id, row.name) for row in rows if row.name in configured.connections]


async def _put_off(link: Link, seconds: Mapping[int, float]) -> None:
    if seconds:
        await link.execute(_PUT_OFF, {"ids": list(seconds), "seconds": list(seconds.values())})


async def give(link: Link, configured: Configured, hands: Sequence[tuple[int, str, int]]) -> None:
    """Put connections (id, name) into the hands of jobs, within `planning`."""
    values = {
        "mine": configured.mark,
        "ids": [row for row, _, _ in hands],
        "jobs": [job for _, _, job in hands],
        "versions": [configured.connections[name].version for _, name, _ in hands],
    }
    await link.execute(_GIVE, values)


async def held(link: Link, configured: Configured, job: int, worker: int) -> tuple[list[Held], int]:
    """What is in the hands of a job that a worker runs, each with a login; and how many were put off for want
    of one. Nothing where the job was given up for dead.
    """
    async with planning(link):
        rows = await _all(link, _SLICE, job=job, worker=worker)
        known = {row.name: _known(row.body) for row in rows}
        asking = [row for row in rows if not known[row.name][1]]
        users = [configured.connections[row.name].username for row in asking]
        waits = await _logins(link, Budget.CHECKS, users, configured.logins_per_hour)
        put_off = {row.id: wait for row, wait in zip(asking, waits, strict=True) if wait is not None}
        await _put_off(link, put_off)
    found = [Held(row.name, row.epoch, row.late, *known[row.name]) for row in rows if row.id not in put_off]
    return found, len(put_off)


async def give_back(
    link: Link, configured: Configured, job: int, names: Collection[str], seconds: float, *, unused: bool
) -> None:
    """Let go of connections of which nothing is to be written, to be looked at again after a while.

    `unused`: their logins were not made.
    """
    async with planning(link):
        rows = await _all(link, _RETURN, names=list(names), job=job, seconds=seconds)
        logins = Counter(configured.connections[row.name].username.lower() for row in rows)
        if unused and logins:
            values = {"usernames": list(logins), "counts": list(logins.values()), "budget": Budget.CHECKS}
            await link.execute(_UNCOUNT, values)


async def take_next_key(link: Link, username: str, per_hour: int) -> bool:
    """Take one login for a try of a next key. Whether there was one."""
    async with planning(link):
        return await _logins(link, Budget.NEXT_KEYS, [username], per_hour) == [None]


def settled(connection: Connection, turns: Mapping[int, Turn]) -> set[int]:
    """Write the next due times. Gives the connections that were still in the hands of our jobs."""
    values = {
        "ids": list(turns),
        "epochs": [turn.epoch for turn in turns.values()],
        "jobs": [turn.job for turn in turns.values()],
        "seconds": [turn.seconds_left() for turn in turns.values()],
        "writers": [turn.by for turn in turns.values()],
    }
    return set(connection.exec_driver_sql(_SETTLE, values).scalars())


async def _logins(link: Link, budget: Budget, usernames: Sequence[str], per_hour: int) -> list[float | None]:
    """Take a login for each of these, within `planning`: None, or in how many seconds there is one again."""
    folded = [username.lower() for username in usernames]  # as Salesforce compares them
    rows = await _all(link, _LOGINS, budget=budget, usernames=folded, minutes=MINUTES_COUNTED)
    past = {row.username: row for row in rows}
    taken: Counter[str] = Counter()
    waits: list[float | None] = []
    for username in folded:
        made, again = past.get(username, (username, 0, MINUTES_COUNTED * 60.0))[1:]
        waits.append(None if made + taken[username] < per_hour else again)
        taken[username] += waits[-1] is None
    if made_now := +taken:
        values = {"usernames": list(made_now), "counts": list(made_now.values()), "budget": budget}
        await link.execute(_COUNT, values)
    return waits


def _known(body: str | None) -> tuple[History | None, str]:
    """A history, None where there is none; and why this version can't read what there is."""
    try:
        return (None if body is None else records.read(body)), ""
    except ValidationError as error:
        return None, records.why(error)


async def _all(link: Link, statement: str, **values: object) -> list[Row]:
    async with link.cursor(row_factory=namedtuple_row) as cursor:
        return await (await cursor.execute(statement, values or None)).fetchall()


async def _one(link: Link, statement: str, **values: object) -> Row:
    [row] = await _all(link, statement, **values)
    return row
