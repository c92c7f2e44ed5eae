"""One round of notifications: what is due for each receiver is sent, and remembered once it was taken.

Nothing is queued. A message that is not taken is due again in the next round, because what the receiver was
last told has not changed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import httpx
import structlog

from monitor.config import Settings, Sink
from monitor.core.alert import Alert, Moment, lasted
from monitor.core.alerts import alerts
from monitor.core.alerts_of_daemon import Trouble, alert_of_trouble, troubles
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.holds import Holds
from monitor.core.status import Snapshot
from monitor.core.telling import GROUP_LABELS, Message, Told, due, is_proven, what_became
from monitor.core.wording import WHO, name_of, told
from monitor.notify import alertmanager, services, webhook
from monitor.notify.wire import Undelivered, Wire

PAUSE = timedelta(minutes=1)
"""After a message that was not taken: a receiver that is away or refuses is not asked in every round."""

ROUND_SECONDS = 30.0
"""No message is begun later than this in a round: what is sent must be so now."""

GAP = timedelta(minutes=10)
"""After so long without a round, as while another replica notifies, what was seen before proves nothing."""

THREADS = 2
"""For the services of Apprise."""

log = structlog.get_logger()


class Memory(Protocol):
    """What receivers were told, kept over restarts."""

    def told(self, sink: str) -> dict[str, Told]:
        """What a receiver was told, by group. Neither waits nor raises."""

    def tell(self, sink: str, changes: Mapping[str, Told | None]) -> None:
        """What it was told from now on; None is forgotten. Neither waits nor raises."""

    def flush(self) -> bool:
        """Wait until that is written. Whether it is."""


@dataclass(slots=True)
class _Outlet:
    """One receiver, and how it went. All of this may be lost."""

    sink: Sink
    failed: datetime | None = None
    """When a message was not taken, in the last round."""
    refused: set[str] = field(default_factory=set)
    """Groups whose message was not taken: they come last, and keep no other back."""
    away: dict[str, datetime] = field(default_factory=dict)
    """Since when groups that the receiver was told have had no alert."""
    held: dict[str, Alert] = field(default_factory=dict)
    """What an Alertmanager was given."""
    pushed: datetime | None = None
    """When that was."""


async def send(
    sink: Sink, wire: Wire, message: Message, now: datetime, *, threads: ThreadPoolExecutor, pages: str
) -> None:
    """Send one message to one receiver. Raises Undelivered."""
    match sink.kind:
        case "alertmanager":
            await alertmanager.push(sink, wire, alertmanager.wanted(message.alerts, {}), {}, now)
        case "webhook":
            await webhook.post(sink, wire, message, now, pages=pages)
        case "apprise":
            await services.say(sink, wire, message, threads)


class Notifier:
    """Notifies receivers of what is due, a round at a time."""

    def __init__(
        self,
        *,
        memory: Memory,
        transport: httpx.AsyncBaseTransport,
        environment: Mapping[str, str],
        counted: Callable[[bool], None] = lambda arrived: None,
    ) -> None:
        """`counted` hears of each try whether it arrived. The transport is closed with the notifier."""
        self._memory = memory
        self._transport = transport
        self._wire = Wire(transport, environment)
        self._counted = counted
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="apprise")
        self._troubles: dict[Trouble, datetime] = {}
        self._settings: Settings | None = None
        self._outlets: dict[str, _Outlet] = {}
        self._stopping = False
        self._last: datetime | None = None
        """When the last round was."""

    def configure(self, settings: Settings) -> None:
        """Take on a configuration: receivers that stay as they were go on undisturbed."""
        kept = {name: outlet for name, outlet in self._outlets.items() if outlet.sink in settings.sinks}
        self._settings = settings
        self._outlets = {sink.name: kept.get(sink.name) or _Outlet(sink) for sink in settings.sinks}

    def stop(self) -> None:
        """Begin no further message; what is being sent has the time that the transport gives it."""
        self._stopping = True

    async def aclose(self) -> None:
        """Close the transport; no round may be under way."""
        await self._transport.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def round(self, snapshot: Snapshot) -> None:
        """Send everyone what is due at this moment. Ends within ROUND_SECONDS and what one message takes."""
        settings = self._settings
        if settings is None or not self._outlets:
            return
        if self._last is None or lasted(self._last, GAP, snapshot.at):
            self._troubles = {}
            for outlet in self._outlets.values():
                outlet.away = {}
        self._last = snapshot.at
        found = await asyncio.to_thread(self._alerts, Moment(snapshot, settings.terms))
        holds = settings.terms.holds
        rounds = (self._notify(outlet, found, snapshot, holds) for outlet in tuple(self._outlets.values()))
        for outcome in await asyncio.gather(*rounds, return_exceptions=True):
            if isinstance(outcome, BaseException):  # a bug of ours must keep no other receiver back
                log.error("notifier_failed", exc_info=outcome)

    def _alerts(self, moment: Moment) -> list[Alert]:
        """The alerts of this moment. A trouble of our own must have been there in every round of its time."""
        self._troubles = {one: self._troubles.get(one, moment.now) for one in troubles(moment)}
        own = [
            alert_of_trouble(trouble, since, moment)
            for trouble, since in self._troubles.items()
            if moment.lasted(since, trouble.hold)
        ]
        return [*own, *alerts(moment.snapshot, moment.terms)]

    async def _notify(self, outlet: _Outlet, found: list[Alert], snapshot: Snapshot, holds: Holds) -> None:
        now = snapshot.at
        if outlet.failed and not lasted(outlet.failed, PAUSE, now):
            return
        mine = [alert for alert in found if outlet.sink.route.takes(alert)]
        if outlet.sink.kind == "alertmanager":
            await self._push(outlet, mine, now)
        else:
            await self._tell(outlet, mine, snapshot, holds)

    async def _push(self, outlet: _Outlet, mine: list[Alert], now: datetime) -> None:
        """Give an Alertmanager all that it should hold, where that changed or was a minute ago."""
        wanted = alertmanager.wanted(mine, outlet.held)
        rested = outlet.pushed is None or lasted(outlet.pushed, alertmanager.RESENT, now)
        if wanted.keys() == outlet.held.keys() and not (wanted and rested):
            return
        if await self._tried(
            outlet, alertmanager.push(outlet.sink, self._wire, wanted, outlet.held, now), now
        ):
            outlet.held, outlet.pushed = wanted, now

    async def _tell(self, outlet: _Outlet, mine: list[Alert], snapshot: Snapshot, holds: Holds) -> None:
        sink, now, known = outlet.sink, snapshot.at, self._memory.told(outlet.sink.name)
        groups = {alert.group for alert in mine}
        outlet.away = {group: outlet.away.get(group, now) for group in known if group not in groups}
        statuses = {status.name: status for status in snapshot.connections} if outlet.away else {}
        proven = {group for group in outlet.away if is_proven(known[group], statuses)}
        messages = list(
            due(mine, known, outlet.away, holds=holds, repeat=sink.repeat, now=now, proven=proven)
        )
        messages.sort(key=lambda message: message.group in outlet.refused)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for message in messages:
            if self._stopping or loop.time() - begun > ROUND_SECONDS:
                return
            if message.alerts or sink.resolved:
                if not message.alerts:
                    message = replace(message, ended=what_became(message.told, statuses))
                if not await self._tried(outlet, self._send(sink, message, now), now):
                    outlet.refused.add(message.group)
                    return
                outlet.refused.discard(message.group)
                log.info("notified", sink=sink.name, title=message.title)
            self._memory.tell(sink.name, {message.group: message.told if message.alerts else None})
            await asyncio.to_thread(self._memory.flush)  # so that a crash repeats one message at most

    def _send(self, sink: Sink, message: Message, now: datetime) -> Coroutine[Any, Any, None]:
        pages = self._settings.web.external_url if self._settings else ""
        return send(sink, self._wire, message, now, threads=self._threads, pages=pages)

    async def _tried(self, outlet: _Outlet, sending: Coroutine[Any, Any, None], now: datetime) -> bool:
        """Send it. Whether it was taken."""
        problem = None
        try:
            await sending
        except Undelivered as undelivered:
            problem = str(undelivered)
        except Exception as fault:  # the one net: no bug of ours may end the rounds
            log.exception("notifier_failed", sink=outlet.sink.name)
            problem = f"The monitor itself failed: {type(fault).__name__}."
        self._counted(problem is None)
        if problem:
            log.warning("notification_failed", sink=outlet.sink.name, problem=problem)
        elif outlet.failed:
            log.info("notifications_arrive_again", sink=outlet.sink.name)
        outlet.failed = now if problem else None
        return problem is None


def drill(cause: Cause, now: datetime) -> Message:
    """A message that is clearly marked as a drill, as it would be sent for this cause."""
    entry, title = CATALOGUE[cause], f"DRILL: {CATALOGUE[cause].title}"
    labels = {
        "alertname": name_of(cause),
        "connection": "drill",
        "cause": cause.value,
        "severity": entry.severity.value,
        "responsible": entry.responsible.value,
        "host": "drill",
        "drill": "true",
    }
    texts = {
        "summary": title,
        "description": "This is a test alert, sent by hand: nothing is wrong. A real one would say:\n"
        + told(entry.meaning, who=WHO[entry.responsible], steps=entry.remedy, guide=entry.guide),
    }
    alert = Alert(labels, title, lambda: texts, now)
    of_group = {label: labels[label] for label in GROUP_LABELS}
    return Message("drill", Told(of_group, title, ("drill",), now, now), (alert,))
