"""Telling a webhook: the JSON of Alertmanager's own webhooks (version 4), signed as Standard Webhooks has it.

docs/notifications.md tells receivers how to verify a message, and how to know one that comes twice.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.config import Sink
from monitor.core.alert import Alert, fingerprint
from monitor.core.secret import Secret
from monitor.core.telling import ALERTS_SHOWN, Message, Told
from monitor.notify.wire import Undelivered, Wire

NO_END = "0001-01-01T00:00:00Z"
"""How Alertmanager writes that there is no end yet."""

PREFIX = "whsec_"
"""Standard Webhooks: what follows is the key in base64. A key without it is taken as it stands."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook."""

    sink: Sink
    wire: Wire
    pages: str = ""
    """Where the daemon's own pages are."""

    async def send(self, message: Message, now: datetime) -> None:
        """Post a message. Raises Undelivered."""
        url = await self.wire.secret(self.sink.url)
        token = await self.wire.secret(self.sink.token) if self.sink.token else None
        body = json.dumps(as_json(message, receiver=self.sink.name, pages=self.pages)).encode()
        name, at = f"msg_{message.id}", str(int(now.timestamp()))
        headers = {"webhook_id": name, "webhook_timestamp": at}
        if self.sink.secret:
            key = await self.wire.secret(self.sink.secret)
            headers["webhook_signature"] = signature(key, f"{name}.{at}.".encode() + body)
        await self.wire.post(url, body, token=token, **headers)


def signature(key: Secret, content: bytes) -> str:
    """The header of a content: `v1,` and its HMAC-SHA256 in base64. Raises Undelivered for a broken key."""
    raw = key.reveal()
    if raw.startswith(PREFIX.encode()):
        try:
            raw = base64.b64decode(raw.removeprefix(PREFIX.encode()), validate=True)
        except binascii.Error:
            raise Undelivered(f"Its key begins with {PREFIX}, but is no base64 behind that.") from None
    return "v1," + base64.b64encode(hmac.new(raw, content, hashlib.sha256).digest()).decode()


def as_json(message: Message, *, receiver: str, pages: str) -> dict[str, Any]:
    """A message as Alertmanager writes it, and `title`, which says it in one line."""
    shown = [*map(_firing, message.firing), *map(_resolved, message.resolved)][:ALERTS_SHOWN]
    labels, annotations = ([alert[part] for alert in shown] for part in ("labels", "annotations"))
    common = _common(labels)
    return {
        "version": "4",
        "title": message.title,
        "groupKey": message.group,
        "truncatedAlerts": len(message.firing) + len(message.resolved) - len(shown),
        "status": "firing" if message.firing else "resolved",
        "receiver": receiver,
        "groupLabels": {
            name: common[name] for name in ("alertname", "severity", "responsible") if name in common
        },
        "commonLabels": common,
        "commonAnnotations": _common(annotations),
        "externalURL": pages,
        "alerts": shown,
    }


def _common(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = mappings
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _firing(alert: Alert) -> dict[str, Any]:
    return _alert("firing", alert.labels, alert.annotations, alert.since, NO_END)


def _resolved(told: Told) -> dict[str, Any]:
    return _alert("resolved", told.labels, told.annotations, told.since, (told.ended or told.at).isoformat())


def _alert(
    status: str, labels: Mapping[str, str], annotations: Mapping[str, str], since: datetime, end: str
) -> dict[str, Any]:
    return {
        "status": status,
        "labels": dict(labels),
        "annotations": dict(annotations),
        "startsAt": since.isoformat(),
        "endsAt": end,
        "generatorURL": annotations.get("status_url", ""),
        "fingerprint": fingerprint(labels),
    }
