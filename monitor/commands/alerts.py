"""Active alerts and their sinks, from the database, and test alerts. Checks nothing."""

import os
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor import __version__
from monitor.commands.without_daemon import memory
from monitor.config import Settings, SinkOptions
from monitor.core.alerts import Alert, alerts
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.status import DaemonStatus, Snapshot
from monitor.notify import NOTIFYING, Undelivered, Wire, drill, send
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
        reaches = tuple(sink.name for sink in settings.notify.sinks if sink.route.takes(alert))
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


def for_drill(settings: Settings, cause: Cause, name: str | None) -> list[SinkOptions]:
    """The sinks for a test alert: the named one, or all that accept this cause."""
    if name is not None:
        return [sink for sink in settings.notify.sinks if sink.name == name]
    entry = CATALOGUE[cause]
    return [
        sink
        for sink in settings.notify.sinks
        if (not sink.route.responsible or entry.responsible in sink.route.responsible)
        and (not sink.route.severity or entry.severity in sink.route.severity)
    ]


async def drills(
    settings: Settings, cause: Cause, sinks: Collection[SinkOptions], now: datetime
) -> AsyncIterator[tuple[str, str]]:
    """Send a test alert to each sink. Gives its name and the error, empty on success."""
    wire = Wire(rust_transport(NOTIFYING, settings.ca_file), os.environ)
    try:
        for sink in sinks:
            try:
                message, pages = drill(cause, now), settings.web.external_url
                await send(sink, wire, message, now, pages=pages)
            except Undelivered as undelivered:
                yield sink.name, str(undelivered)
            else:
                yield sink.name, ""
    finally:
        await wire.aclose()
