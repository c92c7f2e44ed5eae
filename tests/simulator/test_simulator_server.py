"""The simulator over a real socket: control API, clock, faults of the network, TLS, chunked bodies."""

import asyncio
import http.client
import itertools
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from monitor.simulator.server import Simulator, Tls, create_app, running, serve
from tests.making import NOW
from tests.salesforce.wire import make_certificates
from tests.simulator.asking import CONSUMER_KEY, FORM, USERNAME, Pair, form, signed

SLOW_SECONDS = 0.3
PATIENT, IMPATIENT = 20.0, 0.5
"""Seconds: IMPATIENT is for what never comes."""

_numbers = itertools.count()


class Time:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running(Simulator(lambda: NOW, slow_seconds=SLOW_SECONDS)) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=PATIENT) as made:
        yield made


@pytest.fixture
def org(client: httpx.Client, pair: Pair) -> str:
    """The name of an org that grants."""
    name = f"org-{next(_numbers)}"
    made = client.put(f"/_orgs/{name}", json=right(pair))
    assert made.status_code == 201, made.text
    return name


def right(pair: Pair, **different: Any) -> dict[str, Any]:
    return {"consumer_key": CONSUMER_KEY, "username": USERNAME, "certificate": pair.certificate} | different


def log_in(client: httpx.Client, org: str, pair: Pair, **different: Any) -> httpx.Response:
    audience = f"{client.base_url}".rstrip("/") + f"/{org}"
    body = form(signed(pair, **({"aud": audience} | different)))
    headers = {"Content-Type": FORM}
    return client.post(f"/{org}/services/oauth2/token", content=body, headers=headers)


# Orgs and their control


def test_an_org_is_served_at_its_own_path(client: httpx.Client, org: str, pair: Pair) -> None:
    answer = log_in(client, org, pair)

    assert answer.status_code == 200
    assert answer.json()["instance_url"] == f"{client.base_url}".rstrip("/") + f"/{org}"
    assert [name for name, _ in answer.headers.raw] == [
        b"Date",
        b"Strict-Transport-Security",
        b"Cache-Control",
        b"Set-Cookie",
        b"Content-Type",
        b"Content-Length",
    ]


def test_an_org_is_also_served_at_its_my_domain_host(client: httpx.Client, org: str, pair: Pair) -> None:
    client.put("/_orgs/host--dev.sandbox", json=right(pair, org_type="sandbox"))
    host = "host--dev.sandbox.my.salesforce.com"

    answer = client.post(
        "/services/oauth2/token",
        content=form(signed(pair, aud=f"https://{host}")),
        headers={"Host": host, "Content-Type": FORM},
    )

    assert answer.json()["instance_url"] == f"http://{host}"


def test_an_org_can_be_created_read_changed_replaced_and_deleted(client: httpx.Client, pair: Pair) -> None:
    path = "/_orgs/acme-1"

    made = client.put(path, json=right(pair, user_active=False))
    changed = client.patch(path, json={"api_enabled": False})
    seen = client.get(path)
    replaced = client.put(path, json=right(pair))
    listed = client.get("/_orgs")
    removed = client.delete(path)

    assert (made.status_code, made.json()["user_active"]) == (201, False)
    assert changed.json()["api_enabled"] is False
    assert seen.json() == changed.json()
    assert (replaced.status_code, replaced.json()["user_active"]) == (200, True)
    assert listed.json()["acme-1"] == replaced.json()
    assert removed.status_code == 204
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "problem"),
    [
        ("PUT", "/_orgs/x", b'{"falt": 1}', 400, "falt: there is no such setting, did you mean fault?"),
        ("PUT", "/_orgs/x", b"[]", 400, "the body: must be a JSON object"),
        ("PUT", "/_orgs/x", b"{", 400, "the body: must be JSON"),
        ("PUT", "/_orgs/x", b"[" * 100_000, 400, "the body: must be JSON"),
        ("PUT", "/_orgs/x", b'{"username": "\xff"}', 400, "the body: must be JSON"),
        (
            "PUT",
            "/_orgs/_x",
            b"{}",
            400,
            "the name: must be letters, digits, dots, dashes and underscores",
        ),
        ("PATCH", "/_orgs/nobody", b"{}", 404, "there is no org 'nobody'"),
        ("GET", "/_orgs/nobody", b"", 404, "there is no org 'nobody'"),
        ("DELETE", "/_orgs/nobody", b"", 404, "there is no org 'nobody'"),
        ("GET", "/_orgs/nobody/logins", b"", 404, "there is no org 'nobody'"),
        ("POST", "/_orgs/nobody/refresh", b"{}", 404, "there is no org 'nobody'"),
        ("POST", "/_clock", b"{}", 400, "advance_seconds: must be the only key, and a number"),
        (
            "POST",
            "/_clock",
            b'{"advance_seconds": true}',
            400,
            "advance_seconds: must be the only key, and a number",
        ),
        (
            "POST",
            "/_clock",
            b'{"advance_seconds": -1}',
            400,
            "advance_seconds: must be a number of seconds from 0 to 3153600000",
        ),
    ],
)
def test_the_control_api_reports_all_problems(
    client: httpx.Client, method: str, path: str, body: bytes, status: int, problem: str
) -> None:
    answer = client.request(method, path, content=body)

    assert (answer.status_code, answer.json()) == (status, {"problems": [problem]})


def test_an_org_that_was_never_created_is_not_found(client: httpx.Client) -> None:
    answer = client.post("/nobody/services/oauth2/token")

    assert (answer.status_code, answer.text) == (404, "there is no org 'nobody' in this simulator\n")


def test_the_login_history_can_be_read(client: httpx.Client, org: str, pair: Pair) -> None:
    log_in(client, org, pair)
    log_in(client, org, pair, sub="nobody@acme.com")

    assert client.get(f"/_orgs/{org}/logins").json() == [
        {"time": "2026-11-23T12:00:00.000Z", "username": USERNAME, "status": "Success"},
        {
            "time": "2026-11-23T12:00:00.000Z",
            "username": "nobody@acme.com",
            "status": "Failed: Username Unknown",
        },
    ]


def test_a_sandbox_can_be_refreshed(client: httpx.Client, org: str, pair: Pair) -> None:
    values = {"username_suffix": "dev", "loses": []}

    settings = client.post(f"/_orgs/{org}/refresh", json=values).json()

    assert settings["username"] == f"{USERNAME}.dev"
    assert log_in(client, org, pair).json()["error_description"] == "invalid user"


def test_a_request_that_is_far_too_large_is_refused(client: httpx.Client, org: str) -> None:
    assert client.post(f"/{org}/services/oauth2/token", content=b"x" * 300_000).status_code == 413


# Time


@pytest.mark.parametrize("path", ["/acme/services/oauth2/token", "/_orgs/acme"])
def test_a_client_that_leaves_during_its_request_is_no_error_of_the_server(
    pair: Pair, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(Simulator(lambda: NOW)) as url, httpx.Client(base_url=url, timeout=PATIENT) as client:
        client.put("/_orgs/acme", json=right(pair))
        with socket.create_connection((client.base_url.host, client.base_url.port)) as leaving:
            leaving.sendall(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n".encode())
            time.sleep(SLOW_SECONDS)
        time.sleep(SLOW_SECONDS)
        assert log_in(client, "acme", pair).status_code == 200

    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_the_orgs_clock_can_be_advanced(pair: Pair) -> None:
    with running(Simulator(lambda: NOW)) as url, httpx.Client(base_url=url) as client:
        client.put(
            "/_orgs/acme",
            json=right(pair, refresh_token_policy="lifetime", refresh_token_validity_seconds=86_400),
        )

        advanced = client.post("/_clock", json={"advance_seconds": 86_400})
        answer = log_in(client, "acme", pair, exp=int(NOW.timestamp()) + 86_500)

    assert advanced.json() == {"now": "2026-11-24T12:00:00.000Z"}
    assert answer.headers["Date"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert answer.json()["error_description"] == "user hasn't approved this consumer"


def test_the_orgs_clock_can_run_faster() -> None:
    clock = Time()
    simulator = Simulator(clock, speed=86_400)

    clock.now += timedelta(seconds=2)
    simulator.advance(3600)

    assert simulator.now() == NOW + timedelta(days=2, hours=1)


def test_an_org_can_have_a_clock_offset(client: httpx.Client, org: str, pair: Pair) -> None:
    client.patch(f"/_orgs/{org}", json={"clock_offset_seconds": 600})

    answer = log_in(client, org, pair)

    assert answer.headers["Date"] == "Mon, 23 Nov 2026 12:10:00 GMT"
    assert answer.json()["error_description"] == "expired authorization code"


def test_time_can_not_be_advanced_beyond_a_hundred_years() -> None:
    simulator = Simulator(lambda: NOW)
    simulator.advance(3_000_000_000)

    with pytest.raises(ValueError, match="from 0 to 153600000"):
        simulator.advance(200_000_000)


# Faults


def fails(client: httpx.Client, org: str, pair: Pair, fault: str) -> httpx.Response:
    timeout = IMPATIENT if fault == "hang" else PATIENT
    client.patch(f"/_orgs/{org}", json={"fault": fault})
    # A separate connection, as for an exchange.
    with httpx.Client(base_url=client.base_url, timeout=timeout) as fresh:
        return log_in(fresh, org, pair)


def test_slow_spreads_the_whole_answer_over_some_time(client: httpx.Client, org: str, pair: Pair) -> None:
    began = time.monotonic()

    answer = fails(client, org, pair, "slow")

    assert answer.json()["token_type"] == "Bearer"
    assert time.monotonic() - began > SLOW_SECONDS * 0.8


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("reset", httpx.ReadError, "reset by peer"),
        ("truncate", httpx.RemoteProtocolError, "without sending complete message body"),
        ("garbage", httpx.RemoteProtocolError, "illegal status line"),
        ("hang", httpx.ReadTimeout, "timed out"),
    ],
)
def test_a_network_fault_breaks_the_answer(
    client: httpx.Client, org: str, pair: Pair, fault: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        fails(client, org, pair, fault)


def test_a_truncated_answer_counts_as_login_and_a_reset_does_not(
    client: httpx.Client, org: str, pair: Pair
) -> None:
    for fault in ("truncate", "reset"):
        with pytest.raises(httpx.HTTPError):
            fails(client, org, pair, fault)

    assert len(client.get(f"/_orgs/{org}/logins").json()) == 1


def test_the_fault_huge_sends_more_than_any_limit_and_stops_with_the_client(
    client: httpx.Client, org: str, pair: Pair
) -> None:
    client.patch(f"/_orgs/{org}", json={"fault": "huge"})
    read = 0

    with client.stream("POST", f"/{org}/services/oauth2/token") as answer:
        for piece in answer.iter_raw():
            read += len(piece)
            if read > 1_000_000:
                break

    assert read > 1_000_000
    assert client.patch(f"/_orgs/{org}", json={"fault": None}).status_code == 200


@pytest.mark.parametrize(("fault", "status"), [("error_500", 500), ("retry_your_request", 400)])
def test_a_fault_of_the_server_is_an_answer(
    client: httpx.Client, org: str, pair: Pair, fault: str, status: int
) -> None:
    assert fails(client, org, pair, fault).status_code == status


def test_a_faulty_org_does_not_affect_others_and_can_recover(
    client: httpx.Client, org: str, pair: Pair
) -> None:
    client.put("/_orgs/neighbour", json=right(pair))
    with pytest.raises(httpx.ReadTimeout):
        fails(client, org, pair, "hang")

    assert log_in(client, "neighbour", pair).status_code == 200
    client.patch(f"/_orgs/{org}", json={"fault": None})
    assert log_in(client, org, pair).status_code == 200


def test_a_server_stops_although_an_answer_hangs(pair: Pair) -> None:
    simulator = Simulator(lambda: NOW)
    simulator.put("acme", right(pair, fault="hang"))

    with running(simulator) as url, httpx.Client(base_url=url, timeout=IMPATIENT) as client:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as waiting:
            waiting.sendall(b"GET /acme/services/data/ HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(httpx.ReadTimeout):
                log_in(client, "acme", pair)
    # Leaving the block is the test: it returns only when the server has stopped.


async def test_orgs_can_be_called_without_a_socket(pair: Pair) -> None:
    simulator = Simulator(lambda: NOW)
    simulator.put("acme", right(pair))
    transport = httpx.ASGITransport(app=cast("Any", create_app(simulator)))

    async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
        answer = await client.post(
            "/acme/services/oauth2/token",
            content=form(signed(pair, aud="http://simulator/acme")),
            headers={"Content-Type": FORM},
        )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Host": "rebound.example"},
        {"Host": "127.0.0.1.rebound.example"},
    ],
    ids=str,
)
def test_a_web_page_can_neither_read_the_orgs_nor_move_the_clock(
    client: httpx.Client, org: str, header: dict[str, str]
) -> None:
    before = client.get("/_clock").json()

    answers = [
        client.post("/_clock", content='{"advance_seconds": 86400}', headers=header),
        client.delete(f"/_orgs/{org}", headers=header),
        client.get("/_orgs", headers=header),
    ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert client.get("/_clock").json() == before
    assert client.get(f"/_orgs/{org}").status_code == 200


@pytest.mark.parametrize("host", ["localhost:1234", "[::1]", "acme.my.salesforce.com"])
def test_the_control_api_accepts_names_of_this_machine(client: httpx.Client, host: str) -> None:
    assert client.get("/_clock", headers={"Host": host}).status_code == 200


# The wire


def chunked(pieces: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(pieces), size):
        yield pieces[at : at + size]


def test_a_chunked_body_is_read_completely(client: httpx.Client, server: str, org: str, pair: Pair) -> None:
    body = form(signed(pair, aud=f"{server}/{org}"))

    answer = client.post(
        f"/{org}/services/oauth2/token", content=chunked(body, 7), headers={"Content-Type": FORM}
    )

    assert answer.request.headers["Transfer-Encoding"] == "chunked"
    assert answer.status_code == 200


def test_many_requests_may_share_a_connection(server: str, client: httpx.Client, org: str) -> None:
    connection = http.client.HTTPConnection(server.removeprefix("http://"))
    statuses = []
    for _ in range(5):
        connection.request("GET", f"/{org}/services/data/")
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()

    assert statuses == [200] * 5


@contextmanager
def tls_server(directory: Path, pair: Pair) -> Iterator[tuple[str, ssl.SSLContext]]:
    certificates = make_certificates(directory)
    both = Tls(directory / "good.crt", directory / "good.key")
    simulator = Simulator(lambda: NOW)
    simulator.put("acme", right(pair))
    with running(simulator, tls=both) as url:
        yield url, ssl.create_default_context(cafile=str(certificates.ca_file))


def test_orgs_can_be_served_over_tls(tmp_path: Path, pair: Pair) -> None:
    with (
        tls_server(tmp_path, pair) as (url, trust),
        httpx.Client(base_url=url, verify=trust) as client,
    ):
        answer = log_in(client, "acme", pair)

    assert url.startswith("https://127.0.0.1:")
    assert answer.json()["instance_url"] == f"{url}/acme"


@pytest.mark.parametrize("fault", ["reset", "truncate", "garbage"])
def test_faults_of_the_network_work_over_tls_too(tmp_path: Path, pair: Pair, fault: str) -> None:
    with (
        tls_server(tmp_path, pair) as (url, trust),
        httpx.Client(base_url=url, verify=trust) as client,
    ):
        client.patch("/_orgs/acme", json={"fault": fault})
        with pytest.raises(httpx.TransportError):
            log_in(client, "acme", pair)


async def test_an_address_in_use_is_an_error_at_once(server: str) -> None:
    port = int(server.rsplit(":", 1)[1])

    with pytest.raises(OSError, match="in use"):
        await serve(Simulator(lambda: NOW), port=port)


async def test_cancelling_the_server_leaves_nothing_behind() -> None:
    addresses: asyncio.Queue[str] = asyncio.Queue()
    serving = asyncio.create_task(serve(Simulator(), port=0, ready=addresses.put_nowait))
    url = await addresses.get()
    async with httpx.AsyncClient(base_url=url, timeout=PATIENT) as client:
        assert (await client.get("/_orgs")).status_code == 200

        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

        with pytest.raises(httpx.ConnectError):
            await client.get("/_orgs")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_cleanly(sent: signal.Signals) -> None:
    program = """
import asyncio
from functools import partial
from monitor.simulator.server import Simulator, serve
asyncio.run(serve(Simulator(), port=0, ready=partial(print, flush=True)))
print("ended")
"""
    command = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/_orgs", timeout=PATIENT).json() == {}
        process.send_signal(sent)
        said, _ = process.communicate(timeout=PATIENT)

    assert (process.returncode, said) == (0, "ended\n")


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_a_simulator_open_to_others_prints_a_warning(host: str, warns: bool) -> None:
    command = [sys.executable, "-m", "monitor", "simulate", "--host", host, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.terminate()

    assert first.startswith(
        "Warning: anyone who can reach 0.0.0.0" if warns else "The simulator is at http://"
    )


def test_connections_that_point_elsewhere_are_named(tmp_path: Path) -> None:
    config = tmp_path / "bearerwatch.yaml"
    config.write_text(
        "connections: [{name: real, subdomain: acme, consumer_key: 3MVG9_acme, username: a@b.c,"
        " private_key: {file: a.pem}}]\n"
    )
    command = [sys.executable, "-m", "monitor", "simulate", "--config", str(config), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.terminate()

    assert first == "No org for real: login_url is not http://127.0.0.1:0/NAME.\n"


def test_thousands_of_orgs_live_in_one_process(pair: Pair) -> None:
    simulator = Simulator(lambda: NOW)
    for number in range(3000):
        simulator.put(f"org-{number}", right(pair))

    with running(simulator) as url, httpx.Client(base_url=url) as client:
        answers = {log_in(client, f"org-{number}", pair).status_code for number in range(0, 3000, 100)}

    assert answers == {200}
