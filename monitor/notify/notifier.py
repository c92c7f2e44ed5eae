"""One round of notifications: sends what is due to each sink, and remembers what was accepted.

There is no queue. A message that was not accepted is due again in the next round, because what the sink was
last told has not changed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import httpx
import structlog

from monitor.config import Settings, SinkOptions
from monitor.core.alerts import TROUBLES, Alert, Terms, Trouble, alert_of_trouble, alerts, lasted
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.status import Snapshot
from monitor.core.telling import Message, Told, due
from monitor.core.wording import WHO, description, name_of, with_last
from monitor.notify import alertmanager, services, webhook
from monitor.notify.wire import Undelivered, Wire

PAUSE = timedelta(minutes=1)
"""After a failed message: a sink that is down or refuses is not retried in every round."""

ROUND_SECONDS = 30.0
"""No message is begun later than this in a round, so that messages are current."""

GAP = timedelta(minutes=10)
"""After this long without a round (while another replica notifies), earlier observations are discarded."""

log = structlog.get_logger()


class Memory(Protocol):
    """Remembers what sinks were told, across restarts."""

    def told(self, sink: str) -> dict[str, Told]:
        """What a sink was told, by group. Neither blocks nor raises."""

    def tell(self, sink: str, changes: Mapping[str, Told | None]) -> None:
        """Update what a sink was told; None removes the group. Neither blocks nor raises."""

    def flush(self) -> bool:
        """Wait until it is written. True if it was."""


@dataclass(slots=True)
class _Outlet:
    """One sink and its state, which need not survive a restart."""

    sink: SinkOptions
    failed: datetime | None = None
    """When a message failed, in the last round."""
    refused: set[str] = field(default_factory=set)
    """Groups whose message failed: they come last, so as not to block others."""
    away: dict[str, datetime] = field(default_factory=dict)
    """Since when reported groups have had no alert."""
    held: dict[str, Alert] = field(default_factory=dict)
    """The alerts last pushed to an Alertmanager."""
    pushed: datetime | None = None
    """When they were pushed."""


async def send(sink: SinkOptions, wire: Wire, message: Message, now: datetime, *, pages: str) -> None:
    """Send one message to one sink. Raises Undelivered."""
    match sink.type:
        case "alertmanager":
            await alertmanager.push(sink, wire, alertmanager.wanted(message.alerts, {}), {}, now)
        case "webhook":
            await webhook.post(sink, wire, message, now, pages=pages)
        case "apprise":
            await services.say(sink, wire, message)


class Notifier:
    """Notifies sinks, one round at a time."""

    def __init__(
        self,
        *,
        memory: Memory,
        transport: httpx.AsyncBaseTransport,
        environment: Mapping[str, str],
        counted: Callable[[bool], None] = lambda arrived: None,
    ) -> None:
        """`counted` is called with the success of each attempt. The notifier closes the transport."""
        self._memory = memory
        self._wire = Wire(transport, environment)
        self._counted = counted
        self._troubles: dict[Trouble, datetime] = {}
        self._settings: Settings | None = None
        self._outlets: dict[str, _Outlet] = {}
        self._stopping = False
        self._last: datetime | None = None
        """The time of the last round."""

    def configure(self, settings: Settings) -> None:
        """Apply a configuration; unchanged sinks keep their state."""
        sinks = settings.notify.sinks
        kept = {name: outlet for name, outlet in self._outlets.items() if outlet.sink in sinks}
        self._settings = settings
        self._outlets = {sink.name: kept.get(sink.name) or _Outlet(sink) for sink in sinks}

    def stop(self) -> None:
        """Begin no further message; those being sent continue within the transport's timeout."""
        self._stopping = True

    async def aclose(self) -> None:
        """Close the transport; no round may be running."""
        await self._wire.aclose()

    async def round(self, snapshot: Snapshot) -> None:
        """Send all messages that are due. Takes at most ROUND_SECONDS plus the time of one message."""
        settings = self._settings
        if settings is None or not self._outlets:
            return
        if self._last is None or lasted(self._last, GAP, snapshot.at):
            self._troubles = {}
            for outlet in self._outlets.values():
                outlet.away = {}
        self._last = snapshot.at
        found = await asyncio.to_thread(self._alerts, snapshot, settings.terms)
        rounds = (self._notify(outlet, found, snapshot, settings) for outlet in tuple(self._outlets.values()))
        for outcome in await asyncio.gather(*rounds, return_exceptions=True):
            if isinstance(outcome, BaseException):  # a bug of ours must not affect other sinks
                log.error("notifier_failed", exc_info=outcome)

    def _alerts(self, snapshot: Snapshot, terms: Terms) -> list[Alert]:
        """The current alerts; those about ourselves if every round of their hold time saw the problem."""
        now = snapshot.at
        there = (trouble for trouble in TROUBLES if trouble.is_there(snapshot, terms.holds))
        self._troubles = {trouble: self._troubles.get(trouble, now) for trouble in there}
        own = [
            alert_of_trouble(trouble, since, snapshot, terms)
            for trouble, since in self._troubles.items()
            if lasted(since, trouble.hold, now)
        ]
        return [*own, *alerts(snapshot, terms)]

    async def _notify(
        self, outlet: _Outlet, found: list[Alert], snapshot: Snapshot, settings: Settings
    ) -> None:
        now = snapshot.at
        if outlet.failed and not lasted(outlet.failed, PAUSE, now):
            return
        mine = [alert for alert in found if outlet.sink.takes(alert)]
        if outlet.sink.type == "alertmanager":
            await self._push(outlet, mine, now)
        else:
            await self._tell(outlet, mine, snapshot, settings)

    async def _push(self, outlet: _Outlet, mine: list[Alert], now: datetime) -> None:
        """Push to an Alertmanager if the alerts have changed or RESENT has passed."""
        wanted = alertmanager.wanted(mine, outlet.held)
        rested = outlet.pushed is None or lasted(outlet.pushed, alertmanager.RESENT, now)
        if wanted.keys() == outlet.held.keys() and not (wanted and rested):
            return
        pushing = alertmanager.push(outlet.sink, self._wire, wanted, outlet.held, now)
        if await self._tried(outlet, pushing, now):
            outlet.held, outlet.pushed = wanted, now

    async def _tell(self, outlet: _Outlet, mine: list[Alert], snapshot: Snapshot, settings: Settings) -> None:
        sink, now, known = outlet.sink, snapshot.at, self._memory.told(outlet.sink.name)
        groups = {alert.group for alert in mine}
        outlet.away = {group: outlet.away.get(group, now) for group in known if group not in groups}
        statuses = {status.name: status for status in snapshot.connections} if outlet.away else {}
        holds, pages = settings.terms.holds, settings.web.external_url
        repeat = sink.repeat or settings.notify.repeat
        messages = due(mine, known, outlet.away, holds=holds, repeat=repeat, now=now, statuses=statuses)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for message in sorted(messages, key=lambda message: message.group in outlet.refused):
            if self._stopping or loop.time() - begun > ROUND_SECONDS:
                return
            if message.alerts or sink.resolved:
                sending = send(sink, self._wire, message, now, pages=pages)
                if not await self._tried(outlet, sending, now):
                    outlet.refused.add(message.group)
                    return
                outlet.refused.discard(message.group)
                log.info("notified", sink=sink.name, title=message.title)
            self._memory.tell(sink.name, {message.group: message.told if message.alerts else None})
            await asyncio.to_thread(self._memory.flush)  # a crash then repeats at most one message

    async def _tried(self, outlet: _Outlet, sending: Coroutine[Any, Any, None], now: datetime) -> bool:
        """Send it. True if it was accepted."""
        problem = None
        try:
            await sending
        except Undelivered as undelivered:
            problem = str(undelivered)
        except Exception as fault:  # a bug of ours must not end the rounds
            log.exception("notifier_failed", sink=outlet.sink.name)
            problem = f"Internal error in the monitor: {type(fault).__name__}."
        self._counted(problem is None)
        if problem:
            log.warning("notification_failed", sink=outlet.sink.name, problem=problem)
        elif outlet.failed:
            log.info("notifications_recovered", sink=outlet.sink.name)
        outlet.failed = now if problem else None
        return problem is None


def drill(cause: Cause, now: datetime) -> Message:
    """A test message for this cause, clearly marked as such."""
    entry, title = CATALOGUE[cause], f"DRILL: {CATALOGUE[cause].title}"
    labels = {
        "alertname": name_of(cause),
        "cause": cause.value,
        "severity": entry.severity.value,
        "responsible": entry.responsible.value,
    }
    texts = {
        "summary": title,
        "description": "This is a test alert, sent by hand; nothing is wrong. A real one would say:\n"
        + description(entry.meaning, who=WHO[entry.responsible], steps=with_last(entry), guide=entry.guide),
    }
    own = {"connection": "drill", "host": "drill", "drill": "true"}
    alert = Alert(labels | own, title, lambda: texts, now)
    return Message("drill", Told(labels, title, ("drill",), now, now), (alert,))
