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
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Protocol

import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from monitor.store import due
from monitor.store.due import ALIVE_SECONDS, SURE_SECONDS, Configured, Held
from monitor.store.postgresql import Server

SLICE = 25
"""Connections per job. One job per connection costs PostgreSQL ten times as much."""

HEARTBEAT_SECONDS = 2.0

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

logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # the replica reports what matters
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


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


class Host(Protocol):
    """What a worker needs of its replica."""

    awake: Callable[[], float]
    """Seconds that include suspension, and no setting of the clock moves."""

    @property
    def full(self) -> bool:
        """Whether there is enough work for now."""

    @property
    def leads(self) -> bool:
        """Whether this replica notifies."""

    async def check(self, worker: "Worker", job: int, held: Sequence[Held], deferred: int) -> None:
        """Check the connections that a job holds, and write the results."""

    async def notify(self) -> None:
        """Send due notifications."""

    def failing(self, task: str, error: Exception | None) -> None:
        """Note that a task fails, or with None that it succeeds."""

    def dismiss(self) -> None:
        """End the worker."""


class Worker(JobManager):
    """One run of the engine's worker: its heartbeat, and its database operations where ours differ."""

    def __init__(
        self,
        server: Server,
        configured: Configured,
        replica: "Host",
        opened: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]],
    ) -> None:
        """`opened` is called with each new database connection."""
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
        super().__init__(connector)
        self.configured, self._replica, self._awake = configured, replica, replica.awake
        self._app = App(connector=connector)
        self._app.job_manager = self
        self._notices = f"{configured.mark} notices"
        """The queue of the one replica that notifies; the queue of checks is the mark itself."""
        self.number: int | None = None
        self.ended = False
        """It begins nothing more. Its heartbeat continues while it finishes."""
        self._since = self._beat = 0.0
        self._ticks = 0

    @property
    def sure(self) -> bool:
        """Whether no other worker can have taken over a check that this one begins now."""
        return self.number is not None and not self.ended and self._awake() - self._beat < SURE_SECONDS

    def linked(self) -> Any:
        """A database connection, as a context manager."""
        return self.connector.pool.connection()  # type: ignore[attr-defined] # a PsycopgConnector

    async def register_worker(self) -> int:
        """Register the worker, and its configuration."""
        at = self._awake()
        number = await super().register_worker()
        async with self.linked() as link:
            await due.join(link, number, self.configured.mark)
        unless_cancelled()
        self.number, self._since, self._beat = number, at, at
        return number

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Fetch a job once there is room for what it holds."""
        while True:
            full = self._replica.full
            queues = [self.configured.mark] * (not full) + [self._notices] * self._replica.leads
            job = await super().fetch_job(queues, worker_id)
            if job or not full or not self.sure:
                return job
            await asyncio.sleep(CRAMMED_SECONDS)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # theirs
        """Finish a job, unless it was taken from this worker."""
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

    async def run(self) -> None:
        """Run until cancelled, which lets jobs finish, or until it can't continue."""
        mark, told = self.configured.mark, self._notices
        self._check = self._app.task(name="check", queue=mark, pass_context=True)(self._checks)
        self._notify = self._app.task(name="notify", queue=told, priority=50, lock=told, queueing_lock=told)(
            self._replica.notify
        )
        try:
            await self._app.open_async()
            unless_cancelled()
            # The engine's own heartbeat stops while jobs finish, and others would take them over.
            beating = asyncio.create_task(every(HEARTBEAT_SECONDS, self._beats))
            ticking = asyncio.create_task(every(DISPATCH_SECONDS, self._tick))
            working = asyncio.create_task(
                self._app.run_worker_async(
                    queues=[mark, told],
                    concurrency=due.AT_ONCE,  # the replica limits it
                    fetch_job_polling_interval=POLL_SECONDS,
                    delete_jobs="always",
                    update_heartbeat_interval=math.inf,
                    stalled_worker_timeout=ALIVE_SECONDS,
                    shutdown_graceful_timeout=OUTAGE_SECONDS,
                    install_signal_handlers=False,
                    worker_middleware=[self._reported],
                )
            )
            try:
                await asyncio.wait((beating, ticking, working), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.ended = True
                ticking.cancel()
                working.cancel()
                await asyncio.wait((working,))
                beating.cancel()
                ended = await asyncio.gather(working, beating, ticking, return_exceptions=True)
        finally:
            self.ended = True
            await self._app.close_async()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _beats(self) -> None:
        """Write a heartbeat."""
        if self.number is not None:
            at = self._awake()
            async with asyncio.timeout(SURE_SECONDS), self.linked() as link:  # one that hangs ends the worker
                if not await due.beat(link, self.number):
                    raise TimeoutError("others may have declared it dead")
            self._beat = at

    async def _tick(self) -> None:
        if self.sure:
            with suppress(Exception):  # reported
                await self._reported(self._dispatch)
        self._ticks += 1
        if self._ticks % NOTIFY_EVERY == 1 and self._replica.leads:
            with suppress(ConnectorException, AlreadyEnqueued):  # the next may succeed
                await self._notify.defer_async()

    async def _dispatch(self) -> None:
        async with self.linked() as link, due.planning(link):
            if self._awake() - self._since >= STEADY_SECONDS:
                await due.free(link, self.number)
            taken = await due.take(link, self.configured)
            slices = [taken[start : start + SLICE] for start in range(0, len(taken), SLICE)]
            if slices:
                new = [self._check.configure().job for _ in slices]
                jobs = await self.batch_defer_jobs_async(jobs=new, connection=link)
                given = {
                    row: job.id for job, rows in zip(jobs, slices, strict=True) for row in rows if job.id
                }
                await due.give(link, given)

    async def _checks(self, context: JobContext) -> None:
        job = context.job.id
        assert job is not None
        async with self.linked() as link:
            held, deferred = await due.held(link, self.configured, job, self.number)
        WORKER.set(self)
        await self._replica.check(self, job, held, deferred)

    async def _reported(
        self, call: Callable[[], Awaitable[Any]], context: JobContext | None = None, _: object = None
    ) -> Any:
        """Report a failing task, except for database outages, which the replica notices itself."""
        task = context.job.task_name if context else "dispatch"
        try:
            found = await call()
        except Exception as error:
            if not _is_away(error):
                self._replica.failing(task, error)
            raise
        self._replica.failing(task, None)
        return found


WORKER: ContextVar[Worker | None] = ContextVar("worker", default=None)
"""The worker that the current check belongs to."""


def _is_away(error: Exception) -> bool:
    """Whether the database is down or shutting down (PostgreSQL's error classes 08 and 57)."""
    if isinstance(error, ConnectorException):
        return not isinstance(error.__cause__, Exception) or _is_away(error.__cause__)
    return isinstance(error, psycopg.Error) and (error.sqlstate or "08")[:2] in {"08", "57"}
