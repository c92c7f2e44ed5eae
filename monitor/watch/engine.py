"""Procrastinate, the task engine that replicas share: what its tasks are, and how a worker of ours differs.

`dispatch` takes from the dead and hands what is due to jobs, a slice of connections each; `check` is such a
job; `notify` runs once for all replicas. Each configuration has queues of its own, so that no replica meets
connections that it knows otherwise or not at all.

Three things are ours, as no engine can take back a login. A job's end names its worker. A worker whose
heartbeat was so late that others may have taken over is never sure again of what it holds. And no more is
fetched than can soon be begun.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.middleware import WorkerMiddleware

from monitor.store import due
from monitor.store.due import ALIVE_SECONDS, Configured
from monitor.store.postgresql import Server

if TYPE_CHECKING:
    from monitor.watch.replicas import Replica

SLICE = 25
"""Connections in one job. A job for each connection costs PostgreSQL ten times as much."""

HEARTBEAT_SECONDS = 2.0

SURE_SECONDS = ALIVE_SECONDS - 3
"""For so long after a heartbeat a check may be begun: its login is at the org before anybody else can have
taken it over. That takes milliseconds, or seconds on a machine that has no time for us."""

STEADY_SECONDS = 3.0
"""So old a worker must be to judge others: after an outage all come back within a second or two."""

POLL_SECONDS = 0.5
"""How often jobs are looked for where no notification of the server arrives."""

CRAMMED_SECONDS = 0.2
"""How soon a worker with enough to do looks again whether it has room."""

NOTIFY_EVERY = "*/10"
"""Seconds, as in cron."""

OUTAGE_SECONDS = 60.0
"""For so long a worker that ends waits for the results of its checks to be written."""

CONNECTIONS = 8
"""To the database at most, for one worker."""

WORKER: ContextVar[int | None] = ContextVar("worker", default=None)
"""For which worker a check is made."""

logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what matters, the replica says
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


class Lapsed(Exception):  # noqa: N818 # it ends a worker, as it must
    """A worker's heartbeat came so late that it may count as dead."""


class Pulse:
    """Which worker of ours is alive, and until when it is sure that nobody counts it as dead."""

    def __init__(self, awake: Callable[[], float]) -> None:
        self.now = awake
        self.worker: int | None = None
        self._since = self._beat = 0.0

    def begins(self, worker: int, at: float) -> None:
        """A worker was registered."""
        self.worker, self._since, self._beat = worker, at, at

    def beats(self, at: float) -> None:
        """Its heartbeat was written. Raises Lapsed where it came too late."""
        if self.now() - self._beat >= SURE_SECONDS:
            self.ends()
            raise Lapsed
        self._beat = at

    def ends(self) -> None:
        """The worker begins nothing more. Its heartbeat goes on while it ends what it has begun."""
        self.worker = None

    def sure(self, worker: int | None) -> bool:
        """Whether a check that this worker begins now is nobody else's."""
        return worker is not None and worker == self.worker and self.now() - self._beat < SURE_SECONDS

    @property
    def steady(self) -> bool:
        """Whether the worker has been there for long enough that the others could be heard of."""
        return self.sure(self.worker) and self.now() - self._since >= STEADY_SECONDS


Linked = Callable[[], Any]
"""Makes a context with a connection to the database."""


class _Manager(JobManager):
    """The engine's words to the database, where ours differ."""

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
        self._pulse.begins(worker, at)
        self._worker = worker
        return worker

    async def update_heartbeat(self, worker_id: int) -> None:
        at = self._pulse.now()
        await super().update_heartbeat(worker_id)
        self._pulse.beats(at)

    async def beat(self) -> None:
        """Write heartbeats, until it is cancelled, or one fails."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._worker is not None:
                await self.update_heartbeat(self._worker)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        while True:
            full, mark = self._replica.full, self._configured.mark
            queues = [
                ticks(mark),
                *([] if full else [mark]),
                *([notices(mark)] if self._replica.leads else []),
            ]
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
            self._replica.dismiss()  # what the job holds would be held as long as the worker lives
            raise


def ticks(mark: str) -> str:
    """The queue of what is to be done now and then; that of the checks is the configuration's mark."""
    return f"{mark} ticks"


def notices(mark: str) -> str:
    """The queue of the one replica that notifies."""
    return f"{mark} notices"


def engine(
    server: Server,
    configured: Configured,
    replica: "Replica",
    pulse: Pulse,
    opened: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]],
) -> App:
    """The engine for a configuration. `opened` is told of each connection to the database."""
    how = server.how(writes=True)
    connector = PsycopgConnector(
        conninfo=how.pop("conninfo"),
        kwargs=how,
        min_size=2,
        max_size=CONNECTIONS,
        timeout=ALIVE_SECONDS,
        reconnect_timeout=0,  # the supervisor tries again
        configure=opened,
    )
    app = App(connector=connector)
    app.job_manager = _Manager(connector, pulse, replica, configured)
    often = ticks(configured.mark)

    def linked() -> Any:
        return connector.pool.connection()

    @app.periodic(cron="* * * * * *", periodic_id=configured.mark)
    @app.task(name="dispatch", queue=often, priority=100, queueing_lock=f"dispatch {often}")
    async def dispatch(timestamp: int) -> None:
        async with linked() as link, due.planning(link):
            if pulse.steady:
                await due.free(link)
            taken = await due.take(link, configured)
            slices = [taken[start : start + SLICE] for start in range(0, len(taken), SLICE)]
            if slices:
                jobs = await app.job_manager.batch_defer_jobs_async(
                    jobs=[check.configure().job for _ in slices], connection=link
                )
                given = [
                    (row, name, job.id)
                    for job, its in zip(jobs, slices, strict=True)
                    for row, name in its
                    if job.id is not None
                ]
                await due.give(link, configured, given)

    @app.task(name="check", queue=configured.mark, pass_context=True)
    async def check(context: JobContext) -> None:
        job, worker = context.job.id, context.job.worker_id
        assert job is not None
        assert worker is not None
        async with linked() as link:
            held, deferred = await due.held(link, configured, job, worker)
        WORKER.set(worker)
        await replica.check(linked, configured, job, held, deferred)

    @app.periodic(cron=f"* * * * * {NOTIFY_EVERY}", periodic_id=configured.mark)
    @app.task(
        name="notify",
        queue=notices(configured.mark),
        priority=50,
        lock=notices(configured.mark),
        queueing_lock=often,
    )
    async def notify(timestamp: int) -> None:
        await replica.notify()

    return app


async def work(app: App, replica: "Replica", mark: str, *, at_once: int) -> None:
    """Run a worker until it is cancelled, which lets its jobs end, or can't go on.

    Its heartbeat is ours: the engine's stops while jobs come to their end, and others would take them over.
    """
    manager = app.job_manager
    assert isinstance(manager, _Manager)
    async with app.open_async():
        beating = asyncio.create_task(manager.beat())
        working = asyncio.create_task(
            app.run_worker_async(
                queues=[mark, ticks(mark), notices(mark)],
                concurrency=at_once + 4,
                fetch_job_polling_interval=POLL_SECONDS,
                delete_jobs="always",
                update_heartbeat_interval=math.inf,
                stalled_worker_timeout=ALIVE_SECONDS,
                shutdown_graceful_timeout=OUTAGE_SECONDS,
                install_signal_handlers=False,
                worker_middleware=[_in_a_net(replica)],
            )
        )
        try:
            await asyncio.wait((beating, working), return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            await asyncio.wait((working,))
            beating.cancel()
            ended = await asyncio.gather(working, beating, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


def _in_a_net(replica: "Replica") -> WorkerMiddleware:
    """Says what goes wrong in a task; that the database is away, the replica hears itself."""

    async def run(call: Callable[[], Awaitable[Any]], context: JobContext, _worker: object) -> Any:
        task = context.job.task_name
        try:
            found = await call()
        except Exception as error:
            if not _is_away(error):
                replica.failing(task, error)
            raise
        replica.failing(task, None)
        return found

    return run


def _is_away(error: Exception) -> bool:
    """Whether it says that the database is away, or closes (PostgreSQL's classes 08 and 57)."""
    if isinstance(error, ConnectorException):
        return not isinstance(error.__cause__, Exception) or _is_away(error.__cause__)
    return isinstance(error, psycopg.Error) and (error.sqlstate or "08")[:2] in {"08", "57"}
