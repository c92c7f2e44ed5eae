"""The rounds of notifications: what is due for each receiver is sent, and remembered once it was taken.

Each receiver has its own task and its own pauses after failures, so that none waits for another, and no check
for any of them. Nothing is queued: the next round derives anew what is due.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import httpx
import structlog

from monitor.config import Settings, Sink
from monitor.core.alert import Alert, Moment, lasted
from monitor.core.alerts import alerts
from monitor.core.alerts_of_daemon import Trouble, alert_of_trouble, troubles
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.status import Snapshot
from monitor.core.telling import Message, Told, accepted, due, noticed, pushed, standing
from monitor.core.wording import WHO, name_of, told
from monitor.notify.alertmanager import RESENT, Alertmanager
from monitor.notify.services import Service
from monitor.notify.webhook import Webhook
from monitor.notify.wire import Unanswered, Undelivered, Wire

EVERY_SECONDS = 10.0
"""Between two rounds: an alert has held for minutes when it becomes one."""

PAUSES = (timedelta(seconds=15), timedelta(minutes=5))
"""After a failure and at the longest; it doubles in between. A receiver that was away for an hour is found to
be back within minutes."""

UNANSWERED_AT_MOST = 3
"""In a row, then a round is over: each may have waited for a quarter of a minute, and what is told when the
receiver is back must be so then. What had no answer comes last in the next round, and keeps no other back."""

THREADS = 2
"""For the services of Apprise."""

log = structlog.get_logger()


class Memory(Protocol):
    """What receivers know, kept over restarts; must neither wait nor raise."""

    def told(self, sink: str) -> dict[str, Told]:
        """What a receiver knows, by the alerts' fingerprints."""

    def tell(self, sink: str, changes: Mapping[str, Told | None]) -> None:
        """What it knows from now on; None is forgotten."""


class Sender(Protocol):
    """How one receiver is told."""

    async def send(self, message: Message, now: datetime) -> None:
        """Send it. Raises Undelivered."""


def sender(sink: Sink, wire: Wire, threads: ThreadPoolExecutor, *, pages: str) -> Sender:
    """How this receiver is told."""
    match sink.kind:
        case "alertmanager":
            return Alertmanager(sink, wire)
        case "webhook":
            return Webhook(sink, wire, pages)
        case "apprise":
            return Service(sink, wire, threads)


@dataclass(slots=True)
class _Outlet:
    """One receiver, and how it went."""

    sink: Sink
    sender: Sender
    failures: int = 0
    """Rounds in a row that failed."""
    failed: datetime | None = None
    """When the last of them did."""
    unanswered: frozenset[str] = frozenset()
    """The groups whose messages had no answer in the last round."""
    pushed: datetime | None = None
    """When an Alertmanager last got all that it should have."""
    task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()

    def rests(self, now: datetime) -> bool:
        """Whether it is let be for a while after a failure."""
        first, longest = PAUSES
        pause = min(first * 2 ** (self.failures - 1), longest) if self.failures else timedelta(0)
        return self.failed is not None and not lasted(self.failed, pause, now)


@dataclass(slots=True)
class _Round:
    """One moment for one receiver."""

    outlet: _Outlet
    memory: Memory
    counted: Callable[[bool], None]
    snapshot: Snapshot
    alerts: list[Alert]
    known: dict[str, Told] = field(default_factory=dict)
    tries: int = 0
    unanswered: int = 0
    """In a row."""

    async def run(self) -> None:
        outlet, now = self.outlet, self.snapshot.at
        sink = outlet.sink
        self.known = self.memory.told(sink.name)
        self._remember(noticed(self.alerts, self.known, self.snapshot))
        problems = await (self._push() if sink.kind == "alertmanager" else self._tell())
        if not self.tries:
            return
        if problems:
            outlet.failed = now
            outlet.failures = min(outlet.failures + 1, 10)
            log.warning("notification_failed", sink=sink.name, problem=problems[0], messages=len(problems))
        else:
            if outlet.failures:
                log.info("notifications_arrive_again", sink=sink.name)
            outlet.failures, outlet.failed = 0, None

    async def _push(self) -> list[str]:
        now, outlet = self.snapshot.at, self.outlet
        message = pushed(self.alerts, self.known, now)
        stands = standing(self.known)
        new = [alert for alert in message.firing if alert.fingerprint not in stands]
        rested = outlet.pushed is None or lasted(outlet.pushed, RESENT, now)
        if not (new or message.resolved or (message.firing and rested)):
            return []
        if problem := await self._sent(message):
            return [problem]
        outlet.pushed = now
        news = Message(message.title, message.group, tuple(new), message.resolved)
        self._remember(accepted(news, self.known, now))
        return []

    async def _tell(self) -> list[str]:
        now, sink = self.snapshot.at, self.outlet.sink
        problems = []
        messages = due(self.alerts, self.known, repeat=sink.repeat, now=now)
        messages.sort(key=lambda message: message.group in self.outlet.unanswered)
        self.outlet.unanswered = frozenset()
        for message in messages:
            if message.firing or sink.resolved:
                if problem := await self._sent(message):
                    problems.append(problem)
                    if self.unanswered == UNANSWERED_AT_MOST:
                        break
                    continue  # it may be this message that is refused, and not the next
                log.info(
                    "notified",
                    sink=sink.name,
                    title=message.title,
                    firing=len(message.firing),
                    resolved=len(message.resolved),
                )
            self._remember(accepted(message, self.known, now))
        return problems

    async def _sent(self, message: Message) -> str | None:
        """Send a message. Gives why it was not taken."""
        problem, silent = None, False
        self.tries += 1
        try:
            await self.outlet.sender.send(message, self.snapshot.at)
        except Undelivered as undelivered:
            problem, silent = str(undelivered), isinstance(undelivered, Unanswered)
        except Exception as fault:  # the one net: no bug of ours may end the rounds
            log.exception("notifier_failed", sink=self.outlet.sink.name)
            problem = f"The monitor itself failed: {type(fault).__name__}."
        self.unanswered = self.unanswered + 1 if silent else 0
        if silent:
            self.outlet.unanswered |= {message.group}
        self.counted(problem is None)
        return problem

    def _remember(self, changes: Mapping[str, Told | None]) -> None:
        if not changes:
            return
        self.memory.tell(self.outlet.sink.name, changes)
        self.known = self.memory.told(self.outlet.sink.name)


class Notifier:
    """Tells receivers what is due, round by round, until it is stopped."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        memory: Memory,
        transport: httpx.AsyncBaseTransport,
        environment: Mapping[str, str],
        counted: Callable[[bool], None] = lambda arrived: None,
        leads: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`counted` hears of each try whether it arrived; nothing is sent while another replica `leads`. The
        transport is closed with the notifier.
        """
        self._snapshot = snapshot
        self._memory = memory
        self._transport = transport
        self._wire = Wire(transport, environment)
        self._counted = counted
        self._leads = leads
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="apprise")
        self._troubles: dict[Trouble, datetime] = {}
        self._settings: Settings | None = None
        self._outlets: dict[str, _Outlet] = {}
        self._running: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def configure(self, settings: Settings) -> None:
        """Take on a configuration: receivers that stay as they were go on undisturbed."""
        pages = settings.web.external_url
        moved = self._settings is None or self._settings.web.external_url != pages
        outlets = {}
        for sink in settings.sinks:
            kept = self._outlets.get(sink.name)
            if kept and kept.sink == sink and not moved:
                outlets[sink.name] = kept
                continue
            made = _Outlet(sink, sender(sink, self._wire, self._threads, pages=pages))
            made.task = kept.task if kept else None  # what is being sent is sent before anything else is
            outlets[sink.name] = made
        self._settings, self._outlets = settings, outlets

    def start(self) -> None:
        """Begin the rounds."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End the rounds. What is being sent has the time that the transport gives it."""
        self._stopping.set()
        if self._running:
            await self._running
        await self.settled()
        await self._transport.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def settled(self) -> None:
        """Wait until nothing is being sent."""
        if tasks := [outlet.task for outlet in self._outlets.values() if outlet.task]:
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self.look()
            except Exception:  # the rounds must go on, whatever went wrong in one
                log.exception("notifier_failed")
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Begin a round for each receiver that is not busy, nor in its pause after a failure.

        None begins while another replica leads.
        """
        settings, leads = self._settings, self._leads is None or await self._leads()
        if settings is None or not self._outlets or not leads:
            self._troubles = {}  # nobody looks whether they go on
            return
        snapshot = self._snapshot()
        found = await asyncio.to_thread(self._alerts, Moment(snapshot, settings.terms))
        for outlet in self._outlets.values():
            if outlet.busy or outlet.rests(snapshot.at):
                continue
            mine = [alert for alert in found if outlet.sink.route.takes(alert)]
            this = _Round(outlet, self._memory, self._counted, snapshot, mine)
            outlet.task = asyncio.get_running_loop().create_task(this.run())

    def _alerts(self, moment: Moment) -> list[Alert]:
        """The alerts of this moment. A trouble of our own must have been there in every round of its time."""
        self._troubles = {one: self._troubles.get(one, moment.now) for one in troubles(moment)}
        own = [
            alert_of_trouble(trouble, since, moment)
            for trouble, since in self._troubles.items()
            if moment.lasted(since, trouble.hold)
        ]
        return [*own, *alerts(moment.snapshot, moment.terms)]


def drill(cause: Cause, now: datetime) -> Message:
    """A message that is clearly marked as a drill, as it would be sent for this cause."""
    entry = CATALOGUE[cause]
    alert = Alert(
        labels={
            "alertname": name_of(cause),
            "connection": "drill",
            "cause": cause.value,
            "severity": entry.severity.value,
            "responsible": entry.responsible.value,
            "drill": "true",
        },
        texts=lambda: {
            "summary": f"DRILL: {entry.title}",
            "description": "This is a drill, sent by hand: nothing is wrong. In earnest it would say:\n"
            + told(entry.meaning, who=WHO[entry.responsible], steps=entry.remedy, guide=entry.guide),
        },
        since=now,
        concerns=(),
    )
    return Message(alert.annotations["summary"], "drill", (alert,), id=f"drill-{cause}-{now:%Y%m%d%H%M%S}")
