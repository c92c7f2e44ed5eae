"""One target for each way into the program: what is tried, and what must hold of it."""

import asyncio
import base64
import json
import logging
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import schemathesis
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from monitor.commands.explain import Unreadable, as_json, explain, lines
from monitor.config import ConfigError, load
from monitor.config.web_file import load_web_config
from monitor.core.catalogue import Kind, causes_where
from monitor.core.causes import Cause
from monitor.core.inside import Facts
from monitor.core.keys.credential import CertificateReading, read_certificates, read_private_key
from monitor.core.outcome import ApiUsage, Granted
from monitor.core.reads import QUERIES as ORG_QUERIES
from monitor.core.reads import Query
from monitor.core.verdict.answer import read_after_login, read_answer, token_in
from monitor.core.verdict.approval import forecast, note
from monitor.core.verdict.audit import explained, known_before, steps
from monitor.core.verdict.evidence import FLEET_SHARE
from monitor.core.verdict.guide import Seen
from monitor.salesforce.exchange import clock_offset
from monitor.salesforce.org import Reply, Subject
from monitor.salesforce.org import read as read_inside
from monitor.store import records
from monitor.web.access import Protection
from tests.certificates import certificate_of, pem_of
from tests.commands.printed import printed
from tests.commands.test_explain import CASES as OF_THE_CORPUS
from tests.config.test_web_file import GOOD, HASH
from tests.credentials.pairs import KEYS
from tests.fuzz.making import PIECES, near, rewritten
from tests.making import ACME, GRANTED, history
from tests.web.fleets import rich_fleet
from tests.web.serving import Stage, served

ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TOKEN = "00D000000000001!AQ.SecretOfTheOrgThatNobodyMaySee"

Holds = Callable[[Any], None]
"""Raises where something does not hold of what was tried."""


@dataclass(frozen=True, slots=True)
class Target:
    """A way in."""

    name: str
    tried: st.SearchStrategy[Any]
    opened: Callable[[], AbstractContextManager[Holds]]


# Configuration

CONFIGURATIONS = [
    path.read_bytes()
    for path in (ROOT / "config.example.yaml", *sorted((ROOT / "tests/configs").glob("*valid/*.yaml")))
]


@contextmanager
def configuration() -> Iterator[Holds]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "bearerwatch.yaml")

        def holds(content: bytes) -> None:
            file.write_bytes(content)
            settings, complaint = _read(partial(load, file, {}), ConfigError)
            assert settings or complaint
            assert _for_a_terminal(complaint)
            if settings:
                assert all(_for_a_terminal(warning) for warning in settings.warnings)
                names = [connection.name for connection in settings.connections]
                assert len(set(names)) == len(names)

        yield holds


WEB_CONFIGURATIONS = [
    *(text.encode() for text in GOOD.values()),
    f"basic_auth_users:\n  admin: {HASH}\n  second: {HASH}\n".encode(),
    b"http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=31536000\n",
    b"rate_limit:\n  interval: 1s\n  burst: 20\n",  # not supported
]


@contextmanager
def web_configuration() -> Iterator[Holds]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "web.yml")

        def holds(content: bytes) -> None:
            file.write_bytes(content)
            config, complaint = _read(partial(load_web_config, file), ConfigError)
            assert config or complaint
            assert _for_a_terminal(complaint)

        yield holds


Value = TypeVar("Value")


def _read(read: Callable[[], Value], refusal: type[Exception]) -> tuple[Value | None, str]:
    """What was read, and how it was refused: one of the two."""
    try:
        return read(), ""
    except refusal as error:
        return None, str(error)


def _for_a_terminal(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


# Keys and certificates

_KEY = KEYS[0]
_OTHERS = (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate())
KEY_FILES = [
    pem_of(_KEY),
    base64.b64encode(pem_of(_KEY)),
    _KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    _KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    _KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    certificate_of(_KEY),
    *(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in _OTHERS),
]
SHORTEST_LEAK = 24
"""Characters in a row of a key's base64 or hexadecimal digits that no chance brings into a message."""


@contextmanager
def private_key() -> Iterator[Holds]:
    def holds(content: bytes) -> None:
        reading = read_private_key(content)
        if reading.key is None:
            assert reading.problems
        else:
            message = b"still sound"
            signature = reading.key.sign(message, PKCS1v15(), SHA256())
            reading.key.public_key().verify(signature, message, PKCS1v15(), SHA256())
        said = " ".join(problem.detail for problem in reading.problems)
        assert _for_a_terminal(said)
        held = re.sub(rb"\s", b"", content)
        for run in re.findall(rf"[A-Za-z0-9+/=]{{{SHORTEST_LEAK},}}", said):
            assert run[:SHORTEST_LEAK].encode() not in held
            assert run[:SHORTEST_LEAK].lower() not in content.hex()

    yield holds


@contextmanager
def certificate() -> Iterator[Holds]:
    def holds(content: bytes) -> None:
        reading: CertificateReading = read_certificates(content)
        assert bool(reading.certificates) != bool(reading.problems)
        assert all(_for_a_terminal(problem.detail) for problem in reading.problems)

    yield holds


CERTIFICATE_FILES = [
    certificate_of(_KEY),
    certificate_of(KEYS[1], serial=2**100, name="ü" * 30),
    certificate_of(_KEY) + certificate_of(KEYS[1]),
    base64.b64encode(certificate_of(_KEY)),
    base64.b64decode(b"".join(certificate_of(_KEY).splitlines()[1:-1])),
    pem_of(_KEY),
]


# What an org answers

_GRANT = {
    "access_token": TOKEN,
    "scope": "api refresh_token",
    "instance_url": "https://acme.my.salesforce.com",
    "id": "https://login.salesforce.com/id/00D000000000001AAA/005000000000001AAA",
    "token_type": "Bearer",
}
BODIES = [
    json.dumps(_GRANT).encode(),
    b'{"error":"invalid_grant","error_description":"user hasn\'t approved this consumer"}',
    b'[{"errorCode":"API_CURRENTLY_DISABLED","message":"API is disabled for this User"}]',
    b"<html><head><title>Down</title><style>a{}</style></head><body><h1>503</h1></body></html>",
    b"<OAuth><error>invalid_grant</error><error_description>x</error_description></OAuth>",
    b"error=invalid_grant&error_description=authentication%20failure",
    '{"error":"invalid_grant"}'.encode("utf-16"),
    b"",
]
MARKUP = rb"""
<html> <!doctype~html> <title> <script> </script> <style> <p> </p> <meta~content= <![ <![if~IE]> <![endif]
<![CDATA[ ]]> <! <!x[ <!ENTITY~a~'b'> <!-- --> --!> <? ?> &# &#x110000; &nbsp < > [ ] ' " foo ~
""".split()
"""What pages are made of, `~` a blank: whole tags, and the beginnings and ends of declarations."""
PAGES = st.lists(st.sampled_from(MARKUP), min_size=1, max_size=12).map(
    lambda parts: b"<html>" + b"".join(parts).replace(b"~", b" ")
)

NUMBERS = st.sampled_from((0, 1, 23, 59, 99, 9999, 10**9, 10**22, 10**400)) | st.integers(-1, 10**6)
DATES = st.builds(
    "{}{} {} {} {}:{:02}:00 {}{}".format,
    st.sampled_from(("", "Mon, ", "Xyz, ")),
    NUMBERS,
    st.sampled_from(("Jan", "Feb", "Dec", "Foo", "13")),
    NUMBERS,
    NUMBERS,
    st.integers(0, 99),
    st.sampled_from(("", "+", "-", "GMT", "PST")),
    NUMBERS,
)
"""Dates as HTTP has them, with numbers that no calendar and no integer of C holds."""

SURROGATES = st.text(st.characters(categories=["Cs", "L"]), min_size=1, max_size=8)
"""Halves of characters, which JSON can write and UTF-8 can't."""

ANSWERS = st.tuples(
    st.sampled_from((200, 204, 301, 302, 400, 401, 403, 404, 429, 500, 503)) | st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(("Content-Type", "Retry-After", "Location", "Date")),
        st.text(st.characters(max_codepoint=255), max_size=60)
        | DATES
        | st.sampled_from(
            (
                "application/json;charset=UTF-8",
                "text/html; charset=utf-7",
                "text/plain; charset=\x00",
                "application/json; charset=unicode_escape",
                "text/xml; charset=zlib",
                "99999999999999999999",
                "-1",
                "Mon, 31 Feb 2026 99:00:00 GMT",
                "https://acme.my.salesforce.com/secur?token=" + TOKEN,
            )
        ),
    ),
    near(BODIES) | PAGES | st.binary(max_size=200),
)


@contextmanager
def answer() -> Iterator[Holds]:
    def holds(tried: tuple[int, dict[str, str], bytes]) -> None:
        status, headers, body = tried
        outcome = read_answer(status, headers, body)
        if isinstance(outcome, Granted):
            assert token_in(body)
            assert TOKEN not in repr(outcome)
        read_after_login(status, body)
        clock_offset(headers.get("Date"), NOW)

    yield holds


CASES = [case["in"] for case in OF_THE_CORPUS]
RECORDS = [case.encode() if isinstance(case, str) else json.dumps(case).encode() for case in CASES]


@contextmanager
def pasted() -> Iterator[Holds]:
    def holds(content: bytes) -> None:
        diagnosis, complaint = _read(partial(explain, content.decode(errors="replace"), NOW), Unreadable)
        assert diagnosis or complaint
        assert _for_a_terminal(complaint)
        if diagnosis:
            json.dumps(as_json(diagnosis))
            assert all(_for_a_terminal(line) for line in printed(lines(diagnosis)))

    yield holds


# The meaning of an answer, with any other facts

_PARTS: dict[str, list[Any]] = {}
for _case in CASES:
    for _name, _part in _case.items() if isinstance(_case, dict) else ():
        if _part is not None:
            _PARTS.setdefault(_name, []).append(_part)

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)

RECORDED = st.fixed_dictionaries(
    {},
    optional={
        "now": st.sampled_from(_PARTS["now"]) | ANY_JSON,
        "answer": st.sampled_from(_PARTS["answer"])
        | st.builds(
            lambda answer, status: {**answer, "status": status},
            st.sampled_from(_PARTS["answer"]),
            st.integers(100, 999),
        )
        | ANSWERS.map(
            lambda tried: {"status": tried[0], "headers": tried[1], "body": tried[2].decode(errors="replace")}
        ),
        "fault": st.fixed_dictionaries(
            {
                "kind": st.sampled_from(("dns", "connect", "tls", "timeout", "protocol", "pool", "not_sent")),
                "message": st.sampled_from([fault.get("message") for fault in _PARTS["fault"]])
                | st.text(max_size=60),
            }
        ),
        "after_login": st.sampled_from(_PARTS["after_login"]),
        "connection": st.sampled_from(_PARTS["connection"])
        | st.dictionaries(
            st.sampled_from(("login_url", "audience", "consumer_key", "username", "scopes")), SURROGATES
        ),
        **{
            part: st.sampled_from(_PARTS[part])
            | st.dictionaries(st.sampled_from([*set().union(*_PARTS[part])]), ANY_JSON)
            for part in ("local", "history")
        },
    },
)
"""Records whose parts come from different cases: an answer of one with the past of another."""


@contextmanager
def diagnosed() -> Iterator[Holds]:
    def holds(record: dict[str, Any]) -> None:
        diagnosis, complaint = _read(partial(explain, json.dumps(record), NOW), Unreadable)
        assert diagnosis or complaint
        if not diagnosis:
            return
        told = as_json(diagnosis)
        cause, state = told["cause"], told["state"]
        others = {other["cause"] for other in told["alternatives"]}
        assert (state == "healthy") == (cause is None)
        assert cause not in others
        assert TOKEN not in json.dumps(told)
        answer, fault = record.get("answer"), record.get("fault")
        if cause in _NO_VERDICT:
            assert state == "unknown"
            assert others <= _OF_NO_CREDENTIAL
        if (answer and answer["status"] >= 500) or (fault and fault["kind"] != "not_sent"):
            assert cause in _OF_NO_CREDENTIAL
        if fault and fault["kind"] != "not_sent":
            assert state == "unknown" or cause == Cause.SUBDOMAIN_UNKNOWN
            share = (record.get("local") or {}).get("failing_share_of_fleet") or 0
            assert state == "unknown" or share < FLEET_SHARE

    yield holds


_NO_VERDICT = causes_where(lambda entry: entry.no_verdict)
_OF_NO_CREDENTIAL = causes_where(lambda entry: entry.kind is not Kind.CREDENTIAL)

# What an org answers to an audit

FIELD_WORDS = (
    "Infinite", "Zero", "SpecificLifetime", "SpecificInactivity", "Days", "Hours", "Months", "0", "1", "2",
    "AdminApprovedPreAuthorized", "AllSelfAuthorized", "Bypass", "Enforce", "HIGH_ASSURANCE", "STANDARD",
    "Success", "Restricted IP", "User is frozen", "Integration", "ExternalClientApplication", "00D", "005",
    "2026-12-23T12:00:00.000+0000", "0001-01-01T00:00:00.000+1400", "9999-12-31T23:59:59.000-1200",
    "2026-11-23T12:00:00.000+0000", "2026-13-45T99:00:00Z", "127.0.0.1", "999.1.1.1", "::1", "1.2.3.4-",
)  # fmt: skip
FIELD_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    (
        *(None, True, False, 0, -1, 30, 2**31, 10**30, 1e308, float("inf"), float("nan"), "", "x" * 5_000),
        *FIELD_WORDS,
        *("\ud800", "\x1b[31m", "<b>&amp;", "'; DROP", {}, [], {"Name": None}, [[]], {"loginIpRanges": [7]}),
    )
)


@st.composite
def org_answers(draw: st.DrawFn) -> Any:
    """For each read: status and body, with the fields of its query and a few values of all kinds in turn."""
    values = cycle(draw(st.lists(FIELD_VALUES, min_size=1, max_size=17)))
    odd = draw(st.integers(0, 3 * len(ORG_QUERIES)))
    strange = draw(near([*BODIES, b'{"totalSize":1,"done":true,"records":[{"Id":"005"}]}']))
    count_of = draw(st.integers(0, 3))

    def body(number: int, query: Query) -> bytes:
        if number == odd:
            return strange
        rows: list[dict[str, Any]] = [{} for _ in range(count_of)]
        for row in rows:
            for path in query.fields:
                within: Any = row
                *parents, name = path.split(".")
                for parent in parents:
                    within = within.setdefault(parent, {})
                within[name] = next(values)
        if query.unfold:
            outer, _, inner = query.unfold[0].partition(".")
            return json.dumps({"records": [{outer: {inner: rows}}]}).encode()
        return json.dumps({"records": rows}).encode()

    refused = draw(
        st.dictionaries(st.integers(0, len(ORG_QUERIES)), st.sampled_from((400, 401, 403, 500)), max_size=2)
    )
    answers = [
        (refused.get(number, 200), body(number, query)) for number, query in enumerate(ORG_QUERIES.values())
    ]
    return answers, draw(st.booleans())


@contextmanager
def audited() -> Iterator[Holds]:
    reading = asyncio.new_event_loop()

    def holds(tried: tuple[list[tuple[int, bytes]], bool]) -> None:
        answers, granted = tried
        waiting = iter(answers)

        async def get(path: str) -> Reply | None:
            return Reply(*next(waiting, (500, b"")))

        subject = Subject("integration@acme.com", "Integration", "005", NOW, granted, changes_since=NOW)
        facts = reading.run_until_complete(read_inside(get, subject, Facts(NOW)))
        known = replace(history(seen=timedelta(days=30)), audit=facts)
        foreseen = forecast(ACME, known, (), NOW)
        seen = Seen(facts, ACME, GRANTED if granted else None, ApiUsage(1, 0), None, NOW)
        if foreseen:
            seen = replace(seen, ends=foreseen.at)
        said = [step.said for step in steps(seen)]
        said += [*known_before(seen, None), note(ACME, facts) or ""]
        explained(seen, tuple(Cause))
        assert all(text.encode() and text.isprintable() for text in filter(None, said)), said
        assert records.read(records.written(known), records.written_audit(facts)).audit == facts

    try:
        yield holds
    finally:
        reading.close()


# Requests to the pages

PATHS = rb"""
/ /connections/acme-production /connections/hostile /api/status /api/connections/globex-eu /metrics
/-/healthy /-/ready /-/reload /static/style.css /calendar.ics * // /%00 /%ff http://elsewhere.example/
/connections/..%2f..%2fetc%2fpasswd /static/%2e%2e/app.py
""".split()
QUERIES = rb"""
?state=failing ?cause=approval_decayed&page=2 ?page=-1 ?page=99999999 ?q=%00%ff ?label=tier%3Dgold
?sort=state&sort=name ?state=failing&state= ?&&==&
""".split()
HEADER_LINES = b"""
Host: [::1
Host:
Accept: text/html;q=
Accept: */*;q=9
Accept: application/openmetrics-text; version=1.0.0
Accept-Encoding: gzip;q=0.5, br
If-None-Match: *
If-None-Match: W/"x
Authorization: Basic YTpi
Authorization: Basic \xff
Origin: null
Origin: https://elsewhere.example
Sec-Fetch-Site: cross-site
Content-Length: 3
Content-Length: -1
Transfer-Encoding: chunked
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: x
Expect: 100-continue
Cookie: a=b
Range: bytes=0-1
""".strip().splitlines()


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    """A request as it comes over the wire; mostly nearly right."""
    method = draw(
        st.sampled_from((b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE", b"CONNECT", b"GE T"))
    )
    target = draw(st.sampled_from(PATHS)) + draw(st.sampled_from((b"", b"?q=" + b"a" * 3_000, *QUERIES)))
    host = draw(st.sampled_from((b"Host: localhost", b"Host: 127.0.0.1", b"Host: rebound.example", b"A: b")))
    lines = draw(st.lists(st.sampled_from(HEADER_LINES), max_size=5))
    head = b"\r\n".join((b"%b %b HTTP/1.1" % (method, target), b"Connection: close", host, *lines))
    whole = head + b"\r\n\r\n" + draw(st.sampled_from((b"", b"0\r\n\r\n", b"not a chunk\r\n", b"abc")))
    if draw(st.booleans()):
        return whole
    at = draw(st.integers(0, len(whole)))
    return whole[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=20)) + whole[at:]


@contextmanager
def web() -> Iterator[Holds]:
    with rich_web() as address:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        assert host
        assert port

        def holds(request: bytes) -> None:
            answer = _answered(host, port, request)
            assert not answer.startswith(b"HTTP/1.1 5"), answer[:2_000]
            healthy = _answered(host, port, b"GET /-/healthy HTTP/1.0\r\n\r\n")
            assert healthy.startswith(b"HTTP/1.1 200 ")
            assert not errors, errors[0]

        with errors_of_the_server() as errors:
            yield holds


@contextmanager
def errors_of_the_server() -> Iterator[list[str]]:
    """What uvicorn and asyncio log as an error: no request may bring that about."""
    errors: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(self.format(record))

    kept = Kept(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(kept)
    try:
        yield errors
    finally:
        for logger in loggers:
            logger.removeHandler(kept)


@contextmanager
def rich_web() -> Iterator[str]:
    """The address of the application over the rich fleet, behind its protection."""
    with tempfile.TemporaryDirectory() as directory:
        store, snapshot = rich_fleet(Path(directory))
        seconds = count()
        app = Protection(
            Stage(store, snapshot).app(reload=_nothing_wrong),
            monotonic=lambda: float(next(seconds)),  # never too often: limits would hide what is behind them
        )
        try:
            with served(app) as address:
                yield address
        finally:
            store.close()


async def _nothing_wrong() -> None:
    return None


def _answered(host: str, port: int, request: bytes) -> bytes:
    with socket.create_connection((host, port), timeout=30) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionError:  # refused before it was read whole
            return b""


# The JSON, from its document

KNOWN = {"name": "acme-production"}


def documented_requests() -> st.SearchStrategy[Any]:
    """Requests as docs/openapi.yaml has them, and others that differ from that in one respect."""
    document = schemathesis.openapi.from_path(ROOT / "docs" / "openapi.yaml")
    operations = [document[path][method] for path in document for method in document[path]]
    return st.one_of(
        *(operation.as_strategy(mode) for operation in operations for mode in GenerationMode),
        *(operation.as_strategy(path_parameters=KNOWN) for operation in operations if "{" in operation.path),
    )


@contextmanager
def documented() -> Iterator[Holds]:
    with rich_web() as address, requests.Session() as session:

        def holds(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(
                base_url=address,
                session=session,
                timeout=30,
                # Judges values before they stand in the address, where null and {} are an empty one, which is
                # no filter. That a filter that there is not is refused has tests in test_web_api.
                excluded_checks=[negative_data_rejection],
            )

        yield holds


TARGETS = (
    Target(
        "configuration",
        near(CONFIGURATIONS) | rewritten(CONFIGURATIONS) | st.binary(max_size=300),
        configuration,
    ),
    Target("web configuration", near(WEB_CONFIGURATIONS) | rewritten(WEB_CONFIGURATIONS), web_configuration),
    Target("private keys", near(KEY_FILES) | st.binary(max_size=300), private_key),
    Target("certificates", near(CERTIFICATE_FILES) | st.binary(max_size=300), certificate),
    Target("answers", ANSWERS, answer),
    Target("diagnoses", RECORDED, diagnosed),
    Target("audits", org_answers(), audited),
    Target("pasted answers", near(RECORDS) | st.binary(max_size=200), pasted),
    Target("web requests", raw_requests(), web),
    Target("documented requests", st.deferred(documented_requests), documented),
)
