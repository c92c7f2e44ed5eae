"""Common properties of answers (headers, errors, compression), and the operational routes."""

import gzip
import threading
from collections.abc import Awaitable, Callable

import httpx
import pytest

from monitor.core.status import Snapshot
from monitor.web.app import Web
from tests.web.serving import METRICS, Stage

EVERYWHERE = (
    ("GET", "/", 200),
    ("GET", "/connections/acme-production", 200),
    ("GET", "/connections/nobody", 404),
    ("GET", "/?cause=none", 400),
    ("GET", "/api/status", 200),
    ("GET", "/api/connections/nobody", 404),
    ("GET", "/metrics", 200),
    ("GET", "/-/healthy", 200),
    ("GET", "/-/ready", 200),
    ("GET", "/-/reload", 405),
    ("POST", "/-/reload", 403),
    ("POST", "/", 405),
    ("GET", "/nonsense", 404),
    ("GET", "/static/style.css", 200),
    ("GET", "/static/../app.py", 404),
    ("GET", "/static/%2e%2e%2fapp.py", 404),
)


@pytest.mark.parametrize(("method", "path", "status"), EVERYWHERE)
async def test_every_answer_has_security_headers(stage: Stage, method: str, path: str, status: int) -> None:
    async with stage.client() as client:
        answer = await client.request(method, path)

    assert answer.status_code == status
    assert "'unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics", "/nowhere"])
async def test_a_bug_shows_no_traceback_and_has_security_headers(stage: Stage, path: str) -> None:
    def broken(*_: object) -> Snapshot:
        raise RuntimeError("a secret in a message")

    del stage.snapshot
    stage._metrics = broken  # type: ignore[assignment]
    async with stage.client() as client:
        answer = await client.get(path)

    assert answer.status_code == (404 if path == "/nowhere" else 500)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "snapshot" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_an_error_has_the_requested_format(stage: Stage) -> None:
    async with stage.client() as client:
        page = await client.get("/connections/nobody")
        data = await client.get("/api/connections/nobody")
        plain = await client.get("/-/nobody")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "No connection is named “nobody”." in page.text
    assert data.json() == {"error": "No connection is named “nobody”."}
    assert plain.text == "There is no page at /-/nobody.\n"


async def test_a_scrape_reads_the_fleet_in_the_event_loop_and_renders_in_a_thread(stage: Stage) -> None:
    threads: list[int] = []

    def snapshot() -> Snapshot:
        threads.append(threading.get_ident())
        return stage.snapshot

    def metrics(_: Snapshot, accept: str, pack: Callable[[bytes], bytes]) -> tuple[list[bytes], str]:
        threads.append(threading.get_ident())
        return [pack(b"")], accept

    app = Web(snapshot, metrics, stage.store, ready=lambda: ()).app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor") as client:
        await client.get("/metrics")

    read, rendered = threads
    assert read == threading.get_ident()
    assert rendered != read


async def test_metrics_are_negotiated_and_compressed(stage: Stage) -> None:
    async with stage.client() as client:
        plain = await client.get("/metrics", headers={"accept-encoding": "identity", "accept": "text/plain"})
        async with client.stream("GET", "/metrics", headers={"accept-encoding": "br, gzip"}) as small:
            packed = b"".join([part async for part in small.aiter_raw()])

    assert (plain.content, plain.headers["content-type"]) == METRICS
    assert "content-encoding" not in plain.headers
    assert stage.accepted == ["text/plain", "*/*"]
    assert small.headers["content-encoding"] == "gzip"
    assert small.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(packed) == METRICS[0]
    assert len(packed) < len(METRICS[0])


@pytest.mark.parametrize("accept", ["identity", "", "br"])
async def test_a_client_that_does_not_accept_gzip_gets_none(stage: Stage, accept: str) -> None:
    async with stage.client() as client:
        answer = await client.get("/", headers={"accept-encoding": accept})

    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_ready_says_what_is_missing(stage: Stage) -> None:
    async with stage.client() as client:
        assert (await client.get("/-/ready")).text == "ready\n"
        stage.problems = ("The schedule is not running.", "The store can't be written.")
        answer = await client.get("/-/ready")

    assert answer.status_code == 503
    assert answer.text == "The schedule is not running.\nThe store can't be written.\n"
    assert (await _healthy(stage)) == "healthy\n"


async def _healthy(stage: Stage) -> str:
    async with stage.client() as client:
        return (await client.get("/-/healthy")).text


def reloading(problem: str | None, asked: list[None]) -> Callable[[], Awaitable[str | None]]:
    async def reload() -> str | None:
        asked.append(None)
        return problem

    return reload


@pytest.mark.parametrize(
    ("problem", "status", "text"),
    [
        (None, 200, "reloaded\n"),
        ("a.yaml: connections: is missing.", 500, "a.yaml: connections: is missing.\n"),
    ],
)
async def test_a_reload_request_is_answered_with_its_result(
    stage: Stage, problem: str | None, status: int, text: str
) -> None:
    asked: list[None] = []
    async with stage.client(reloading(problem, asked)) as client:
        answer = await client.post("/-/reload")

    assert (answer.status_code, answer.text) == (status, text)
    assert len(asked) == 1


async def test_a_disabled_reload_says_how_to_enable_it(stage: Stage) -> None:
    async with stage.client() as client:
        answer = await client.post("/-/reload")

    assert answer.status_code == 403
    assert "web.enable_reload" in answer.text


async def test_a_versioned_static_file_can_be_cached_forever(stage: Stage) -> None:
    async with stage.client() as client:
        page = (await client.get("/")).text
        address = page.split('rel="stylesheet" href="')[1].split('"')[0]
        current, other = await client.get(address), await client.get("/static/style.css?v=old")

    assert current.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert other.headers["cache-control"] == "public, max-age=86400"
    assert current.headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("style.css", "text/css; charset=utf-8"),
        ("live.js", "text/javascript; charset=utf-8"),
        ("inter.woff2", "font/woff2"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_a_static_file_has_its_type_and_supports_conditional_requests(
    stage: Stage, name: str, content_type: str
) -> None:
    async with stage.client() as client:
        answer = await client.get(f"/static/{name}")
        again = await client.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
        head = await client.head(f"/static/{name}")

    assert answer.headers["content-type"] == content_type
    assert (again.status_code, again.content) == (304, b"")
    assert (head.status_code, head.content) == (200, b"")


async def test_head_is_answered_like_get_without_a_body(stage: Stage) -> None:
    async with stage.client() as client:
        answer = await client.head("/-/healthy")

    assert (answer.status_code, answer.content) == (200, b"")
