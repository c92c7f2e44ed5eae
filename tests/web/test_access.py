"""Access control in front of the web application: host, login, rate limits."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import bcrypt
import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.web.access import CLIENTS_REMEMBERED, REMEMBERED, Protection, known_hosts
from tests.web.serving import Stage

PASSWORD = "correct horse: battery"
QUICK = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS = {"alice": QUICK}


async def echo(request: Any) -> PlainTextResponse:
    return PlainTextResponse(
        f"{request.method} {request.url.path}", headers={"X-Frame-Options": "SAMEORIGIN"}
    )


APP = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "HEAD", "POST", "OPTIONS"])])


class Timer:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def asking(
    users: dict[str, str] | Callable[[], dict[str, str]] = USERS,
    timer: Timer | None = None,
    **different: Any,
) -> httpx.AsyncClient:
    """A client of the protected application."""
    current = users if callable(users) else lambda: users
    return client_of(Protection(APP, users=current, monotonic=timer or Timer(), **different), "10.0.0.1")


def client_of(app: ASGIApp, address: str) -> httpx.AsyncClient:
    """A client at this address."""
    transport = httpx.ASGITransport(app=app, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9877")


OPEN: dict[str, str] = {}

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
async def test_known_host_names_and_any_ip_address_are_answered(host: str) -> None:
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
async def test_an_unknown_host_name_is_refused(host: str, status: int) -> None:
    async with asking(OPEN, hosts=lambda: frozenset({"monitor.acme.example"})) as client:
        answer = await client.get("/metrics", headers={"Host": host})

    assert answer.status_code == status
    if status == 421:
        assert "add it to web.hosts" in answer.text


def test_the_known_hosts_are_those_the_operator_names_and_the_machines_own() -> None:
    hosts = known_hosts("monitor.internal", "https://Status.Acme.example:8443", ("alias",), lambda: "box")

    assert hosts == {"monitor.internal", "status.acme.example", "alias", "box"}
    assert known_hosts("127.0.0.1", "", (), lambda: "localhost") == frozenset()


async def test_a_request_without_a_host_is_answered_and_one_with_two_hosts_or_lengths_refused() -> None:
    app = Protection(APP)

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
    assert await status([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]) == 400


# Users


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/api/status", "/calendar.ics", "/static/style.css", "/-/reload", "/-/healthy/"]
)
async def test_without_a_login_every_page_only_requests_one(path: str) -> None:
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
async def test_the_right_password_works_with_hashes_of_any_tool(prefix: str) -> None:
    users = {"alice": QUICK.replace("$2b$", prefix), "bob": QUICK}

    async with asking(users) as client:
        answer = await client.get("/metrics", headers=basic("alice", PASSWORD))

    assert answer.text == "GET /metrics"


async def test_a_password_beyond_bcrypts_limit_is_truncated() -> None:
    long = "x" * 100
    hashed = bcrypt.hashpw(long[:72].encode(), bcrypt.gensalt(4)).decode()

    async with asking({"alice": hashed}) as client:
        answer = await client.get("/", headers=basic("alice", long))

    assert answer.status_code == 200


async def test_a_correct_password_is_cached() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(11)).decode()
    loop = asyncio.get_running_loop()
    async with asking({"alice": dear}) as client:

        async def seconds(password: str) -> float:
            before = loop.time()
            await client.get("/", headers=basic("alice", password))
            return loop.time() - before

        first = await seconds(PASSWORD)
        again = min([await seconds(PASSWORD) for _ in range(5)])
        wrong = await seconds("wrong")

    assert again < first / 3
    assert wrong > again * 3


async def test_unknown_users_take_as_long_as_known_ones() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(9)).decode()
    loop = asyncio.get_running_loop()
    async with asking({"alice": dear}) as client:

        async def seconds(user: str) -> float:
            before = loop.time()
            await client.get("/", headers=basic(user, "wrong"))
            return loop.time() - before

        known = min([await seconds("alice") for _ in range(4)])
        unknown = min([await seconds("nobody") for _ in range(4)])

    assert known / 4 < unknown < known * 4


async def test_computing_a_password_hash_does_not_block_the_loop() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asking({"alice": dear}) as client:
        counting = asyncio.create_task(count())
        answer = await client.get("/", headers=basic("alice", PASSWORD))
        counting.cancel()

    assert answer.status_code == 200
    assert turns > 100


async def test_a_flood_of_wrong_logins_is_rejected_and_locks_out_no_logged_in_user() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    async with asking({"alice": dear}) as client:
        await client.get("/", headers=basic("alice", PASSWORD))

        flood = [client.get("/", headers=basic("alice", f"guess {number}")) for number in range(30)]
        *guesses, mine = await asyncio.gather(*flood, client.get("/", headers=basic("alice", PASSWORD)))

    assert mine.status_code == 200
    statuses = [answer.status_code for answer in guesses]
    assert set(statuses) == {401, 503}
    assert guesses[statuses.index(503)].headers["retry-after"] == "1"


async def test_a_flood_of_wrong_logins_from_one_address_does_not_block_others() -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    app = Protection(APP, users=lambda: {"alice": dear})

    async with client_of(app, "10.0.0.66") as guessing, client_of(app, "10.0.0.1") as alice:
        flood = [guessing.get("/", headers=basic("alice", f"guess {number}")) for number in range(30)]
        *guesses, mine = await asyncio.gather(*flood, alice.get("/", headers=basic("alice", PASSWORD)))

    assert {answer.status_code for answer in guesses} == {401, 503}
    assert mine.status_code == 200


@pytest.mark.parametrize(
    "changed", [{"bob": QUICK}, {"alice": bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()}]
)
async def test_a_removed_user_or_an_old_password_is_locked_out_despite_the_cache(
    changed: dict[str, str],
) -> None:
    users = [USERS]

    async with asking(lambda: users[0]) as client:
        before = await client.get("/", headers=basic("alice", PASSWORD))
        users[0] = changed
        after = await client.get("/", headers=basic("alice", PASSWORD))

    assert (before.status_code, after.status_code) == (200, 401)


async def test_the_password_cache_is_bounded_and_holds_no_password() -> None:
    users = {f"user{number}": QUICK for number in range(REMEMBERED + 20)}
    app = Protection(APP, users=lambda: users, monotonic=(timer := Timer()))

    async with client_of(app, "10.0.0.1") as client:
        for name in users:
            timer.seconds += 1
            assert (await client.get("/", headers=basic(name, PASSWORD))).status_code == 200

    remembered = app._passwords._right
    assert len(remembered) == REMEMBERED
    assert not any(PASSWORD.encode() in each for each in remembered)


async def test_refused_logins_are_logged_at_a_limited_rate_and_without_passwords() -> None:
    with structlog.testing.capture_logs() as logs:
        async with asking() as client:
            for _ in range(15):
                await client.get("/-/reload", headers=basic("alice", "wrong-1"))
                await client.get("/-/reload", headers=basic("typed-into-the-wrong-field", "wrong-2"))

    assert len(logs) == 10
    assert {log["user"] for log in logs} == {"alice", None}
    assert "wrong" not in str(logs)


# Health


async def test_health_is_open_to_all_unless_configured_otherwise() -> None:
    async with asking() as client:
        opened = [
            (await client.get(path, headers={"Host": "any.example"})).status_code
            for path in ("/-/healthy", "/-/ready", "/-/healthy")
        ]
    async with asking(open_health=False) as client:
        shut = (await client.get("/-/healthy")).status_code

    assert opened == [200, 200, 200]
    assert shut == 401


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
async def test_requests_from_another_site_change_nothing(headers: dict[str, str], status: int) -> None:
    async with asking(OPEN, hosts=lambda: frozenset({"monitor.acme.example"})) as client:
        answer = await client.post("/-/reload", headers=headers)
        read = await client.get("/", headers=headers)

    assert answer.status_code == status
    assert read.status_code == 200


def test_no_get_request_changes_anything(stage: Stage) -> None:
    async def reload() -> str | None:
        return None

    changing = {
        "/-/reload",
        "/api/checks",
        "/api/connections/{name}/check",
        "/connections/{name}/check",
    }
    for route in stage.app(reload).routes:
        if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            continue  # which answers GET and HEAD alone
        assert isinstance(route, Route)
        assert route.methods == ({"POST"} if route.path in changing else {"GET", "HEAD"}), route.path


# Rates


async def test_pages_and_metrics_have_separate_rate_limits_that_recover() -> None:
    timer = Timer()

    async with asking(OPEN, timer) as client:
        pages = [(await client.get("/api/status")).status_code for _ in range(101)]
        connection = (await client.get("/connections/acme")).status_code
        cheap = (await client.get("/static/style.css")).status_code
        scrapes = [await client.get("/metrics") for _ in range(21)]
        timer.seconds += 60
        later = (await client.get("/")).status_code

    assert pages == [200] * 100 + [429]
    assert connection == 429
    assert cheap == 200
    assert [answer.status_code for answer in scrapes] == [200] * 20 + [429]
    assert scrapes[-1].headers["retry-after"] == "1"
    assert later == 200


async def test_a_client_over_its_limit_does_not_affect_others() -> None:
    app = Protection(APP, monotonic=Timer())

    async with client_of(app, "10.0.0.66") as greedy, client_of(app, "10.0.0.1") as prometheus:
        flood = [(await greedy.get("/metrics")).status_code for _ in range(100)]
        scrape = await prometheus.get("/metrics")

    assert flood[-1] == 429
    assert scrape.status_code == 200


async def test_the_number_of_counted_clients_is_bounded() -> None:
    app = Protection(APP, monotonic=Timer())

    for number in range(CLIENTS_REMEMBERED + 20):
        async with client_of(app, f"10.1.{number // 256}.{number % 256}") as client:
            assert (await client.get("/metrics")).status_code == 200

    assert app._bucket.cache_info().currsize == CLIENTS_REMEMBERED


async def test_unauthenticated_clients_use_up_no_expensive_resources() -> None:
    async with asking() as client:
        for _ in range(200):
            await client.get("/metrics")
        answer = await client.get("/metrics", headers=basic("alice", PASSWORD))

    assert answer.status_code == 200


async def test_a_lifespan_event_is_passed_through() -> None:
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Any:
        raise AssertionError

    async def send(_message: Any) -> None:
        raise AssertionError

    await Protection(app)({"type": "lifespan"}, receive, send)

    assert seen == ["lifespan"]
