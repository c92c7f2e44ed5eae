"""Which replica checks what, and when: the tables that replicas share in PostgreSQL.

1. A connection has one row in `due`. It is free, or held by one job of the engine (`watch.worker`).
2. A result and the next due time are written in one transaction, and only while the job still holds the row
   (`settled`). A job that was declared dead writes nothing.
3. Times come from the server. A check gives an interval, never a time, so the replicas' clocks do not matter.
4. Login budgets are rows too. A job takes the logins for its checks when it begins.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from pydantic import ValidationError
from sqlalchemy import Connection

from monitor.core.history import History
from monitor.store import records
from monitor.store.schema import UPGRADES
from monitor.store.waiting import Lease

ALIVE_SECONDS = 10
"""A worker without a heartbeat for this long counts as dead. Equal to the shortest interval, so that what it
held is checked again within one."""

SURE_SECONDS = ALIVE_SECONDS - 3
"""How long after a heartbeat a check may begin, so that its login reaches the org before another worker could
take over. That takes milliseconds, or seconds on an overloaded machine."""

TRANSACTION_ENDS_SECONDS = 10
"""Longer than any transaction (TRANSACTION_WITHIN_SECONDS in `postgresql`): older changes are visible to
all."""

RECENT_SECONDS = 120
"""A new replica's first read covers this much: the store read all older changes when it was opened, seconds
earlier. Later reads cover everything, as a replica may have been cut off for a long time."""

SLICE = 25
"""Connections per job. One job per connection costs PostgreSQL ten times as much."""

AT_ONCE = 2_000
"""Most connections held by jobs: a few seconds of work. Queued jobs slow down each fetch."""

MINUTES_COUNTED = 62
"""An hour plus two minutes: a login may happen at the end of the minute it was counted in, or in the next one
if its check had to queue."""

APART_SECONDS = 3.0
"""From a result to a check that somebody asked for: they may not have seen the result yet, on another
replica."""

Row = Any
"""A row whose columns are attributes."""

Link = psycopg.AsyncConnection[Any]

_LOCK = "SELECT pg_advisory_xact_lock(x'64756573'::int)"
"""One planner at a time: budgets are counted right, and planners never deadlock on rows."""

_NOW = """
SELECT now() AS now, (SELECT value FROM meta WHERE key = 'schema') AS schema,
  greatest(0, extract(epoch FROM now() - (SELECT min(due_at) FROM due)))::float AS overdue"""

_JOIN = "INSERT INTO replicas (worker, configuration) VALUES (%(worker)s, %(configuration)s)"
_ALIVE = """
SELECT r.worker, r.configuration FROM replicas r JOIN procrastinate_workers w ON w.id = r.worker
WHERE w.last_heartbeat > now() - %(alive)s * interval '1 second' ORDER BY r.worker"""

_BEAT = """
SELECT procrastinate_update_heartbeat_v1(w.id) FROM procrastinate_workers w JOIN replicas r ON r.worker = w.id
WHERE w.id = %(worker)s AND w.last_heartbeat > now() - %(sure)s * interval '1 second'"""
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
"""Removes dead replicas, their jobs, and jobs for a configuration without replicas; frees the rows."""

_TAKE = """
SELECT connection_id AS id FROM due WHERE due_at <= now() AND job IS NULL AND configuration = %(mine)s
ORDER BY due_at LIMIT greatest(0, %(at_once)s - (SELECT count(*) FROM due WHERE job IS NOT NULL))
FOR UPDATE SKIP LOCKED"""
_GIVE = """
UPDATE due d SET job = s.job FROM unnest(%(ids)s::int[], %(jobs)s::bigint[]) AS s (id, job)
WHERE d.connection_id = s.id"""
_PUT_OFF = """
UPDATE due d SET job = NULL, due_at = now() + s.seconds * interval '1 second', writer = NULL,
  changed_at = clock_timestamp()
FROM unnest(%(ids)s::int[], %(seconds)s::float[]) AS s (id, seconds)
WHERE d.connection_id = s.id AND d.job = %(job)s"""
_APPOINTMENTS = """
SELECT d.connection_id AS id, c.name, d.epoch, extract(epoch FROM d.due_at - now())::float AS seconds,
  CASE WHEN d.changed_at > %(since)s::timestamptz THEN h.body END AS body, a.body AS audit
FROM due d JOIN connections c ON c.id = d.connection_id
LEFT JOIN histories h ON h.connection_id = d.connection_id
LEFT JOIN audits a ON a.connection_id = d.connection_id """
_OF_JOB = """
WHERE d.job = %(job)s AND EXISTS (
  SELECT FROM procrastinate_jobs j WHERE j.id = %(job)s AND j.worker_id = %(worker)s AND j.status = 'doing')
ORDER BY d.due_at"""
_SETTLE = """
WITH leases AS (
  SELECT * FROM unnest(%(ids)s::int[], %(epochs)s::bigint[], %(jobs)s::bigint[], %(seconds)s::float[],
    %(writers)s::text[]) AS s (id, epoch, job, seconds, writer)
), ours AS (
  SELECT d.connection_id, s.seconds, s.writer FROM due d JOIN leases s ON s.id = d.connection_id
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
ON CONFLICT (connection_id) DO UPDATE SET due_at = least(due.due_at, greatest(excluded.due_at,
    CASE WHEN due.writer IS NOT NULL THEN due.changed_at + %(apart)s * interval '1 second' END)),
  configuration = CASE WHEN %(claim)s THEN excluded.configuration ELSE due.configuration END,
  job = CASE WHEN %(claim)s THEN NULL ELSE due.job END,
  version = CASE WHEN %(claim)s THEN excluded.version ELSE due.version END
WHERE NOT %(claim)s OR due.version <> excluded.version"""
"""A check within the given seconds. A claim changes only rows of another version, and takes them from their
jobs."""
_RECONCILE = """
WITH ours AS (
  SELECT w.name, w.version, c.id FROM unnest(%(names)s::text[], %(versions)s::text[]) AS w (name, version)
  LEFT JOIN connections c ON c.name = w.name
), adopted AS (
  UPDATE due d SET configuration = %(mine)s, version = ours.version FROM ours
  WHERE ours.id = d.connection_id AND d.configuration <> ALL(%(alive)s)
  AND (d.version = ours.version OR %(agreed)s OR %(late)s AND d.due_at < now() - interval '1 minute')
), surplus AS (
  DELETE FROM due d WHERE d.job IS NULL AND NOT EXISTS (SELECT FROM ours WHERE ours.id = d.connection_id)
  AND (%(agreed)s
    OR %(late)s AND d.configuration <> ALL(%(alive)s) AND d.due_at < now() - interval '1 minute')
)
SELECT name FROM ours WHERE NOT EXISTS (SELECT FROM due d WHERE d.connection_id = ours.id)"""
"""Adopts rows of configurations that no replica has, and deletes those of connections that we do not have.
Another replica may be about to do that, or restarting: what ours defines differently or not at all waits
until all replicas have agreed for some time, or it is a minute late. Gives the connections without a row.
"""

_CHANGED = """
SELECT connection_id AS id, changed_at FROM due
WHERE changed_at > %(since)s::timestamptz - %(overlap)s * interval '1 second'
AND writer IS DISTINCT FROM %(me)s"""

_LOGINS = """
WITH asked AS (
  SELECT u, n, extract(epoch FROM now())::int / 60 AS minute,
    row_number() OVER (PARTITION BY u ORDER BY n) AS nth
  FROM unnest(%(usernames)s::text[]) WITH ORDINALITY AS a (u, n)
), answers AS (
  SELECT a.*, past.made + a.nth <= %(per_hour)s AS granted,
    (coalesce(past.first, a.minute) + %(minutes)s - a.minute) * 60.0 AS again
  FROM asked a CROSS JOIN LATERAL (
    SELECT coalesce(sum(b.count), 0) AS made, min(b.minute) AS first FROM login_budgets b
    WHERE b.budget = %(budget)s AND b.username = a.u AND b.count > 0
    AND b.minute > a.minute - %(minutes)s) past
), taken AS (
  INSERT INTO login_budgets (budget, username, minute, count)
  SELECT %(budget)s, u, minute, count(*) FROM answers WHERE granted GROUP BY u, minute
  ON CONFLICT (budget, username, minute) DO UPDATE SET count = login_budgets.count + excluded.count
)
SELECT CASE WHEN NOT granted THEN again END::float AS wait FROM answers ORDER BY n"""
_FORGET = "DELETE FROM login_budgets WHERE minute <= extract(epoch FROM now())::int / 60 - %(minutes)s"


class Budget(StrEnum):
    """What a login is for. Each purpose has a separate budget."""

    CHECKS = "checks"
    NEXT_KEYS = "next_keys"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A connection as a replica has it configured."""

    version: str
    """Changes when anything that is sent changes, or what it is signed with."""
    username: str


@dataclass(frozen=True, slots=True)
class Configured:
    """A replica's configuration."""

    mark: str
    """A hash: replicas with the same connections have the same mark. Also the queue's name."""
    connections: Mapping[str, Wanted]
    logins_per_hour: int
    """The budget of checks per username."""


@dataclass(frozen=True, slots=True, eq=False)
class Appointment:
    """A connection, and when it is due."""

    id: int
    name: str
    epoch: int
    seconds: float
    """Until it is due; negative if it is late."""
    known: History | str | None
    """Its history, or why this version can't read it. None for a new connection, and in a replica's first
    news if it is unchanged since the store was opened.
    """

    @property
    def hung(self) -> bool:
        """Whether its last check took long without an answer."""
        last = self.known.last_exchange if isinstance(self.known, History) else None
        return last is not None and last.hung


@dataclass(frozen=True, slots=True)
class Heard:
    """The state of the shared tables: which workers are alive, and what changed since the last read."""

    at: datetime
    """By the server's clock."""
    schema: bool
    """Whether the tables have the version that this program knows."""
    alive: Sequence[tuple[int, str]]
    """Workers and their configurations, in order of their start."""
    news: Sequence[Appointment]
    """What other replicas checked or postponed."""
    overdue: float
    """How late the latest connection is, in seconds."""


class Ear:
    """Reads the changes of other replicas, each once, however late its transaction committed."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._since: datetime | None = None
        self._heard: dict[int, datetime] = {}

    async def listen(self, link: Link) -> Heard:
        """What changed since the last call."""
        async with link.transaction():
            [head] = await _all(link, _NOW)
            alive = await _all(link, _ALIVE, alive=ALIVE_SECONDS)
            # After a failover the new server's clock may be behind.
            since = min(self._since, head.now) if self._since else "-infinity"
            changed = await _all(link, _CHANGED, since=since, overlap=TRANSACTION_ENDS_SECONDS, me=self._me)
            new = [row.id for row in changed if self._heard.get(row.id) != row.changed_at]
            recent = "-infinity" if self._since else head.now - timedelta(seconds=RECENT_SECONDS)
            of_new = _APPOINTMENTS + "WHERE d.connection_id = ANY(%(ids)s)"
            rows = await _all(link, of_new, since=recent, ids=new) if new else []
        self._since, self._heard = head.now, {row.id: row.changed_at for row in changed}
        return Heard(
            head.now,
            head.schema == str(1 + len(UPGRADES["postgresql"])),
            [(row.worker, row.configuration) for row in alive],
            await _read(rows),  # the server ends a transaction that is idle meanwhile
            head.overdue,
        )


async def join(link: Link, worker: int, configuration: str) -> None:
    """Register a worker and its configuration."""
    await link.execute(_JOIN, {"worker": worker, "configuration": configuration})


@asynccontextmanager
async def planning(link: Link) -> AsyncIterator[None]:
    """A transaction that holds the planners' lock."""
    async with link.transaction():
        await link.execute(_LOCK)
        yield


async def want(link: Link, configured: Configured, seconds: Mapping[str, float], *, claim: bool) -> None:
    """Have connections checked within the given seconds.

    `claim`: as this replica has just loaded them. Existing rows that are like that keep their due times.
    """
    names = [name for name in seconds if name in configured.connections]
    async with planning(link):
        await link.execute(_NAMES, {"names": names})
        values = {
            "mine": configured.mark,
            "names": names,
            "seconds": [float(seconds[name]) for name in names],
            "versions": [configured.connections[name].version for name in names],
            "claim": claim,
            "apart": APART_SECONDS,
        }
        await link.execute(_WANT, values)


async def reconcile(
    link: Link, configured: Configured, alive: Collection[str], *, agreed: bool, late: bool
) -> list[str]:
    """Take over rows of configurations that no replica has, and delete those of connections that none has.

    `alive`: the replicas' configurations. `agreed`: for some time, that has been ours alone. `late`: nobody
    else has taken what is a minute late. Gives the connections without a row.
    """
    values = {
        "names": list(configured.connections),
        "versions": [wanted.version for wanted in configured.connections.values()],
        "mine": configured.mark,
        "alive": [*alive, configured.mark],
        "agreed": agreed,
        "late": late,
    }
    async with planning(link):
        await link.execute(_FORGET, {"minutes": MINUTES_COUNTED})
        return [row.name for row in await _all(link, _RECONCILE, **values)]


async def beat(link: Link, worker: int) -> bool:
    """Write a heartbeat. False if others may have declared the worker dead."""
    return bool(await _all(link, _BEAT, worker=worker, sure=SURE_SECONDS))


async def assign(
    link: Link, configured: Configured, worker: int | None, make: Callable[[int], Awaitable[Sequence[int]]]
) -> None:
    """Assign due connections to jobs; `make` makes so many. A `worker` first frees what dead ones held.

    Not if it looks dead itself: then a server without the last changes has taken over.
    """
    async with planning(link):
        if worker in [row.worker for row in await _all(link, _ALIVE, alive=SURE_SECONDS)]:
            for statement in _FREE:
                await link.execute(statement, {"alive": ALIVE_SECONDS})
        due = [row.id for row in await _all(link, _TAKE, mine=configured.mark, at_once=AT_ONCE)]
        if due:
            jobs = await make(ceil(len(due) / SLICE))
            of_each = [jobs[place // SLICE] for place in range(len(due))]
            await link.execute(_GIVE, {"ids": due, "jobs": of_each})


async def held(link: Link, job: int, worker: int | None) -> list[Appointment]:
    """The connections that a job holds. Empty if the job was declared dead."""
    return await _read(await _all(link, _APPOINTMENTS + _OF_JOB, since="-infinity", job=job, worker=worker))


async def without_login(link: Link, configured: Configured, those: Sequence[Appointment]) -> dict[int, float]:
    """Take a login for each of those connections. Gives the ones for which the budget is used up, with the
    seconds until a login is available.
    """
    users = [configured.connections[one.name].username for one in those]
    waits = await take_logins(link, Budget.CHECKS, users, configured.logins_per_hour)
    return {one.id: wait for one, wait in zip(those, waits, strict=True) if wait is not None}


async def put_off(link: Link, job: int, seconds: Mapping[int, float]) -> None:
    """Release connections that a job holds, to be checked after these seconds.

    A login that was taken for one stays in the budget: it may have been made.
    """
    if seconds:
        async with planning(link):
            values = {"ids": list(seconds), "seconds": list(seconds.values()), "job": job}
            await link.execute(_PUT_OFF, values)


async def take_logins(
    link: Link, budget: Budget, usernames: Sequence[str], per_hour: int
) -> list[float | None]:
    """Take a login for each username: None, or the seconds until one is available."""
    folded = [username.lower() for username in usernames]  # Salesforce ignores case
    values = {"budget": budget, "usernames": folded, "per_hour": per_hour, "minutes": MINUTES_COUNTED}
    async with planning(link):
        return [row.wait for row in await _all(link, _LOGINS, **values)]


def settled(connection: Connection, leases: Mapping[int, Lease]) -> set[int]:
    """Write the next due times. Gives the ids of the connections that our jobs still held."""
    values = {
        "ids": list(leases),
        "epochs": [lease.epoch for lease in leases.values()],
        "jobs": [lease.job for lease in leases.values()],
        "seconds": [lease.seconds_left() for lease in leases.values()],
        "writers": [lease.by for lease in leases.values()],
    }
    return set(connection.exec_driver_sql(_SETTLE, values).scalars())


def _known(row: Row) -> History | str | None:
    """The history, if there is one, or why this version can't read it."""
    try:
        return None if row.body is None else records.read(row.body, row.audit)
    except ValidationError as error:
        return records.why(error)


async def _all(link: Link, statement: str, **values: object) -> list[Row]:
    async with link.cursor(row_factory=namedtuple_row) as cursor:
        return await (await cursor.execute(statement, values or None)).fetchall()


async def _read(rows: Sequence[Row]) -> list[Appointment]:
    return await asyncio.to_thread(
        lambda: [Appointment(row.id, row.name, row.epoch, row.seconds, _known(row)) for row in rows]
    )
