"""What is remembered of one connection, how each check changes it, and the events that report the changes.

Plain data, which `store.records` keeps over restarts. In a check, its history is `rekeyed` with the key that
signs, then `exchanged`, and finally `diagnosed`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import Alternative, Diagnosis, Finding, State
from monitor.core.inside import Facts
from monitor.core.keys.credential import KeyFacts
from monitor.core.outcome import (
    AfterLogin,
    ApiUsage,
    Exchange,
    NotSent,
    Refused,
)

LIFETIMES_KEPT = 12
"""Approval lifetimes kept per connection: a year of monthly decays; older ones add nothing."""


class Change(StrEnum):
    """A change on our side, which begins a settle time."""

    FIRST_SEEN = "first_seen"
    CONFIGURATION = "configuration"
    KEY = "key"


class Slot(StrEnum):
    """One of a connection's two key pairs."""

    CURRENT = "current"
    NEXT = "next"


class Stage(StrEnum):
    """The stage of the rotation to the next pair. An app has one certificate, which verifies one key."""

    PREPARED = "prepared"
    """The next key waits for its certificate to be uploaded."""
    PROPAGATING = "propagating"
    """The app's certificate was replaced within the settle time: either key may still be refused."""
    ACCEPTED = "accepted"
    """The next key is granted, and no refusal of the current one was observed."""
    CURRENT_REFUSED = "current_refused"
    """The next key is granted and the current one refused: clients that still use it fail."""


STAGES = {
    Stage.PREPARED: (
        "The next key is ready: upload its certificate under Flow Enablement of the app (setup guide,"
        " step 2)."
    ),
    Stage.PROPAGATING: "The app's certificate is changing: either key may be refused for a few minutes.",
    Stage.ACCEPTED: "The next key is accepted: switch the integration to it, then make it the current one.",
    Stage.CURRENT_REFUSED: (
        "The next key is accepted and the current one no longer is: switch the integration to the next key"
        " now, then make it the current one."
    ),
}


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotation to the next pair, since its key was first seen."""

    key_fingerprint: str
    prepared_at: datetime
    stage: Stage
    since: datetime
    tried_at: datetime | None = None
    """The last exchange with the next key, whatever its outcome."""
    moved_at: datetime | None = None
    """When the org last changed its answer to one of the keys."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval that has ended: from the first observed grant to the refusal that ended it."""

    since: datetime
    until: datetime

    @property
    def days(self) -> float:
        """How long it lasted."""
        return (self.until - self.since).total_seconds() / 86_400


RECENT_KEPT = 16
"""Number of exchanges in `recent`: an hour at 5 minutes, including retries after a fault."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The org and user of the first grant."""

    org_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of one connection."""

    first_seen: datetime
    changed_at: datetime
    """When something last changed on our side: first seen, configuration, key."""
    changed: Change = Change.FIRST_SEEN
    configuration: str = ""
    """Fingerprint of what is sent (endpoint, audience, consumer key, username); contains no secret."""
    key_fingerprint: str = ""

    exchanges: int = 0
    failures: int = 0
    failures_by_cause: Mapping[Cause, int] = field(default_factory=dict)
    """Failed exchanges, by the first cause of the diagnosis."""
    last_exchange: Exchange | None = None
    last_verdict: Exchange | None = None
    """The last exchange that was granted or refused: determines the state during a network outage."""
    after_login: AfterLogin | None = None
    calls_missed: int = 0
    """Consecutive such calls without a usable answer."""
    proven_at: datetime | None = None
    """When one last proved that the token is accepted."""
    audit: Facts | None = None
    """What the last audit read inside the org; None if there was none for the current configuration."""
    usage: ApiUsage | None = None
    first_success: datetime | None = None
    last_success: datetime | None = None
    consecutive_successes: int = 0
    consecutive_refusals: int = 0
    """Definitive refusals in a row, not counting those during or before a settle time."""
    consecutive_faults: int = 0
    """Exchanges in a row without a verdict: transient answers, no answer, not sent."""
    recent: tuple[bool, ...] = ()
    """Whether each of the last RECENT_KEPT exchanges was granted, oldest first."""
    failing_since: datetime | None = None
    """The first failed exchange since the last grant."""

    identity: Identity = Identity()
    approval_since: datetime | None = None
    """The first observed grant of the current approval."""
    approvals: tuple[Approval, ...] = ()
    """Approvals that ended in a decay, oldest first, at most LIFETIMES_KEPT."""
    keys_accepted: Mapping[Slot, bool] = field(default_factory=dict)
    rotation: Rotation | None = None

    state: State = State.UNKNOWN
    state_since: datetime | None = None
    findings: tuple[Finding, ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def superseded(self) -> bool:
        """Whether the app has the next key's certificate, so that it refuses the current key."""
        return self.rotation is not None and self.rotation.stage is Stage.CURRENT_REFUSED


class EventKind(StrEnum):
    """What an event changed."""

    STATE = "state"
    CAUSE = "cause"
    KEY = "key"
    CONFIGURATION = "configuration"
    IDENTITY = "identity"
    APPROVAL = "approval"
    ROTATION = "rotation"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a connection, for the event log."""

    at: datetime
    kind: EventKind
    text: str
    cause: Cause | None = None
    failure: bool = False


PINNED_AGAIN_AFTER = timedelta(days=7)
"""How long a changed identity remains a finding before it is accepted as the new one: by then everyone
concerned has seen it."""


UNKNOWN_PAST = datetime(1970, 1, 1, tzinfo=UTC)


def unknown(connection: Connection) -> History:
    """A history for a connection that may be years old: refusals do not count as settling."""
    return begin(connection, UNKNOWN_PAST)


def begin(connection: Connection, now: datetime) -> History:
    """The history of a new connection."""
    return History(first_seen=now, changed_at=now, configuration=configuration_fingerprint(connection))


def configuration_fingerprint(connection: Connection) -> str:
    """Changes when anything that is sent changes: endpoint, audience, consumer key or username."""
    sent = (connection.token_endpoint, connection.audience, connection.consumer_key, connection.username)
    return hashlib.sha256("\n".join(sent).encode(errors="surrogatepass")).hexdigest()[:16]


def reconfigured(history: History, connection: Connection, now: datetime) -> History:
    """The history under the current configuration. If that changed, drops what belongs to the old one."""
    fingerprint = configuration_fingerprint(connection)
    if fingerprint == history.configuration:
        audit = history.audit
        by, of = connection.observer.name if connection.observer else "", connection.app
        kept = audit and connection.audit and (audit.observer, audit.app) == (by, of)
        return history if kept or not audit else replace(history, audit=None)
    return replace(
        history,
        configuration=fingerprint,
        changed_at=now,
        changed=Change.CONFIGURATION,
        consecutive_refusals=0,
        after_login=None,
        calls_missed=0,
        proven_at=None,
        identity=Identity(),
        audit=None,
        usage=None,
        approval_since=None,
        keys_accepted={},
        rotation=None,
    )


def rekeyed(history: History, key: KeyFacts | None, now: datetime) -> History:
    """The history with the current key. A different key begins a settle time."""
    if key is None or key.fingerprint == history.key_fingerprint:
        return history
    if not history.key_fingerprint:
        return replace(history, key_fingerprint=key.fingerprint)
    return replace(
        history,
        key_fingerprint=key.fingerprint,
        changed_at=now,
        changed=Change.KEY,
        consecutive_refusals=0,
        keys_accepted={slot: was for slot, was in history.keys_accepted.items() if slot is not Slot.CURRENT},
    )


def exchanged(history: History, exchange: Exchange) -> History:
    """The history after one exchange with the current key, before its diagnosis.

    1. A request that was not sent is not an exchange.
    2. A grant begins an approval if there is none.
    3. The identity of the first grant is kept.
    """
    at, call = exchange.at, exchange.after_login
    sent, granted = not isinstance(exchange.outcome, NotSent), exchange.granted is not None
    return replace(
        history,
        exchanges=history.exchanges + sent,
        failures=history.failures + (sent and not granted),
        last_exchange=exchange,
        after_login=call or history.after_login,
        calls_missed=history.calls_missed if call is None else history.calls_missed + 1 if call.missed else 0,
        proven_at=at if call and call.proves else history.proven_at,
        usage=exchange.usage or history.usage,
        first_success=history.first_success or (at if granted else None),
        last_success=at if granted else history.last_success,
        consecutive_successes=history.consecutive_successes + 1 if granted else 0,
        recent=(*history.recent, granted)[-RECENT_KEPT:] if sent else history.recent,
        failing_since=None if granted else history.failing_since or at,
        identity=_identity(history, exchange),
        approval_since=history.approval_since or (at if granted else None),
    )


def diagnosed(history: History, exchange: Exchange, diagnosis: Diagnosis) -> History:
    """The history after the diagnosis of this exchange, its last.

    1. The cause of a request that was not sent is counted, too.
    2. Without a verdict (network or Salesforce down), the findings of the last verdict remain.
    3. A decay ends the approval and keeps its lifetime.
    """
    granted, verdict = exchange.granted is not None, diagnosis.state is not State.UNKNOWN
    judged = granted or (isinstance(exchange.outcome, Refused) and verdict)
    definitive = judged and diagnosis.state is State.FAILING
    approval_since, approvals = history.approval_since, history.approvals
    causes = history.failures_by_cause
    if diagnosis.cause and not granted:
        causes = {**causes, diagnosis.cause: causes.get(diagnosis.cause, 0) + 1}
        if approval_since and CATALOGUE[diagnosis.cause].ends_approval:
            if diagnosis.cause is Cause.APPROVAL_DECAYED:
                approvals = (*approvals, Approval(approval_since, exchange.at))[-LIFETIMES_KEPT:]
            approval_since = None
    return replace(
        history,
        failures_by_cause=causes,
        last_verdict=exchange if judged else history.last_verdict,
        consecutive_refusals=0 if granted else history.consecutive_refusals + definitive,
        consecutive_faults=0 if judged else history.consecutive_faults + 1,
        approval_since=approval_since,
        approvals=approvals,
        keys_accepted=_shared(tuple({**history.keys_accepted, Slot.CURRENT: granted}.items()))
        if judged
        else history.keys_accepted,
        state=diagnosis.state,
        state_since=history.state_since
        if diagnosis.state is history.state and history.state_since
        else exchange.at,
        findings=_standing(history, diagnosis, verdict=verdict),
        alternatives=diagnosis.alternatives,
    )


@cache
def _shared(accepted: tuple[tuple[Slot, bool], ...]) -> Mapping[Slot, bool]:
    """Equal mappings of thousands of histories are one, to save memory."""
    return dict(accepted)


def _standing(history: History, diagnosis: Diagnosis, *, verdict: bool) -> tuple[Finding, ...]:
    """The current findings, each with the time it began."""
    since = {finding.cause: finding.since for finding in history.findings}
    now = tuple(replace(found, since=since.get(found.cause, found.since)) for found in diagnosis.findings)
    if verdict:
        return now
    named = {finding.cause for finding in now}
    return now + tuple(
        found for found in history.findings if found.cause not in named and not CATALOGUE[found.cause].passing
    )


def _identity(history: History, exchange: Exchange) -> Identity:
    granted, pinned = exchange.granted, history.identity
    if granted is None:
        return pinned
    seen = Identity(granted.org_id or pinned.org_id, granted.user_id or pinned.user_id)
    if pinned == Identity():
        return seen
    changed = next((found for found in history.findings if found.cause is Cause.IDENTITY_CHANGED), None)
    return seen if changed and exchange.at - changed.since >= PINNED_AGAIN_AFTER else pinned


def changes(before: History | None, after: History) -> tuple[Event, ...]:
    """The differences between two versions of a history, as events."""
    if before is None:
        return (Event(after.first_seen, EventKind.CONFIGURATION, "First check of this connection."),)
    at = after.last_exchange.at if after.last_exchange else after.changed_at
    events: list[Event] = []
    if after.changed_at != before.changed_at:
        kind, text = _CHANGES[after.changed]
        events.append(Event(after.changed_at, kind, text))
    if after.state is not before.state:
        failing = after.state in {State.FAILING, State.UNKNOWN}
        text = _STATES.format(before.state, after.state)
        cause = after.findings[0].cause if after.findings else None
        events.append(Event(at, EventKind.STATE, text, cause, failing))
    events += _of_findings(before, after, at)
    if len(after.approvals) != len(before.approvals) or after.approvals[-1:] != before.approvals[-1:]:
        text = f"The approval ended after {after.approvals[-1].days:.1f} days."
        events.append(Event(at, EventKind.APPROVAL, text, Cause.APPROVAL_DECAYED, failure=True))
    elif after.approval_since and before.approval_since is None:
        events.append(Event(at, EventKind.APPROVAL, "First successful login under this approval."))
    if after.rotation != before.rotation:
        events += _of_rotation(before, after, at)
    if after.identity != before.identity and Identity() not in {before.identity, after.identity}:
        text = f"Tokens are now for org {after.identity.org_id} and user {after.identity.user_id}."
        events.append(Event(at, EventKind.IDENTITY, text, Cause.IDENTITY_CHANGED))
    return tuple(events)


_STATES = "The state went from {} to {}."


def state_change(event: Event) -> tuple[State, State] | None:
    """Old and new state of an event; None for other kinds."""
    if event.kind is not EventKind.STATE:
        return None
    words = event.text.rstrip(".").split()
    try:
        return State(words[-3]), State(words[-1])
    except (IndexError, ValueError):
        return None  # from a version with other states


def _of_findings(before: History, after: History, at: datetime) -> Iterator[Event]:
    was = {finding.cause for finding in before.findings}
    holds = {finding.cause for finding in after.findings}
    for finding in after.findings:
        if finding.cause not in was:
            text = finding.evidence[0] if finding.evidence else ""
            yield Event(at, EventKind.CAUSE, text, finding.cause, failure=True)
    for finding in before.findings:
        if finding.cause not in holds:
            yield Event(at, EventKind.CAUSE, "Cleared.", finding.cause)


def _of_rotation(before: History, after: History, at: datetime) -> Iterator[Event]:
    was, now = before.rotation, after.rotation
    if now is None:
        done = was is not None and was.key_fingerprint == after.key_fingerprint
        text = "The next key is now the current one: the rotation is complete."
        yield Event(
            at, EventKind.ROTATION, text if done else "The next key was removed from the configuration."
        )
    elif was is None or was.key_fingerprint != now.key_fingerprint or was.stage is not now.stage:
        stopped = now.stage is Stage.CURRENT_REFUSED
        yield Event(now.since, EventKind.ROTATION, STAGES[now.stage], failure=stopped)


_CHANGES = {
    Change.FIRST_SEEN: (EventKind.CONFIGURATION, "First check of this connection."),
    Change.CONFIGURATION: (
        EventKind.CONFIGURATION,
        "The configuration changed: endpoint, audience, consumer key or username.",
    ),
    Change.KEY: (EventKind.KEY, "The private key changed."),
}
