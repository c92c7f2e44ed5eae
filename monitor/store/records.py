"""The stored format of histories and of what sinks were told: versioned records.

The core may rename and rearrange its fields; stored records stay readable. Unknown keys are an error: a
history from a newer version is set aside, not truncated to what we understand.

A change of format is a new version, such as `HistoryRecordV2`. The newest version is written; an older one is
converted when it is read.
"""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, TypeAdapter, ValidationError

from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.finding import Alternative, Certainty, Finding, State
from monitor.core.history import Approval, Change, History, Identity, Rotation, Slot, Stage
from monitor.core.inside import Facts, Logins, Read
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
from monitor.core.telling import Told

REASON_LENGTH = 300
"""Characters kept of the reason why a history can't be read: the first few problems are enough."""


class _Record(BaseModel):
    """Has the same fields as the core's type `of`."""

    model_config = ConfigDict(extra="forbid")

    of: ClassVar[type]


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


class _Granted(_Record):
    of = Granted

    token_format: Literal["opaque", "jwt"]
    scopes: frozenset[str] | None
    instance_url: str | None
    org_id: str | None
    user_id: str | None
    of_site: bool = False


class _Refused(_Record):
    of = Refused

    status: int
    error: str
    description: str
    excerpt: str
    retry_after_seconds: float | None = None


class _Unreachable(_Record):
    of = Unreachable

    kind: FaultKind
    message: str


class _NotSent(_Record):
    of = NotSent

    message: str


class _AfterLogin(_Record):
    of = AfterLogin

    status: int
    error: str
    message: str


class _ApiUsage(_Record):
    of = ApiUsage

    used: int
    allowed: int


class _Exchange(_Record):
    of = Exchange

    at: datetime
    outcome: _Granted | _Refused | _Unreachable | _NotSent
    after_login: _AfterLogin | None = None
    duration_seconds: float | None = None
    clock_offset_seconds: float | None = None
    assignments: Any = None
    """Written by earlier builds only; audits read assignments now."""
    usage: _ApiUsage | None = None


class _Identity(_Record):
    of = Identity

    org_id: str | None = None
    user_id: str | None = None


class _Approval(_Record):
    of = Approval

    since: datetime
    until: datetime


class _Rotation(_Record):
    of = Rotation

    key_fingerprint: str
    prepared_at: datetime
    stage: Stage
    since: datetime
    tried_at: datetime | None = None
    moved_at: datetime | None = None


class _Finding(_Record):
    of = Finding

    cause: Cause
    severity: Severity
    responsible: Responsible
    certainty: Certainty
    evidence: tuple[str, ...]
    since: datetime


class _Alternative(_Record):
    of = Alternative

    cause: Cause
    tell_apart: str


class HistoryRecordV1(_Record):
    """Version 1. Fields with a default may be missing: they were added before versions were written."""

    of = History

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


class _Logins(_Record):
    of = Logins

    application: str
    address: str
    status: str
    count: int
    first: datetime
    last: datetime


class _Facts(_Record):
    """Keys within rows are Salesforce's field names."""

    of = Facts

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


def _version(record: Any) -> str:
    """The version to read a record as. One from a newer program fails as the newest we know."""
    return "first" if not isinstance(record, dict) or record.get("version", 1) == 1 else "second"


_RECORD: TypeAdapter[HistoryRecordV1] = TypeAdapter(
    Annotated[
        Annotated[HistoryRecordV1, Tag("first")] | Annotated[HistoryRecordV2, Tag("second")],
        Discriminator(_version),
    ]
)


class ToldRecordV1(_Record):
    """Version 1 of what a sink was last told about one group."""

    of = Told

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


def read(body: str | bytes) -> History:
    """Reads a history of any version. Raises pydantic.ValidationError."""
    history: History = _read(_RECORD.validate_json(body))
    # Usually equal: sharing one object halves the memory.
    same = history.last_verdict == history.last_exchange
    return replace(history, last_verdict=history.last_exchange) if same else history


def why(error: ValidationError) -> str:
    """The reason, in a few words."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # Missing and unknown keys go last: for an outcome, they only say that it isn't of another kind.
    problems.sort(key=lambda one: one["type"] in {"missing", "extra_forbidden"})
    # The first element of `loc` is the record version.
    said = (f"{'.'.join(map(str, one['loc'][1:])) or 'it'}: {one['msg']}" for one in problems)
    return "; ".join(said)[:REASON_LENGTH]


def written(history: History) -> str:
    """The record of the newest version, as JSON."""
    # Serializes the core's History directly: building a record first would double the cost of a write.
    # Golden files in the tests keep both in step; if the core renames a field, build the record here.
    return f'{{"version":2,{_HISTORY.dump_json(history)[1:].decode()}'


_HISTORY = TypeAdapter(History)
