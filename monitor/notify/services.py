"""Notifies a service through Apprise (extra: `pip install "bearerwatch[notify]"`)."""

import asyncio
import logging
from collections.abc import Iterator

from monitor.config import SinkOptions
from monitor.core.keys.secret import Secret
from monitor.core.telling import SHOWN, Message
from monitor.core.wording import minute
from monitor.notify.wire import Undelivered, Wire


async def say(sink: SinkOptions, wire: Wire, message: Message) -> None:
    """Send a message as plain text. Raises Undelivered."""
    url = await wire.secret(sink.address)
    await asyncio.get_running_loop().run_in_executor(wire.threads, _notify, url, message)


def _notify(url: Secret, message: Message) -> None:
    import apprise  # slow, and an extra: `config check` reports if it is missing

    for library in ("apprise", "urllib3", "requests"):  # they log URLs
        logging.getLogger(library).setLevel(logging.CRITICAL)
    critical = message.told.labels["severity"] == "critical"
    kinds = apprise.NotifyType
    kind = kinds.SUCCESS if not message.alerts else kinds.FAILURE if critical else kinds.WARNING
    try:
        service = apprise.Apprise()
        known = service.add(url.text())
        # As text, so that Apprise escapes HTML and Markdown.
        taken = known and service.notify(
            title=message.title,
            body="\n".join(lines(message)),
            notify_type=kind,
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # noqa: BLE001 - plug-ins raise anything; the text may quote the URL
        raise Undelivered(f"Apprise fails ({type(error).__name__}).") from None
    if not known:
        raise Undelivered("Apprise does not recognise this URL.")
    if not taken:
        raise Undelivered("The service rejected the message.")


def lines(message: Message) -> Iterator[str]:
    """A message as plain text: what is wrong, what to do, and the affected connections."""
    if not message.alerts:
        yield message.ended
        return
    first, *others = message.alerts
    yield first.annotations["description"]
    if "status_url" in first.annotations:
        yield first.annotations["status_url"]
    if not others:
        return
    yield f"The above is about {first.connection}. All {len(message.alerts):,} connections:"
    for alert in message.alerts[:SHOWN]:
        link = alert.annotations.get("status_url", alert.labels["host"])
        yield f"- {alert.connection}, since {minute(alert.since)}: {link}"
    if len(message.alerts) > SHOWN:
        yield f"and {len(message.alerts) - SHOWN:,} more."
