"""The stored format of histories, audits and what sinks were told: versioned records.

The core may rename and rearrange its fields; stored records stay readable. Unknown keys are an error: a
history from a newer version is set aside, not truncated to what we understand.

A change of format is a new version, such as `HistoryRecordV3`. The newest version is written; an older one is
converted when it is read.
"""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, TypeAdapter, ValidationError

from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.finding import Alternative, Certainty, Finding, State
from monitor.core.history import Approval, Change, History, Identity, Rotation, Slot, Stage
from monitor.core.inside import Facts, Logins
from monitor.core.outcome import (
    AfterLogin,
    ApiUsage,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Refused,
    Unreachable,
)
from monitor.core.reads import Read
from monitor.core.telling import Told

REASON_LENGTH = 300
"""Characters kept of the reason why a history can't be read: the first few problems are enough."""


class _Record(BaseModel):
    """Has the same fields as the core's type `of`."""

    model_config = ConfigDict(extra="forbid")

    of: ClassVar[type]

    def __init_subclass__(cls, of: type | None = None) -> None:
        if of:
            cls.of = of


def _read(record: _Record) -> Any:
    """A record converted to the core's types."""
    fields = dict(vars(record))
    for name, value in vars(record).items():
        if isinstance(value, _Record):
            fields[name] = _read(value)
        elif type(value) is tuple and value and isinstance(value[0], _Record):
            fields[name] = tuple(map(_read, value))
    for name in ("version", "assignments"):
        fields.pop(name, None)
    return record.of(**fields)


class _Granted(_Record, of=Granted):
    token_format: Literal["opaque", "jwt"]
    scopes: frozenset[str] | None = None
    instance_url: str | None = None
    org_id: str | None = None
    user_id: str | None = None
    of_site: bool = False


class _Refused(_Record, of=Refused):
    status: int
    error: str
    description: str
    excerpt: str
    retry_after_seconds: float | None = None


class _Unreachable(_Record, of=Unreachable):
    kind: FaultKind
    message: str


class _NotSent(_Record, of=NotSent):
    message: str


class _AfterLogin(_Record, of=AfterLogin):
    status: int
    error: str
    message: str


class _ApiUsage(_Record, of=ApiUsage):
    used: int
    allowed: int


class _Exchange(_Record, of=Exchange):
    at: datetime
    outcome: _Granted | _Refused | _Unreachable | _NotSent
    after_login: _AfterLogin | None = None
    duration_seconds: float | None = None
    clock_offset_seconds: float | None = None
    assignments: Any = None
    """Written by earlier builds only; audits read assignments now."""
    usage: _ApiUsage | None = None


class _Identity(_Record, of=Identity):
    org_id: str | None = None
    user_id: str | None = None


class _Approval(_Record, of=Approval):
    since: datetime
    until: datetime


class _Rotation(_Record, of=Rotation):
    key_fingerprint: str
    prepared_at: datetime
    stage: Stage
    since: datetime
    tried_at: datetime | None = None
    moved_at: datetime | None = None


class _Finding(_Record, of=Finding):
    cause: Cause
    severity: Severity
    responsible: Responsible
    certainty: Certainty
    evidence: tuple[str, ...]
    since: datetime


class _Alternative(_Record, of=Alternative):
    cause: Cause
    tell_apart: str


class HistoryRecordV1(_Record, of=History):
    """Version 1. Fields with a default may be missing: they were added before versions were written."""

    version: Literal[1] = 1
    first_seen: datetime
    changed_at: datetime
    changed: Change = Change.FIRST_SEEN
    configuration: str = ""
    key_fingerprint: str = ""
    exchanges: int = 0
    failures: int = 0
    failures_by_cause: dict[Cause, int] = {}
    last_exchange: _Exchange | None = None
    last_verdict: _Exchange | None = None
    after_login: _AfterLogin | None = None
    assignments: Any = None
    first_success: datetime | None = None
    last_success: datetime | None = None
    consecutive_successes: int = 0
    consecutive_refusals: int = 0
    consecutive_faults: int = 0
    recent: tuple[bool, ...] = ()
    failing_since: datetime | None = None
    identity: _Identity = _Identity()
    approval_since: datetime | None = None
    approvals: tuple[_Approval, ...] = ()
    keys_accepted: dict[Slot, bool] = {}
    rotation: _Rotation | None = None
    state: State = State.UNKNOWN
    state_since: datetime | None = None
    findings: tuple[_Finding, ...] = ()
    alternatives: tuple[_Alternative, ...] = ()


class _Logins(_Record, of=Logins):
    application: str
    address: str
    status: str
    count: int
    first: datetime
    last: datetime


class _Facts(_Record, of=Facts):
    """Keys within rows are Salesforce's field names."""

    at: datetime
    observer: str
    rows: dict[Read, tuple[dict[str, str | bool | int | None], ...]]
    unread: dict[Read, str]
    logins: tuple[_Logins, ...]
    application: str
    address: str
    status: str
    calls: int
    app: str = ""
    asked: int = 0


class HistoryRecordV2(HistoryRecordV1):
    """Version 2 adds what an audit read inside the org."""

    version: Literal[2]  # type: ignore[assignment]
    audit: _Facts | None
    usage: _ApiUsage | None
    calls_missed: int = 0
    proven_at: datetime | None = None


class HistoryRecordV3(HistoryRecordV2):
    """Version 3 leaves out defaults, and what an audit read, which has a record of its own."""

    version: Literal[3]  # type: ignore[assignment]
    last_verdict: _Exchange | Literal["last_exchange"] | None = "last_exchange"  # type: ignore[assignment]
    """By default the last exchange."""
    audit: datetime | None = None  # type: ignore[assignment]
    """The time of the audit that belongs to this history."""
    usage: _ApiUsage | None = None


def _version(record: Any) -> str:
    """The version to read a record as. One from a newer program fails as the newest we know."""
    version = record.get("version", 1) if isinstance(record, dict) else 1
    return f"v{version}" if version in (1, 2) else "v3"


_RECORD: TypeAdapter[HistoryRecordV1] = TypeAdapter(
    Annotated[
        Annotated[HistoryRecordV1, Tag("v1")]
        | Annotated[HistoryRecordV2, Tag("v2")]
        | Annotated[HistoryRecordV3, Tag("v3")],
        Discriminator(_version),
    ]
)


class AuditRecordV1(_Facts):
    """Version 1 of what an audit read."""

    version: Literal[1]


class ToldRecordV1(_Record, of=Told):
    """Version 1 of what a sink was last told about one group."""

    version: Literal[1]
    labels: dict[str, str]
    title: str
    connections: tuple[str, ...]
    since: datetime
    at: datetime


def read_told(body: str | bytes) -> Told:
    """Reads a record of any version. Raises pydantic.ValidationError."""
    told: Told = _read(ToldRecordV1.model_validate_json(body))
    return told


def written_told(told: Told) -> str:
    """The record of the newest version, as JSON."""
    return ToldRecordV1(version=1, **asdict(told)).model_dump_json()


def read(body: str | bytes, audit: str | bytes | None) -> History:
    """Reads a history of any version, and the connection's last audit. Raises pydantic.ValidationError."""
    record = _RECORD.validate_json(body)
    history: History = _read(record)
    if isinstance(record, HistoryRecordV3):
        facts = _read(AuditRecordV1.model_validate_json(audit)) if record.audit and audit else None
        history = replace(history, audit=facts if facts and facts.at == record.audit else None)
    # Usually equal: sharing one object halves the memory.
    same = history.last_verdict in ("last_exchange", history.last_exchange)
    return replace(history, last_verdict=history.last_exchange) if same else history


def why(error: ValidationError) -> str:
    """The reason, in a few words."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # Missing and unknown keys go last: for an outcome, they only say that it isn't of another kind.
    problems.sort(key=lambda one: one["type"] in {"missing", "extra_forbidden"})
    # A history's `loc` begins with the record version.
    places = [
        ".".join(str(step) for step in one["loc"] if step not in {"v1", "v2", "v3"}) for one in problems
    ]
    said = (f"{place or 'it'}: {one['msg']}" for place, one in zip(places, problems, strict=True))
    return "; ".join(said)[:REASON_LENGTH]


def written(history: History) -> str:
    """The record of the newest version, as JSON, without what the audit read."""
    # Serializes the core's History directly: building a record first would double the cost of a write.
    # Golden files in the tests keep both in step; if the core renames a field, build the record here.
    head, apart = '"version":3', {"audit"}
    if history.audit:
        head += f',"audit":"{history.audit.at.isoformat()}"'
    if history.last_verdict is history.last_exchange:
        apart.add("last_verdict")
    elif history.last_verdict is None:
        head += ',"last_verdict":null'
    body = _HISTORY.dump_json(history, exclude=apart, exclude_defaults=True, exclude_none=True)
    return f"{{{head},{body[1:].decode()}"


def written_audit(audit: Facts) -> str:
    """The record of what an audit read, of the newest version, as JSON."""
    return f'{{"version":1,{_AUDIT.dump_json(audit)[1:].decode()}'


_HISTORY, _AUDIT = TypeAdapter(History), TypeAdapter(Facts)
