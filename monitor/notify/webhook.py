"""Notifies a webhook with the JSON of Alertmanager's webhooks (version 4), signed per Standard Webhooks.

docs/notifications.md describes how receivers verify messages and recognise duplicates.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from monitor.config import SinkOptions
from monitor.core.alerts import Alert
from monitor.core.keys.secret import Secret
from monitor.core.telling import SHOWN, Message
from monitor.notify import alertmanager
from monitor.notify.wire import Undelivered, Wire

PREFIX = "whsec_"
"""Standard Webhooks: prefix of a base64-encoded key. A key without it is used as is."""


async def post(sink: SinkOptions, wire: Wire, message: Message, now: datetime, *, pages: str) -> None:
    """Post a message; `pages` is the base URL of the daemon's pages. Raises Undelivered."""
    body = json.dumps(as_json(message, now, receiver=sink.name, pages=pages)).encode()
    name, at = f"msg_{message.id}", str(int(now.timestamp()))
    headers = {"webhook-id": name, "webhook-timestamp": at}
    if sink.secret:
        key = await wire.secret(sink.secret)
        headers["webhook-signature"] = signature(key, f"{name}.{at}.".encode() + body)
    await wire.post(sink, body, headers=headers)


def signature(key: Secret, content: bytes) -> str:
    """The signature header: `v1,` and the HMAC-SHA256 in base64. Raises Undelivered for an invalid key."""
    raw = key.reveal()
    if raw.startswith(PREFIX.encode()):
        try:
            raw = base64.b64decode(raw.removeprefix(PREFIX.encode()), validate=True)
        except binascii.Error:
            raise Undelivered(f"Its key begins with {PREFIX}, but the rest is not base64.") from None
    return "v1," + base64.b64encode(hmac.new(raw, content, hashlib.sha256).digest()).decode()


def as_json(message: Message, now: datetime, *, receiver: str, pages: str) -> dict[str, Any]:
    """A message in Alertmanager's format, plus `title`, a one-line summary."""
    told = message.told
    shown = [_firing(alert) for alert in message.alerts[:SHOWN]] or _resolved(message, now)
    for alert in shown[1:]:
        alert["annotations"].pop("description", None)  # the same steps as in the first
    labels, annotations = ([alert[part] for alert in shown] for part in ("labels", "annotations"))
    return {
        "version": "4",
        "title": message.title,
        "groupKey": message.group,
        "truncatedAlerts": max(0, len(message.alerts or told.connections) - SHOWN),
        "status": "firing" if message.alerts else "resolved",
        "receiver": receiver,
        "groupLabels": told.labels,
        "commonLabels": _common(labels),
        "commonAnnotations": _common(annotations),
        "externalURL": pages,
        "alerts": shown,
    }


def _common(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = mappings
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _firing(alert: Alert) -> dict[str, Any]:
    own = {"status": "firing", "fingerprint": _fingerprint(alert.name, alert.connection)}
    return own | alertmanager.as_json(alert, None)


def _resolved(message: Message, now: datetime) -> list[dict[str, Any]]:
    told = message.told
    return [
        {
            "status": "resolved",
            "labels": {**told.labels, "connection": name} if name else told.labels,
            "annotations": {"summary": told.title, "ended": message.ended},
            "startsAt": told.since.isoformat(),
            "endsAt": now.isoformat(),
            "generatorURL": "",
            "fingerprint": _fingerprint(told.labels["alertname"], name),
        }
        for name in told.connections[:SHOWN] or ("",)
    ]


def _fingerprint(alertname: str, connection: str) -> str:
    """A short word for an alert, the same for as long as it holds, whatever its other labels become."""
    return hashlib.sha256(f"{alertname}\n{connection}".encode()).hexdigest()[:16]
