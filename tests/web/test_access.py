"""What stands before the web application: whose host, who, how often, and TLS that follows its files."""

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
import structlog
import uvicorn
from cryptography import x509
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.config import ConfigError
from monitor.config.web_file import Rate, WebConfig
from monitor.web.access import REFUSALS_LOGGED, REMEMBERED, known_hosts, protect
from monitor.web.rereading import TRY_AGAIN_SECONDS, Rereading
from tests.web.certificates import Issued, authority, for_loopback, signed
from tests.web.serving import Stage

PASSWORD = "correct horse: battery"
QUICK = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS = WebConfig(users=(("alice", QUICK),))


async def echo(request: Any) -> PlainTextResponse:
    return PlainTextResponse(
        f"{request.method} {request.url.path}", headers={"X-Frame-Options": "SAMEORIGIN"}
    )


APP = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "HEAD", "POST", "OPTIONS"])])


class Timer:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def asking(
    config: WebConfig | Callable[[], WebConfig] = USERS, timer: Timer | None = None, **different: Any
) -> httpx.AsyncClient:
    """A client of the protected application."""
    current = config if callable(config) else lambda: config
    app = protect(APP, config=current, monotonic=timer or Timer(), **different)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:9877")


OPEN = WebConfig()

# Host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9877",
        "LOCALHOST.",
        "monitor.localhost",
        "127.0.0.1:9877",
        "10.42.0.7:9877",
        "[::1]:9877",
        "[2001:db8::1]",
        "monitor.acme.example",
        "Monitor.Acme.Example.:443",
    ],
)
async def test_a_name_of_ours_and_any_address_is_answered(host: str) -> None:
    hosts = known_hosts("0.0.0.0", "https://monitor.acme.example/bearerwatch", (), lambda: "box")

    async with asking(OPEN, hosts=lambda: hosts) as client:
        answer = await client.get("/metrics", headers={"Host": host})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:9877", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("monitor.acme.example.evil.example", 421),
        ("notlocalhost", 421),
        ("", 400),
        ("localhost@evil.example", 400),
        ("evil.example/localhost", 400),
        ("localhost:x", 400),
        ("[::1", 400),
        ("local host", 400),
    ],
)
async def test_another_name_is_refused(host: str, status: int) -> None:
    async with asking(OPEN, hosts=lambda: frozenset({"monitor.acme.example"})) as client:
        answer = await client.get("/metrics", headers={"Host": host})

    assert answer.status_code == status
    if status == 421:
        assert "add it to web.hosts" in answer.text


def test_the_known_hosts_are_those_the_operator_names_and_the_machines_own() -> None:
    hosts = known_hosts("monitor.internal", "https://Status.Acme.example:8443", ("alias",), lambda: "box")

    assert hosts == {"monitor.internal", "status.acme.example", "alias", "box"}
    assert known_hosts("127.0.0.1", "", (), lambda: "localhost") == frozenset()


async def test_a_request_without_a_host_is_answered_and_with_two_refused() -> None:
    app = protect(APP, config=lambda: OPEN)

    async def status(headers: list[tuple[bytes, bytes]]) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
        await app(scope, receive, send)
        return int(sent[0]["status"])

    assert await status([]) == 200
    assert await status([(b"host", b"localhost"), (b"host", b"localhost")]) == 400


# Users


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/api/status", "/calendar.ics", "/static/style.css", "/-/reload", "/-/healthy/"]
)
async def test_without_a_login_there_is_nothing_but_the_question_for_one(path: str) -> None:
    async with asking() as client:
        answer = await client.get(path)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="bearerwatch"')
    assert path not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("bob", PASSWORD),
        basic("", PASSWORD),
        basic("alice", PASSWORD + "\0"),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"alice").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"Authorization": "Bearer " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()},
    ],
)
async def test_a_wrong_login_is_refused(headers: dict[str, str]) -> None:
    async with asking() as client:
        answer = await client.get("/metrics", headers=headers)

    assert answer.status_code == 401


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
async def test_the_right_login_opens_whatever_tool_made_the_hash(prefix: str) -> None:
    config = WebConfig(users=(("alice", QUICK.replace("$2b$", prefix)), ("bob", QUICK)))

    async with asking(config) as client:
        answer = await client.get("/metrics", headers=basic("alice", PASSWORD))

    assert answer.text == "GET /metrics"


async def test_a_password_longer_than_bcrypt_looks_at_is_cut_as_by_the_tool_that_hashed_it() -> None:
    long = "x" * 100
    hashed = bcrypt.hashpw(long[:72].encode(), bcrypt.gensalt(4)).decode()

    async with asking(WebConfig(users=(("alice", hashed),))) as client:
        answer = await client.get("/", headers=basic("alice", long))

    assert answer.status_code == 200


async def test_a_password_that_was_right_is_not_computed_again() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(11)).decode()
    loop = asyncio.get_running_loop()
    async with asking(WebConfig(users=(("alice", dear),))) as client:

        async def seconds(password: str) -> float:
            before = loop.time()
            await client.get("/", headers=basic("alice", password))
            return loop.time() - before

        first = await seconds(PASSWORD)
        again = min([await seconds(PASSWORD) for _ in range(5)])
        wrong = await seconds("wrong")

    assert again < first / 3
    assert wrong > again * 3


async def test_a_user_that_does_not_exist_costs_as_much_as_one_that_does() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(9)).decode()
    loop = asyncio.get_running_loop()
    async with asking(WebConfig(users=(("alice", dear),))) as client:

        async def seconds(user: str) -> float:
            before = loop.time()
            await client.get("/", headers=basic(user, "wrong"))
            return loop.time() - before

        known = min([await seconds("alice") for _ in range(4)])
        unknown = min([await seconds("nobody") for _ in range(4)])

    assert known / 4 < unknown < known * 4


async def test_the_loop_turns_while_a_password_is_computed() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asking(WebConfig(users=(("alice", dear),))) as client:
        counting = asyncio.create_task(count())
        answer = await client.get("/", headers=basic("alice", PASSWORD))
        counting.cancel()

    assert answer.status_code == 200
    assert turns > 100


async def test_a_flood_of_wrong_logins_is_turned_away_and_keeps_nobody_out_who_was_in() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    async with asking(WebConfig(users=(("alice", dear),))) as client:
        await client.get("/", headers=basic("alice", PASSWORD))

        flood = [client.get("/", headers=basic("alice", f"guess {number}")) for number in range(30)]
        *guesses, mine = await asyncio.gather(*flood, client.get("/", headers=basic("alice", PASSWORD)))

    assert mine.status_code == 200
    statuses = [answer.status_code for answer in guesses]
    assert set(statuses) == {401, 503}
    assert guesses[statuses.index(503)].headers["retry-after"] == "1"


async def test_a_user_who_is_removed_is_out_though_remembered() -> None:
    configs = [USERS]

    async with asking(lambda: configs[0]) as client:
        before = await client.get("/", headers=basic("alice", PASSWORD))
        configs[0] = WebConfig(users=(("bob", QUICK),))
        after = await client.get("/", headers=basic("alice", PASSWORD))

    assert (before.status_code, after.status_code) == (200, 401)


async def test_a_changed_password_shuts_the_old_one_out() -> None:
    configs = [USERS]
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()

    async with asking(lambda: configs[0]) as client:
        before = await client.get("/", headers=basic("alice", PASSWORD))
        configs[0] = WebConfig(users=(("alice", other),))
        after = await client.get("/", headers=basic("alice", PASSWORD))

    assert (before.status_code, after.status_code) == (200, 401)


async def test_what_is_remembered_is_bounded_and_holds_no_password() -> None:
    users = tuple((f"user{number}", QUICK) for number in range(REMEMBERED + 20))
    app = protect(APP, config=lambda: WebConfig(users=users), monotonic=(timer := Timer()))
    transport = httpx.ASGITransport(app=app)

    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for name, _ in users:
            timer.seconds += 1
            assert (await client.get("/", headers=basic(name, PASSWORD))).status_code == 200

    remembered = app._passwords._right  # type: ignore[attr-defined]
    assert len(remembered) == REMEMBERED
    assert not any(PASSWORD.encode() in each for each in remembered)


async def test_refused_logins_are_logged_a_few_and_never_with_what_may_be_a_password() -> None:
    with structlog.testing.capture_logs() as logs:
        async with asking() as client:
            for _ in range(15):
                await client.get("/-/reload", headers=basic("alice", "wrong-1"))
                await client.get("/-/reload", headers=basic("typed-into-the-wrong-field", "wrong-2"))

    assert len(logs) == 10
    assert {log["user"] for log in logs} == {"alice", None}
    assert "wrong" not in str(logs)


# Health


async def test_health_is_open_to_all_under_any_name_unless_the_operator_says_otherwise() -> None:
    config = WebConfig(users=USERS.users, rate=Rate(timedelta(hours=1), 1))

    async with asking(config) as client:
        opened = [
            (await client.get(path, headers={"Host": "any.example"})).status_code
            for path in ("/-/healthy", "/-/ready", "/-/healthy")
        ]
    async with asking(config, open_health=False) as client:
        shut = (await client.get("/-/healthy")).status_code

    assert opened == [200, 200, 200]
    assert shut == 401


# Headers


async def test_headers_of_the_file_stand_on_every_answer_in_place_of_ours() -> None:
    config = WebConfig(users=USERS.users, headers=(("X-Frame-Options", "deny"), ("X-XSS-Protection", "0")))

    async with asking(config) as client:
        answers = [
            await client.get("/", headers=basic("alice", PASSWORD)),
            await client.get("/"),
            await client.get("/-/healthy"),
            await client.get("/", headers={"Host": "evil.example"}),
        ]

    for answer in answers:
        assert answer.headers.get_list("x-frame-options") == ["deny"]
        assert answer.headers["x-xss-protection"] == "0"


# Other sites


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:9877", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://monitor.acme.example"}, 200),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_another_sites_page_changes_nothing(headers: dict[str, str], status: int) -> None:
    async with asking(OPEN, hosts=lambda: frozenset({"monitor.acme.example"})) as client:
        answer = await client.post("/-/reload", headers=headers)
        read = await client.get("/", headers=headers)

    assert answer.status_code == status
    assert read.status_code == 200


def test_no_path_of_the_application_changes_something_on_a_get(stage: Stage) -> None:
    async def reload() -> str | None:
        return None

    changing = {"/-/reload"}
    for route in stage.app(reload).routes:
        assert isinstance(route, Route)
        assert route.methods == ({"POST"} if route.path in changing else {"GET", "HEAD"}), route.path


# Rates


async def test_the_operators_rate_holds_for_all_and_recovers() -> None:
    timer = Timer()
    config = WebConfig(rate=Rate(timedelta(seconds=2), 3))

    async with asking(config, timer) as client:
        first = [(await client.get("/static/x")).status_code for _ in range(4)]
        refused = await client.get("/static/x")
        timer.seconds += 2
        then = [(await client.get("/static/x")).status_code for _ in range(2)]

    assert first == [200, 200, 200, 429]
    assert refused.headers["retry-after"] == "2"
    assert then == [200, 429]


async def test_a_changed_rate_holds_at_once() -> None:
    configs = [WebConfig(rate=Rate(timedelta(hours=1), 1))]

    async with asking(lambda: configs[0]) as client:
        before = [(await client.get("/static/x")).status_code for _ in range(2)]
        configs[0] = OPEN
        after = [(await client.get("/static/x")).status_code for _ in range(5)]

    assert before == [200, 429]
    assert set(after) == {200}


async def test_what_is_dear_has_limits_of_its_own_and_pages_do_not_starve_a_scrape() -> None:
    timer = Timer()

    async with asking(OPEN, timer) as client:
        pages = [(await client.get("/api/status")).status_code for _ in range(101)]
        connection = (await client.get("/connections/acme")).status_code
        cheap = (await client.get("/static/style.css")).status_code
        scrapes = [(await client.get("/metrics")).status_code for _ in range(21)]
        timer.seconds += 60
        later = (await client.get("/")).status_code

    assert pages == [200] * 100 + [429]
    assert connection == 429
    assert cheap == 200
    assert scrapes == [200] * 20 + [429]
    assert later == 200


async def test_who_may_not_come_in_uses_up_nothing_of_what_is_dear() -> None:
    async with asking() as client:
        for _ in range(200):
            await client.get("/metrics")
        answer = await client.get("/metrics", headers=basic("alice", PASSWORD))

    assert answer.status_code == 200


async def test_a_web_socket_is_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await protect(APP)({"type": "websocket", "path": "/", "headers": []}, receive, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]


# Files that change


def write_config(directory: Path, text: str) -> Path:
    path = directory / "web.yml"
    new = directory / "web.new"
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return path


TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"


def test_a_file_that_cannot_be_used_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Rereading(write_config(tmp_path, "unknown: 1\n"))


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    file = Rereading(write_config(tmp_path, ""))
    before = file.now()
    same = file.now()

    write_config(tmp_path, f"basic_auth_users:\n  alice: {QUICK}\n")

    assert before is same
    assert before.users == ()
    assert dict(file.now().users) == {"alice": QUICK}


@pytest.mark.parametrize("text", ["unknown: 1\n", None], ids=["broken", "removed"])
def test_what_cannot_be_used_changes_nothing_and_is_said_once(tmp_path: Path, text: str | None) -> None:
    timer = Timer()
    path = write_config(tmp_path, f"basic_auth_users:\n  alice: {QUICK}\n")
    file = Rereading(path, monotonic=timer)

    with structlog.testing.capture_logs() as logs:
        if text is None:
            path.unlink()
        else:
            write_config(tmp_path, text)
        for _ in range(3):
            assert dict(file.now().users) == {"alice": QUICK}
            timer.seconds += TRY_AGAIN_SECONDS

    assert file.problem is not None
    assert [log["event"] for log in logs] == ["web_config_refused"]

    write_config(tmp_path, "")

    assert file.now().users == ()
    assert file.problem is None


def test_a_certificate_that_comes_after_the_file_that_names_it_is_found(tmp_path: Path) -> None:
    timer = Timer()
    for_loopback(authority()).write(tmp_path, "server")
    file = Rereading(write_config(tmp_path, TLS), monotonic=timer)
    first = file.now().tls

    write_config(tmp_path, TLS.replace("server.", "next."))
    refused = file.now().tls
    for_loopback(authority()).write(tmp_path, "next")
    timer.seconds += TRY_AGAIN_SECONDS
    accepted = file.now().tls

    assert refused is first
    assert accepted is not first
    assert file.problem is None


def test_tls_neither_comes_nor_goes_without_a_restart(tmp_path: Path) -> None:
    for_loopback(authority()).write(tmp_path, "server")
    file = Rereading(write_config(tmp_path, TLS))

    write_config(tmp_path, "")

    assert file.now().tls is not None
    assert file.problem is not None
    assert "takes a restart" in file.problem


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """The address of the application behind uvicorn, on a free port of loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            ssl_context_factory=(lambda _config, _default: context) if context else None,
        )
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/metrics"
    finally:
        server.should_exit = True
        await running
        listener.close()


async def ask(url: str, trusting: Issued, own: tuple[Path, Path] | None = None) -> int:
    context = ssl.create_default_context(cadata=trusting.pem.decode())
    if own:
        context.load_cert_chain(*own)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return (await client.get(url)).status_code


async def test_a_new_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    first, second = authority("first"), authority("second")
    for_loopback(first).write(tmp_path, "server")
    file = Rereading(write_config(tmp_path, TLS))

    async with serving(protect(APP, config=file.now), file.context()) as url:
        before = await ask(url, first)
        for_loopback(second).write(tmp_path, "server")
        after = await ask(url, second)
        with pytest.raises(httpx.ConnectError):
            await ask(url, first)

    assert (before, after) == (200, 200)


async def test_a_certificate_without_its_key_leaves_the_pair_before_it_in_use(tmp_path: Path) -> None:
    by = authority()
    for_loopback(by).write(tmp_path, "server")
    file = Rereading(write_config(tmp_path, TLS))

    async with serving(protect(APP, config=file.now), file.context()) as url:
        next_one = for_loopback(by)
        (tmp_path / "server.crt").write_bytes(next_one.pem)
        between = await ask(url, by)
        problem = file.problem
        (tmp_path / "server.key").write_bytes(next_one.key_pem())
        after = await ask(url, by)

    assert (between, after) == (200, 200)
    assert problem is not None
    assert "does not belong" in problem
    assert file.problem is None


async def test_a_swapped_link_is_noticed_as_kubernetes_does_it(tmp_path: Path) -> None:
    first, second = authority("first"), authority("second")
    for number, by in enumerate((first, second)):
        (tmp_path / f"..{number}").mkdir()
        for_loopback(by).write(tmp_path / f"..{number}", "server")
    data = tmp_path / "..data"
    data.symlink_to("..0")
    for name in ("server.crt", "server.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    file = Rereading(write_config(tmp_path, TLS))

    async with serving(protect(APP, config=file.now), file.context()) as url:
        before = await ask(url, first)
        (tmp_path / "..new").symlink_to("..1")
        os.replace(tmp_path / "..new", data)  # noqa: PTH105 - of links
        after = await ask(url, second)

    assert (before, after) == (200, 200)


async def test_only_clients_with_an_allowed_name_are_let_in_and_the_list_may_change(tmp_path: Path) -> None:
    by = authority()
    for_loopback(by).write(tmp_path, "server")
    by.write(tmp_path, "ca")
    prometheus = signed(by, x509.DNSName("prometheus")).write(tmp_path, "prometheus")
    other = signed(by, x509.DNSName("other")).write(tmp_path, "other")
    text = (
        f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
        "  client_allowed_sans: [prometheus]\n"
    )
    file = Rereading(write_config(tmp_path, text))

    async with serving(protect(APP, config=file.now), file.context()) as url:
        allowed = await ask(url, by, prometheus)
        for refused in (other, None):
            with pytest.raises(httpx.TransportError):
                await ask(url, by, refused)
        write_config(tmp_path, text.replace("[prometheus]", "[other]"))
        now_allowed = await ask(url, by, other)
        with pytest.raises(httpx.TransportError):
            await ask(url, by, prometheus)

    assert (allowed, now_allowed) == (200, 200)


async def test_the_log_says_a_few_times_why_a_client_was_turned_away_for_its_certificate(
    tmp_path: Path,
) -> None:
    by = authority()
    for_loopback(by).write(tmp_path, "server")
    by.write(tmp_path, "ca")
    other = signed(by, x509.DNSName("other")).write(tmp_path, "other")
    stranger = signed(authority("another"), x509.DNSName("prometheus")).write(tmp_path, "stranger")
    text = (
        f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
        "  client_allowed_sans: [prometheus]\n"
    )
    file = Rereading(write_config(tmp_path, text))

    with structlog.testing.capture_logs() as logs:
        async with serving(protect(APP, config=file.now), file.context()) as url:
            for refused in (other, stranger, *[None] * REFUSALS_LOGGED):
                with pytest.raises(httpx.TransportError):
                    await ask(url, by, refused)

    assert [log["reason"] for log in logs[:3]] == [
        'the client\'s certificate holds none of client_allowed_sans, but "other"',
        "the client's certificate is refused: unable to get local issuer certificate",
        "the client shows no certificate",
    ]
    assert len(logs) == REFUSALS_LOGGED


async def test_a_lifespan_goes_through() -> None:
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Any:
        raise AssertionError

    async def send(_message: Any) -> None:
        raise AssertionError

    await protect(app)({"type": "lifespan"}, receive, send)

    assert seen == ["lifespan"]
