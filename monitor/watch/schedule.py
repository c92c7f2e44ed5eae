"""The schedule: an APScheduler job that begins the checks that are due.

Due checks wait for one of a fixed number of slots. This limits concurrent checks without losing any of ten
thousand that fall due at once (when a suspended machine wakes up). Connections that hung at their last check
share half of the slots, so that the others stay on time.

Turns are kept by the steady clock: setting the wall clock brings no check forward, and delays one by ten
seconds at most.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import ClassVar

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from monitor.config import Settings
from monitor.core.status import ReplicasStatus
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.soon import BETWEEN_REQUESTS

CLOCK_WATCHED_EVERY_SECONDS = 10.0
"""How soon to notice that the wall clock was set back: within the shortest interval."""

LOOK_EVERY = timedelta(seconds=1)
"""How often to begin what is due: checks that begin together cost a quarter less than one by one."""

SET_BACK_SECONDS = 5.0
"""The smallest step of the wall clock that matters; a smaller one delays checks by less than that."""

AFTER_A_FAULT = timedelta(minutes=5)
"""Time to the next check if one raised: the default interval."""

log = structlog.get_logger()

Check = Callable[[str], Awaitable[datetime | None]]
"""Checks a connection. Gives the time of its next check; None for no more."""


Turn = tuple[float, str]
"""When a connection is due, by the steady clock, and its name."""


class Scheduler:
    """Schedules the checks of all connections. This one has no timers, and does nothing."""

    shared: ClassVar[bool] = False
    """Whether replicas share the work. It then triggers notifications, as only one may send them, and records
    a new configuration with the next check, as another replica may have made the last one.
    """

    @property
    def running(self) -> bool:
        """Whether checks are being scheduled."""
        return True

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

    def start(self) -> None:
        """Begin scheduling."""

    def at(self, name: str, moment: datetime) -> None:
        """Set the time of the connection's next check."""

    def cancel(self, name: str) -> None:
        """Drop the connection from the schedule."""

    async def stop(self, within_seconds: float) -> None:
        """Begin no more checks, and wait for running ones, but not longer than this."""


class ManualSchedule(Scheduler):
    """For callers that run the checks themselves: a command, the demo, tests."""

    def __init__(self) -> None:
        self.due: dict[str, datetime] = {}

    def at(self, name: str, moment: datetime) -> None:
        """Set the time of the connection's next check."""
        self.due[name] = moment

    def cancel(self, name: str) -> None:
        """Drop the connection from the schedule."""
        self.due.pop(name, None)


class Looks(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """One look at once, then one each LOOK_EVERY after the last.

    IntervalTrigger would list each second that a suspended machine or a corrected clock skipped: 4 s of CPU
    and 100 MB for a month, and a machine without a battery skips years.
    """

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """When to look, from now on."""
        return now + LOOK_EVERY if previous else now


class Schedule(Scheduler):
    """Begins each connection's check when it is due. Create and use it inside a running event loop."""

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
        self._turns: dict[str, float] = {}
        """When each connection is due, by the steady clock."""
        self._order: list[Turn] = []
        """The same as a heap. What is no longer in `_turns` is skipped when it comes up."""
        self._due: dict[bool, deque[Turn]] = {True: deque(), False: deque()}
        """Due checks waiting for a slot, by whether the last check hung."""
        self._busy: dict[str, datetime | None] = {}
        self._under_way: dict[asyncio.Task[None], bool] = {}
        self._beginning = False
        self._clock_watch: asyncio.Task[None] | None = None
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        # However late it is, look: by default, what is a second late is dropped.
        self._job = self._scheduler.add_job(self._look, Looks(), misfire_grace_time=None)

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

        During a check, it takes effect a little later, as it is another login, and only if that is earlier
        than the check's own plan.
        """
        if name in self._busy:
            self._busy[name] = max(moment, self._clock.now() + BETWEEN_REQUESTS)
            return
        now = self._clock.steady()
        due = self._turns[name] = now + (moment - self._clock.now()).total_seconds()
        if self.running and due <= now:
            self._fall_due((due, name))
        else:
            heappush(self._order, (due, name))

    def cancel(self, name: str) -> None:
        """Drop the connection from the schedule; a running check continues."""
        self._turns.pop(name, None)

    async def stop(self, within_seconds: float) -> None:
        """Begin no more checks, and wait for running ones, but not longer than this."""
        if self._clock_watch:
            self._clock_watch.cancel()
        if self._scheduler.running:
            self._scheduler.pause()  # the shutdown comes later, and would cancel a new look, with an error
            self._scheduler.shutdown(wait=False)
        self._turns.clear()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=within_seconds)
            for check in late:
                check.cancel()

    async def _look(self) -> None:
        now = self._clock.steady()
        while self._order and self._order[0][0] <= now:
            self._fall_due(heappop(self._order))

    def _fall_due(self, turn: Turn) -> None:
        if self._is_current(turn):
            self._due[self._hangs(turn[1])].append(turn)
            self._begin_soon()

    def _is_current(self, turn: Turn) -> bool:
        """Whether the connection was neither cancelled nor given another turn."""
        due, name = turn
        return self._turns.get(name) == due

    def _begin_soon(self) -> None:
        """Begin a waiting check in the loop's next iteration.

        If all that are due together began in one, they would hold up pages and running checks.
        """
        if not self._beginning:
            self._beginning = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._beginning = False
        if len(self._under_way) >= self._at_once:
            return
        hanging = bool(self._due[True]) and sum(self._under_way.values()) < max(1, self._at_once // 2)
        if not self._due[hanging]:
            return
        turn = self._due[hanging].popleft()
        if self._is_current(turn):
            due, name = turn
            del self._turns[name]
            self._busy[name] = None
            check = asyncio.create_task(self._run(name, due))
            self._under_way[check] = hanging
            check.add_done_callback(self._ended)
        self._begin_soon()

    def _ended(self, check: asyncio.Task[None]) -> None:
        del self._under_way[check]
        self._begin_soon()

    async def _run(self, name: str, due: float) -> None:
        self._own.schedule_delay.observe(self._clock.steady() - due)
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
        """Look after the wall clock was set back: APScheduler would wait until it has caught up."""
        ahead = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(CLOCK_WATCHED_EVERY_SECONDS)
            before, ahead = ahead, time.time() - time.monotonic()
            if before - ahead > SET_BACK_SECONDS:
                log.warning("clock_set_back", seconds=round(before - ahead))
                self._job.modify(next_run_time=datetime.now(UTC))
