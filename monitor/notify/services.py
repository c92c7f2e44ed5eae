"""Telling a notification service by way of Apprise, an extra: `pip install "bearerwatch[notify]"`."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

from monitor.config import Sink
from monitor.core.secret import Secret
from monitor.core.telling import Message
from monitor.notify.wire import Undelivered, Wire

NAMED = 20
"""Connections that a message names; a phone shows no more."""


@dataclass(frozen=True, slots=True)
class Service:
    """One notification service."""

    sink: Sink
    wire: Wire
    threads: Executor
    """Apprise waits for its answers in threads: these are of its own, so that nothing else waits with it."""

    async def send(self, message: Message, now: datetime) -> None:
        """Send a message as plain text. Raises Undelivered."""
        url = await self.wire.secret(self.sink.url)
        await asyncio.get_running_loop().run_in_executor(self.threads, _notify, url, message)


def _notify(url: Secret, message: Message) -> None:
    try:
        import apprise
    except ImportError:
        raise Undelivered('A package is missing: pip install "bearerwatch[notify]".') from None
    for library in ("apprise", "urllib3", "requests"):  # they log addresses
        logging.getLogger(library).setLevel(logging.CRITICAL)
    severities = {alert.labels["severity"] for alert in message.firing}
    kind = (
        apprise.NotifyType.SUCCESS
        if not severities
        else apprise.NotifyType.FAILURE
        if "critical" in severities
        else apprise.NotifyType.WARNING
    )
    try:
        service = apprise.Apprise()
        known = service.add(url.text())
        taken = known and service.notify(
            title=message.title, body="\n".join(lines(message)), notify_type=kind
        )
    except Exception as error:  # noqa: BLE001 - a plug-in's, of any class; its text may quote the address
        raise Undelivered(f"Apprise fails ({type(error).__name__}).") from None
    if not known:
        raise Undelivered("Its address is none that Apprise knows.")
    if not taken:
        raise Undelivered("The service does not take it.")


def lines(message: Message) -> Iterator[str]:
    """A message as plain text: what is so, whom it concerns, what to do."""
    if len(message.firing) > 1:
        names = [alert.labels["connection"] for alert in message.firing]
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        yield f"Connections: {', '.join(names[:NAMED])}{more}"
        yield f"Of the first of them: {message.firing[0].annotations['summary']}"
    for alert in message.firing[:1]:
        yield alert.annotations["description"]
        yield from (alert.annotations[link] for link in ("status_url",) if link in alert.annotations)
    for told in message.resolved[:NAMED]:
        summary = told.annotations.get("summary", told.labels["alertname"])
        yield f"{summary}. {told.annotations.get('ended', '')}".rstrip()
    if len(message.resolved) > NAMED:
        yield f"And {len(message.resolved) - NAMED:,} more."
