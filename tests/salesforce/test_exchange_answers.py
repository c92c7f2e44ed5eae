"""All kinds of server answers: with both transports, always a value, in bounded time."""

import asyncio
import gzip
import json
import re
import socket
from datetime import datetime, timedelta

import pytest

from monitor.core.outcome import Exchange, FaultKind, Granted, Outcome, Refused, Unreachable
from monitor.salesforce.exchange import MAX_ANSWER_BYTES
from monitor.salesforce.transport import Limits, TransportFactory, rust_transport
from tests.making import connection
from tests.salesforce.httpcore import httpcore_transport
from tests.salesforce.wire import (
    BOMB,
    TOKEN,
    Certificates,
    MakeExchanger,
    Reply,
    Visit,
    closes,
    drips,
    exchanged,
    floods,
    granted,
    hangs,
    http,
    never_reads,
    resets,
    says,
    serving,
)

ASSERTION = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIzTVZHOSJ9.c2lnbmVkLWJ5LXRoZS1rZXk"

PATIENT = Limits()
IMPATIENT = Limits(connect=timedelta(seconds=1), answer=timedelta(seconds=1.2), whole=timedelta(seconds=1.5))
"""Time enough to connect on a busy machine, and soon over."""


def sign(_now: datetime) -> str:
    return ASSERTION


async def answer_to(
    reply: Reply, make_exchanger: MakeExchanger, limits: Limits = PATIENT, *, after_login: bool = False
) -> Exchange:
    async with serving(reply) as server:
        to = connection(login_url=f"http://localhost:{server.port}")
        return await exchanged(make_exchanger(limits), to, sign, after_login=after_login)


OK = b"HTTP/1.1 200 OK\r\n"

BROKEN: dict[str, Reply] = {
    "closed before a word": closes,
    "closed after the request": says(b""),
    "reset after the request": resets(b""),
    "reset within the body": resets(OK + b"Content-Length: 500\r\n\r\nabc"),
    "shorter than declared": says(OK + b"Content-Length: 500\r\n\r\n{}"),
    "chunks that end too early": says(OK + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{}"),
    "two lengths": says(OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc"),
    "not HTTP": says(b"\x00\xff\x15\x03\x01nonsense\r\n\r\n"),
    "another protocol": says(b"220 mail.test ESMTP ready\r\n"),
    "a status that is none": says(b"HTTP/1.1 99 Odd\r\nContent-Length: 0\r\n\r\n"),
    "a header without a colon": says(OK + b"nonsense\r\nContent-Length: 0\r\n\r\n"),
    "a byte too large": says(http(400, b"a" * (MAX_ANSWER_BYTES + 1))),
    "endless": floods(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    "endless without a length": floods(OK + b"\r\n", b"a" * 65536),
    "an endless header": floods(OK, b"X: " + b"a" * 65536),
    "endless headers": floods(OK, b"X-A: b\r\n" * 8192),
    "a decompression bomb": says(http(200, BOMB, "Content-Encoding: gzip")),
    "no gzip, though it says so": says(http(200, "{}", "Content-Encoding: gzip")),
    "a decompression bomb by another name": says(http(200, BOMB, "Content-Encoding: x-gzip")),
    "no gzip, though it says so by another name": says(http(200, "{}", "Content-Encoding: x-gzip")),
    "half a gzip by another name": says(
        http(200, gzip.compress(granted())[:-20], "Content-Encoding: X-GZIP")
    ),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
async def test_an_incomplete_http_answer_is_a_protocol_fault(
    reply: Reply, make_exchanger: MakeExchanger
) -> None:
    exchange = await answer_to(reply, make_exchanger)

    assert isinstance(exchange.outcome, Unreachable)
    assert exchange.outcome.kind is FaultKind.PROTOCOL
    assert exchange.outcome.message.startswith("no usable answer: ")
    assert exchange.duration_seconds is not None


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (
            says(http(200, gzip.compress(granted())[:-20], "Content-Encoding: gzip")),
            "no usable answer: unexpected end of file",
        ),
        (says(http(200, "{}", "Content-Encoding: br")), "no usable answer: brotli error"),
    ],
    ids=["gzip that ends too early", "broken brotli"],
)
async def test_an_answer_that_cannot_be_decoded_is_a_protocol_fault(
    reply: Reply, why: str, make_exchanger: MakeExchanger
) -> None:
    """httpx's decoders, which httpcore's answers go through, notice neither."""
    async with serving(reply) as server:
        exchanger = make_exchanger(transport=rust_transport)
        exchange = await exchanged(exchanger, connection(login_url=f"http://localhost:{server.port}"), sign)

    assert exchange.outcome == Unreachable(FaultKind.PROTOCOL, why)


async def test_an_answer_in_an_unknown_encoding_is_not_read_as_text(make_exchanger: MakeExchanger) -> None:
    packed = b"\x1f\x9d\x90" + gzip.compress(granted())

    exchange = await answer_to(says(http(503, packed, "Content-Encoding: compress")), make_exchanger)

    why = "no usable answer: its Content-Encoding is unknown (compress), with status 503"
    assert exchange.outcome == Unreachable(FaultKind.PROTOCOL, why)


NO_GRANT: dict[str, tuple[Reply, Refused]] = {
    "an OAuth error": (
        says(http(400, '{"error":"invalid_grant","error_description":"invalid assertion"}')),
        Refused(400, "invalid_grant", "invalid assertion", ""),
    ),
    "an OAuth error in gzip": (
        says(
            http(
                400,
                gzip.compress(b'{"error":"invalid_grant","error_description":"invalid assertion"}'),
                "Content-Encoding: gzip",
            )
        ),
        Refused(400, "invalid_grant", "invalid assertion", ""),
    ),
    "an OAuth error in gzip by another name": (
        says(http(400, gzip.compress(b'{"error":"invalid_grant"}'), "Content-Encoding: x-gzip")),
        Refused(400, "invalid_grant", "", ""),
    ),
    "an OAuth error in gzip in capitals": (
        says(http(400, gzip.compress(b'{"error":"invalid_grant"}'), "Content-Encoding: GZIP")),
        Refused(400, "invalid_grant", "", ""),
    ),
    "a text whose encoding is a charset": (
        says(http(400, '{"error":"invalid_grant"}', "Content-Encoding: UTF-8")),
        Refused(400, "invalid_grant", "", ""),
    ),
    "a text in an older character set": (
        says(http(503, "Für Wartung geschlossen".encode("latin-1"), "Content-Encoding: iso-8859-1")),
        Refused(503, "", "", "F�r Wartung geschlossen"),
    ),
    "more than declared": (
        says(http(400, '{"error":"invalid_grant"}') + b"and more"),
        Refused(400, "invalid_grant", "", ""),
    ),
    "no length": (
        says(b'HTTP/1.1 400 Bad Request\r\n\r\n{"error":"invalid_grant"}'),
        Refused(400, "invalid_grant", "", ""),
    ),
    "an empty 200": (says(http(200, "")), Refused(200, "", "", "")),
}


@pytest.mark.parametrize(("reply", "refused"), NO_GRANT.values(), ids=NO_GRANT)
async def test_an_answer_without_a_token_is_a_refusal(
    reply: Reply, refused: Refused, make_exchanger: MakeExchanger
) -> None:
    exchange = await answer_to(reply, make_exchanger)

    assert exchange.outcome == refused


ODD: dict[str, tuple[Reply, int]] = {
    "a page of HTML": (
        says(http(503, "<html><h1>Data Not Available</h1></html>", "Content-Type: text/html")),
        503,
    ),
    "JSON nested without end": (says(http(200, "[" * 50_000)), 200),
    "a number of 50,000 digits": (says(http(200, '{"expires_in":' + "9" * 50_000 + "}")), 200),
    "bytes of no charset": (
        says(http(200, b"\xff\xfe\x00\xd8", "Content-Type: text/html; charset=klingon")),
        200,
    ),
    "a status of its own": (says(http(999, "{}")), 999),
    "nothing at all": (says(http(204, "")), 204),
}


@pytest.mark.parametrize(("reply", "status"), ODD.values(), ids=ODD)
async def test_an_unusual_answer_is_a_refusal_with_its_status(
    reply: Reply, status: int, make_exchanger: MakeExchanger
) -> None:
    exchange = await answer_to(reply, make_exchanger)

    assert isinstance(exchange.outcome, Refused)
    assert exchange.outcome.status == status


async def test_a_header_that_is_not_text_ends_in_an_outcome(make_exchanger: MakeExchanger) -> None:
    exchange = await answer_to(says(http(400, "{}", "Date: \xe9\xff")), make_exchanger)

    assert isinstance(exchange.outcome, Refused | Unreachable)
    assert exchange.clock_offset_seconds is None


async def test_a_redirect_is_a_refusal_and_is_not_followed(
    make_exchanger: MakeExchanger,
) -> None:
    async with serving(says(granted())) as elsewhere:
        exchange = await answer_to(
            says(http(302, "", f"Location: http://localhost:{elsewhere.port}/")), make_exchanger
        )

    assert isinstance(exchange.outcome, Refused)
    assert exchange.outcome.status == 302
    assert not elsewhere.visits


async def test_a_grant_keeps_facts_but_no_token(make_exchanger: MakeExchanger) -> None:
    exchange = await answer_to(says(granted()), make_exchanger)

    assert exchange.outcome == Granted(
        token_format="opaque",
        scopes=frozenset({"api", "refresh_token"}),
        instance_url="https://acme.my.salesforce.com",
        org_id="00D000000000001AAA",
        user_id="005000000000001AAA",
    )
    assert TOKEN not in repr(exchange)


# Slow answers.

SLOW: dict[str, Reply] = {
    "silent after the request": hangs,
    "a body that drips": drips(OK + b"Content-Length: 500\r\n\r\n", b"a"),
    "chunks that drip": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
}

SLOW_HEAD: dict[str, Reply] = {
    "headers that drip": drips(OK, b"X-A: b\r\n", b"Content-Length: 2\r\n\r\n{}"),
    "a header that drips": drips(OK + b"X-A: ", b"a", b"\r\nContent-Length: 2\r\n\r\n{}"),
    "interim answers that drip": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n", http(200, "{}")),
}


@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW)
async def test_an_answer_that_does_not_end_in_time_is_a_timeout(
    reply: Reply, make_exchanger: MakeExchanger
) -> None:
    exchange = await answer_to(reply, make_exchanger, IMPATIENT)

    assert is_fault(exchange.outcome, FaultKind.TIMEOUT)
    assert exchange.duration_seconds is not None
    assert exchange.duration_seconds < 2.5


@pytest.mark.parametrize("reply", SLOW_HEAD.values(), ids=SLOW_HEAD)
async def test_a_head_that_does_not_end_in_time_is_a_timeout(
    reply: Reply, make_exchanger: MakeExchanger, transport: TransportFactory, request: pytest.FixtureRequest
) -> None:
    if transport is httpcore_transport:
        why = "httpcore begins its timeout anew with each read of the head"
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))

    exchange = await answer_to(reply, make_exchanger, IMPATIENT)

    assert is_fault(exchange.outcome, FaultKind.TIMEOUT)
    assert exchange.duration_seconds is not None
    assert exchange.duration_seconds < 2.5


async def test_a_server_that_never_answers_the_handshake_is_a_connection_fault(
    make_exchanger: MakeExchanger, certificates: Certificates
) -> None:
    async with serving(never_reads) as server:
        exchange = await exchanged(
            make_exchanger(IMPATIENT), connection(login_url=f"https://localhost:{server.port}"), sign
        )

    assert exchange.outcome == Unreachable(FaultKind.CONNECT, "could not connect in time")


# No connection.


async def test_a_closed_port_is_a_connection_fault(make_exchanger: MakeExchanger) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        exchange = await exchanged(
            make_exchanger(), connection(login_url=f"http://127.0.0.1:{taken.getsockname()[1]}"), sign
        )

    assert is_fault(exchange.outcome, FaultKind.CONNECT)
    assert "refused" in message(exchange.outcome) or "111" in message(exchange.outcome)


async def test_an_unknown_host_name_has_the_resolvers_message(make_exchanger: MakeExchanger) -> None:
    """An empty label: the C library knows it for wrong, so that no resolver needs to be there."""
    outcome = await make_exchanger().ask("POST", "http://acme..test/", "", {})

    assert isinstance(outcome, Unreachable)
    assert outcome.kind is FaultKind.DNS
    assert re.fullmatch(
        r"the host name was not resolved: (\[Errno -2\] )?Name or service not known", outcome.message
    )


@pytest.mark.parametrize("flaw", ["wrong_name", "expired", "self_signed"])
async def test_an_untrusted_certificate_is_a_tls_fault(
    flaw: str, make_exchanger: MakeExchanger, certificates: Certificates
) -> None:
    async with serving(says(granted()), getattr(certificates, flaw)) as server:
        exchange = await exchanged(
            make_exchanger(), connection(login_url=f"https://localhost:{server.port}"), sign
        )

    assert is_fault(exchange.outcome, FaultKind.TLS)
    assert "certificate" in message(exchange.outcome)
    assert not any(visit.body for visit in server.visits)


async def test_plain_http_instead_of_tls_is_a_tls_fault(make_exchanger: MakeExchanger) -> None:
    async def speaks_first(visit: Visit) -> None:
        await visit.send(http(400, "this is plain HTTP"))
        await visit.reader.read()

    async with serving(speaks_first) as server:
        exchange = await exchanged(
            make_exchanger(), connection(login_url=f"https://localhost:{server.port}"), sign
        )

    assert is_fault(exchange.outcome, FaultKind.TLS)


async def test_a_connection_that_breaks_during_the_handshake_is_a_connection_fault(
    make_exchanger: MakeExchanger,
) -> None:
    """Middleboxes do this; there was no certificate to distrust."""
    async with serving(closes) as server:
        exchange = await exchanged(
            make_exchanger(), connection(login_url=f"https://localhost:{server.port}"), sign
        )

    assert is_fault(exchange.outcome, FaultKind.CONNECT)


async def test_a_certificate_of_the_configured_ca_is_trusted(
    make_exchanger: MakeExchanger, certificates: Certificates
) -> None:
    async with serving(says(granted()), certificates.good) as server:
        exchange = await exchanged(
            make_exchanger(), connection(login_url=f"https://localhost:{server.port}"), sign
        )

    assert isinstance(exchange.outcome, Granted)


# Secrets.


async def echo_body(visit: Visit) -> None:
    await visit.read()
    await visit.send(http(400, visit.body))


async def echo_as_error(visit: Visit) -> None:
    await visit.read()
    await visit.send(http(400, json.dumps({"error": ASSERTION, "error_description": visit.body.decode()})))


async def echo_raw(visit: Visit) -> None:
    await visit.read()
    await visit.send(visit.body + b"\r\n\r\n")


async def echo_in_header(visit: Visit) -> None:
    await visit.read()
    await visit.send(
        http(302, "", f"Location: https://elsewhere.test/?{visit.body.decode()}", f"{ASSERTION}")
    )


async def echo_as_encoding(visit: Visit) -> None:
    await visit.read()
    await visit.send(http(200, "{}", f"Content-Encoding: {ASSERTION}"))


async def echo_token(visit: Visit) -> None:
    """Grants, and quotes the token when it comes back."""
    await visit.read()
    await visit.send(
        granted(instance_url=f"http://{visit.head.split('Host: ')[1].split()[0]}")
        if visit.head.startswith("POST")
        else http(403, json.dumps([{"errorCode": TOKEN, "message": visit.head}]))
    )


@pytest.mark.parametrize(
    "reply", [echo_body, echo_as_error, echo_raw, echo_in_header, echo_as_encoding, echo_token]
)
async def test_secrets_quoted_by_a_server_do_not_reach_the_outcome(
    reply: Reply, make_exchanger: MakeExchanger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(0):
        exchange = await answer_to(reply, make_exchanger, after_login=True)

    for text in (repr(exchange), str(exchange), caplog.text):
        assert "c2lnbmVkLWJ5LXRoZS1rZXk" not in text
        assert "SecretOfTheOrg" not in text


async def test_many_hostile_servers_do_not_affect_a_good_one(make_exchanger: MakeExchanger) -> None:
    exchanger = make_exchanger(IMPATIENT)

    async def ask(reply: Reply) -> Outcome:
        async with serving(reply) as server:
            to = connection(login_url=f"http://localhost:{server.port}")
            return (await exchanged(exchanger, to, sign)).outcome

    *bad, good = await asyncio.gather(*map(ask, [*BROKEN.values(), *SLOW.values(), says(granted())]))

    assert isinstance(good, Granted)
    assert {type(outcome) for outcome in bad} == {Unreachable}
    assert exchanger.in_flight == 0


def is_fault(outcome: Outcome, kind: FaultKind) -> bool:
    return isinstance(outcome, Unreachable) and outcome.kind is kind


def message(outcome: Outcome) -> str:
    assert isinstance(outcome, Unreachable)
    return outcome.message
