"""One of several daemons that share the work through PostgreSQL.

Replaces `Schedule`. Its `worker` checks the due connections that Procrastinate assigns to it, with
the history in the database; a result is written with the next due time, unless another replica has taken over
meanwhile. Once a second, the replica reads the others' results.

A replica that can't write takes no work: it rehearses a write before starting a worker, and ends the worker
when a write is refused. While the database is down it keeps results, begins no checks, and overdue
connections get state unknown.
"""

import asyncio
import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import psycopg
import structlog

from monitor.config import Settings
from monitor.core.history import History
from monitor.core.status import ReplicasStatus
from monitor.store import StoreError, due
from monitor.store.due import ALIVE_SECONDS, Configured, Ear, Heard, Link, Wanted
from monitor.store.postgresql import shut_down
from monitor.watch.check import sent
from monitor.watch.worker import Host, Worker, why

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

GONE_SECONDS = 30.0
"""Without a worker for this long, a configuration is out of use: a replica that restarts is back by then."""

UNWATCHED = timedelta(seconds=60)
"""An overdue connection gets state unknown after this long: longer than a check plus a takeover by another
replica."""

log = structlog.get_logger()


class Replica(Host):
    """Shares checks with other replicas."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._ear = Ear(self.me)
        self._news: dict[str, tuple[History | str, datetime]] = {}
        """Others' results (or why they can't be read), with the next due time."""
        self._link: psycopg.AsyncConnection[Any] | None = None
        self._heard_at = self.awake()
        self._reconcile_at = 0.0
        self._reconciled_with: tuple[set[str], bool] = set(), False
        self._last_heard = {"": self.awake()}
        """When each configuration last had a worker, by `awake`. "": any other, while we could not hear."""
        self._scheduled = 0
        self._tasks: list[asyncio.Task[None]] = []
        """Empty before the start and after the stop."""

    @property
    def running(self) -> bool:
        """Whether checks are being scheduled."""
        return bool(self._tasks) and all(not task.done() for task in self._tasks)

    @property
    def problem(self) -> str | None:
        """Why nothing is checked here: the database is down, or refuses writes or workers; None otherwise."""
        worker = self._worker
        refused = None if worker and worker.works else self.store.problem or self.worker_problem
        failing = worker.failing if worker else {}
        return self._problem or refused or failing.get("dispatch") or failing.get("check")

    @property
    def cut_off(self) -> str | None:
        """Why the status shown here may be old: the database is down, and others may have taken over."""
        return self._problem if self.awake() - self._heard_at > ALIVE_SECONDS else None

    def start(self) -> None:
        """Begin scheduling."""
        self._tasks = [asyncio.create_task(each()) for each in (self._listen, self._follow, self._supervise)]

    def configure(self, settings: Settings) -> None:
        """Apply a configuration; call it before scheduling its connections."""
        watched = (settings.login_budget_per_hour, settings.connections)
        before = self.configured
        self.configured = Configured(
            _mark(watched),
            {
                connection.name: Wanted(_mark(sent(connection)), connection.username)
                for connection in settings.connections
                if not connection.paused
            },
            settings.login_budget_per_hour,
        )
        self._unclaimed = {
            name
            for name, one in self.configured.connections.items()
            if name in self._unclaimed or one != before.connections.get(name)
        }
        self._reconcile_at = 0.0
        if self.configured.mark != before.mark:
            self.dismiss()

    def at(self, name: str, moment: datetime) -> None:
        """Have the connection checked by then, by any replica."""
        self._wanted[name] = self.awake() + (moment - self.clock.now()).total_seconds()

    def cancel(self, name: str) -> None:
        """Drop the connection's schedule once no replica has it configured."""
        self._wanted.pop(name, None)

    async def stop(self, within_seconds: float) -> None:
        """Begin no more checks, and wait for running ones, but not longer than this."""
        tasks, self._tasks = self._tasks, []
        self.dismiss()
        if tasks:
            await asyncio.wait(tasks[-1:], timeout=0 if self._problem else within_seconds)
            for _ in range(2 if self._problem else 1):  # the engine makes the first wait for the database
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=1)
        if self._link:
            await self._link.close()

    # Background tasks

    async def _listen(self) -> None:
        """Read others' results, and write requested due times."""
        while True:
            # What waits for an answer might do so forever.
            cut = asyncio.get_running_loop().call_later(CUT_SECONDS, self._cut)
            try:
                with self.server.in_words():
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
            how = self.server.how(writes=True)
            self._link = await psycopg.AsyncConnection.connect(**how, autocommit=True)
            self._links.add(self._link)
        begun = self.awake()
        link, asked = self._link, self.clock.own.machine()
        heard = await self._ear.listen(link)
        self.clock.learn(heard.at, asked)
        if begun - self._heard_at > ALIVE_SECONDS:
            self._last_heard[""] = begun  # others may be as late as we are
        self._heard_at = begun
        self._take_over_news(heard)
        configurations = [configuration for _, configuration in heard.alive]
        if self._problem:
            self._reconcile_at = begun  # another server may have taken over, without the last rows
        await self._reconcile(link, set(configurations), begun)
        if self._problem:
            self._problem = None
            self._mark_unwatched()
            log.info("replication_recovered")
            await asyncio.to_thread(self.store.flush, 0.0)  # without waiting for the next retry
        of_newest = [worker for worker, configuration in heard.alive if configuration == configurations[-1]]
        if not heard.schema:
            self.dismiss()  # the rehearsal says why no other begins
        self.status = ReplicasStatus(
            alive=len(configurations),
            configurations=len(set(configurations)),
            scheduled=self._scheduled,
            leads=self._worker is not None and self._worker.works and of_newest[:1] == [self._worker.number],
            reachable=True,
            overdue_seconds=heard.overdue,
        )
        self._led = self._led and self.leads

    def _take_over_news(self, heard: Heard) -> None:
        now, known = self.clock.now(), self.store.histories() if heard.news else {}
        for one in heard.news:
            if isinstance(one.known, History):
                self.store.take_over(one.name, one.known)
            if found := one.known or known.get(one.name) or self.store.unreadable.get(one.name):
                self._news[one.name] = (found, now + timedelta(seconds=one.seconds))

    async def _reconcile(self, link: Link, alive: set[str], begun: float) -> None:
        """Write requested due times; now and then compare the rows with the configuration."""
        said = await self._say_what_is_wanted(link)
        configured = self.configured  # another may be loaded meanwhile
        heard = self._last_heard | dict.fromkeys(alive, begun)
        self._last_heard = {mark: at for mark, at in heard.items() if begun - at < GONE_SECONDS}
        agreed = self._last_heard.keys() == {configured.mark}
        if not said or ((alive, agreed) == self._reconciled_with and begun < self._reconcile_at):
            return
        seconds = RECONCILE_SECONDS if agreed else DISAGREE_SECONDS
        self._reconcile_at, self._reconciled_with = begun + seconds, (alive, agreed)
        could_hear = "" not in self._last_heard
        missing = await due.reconcile(link, configured, alive, agreed=agreed, late=could_hear)
        self._scheduled = len(configured.connections) - len(missing)
        for name in missing:
            self._wanted.setdefault(name, begun)
            self._reconcile_at = begun

    async def _say_what_is_wanted(self, link: Link) -> bool:
        """Write requested due times, up to a number at once. True if there are no more."""
        configured, now = self.configured, self.awake()
        # A running check sets the next due time first.
        waiting = ((name, at) for name, at in self._wanted.items() if name not in self.results)
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
        if self.configured is configured:
            self._unclaimed -= wanted.keys()
        return len(wanted) < WANTED_AT_ONCE

    async def _follow(self) -> None:
        """Show others' results."""
        while True:
            for name in list(self._news):
                if name in self.results:
                    continue  # wait for our check, whose result may come too late to count
                found, due_at = self._news.pop(name)
                if name in self.fleet:
                    try:
                        if isinstance(found, str):
                            self.checker.show_unreadable(name, found, due_at)
                        else:
                            await self.checker.show_result(name, found, due_at)
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
        now, away = self.clock.now(), self._problem is not None
        for status in self.fleet.statuses():
            late = status.next_exchange is not None and now - status.next_exchange > UNWATCHED
            if status.unwatched != (unwatched := late and away):
                self.fleet.put(replace(status, unwatched=unwatched))

    async def _supervise(self) -> None:
        """Run a worker whenever results can be written."""
        while self._tasks:
            try:
                if self.status and not self._problem and await self.can_write() and self._tasks:
                    self._worker = Worker(self)
                    await self._worker.run()
            except Exception as error:  # noqa: BLE001 # the next worker may succeed
                self.worker_problem = f"The monitor's worker ended: {why(error)}"
                log.warning("worker_ended", problem=self.worker_problem)
            if self._tasks:
                await asyncio.sleep(HEAR_SECONDS)


def _mark(value: object) -> str:
    """A short hash: differs if the value does."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
