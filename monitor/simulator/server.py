"""Serves orgs over HTTP, under one clock, with a control API.

| Path | Does |
|---|---|
| `/{name}/services/…` | the org; its address is `http://HOST:PORT/{name}` |
| `/services/…` with `Host: {name}.my.salesforce.com` | the same, for clients that require such a host |
| `GET /_orgs` | all orgs: name and settings |
| `GET`, `PUT`, `PATCH`, `DELETE /_orgs/{name}` | read, create or replace, change, delete one |
| `GET /_orgs/{name}/logins` | its login history, oldest first: time, username, status |
| `POST /_orgs/{name}/refresh {"username_suffix": "dev", "loses": [...]}` | refresh the sandbox |
| `GET /_clock`, `POST /_clock {"advance_seconds": N}` | read the clock; advance it |

The control API answers invalid input with 400 and `{"problems": [...]}`, and requests from web pages with
403.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.simulator import rest, wire
from monitor.simulator.org import Org, Request
from monitor.simulator.settings import LONGEST_SECONDS, OrgSettings, Refresh, SettingsError

MY_DOMAIN_SUFFIX = ".my.salesforce.com"

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

MAX_REQUEST_BYTES = 256 * 1024
"""An assertion has about 600 bytes; a control request with a certificate about 6 KiB."""

BACKLOG = 4096
"""The listen backlog: a benchmark opens thousands of connections at once."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class UnknownOrgError(LookupError):
    """There is no org of this name."""


class Simulator:
    """The orgs and their clock, which runs `speed` times as fast. Not thread-safe.

    `slow_seconds`: how long an answer with the fault `slow` takes.
    """

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        speed: float = 1,
        slow_seconds: float = wire.SLOW_SECONDS,
    ) -> None:
        self.slow_seconds = slow_seconds
        self._clock = clock
        self._began = clock()
        self._speed = speed
        self._advanced = timedelta(0)
        self.orgs: dict[str, Org] = {}
        """All orgs by their names, in order of creation."""

    def now(self) -> datetime:
        """The orgs' time, before an org's own clock offset."""
        return self._began + (self._clock() - self._began) * self._speed + self._advanced

    def advance(self, seconds: float) -> None:
        """Advance the clock. Raises SettingsError if negative, or for over a hundred years in total."""
        left = LONGEST_SECONDS - self._advanced.total_seconds()
        if not 0 <= seconds <= left:
            raise SettingsError((f"advance_seconds: must be a number of seconds from 0 to {left:.0f}",))
        self._advanced += timedelta(seconds=seconds)

    def org(self, name: str) -> Org:
        """The org of this name. Raises UnknownOrgError."""
        try:
            return self.orgs[name]
        except KeyError:
            raise UnknownOrgError(f"there is no org {name!r}") from None

    def now_of(self, org: Org) -> datetime:
        """The time by the org's own clock."""
        return self.now() + timedelta(seconds=org.settings.clock_offset_seconds)

    def put(self, name: str, values: dict[str, object]) -> bool:
        """Create an org, or replace all its settings. True if it is new."""
        if name in self.orgs:
            org = self.orgs[name]
            org.replace(values, self.now_of(org))
            return False
        if not _NAME.fullmatch(name):
            raise SettingsError(("the name: must be letters, digits, dots, dashes and underscores",))
        settings = OrgSettings().changed(values)
        own_now = self.now() + timedelta(seconds=settings.clock_offset_seconds)
        self.orgs[name] = Org(name, settings, own_now)
        return True

    def patch(self, name: str, values: dict[str, object]) -> None:
        """Change some of an org's settings."""
        org = self.org(name)
        org.change(values, self.now_of(org))

    def refresh(self, name: str, values: dict[str, object]) -> None:
        """Refresh a sandbox; `values` is a Refresh as JSON."""
        org = self.org(name)
        org.refresh(Refresh.read(values), self.now_of(org))


def create_app(simulator: Simulator, *, loopback: bool = False) -> Starlette:
    """The ASGI app; network faults need `serve` or `running`. `loopback`: only this machine reaches it."""
    answered: dict[str | None, wire.AnsweredFault] = {
        "slow": partial(wire.slow, simulator.slow_seconds),
        "truncate": wire.truncated,
    }

    async def orgs(request: HttpRequest) -> Response:
        return JSONResponse({name: org.settings.as_json() for name, org in simulator.orgs.items()})

    async def org(request: HttpRequest) -> Response:
        name, status = request.path_params["name"], 200
        match request.method:
            case "PUT":
                status = 201 if simulator.put(name, await _object(request)) else 200
            case "PATCH":
                simulator.patch(name, await _object(request))
            case "POST":
                simulator.refresh(name, await _object(request))
            case "DELETE":
                del simulator.orgs[simulator.org(name).name]
                return Response(status_code=204)
        return JSONResponse(simulator.org(name).settings.as_json(), status)

    async def logins(request: HttpRequest) -> Response:
        asked = simulator.org(request.path_params["name"])
        asked.let_production_log_in(simulator.now_of(asked))
        return JSONResponse(
            [
                {"time": _text(row.time), "username": row.username, "status": row.status}
                for row in asked.logins
            ]
        )

    async def clock(request: HttpRequest) -> Response:
        if request.method == "POST":
            values = await _object(request)
            seconds = values.get("advance_seconds")
            number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if values.keys() != {"advance_seconds"} or not number:
                raise SettingsError(("advance_seconds: must be the only key, and a number",))
            simulator.advance(seconds)  # type: ignore[arg-type]  # seen above
        return JSONResponse({"now": _text(simulator.now())})

    async def of_an_org(request: HttpRequest) -> Any:  # an ASGI app, as every response is one
        name, path, base = _addressed(request)
        try:
            asked = simulator.org(name)
        except UnknownOrgError as error:
            return Response(f"{error} in this simulator\n", 404)
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_REQUEST_BYTES:
                return Response("too large\n", 413)
        fault = asked.settings.fault
        if fault in wire.UNANSWERED:
            return wire.UNANSWERED[fault]
        seen = Request(
            method=request.method,
            path=path,
            base=base,
            query=request.scope["query_string"].decode("latin-1"),
            content_type=request.headers.get("content-type", ""),
            authorization=request.headers.get("authorization", ""),
            query_options=request.headers.get("sforce-query-options", ""),
            body=bytes(body),
        )
        answer = rest.answer(asked, seen, simulator.now_of(asked))
        return partial(answered.get(fault, wire.whole), answer)

    async def wrong(request: HttpRequest, error: Exception) -> Response:
        problems = list(error.problems) if isinstance(error, SettingsError) else [str(error)]
        return JSONResponse({"problems": problems}, 404 if isinstance(error, UnknownOrgError) else 400)

    return Starlette(
        routes=[
            Route("/_clock", clock, methods=["GET", "POST"]),
            Route("/_orgs", orgs),
            Route("/_orgs/{name}", org, methods=["GET", "PUT", "PATCH", "DELETE"]),
            Route("/_orgs/{name}/refresh", org, methods=["POST"]),
            Route("/_orgs/{name}/logins", logins),
            Mount("/", request_response(of_an_org)),
        ],
        middleware=[Middleware(_without_web_pages, loopback=loopback)],
        exception_handlers={SettingsError: wrong, UnknownOrgError: wrong, ClientDisconnect: wrong},
    )


def _without_web_pages(app: ASGIApp, loopback: bool) -> ASGIApp:
    """Protects the control API from web pages in a browser on this machine.

    Browsers send the page's origin with every request that may change something. On loopback, a different
    host name means DNS rebinding.
    """
    refusal = JSONResponse({"problems": ["the control API is not for web pages"]}, 403)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(raw=scope.get("headers", []))  # a lifespan has none
        foreign = loopback and not _is_ours(headers.get("host", ""))
        of_a_page = "origin" in headers or headers.get("sec-fetch-site", "none") != "none" or foreign
        answering = refusal if of_a_page and scope.get("path", "").startswith("/_") else app
        await answering(scope, receive, send)

    return guarded


def _is_ours(host: str) -> bool:
    name = re.sub(r":\d*$", "", host).lower()
    return name in LOOPBACK_NAMES or name.endswith(MY_DOMAIN_SUFFIX)


async def _object(request: HttpRequest) -> dict[str, object]:
    body = await request.body()
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise SettingsError(("the body: must be JSON",)) from None
    if not isinstance(value, dict):
        raise SettingsError(("the body: must be a JSON object",))
    return value


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _addressed(request: HttpRequest) -> tuple[str, str, str]:
    """The org's name, the path within it, and its address."""
    host, path = request.headers.get("host", ""), request.scope["path"]
    address = f"{request.scope['scheme']}://{host}"
    if host.endswith(MY_DOMAIN_SUFFIX) and path.startswith("/services/"):
        return host.removesuffix(MY_DOMAIN_SUFFIX), path, address
    name, _, rest_of_path = path.removeprefix("/").partition("/")
    return name, f"/{rest_of_path}", f"{address}/{name}"


@dataclass(frozen=True, slots=True)
class Tls:
    """The PEM files of a certificate chain and its key, to serve TLS."""

    certificate: Path
    key: Path


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop serving and return to the caller: uvicorn would raise the signal again."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close open connections at once instead of waiting for them."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, wire.TransportProtocol):
                connection.transport.abort()
        await super().shutdown(sockets)


def _prepared(
    simulator: Simulator, host: str, port: int, tls: Tls | None
) -> tuple[_Server, socket.socket, str]:
    """The server, its socket and its address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Accepted sockets inherit it. asyncio sets it only if the socket names its protocol, which this one
    # doesn't; without it an answer's body waits 40 ms for the ACK of its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        create_app(simulator, loopback=is_loopback(host)),
        http=wire.TransportProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=1,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    host, port = listener.getsockname()[:2]
    url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    return _Server(config), listener, url


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listening address."""
    return host in {"localhost", "::1"} or host.startswith("127.")


async def serve(
    simulator: Simulator,
    *,
    host: str = "127.0.0.1",
    port: int = 8899,
    tls: Tls | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until a signal or cancellation; calls `ready` with the address. Raises OSError if it is taken."""
    server, listener, url = _prepared(simulator, host, port, tls)
    ready(url)
    try:
        await server.serve(sockets=[listener])
    finally:
        if server.started and not server.should_exit:
            await server.shutdown([listener])


@contextmanager
def running(simulator: Simulator, *, tls: Tls | None = None) -> Iterator[str]:
    """Serve on a free port of loopback in a thread; yields the address."""
    server, listener, url = _prepared(simulator, "127.0.0.1", 0, tls)
    thread = threading.Thread(target=server.run, args=([listener],), name="simulator", daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()
