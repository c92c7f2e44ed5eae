"""The stored format of histories, audits and what sinks were told: versioned records.

A record holds the core's own values. Golden files in the tests have every field of each version: if the core
renames or rearranges its fields, convert here what was stored before. Unknown keys are an error: a history
from a newer version is set aside, not truncated to what we understand.

The newest version is written:

1. Version 1 of a history has no audit.
2. Version 2 contains what the audit read.
3. Version 3 leaves out defaults, and what the audit read, which has a record of its own.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from monitor.core.history import History
from monitor.core.inside import Facts
from monitor.core.telling import Told

REASON_LENGTH = 300
"""Characters kept of the reason why a history can't be read: the first few problems are enough."""


class _Record(BaseModel):
    """A record after its version was taken apart. Unknown keys are refused in all values within, too."""

    model_config = ConfigDict(extra="forbid")


class _History(_Record):
    version: Literal[1, 2, 3]
    history: History
    audited: datetime | None = None
    """The time of the audit that belongs to the history, which has a record of its own."""


class _Audit(_Record):
    version: Literal[1]
    audit: Facts


class _Told(_Record):
    version: Literal[1]
    told: Told


_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def read_told(body: str | bytes) -> Told:
    """Reads a record of any version. Raises pydantic.ValidationError."""
    told = _OBJECT.validate_json(body)
    return _Told.model_validate({"version": told.pop("version", None), "told": told}).told


def written_told(told: Told) -> str:
    """The record of the newest version, as JSON."""
    return f'{{"version":1,{_TOLD.dump_json(told)[1:].decode()}'


def read(body: str | bytes, audit: str | bytes | None) -> History:
    """Reads a history of any version, and the connection's last audit. Raises pydantic.ValidationError."""
    known = _OBJECT.validate_json(body)
    version = known.pop("version", 1)
    for holder in (known, known.get("last_exchange"), known.get("last_verdict")):
        if isinstance(holder, dict):
            holder.pop("assignments", None)  # of earlier builds; audits read them now
    audited = known.pop("audit", None) if version == 3 else None
    same = version == 3 and "last_verdict" not in known
    record = _History.model_validate({"version": version, "history": known, "audited": audited})
    history = record.history
    if record.audited and audit and (facts := _read_audit(audit)).at == record.audited:
        history = replace(history, audit=facts)
    # Usually equal: sharing one object halves the memory.
    if same or history.last_verdict == history.last_exchange:
        history = replace(history, last_verdict=history.last_exchange)
    return history


def _read_audit(body: str | bytes) -> Facts:
    audit = _OBJECT.validate_json(body)
    return _Audit.model_validate({"version": audit.pop("version", None), "audit": audit}).audit


_UNKNOWN = "unexpected_keyword_argument"


def why(error: ValidationError) -> str:
    """The reason, in a few words."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # Missing and unknown keys go last: for an outcome, they only say that it isn't of another kind.
    problems.sort(key=lambda one: one["type"] in {"missing", _UNKNOWN})
    places = [".".join(str(step) for step in one["loc"] if step != "history") for one in problems]
    what = ["Unknown field" if one["type"] == _UNKNOWN else one["msg"] for one in problems]
    said = (f"{place or 'it'}: {wrong}" for place, wrong in zip(places, what, strict=True))
    return "; ".join(said)[:REASON_LENGTH]


def written(history: History) -> str:
    """The record of the newest version, as JSON, without what the audit read."""
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


_HISTORY, _AUDIT, _TOLD = TypeAdapter(History), TypeAdapter(Facts), TypeAdapter(Told)
