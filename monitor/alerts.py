"""What would be told now and to whom, from what the database remembers; and drills. Nothing is checked."""

import os
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from monitor import __version__
from monitor.config import Settings, Sink
from monitor.core import telling
from monitor.core.alert import Alert
from monitor.core.alerts import alerts
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.status import DaemonStatus, Snapshot
from monitor.exchange import Limits, rust_transport
from monitor.fleet import Fleet
from monitor.notify import Undelivered, Wire, drill, sender
from monitor.without_daemon import memory

NOTIFYING = Limits(
    connect=timedelta(seconds=5), answer=timedelta(seconds=10), whole=timedelta(seconds=15), in_flight=16
)
"""How long a receiver of notifications may take: shorter than a stop, and far longer than any needs."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One alert of this moment, and who is told of it."""

    alert: Alert
    """Held back where none of the receivers that take it is told of it now."""
    reaches: tuple[str, ...]
    """Who is told of it, by name; where all are not now, who would be."""
    told: dict[str, datetime]
    """When the receivers that take it were last told, those that were."""


def standing(settings: Settings, now: datetime) -> list[Standing]:
    """Every alert of this moment, also those that are held back. Raises StoreError."""
    with memory(settings) as store:
        histories = store.histories() if store else {}
        stands = {
            sink.name: telling.standing(store.told(sink.name) if store else {}) for sink in settings.sinks
        }
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
    found = alerts(snapshot, settings.terms)
    reasons = {name: [why for _, why in telling.held_back(found, its)] for name, its in stands.items()}
    shown = []
    for place, alert in enumerate(found):
        why = {sink.name: reasons[sink.name][place] for sink in settings.sinks if sink.route.takes(alert)}
        told = {name: one.at for name in why if (one := stands[name].get(alert.fingerprint))}
        if alert.stays and not told:
            continue
        free = tuple(name for name in why if not why[name])
        held = alert.held_back if free or not why else next(iter(why.values()))
        shown.append(Standing(replace(alert, held_back=held), free or tuple(why), told))
    return shown


def as_json(one: Standing) -> dict[str, Any]:
    """One alert as `alerts --json` prints it."""
    return {
        "labels": dict(one.alert.labels),
        "annotations": dict(one.alert.annotations),
        "since": one.alert.since.isoformat(),
        "held_back": one.alert.held_back or None,
        "reaches": list(one.reaches),
        "told": {name: at.isoformat() for name, at in one.told.items()},
    }


def for_drill(settings: Settings, cause: Cause, name: str | None) -> list[Sink]:
    """The receivers of a drill: the named one, else those that take a cause of this severity."""
    if name is not None:
        return [sink for sink in settings.sinks if sink.name == name]
    entry = CATALOGUE[cause]
    return [
        sink
        for sink in settings.sinks
        if (not sink.route.responsible or entry.responsible in sink.route.responsible)
        and (not sink.route.severity or entry.severity in sink.route.severity)
    ]


async def drills(
    settings: Settings, cause: Cause, sinks: Collection[Sink], now: datetime
) -> AsyncIterator[tuple[str, str]]:
    """Send a drill to each receiver. Gives its name, and why it did not take it; empty where it did."""
    transport = rust_transport(NOTIFYING, settings.ca_file)
    threads = ThreadPoolExecutor(1)
    wire = Wire(transport, os.environ)
    try:
        for sink in sinks:
            try:
                await sender(sink, wire, threads, pages=settings.web.external_url).send(
                    drill(cause, now), now
                )
            except Undelivered as undelivered:
                yield sink.name, str(undelivered)
            else:
                yield sink.name, ""
    finally:
        await transport.aclose()
        threads.shutdown()
