"""Procrastinate, the task engine that replicas share: its tasks, how our worker differs, and its host.

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
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from weakref import WeakSet

import psycopg
import structlog
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, JobInserted, Status
from procrastinate.manager import JobManager, NotificationCallback
from procrastinate.worker import Worker as TheirWorker

from monitor.core import rotation
from monitor.core.history import Event, History
from monitor.core.status import ReplicasStatus
from monitor.salesforce.probe import TakeLogin
from monitor.store import Store, due
from monitor.store.due import ALIVE_SECONDS, SURE_SECONDS, Appointment, Budget, Configured, Link
from monitor.store.postgresql import Server
from monitor.store.waiting import Lease
from monitor.watch.check import Checker
from monitor.watch.clock import SharedClock, steady
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.schedule import Scheduler

HEARTBEAT_SECONDS = 2.0

STEADY_SECONDS = 3.0
"""How old a worker must be to declare others dead: after an outage, all return within a second or two."""

POLL_SECONDS = 0.5
"""How often an idle worker looks for jobs that others have made."""

CRAMMED_SECONDS = 0.2
"""How often a busy worker checks whether it has room for more."""

LOOK_SECONDS = 1.0
"""How often a worker looks for due connections, whether it leads, and whether writes are refused."""

NOTIFY_SECONDS = 10.0
"""How often the leader notifies."""

OUTAGE_SECONDS = 60.0
"""How long an ending worker waits for its results to be written."""

CONNECTIONS = 8
"""Most database connections of one worker."""

AGAIN_SECONDS = 1.0
"""When a check that was not begun is due again."""

HANGS_AGAIN_SECONDS = 20.0
"""The same if it hung at its last check and such connections hold half of the places: one is free by then."""

FAULT_AGAIN_SECONDS = 60.0
"""The same if the check failed due to a bug, or its result can never be written."""

logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # we report what matters
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

log = structlog.get_logger()


async def every(seconds: float, call: Callable[[], Awaitable[None]]) -> None:
    """Call again and again, until cancelled or a call fails.

    Before Python 3.12, `asyncio.wait_for` loses a cancellation that comes just as it ends, and the pool waits
    for a free connection with it.
    """
    task = asyncio.current_task()
    while task and not task.cancelling():
        await asyncio.sleep(seconds)
        await call()


def why(error: Exception) -> str:
    """What went wrong, in one line. The engine wraps the database's errors."""
    if isinstance(error, TimeoutError):
        return str(error) or "the database did not answer in time"
    cause = error.__cause__ or error
    return str(cause).strip().split("\n")[0] or type(cause).__name__


class Worker(JobManager):
    """One run of the engine's worker: its checks and their ledger, its heartbeat, and where it differs from
    the engine's.
    """

    def __init__(self, replica: "Host") -> None:
        self._how = replica.server.how(writes=True)
        connector = PsycopgConnector(
            conninfo=self._how["conninfo"],
            kwargs={name: value for name, value in self._how.items() if name != "conninfo"},
            min_size=2,
            max_size=CONNECTIONS,
            timeout=ALIVE_SECONDS,
            reconnect_timeout=0,  # the supervisor starts another worker
            configure=replica.opened,
        )
        super().__init__(connector)
        self._replica, self._configured, self._awake = replica, replica.configured, replica.awake
        self.number: int | None = None
        self.ended = False
        """It begins nothing more. Its heartbeat continues while it finishes."""
        self.failing: dict[str, str] = {}
        """Failing tasks of the engine, and why."""
        self._since = self._beat = 0.0
        self._assigned = asyncio.Event()
        self._room = asyncio.Semaphore(replica.at_once)
        self._in_hand: set[Appointment] = set()
        """What it has to check."""
        self._app = App(connector=connector)
        self._app.job_manager = self
        mark = self._configured.mark
        told = self._notices = f"{mark} notices"
        """The queue of the one replica that notifies; the queue of checks is the mark itself."""
        self._check = self._app.task(name="check", queue=mark, pass_context=True)(self._checks)
        self._notify = self._app.task(name="notify", queue=told, priority=50, lock=told, queueing_lock=told)(
            replica.notify
        )
        self._engine: Any = TheirWorker(
            self._app,
            queues=[mark, told],
            concurrency=due.AT_ONCE,  # ours is the number of places
            fetch_job_polling_interval=POLL_SECONDS,
            delete_jobs="always",
            update_heartbeat_interval=math.inf,  # theirs stops while jobs finish, and others would take over
            stalled_worker_timeout=ALIVE_SECONDS,
            shutdown_graceful_timeout=OUTAGE_SECONDS,
            install_signal_handlers=False,
            worker_middleware=[self._reported],
        )

    @property
    def works(self) -> bool:
        """Whether it takes work."""
        return self.number is not None and not self.ended

    @property
    def sure(self) -> bool:
        """Whether no other worker can have taken over a check that this one begins now."""
        return self.works and self._awake() - self._beat < SURE_SECONDS

    def end(self) -> None:
        """Begin nothing more, and finish what was begun."""
        self.ended = True
        self._engine.stop()

    async def run(self) -> None:
        """Run until ended, or until it can't continue."""
        try:
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    await self._app.open_async()
            except TimeoutError:  # the pool does not say why it can't connect
                async with await psycopg.AsyncConnection.connect(**self._how):
                    raise
            beside = [
                asyncio.create_task(every(seconds, call))
                for seconds, call in (
                    (HEARTBEAT_SECONDS, self._beats),
                    (LOOK_SECONDS, self._dispatches),
                    (LOOK_SECONDS, self._notifies),
                    (LOOK_SECONDS, self._replica.look_at_writes),
                )
            ]
            for task in beside:
                task.add_done_callback(lambda _: self.end())  # not a task group, which would end heartbeats
            try:
                await self._engine.run()
            finally:
                for task in beside:
                    task.cancel()
                failed = await asyncio.gather(*beside, return_exceptions=True)
        finally:
            self.ended = True
            await self._app.close_async()
        for error in failed:
            if isinstance(error, Exception):
                raise error

    def _linked(self) -> Any:
        """A database connection, as a context manager."""
        return self.connector.pool.connection()  # type: ignore[attr-defined] # a PsycopgConnector

    # For the engine

    async def register_worker(self) -> int:
        """Register the worker, and its configuration."""
        self._since = self._beat = self._awake()
        number = await super().register_worker()
        async with self._linked() as link:
            await due.join(link, number, self._configured.mark)
        self.number, self._replica.worker_problem = number, None
        return number

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Fetch the jobs that this worker has made; others wait for the next poll.

        The engine's own way needs a connection that, cancelled while it is made, holds up the server's stop.
        """
        while True:
            await self._assigned.wait()
            self._assigned.clear()
            await on_notification(channel="", notification=JobInserted(type="job_inserted", job_id=0))

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Fetch a job once there is room for what it holds."""
        while not self.ended:
            full = len(self._in_hand) >= 2 * self._replica.at_once
            queues = [self._configured.mark] * (not full) + [self._notices] * self._replica.leads
            job = await super().fetch_job(queues, worker_id)
            if job or not full or not self.sure:
                return job
            await asyncio.sleep(CRAMMED_SECONDS)
        self._engine.stop()  # it forgets what was said before it ran
        return None

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
            self.end()  # otherwise the worker would keep the job's connections
            raise

    # For a check

    def take(self, username: str, now: datetime) -> datetime | None:
        """The login budget: the assigned check includes a login. Gives a later time if it may have lapsed."""
        return None if self.sure else now + timedelta(seconds=ALIVE_SECONDS)

    def keep(self, name: str, history: History, events: tuple[Event, ...]) -> None:
        """Keep a result, to be written when the check is over."""
        _, before = self._replica.results[name] or (history, ())
        self._replica.results[name] = (history, before + events)

    async def take_next_key(self, username: str) -> TakeLogin | None:
        """The budget for next keys; unavailable while the database is down."""
        return await self._taken(Budget.NEXT_KEYS, username, rotation.LOGINS_PER_HOUR)

    async def take_observer(self, username: str) -> TakeLogin:
        """The login budget, for a login that comes with a check."""
        taken = await self._taken(Budget.CHECKS, username, self._configured.logins_per_hour)
        return taken or (lambda now: now + timedelta(seconds=FAULT_AGAIN_SECONDS))

    async def _taken(self, budget: Budget, username: str, per_hour: int) -> TakeLogin | None:
        if not self.sure:
            return None
        try:
            async with self._linked() as link:
                waits = await due.take_logins(link, budget, [username], per_hour)
        except psycopg.Error:
            return None  # the next round trip reports the error
        return partial(self.take, username) if waits == [None] else None

    # Its tasks

    async def _beats(self) -> None:
        if self.number is not None:
            at = self._awake()
            async with (
                asyncio.timeout(SURE_SECONDS),
                self._linked() as link,
            ):  # one that hangs ends the worker
                if not await due.beat(link, self.number):
                    raise TimeoutError("others may have declared it dead")
            self._beat = at

    async def _notifies(self) -> None:
        if self._replica.leads:
            with suppress(ConnectorException, AlreadyEnqueued):  # the next may succeed
                await self._notify.defer_async()
            await asyncio.sleep(NOTIFY_SECONDS)

    async def _dispatches(self) -> None:
        if self.sure:
            with suppress(Exception):  # reported
                await self._reported(self._dispatch)

    async def _dispatch(self) -> None:
        async with self._linked() as link:
            steady = self.number if self._awake() - self._since >= STEADY_SECONDS else None
            await due.assign(link, self._configured, steady, partial(self._jobs, link))
        self._assigned.set()

    async def _jobs(self, link: Link, count: int) -> list[int]:
        new = [self._check.configure().job] * count
        made = await self.batch_defer_jobs_async(jobs=new, connection=link)
        return [job.id for job in made if job.id]

    async def _reported(
        self, call: Callable[[], Awaitable[Any]], context: JobContext | None = None, _: object = None
    ) -> Any:
        """Report a failing task, except for database outages, which the replica notices itself."""
        task = context.job.task_name if context else "dispatch"
        try:
            found = await call()
        except Exception as error:
            cause = error.__cause__ or error
            # PostgreSQL's error classes of a database that is down or shutting down
            away = isinstance(cause, psycopg.Error) and (cause.sqlstate or "08")[:2] in {"08", "57"}
            problem = f"The monitor's task {task} fails: {why(error)}"
            if not away and problem != self.failing.get(task):
                log.exception("task_failed", task=task)
                self.failing[task] = problem
            raise
        self.failing.pop(task, None)
        return found

    async def _checks(self, context: JobContext) -> None:
        """Check the connections that a job holds, and write the results."""
        job = context.job.id
        assert job is not None
        held: list[Appointment] = []
        try:
            async with self._linked() as link:
                held = await due.held(link, job, self.number) if self.sure else []
                # Hearing that it was put off, each replica shows why.
                later = {one.id: FAULT_AGAIN_SECONDS for one in held if isinstance(one.known, str)}
                later |= {one.id: AGAIN_SECONDS for one in held if one.name in self._replica.results}
                room = max(1, self._replica.at_once // 2) - sum(one.hung for one in self._in_hand)
                hung = [one.id for one in held if one.hung and one.id not in later]
                later |= dict.fromkeys(hung[max(0, room) :], HANGS_AGAIN_SECONDS)
                begun = [one for one in held if one.id not in later]
                self._in_hand.update(begun)
                refused = await due.without_login(link, self._configured, begun)
                await due.put_off(link, job, later | refused)
            self._replica.own.logins_deferred.inc(len(refused))
            begun = [one for one in begun if one.id not in refused]
            self._in_hand.difference_update(set(held).difference(begun))
            again = await asyncio.gather(*(self._keep_appointment(job, one) for one in begun))
        finally:
            self._in_hand.difference_update(held)
        if FAULT_AGAIN_SECONDS in again:
            await self._replica.can_write()
        if seconds := {one.id: its for one, its in zip(begun, again, strict=True) if its is not None}:
            async with self._linked() as link:
                await due.put_off(link, job, seconds)

    async def _keep_appointment(self, job: int, held: Appointment) -> float | None:
        """Check a connection. None: its result was written, or another replica's. Otherwise the seconds until
        it is due again.
        """
        replica, name, began = self._replica, held.name, self._awake()
        async with self._room:
            if not self.sure or name not in replica.fleet or name in replica.results:
                return AGAIN_SECONDS
            late = self._awake() - began - held.seconds
            replica.own.schedule_delay.observe(max(0.0, late))
            replica.begins(name)
            try:
                due_at = replica.clock.now() + timedelta(seconds=held.seconds)
                assert not isinstance(held.known, str)
                replica.checker.prepare(name, held.known, due_at, self)
                following = await replica.checker.check(name, self)
            except Exception:  # a check catches its own bugs; if not, the others continue
                log.exception("check_failed", connection=name)
                return FAULT_AGAIN_SECONDS
            finally:
                self._in_hand.discard(held)
                result = replica.results.pop(name)
        if result is None:
            return AGAIN_SECONDS  # paused or removed meanwhile
        seconds = (following - replica.clock.now()).total_seconds() if following else 0.0
        lease = Lease(held.epoch, job, seconds, replica.me)
        replica.store.save(name, *result, lease)
        written = await asyncio.wrap_future(lease.written)
        return FAULT_AGAIN_SECONDS if written is None else None


@dataclass(eq=False)
class Host(Scheduler):
    """What a replica has and does for its worker. Create and use it inside a running event loop."""

    shared = True

    server: Server
    _: KW_ONLY
    checker: Checker
    fleet: Fleet
    store: Store
    clock: SharedClock
    at_once: int
    own: OwnMetrics
    send: Callable[[], Awaitable[None]]
    """Sends due notifications."""
    awake: Callable[[], float] = steady
    """Seconds that include suspension, and no setting of the clock moves."""
    status: ReplicasStatus | None = field(default=None, init=False)
    """What is known about the replicas; None before the first read."""

    def __post_init__(self) -> None:
        self.me = secrets.token_hex(8)
        self.configured = Configured("", {}, 0)
        self.results: dict[str, tuple[History, tuple[Event, ...]] | None] = {}
        """Results of running checks."""
        self._wanted: dict[str, float] = {}
        """Requested due times, by `awake`."""
        self._unclaimed: set[str] = set()
        """Connections whose new configuration is yet to be sent."""
        self._links: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()
        self._led = False
        self._problem: str | None = None
        self._worker: Worker | None = None
        self.worker_problem: str | None = None
        """Why the last worker ended, until the next one has begun."""

    @property
    def leads(self) -> bool:
        """Whether this replica notifies: the oldest one with the configuration loaded last."""
        return self.status is not None and self.status.leads

    def dismiss(self) -> None:
        """End the worker: it begins nothing more, and finishes its checks."""
        if self._worker:
            self._worker.end()

    def begins(self, name: str) -> None:
        """Note that a check begins."""
        self.results[name] = None
        self._wanted.pop(name, None)
        self._unclaimed.discard(name)

    async def opened(self, link: psycopg.AsyncConnection[Any]) -> None:
        """Note a new connection to the database."""
        self._links.add(link)

    async def notify(self) -> None:
        """Send due notifications."""
        if not self._led:
            await asyncio.to_thread(self.store.reread_told)  # what the previous leader has sent
        self._led = True
        await self.send()

    async def can_write(self) -> bool:
        """Whether all results are written and more could be. If writes are refused, ends the worker."""
        refused = await asyncio.to_thread(self.store.refused)
        if refused and self._problem is None:
            self.dismiss()
            self.store.give_up()  # others check again
        return refused is None

    async def look_at_writes(self) -> None:
        """End the worker if writes have begun to be refused."""
        if self.store.problem and not self._problem:
            await self.can_write()
