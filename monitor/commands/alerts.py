"""Active alerts and their sinks, from the database, and test alerts. Checks nothing."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor import __version__
from monitor.commands.without_daemon import memory
from monitor.config import Settings, SinkOptions
from monitor.core.alerts import Alert, alerts
from monitor.core.status import DaemonStatus, Snapshot
from monitor.core.telling import Message
from monitor.notify import NOTIFYING, Undelivered, Wire, send
from monitor.salesforce.transport import rust_transport
from monitor.watch.fleet import Fleet


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """One active alert, and its sinks."""

    alert: Alert
    reaches: tuple[str, ...]
    """Names of the sinks that it matches."""
    told: dict[str, datetime]
    """When each sink was last told, if it was; Alertmanager is told each minute."""


def active_alerts(settings: Settings, now: datetime) -> list[ActiveAlert]:
    """All active alerts, including those held back. Raises StoreError."""
    with memory(settings) as store:
        histories = store.histories() if store else {}
        known = {sink.name: store.told(sink.name) if store else {} for sink in settings.notify.sinks}
    fleet = Fleet(histories)
    fleet.configure(settings.connections, now)
    snapshot = Snapshot(
        at=now,
        daemon=DaemonStatus(
            now,
            __version__,
            configured=len(settings.connections),
            reloaded=now,
            maintenance=settings.maintenance,
        ),
        connections=fleet.statuses(),
        retired_failures={},
    )
    shown = []
    for alert in alerts(snapshot, settings.terms):
        reaches = tuple(sink.name for sink in settings.notify.sinks if sink.takes(alert))
        groups = {name: known[name].get(alert.group) for name in reaches}
        told = {
            name: last.at for name, last in groups.items() if last and alert.connection in last.connections
        }
        shown.append(ActiveAlert(alert, reaches, told))
    return shown


def as_json(one: ActiveAlert) -> dict[str, Any]:
    """One alert for `alerts --json`."""
    return {
        "labels": dict(one.alert.labels),
        "annotations": dict(one.alert.annotations),
        "since": one.alert.since.isoformat(),
        "held_back": one.alert.held_back or None,
        "reaches": list(one.reaches),
        "told": {name: at.isoformat() for name, at in one.told.items()},
    }


async def send_to_all(
    settings: Settings, message: Message, sinks: Iterable[SinkOptions], say: Callable[[str], None]
) -> bool:
    """Send a message to each sink, and say whether it arrived. True if all did."""
    wire = Wire(rust_transport(NOTIFYING, settings.ca_file), os.environ)
    refused = False
    try:
        for sink in sinks:
            try:
                await send(sink, wire, message, message.told.at, pages=settings.web.external_url)
                say(f"{sink.name}: accepted the test alert.")
            except Undelivered as undelivered:
                say(f"{sink.name}: {undelivered}")
                refused = True
    finally:
        await wire.aclose()
    return not refused
