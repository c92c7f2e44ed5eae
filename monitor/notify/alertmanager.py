"""Telling an Alertmanager, by its v2 API. It groups, repeats and holds back by itself.

Alerts are sent again while they hold: an Alertmanager that restarts has forgotten some, and one that hears
nothing takes them for ended.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitor.config import Sink
from monitor.core.alert import Alert
from monitor.core.telling import HOLDS, Message, Told
from monitor.notify.wire import Undelivered, Wire

RESENT = timedelta(minutes=1)
"""How often alerts are sent again while they hold: as often as Prometheus does."""

DRILL_HOLDS = timedelta(minutes=5)
"""A drill ends by itself: nothing is remembered of it."""

AT_ONCE = 200
"""Alerts in one request: some 600 KB."""

PATH = "/api/v2/alerts"


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """One Alertmanager."""

    sink: Sink
    wire: Wire

    async def send(self, message: Message, now: datetime) -> None:
        """Push the alerts of a message. Raises Undelivered."""
        url = await self.wire.secret(self.sink.url)
        token = await self.wire.secret(self.sink.token) if self.sink.token else None
        alerts = [*_firing(message.firing, now), *_resolved(message.resolved)]
        for start in range(0, len(alerts), AT_ONCE):
            body = json.dumps(alerts[start : start + AT_ONCE]).encode()
            answer = await self.wire.post(url, body, path=PATH, token=token)
            if answer.body.strip():
                raise Undelivered("It is no Alertmanager: that would have nothing to say to an alert.")


def _firing(alerts: Sequence[Alert], now: datetime) -> Iterator[dict[str, Any]]:
    for alert in alerts:
        yield {
            "labels": dict(alert.labels),
            "annotations": dict(alert.annotations),
            "startsAt": alert.since.isoformat(),
            "endsAt": (now + (DRILL_HOLDS if "drill" in alert.labels else HOLDS)).isoformat(),
            "generatorURL": alert.annotations.get("status_url", ""),
        }


def _resolved(ended: Sequence[Told]) -> Iterator[dict[str, Any]]:
    for told in ended:
        yield {
            "labels": told.labels,
            "annotations": told.annotations,
            "startsAt": told.since.isoformat(),
            "endsAt": (told.ended or told.at).isoformat(),
            "generatorURL": told.annotations.get("status_url", ""),
        }
