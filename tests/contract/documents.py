"""One full example of every JSON that leaves the product, as the code makes it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from monitor import alerts, discover, once, runbook
from monitor.config import load
from monitor.core.causes import Cause
from monitor.core.diagnosis import diagnose
from monitor.core.history import unknown
from monitor.core.status import ConnectionStatus
from monitor.explain import explain
from monitor.store import Store
from monitor.web.api import StatusDocument, connection_document
from monitor.web.record import read_record
from monitor.web.selection import Selection
from tests.core.fleets import ill, well
from tests.making import ACME, GRANTED, NOT_APPROVED, NOW, exchange
from tests.web.fleets import in_maintenance, rich_fleet

PASTED = ("invalid_grant: user hasn't approved this consumer", '{"access_token": "x", "scope": "api"}')


def documents(folder: Path) -> Mapping[str, Any]:
    """By the name of what prints it. A list holds as many examples as it takes to fill every key."""
    store, snapshot = rich_fleet(folder)
    try:
        busy = in_maintenance(snapshot, "acme-production", ends=snapshot.at + timedelta(hours=1))
        status = json.loads(StatusDocument().render(busy, Selection()).body)
        connections = [
            json.loads(connection_document(busy, one, read_record(store, one.name, busy.at)).body)
            for one in busy.connections
        ]
    finally:
        store.close()
    return {
        "GET /api/status": status,
        "GET /api/connections/NAME": connections,
        "check --json": [once.as_json(one) for one in snapshot.connections],
        "explain --json": [explain(text, NOW).as_json() for text in PASTED],
        "causes --json": [runbook.as_json(cause) for cause in Cause],
        "discover --json": _discovered(),
        "alerts --json": _alerts(folder),
    }


def _discovered() -> list[dict[str, Any]]:
    def tried(*answers: Any) -> dict[str, Any]:
        made = [exchange(answer) for answer in answers]
        verdicts = [diagnose(one, _facts().credential, ACME, unknown(ACME), NOW) for one in made]
        return discover.as_json(
            ACME, [discover.Try(ACME, one, verdict) for one, verdict in zip(made, verdicts, strict=True)]
        )

    return [tried(NOT_APPROVED, GRANTED), tried(NOT_APPROVED)]


def _facts() -> ConnectionStatus:
    return well("acme", NOW)


def _alerts(folder: Path) -> list[dict[str, Any]]:
    """What would be told of a connection that fails, to a receiver that was told and to one that was not."""
    now = datetime.now(UTC)
    config = folder / "bearerwatch.yaml"
    options = {
        "name": "acme",
        "subdomain": "acme",
        "consumer_key": "3MVG9acme",
        "username": "integration@acme.com",
        "private_key": {"file": "key.pem"},
    }
    sink = {"name": "hook", "type": "webhook", "url": "http://127.0.0.1:1/hook"}
    config.write_text(yaml.safe_dump({"notify": {"sinks": [sink]}, "connections": [options]}))
    store = Store.open(folder / "bearerwatch.db")
    store.save("acme", ill(well("acme", now), Cause.API_DISABLED, now - timedelta(hours=1), now).history)
    assert store.close()
    return [alerts.as_json(one) for one in alerts.standing(load(config, {}), now)]
