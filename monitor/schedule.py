"""Appointments: one a connection, kept by APScheduler; when one is due, its connection is checked.

What is due goes into a queue that a fixed number of workers empty. So there is a hard cap on checks under
way, and ten thousand appointments that fall due at once (a suspended machine wakes up) wait their turn; none
is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger

from monitor.clock import Clock
from monitor.metrics import OwnMetrics

Check = Callable[[str], Awaitable[datetime | None]]
"""Checks the connection of this name, and gives the moment of its next appointment; None for no more."""


class Schedule:
    """Keeps one appointment for each connection; must be made and used inside a running event loop."""

    def __init__(self, check: Check, *, clock: Clock, at_once: int, own: OwnMetrics) -> None:
        self._check = check
        self._clock = clock
        self._at_once = at_once
        self._own = own
        self._due: asyncio.Queue[tuple[str, datetime]] = asyncio.Queue()
        self._busy: dict[str, datetime | None] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            # A late check is still wanted: by default one that is a second late is dropped.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(
            self._missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR
        )

    @property
    def running(self) -> bool:
        """Whether appointments are kept."""
        return bool(self._workers) and all(not worker.done() for worker in self._workers)

    def start(self) -> None:
        """Begin to keep appointments."""
        self._scheduler.start()
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._at_once)]

    def at(self, name: str, moment: datetime) -> None:
        """Make the connection's appointment, in place of the one it has.

        A connection that is being checked just now gets it when the check is done, if it is the earlier one.
        """
        if name in self._busy:
            self._busy[name] = moment
            return
        due = self._clock.wall(moment)
        self._scheduler.add_job(
            self._fall_due,
            DateTrigger(due, timezone=UTC),
            args=(name, due),
            id=name,
            replace_existing=True,
        )

    def hasten(self, by: timedelta) -> None:
        """The clock was put ahead: every appointment comes so much the sooner."""
        for job in self._scheduler.get_jobs():
            self._scheduler.modify_job(job.id, next_run_time=job.next_run_time - by)

    @property
    def idle(self) -> bool:
        """Whether nothing is due and no check is under way."""
        return not self._busy and self._due.empty()

    def cancel(self, name: str) -> None:
        """Let the connection's appointment go; a check under way is not disturbed."""
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return

    async def stop(self, within_seconds: float) -> None:
        """Make no more checks, and wait for those under way, but not longer than this."""
        if self._scheduler.running:
            self._scheduler.pause()
            # What falls due just now gets into the queue: the shutdown would cancel it, and log an error.
            await asyncio.sleep(0)
            self._scheduler.shutdown(wait=False)
        while not self._due.empty():
            self._due.get_nowait()
        busy = [worker for worker in self._workers if not worker.done()]
        for _ in busy:
            self._due.put_nowait(_STOP)
        if busy:
            _, late = await asyncio.wait(busy, timeout=within_seconds)
            for worker in late:
                worker.cancel()
        self._workers = []

    async def _fall_due(self, name: str, due: datetime) -> None:
        self._due.put_nowait((name, due))

    async def _work(self) -> None:
        while (appointment := await self._due.get()) is not _STOP:
            name, due = appointment
            if name in self._busy:
                continue
            self._own.schedule_delay.observe(max(0.0, (datetime.now(UTC) - due).total_seconds()))
            self._busy[name] = None
            following = await self._check(name)
            wanted = [moment for moment in (following, self._busy.pop(name)) if moment]
            if wanted:
                self.at(name, min(wanted))

    def _missed(self, event: JobEvent) -> None:
        self._own.schedule_missed.inc()


_STOP = ("", datetime.max.replace(tzinfo=UTC))
