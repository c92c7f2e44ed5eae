"""Appointments: one a connection, kept by APScheduler; when one is due, its connection is checked.

What is due waits for one of a fixed number of places, so there is a hard cap on checks under way, and none of
ten thousand appointments that fall due at once (a suspended machine wakes up) is lost. Connections that hung
at their last check share half of the places, so that the others keep their schedule.

Where the wall clock is set back, appointments move with it: else none would be kept until it has caught up.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger

from monitor.config import Settings
from monitor.core.status import ReplicasStatus
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics

CLOCK_WATCHED_EVERY_SECONDS = 10.0
"""How soon it is seen that the wall clock was set back: no later than the shortest interval ends."""

DUE_AT_ONCE = 20
"""Appointments that fall due in one turn of the event loop: a few milliseconds of it. All ten thousand of a
machine that wakes up would keep it for a second, and health and metrics would have no answer meanwhile."""

SET_BACK = timedelta(seconds=5)
"""A step of the wall clock that matters; a smaller one delays no check by more than that."""

AFTER_A_FAULT = timedelta(minutes=5)
"""Until the next appointment of a connection whose check raised: the usual interval."""

log = structlog.get_logger()

Check = Callable[[str], Awaitable[datetime | None]]
"""Checks the connection of this name, and gives the moment of its next appointment; None for no more."""


class Engine(Protocol):
    """What keeps one appointment for each connection, and makes its check when it is due."""

    notifies: ClassVar[bool] = False
    """Whether it also says when to notify: of several replicas it must be one that does."""

    @property
    def running(self) -> bool:
        """Whether appointments are kept."""

    @property
    def problem(self) -> str | None:
        """Why no appointments can be kept; None where they can."""
        return None

    @property
    def cut_off(self) -> str | None:
        """Why what is shown here is old; None where it is not."""
        return None

    @property
    def status(self) -> ReplicasStatus | None:
        """What is known of the replicas that share the work; None where there are none."""
        return None

    def configure(self, settings: Settings) -> None:
        """Take on a configuration; must come before its appointments are made."""
        return

    def start(self) -> None:
        """Begin to keep appointments."""

    def at(self, name: str, moment: datetime) -> None:
        """Make the connection's appointment, in place of the one it has."""

    def cancel(self, name: str) -> None:
        """Let the connection's appointment go."""

    async def stop(self, within_seconds: float) -> None:
        """Make no more checks, and wait for those under way, but not longer than this."""


class ByHand(Engine):
    """Appointments that are only noted, for what checks in its own time: a command, the demo, a journey."""

    running = True

    def __init__(self) -> None:
        self.due: dict[str, datetime] = {}

    def start(self) -> None:
        """Nothing is made by itself."""

    def at(self, name: str, moment: datetime) -> None:
        """Note the connection's appointment, in place of the one it has."""
        self.due[name] = moment

    def cancel(self, name: str) -> None:
        """Let the connection's appointment go."""
        self.due.pop(name, None)

    async def stop(self, within_seconds: float) -> None:
        """Nothing is under way."""


class Schedule(Engine):
    """Keeps one appointment for each connection; must be made and used inside a running event loop."""

    def __init__(
        self,
        check: Check,
        *,
        clock: Clock,
        at_once: int,
        own: OwnMetrics,
        hangs: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._check = check
        self._hangs = hangs
        self._clock = clock
        self._at_once = at_once
        self._own = own
        self._due: dict[bool, deque[tuple[str, datetime]]] = {True: deque(), False: deque()}
        """What waits for a place, by whether it hung at its last check."""
        self._busy: dict[str, datetime | None] = {}
        self._under_way: dict[asyncio.Task[None], bool] = {}
        self._clock_watch: asyncio.Task[None] | None = None
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            jobstores={"default": _AFewAtOnce()},
            # A late check is still wanted: by default one that is a second late is dropped.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(
            self._missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR
        )

    @property
    def running(self) -> bool:
        """Whether appointments are kept."""
        return bool(self._scheduler.running)

    def start(self) -> None:
        """Begin to keep appointments."""
        self._scheduler.start()
        self._clock_watch = asyncio.create_task(self._watch_clock())

    def at(self, name: str, moment: datetime) -> None:
        """Make the connection's appointment, in place of the one it has.

        A connection that is being checked just now gets it when the check is done, if it is the earlier one.
        """
        if name in self._busy:
            self._busy[name] = moment
            return
        moment -= self._clock.correction()  # the library goes by the machine's clock
        self._scheduler.add_job(
            self._fall_due,
            DateTrigger(moment, timezone=UTC),
            args=(name, moment),
            id=name,
            name="check",  # else the library makes up one for each
            replace_existing=True,
        )

    def hasten(self, by: timedelta) -> None:
        """Every appointment comes so much sooner: the wall clock was set back."""
        self._scheduler.pause()  # else it would look anew after each
        for job in self._scheduler.get_jobs():
            self._scheduler.modify_job(job.id, next_run_time=job.next_run_time - by)
        self._scheduler.resume()

    def cancel(self, name: str) -> None:
        """Let the connection's appointment go; a check under way is not disturbed."""
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return

    async def stop(self, within_seconds: float) -> None:
        """Make no more checks, and wait for those under way, but not longer than this."""
        if self._clock_watch:
            self._clock_watch.cancel()
        if self._scheduler.running:
            self._scheduler.pause()
            # What falls due just now gets into the queue: the shutdown would cancel it, and log an error.
            await asyncio.sleep(0)
            self._scheduler.shutdown(wait=False)
        for waiting in self._due.values():
            waiting.clear()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=within_seconds)
            for check in late:
                check.cancel()

    async def _fall_due(self, name: str, due: datetime) -> None:
        self._due[self._hangs(name)].append((name, due))
        self._begin()

    def _begin(self) -> None:
        """Begin what waits, as far as there are places."""
        while len(self._under_way) < self._at_once:
            hanging = bool(self._due[True]) and sum(self._under_way.values()) < max(1, self._at_once // 2)
            if not self._due[hanging]:
                return
            name, due = self._due[hanging].popleft()
            if name in self._busy:
                continue
            self._busy[name] = None
            check = asyncio.create_task(self._keep(name, due))
            self._under_way[check] = hanging
            check.add_done_callback(self._ended)

    def _ended(self, check: asyncio.Task[None]) -> None:
        del self._under_way[check]
        self._begin()

    async def _keep(self, name: str, due: datetime) -> None:
        self._own.schedule_delay.observe(max(0.0, (datetime.now(UTC) - due).total_seconds()))
        try:
            following = await self._check(name)
        except Exception:  # a check has its own net; should that tear, the connection is looked at again
            log.exception("check_failed", connection=name)
            self._own.schedule_missed.inc()
            following = self._clock.now() + AFTER_A_FAULT
        wanted = [moment for moment in (following, self._busy.pop(name)) if moment]
        if wanted and self.running:
            self.at(name, min(wanted))

    async def _watch_clock(self) -> None:
        """Move appointments with a wall clock that is set back; one that is set ahead makes them due."""
        steady = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(CLOCK_WATCHED_EVERY_SECONDS)
            before, steady = steady, time.time() - time.monotonic()
            back = timedelta(seconds=before - steady)
            if back > SET_BACK:
                log.warning("clock_set_back", seconds=round(back.total_seconds()))
                self.hasten(back)

    def _missed(self, event: JobEvent) -> None:
        self._own.schedule_missed.inc()


class _AFewAtOnce(MemoryJobStore):  # type: ignore[misc]  # the library has no types
    """Hands over DUE_AT_ONCE of the appointments that are due; the scheduler then asks at once for more."""

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return super().get_due_jobs(now)[:DUE_AT_ONCE]  # type: ignore[no-any-return]
