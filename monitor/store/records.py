"""How histories, and what receivers were told, look in the database: named, versioned records.

The core may rename and rearrange what it remembers; what is written here stays readable. A record refuses
keys that it does not know: a history that a newer version wrote is set aside, not cut to what we understand.

A change of the shape is a new version: `HistoryRecordV2` beside `HistoryRecordV1`, the newest is written, and
an older one is turned into the next as it is read.
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
"""Characters kept of why a history can't be read: the first few problems say it all."""


class _Record(BaseModel):
    """A record with the fields of what it is a record of."""

    model_config = ConfigDict(extra="forbid")

    of: ClassVar[type]


def _read(record: _Record) -> Any:
    """What a record is of, with all in it as the core has it."""
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
    """Only in what earlier builds wrote: an audit reads them now."""
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
    """The first version. Fields with a default may be missing: they came when no version was written yet."""

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
    """The names of fields within rows are Salesforce's."""

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


class HistoryRecordV2(HistoryRecordV1):
    """The second version: with what an audit read inside the org."""

    version: Literal[2]  # type: ignore[assignment]
    audit: _Facts | None
    usage: _ApiUsage | None


def _version(record: Any) -> str:
    """Of a history's record. One of a newer version fails as the newest that is known here."""
    return "first" if not isinstance(record, dict) or record.get("version", 1) == 1 else "second"


_RECORD: TypeAdapter[HistoryRecordV1] = TypeAdapter(
    Annotated[
        Annotated[HistoryRecordV1, Tag("first")] | Annotated[HistoryRecordV2, Tag("second")],
        Discriminator(_version),
    ]
)


class ToldRecordV1(_Record):
    """The first version of what a receiver was last told about one group."""

    of = Told

    version: Literal[1]
    labels: dict[str, str]
    title: str
    connections: tuple[str, ...]
    since: datetime
    at: datetime


def read_told(body: str | bytes) -> Told:
    """What a receiver was told, of any version. Raises pydantic's ValidationError where it can't be read."""
    told: Told = _read(ToldRecordV1.model_validate_json(body))
    return told


def written_told(told: Told) -> str:
    """Its record of the newest version, as JSON."""
    return ToldRecordV1(version=1, **asdict(told)).model_dump_json()


def read(body: str | bytes) -> History:
    """The history in a record of any version. Raises pydantic's ValidationError where it can't be read."""
    history: History = _read(_RECORD.validate_json(body))
    # Most often the two are one: told apart, they would take twice the memory.
    same = history.last_verdict == history.last_exchange
    return replace(history, last_verdict=history.last_exchange) if same else history


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
    # The core's History as it is, in compiled code: to make a record of it first would double the cost of a
    # write. The golden files hold the two together: where the core renames a field, a record is filled here.
    return f'{{"version":2,{_HISTORY.dump_json(history)[1:].decode()}'


_HISTORY = TypeAdapter(History)
