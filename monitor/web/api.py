"""The Snapshot as JSON. The format is a promise (docs/api.md): keys may be added, never removed.

Times are ISO 8601 in UTC, never "seconds since"; unknown values are null. The order of keys is fixed.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitor.core.catalogue import CATALOGUE
from monitor.core.finding import Finding
from monitor.core.history import STAGES, Event, Slot
from monitor.core.keys.credential import CredentialFacts
from monitor.core.status import Asked, ConnectionStatus, Snapshot
from monitor.core.verdict import audit
from monitor.core.wording import steps
from monitor.web.reproduce import command
from monitor.web.selection import Selection

if TYPE_CHECKING:  # slow import: the database
    from monitor.web.record import Record


@dataclass(frozen=True, slots=True)
class Document:
    """A body, and what of it makes a difference: all of JSON but `at`."""

    body: bytes
    news: bytes


@dataclass(slots=True)
class StatusDocument:
    """Renders the list of connections. Keeps each one's part until its status or maintenance changes."""

    _parts: dict[str, tuple[ConnectionStatus, datetime | None, bytes]] = field(default_factory=dict)

    def render(self, snapshot: Snapshot, selection: Selection) -> Document:
        """The selected connections."""
        chosen, daemon = selection.of(snapshot.connections), snapshot.daemon
        head = _dumps(
            {
                "daemon": {
                    "version": daemon.version,
                    "started": iso_time(daemon.started),
                    "configured": daemon.configured,
                    "reloaded": iso_time(daemon.reloaded),
                    "reload_problem": daemon.reload_problem,
                    "store_problem": daemon.store_problem,
                    "store_damage": daemon.store_damage,
                },
                "counts": snapshot.states(),
                "matched": len(chosen),
            }
        )
        if len(self._parts) > 2 * len(snapshot.connections):
            self._parts = {}  # most are of connections that were removed
        parts = b",\n".join(self._part(status, snapshot.maintenance(status.connection)) for status in chosen)
        return _document(snapshot.at, head[1:-1] + b',"connections":[\n' + parts + b"\n]")

    def _part(self, status: ConnectionStatus, maintenance: datetime | None) -> bytes:
        kept = self._parts.get(status.name)
        if kept is None or kept[0] is not status or kept[1] != maintenance:
            part = _dumps(summary(status, maintenance))
            kept = self._parts[status.name] = (status, maintenance, part)
        return kept[2]


def events_document(snapshot: Snapshot, events: list[tuple[str, Event]] | None) -> Document:
    """What happened to all connections; None if the store can't be read."""
    found = None if events is None else [{"connection": name, **_event(one)} for name, one in events]
    return _document(snapshot.at, b'"events":' + _dumps(found))


def _event(event: Event) -> dict[str, Any]:
    return {**asdict(event), "at": iso_time(event.at)}


def _document(at: datetime, rest: bytes) -> Document:
    return Document(b'{"at":' + _dumps(iso_time(at)) + b"," + rest + b"}\n", rest)


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def iso_time(at: datetime | None) -> str | None:
    """A time in UTC, to the second."""
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def asked(what: Asked) -> dict[str, Any]:
    """The result of a request to check connections now."""
    return {
        "checked_at": {name: iso_time(at) for name, at in what.turns.items()},
        "put_off_until": {name: iso_time(at) for name, at in what.put_off.items()},
    }


def finding(found: Finding) -> dict[str, Any]:
    """One finding."""
    return {
        "cause": found.cause,
        "title": CATALOGUE[found.cause].title,
        "severity": found.severity,
        "responsible": found.responsible,
        "certainty": found.certainty,
        "since": iso_time(found.since),
        "evidence": list(found.evidence),
    }


def summary(status: ConnectionStatus, maintenance: datetime | None) -> dict[str, Any]:
    """A connection in the list."""
    history, connection = status.history, status.connection
    findings = [finding(found) for found in status.findings]
    first = findings[0] if findings else {}
    return {
        "name": status.name,
        "state": status.state,
        "state_since": iso_time(history.state_since),
        "maintenance_until": iso_time(maintenance),
        **{key: first.get(key) for key in ("cause", "title", "severity", "responsible", "certainty")},
        "findings": findings,
        "host": connection.host,
        "org_type": connection.org_type,
        "app": connection.app or None,
        "labels": dict(connection.labels),
        "certificate_not_after": iso_time(status.certificate_end),
        "approval_since": iso_time(history.approval_since),
        "approval_forecast": iso_time(status.forecast.at) if status.forecast else None,
        "last_exchange": iso_time(history.last_exchange.at) if history.last_exchange else None,
        "last_success": iso_time(history.last_success),
        "next_exchange": iso_time(status.next_exchange),
        "failing_since": iso_time(history.failing_since),
        "exchanges": history.exchanges,
        "failures": history.failures,
    }


def connection_document(snapshot: Snapshot, status: ConnectionStatus, record: "Record | None") -> Document:
    """Everything about one connection; `record` is None if the store can't be read."""
    history, connection = status.history, status.connection
    last, rotation, forecast = history.last_exchange, history.rotation, status.forecast
    found = status.findings[0] if status.findings else None
    entry = CATALOGUE[found.cause] if found else None
    detail = {
        **summary(status, snapshot.maintenance(connection)),
        "evidence": list(found.evidence) if found else [],
        "alternatives": [
            {"cause": other.cause, "tell_apart": other.tell_apart} for other in status.verdict.alternatives
        ],
        "remedy": steps(entry, status.connection) if entry else [],
        "note": entry.contested if entry else None,
        "reads": status.reads,
        "proven_at": iso_time(status.history.proven_at),
        "guide": entry.guide if entry else None,
        "reproduce": command(connection),
        "username": connection.username,
        "token_endpoint": connection.token_endpoint,
        "audience": connection.audience,
        "interval_seconds": connection.interval.total_seconds(),
        "first_seen": iso_time(history.first_seen),
        "changed_at": iso_time(history.changed_at),
        "first_success": iso_time(history.first_success),
        "org_id": history.identity.org_id,
        "user_id": history.identity.user_id,
        "last_duration_seconds": last.duration_seconds if last else None,
        "clock_offset_seconds": last.clock_offset_seconds if last else None,
        "current": credential(status.credential, accepted=history.keys_accepted.get(Slot.CURRENT)),
        "next": status.next_credential
        and credential(status.next_credential, accepted=history.keys_accepted.get(Slot.NEXT)),
        "rotation": rotation
        and {
            "stage": rotation.stage,
            "since": iso_time(rotation.since),
            "tried": iso_time(rotation.tried_at),
            "text": STAGES[rotation.stage],
        },
        "approvals": [
            {"since": iso_time(epoch.since), "until": iso_time(epoch.until), "days": round(epoch.days, 2)}
            for epoch in history.approvals
        ],
        "forecast": forecast
        and {
            "at": iso_time(forecast.at),
            "grounds": forecast.grounds,
            "lifetime_days": round(forecast.lifetime.total_seconds() / 86_400, 2),
            "reason": forecast.reason,
        },
        "audit": audit_of(status, snapshot.at),
        **_recorded(record),
    }
    return _document(snapshot.at, b'"connection":' + _dumps(detail))


def _recorded(record: "Record | None") -> dict[str, Any]:
    """What the database says; null where it cannot be read."""
    if record is None:
        return {"availability": [], "days": None, "recent_exchanges": None, "events": None}
    return {
        "availability": [
            {
                "days": days,
                "share": None if found.share is None else round(found.share, 6),
                "down_seconds": found.down.total_seconds(),
                "outages": found.outages,
            }
            for days, found in record.availability.items()
        ],
        "days": [{**asdict(day), "day": f"{day.day}"} for day in record.days],
        "recent_exchanges": [{**asdict(past), "at": iso_time(past.at)} for past in record.exchanges],
        "events": [_event(event) for event in record.events],
    }


def credential(facts: CredentialFacts, *, accepted: bool | None) -> dict[str, Any]:
    """A pair's public facts, and whether its last verdict was a grant (null: not tried yet)."""
    key, certificate = facts.key, facts.certificate
    return {
        "key": key and {"kind": key.kind, "bits": key.bits, "fingerprint_sha256": key.fingerprint},
        "certificate": certificate
        and {
            "subject": certificate.subject,
            "serial": certificate.serial,
            "not_before": iso_time(certificate.not_before),
            "not_after": iso_time(certificate.not_after),
            "fingerprint_sha256": certificate.fingerprint,
        },
        "pairs": facts.pairs,
        "accepted": accepted,
        "problems": [{"cause": problem.cause, "detail": problem.detail} for problem in facts.problems],
    }


def audit_of(status: ConnectionStatus, at: datetime) -> dict[str, Any] | None:
    """The last audit's result for each step of the guide; None without an audit."""
    facts = status.history.audit
    if facts is None or not status.connection.audit:
        return None
    theirs = facts.production
    return {
        "at": iso_time(facts.at),
        "observer": facts.observer or None,
        "calls": facts.calls,
        "steps": [
            {
                "guide": step.guide or None,
                "what": step.what,
                "ruling": step.ruling.value,
                "said": step.said,
                "permission": step.permission or None,
                "cause": step.cause and step.cause.value,
            }
            for step in audit.steps_of(status, at)
        ],
        "production": theirs
        and {
            "last_granted": iso_time(theirs.granted),
            "refused": theirs.refused,
            "refused_since": iso_time(theirs.since),
            "status": theirs.last.status if theirs.last else None,
        },
        "changes": [{"at": iso_time(when), "what": what} for when, what in facts.changes],
    }
