"""Offline diagnosis of a JSON record, or of text pasted from a log.

A record is the documented JSON object: `answer` or `fault` is required, the rest is optional. Pasted text
comes from a client, log, ticket or Login History, and is parsed by `paste`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from monitor.commands.terminal import Line, verdict
from monitor.core import history as histories
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection, Pair, Source, audience_of
from monitor.core.finding import Diagnosis
from monitor.core.history import UNKNOWN_PAST, Approval, History, Identity
from monitor.core.keys.credential import (
    BITS_AT_LEAST,
    CertificateFacts,
    CredentialFacts,
    KeyFacts,
    Problem,
)
from monitor.core.outcome import (
    AfterLogin,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Outcome,
    Refused,
    Unreachable,
)
from monitor.core.problem import OperatorError
from monitor.core.verdict import approval, paste
from monitor.core.verdict.answer import harmless, http_date, read_after_login, read_answer
from monitor.core.verdict.diagnosis import SCOPES_SHOWN, diagnose
from monitor.core.verdict.evidence import ASSUMED_LIFETIME, Witnesses
from monitor.core.verdict.paste import Paste
from monitor.core.verdict.vocabulary import FOREIGN, WORDS, is_of_a_call

INPUT_LIMIT = 65_536
"""Longest input in characters: far longer than any answer."""

_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Later dates are implausible, and would overflow in calculations."""


class Unreadable(OperatorError):  # noqa: N818 - describes the input
    """The input contains no answer to diagnose. The message says why, and how to fix it."""


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis with the documented keys in their order. `cause` is None if nothing is wrong."""
    first = diagnosis.findings[0] if diagnosis.findings else None
    entry = CATALOGUE[first.cause] if first else None
    return {
        "state": diagnosis.state.value,
        "cause": first.cause.value if first else None,
        "title": entry.title if entry else None,
        "severity": first.severity.value if first else None,
        "responsible": first.responsible.value if first else None,
        "certainty": first.certainty.value if first else None,
        "evidence": list(first.evidence) if first else [],
        "alternatives": [
            {"cause": other.cause.value, "tell_apart": other.tell_apart} for other in diagnosis.alternatives
        ],
        "remedy": list(entry.remedy) if entry else [],
        "note": entry.contested if entry else None,
        "guide": entry.guide if entry else None,
    }


def explain(text: str, now: datetime) -> Diagnosis:
    """Diagnose a record or pasted text. `now`: if the record has no time. Raises Unreadable."""
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise Unreadable("The input is empty: paste a JSON record or an error text.")
    if len(text) > INPUT_LIMIT:
        raise Unreadable(f"The input is longer than {INPUT_LIMIT:,} characters: paste a single answer.")
    value = _json(text)
    if isinstance(value, dict) and _is_record(value):
        return _of_record(value, now)
    return _of_paste(text, now)


# Records


def _is_record(value: Mapping[str, Any]) -> bool:
    """Whether it is a record. Gateways' JSON may have a `fault` too, but without a kind."""
    fault = value.get("fault")
    foreign = isinstance(fault, dict) and "kind" not in fault
    return bool({"answer", "after_login", "history", "local"} & value.keys()) or (
        "fault" in value and not foreign
    )


def _within_reach(moment: datetime) -> datetime:
    """A time in UTC; naive times are taken as UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if not UNKNOWN_PAST <= moment < _LATEST:
        raise ValueError("must be between the years 1970 and 9000")
    return moment.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_within_reach)]
Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]


class _Record(BaseModel):
    """Part of a record. Ignores unknown keys, for newer versions; null means missing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: part for name, part in value.items() if part is not None}


class AnswerRecord(_Record):
    """The token endpoint's answer. The body may be text or JSON."""

    status: int = Field(ge=100, le=999)
    headers: dict[str, Any] = {}
    body: str | dict[str, Any] | list[Any] | None = None

    def header_texts(self) -> dict[str, str]:
        """The headers; clients also record numbers and lists of texts."""
        return {
            name.lower(): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in self.headers.items()
            if value is not None
        }


class FaultRecord(_Record):
    """Why there was no answer."""

    kind: str
    message: str = ""


class ConnectionRecord(_Record):
    """The request."""

    login_url: str = ""
    audience: str = ""
    username: str = ""
    consumer_key: str = ""


class LocalRecord(_Record):
    """Local facts."""

    key_matches_certificate: bool | None = None
    key_type: str = ""
    key_bits: int | None = None
    certificate_not_after: UtcTime | None = None
    clock_offset_seconds: Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)] | None = None
    failing_share_of_fleet: Annotated[float, Field(ge=0, le=1)] | None = None


class HistoryRecord(_Record):
    """Earlier facts."""

    first_seen: UtcTime | None = None
    first_success: UtcTime | None = None
    last_success: UtcTime | None = None
    consecutive_successes: int = 0
    failing_since: UtcTime | None = None
    changed_at: UtcTime | None = None
    org_id: str | None = None
    user_id: str | None = None
    calls_missed: int = Field(default=0, ge=0)
    proven_at: UtcTime | None = None
    approval_lifetimes_days: tuple[Days, ...] = Field(default=(), max_length=1000)


class Record(_Record):
    """Everything that may be known about one exchange."""

    now: UtcTime | None = None
    answer: AnswerRecord | None = None
    fault: FaultRecord | None = None
    after_login: AnswerRecord | None = None
    connection: ConnectionRecord = ConnectionRecord()
    local: LocalRecord = LocalRecord()
    history: HistoryRecord = HistoryRecord()


def _of_record(value: Mapping[str, Any], now: datetime) -> Diagnosis:
    try:
        record = Record.model_validate(value)
    except ValidationError as wrong:
        problems = (
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in wrong.errors(include_url=False, include_input=False)
        )
        raise Unreadable(f"The record cannot be read: {harmless('; '.join(problems))}.") from None
    if (record.answer is None) == (record.fault is None):
        raise Unreadable("The record must have either `answer` or `fault`, not both.")
    at, local = record.now or now, record.local
    share = local.failing_share_of_fleet
    connection = _connection(record.connection)
    if local.key_matches_certificate is None:
        connection = replace(connection, certificate_not_after=local.certificate_not_after)
    call = record.after_login
    called = read_after_login(call.status, _bytes(call.body)) if call else None
    exchange = Exchange(
        at,
        _outcome(record),
        after_login=called,
        clock_offset_seconds=_offset(record),
    )
    history = _history(record.history, connection, at)
    return diagnose(
        exchange,
        _credential(local, at),
        connection,
        history,
        at,
        forecast=approval.forecast(connection, history, (), at),
        witnesses=None if share is None else Witnesses.of_share(share),
    )


def _outcome(record: Record) -> Outcome:
    if record.answer is not None:
        return read_answer(record.answer.status, record.answer.header_texts(), _bytes(record.answer.body))
    assert record.fault is not None
    message = harmless(record.fault.message)
    kind = record.fault.kind.strip().lower()
    if kind == "not_sent":
        return NotSent(message)
    if kind not in set(FaultKind):
        known = ", ".join([*FaultKind, "not_sent"])
        raise Unreadable(
            f"The record cannot be read: fault.kind: {harmless(kind, 40)!r} is not one of {known}."
        )
    return Unreachable(FaultKind(kind), message)


def _bytes(body: object) -> bytes:
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    return text.encode(errors="replace")


def _offset(record: Record) -> float | None:
    """The recorded clock offset, or from the answer's `Date` if the record has a time."""
    told = record.local.clock_offset_seconds
    if told is not None or record.answer is None or record.now is None:
        return told
    date = http_date(record.answer.header_texts().get("date", ""))
    return (date - record.now).total_seconds() if date else None


def _connection(record: ConnectionRecord) -> Connection:
    login_url = record.login_url.strip().rstrip("/")
    if login_url and "://" not in login_url:
        login_url = f"https://{login_url}"
    login_url = _url(login_url)
    return Connection(
        name="recorded",
        login_url=login_url,
        audience=_url(audience_of((record.audience or login_url).strip().rstrip("/"), login_url)),
        consumer_key=record.consumer_key,
        username=harmless(record.username, 120),
        current=Pair(Source("file", "")),
    )


def _url(text: str) -> str:
    """The origin and path of a URL; empty for an invalid one."""
    text = harmless(re.split(r"[?#]", text, maxsplit=1)[0], 200)
    return text if re.fullmatch(r"https?://[\w.:~%/-]+", text) else ""


def _credential(local: LocalRecord, now: datetime) -> CredentialFacts:
    """The recorded facts of key and certificate; missing ones are assumed to be fine."""
    kind = local.key_type.strip().lower()
    problems = []
    if kind and kind != "rsa":
        problems.append(
            Problem(Cause.KEY_NOT_RSA, f"The private key is of type {harmless(kind, 20)}, not RSA.")
        )
    elif local.key_bits is not None and local.key_bits < BITS_AT_LEAST:
        short = f"The private key has {local.key_bits} bits; at least {BITS_AT_LEAST} are needed."
        problems.append(Problem(Cause.KEY_TOO_SHORT, short))
    if local.key_matches_certificate is None:
        return CredentialFacts(problems=tuple(problems))
    if not local.key_matches_certificate:
        mismatch = "The configured certificate does not belong to the configured private key."
        problems.append(Problem(Cause.KEY_CERTIFICATE_MISMATCH, mismatch))
    # Equal fingerprints mean a pair. Without a recorded end, the certificate does not expire.
    end = local.certificate_not_after or _LATEST
    certificate = CertificateFacts(
        not_before=max(UNKNOWN_PAST, min(now, end - ASSUMED_LIFETIME)),
        not_after=end,
        serial="",
        fingerprint="",
        subject="",
        key_fingerprint="recorded" if local.key_matches_certificate else "another",
    )
    return CredentialFacts(KeyFacts(kind or "rsa", local.key_bits, "recorded"), certificate, tuple(problems))


def _history(record: HistoryRecord, connection: Connection, now: datetime) -> History:
    """The recorded history; missing changes are assumed to be long ago."""
    seen = record.first_seen or UNKNOWN_PAST
    lifetimes = record.approval_lifetimes_days
    last_success = record.last_success or record.first_success
    # An approval that lasted longer than the time since then had ended before it.
    lived_before = not lifetimes or bool(
        record.first_success and now - record.first_success < timedelta(days=sum(lifetimes))
    )
    return replace(
        histories.begin(connection, seen),
        changed_at=record.changed_at or seen,
        changed=histories.Change.CONFIGURATION
        if record.changed_at and record.changed_at != record.first_seen
        else histories.Change.FIRST_SEEN,
        first_success=record.first_success or last_success,
        last_success=last_success,
        consecutive_successes=record.consecutive_successes,
        calls_missed=record.calls_missed,
        proven_at=record.proven_at,
        failing_since=record.failing_since,
        identity=Identity(record.org_id or None, record.user_id or None),
        # If approvals have ended since the first success, the start of the current one is unknown.
        approval_since=record.first_success if lived_before else None,
        approvals=tuple(Approval(now - timedelta(days=days), now) for days in lifetimes),
    )


# Pasted texts

_THIS_FLOW = re.compile(r"jwt|assertion", re.IGNORECASE)


def _of_paste(text: str, now: datetime) -> Diagnosis:
    """Diagnose a pasted text by its own words, without knowledge of a deployment."""
    told = paste.read(text)
    if told is None:
        what = "It is JSON, but" if isinstance(_json(text), dict | list) else "The text"
        raise Unreadable(
            f"{what} contains no known answer: paste the JSON record (`answer` or `fault`), the body of"
            " the answer, or the line with its error code (`invalid_grant: …`)."
        )
    connection = _connection(ConnectionRecord(login_url=told.host, audience=told.audience))
    history = _history(HistoryRecord(), connection, now)
    exchange = Exchange(now, told.outcome)
    refused = told.outcome
    if isinstance(refused, Refused) and is_of_a_call(refused.error, refused.description):
        called = AfterLogin(refused.status or 401, refused.error or "INVALID_SESSION_ID", refused.description)
        exchange = Exchange(now, Granted("opaque", told.scopes, None, None, None), after_login=called)
    found = diagnose(exchange, CredentialFacts(), connection, history, now)
    if not found.findings:
        return found
    # Other evidence concerns a deployment, which is unknown here.
    said = [found.findings[0].evidence[0], *_context(text, told)]
    return replace(found, findings=(replace(found.findings[0], evidence=tuple(said)), *found.findings[1:]))


def _context(text: str, told: Paste) -> Iterator[str]:
    """More evidence from the text: host, audience, scopes, and signs of another service or flow."""
    if told.audience:
        yield f"The text mentions the host {told.host} and the audience {harmless(told.audience, 200)}."
    elif told.host:
        yield f"The text mentions the host {told.host}."
    if told.scopes:
        yield f"The text mentions the scopes {', '.join(sorted(told.scopes)[:SCOPES_SHOWN])}."
    if found := FOREIGN.search(text):
        yield (
            f'The text contains "{harmless(found[0], 40)}", a term of another provider (Microsoft Entra,'
            " Google, DocuSign): check what is logging in there."
        )
    if not _THIS_FLOW.search(text):
        for flow, pattern in WORDS["other_flows"].items():
            if re.search(pattern, text, re.IGNORECASE):
                yield f"The text belongs to the {flow} flow: does this client use JWT bearer at all?"
                return


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def lines(diagnosis: Diagnosis) -> Iterator[Line]:
    """A diagnosis as text."""
    if not diagnosis.cause:
        yield "", f"{diagnosis.state}: nothing is wrong with the credential."
        return
    entry = CATALOGUE[diagnosis.cause]
    yield "", f"{diagnosis.state}: {entry.title}"
    yield from verdict(diagnosis, entry.remedy)
