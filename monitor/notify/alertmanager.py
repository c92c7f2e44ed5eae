"""Pushing alerts to an Alertmanager, by its v2 API, as Prometheus does: it groups, repeats and inhibits.

Alerts are sent again while they hold: an Alertmanager that restarts has forgotten some, and one that hears
nothing takes them for ended.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from monitor.config import Sink
from monitor.core.alert import Alert
from monitor.notify.wire import Undelivered, Wire

RESENT = timedelta(minutes=1)
"""How often alerts are sent again while they hold: as often as Prometheus does."""

HOLDS = timedelta(hours=1)
"""How long an alert holds for an Alertmanager that hears nothing more of it: a daemon that is away for some
minutes must not end what it found."""

DRILL_HOLDS = timedelta(minutes=5)
"""A drill ends by itself."""

AT_ONCE = 200
"""Alerts in one request: some 600 KB."""

PATH = "/api/v2/alerts"

Held = Mapping[str, Alert]
"""What an Alertmanager holds for firing, by the alerts' labels."""


def wanted(alerts: Sequence[Alert], held: Held) -> dict[str, Alert]:
    """What it should hold: what maintenance does not hold back, and of that what it has already."""
    keyed = {str(sorted(alert.labels.items())): alert for alert in alerts}
    return {key: alert for key, alert in keyed.items() if not alert.held_back or key in held}


async def push(sink: Sink, wire: Wire, alerts: Held, held: Held, now: datetime) -> None:
    """Push these alerts, and the end of the others that it holds. Raises Undelivered."""
    url = await wire.secret(sink.url)
    token = await wire.secret(sink.token) if sink.token else None
    over = [_as_json(alert, now) for key, alert in held.items() if key not in alerts]
    everything = [*(_as_json(alert, now + HOLDS) for alert in alerts.values()), *over]
    for start in range(0, len(everything), AT_ONCE):
        body = json.dumps(everything[start : start + AT_ONCE]).encode()
        answer = await wire.post(url, body, path=PATH, token=token)
        if answer.strip():
            raise Undelivered("Unexpected response body: is this an Alertmanager?")


def _as_json(alert: Alert, ends: datetime) -> dict[str, Any]:
    drill = "drill" in alert.labels
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": alert.since.isoformat(),
        "endsAt": (alert.since + DRILL_HOLDS if drill else ends).isoformat(),
        "generatorURL": alert.annotations.get("status_url", ""),
    }
