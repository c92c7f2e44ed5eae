"""Pushes alerts to an Alertmanager through its v2 API, like Prometheus. Alertmanager groups, repeats,
inhibits.

Active alerts are sent repeatedly: an Alertmanager forgets some on a restart, and resolves those that are not
refreshed.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from monitor.config import SinkOptions
from monitor.core.alerts import Alert
from monitor.notify.wire import Undelivered, Wire

RESENT = timedelta(minutes=1)
"""How often to resend active alerts, like Prometheus."""

HOLDS = timedelta(hours=1)
"""How long an alert stays active in Alertmanager without a refresh: a daemon that is down for some minutes
must not resolve its alerts."""

DRILL_HOLDS = timedelta(minutes=5)
"""A test alert ends by itself after this."""

AT_ONCE = 200
"""Alerts per request: about 600 KB."""

NO_END = "0001-01-01T00:00:00Z"
"""Alertmanager's value for "not ended"."""

PATH = "/api/v2/alerts"

Held = Mapping[str, Alert]
"""The alerts firing in an Alertmanager, by their labels."""


def wanted(alerts: Sequence[Alert], held: Held) -> dict[str, Alert]:
    """The alerts that should be firing: those not held back, and those held back that already are."""
    keyed = {str(sorted(alert.labels.items())): alert for alert in alerts}
    return {key: alert for key, alert in keyed.items() if not alert.held_back or key in held}


async def push(sink: SinkOptions, wire: Wire, alerts: Held, held: Held, now: datetime) -> None:
    """Push these alerts, and resolve the others that are firing. Raises Undelivered."""
    over = [as_json(alert, now) for key, alert in held.items() if key not in alerts]
    everything = [*(as_json(alert, now + HOLDS) for alert in alerts.values()), *over]
    for start in range(0, len(everything), AT_ONCE):
        body = json.dumps(everything[start : start + AT_ONCE]).encode()
        answer = await wire.post(sink, body, path=PATH)
        if answer.strip():
            raise Undelivered("Unexpected response body: is this an Alertmanager?")


def as_json(alert: Alert, ends: datetime | None) -> dict[str, Any]:
    """An alert as Alertmanager takes and sends it; `ends` is None if it has no end yet."""
    if ends and "drill" in alert.labels:
        ends = alert.since + DRILL_HOLDS
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": alert.since.isoformat(),
        "endsAt": ends.isoformat() if ends else NO_END,
        "generatorURL": alert.annotations.get("status_url", ""),
    }
