"""What an exchanger sends, to whom, how many at once, and what it measures."""

import asyncio
import gc
import json
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from structlog.testing import capture_logs

from monitor.core.outcome import (
    AfterLogin,
    ApiUsage,
    FaultKind,
    Granted,
    NotSent,
    Refused,
    Unreachable,
)
from monitor.core.problem import OperatorError
from monitor.salesforce import exchange as exchange_module
from monitor.salesforce.exchange import Exchanger, clock_offset
from monitor.salesforce.org import Reply as RestReply
from monitor.salesforce.transport import (
    SPARE_CONNECTIONS,
    Limits,
    TransportFactory,
    rust_transport,
)
from tests.making import NOW, connection
from tests.salesforce.wire import (
    TOKEN,
    Certificates,
    MakeExchanger,
    Reply,
    Server,
    Visit,
    closes,
    exchanged,
    granted,
    http,
    says,
    serving,
)


def sign(_now: datetime) -> str:
    return "head.claims.signature"


def at(server: Server, scheme: str = "http") -> str:
    return f"{scheme}://localhost:{server.port}"


# What is sent.


async def test_the_assertion_is_in_the_body_of_one_post(make_exchanger: MakeExchanger) -> None:
    async with serving(says(granted())) as server:
        await exchanged(make_exchanger(), connection(login_url=f"{at(server)}/acme"), sign)

    [visit] = server.visits
    lines = visit.head.lower().splitlines()
    assert lines[0] == "post /acme/services/oauth2/token http/1.1"
    assert parse_qs(visit.body.decode(), strict_parsing=True) == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:jwt-bearer"],
        "assertion": ["head.claims.signature"],
    }
    assert {
        "content-type: application/x-www-form-urlencoded",
        "accept: application/json",
        "accept-encoding: identity",
        "connection: close",
        "user-agent: bearerwatch",
        f"host: localhost:{server.port}",
    } < set(lines)
    assert not [line for line in lines if line.startswith(("cookie", "referer", "authorization", "transfer"))]


async def test_neither_cookies_nor_connections_are_kept(make_exchanger: MakeExchanger) -> None:
    async def keeps_alive(visit: Visit) -> None:
        while True:
            await visit.read()
            await visit.send(
                b"HTTP/1.1 400 No\r\nContent-Length: 2\r\nSet-Cookie: BrowserId=x; Path=/\r\n\r\n{}"
            )

    exchanger = make_exchanger()
    async with serving(keeps_alive) as server:
        for _ in range(3):
            await exchanged(exchanger, connection(login_url=at(server)), sign)

    assert len(server.visits) == 3
    assert not any("cookie" in visit.head.lower() for visit in server.visits)


@pytest.mark.parametrize(
    "login_url",
    [
        "https://acme.my.salesforce.com.evil.test",
        "http://acme.my.salesforce.com",
        "http://192.0.2.1",
        "ftp://localhost",
        "https://evil.test\\@acme.my.salesforce.com",
        "https://acme.my.salesforce.com@evil.test",
        "https://acme.my.salesforce.com\n.evil.test",
        "",
    ],
)
async def test_nothing_is_signed_for_a_host_that_is_not_allowed(
    login_url: str, make_exchanger: MakeExchanger
) -> None:
    def never(_now: datetime) -> str:
        pytest.fail("signed")

    exchange = await exchanged(make_exchanger(), connection(login_url=login_url), never)

    assert isinstance(exchange.outcome, NotSent)
    assert exchange.duration_seconds is None


async def test_an_address_that_no_connection_can_have_receives_nothing(make_exchanger: MakeExchanger) -> None:
    assert not make_exchanger().may_receive("https://[::1")


async def test_an_invalid_address_is_not_contacted(make_exchanger: MakeExchanger) -> None:
    exchanger = make_exchanger(allowed_hosts=frozenset({"xn--a.test"}))

    exchange = await exchanged(exchanger, connection(login_url="https://xn--a.test"), sign)

    assert exchange.outcome == NotSent("the address is not a usable URL")


async def test_an_error_while_signing_is_raised_and_frees_its_slot(make_exchanger: MakeExchanger) -> None:
    def fails(_now: datetime) -> str:
        raise ZeroDivisionError

    exchanger = make_exchanger(Limits(in_flight=1))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await exchanged(exchanger, connection(login_url="http://localhost:1"), fails)

    assert exchanger.in_flight == 0


async def test_an_exchange_that_fails_leaves_nothing_for_the_garbage_collector(
    make_exchanger: MakeExchanger,
) -> None:
    exchanger = make_exchanger()
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        refuses = connection(login_url=f"http://127.0.0.1:{bound.getsockname()[1]}")

        async def fail() -> None:
            exchange = await exchanged(exchanger, refuses, sign)
            assert isinstance(exchange.outcome, Unreachable)

        await fail()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await fail()
            left = gc.collect()
        finally:
            gc.enable()

    assert left < 20


# How many at once.


async def test_at_most_one_assertion_is_signed_per_loop_iteration(make_exchanger: MakeExchanger) -> None:
    turn, signed_in = 0, []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def signs(_now: datetime) -> str:
        signed_in.append(turn)
        return "head.claims.signature"

    counting = asyncio.create_task(count_turns())
    async with serving(says(granted())) as server:
        exchanger = make_exchanger()
        await asyncio.gather(
            *(exchanged(exchanger, connection(login_url=at(server)), signs) for _ in range(8))
        )
    counting.cancel()

    assert len(set(signed_in)) == 8


async def test_exchanges_in_flight_are_limited_and_others_are_signed_after_queueing(
    make_exchanger: MakeExchanger,
) -> None:
    arrived, leave = asyncio.Semaphore(0), asyncio.Event()
    signed: list[datetime] = []

    async def waits(visit: Visit) -> None:
        await visit.read()
        arrived.release()
        await leave.wait()
        await visit.send(granted())

    def counting(now: datetime) -> str:
        signed.append(now)
        return "a.b.c"

    exchanger = make_exchanger(Limits(in_flight=2))
    async with serving(waits) as server:
        to = connection(login_url=at(server))
        asked = [asyncio.ensure_future(exchanged(exchanger, to, counting)) for _ in range(5)]
        for _ in range(2):
            await arrived.acquire()
        in_flight, signed_then, came_then = exchanger.in_flight, len(signed), len(server.visits)
        leave.set()
        exchanges = await asyncio.gather(*asked)

    assert (in_flight, signed_then, came_then) == (2, 2, 2)
    assert [type(each.outcome) for each in exchanges] == [Granted] * 5
    assert len(signed) == 5
    assert exchanger.in_flight == 0


async def test_cancelled_exchanges_over_tls_do_not_stop_those_that_follow(
    make_exchanger: MakeExchanger, certificates: Certificates
) -> None:
    """With a pool no larger than the exchanges in flight, one lost slot in a hundred would block them all."""

    def narrow(limits: Limits, ca_file: Path | None) -> httpx.AsyncBaseTransport:
        return rust_transport(replace(limits, in_flight=limits.in_flight - SPARE_CONNECTIONS), ca_file)

    chance = random.Random(7)
    exchanger = make_exchanger(Limits(in_flight=10, pool=timedelta(seconds=0.3)), transport=narrow)
    async with serving(says(granted()), certificates.good) as server:
        to = connection(login_url=at(server, "https"))
        for _ in range(40):
            asked = [asyncio.ensure_future(exchanged(exchanger, to, sign)) for _ in range(30)]
            for each in asked:
                asyncio.get_running_loop().call_later(chance.uniform(0.001, 0.08), each.cancel)
            await asyncio.gather(*asked, return_exceptions=True)
        then = [(await exchanged(exchanger, to, sign)).outcome for _ in range(10)]

    assert [type(outcome) for outcome in then] == [Granted] * 10
    assert exchanger.in_flight == 0


def exhausted(_request: httpx.Request) -> httpx.Response:
    raise httpx.PoolTimeout("")


async def test_an_exhausted_pool_is_our_fault() -> None:
    exchanger = Exchanger(transport=lambda *_: httpx.MockTransport(exhausted))

    exchange = await exchanged(exchanger, connection(login_url="http://localhost"), sign)

    assert exchange.outcome == Unreachable(FaultKind.POOL, "our own connection pool had no free connection")


async def test_closing_the_exchanger_ends_running_exchanges_without_a_verdict(
    make_exchanger: MakeExchanger,
) -> None:
    arrived = asyncio.Event()

    async def holds(visit: Visit) -> None:
        await visit.read()
        arrived.set()
        await asyncio.Event().wait()

    exchanger = make_exchanger()
    async with serving(holds) as server:
        asked = asyncio.ensure_future(exchanged(exchanger, connection(login_url=at(server)), sign))
        await arrived.wait()
        await exchanger.aclose()
        exchange = await asked

    assert isinstance(exchange.outcome, NotSent | Unreachable)


# What is measured.


async def test_the_clock_offset_is_the_servers_date_minus_our_clock(
    make_exchanger: MakeExchanger,
) -> None:
    date = f"Date: {format_datetime(NOW + timedelta(seconds=100), usegmt=True)}"

    async def takes_a_while(visit: Visit) -> None:
        await visit.read()
        asked.set()
        await answer.wait()
        await visit.send(http(400, "{}", date))

    asked, answer = asyncio.Event(), asyncio.Event()
    async with serving(takes_a_while) as server:
        exchanging = asyncio.create_task(exchanged(make_exchanger(), connection(login_url=at(server)), sign))
        await asked.wait()
        asyncio.get_running_loop().call_later(0.2, answer.set)
        exchange = await exchanging

    assert exchange.at == NOW
    assert exchange.duration_seconds is not None
    assert exchange.clock_offset_seconds is not None
    assert exchange.duration_seconds >= 0.2
    assert 100.5 - exchange.duration_seconds - 0.1 < exchange.clock_offset_seconds <= 100.3


@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(hours=2)], ids=["back", "ahead"])
async def test_if_the_wall_clock_is_set_during_an_exchange_all_its_times_are_by_the_new_one(
    make_exchanger: MakeExchanger, step: timedelta
) -> None:
    wall = [NOW]

    async def sets_the_clock(visit: Visit) -> None:
        await visit.read()
        wall[0] += step
        await visit.send(http(400, "{}", f"Date: {format_datetime(NOW, usegmt=True)}"))

    async with serving(sets_the_clock) as server:
        exchanger = make_exchanger(clock=lambda: wall[0])
        exchange = await exchanged(exchanger, connection(login_url=at(server)), sign)

    second = timedelta(seconds=1)
    assert NOW + step - second < exchange.at <= NOW + step
    assert exchange.clock_offset_seconds == pytest.approx(-step.total_seconds(), abs=1)


@pytest.mark.parametrize(
    ("date", "offset"),
    [
        ("Mon, 23 Nov 2026 12:00:00 GMT", 0.5),
        ("Mon, 23 Nov 2026 11:59:00 GMT", -59.5),
        ("Mon, 23 Nov 2026 14:00:00 +0200", 0.5),
        ("Mon, 23 Nov 2026 12:00:00 -0000", 0.5),
        (None, None),
        ("", None),
        ("soon", None),
        ("Mon, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_without_a_valid_date_there_is_no_clock_offset(date: str | None, offset: float | None) -> None:
    assert clock_offset(date, NOW) == offset


async def test_the_default_clock_is_aware_and_in_utc() -> None:
    exchanger = Exchanger(transport=lambda *_: httpx.MockTransport(exhausted))

    exchange = await exchanged(exchanger, connection(login_url="http://localhost"), sign)

    assert exchange.at.tzinfo is UTC
    await exchanger.aclose()


# The call after the login.


def org(api: bytes, **changes: str) -> Reply:
    """Grants, and answers the REST call with these bytes."""

    async def reply(visit: Visit) -> None:
        await visit.read()
        host = next(line[6:] for line in visit.head.splitlines() if line.lower().startswith("host: "))
        is_post = visit.head.startswith("POST")
        await visit.send(granted(**({"instance_url": f"http://{host}"} | changes)) if is_post else api)

    return reply


async def test_the_call_after_login_uses_the_token_and_the_login_urls_path(
    make_exchanger: MakeExchanger,
) -> None:
    async with serving(org(http(200, "{}"))) as server:
        exchange = await exchanged(
            make_exchanger(), connection(login_url=f"{at(server)}/acme"), sign, after_login=True
        )

    assert exchange.after_login == AfterLogin(200, "", "")
    [_, call] = server.visits
    assert call.head.splitlines()[0] == "GET /acme/services/data/v62.0/ HTTP/1.1"
    assert f"authorization: bearer {TOKEN}".lower() in call.head.lower().splitlines()
    assert call.body == b""


async def test_a_refused_call_after_login_is_reported_with_the_grant(make_exchanger: MakeExchanger) -> None:
    refusal = http(403, json.dumps([{"errorCode": "API_CURRENTLY_DISABLED", "message": "not enabled"}]))
    async with serving(org(refusal)) as server:
        exchange = await exchanged(make_exchanger(), connection(login_url=at(server)), sign, after_login=True)

    assert isinstance(exchange.outcome, Granted)
    assert exchange.after_login == AfterLogin(403, "API_CURRENTLY_DISABLED", "not enabled")


NOT_ALLOWED = "not made: the org's API address is not an allowed host"
NO_HEADER = "not made: the token is not valid in a header"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (org(http(200, "{}"), instance_url="https://evil.test"), NOT_ALLOWED),
        (org(http(200, "{}"), instance_url="http://acme.my.salesforce.com"), NOT_ALLOWED),
        (org(http(200, "{}"), access_token="split\r\nX-Evil: 1"), NO_HEADER),
        (org(http(200, "{}"), access_token="t\xf6ken"), NO_HEADER),
        (org(b""), "no usable answer: "),
        (org(b"not http\r\n\r\n"), "no usable answer: "),
        (org(http(302, "", "Location: http://localhost:1/")), "HTTP 302: a redirect, which is not followed"),
        (org(http(503, "<html>Down</html>")), "HTTP 503: HTML page: Down"),
        (
            org(http(200, "<html>Sign in to this network</html>")),
            "HTTP 200: HTML page: Sign in to this network",
        ),
    ],
    ids=[
        "foreign instance",
        "plain instance",
        "token of two lines",
        "token beyond ASCII",
        "no answer",
        "no HTTP",
        "redirect",
        "unavailable",
        "portal",
    ],
)
async def test_a_first_call_that_is_not_made_or_not_answered_says_why(
    reply: Reply, why: str, make_exchanger: MakeExchanger
) -> None:
    """A host name with 43 characters had been masked, no call made, and nothing said."""
    async with serving(reply) as server:
        exchange = await exchanged(make_exchanger(), connection(login_url=at(server)), sign, after_login=True)

    assert isinstance(exchange.outcome, Granted)
    assert exchange.after_login is not None
    assert exchange.after_login.missed
    assert exchange.after_login.problem.startswith(why)
    assert "t\xf6ken" not in exchange.after_login.problem


async def test_a_first_call_that_our_parser_fails_on_leaves_the_grant(
    make_exchanger: MakeExchanger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> AfterLogin:
        raise LookupError("a bug of ours")

    monkeypatch.setattr(exchange_module, "read_after_login", fails)
    with capture_logs() as logged:
        async with serving(org(http(200, "{}"))) as server:
            exchange = await exchanged(
                make_exchanger(), connection(login_url=at(server)), sign, after_login=True
            )

    assert isinstance(exchange.outcome, Granted)
    assert exchange.after_login is not None
    assert exchange.after_login.missed
    assert exchange.after_login.problem == "HTTP 200: not readable by the monitor (LookupError)"
    assert [line["event"] for line in logged] == ["answer_not_read"]


async def test_a_remote_org_cannot_redirect_calls_to_this_machine() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.host}")
        grant = {"access_token": "chosen", "scope": "api", "instance_url": "http://127.0.0.1:8500"}
        return httpx.Response(200, json=grant)

    exchanger = Exchanger(
        transport=lambda _limits, _ca_file: httpx.MockTransport(answer),
        allowed_hosts=frozenset({"mock.example.com"}),
    )

    exchange = await exchanged(
        exchanger, connection(login_url="https://mock.example.com"), sign, after_login=True
    )
    await exchanger.aclose()

    assert isinstance(exchange.outcome, Granted)
    assert asked == ["POST mock.example.com"]


async def test_additional_calls_report_api_usage_and_never_see_the_token(
    make_exchanger: MakeExchanger,
) -> None:
    reply = http(200, "{}", "Sforce-Limit-Info: api-usage=18/15000")
    async with (
        serving(org(reply)) as server,
        make_exchanger().login(connection(login_url=at(server)), sign) as login,
    ):
        replies = [await login.get("/services/data/v62.0/query?q=SELECT+1"), await login.get("@evil.test/")]

    assert replies == [RestReply(200, b"{}"), None]
    assert login.exchange.usage == ApiUsage(18, 15_000)
    assert len(server.visits) == 2


async def test_after_a_refused_first_call_no_more_are_made(make_exchanger: MakeExchanger) -> None:
    refusal = http(403, json.dumps([{"errorCode": "API_CURRENTLY_DISABLED", "message": "not enabled"}]))
    async with (
        serving(org(refusal)) as server,
        make_exchanger().login(connection(login_url=at(server)), sign) as login,
    ):
        assert login.granted
        await login.first_call()

    assert login.exchange.after_login is not None
    assert not login.granted


@pytest.mark.parametrize(("answer", "asked"), [(granted(), False), (http(400, "{}"), True)])
async def test_the_call_after_login_needs_a_request_and_a_grant(
    answer: bytes, asked: bool, make_exchanger: MakeExchanger
) -> None:
    async with serving(says(answer)) as server:
        exchange = await exchanged(
            make_exchanger(), connection(login_url=at(server)), sign, after_login=asked
        )

    assert exchange.after_login is None
    assert len(server.visits) == 1


# Whom it trusts, and the way there.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{file}: cannot be read (No such file or directory); it must contain PEM certificates"),
        (b"", "{file}: contains no readable certificate; it must contain PEM certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None),
    ],
    ids=["missing", "empty", "damaged"],
)
def test_a_ca_file_that_cannot_be_used_is_one_clear_message(
    content: bytes | None, message: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(OperatorError) as raised:
        rust_transport(Limits(), file)

    message = message or "{file}: contains no readable certificate; it must contain PEM certificates"
    assert str(raised.value) == message.format(file=file)


PROGRAM = """
import asyncio, os, sys
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.transport import rust_transport
from tests.salesforce.httpcore import httpcore_transport
from tests.salesforce.wire import exchanged
from tests.making import connection

TRANSPORTS = {"httpcore": httpcore_transport, "pyreqwest": rust_transport}

async def main():
    exchanger = Exchanger(transport=TRANSPORTS[sys.argv[1]])
    made = await exchanged(exchanger, connection(login_url=sys.argv[2]), lambda now: "a.b.c")
    print(type(made.outcome).__name__, flush=True)
    await exchanger.aclose()

asyncio.run(main())
os._exit(0)  # as the command does: a thread of pyreqwest's may abort an interpreter that takes itself apart
"""


async def outcome_where(roots: dict[str, str], transport: str, certificates: Certificates) -> str:
    """In a separate process, as the environment is read at its start."""
    async with serving(says(granted()), certificates.good) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, transport, at(server, "https")),
            env=os.environ | roots,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    return output.decode().strip()


@pytest.mark.parametrize("transport_name", ["pyreqwest", "httpcore"])
async def test_the_environment_can_name_the_trusted_roots(
    transport_name: str, certificates: Certificates
) -> None:
    roots = {"SSL_CERT_FILE": str(certificates.ca_file)}

    assert await outcome_where(roots, transport_name, certificates) == "Granted"
    assert await outcome_where({}, transport_name, certificates) == "Unreachable"


async def test_a_system_without_root_certificates_uses_certifis(certificates: Certificates) -> None:
    roots = {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent"}

    assert await outcome_where(roots, "pyreqwest", certificates) == "Unreachable"


@asynccontextmanager
async def proxying(to: Callable[[], int], verdict: bytes) -> AsyncIterator[Server]:
    """A proxy that, if its status is 200, connects all clients to this port."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def reply(visit: Visit) -> None:
        await visit.read()
        await visit.send(b"HTTP/1.1 " + verdict + b"\r\n\r\n")
        if verdict.startswith(b"200"):
            reader, writer = await asyncio.open_connection("127.0.0.1", to())
            try:
                await asyncio.gather(pipe(visit.reader, writer), pipe(reader, visit.writer))
            finally:
                writer.close()

    async with serving(reply) as server:
        yield server


def through(environ: dict[str, str]) -> TransportFactory:
    return lambda limits, ca_file: rust_transport(limits, ca_file, environ)


ORG = frozenset({"org.test"})


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_https_goes_through_the_environments_proxy(certificates: Certificates, scheme: str) -> None:
    async with (
        serving(says(granted()), certificates.good) as server,
        proxying(lambda: server.port, b"200 Connected") as proxy,
    ):
        exchanger = Exchanger(
            ca_file=certificates.ca_file,
            allowed_hosts=ORG,
            transport=through({"HTTPS_PROXY": f"{scheme}127.0.0.1:{proxy.port}"}),
        )
        exchange = await exchanged(exchanger, connection(login_url="https://org.test"), sign)
        await exchanger.aclose()

    assert isinstance(exchange.outcome, Granted)
    assert proxy.visits[0].head.startswith("CONNECT org.test:443 HTTP/1.1")
    assert "signature" not in proxy.visits[0].head


@pytest.mark.parametrize("address", ["http://", "::", "http://user:hush@proxy:99999"])
def test_an_invalid_proxy_url_is_one_clear_message_without_the_url(address: str) -> None:
    with pytest.raises(OperatorError, match=r"write e\.g\. http://") as caught:
        rust_transport(Limits(), None, {"https_proxy": address})

    assert "hush" not in str(caught.value)


async def test_a_proxy_that_refuses_is_a_connection_fault(certificates: Certificates) -> None:
    async with proxying(lambda: 0, b"407 Proxy Authentication Required") as proxy:
        exchanger = Exchanger(
            ca_file=certificates.ca_file,
            allowed_hosts=ORG,
            transport=through({"all_proxy": f"http://user:hush@127.0.0.1:{proxy.port}"}),
        )
        exchange = await exchanged(exchanger, connection(login_url="https://org.test"), sign)
        await exchanger.aclose()

    assert isinstance(exchange.outcome, Unreachable)
    assert exchange.outcome.kind is FaultKind.CONNECT
    assert "hush" not in repr(exchange)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_loopback_never_goes_through_a_proxy(scheme: str, certificates: Certificates) -> None:
    async with (
        serving(says(http(400, "{}")), certificates.good if scheme == "https" else None) as server,
        serving(closes) as proxy,
    ):
        address = f"http://127.0.0.1:{proxy.port}"
        exchanger = Exchanger(
            ca_file=certificates.ca_file,
            transport=through({"https_proxy": address, "http_proxy": address, "all_proxy": address}),
        )
        exchange = await exchanged(exchanger, connection(login_url=at(server, scheme)), sign)
        await exchanger.aclose()

    assert isinstance(exchange.outcome, Refused)
    assert not proxy.visits


async def test_hosts_in_no_proxy_are_reached_without_one(certificates: Certificates) -> None:
    async with serving(closes) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        exchanger = Exchanger(
            limits=Limits(connect=timedelta(seconds=1)),
            ca_file=certificates.ca_file,
            allowed_hosts=ORG,
            transport=through({"https_proxy": address, "NO_PROXY": "other.test, org.test"}),
        )
        exchange = await exchanged(exchanger, connection(login_url="https://org.test"), sign)
        await exchanger.aclose()

    assert isinstance(exchange.outcome, Unreachable)
    assert not proxy.visits
