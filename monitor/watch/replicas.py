"""One of several daemons that share the work through PostgreSQL.

Replaces `Schedule`, and is the ledger of its checks. Procrastinate (`engine`) assigns due connections. Each
check uses the history in the database; its result is written with the next due time, unless another replica
has taken over meanwhile. Once a second, the replica reads the others' results.

A replica that can't write takes no work: it rehearses a write before starting a worker, and ends the worker
when a write is refused. While the database is down it keeps results, begins no checks, and overdue
connections get state unknown.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakSet

import psycopg
import structlog

from monitor.config import Settings
from monitor.core import rotation
from monitor.core.history import Event, History, configuration_fingerprint
from monitor.core.status import ReplicasStatus
from monitor.salesforce.probe import TakeLogin
from monitor.store import Store, StoreError, due
from monitor.store.due import ALIVE_SECONDS, Budget, Configured, Ear, Heard, Held, Link, Wanted
from monitor.store.postgresql import Server, shut_down
from monitor.store.waiting import Lease
from monitor.watch.check import Checker
from monitor.watch.clock import SharedClock, steady
from monitor.watch.engine import WORKER, Worker
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.schedule import Engine

HEAR_SECONDS = 1.0
"""How often to read others' results."""

CUT_SECONDS = 8.0
"""After this long without an answer, connections to the database are broken, as they might hang forever."""

WANTED_AT_ONCE = 5_000
"""Connections per statement: takes a second on a slow machine."""

RECONCILE_SECONDS = 300.0
"""How often to compare the rows with the configuration, if the replicas' configurations stay the same."""

DISAGREE_SECONDS = 30.0
"""The same while they differ: a connection that none has is late until its row is deleted."""

UNWATCHED = timedelta(seconds=60)
"""An overdue connection gets state unknown after this long: longer than a check plus a takeover by another
replica."""

AGAIN_SECONDS = 1.0
"""When a check that was not begun is due again."""

HANGS_AGAIN_SECONDS = 20.0
"""The same if it hung at its last check and such connections hold half of the places: one is free by then."""

FAULT_AGAIN_SECONDS = 60.0
"""The same if the check failed due to a bug, or its result can never be written."""

log = structlog.get_logger()


class Replica(Engine):
    """Shares checks with other replicas. Create and use it inside a running event loop."""

    notifies = True
    status: ReplicasStatus | None = None
    """What is known about the replicas; None before the first read."""

    def __init__(
        self,
        server: Server,
        *,
        checker: Checker,
        fleet: Fleet,
        store: Store,
        clock: SharedClock,
        at_once: int,
        own: OwnMetrics,
        notify: Callable[[], Awaitable[None]],
        awake: Callable[[], float] = steady,
    ) -> None:
        self._server = server
        self._me = secrets.token_hex(8)
        self._checker = checker
        self._fleet = fleet
        self._store = store
        self._clock = clock
        self._at_once = at_once
        self._own = own
        self._notify = notify
        self.awake = awake
        self._configured = Configured("", {}, 0)
        self._wanted: dict[str, float] = {}
        """Requested due times, by `awake`."""
        self._unclaimed: set[str] = set()
        """Connections whose new configuration is yet to be sent."""
        self._room = asyncio.Semaphore(at_once)
        self._hanging = 0
        """Connections in our hands that hung at their last check: they share half of the places."""
        self._waiting = 0
        """Connections that we hold but have not begun to check."""
        self._results: dict[str, tuple[History, tuple[Event, ...]] | None] = {}
        """Results of running checks."""
        self._unwritten: set[Lease] = set()
        self._ear = Ear(self._me)
        self._news: dict[str, tuple[History | str, datetime]] = {}
        """Others' results (or why they can't be read), with the next due time."""
        self._link: psycopg.AsyncConnection[Any] | None = None
        self._links: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()
        self._heard_at = awake()
        self._reconcile_at = 0.0
        self._reconciled_with: set[str] = set()
        self._scheduled = 0
        self._led = False
        self._stopping = False
        self._problem: str | None = None
        self._refused: str | None = None
        self._failing: dict[str, str] = {}
        """Failing tasks of the engine, and why."""
        self._worker: Worker | None = None
        self._job: asyncio.Task[None] | None = None
        """What runs the worker."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> bool:
        """Whether checks are being scheduled."""
        return bool(self._tasks) and all(not task.done() for task in self._tasks)

    @property
    def problem(self) -> str | None:
        """Why nothing is checked here: the database is down or refuses writes; None otherwise."""
        return self._problem or self._refused or next(iter(self._failing.values()), None)

    @property
    def cut_off(self) -> str | None:
        """Why the status shown here may be old: the database is down, and others may have taken over."""
        return self._problem if self.awake() - self._heard_at > ALIVE_SECONDS else None

    @property
    def leads(self) -> bool:
        """Whether this replica notifies: the oldest one with the configuration loaded last."""
        return self.status is not None and self.status.leads

    @property
    def full(self) -> bool:
        """Whether there is enough work for now."""
        return self._waiting >= self._at_once

    def start(self) -> None:
        """Begin scheduling."""
        self._tasks = [asyncio.create_task(each()) for each in (self._listen, self._follow, self._supervise)]

    def configure(self, settings: Settings) -> None:
        """Apply a configuration; call it before scheduling its connections."""
        watched = (settings.login_budget_per_hour, settings.connections)
        before = self._configured
        self._configured = Configured(
            hashlib.sha256(repr(watched).encode()).hexdigest()[:16],
            {
                connection.name: Wanted(configuration_fingerprint(connection), connection.username)
                for connection in settings.connections
                if not connection.paused
            },
            settings.login_budget_per_hour,
        )
        self._unclaimed = {
            name
            for name, one in self._configured.connections.items()
            if name in self._unclaimed or one != before.connections.get(name)
        }
        self._reconcile_at = 0.0
        if self._configured.mark != before.mark:
            self.dismiss()

    def at(self, name: str, moment: datetime) -> None:
        """Have the connection checked by then, by any replica."""
        self._wanted[name] = self.awake() + (moment - self._clock.now()).total_seconds()

    def cancel(self, name: str) -> None:
        """Drop the connection's schedule once no replica has it configured."""
        self._wanted.pop(name, None)

    async def stop(self, within_seconds: float) -> None:
        """Begin no more checks, and wait for running ones, but not longer than this."""
        self._stopping = True
        self.dismiss()
        if self._job:
            await asyncio.wait([self._job], timeout=0 if self._problem else within_seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        if self._link:
            await self._link.close()

    # For the checker

    def keep(self, name: str, history: History, events: tuple[Event, ...]) -> None:
        """Keep a check's result, to be written when the check is over.

        Outside a check nothing is kept: the next check records the events of a new configuration.
        """
        if name in self._results:
            _, before = self._results[name] or (history, ())
            self._results[name] = (history, before + events)

    def take(self, username: str, now: datetime) -> datetime | None:
        """The login budget: the assigned check includes a login. Gives a later time if it may have lapsed."""
        return None if _sure() else now + timedelta(seconds=ALIVE_SECONDS)

    async def take_next_key(self, username: str) -> TakeLogin | None:
        """The budget for next keys; unavailable while the database is down."""
        return await self._taken(Budget.NEXT_KEYS, username, rotation.LOGINS_PER_HOUR)

    async def take_observer(self, username: str) -> TakeLogin:
        """The login budget, for a login that comes with a check."""
        taken = await self._taken(Budget.CHECKS, username, self._configured.logins_per_hour)
        return taken or (lambda now: now + timedelta(seconds=FAULT_AGAIN_SECONDS))

    async def _taken(self, budget: Budget, username: str, per_hour: int) -> TakeLogin | None:
        worker = _sure()
        if worker is None:
            return None
        try:
            async with worker.linked() as link:
                taken = await due.take_login(link, budget, username, per_hour)
        except psycopg.Error:
            return None  # the next round trip reports the error
        return partial(self.take, username) if taken else None

    # For the engine

    async def check(self, worker: Worker, job: int, held: Sequence[Held], deferred: int) -> None:
        """Check the connections that a job holds, and write the results."""
        self._own.logins_deferred.inc(deferred)
        self._waiting += len(held)
        again = await asyncio.gather(*(self._keep_appointment(job, one) for one in held))
        if FAULT_AGAIN_SECONDS in again:
            await self._can_write()
        if seconds := {one.name: its for one, its in zip(held, again, strict=True) if its is not None}:
            unused = [name for name, its in seconds.items() if its != FAULT_AGAIN_SECONDS]
            async with worker.linked() as link:
                await due.give_back(link, worker.configured, job, seconds, unused)

    async def _keep_appointment(self, job: int, held: Held) -> float | None:
        """Check a connection. None: its result was written, or another replica's. Otherwise the seconds until
        it is due again.
        """
        last = held.known.last_exchange if isinstance(held.known, History) else None
        hangs = last is not None and last.hung
        if hangs and self._hanging >= max(1, self._at_once // 2):
            self._waiting -= 1
            return HANGS_AGAIN_SECONDS
        self._hanging += hangs
        try:
            return await self._in_a_place(job, held)
        finally:
            self._hanging -= hangs

    async def _in_a_place(self, job: int, held: Held) -> float | None:
        name, began = held.name, self.awake()
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        try:
            if not _sure() or name not in self._fleet or name in self._results:
                return AGAIN_SECONDS
            self._own.schedule_delay.observe(max(0.0, held.late + self.awake() - began))
            self._results[name] = None
            self._wanted.pop(name, None)
            self._unclaimed.discard(name)
            try:
                if isinstance(held.known, str):
                    again = timedelta(seconds=FAULT_AGAIN_SECONDS)
                    self._checker.show_unreadable(name, held.known, self._clock.now() + again)
                    return FAULT_AGAIN_SECONDS
                late = timedelta(seconds=held.late)
                self._checker.prepare(name, held.known, self._clock.now() - late, self)
                following = await self._checker.check(name, self)
            except Exception:  # a check catches its own bugs; if not, the others continue
                log.exception("check_failed", connection=name)
                return FAULT_AGAIN_SECONDS
            finally:
                result = self._results.pop(name)
        finally:
            self._room.release()
        if result is None:
            return AGAIN_SECONDS  # paused or removed meanwhile
        seconds = (following - self._clock.now()).total_seconds() if following else 0.0
        lease = Lease(held.epoch, job, seconds, self._me)
        self._unwritten.add(lease)
        self._store.save(name, *result, lease)
        try:
            written = await asyncio.wrap_future(lease.written)
        finally:
            self._unwritten.discard(lease)
        return FAULT_AGAIN_SECONDS if written is None else None

    def failing(self, task: str, error: Exception | None) -> None:
        """Note that a task fails (not due to a database outage), or with None that it succeeds."""
        if error is None:
            self._failing.pop(task, None)
            return
        problem = f"The monitor's task {task} fails: " + str(error.__cause__ or error).strip().split("\n")[0]
        if problem != self._failing.get(task):
            log.error("task_failed", task=task, exc_info=error)
            self._failing[task] = problem

    def dismiss(self) -> None:
        """End the worker: it begins nothing more, and finishes its checks."""
        if self._worker and self._job and not self._worker.ended:
            self._worker.ended = True
            self._job.cancel()

    async def notify(self) -> None:
        """Send due notifications."""
        if not self._led:
            await asyncio.to_thread(self._store.reread_told)  # what the previous leader has sent
        self._led = True
        await self._notify()

    # Background tasks

    async def _listen(self) -> None:
        """Read others' results, and write requested due times."""
        while True:
            # What waits for an answer might do so forever.
            cut = asyncio.get_running_loop().call_later(CUT_SECONDS, self._cut)
            try:
                with self._server.in_words():
                    await self._hear()
            except StoreError as error:
                await self._away(str(error))
            except Exception:  # this task must survive our own bugs
                log.exception("replication_crashed")
                await self._away("An internal error keeps the monitor from starting due checks: see the log.")
            finally:
                cut.cancel()
            await asyncio.sleep(HEAR_SECONDS)

    def _cut(self) -> None:
        """Break all connections to the database."""
        for link in self._links:
            shut_down(link)

    async def _hear(self) -> None:
        if self._link is None:
            how = self._server.how(writes=True)
            self._link = await psycopg.AsyncConnection.connect(**how, autocommit=True)
            self._links.add(self._link)
        begun = self.awake()
        link, asked = self._link, self._clock.own.machine()
        self._clock.learn(await due.server_time(link), asked)
        heard = await self._ear.listen(link)
        self._heard_at = begun
        if self._problem:
            self._problem = None
            self._mark_unwatched()
            self._reconcile_at = begun  # another server may have taken over, without the last rows
            log.info("replication_recovered")
            await asyncio.to_thread(self._store.flush, 0.0)  # without waiting for the next retry
        configurations = [configuration for _, configuration in heard.alive]
        said, alive = await self._say_what_is_wanted(link), set(configurations)
        if said and (alive != self._reconciled_with or begun >= self._reconcile_at):
            seconds = RECONCILE_SECONDS if len(alive) == 1 else DISAGREE_SECONDS
            self._reconcile_at, self._reconciled_with = begun + seconds, alive
            configured = self._configured  # another may be loaded meanwhile
            missing = await due.reconcile(link, configured, alive)
            self._scheduled = len(configured.connections) - len(missing)
            for name in missing:
                self._wanted.setdefault(name, begun)
                self._reconcile_at = begun
        of_newest = [worker for worker, configuration in heard.alive if configuration == configurations[-1]]
        if not heard.schema:
            self.dismiss()  # the rehearsal says why no other begins
        self.status = ReplicasStatus(
            alive=len(configurations),
            configurations=len(alive),
            scheduled=self._scheduled,
            leads=self._worker is not None
            and not self._worker.ended
            and of_newest[:1] == [self._worker.number],
            reachable=True,
            overdue_seconds=heard.overdue,
        )
        self._led = self._led and self.leads
        self._take_news(heard)

    async def _say_what_is_wanted(self, link: Link) -> bool:
        """Write requested due times, up to a number at once. True if there are no more."""
        configured, now = self._configured, self.awake()
        # A running check sets the next due time first.
        waiting = ((name, at) for name, at in self._wanted.items() if name not in self._results)
        wanted = dict(islice(waiting, WANTED_AT_ONCE))
        for claim in (True, False):
            seconds = {
                name: max(0.0, at - now) for name, at in wanted.items() if (name in self._unclaimed) is claim
            }
            if seconds:
                await due.want(link, configured, seconds, claim=claim)
        for name, at in wanted.items():
            if self._wanted.get(name) == at:
                del self._wanted[name]
        if self._configured is configured:
            self._unclaimed -= wanted.keys()
        return len(wanted) < WANTED_AT_ONCE

    def _take_news(self, heard: Heard) -> None:
        now = self._clock.now()
        known: dict[str, History | str] = {}
        if heard.news:
            known = {**self._store.unreadable, **self._store.histories()}
        for name, news in heard.news.items():
            if isinstance(news.known, History):
                self._store.take_over(name, news.known)
            if found := news.known or known.get(name):
                self._news[name] = (found, now + timedelta(seconds=news.seconds))

    async def _follow(self) -> None:
        """Show others' results."""
        while True:
            for name in list(self._news):
                if name in self._results:
                    continue  # wait for our check, whose result may come too late to count
                found, due_at = self._news.pop(name)
                if name in self._fleet:
                    try:
                        if isinstance(found, str):
                            self._checker.show_unreadable(name, found, due_at)
                        else:
                            await self._checker.show_result(name, found, due_at)
                    except Exception:  # one bad result must not hide the others
                        log.exception("result_not_applied", connection=name)
                await asyncio.sleep(0)
            await asyncio.sleep(HEAR_SECONDS)

    async def _away(self, problem: str) -> None:
        if self._link:
            await self._link.close()
            self._link = None
        if self.status:
            self.status = replace(self.status, reachable=False)
        if problem != self._problem:
            log.error("replication_failing", problem=problem)
        self.dismiss()  # another server may take over that does not know of its jobs' ends
        self._problem = problem
        self._mark_unwatched()

    def _mark_unwatched(self) -> None:
        """Show overdue connections as unknown while the database is down."""
        now, away = self._clock.now(), self._problem is not None
        for status in self._fleet.statuses():
            late = status.next_exchange is not None and now - status.next_exchange > UNWATCHED
            if status.unwatched != (unwatched := late and away):
                self._fleet.put(replace(status, unwatched=unwatched))

    async def _supervise(self) -> None:
        """Run a worker whenever results can be written, and end one that can't write."""
        while not self._stopping:
            try:
                if self._job and not self._job.done():
                    if self._store.problem and not self._problem:
                        await self._can_write()
                elif self.status and not self._problem and await self._can_write():
                    self._worker = Worker(self._server, self._configured, self, self._opened)
                    self._job = asyncio.create_task(self._work(self._worker))
            except Exception:  # without this, a bug would end all checking here
                log.exception("supervisor_failed")
            await asyncio.sleep(HEAR_SECONDS)

    async def _opened(self, link: psycopg.AsyncConnection[Any]) -> None:
        self._links.add(link)

    async def _work(self, worker: Worker) -> None:
        self._failing = {}
        try:
            await worker.run()
        except Exception as error:  # noqa: BLE001 # the next worker may succeed
            log.warning("worker_ended", problem=f"{type(error).__name__}: {error}".split("\n")[0])

    async def _can_write(self) -> bool:
        """Whether all results are written and more could be. If writes are refused, ends the worker."""
        refused = await asyncio.to_thread(self._store.refused)
        if refused and self._problem is None:
            if refused != self._refused:
                log.error("database_rejects_results", problem=refused)
            self._refused = refused
            self.dismiss()
            for lease in list(self._unwritten):  # give up on them; others check again
                lease.end(written=False)
        elif refused is None:
            self._refused = None
        return refused is None


def _sure() -> Worker | None:
    """The worker of the current check, while no other can have taken it over."""
    worker = WORKER.get()
    return worker if worker and worker.sure else None
