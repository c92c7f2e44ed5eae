"""A diagnosis without a network: from a JSON record of what was met, or from a text pasted from a log.

A record is the JSON object of the manual: `answer` or `fault` must be there, the rest may be missing. A
pasted text may be the raw answer (body, or headers and body as `curl -i` prints them), or a line of jsforce,
simple-salesforce, the Salesforce CLI, curl, httpx, requests or Node, with whatever a logger put before it.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from monitor.core import history as histories
from monitor.core.answer import harmless, read_after_login, read_answer
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection, Pair, Source, audience_of
from monitor.core.credential import CertificateFacts, CredentialFacts, KeyFacts, Problem
from monitor.core.diagnosis import diagnose
from monitor.core.evidence import ASSUMED_LIFETIME, UNKNOWN_PAST
from monitor.core.finding import Diagnosis
from monitor.core.history import Approval, History, Identity
from monitor.core.meaning import of_text
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
from monitor.core.wording import WHO

BITS_AT_LEAST = 2048
"""Setup guide, step 1: "at least 2048 bits"."""

INPUT_LIMIT = 250_000
"""Characters of an input that are read: a record holds one answer, and no answer is near that long."""

_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Later moments are no dates of this field, and leave no room to count on from them."""


class Unreadable(OperatorError):  # noqa: N818 - what it says of the input
    """The input holds no answer that could be diagnosed; the message says why and what would be right."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A diagnosis, ready to be shown."""

    diagnosis: Diagnosis

    def as_json(self) -> dict[str, Any]:
        """The diagnosis as `--json` prints it."""
        return as_json(self.diagnosis)

    def lines(self) -> list[str]:
        """The diagnosis for a person, in lines without any markup."""
        return list(_lines(self.diagnosis))


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis with the keys, and in the order, of the manual. `cause` is None where nothing is wrong."""
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
        "guide": entry.guide if entry else None,
    }


def explain(text: str, now: datetime) -> Explained:
    """The diagnosis of a record or of a pasted text. `now` counts where the record names no moment.

    Raises Unreadable where nothing in the text could be an answer or a fault.
    """
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise Unreadable("The input is empty: a JSON record or the text of an error is needed.")
    if len(text) > INPUT_LIMIT:
        raise Unreadable(f"The input is longer than {INPUT_LIMIT:,} characters: one answer is needed.")
    value = _json(text)
    if isinstance(value, dict) and {"answer", "fault", "after_login", "history", "local"} & value.keys():
        return Explained(_of_record(value, now))
    outcome, host = _pasted(text, value)
    connection = _connection(ConnectionRecord(login_url=f"https://{host}" if host else None))
    history = _history(HistoryRecord(), connection, now)
    exchange = Exchange(now, outcome)
    if isinstance(outcome, Refused) and outcome.error.upper() in _OF_A_CALL:
        called = AfterLogin(outcome.status, outcome.error, outcome.description)
        exchange = Exchange(now, Granted("opaque", None, None, None, None), after_login=called)
    return Explained(diagnose(exchange, CredentialFacts(), connection, history, now))


# Records


def _within_reach(moment: datetime) -> datetime:
    """A moment as UTC; one without a zone is taken as UTC already."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if not UNKNOWN_PAST <= moment < _LATEST:
        raise ValueError("must be between the years 1970 and 9000")
    return moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_within_reach)]
Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]


class _Record(BaseModel):
    """Every part of a record may hold keys of newer versions, and nulls."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _header(value: object) -> object:
    """A header as the clients of many languages record it: a text, a number, or a list of texts."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value) if isinstance(value, int | float) else value


Header = Annotated[str, BeforeValidator(_header)]


class AnswerRecord(_Record):
    """What the token endpoint said. A body may be given as the text that it was, or as JSON."""

    status: int = Field(ge=100, le=999)
    headers: dict[str, Header] | None = None
    body: str | dict[str, Any] | list[Any] | None = None


class FaultRecord(_Record):
    """Why there was no answer."""

    kind: str
    message: str | None = None


class AfterLoginRecord(_Record):
    """What the first call with the token came to."""

    status: int = Field(ge=100, le=999)
    body: str | dict[str, Any] | list[Any] | None = None


class ConnectionRecord(_Record):
    """What was asked."""

    login_url: str | None = None
    audience: str | None = None
    username: str | None = None
    consumer_key: str | None = None


class LocalRecord(_Record):
    """What is known without asking Salesforce."""

    key_matches_certificate: bool | None = None
    key_type: str | None = None
    key_bits: int | None = None
    certificate_not_after: Moment | None = None
    clock_offset_seconds: Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)] | None = None
    failing_share_of_fleet: Annotated[float, Field(ge=0, le=1)] | None = None


class HistoryRecord(_Record):
    """What was known before."""

    first_seen: Moment | None = None
    first_success: Moment | None = None
    last_success: Moment | None = None
    consecutive_successes: int | None = None
    failing_since: Moment | None = None
    changed_at: Moment | None = None
    org_id: str | None = None
    user_id: str | None = None
    approval_lifetimes_days: tuple[Days, ...] | None = Field(default=None, max_length=1000)


class Record(_Record):
    """All that may be known of one exchange."""

    now: Moment | None = None
    answer: AnswerRecord | None = None
    fault: FaultRecord | None = None
    after_login: AfterLoginRecord | None = None
    connection: ConnectionRecord | None = None
    local: LocalRecord | None = None
    history: HistoryRecord | None = None


def _of_record(value: Mapping[str, Any], now: datetime) -> Diagnosis:
    try:
        record = Record.model_validate(value)
    except ValidationError as wrong:
        problems = (
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in wrong.errors(include_url=False, include_input=False)
        )
        raise Unreadable(f"The record can't be read: {harmless('; '.join(problems))}.") from None
    if (record.answer is None) == (record.fault is None):
        raise Unreadable("The record must hold either `answer` or `fault`, and not both.")
    at = record.now or now
    local = record.local or LocalRecord()
    connection = _connection(record.connection or ConnectionRecord())
    if local.key_matches_certificate is None:
        connection = replace(connection, certificate_not_after=local.certificate_not_after)
    exchange = Exchange(
        at,
        _outcome(record),
        after_login=_after_login(record.after_login),
        clock_offset_seconds=_offset(record, local),
    )
    return diagnose(
        exchange,
        _credential(local, at),
        connection,
        _history(record.history or HistoryRecord(), connection, at),
        at,
        failing_share=local.failing_share_of_fleet,
    )


def _outcome(record: Record) -> Outcome:
    if record.answer is not None:
        return read_answer(record.answer.status, record.answer.headers or {}, _bytes(record.answer.body))
    assert record.fault is not None
    message = harmless(record.fault.message or "")
    kind = record.fault.kind.strip().lower()
    if kind == "not_sent":
        return NotSent(message)
    if kind not in set(FaultKind):
        known = ", ".join([*FaultKind, "not_sent"])
        raise Unreadable(f"The record can't be read: fault.kind: {harmless(kind, 40)!r} is none of {known}.")
    return Unreachable(FaultKind(kind), message)


def _bytes(body: object) -> bytes:
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    return text.encode(errors="replace")


def _after_login(record: AfterLoginRecord | None) -> AfterLogin | None:
    return read_after_login(record.status, _bytes(record.body)) if record else None


def _offset(record: Record, local: LocalRecord) -> float | None:
    """The clock's offset as recorded, else from the answer's `Date`, if the moment of the record is known."""
    if local.clock_offset_seconds is not None or record.answer is None or record.now is None:
        return local.clock_offset_seconds
    headers = {name.lower(): value for name, value in (record.answer.headers or {}).items()}
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
        return (date.replace(tzinfo=date.tzinfo or UTC) - record.now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _connection(record: ConnectionRecord) -> Connection:
    login_url = (record.login_url or "").strip().rstrip("/")
    if login_url and "://" not in login_url:
        login_url = f"https://{login_url}"
    login_url = _url(login_url)
    return Connection(
        name="recorded",
        login_url=login_url,
        audience=_url(audience_of((record.audience or login_url).strip().rstrip("/"), login_url)),
        consumer_key=record.consumer_key or "",
        username=harmless(record.username or "", 120),
        current=Pair(Source("file", "")),
    )


def _url(text: str) -> str:
    """The address without what is no part of a login URL; a text that no URL can be is none."""
    text = harmless(re.split(r"[?#]", text, maxsplit=1)[0], 200)
    return text if re.fullmatch(r"https?://[\w.:~%/-]+", text) else ""


def _credential(local: LocalRecord, now: datetime) -> CredentialFacts:
    """Facts of key and certificate as far as they are told; what is not told is in order."""
    kind = (local.key_type or "").strip().lower()
    problems = []
    if kind and kind != "rsa":
        problems.append(
            Problem(Cause.KEY_NOT_RSA, f"The private key is of the kind {harmless(kind, 20)}, not RSA.")
        )
    elif local.key_bits is not None and local.key_bits < BITS_AT_LEAST:
        short = f"The private key has {local.key_bits} bits; at least {BITS_AT_LEAST} are needed."
        problems.append(Problem(Cause.KEY_TOO_SHORT, short))
    if local.key_matches_certificate is None:
        return CredentialFacts(problems=tuple(problems))
    # Whether they pair is told by equal fingerprints; a certificate whose end is not told never ends.
    end = local.certificate_not_after or _LATEST
    certificate = CertificateFacts(
        not_before=min(now, end - ASSUMED_LIFETIME)
        if end - ASSUMED_LIFETIME > UNKNOWN_PAST
        else UNKNOWN_PAST,
        not_after=end,
        serial="",
        fingerprint="",
        subject="",
        key_fingerprint="recorded" if local.key_matches_certificate else "another",
    )
    return CredentialFacts(KeyFacts(kind or "rsa", local.key_bits, "recorded"), certificate, tuple(problems))


def _history(record: HistoryRecord, connection: Connection, now: datetime) -> History:
    """The history as far as it is told. What is not told lies so far back that nothing settles any more."""
    seen = record.first_seen or UNKNOWN_PAST
    lifetimes = record.approval_lifetimes_days or ()
    last_success = record.last_success or record.first_success
    # Those that lived longer than that is ago had ended before it.
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
        consecutive_successes=record.consecutive_successes or 0,
        failing_since=record.failing_since,
        identity=Identity(record.org_id or None, record.user_id or None),
        # Where approvals have ended since the first success, nobody told when the one began that serves now.
        approval_since=record.first_success if lived_before else None,
        approvals=tuple(Approval(now - timedelta(days=days), now) for days in lifetimes),
    )


# Pasted texts

_KNOWN_CODES = (
    "invalid_grant|invalid_app_access|invalid_client_id|invalid_client|app_not_found|unsupported_grant_type"
    "|invalid_request|unknown_error|server_error|temporarily_unavailable|inactive_user|inactive_org"
    "|rate_limit_exceeded|login_rate_exceeded|unauthorized_client|invalid_scope|access_denied|invalid_assertion"
)

_CODED = (
    re.compile(rf"\b({_KNOWN_CODES}|OAUTH_[A-Z_]+)\b[\"']?\s*[:=,)\]–—-]*\s*(.*)", re.IGNORECASE),
    re.compile(r"(?<![\w.])([a-z]+(?:_[a-z]+)+|[A-Z]+(?:_[A-Z]+)+):\s+(.+)"),
)
"""A code and what follows it on its line: the known ones anywhere, others before a colon."""

_OF_A_CALL = frozenset(
    {
        "INVALID_SESSION_ID",
        "REQUEST_LIMIT_EXCEEDED",
        "API_CURRENTLY_DISABLED",
        "API_DISABLED_FOR_ORG",
        "INVALID_JWT_FORMAT",
        "INVALID_AUTH_HEADER",
        "BAD_OAUTH_TOKEN",
    }
)
"""Codes that only a call with a token brings: the login before it was granted."""

_STATUS = re.compile(r"\b(?:HTTP(?:/[\d.]+)?|status(?:[ _]?code)?)[\"' :=]*([1-5]\d\d)\b", re.IGNORECASE)

_HOST = re.compile(
    r"(?<![\w.-])((?:[a-z0-9-]{1,63}\.){1,5}"
    r"(?:my\.salesforce\.com|my\.salesforce\.mil|my\.site\.com|sfcrmproducts\.cn)"
    r"|(?:login|test)\.salesforce\.com)\b",
    re.IGNORECASE,
)

_FAULTS = (
    (FaultKind.POOL, re.compile(r"PoolTimeout")),
    (
        FaultKind.TLS,
        re.compile(
            r"certificate[ _]verify|self.signed|SSL certificate problem|CERT_|UNABLE_TO_(VERIFY|GET)"
            r"|DEPTH_ZERO|ERR_TLS|SSLCertVerification|invalid peer certificate|SSLError|x509:"
            r"|hostname mismatch|PKIX|SSLHandshake|SSL connection could not|remote certificate is invalid"
            r"|curl: \((35|51|60|77)\)|ALTNAME",
            re.IGNORECASE,
        ),
    ),
    (
        FaultKind.DNS,
        re.compile(
            r"ENOTFOUND|EAI_|getaddrinfo|name resolution|Name or service not known|resolve host|gaierror"
            r"|NameResolution|nodename nor servname|no such host|curl: \([56]\)|NXDOMAIN|dns error"
            r"|failed to lookup address|No address associated|UnknownHost|name could not be resolved",
            re.IGNORECASE,
        ),
    ),
    (
        FaultKind.CONNECT,
        re.compile(
            r"ECONNREFUSED|Connection refused|EHOSTUNREACH|ENETUNREACH|No route to host|unreachable"
            r"|ConnectTimeout|ConnectError|ProxyError|curl: \(7\)|Failed to connect|NewConnectionError"
            r"|connect ETIMEDOUT|actively refused|tunnel",
            re.IGNORECASE,
        ),
    ),
    (
        FaultKind.TIMEOUT,
        re.compile(
            r"ReadTimeout|timed out|ETIMEDOUT|ESOCKETTIMEDOUT|curl: \(28\)|\btimeout\b", re.IGNORECASE
        ),
    ),
    (
        FaultKind.PROTOCOL,
        re.compile(
            r"ECONNRESET|Connection reset|socket hang up|RemoteProtocolError|RemoteDisconnected|ReadError"
            r"|curl: \((52|55|56|92)\)|IncompleteRead|Unexpected end of JSON"
            r"|HTML response|Unexpected token|EPIPE|Connection aborted",
            re.IGNORECASE,
        ),
    ),
)
"""How clients tell of a fault, in the order in which a text with several of these is to be taken."""


def _pasted(text: str, value: object) -> tuple[Outcome, str]:
    """What a pasted text tells, and the host that it names, if any. The first of these that fits:

    1. Headers and body, as `curl -i` or `curl -v` print them.
    2. The body of an answer: JSON, XML, form-encoded, a web page.
    3. Such a body within a line.
    4. An OAuth error code, with the rest of its line.
    5. A fault of the network in the words of one of many clients.
    6. Words that mean something without a code, or a bare HTTP status.
    """
    named = _HOST.search(text)
    host = named[1].lower() if named else ""
    for reading in (_with_headers, _bare_body, _inner_body, _coded, _fault, _worded):
        outcome = reading(text)
        if outcome is not None:
            return outcome, host
    what = "It is JSON, but" if isinstance(value, dict | list) else "The text"
    raise Unreadable(
        f"{what} holds no answer that is known: give the JSON record (`answer` or `fault`), the body of the"
        " answer, or the line with its error code (`invalid_grant: …`)."
    )


def _with_headers(text: str) -> Outcome | None:
    lines = [
        line.removeprefix("< ") for line in text.splitlines() if not re.match(r"[*>}{] ?(\[|\w|$)", line)
    ]
    starts = [number for number, line in enumerate(lines) if re.match(r"HTTP/[\d.]+ \d{3}\b", line)]
    if not starts:
        return None
    # Of several answers (a proxy's, `100 Continue`) the last is the org's.
    block = lines[starts[-1] :]
    end = next((number for number, line in enumerate(block) if line.strip() in {"", "<"}), len(block))
    headers = {}
    for line in block[1:end]:
        name, _, content = line.partition(":")
        headers[name.strip()] = content.strip()
    # curl goes on in the body's last line, where the body does not end it.
    body = re.sub(r"(?<=[}>])\* (Connection|Closing|shutting) .*", "", "\n".join(block[end + 1 :]))
    return read_answer(int(block[0].split()[1]), headers, body.strip().encode(errors="replace"))


def _bare_body(text: str) -> Outcome | None:
    if text.startswith("<"):
        answer = read_answer(200, {}, text.encode(errors="replace"))
        return replace(answer, status=400) if isinstance(answer, Refused) and answer.error else answer
    return _of_fields(_json(text) or _literal(text)) or (_form(text) if re.match(r"\w+=", text) else None)


def _inner_body(text: str) -> Outcome | None:
    for candidate in (text, text.replace('\\"', '"')):
        for brace in [place.start() for place in re.finditer(r"\{", candidate)][:20]:
            try:
                value, _ = json.JSONDecoder(parse_int=str).raw_decode(candidate, brace)
            except (ValueError, RecursionError):
                end = candidate.find("}", brace)
                value = _literal(candidate[brace : end + 1]) if end > 0 else None
            if outcome := _of_fields(value, text):
                return outcome
    if found := re.search(r"\berror=[\w+%]+&error_description=\S+", text):
        return _form(found[0])
    return None


def _coded(text: str) -> Outcome | None:
    for pattern in _CODED:
        for line in text.splitlines():
            if found := pattern.search(line):
                return _refused(found[1], found[2].strip().strip("\"'"), text)
    return None


def _fault(text: str) -> Outcome | None:
    for kind, pattern in _FAULTS:
        # The last line of a traceback says it; the lines above say where.
        for line in reversed(text.splitlines()):
            if pattern.search(line):
                return Unreachable(kind, harmless(line))
    return None


def _worded(text: str) -> Outcome | None:
    for line in reversed(text.splitlines()):
        if of_text(line):
            return _refused("", line.strip(), text)
    # In a record that is cut off, a status is no status of an answer.
    return _refused("", "", text) if _STATUS.search(text) and not text.startswith("{") else None


def _refused(error: str, description: str, text: str) -> Refused:
    """A refusal whose status is the one that the text names, else 400, which almost every refusal has."""
    status = _STATUS.search(text)
    return Refused(int(status[1]) if status else 400, harmless(error, 80), harmless(description), "")


def _of_fields(value: object, around: str = "") -> Outcome | None:
    """The answer whose body is this value, if it has the fields of one."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    if isinstance(fields.get("access_token"), str):
        return read_answer(200, {}, json.dumps(fields).encode())
    if not {"error", "errorCode", "error_description"} & fields.keys():
        return None
    status = _STATUS.search(around)
    try:
        return read_answer(int(status[1]) if status else 400, {}, json.dumps(fields).encode())
    except (TypeError, ValueError, RecursionError):
        return None


def _form(text: str) -> Outcome | None:
    answer = read_answer(400, {}, text.encode(errors="replace"))
    return answer if isinstance(answer, Refused) and answer.error else None


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _literal(text: str) -> object:
    """A Python dict as a logger prints it."""
    if not text.startswith("{") or len(text) > 10_000:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of what the text would be as Python's own source
            return cast("object", ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.findings:
        yield f"{diagnosis.state}: nothing is wrong with the credential."
        return
    first = diagnosis.findings[0]
    entry = CATALOGUE[first.cause]
    yield f"{diagnosis.state}: {entry.title}"
    yield ""
    yield f"  cause      {first.cause} ({first.certainty})"
    yield f"  severity   {first.severity}"
    yield f"  who acts   {WHO[first.responsible]}"
    if entry.guide:
        yield f"  guide      {entry.guide}"
    yield from ("", "Evidence", *(f"  - {sentence}" for sentence in first.evidence))
    yield from ("", "What to do", *(f"  {number}. {step}" for number, step in enumerate(entry.remedy, 1)))
    if entry.contested:
        yield from ("", "Where sources disagree", f"  {entry.contested}")
    if diagnosis.alternatives:
        yield from ("", "It may also be")
        yield from (f"  - {other.cause}: {other.tell_apart}" for other in diagnosis.alternatives)
    for finding in diagnosis.findings[1:]:
        yield from ("", f"Beside it: {finding.cause} ({finding.severity})")
        yield from (f"  - {sentence}" for sentence in finding.evidence)
