"""One full example of every JSON that leaves the product, as the code makes it."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from monitor.commands import alerts, audit, preflight
from monitor.commands import check as once
from monitor.commands.explain import as_json, explain
from monitor.config import load
from monitor.core.causes import Cause
from monitor.core.keys.credential import CredentialFacts, Problem
from monitor.core.status import Snapshot
from monitor.notify import drill
from monitor.store import Store
from monitor.web import runbooks
from monitor.web.api import StatusDocument, connection_document, events_document
from monitor.web.record import read_events, read_record
from monitor.web.selection import Selection
from tests.core.fleets import ill, well
from tests.making import NOW
from tests.salesforce.wire import Visit, http, serving
from tests.web.fleets import in_maintenance, rich_fleet

PASTED = ("invalid_grant: user hasn't approved this consumer", '{"access_token": "x", "scope": "api"}')
HOOK = {"name": "hook", "type": "webhook", "url": "http://127.0.0.1:1/hook"}
WELL = well("acme")


def documents(folder: Path) -> Mapping[str, list[Any]]:
    """By the name of what prints it, as many examples as it takes to fill every key."""
    store, snapshot = rich_fleet(folder)
    try:
        pages = [
            connection_document(shown, one, read_record(store, one, shown.at)[0])
            for shown in _at_their_fullest(snapshot)
            for one in shown.connections
        ]
        events = [events_document(snapshot, read_events(store)[0]), events_document(snapshot, None)]
    finally:
        store.close()
    pages.append(connection_document(snapshot, snapshot.connections[0], None))
    lists = [StatusDocument().render(shown, Selection()) for shown in _at_their_fullest(snapshot)]
    causes = [runbooks.as_json(cause) for cause in Cause]
    return {
        "GET /api/status": [json.loads(one.body) for one in lists],
        "GET /api/connections/NAME": [json.loads(one.body) for one in pages],
        "GET /api/events": [json.loads(one.body) for one in events],
        "check --json": [[once.as_json(one) for one in snapshot.connections]],
        "explain --json": [as_json(explain(text, NOW)) for text in PASTED],
        "causes --json": [causes],
        "causes CODE --json": causes,
        "audit --json": [audit.as_json(one, NOW) for one in snapshot.connections],
        "preflight --json": [
            preflight.as_json(preflight.Preflight(one, snapshot.connections), NOW)
            for one in snapshot.connections
        ],
        "alerts --json": [_alerts(folder)],
        **asyncio.run(_notifications(folder)),
    }


def _at_their_fullest(snapshot: Snapshot) -> list[Snapshot]:
    """As it is, and with all troubles of the daemon, a maintenance, and a next key that can't be read."""
    problem = "It could not be read."
    ill_daemon = replace(snapshot.daemon, reload_problem=problem, store_problem=problem)
    unreadable = CredentialFacts(problems=(Problem(Cause.KEY_UNREADABLE, problem),))
    connections = tuple(replace(one, next_credential=unreadable) for one in snapshot.connections)
    troubled = replace(snapshot, daemon=ill_daemon, connections=connections)
    return [snapshot, in_maintenance(troubled, "acme-production", ends=snapshot.at + timedelta(hours=1))]


def _alerts(folder: Path) -> list[dict[str, Any]]:
    """The alerts of two failing connections, one of them in maintenance."""
    now = datetime.now(UTC)
    window = {"start": (now - timedelta(hours=1)).isoformat(), "end": (now + timedelta(hours=1)).isoformat()}
    config = _configured(folder, [HOOK], {"acme": {}, "globex": {"maintenance": [window]}})
    with closing(Store.open(folder / "bearerwatch.db")) as store:
        for name in ("acme", "globex"):
            failing = ill(well(name, now), Cause.API_DISABLED, now - timedelta(hours=1), now)
            store.save(name, failing.history)
    return [alerts.as_json(one) for one in alerts.active_alerts(load(config, {}), now)]


async def _notifications(folder: Path) -> dict[str, list[Any]]:
    """What a webhook and an Alertmanager are sent, as a drill sends it."""

    async def take(visit: Visit) -> None:
        await visit.read()
        await visit.send(http(200, ""))

    sent = {}
    for kind in ("webhook", "alertmanager"):
        async with serving(take) as server:
            sink = {"name": kind, "type": kind, "url": f"http://127.0.0.1:{server.port}"}
            settings = load(_configured(folder, [sink], {"acme": {}}), {})
            drilled = drill(Cause.API_DISABLED, NOW)
            assert await alerts.send_to_all(settings, drilled, settings.notify.sinks, lambda said: None)
            sent[f"notify: {kind}"] = [json.loads(visit.body) for visit in server.visits]
    return sent


def _configured(
    folder: Path, sinks: list[dict[str, str]], connections: Mapping[str, Mapping[str, Any]]
) -> Path:
    config = folder / "bearerwatch.yaml"
    options = [
        {
            "name": name,
            "subdomain": name,
            "consumer_key": f"3MVG9{name}",
            "username": f"integration@{name}.com",
            "private_key": {"file": "key.pem"},
            **more,
        }
        for name, more in connections.items()
    ]
    config.write_text(yaml.safe_dump({"notify": {"sinks": sinks}, "connections": options}))
    return config
