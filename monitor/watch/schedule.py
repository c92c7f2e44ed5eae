"""The schedule: one APScheduler timer per connection, which triggers its check.

Due checks wait for one of a fixed number of slots. This limits concurrent checks without losing any of ten
thousand that fall due at once (when a suspended machine wakes up). Connections that hung at their last check
share half of the slots, so that the others stay on time.

If the wall clock is set back, timers move with it; otherwise none would fire until it has caught up.
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
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from monitor.config import Settings
from monitor.core.status import ReplicasStatus
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics

CLOCK_WATCHED_EVERY_SECONDS = 10.0
"""How soon to notice that the wall clock was set back: within the shortest interval."""

DUE_AT_ONCE = 20
"""Timers to fire per iteration of the event loop: a few milliseconds. All ten thousand at wake-up would block
it for a second, and with it health checks and metrics."""

SET_BACK = timedelta(seconds=5)
"""The smallest step of the wall clock that matters; a smaller one delays checks by less than that."""

AFTER_A_FAULT = timedelta(minutes=5)
"""Time to the next check if one raised: the default interval."""

NOT_BY_ITSELF = datetime.max.replace(tzinfo=UTC)

log = structlog.get_logger()

Check = Callable[[str], Awaitable[datetime | None]]
"""Checks a connection. Gives the time of its next check; None for no more."""


class Engine(Protocol):
    """Schedules the checks of all connections."""

    notifies: ClassVar[bool] = False
    """Whether it also triggers notifications: only one of several replicas may send them."""

    @property
    def running(self) -> bool:
        """Whether checks are being scheduled."""

    @property
    def problem(self) -> str | None:
        """Why checks can't be scheduled; None if they can."""
        return None

    @property
    def cut_off(self) -> str | None:
        """Why the status shown here may be old; None otherwise."""
        return None

    @property
    def status(self) -> ReplicasStatus | None:
        """The replicas that share the work; None without replicas."""
        return None

    def configure(self, settings: Settings) -> None:
        """Apply a configuration; call it before scheduling its connections."""
        return

    def start(self) -> None:
        """Begin scheduling."""

    def at(self, name: str, moment: datetime) -> None:
        """Set the time of the connection's next check."""

    def cancel(self, name: str) -> None:
        """Drop the connection from the schedule."""

    async def stop(self, within_seconds: float) -> None:
        """Begin no more checks, and wait for running ones, but not longer than this."""


class ManualSchedule(Engine):
    """A schedule without timers, for callers that run the checks themselves: a command, the demo, tests."""

    running = True

    def __init__(self) -> None:
        self.due: dict[str, datetime] = {}

    def start(self) -> None:
        """Do nothing."""

    def at(self, name: str, moment: datetime) -> None:
        """Set the time of the connection's next check."""
        self.due[name] = moment

    def cancel(self, name: str) -> None:
        """Drop the connection from the schedule."""
        self.due.pop(name, None)

    async def stop(self, within_seconds: float) -> None:
        """Do nothing."""


class Schedule(Engine):
    """One timer per connection. Create and use it inside a running event loop."""

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
        """Due checks waiting for a slot, by whether the last check hung."""
        self._due_times: dict[str, datetime] = {}
        """When each connection was last due, by the machine's clock."""
        self._busy: dict[str, datetime | None] = {}
        self._under_way: dict[asyncio.Task[None], bool] = {}
        self._clock_watch: asyncio.Task[None] | None = None
        self._scheduler = _OneLook(
            timezone=UTC,
            jobstores={"default": _LimitedJobStore()},
            # Run late checks: by default, one that is a second late is dropped.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(
            self._missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR
        )

    @property
    def running(self) -> bool:
        """Whether checks are being scheduled."""
        return bool(self._scheduler.running)

    def start(self) -> None:
        """Begin scheduling."""
        self._scheduler.start()
        self._clock_watch = asyncio.create_task(self._watch_clock())

    def at(self, name: str, moment: datetime) -> None:
        """Set the time of the connection's next check.

        During a check, it takes effect afterwards, if it is earlier than the check's own plan.
        """
        if name in self._busy:
            self._busy[name] = moment
            return
        moment -= self._clock.correction()  # APScheduler uses the machine's clock
        known = name in self._due_times
        self._due_times[name] = moment
        if known:
            self._scheduler.modify_job(name, next_run_time=moment)
        else:
            self._scheduler.add_job(
                self._fall_due,
                _NeverByItself(),
                args=(name,),
                id=name,
                name="check",  # otherwise the library generates one for each
                next_run_time=moment,
            )

    def move_forward(self, by: timedelta) -> None:
        """Move all timers forward by `by`, after the wall clock was set back."""
        self._scheduler.pause()  # otherwise it would recompute its wake-up after each
        for job in self._scheduler.get_jobs():
            self._scheduler.modify_job(job.id, next_run_time=job.next_run_time - by)
        self._scheduler.resume()

    def cancel(self, name: str) -> None:
        """Drop the connection's timer; a running check continues."""
        if self._due_times.pop(name, None):
            self._scheduler.remove_job(name)

    async def stop(self, within_seconds: float) -> None:
        """Begin no more checks, and wait for running ones, but not longer than this."""
        if self._clock_watch:
            self._clock_watch.cancel()
        if self._scheduler.running:
            self._scheduler.pause()
            # Let timers that fire now reach the queue: the shutdown would cancel them and log an error.
            await asyncio.sleep(0)
            self._scheduler.shutdown(wait=False)
        for waiting in self._due.values():
            waiting.clear()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=within_seconds)
            for check in late:
                check.cancel()

    async def _fall_due(self, name: str) -> None:
        if due := self._due_times.get(name):
            self._due[self._hangs(name)].append((name, due))
            self._start_checks()

    def _start_checks(self) -> None:
        """Begin waiting checks while there are free slots."""
        while len(self._under_way) < self._at_once:
            hanging = bool(self._due[True]) and sum(self._under_way.values()) < max(1, self._at_once // 2)
            if not self._due[hanging]:
                return
            name, due = self._due[hanging].popleft()
            if name in self._busy:
                continue
            self._busy[name] = None
            check = asyncio.create_task(self._run(name, due))
            self._under_way[check] = hanging
            check.add_done_callback(self._ended)

    def _ended(self, check: asyncio.Task[None]) -> None:
        del self._under_way[check]
        self._start_checks()

    async def _run(self, name: str, due: datetime) -> None:
        self._own.schedule_delay.observe(max(0.0, (datetime.now(UTC) - due).total_seconds()))
        try:
            following = await self._check(name)
        except Exception:  # a check catches its own bugs; if not, the connection is checked again
            log.exception("check_failed", connection=name)
            self._own.schedule_missed.inc()
            following = self._clock.now() + AFTER_A_FAULT
        wanted = [moment for moment in (following, self._busy.pop(name)) if moment]
        if wanted and self.running:
            self.at(name, min(wanted))

    async def _watch_clock(self) -> None:
        """Move timers when the wall clock is set back. If it is set ahead, they are simply due."""
        steady = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(CLOCK_WATCHED_EVERY_SECONDS)
            before, steady = steady, time.time() - time.monotonic()
            back = timedelta(seconds=before - steady)
            if back > SET_BACK:
                log.warning("clock_set_back", seconds=round(back.total_seconds()))
                self.move_forward(back)

    def _missed(self, event: JobEvent) -> None:
        self._own.schedule_missed.inc()


class _OneLook(AsyncIOScheduler):  # type: ignore[misc]  # the library has no types
    """Looks for due jobs once per iteration of the loop, however many were changed: 10,000 are at a start."""

    _wanted = False

    def wakeup(self) -> None:
        """Have it look soon."""
        if not self._wanted:
            self._wanted = True
            super().wakeup()

    def _process_jobs(self) -> float | None:
        self._wanted = False
        return super()._process_jobs()  # type: ignore[no-any-return]


class _NeverByItself(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Leaves the next run to `at`. A new job for each check would cost 6 % of a check."""

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Keep the job, not due."""
        return NOT_BY_ITSELF


class _LimitedJobStore(MemoryJobStore):  # type: ignore[misc]  # the library has no types
    """Returns DUE_AT_ONCE due timers at a time; the scheduler asks for more at once."""

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return super().get_due_jobs(now)[:DUE_AT_ONCE]  # type: ignore[no-any-return]
