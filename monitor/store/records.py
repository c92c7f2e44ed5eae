"""How histories, and what receivers were told, look in the database: named, versioned records.

The core may rename and rearrange what it remembers; what is written here stays readable. A record refuses
keys that it does not know: a history that a newer version wrote is set aside, not cut to what we understand.

A change of the shape is a new version: `HistoryRecordV2` beside `HistoryRecordV1`, the newest is written, and
an older one is turned into the next as it is read.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, TypeAdapter, ValidationError
from pydantic_core import to_json

from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.finding import Alternative, Certainty, Finding, State
from monitor.core.history import Approval, Change, History, Identity, Rotation, Slot, Stage
from monitor.core.inside import Facts, Logins, Read
from monitor.core.outcome import (
    AfterLogin,
    ApiUsage,
    Assignment,
    Assignments,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Outcome,
    Refused,
    Unreachable,
)
from monitor.core.telling import Told

T = TypeVar("T", covariant=True)

REASON_LENGTH = 300
"""Characters kept of why a history can't be read: the first few problems say it all."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Has(Protocol[T]):
    def value(self) -> T: ...


def _value(record: _Has[T] | None) -> T | None:
    return None if record is None else record.value()


class GrantedRecord(_Record):
    """A `Granted`."""

    token_format: Literal["opaque", "jwt"]
    scopes: frozenset[str] | None
    instance_url: str | None
    org_id: str | None
    user_id: str | None

    def value(self) -> Granted:
        """As the core has it."""
        return Granted(self.token_format, self.scopes, self.instance_url, self.org_id, self.user_id)


class RefusedRecord(_Record):
    """A `Refused`."""

    status: int
    error: str
    description: str
    excerpt: str
    retry_after_seconds: float | None = None

    def value(self) -> Refused:
        """As the core has it."""
        return Refused(self.status, self.error, self.description, self.excerpt, self.retry_after_seconds)


class UnreachableRecord(_Record):
    """An `Unreachable`."""

    kind: FaultKind
    message: str

    def value(self) -> Unreachable:
        """As the core has it."""
        return Unreachable(self.kind, self.message)


class NotSentRecord(_Record):
    """A `NotSent`."""

    message: str

    def value(self) -> NotSent:
        """As the core has it."""
        return NotSent(self.message)


class AfterLoginRecord(_Record):
    """An `AfterLogin`."""

    status: int
    error: str
    message: str

    def value(self) -> AfterLogin:
        """As the core has it."""
        return AfterLogin(self.status, self.error, self.message)


class AssignmentRecord(_Record):
    """An `Assignment`."""

    permission_set: str
    ends: datetime


class AssignmentsRecord(_Record):
    """An `Assignments`."""

    ending: tuple[AssignmentRecord, ...] = ()
    refused: str = ""

    def value(self) -> Assignments:
        """As the core has it."""
        return Assignments(
            tuple(Assignment(one.permission_set, one.ends) for one in self.ending), self.refused
        )


class ApiUsageRecord(_Record):
    """An `ApiUsage`."""

    used: int
    allowed: int

    def value(self) -> ApiUsage:
        """As the core has it."""
        return ApiUsage(self.used, self.allowed)


class ExchangeRecord(_Record):
    """An `Exchange`."""

    at: datetime
    outcome: GrantedRecord | RefusedRecord | UnreachableRecord | NotSentRecord
    after_login: AfterLoginRecord | None = None
    duration_seconds: float | None = None
    clock_offset_seconds: float | None = None
    assignments: AssignmentsRecord | None = None
    usage: ApiUsageRecord | None = None

    def value(self) -> Exchange:
        """As the core has it."""
        return Exchange(
            at=self.at,
            outcome=self.outcome.value(),
            after_login=_value(self.after_login),
            duration_seconds=self.duration_seconds,
            clock_offset_seconds=self.clock_offset_seconds,
            assignments=_value(self.assignments),
            usage=_value(self.usage),
        )


class IdentityRecord(_Record):
    """An `Identity`."""

    org_id: str | None = None
    user_id: str | None = None


class ApprovalRecord(_Record):
    """An `Approval`."""

    since: datetime
    until: datetime


class RotationRecord(_Record):
    """A `Rotation`."""

    key_fingerprint: str
    prepared_at: datetime
    stage: Stage
    since: datetime
    tried_at: datetime | None = None
    moved_at: datetime | None = None

    def value(self) -> Rotation:
        """As the core has it."""
        return Rotation(
            key_fingerprint=self.key_fingerprint,
            prepared_at=self.prepared_at,
            stage=self.stage,
            since=self.since,
            tried_at=self.tried_at,
            moved_at=self.moved_at,
        )


class FindingRecord(_Record):
    """A `Finding`."""

    cause: Cause
    severity: Severity
    responsible: Responsible
    certainty: Certainty
    evidence: tuple[str, ...]
    since: datetime

    def value(self) -> Finding:
        """As the core has it."""
        return Finding(self.cause, self.severity, self.responsible, self.certainty, self.evidence, self.since)


class AlternativeRecord(_Record):
    """An `Alternative`."""

    cause: Cause
    tell_apart: str


class HistoryRecordV1(_Record):
    """The first version. Fields with a default may be missing: they came when no version was written yet."""

    version: Literal[1] = 1
    first_seen: datetime
    changed_at: datetime
    changed: Change = Change.FIRST_SEEN
    configuration: str = ""
    key_fingerprint: str = ""
    exchanges: int = 0
    failures: int = 0
    failures_by_cause: dict[Cause, int] = {}
    last_exchange: ExchangeRecord | None = None
    last_verdict: ExchangeRecord | None = None
    after_login: AfterLoginRecord | None = None
    assignments: AssignmentsRecord | None = None
    first_success: datetime | None = None
    last_success: datetime | None = None
    consecutive_successes: int = 0
    consecutive_refusals: int = 0
    consecutive_faults: int = 0
    recent: tuple[bool, ...] = ()
    failing_since: datetime | None = None
    identity: IdentityRecord = IdentityRecord()
    approval_since: datetime | None = None
    approvals: tuple[ApprovalRecord, ...] = ()
    keys_accepted: dict[Slot, bool] = {}
    rotation: RotationRecord | None = None
    state: State = State.UNKNOWN
    state_since: datetime | None = None
    findings: tuple[FindingRecord, ...] = ()
    alternatives: tuple[AlternativeRecord, ...] = ()

    def value(self) -> History:
        """As the core has it."""
        last = _value(self.last_exchange)
        # Most often the two are one: told apart, they would take twice the memory.
        same = self.last_verdict == self.last_exchange
        return History(
            first_seen=self.first_seen,
            changed_at=self.changed_at,
            changed=self.changed,
            configuration=self.configuration,
            key_fingerprint=self.key_fingerprint,
            exchanges=self.exchanges,
            failures=self.failures,
            failures_by_cause=self.failures_by_cause,
            last_exchange=last,
            last_verdict=last if same else _value(self.last_verdict),
            after_login=_value(self.after_login),
            assignments=_value(self.assignments),
            first_success=self.first_success,
            last_success=self.last_success,
            consecutive_successes=self.consecutive_successes,
            consecutive_refusals=self.consecutive_refusals,
            consecutive_faults=self.consecutive_faults,
            recent=self.recent,
            failing_since=self.failing_since,
            identity=Identity(self.identity.org_id, self.identity.user_id),
            approval_since=self.approval_since,
            approvals=tuple(Approval(one.since, one.until) for one in self.approvals),
            keys_accepted=self.keys_accepted,
            rotation=_value(self.rotation),
            state=self.state,
            state_since=self.state_since,
            findings=tuple(one.value() for one in self.findings),
            alternatives=tuple(Alternative(one.cause, one.tell_apart) for one in self.alternatives),
        )


class LoginsRecord(_Record):
    """A `Logins`."""

    application: str
    address: str
    status: str
    count: int
    first: datetime
    last: datetime


class FactsRecord(_Record):
    """A `Facts`. The names of fields within rows are Salesforce's."""

    at: datetime
    observer: str
    rows: dict[Read, tuple[dict[str, str | bool | int | None], ...]]
    unread: dict[Read, str]
    logins: tuple[LoginsRecord, ...]
    application: str
    address: str
    status: str
    calls: int

    def value(self) -> Facts:
        """As the core has it."""
        logins = tuple(Logins(**dict(one)) for one in self.logins)
        return Facts(**{**dict(self), "logins": logins})


class HistoryRecordV2(HistoryRecordV1):
    """The second version: with what an audit read inside the org."""

    version: Literal[2]  # type: ignore[assignment]
    audit: FactsRecord | None
    usage: ApiUsageRecord | None

    def value(self) -> History:
        """As the core has it."""
        return replace(super().value(), audit=_value(self.audit), usage=_value(self.usage))


def _version(record: Any) -> str:
    """Of a history's record. One of a newer version fails as the newest that is known here."""
    return "first" if not isinstance(record, dict) or record.get("version", 1) == 1 else "second"


_HISTORY: TypeAdapter[HistoryRecordV1] = TypeAdapter(
    Annotated[
        Annotated[HistoryRecordV1, Tag("first")] | Annotated[HistoryRecordV2, Tag("second")],
        Discriminator(_version),
    ]
)


class ToldRecordV1(_Record):
    """What a receiver of notifications was last told about one group; a `Told`."""

    version: Literal[1]
    labels: dict[str, str]
    title: str
    connections: tuple[str, ...]
    since: datetime
    at: datetime


def read_told(body: str | bytes) -> Told:
    """What a receiver was told, of any version. Raises pydantic's ValidationError where it can't be read."""
    record = ToldRecordV1.model_validate_json(body)
    return Told(record.labels, record.title, record.connections, record.since, record.at)


def written_told(told: Told) -> str:
    """Its record of the newest version, as JSON."""
    return ToldRecordV1(version=1, **asdict(told)).model_dump_json()


def read(body: str | bytes) -> History:
    """The history in a record of any version. Raises pydantic's ValidationError where it can't be read."""
    return _HISTORY.validate_json(body).value()


def why(error: ValidationError) -> str:
    """Why something can't be read, in a few words."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # Missing and unknown keys go last: of an outcome they only say that it isn't one of the other kinds.
    problems.sort(key=lambda one: one["type"] in {"missing", "extra_forbidden"})
    # A place begins with the version whose record it was taken for.
    said = (f"{'.'.join(map(str, one['loc'][1:])) or 'it'}: {one['msg']}" for one in problems)
    return "; ".join(said)[:REASON_LENGTH]


def written(history: History) -> str:
    """The record of the newest version, as JSON."""
    # Plain dictionaries: to make the records first would double the cost of every write.
    return to_json(
        {
            "version": 2,
            "first_seen": history.first_seen,
            "changed_at": history.changed_at,
            "changed": history.changed,
            "configuration": history.configuration,
            "key_fingerprint": history.key_fingerprint,
            "exchanges": history.exchanges,
            "failures": history.failures,
            "failures_by_cause": history.failures_by_cause,
            "last_exchange": _exchange(history.last_exchange),
            "last_verdict": _exchange(history.last_verdict),
            "after_login": _after_login(history.after_login),
            "assignments": _assignments(history.assignments),
            "audit": _facts(history.audit),
            "usage": _usage(history.usage),
            "first_success": history.first_success,
            "last_success": history.last_success,
            "consecutive_successes": history.consecutive_successes,
            "consecutive_refusals": history.consecutive_refusals,
            "consecutive_faults": history.consecutive_faults,
            "recent": history.recent,
            "failing_since": history.failing_since,
            "identity": {"org_id": history.identity.org_id, "user_id": history.identity.user_id},
            "approval_since": history.approval_since,
            "approvals": [{"since": one.since, "until": one.until} for one in history.approvals],
            "keys_accepted": history.keys_accepted,
            "rotation": _rotation(history.rotation),
            "state": history.state,
            "state_since": history.state_since,
            "findings": [_finding(one) for one in history.findings],
            "alternatives": [
                {"cause": one.cause, "tell_apart": one.tell_apart} for one in history.alternatives
            ],
        }
    ).decode()


_Fields = Mapping[str, Any]


def _exchange(exchange: Exchange | None) -> _Fields | None:
    if exchange is None:
        return None
    return {
        "at": exchange.at,
        "outcome": _outcome(exchange.outcome),
        "after_login": _after_login(exchange.after_login),
        "duration_seconds": exchange.duration_seconds,
        "clock_offset_seconds": exchange.clock_offset_seconds,
        "assignments": _assignments(exchange.assignments),
        "usage": _usage(exchange.usage),
    }


def _outcome(outcome: Outcome) -> _Fields:
    match outcome:
        case Granted():
            return {
                "token_format": outcome.token_format,
                "scopes": outcome.scopes,
                "instance_url": outcome.instance_url,
                "org_id": outcome.org_id,
                "user_id": outcome.user_id,
            }
        case Refused():
            return {
                "status": outcome.status,
                "error": outcome.error,
                "description": outcome.description,
                "excerpt": outcome.excerpt,
                "retry_after_seconds": outcome.retry_after_seconds,
            }
        case Unreachable():
            return {"kind": outcome.kind, "message": outcome.message}
        case NotSent():
            return {"message": outcome.message}


def _after_login(call: AfterLogin | None) -> _Fields | None:
    if call is None:
        return None
    return {"status": call.status, "error": call.error, "message": call.message}


def _assignments(shown: Assignments | None) -> _Fields | None:
    if shown is None:
        return None
    return {
        "ending": [{"permission_set": one.permission_set, "ends": one.ends} for one in shown.ending],
        "refused": shown.refused,
    }


def _usage(usage: ApiUsage | None) -> _Fields | None:
    return None if usage is None else {"used": usage.used, "allowed": usage.allowed}


def _facts(facts: Facts | None) -> _Fields | None:
    if facts is None:
        return None
    return {
        "at": facts.at,
        "observer": facts.observer,
        "rows": facts.rows,
        "unread": facts.unread,
        "logins": [asdict(one) for one in facts.logins],
        "application": facts.application,
        "address": facts.address,
        "status": facts.status,
        "calls": facts.calls,
    }


def _rotation(rotation: Rotation | None) -> _Fields | None:
    if rotation is None:
        return None
    return {
        "key_fingerprint": rotation.key_fingerprint,
        "prepared_at": rotation.prepared_at,
        "stage": rotation.stage,
        "since": rotation.since,
        "tried_at": rotation.tried_at,
        "moved_at": rotation.moved_at,
    }


def _finding(finding: Finding) -> _Fields:
    return {
        "cause": finding.cause,
        "severity": finding.severity,
        "responsible": finding.responsible,
        "certainty": finding.certainty,
        "evidence": finding.evidence,
        "since": finding.since,
    }
