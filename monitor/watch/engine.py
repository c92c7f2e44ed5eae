"""Procrastinate, the task engine that replicas share: its tasks, and how our worker differs.

Each second every worker frees what dead workers held, and assigns due connections to jobs, a slice each.
`check` is such a job; `notify` runs once for all replicas. Each configuration has separate queues, so that
replicas only get connections that they know.

Four changes are ours. Finishing a job names its worker. A worker whose heartbeat was so late that others may
have taken over never trusts what it holds again, as a login can't be undone. A worker fetches no more than it
can begin soon. And nothing goes by the machine's wall clock, as the engine's periodic tasks do: while a clock
that was set back catches up, there would be none.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from monitor.store import due
from monitor.store.due import ALIVE_SECONDS, Configured
from monitor.store.postgresql import Server

if TYPE_CHECKING:
    from monitor.watch.replicas import Replica

SLICE = 25
"""Connections per job. One job per connection costs PostgreSQL ten times as much."""

HEARTBEAT_SECONDS = 2.0

SURE_SECONDS = ALIVE_SECONDS - 3
"""How long after a heartbeat a check may begin, so that its login reaches the org before another worker could
take over. That takes milliseconds, or seconds on an overloaded machine."""

STEADY_SECONDS = 3.0
"""How old a worker must be to declare others dead: after an outage, all return within a second or two."""

POLL_SECONDS = 0.5
"""How often to poll for jobs without a notification from the server."""

CRAMMED_SECONDS = 0.2
"""How often a busy worker checks whether it has room for more."""

DISPATCH_SECONDS = 1.0
"""How often a worker looks for due connections."""

NOTIFY_EVERY = 10
"""Notifications are sent with each of so many of these looks."""

OUTAGE_SECONDS = 60.0
"""How long an ending worker waits for its results to be written."""

CONNECTIONS = 8
"""Most database connections of one worker."""

WORKER: ContextVar[int | None] = ContextVar("worker", default=None)
"""The worker that the current check belongs to."""

logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # the replica reports what matters
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


class Lapsed(Exception):  # noqa: N818 # control flow: ends a worker
    """A worker's heartbeat was so late that others may have declared it dead."""


class Pulse:
    """Our worker's heartbeat, and until when it can be sure that others count it as alive."""

    def __init__(self, awake: Callable[[], float]) -> None:
        self.now = awake
        self.worker: int | None = None
        self._since = self._beat = 0.0

    def begins(self, worker: int, at: float) -> None:
        """Note that a worker was registered."""
        self.worker, self._since, self._beat = worker, at, at

    def beats(self, at: float) -> None:
        """Note that its heartbeat was written. Raises Lapsed if too late."""
        if self.now() - self._beat >= SURE_SECONDS:
            self.ends()
            raise Lapsed
        self._beat = at

    def ends(self) -> None:
        """The worker begins nothing more. Its heartbeat continues while it finishes."""
        self.worker = None

    def sure(self, worker: int | None) -> bool:
        """Whether no other worker can have taken over a check that this one begins now."""
        return worker is not None and worker == self.worker and self.now() - self._beat < SURE_SECONDS

    @property
    def steady(self) -> bool:
        """Whether the worker is old enough to have noticed the others."""
        return self.sure(self.worker) and self.now() - self._since >= STEADY_SECONDS


Linked = Callable[[], Any]
"""Opens a database connection as a context manager."""


class _Manager(JobManager):
    """The engine's database operations, where ours differ."""

    def __init__(
        self, connector: PsycopgConnector, pulse: Pulse, replica: "Replica", configured: Configured
    ) -> None:
        super().__init__(connector)
        self._pulse, self._replica, self._configured = pulse, replica, configured
        self._worker: int | None = None

    async def register_worker(self) -> int:
        at = self._pulse.now()
        worker = await super().register_worker()
        async with self.connector.pool.connection() as link:  # type: ignore[attr-defined] # a PsycopgConnector
            await due.join(link, worker, self._configured.mark)
        unless_cancelled()
        self._pulse.begins(worker, at)
        self._worker = worker
        return worker

    async def update_heartbeat(self, worker_id: int) -> None:
        at = self._pulse.now()
        await super().update_heartbeat(worker_id)
        self._pulse.beats(at)

    async def beat(self) -> None:
        """Write a heartbeat."""
        if self._worker is not None:
            async with asyncio.timeout(SURE_SECONDS):  # else a hanging one would keep the worker
                await self.update_heartbeat(self._worker)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        while True:
            full, mark = self._replica.full, self._configured.mark
            queues = [*([] if full else [mark]), *([notices(mark)] if self._replica.leads else [])]
            job = await super().fetch_job(queues, worker_id)
            if job or not full or not self._pulse.sure(worker_id):
                return job
            await asyncio.sleep(CRAMMED_SECONDS)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # theirs
        try:
            await self.connector.execute_query_async(
                "SELECT procrastinate_finish_job_v1(id, %(status)s, %(delete)s) FROM procrastinate_jobs"
                " WHERE id = %(id)s AND worker_id = %(worker)s AND status = 'doing' FOR UPDATE",
                id=job.id,
                worker=job.worker_id,
                status=status.value,
                delete=delete_job,
            )
        except Exception:
            self._replica.dismiss()  # otherwise the worker would keep the job's connections
            raise


def unless_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and went on.

    Before Python 3.12, `asyncio.wait_for` loses a cancellation that comes just as it ends, and the pool waits
    for a free connection with it.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


async def every(seconds: float, call: Callable[[], Awaitable[None]]) -> None:
    """Call again and again, until cancelled or a call fails."""
    while True:
        await asyncio.sleep(seconds)
        await call()
        unless_cancelled()


def notices(mark: str) -> str:
    """The queue of the one replica that notifies; the queue of checks is the mark itself."""
    return f"{mark} notices"


async def work(
    server: Server,
    configured: Configured,
    replica: "Replica",
    pulse: Pulse,
    opened: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]],
) -> None:
    """Run a worker until it is cancelled, which lets its jobs finish, or can't continue.

    `opened` is called with each new database connection.
    """
    how = server.how(writes=True)
    connector = PsycopgConnector(
        conninfo=how.pop("conninfo"),
        kwargs=how,
        min_size=2,
        max_size=CONNECTIONS,
        timeout=ALIVE_SECONDS,
        reconnect_timeout=0,  # the supervisor reconnects
        configure=opened,
    )
    app = App(connector=connector)
    app.job_manager = manager = _Manager(connector, pulse, replica, configured)
    told = notices(configured.mark)

    def linked() -> Any:
        return connector.pool.connection()

    @app.task(name="check", queue=configured.mark, pass_context=True)
    async def check(context: JobContext) -> None:
        job, worker = context.job.id, context.job.worker_id
        assert job is not None
        assert worker is not None
        async with linked() as link:
            held, deferred = await due.held(link, configured, job, worker)
        WORKER.set(worker)
        await replica.check(linked, configured, job, held, deferred)

    @app.task(name="notify", queue=told, priority=50, lock=told, queueing_lock=told)
    async def notify() -> None:
        await replica.notify()

    async def dispatch() -> None:
        async with linked() as link, due.planning(link):
            if pulse.steady:
                await due.free(link)
            taken = await due.take(link, configured)
            slices = [taken[start : start + SLICE] for start in range(0, len(taken), SLICE)]
            if slices:
                jobs = await manager.batch_defer_jobs_async(
                    jobs=[check.configure().job for _ in slices], connection=link
                )
                given = {
                    row: job.id for job, rows in zip(jobs, slices, strict=True) for row in rows if job.id
                }
                await due.give(link, given)

    numbers = count()

    async def tick() -> None:
        if pulse.worker is not None:
            with suppress(Exception):  # reported
                await _reported(replica, "dispatch", dispatch)
        if next(numbers) % NOTIFY_EVERY == 0 and replica.leads:
            with suppress(ConnectorException, AlreadyEnqueued):  # the next may succeed
                await notify.defer_async()

    async def reported(call: Callable[[], Awaitable[Any]], context: JobContext, _: object) -> Any:
        return await _reported(replica, context.job.task_name, call)

    try:
        await app.open_async()
        unless_cancelled()
        # The engine's own heartbeat stops while jobs finish, and others would take them over.
        beating = asyncio.create_task(every(HEARTBEAT_SECONDS, manager.beat))
        ticking = asyncio.create_task(every(DISPATCH_SECONDS, tick))
        working = asyncio.create_task(
            app.run_worker_async(
                queues=[configured.mark, told],
                concurrency=due.AT_ONCE,  # the replica limits it
                fetch_job_polling_interval=POLL_SECONDS,
                delete_jobs="always",
                update_heartbeat_interval=math.inf,
                stalled_worker_timeout=ALIVE_SECONDS,
                shutdown_graceful_timeout=OUTAGE_SECONDS,
                install_signal_handlers=False,
                worker_middleware=[reported],
            )
        )
        try:
            await asyncio.wait((beating, ticking, working), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ticking.cancel()
            working.cancel()
            await asyncio.wait((working,))
            beating.cancel()
            ended = await asyncio.gather(working, beating, ticking, return_exceptions=True)
    finally:
        await app.close_async()
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _reported(replica: "Replica", task: str, call: Callable[[], Awaitable[Any]]) -> Any:
    """Report a failing task, except for database outages, which the replica notices itself."""
    try:
        found = await call()
    except Exception as error:
        if not _is_away(error):
            replica.failing(task, error)
        raise
    replica.failing(task, None)
    return found


def _is_away(error: Exception) -> bool:
    """Whether the database is down or shutting down (PostgreSQL's error classes 08 and 57)."""
    if isinstance(error, ConnectorException):
        return not isinstance(error.__cause__, Exception) or _is_away(error.__cause__)
    return isinstance(error, psycopg.Error) and (error.sqlstate or "08")[:2] in {"08", "57"}
