"""The web application: routes and common headers.

`/` · `/connections/{name}` · `/events`: pages. `/causes` · `/causes/{code}` · `/setup`: documents.
`/api/status` · `/api/connections/{name}`: the pages as JSON; `POST …/check` checks a connection now.
`/calendar.ics`: expiry dates. `/metrics`: Prometheus. `/-/healthy` · `/-/ready` · `POST /-/reload`:
operation.

It runs in the daemon's event loop, so anything that takes more than a millisecond (pages, JSON, metrics,
compression, the disk) runs in a thread: see `View`.
"""

import math
import mimetypes
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from isal import isal_zlib
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.status import Asked, ConnectionStatus, Snapshot
from monitor.store import Store
from monitor.web import api
from monitor.web.calendar import Feed
from monitor.web.pages import STATIC, VERSIONED, Pages
from monitor.web.record import read_events, read_record
from monitor.web.runbooks import cause_page, causes_page, html, setup_page
from monitor.web.selection import Selection, SelectionError
from monitor.web.words import exact

HEADERS = {
    # All resources are ours, without inline scripts or styles.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; font-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Pages show the current state, and name orgs and users.
    "Cache-Control": "no-store",
}
"""Default headers; an answer may override them."""

GZIP_LEVEL = 1
"""With 9, pages take five times the CPU and save a tenth of the size. /metrics with 10,000 connections (17
MB) takes 6 ms with isal, and 30 ms with zlib."""

GZIP_AT_LEAST = 1024
"""In bytes: smaller answers fit into one packet anyway."""

for _type, _suffix in (("font/woff2", ".woff2"), ("text/javascript", ".js")):
    mimetypes.add_type(_type, _suffix)  # missing or outdated in Python 3.11

View = Callable[[Request, Snapshot], Response]
"""Makes an answer, in a thread."""


@dataclass
class Web:
    """The web application of a daemon.

    `snapshot`, `ready`, `reload` and what `ask` gives are called in the event loop; the others in threads.
    """

    snapshot: Callable[[], Snapshot]
    metrics: Callable[[Snapshot, str, Callable[[bytes], bytes]], tuple[list[bytes], str]]
    """From a snapshot and an Accept header to the parts of a body, each passed through the function, and its
    content type."""
    store: Store
    ready: Callable[[], tuple[str, ...]]
    """The reasons why the daemon is not ready."""
    reload: Callable[[], Awaitable[str | None]] | None = None
    """Gives the error, or None. Without it, there is no reload over HTTP."""
    ask: Callable[[], Callable[[Collection[str]], Asked] | None] = lambda: None
    """Gives the function that checks connections now; None if that is not allowed."""
    external_url: Callable[[], str] = str
    """The pages' URL, for links in the calendar."""
    cut_off: Callable[[], str | None] = lambda: None
    """Why a replica's data may be old: then there are no metrics, so that Prometheus does not count them."""

    def __post_init__(self) -> None:
        self._reminders = Feed()
        self._pages = Pages(self.store)
        self._status_document = api.StatusDocument()

    def app(self) -> Starlette:
        """The routes with their middleware."""
        return Starlette(
            routes=[
                Route("/", self._view(self._fleet)),
                Route("/connections/{name}", self._view(self._connection)),
                Route("/events", self._view(self._events)),
                Route("/causes", self._view(self._causes)),
                Route("/causes/{code}", self._view(self._cause)),
                Route("/setup", self._view(self._setup)),
                Route("/api/status", self._view(self._api_status)),
                Route("/api/events", self._view(self._api_events)),
                Route("/api/connections/{name}", self._view(self._api_connection)),
                Route("/api/connections/{name}/check", self._check, methods=["POST"]),
                Route("/connections/{name}/check", self._check, methods=["POST"]),
                Route("/api/checks", self._checks, methods=["POST"]),
                Route("/calendar.ics", self._view(self._calendar)),
                Route("/metrics", self._view(self._scrape)),
                Route("/-/healthy", self._healthy),
                Route("/-/ready", self._readiness),
                Route("/-/reload", self._reload_now, methods=["POST"]),
                Mount("/static", _Static(directory=STATIC)),
            ],
            middleware=[
                Middleware(_Headers),
                # Compresses large bodies in a thread.
                Middleware(GZipMiddleware, minimum_size=GZIP_AT_LEAST, compresslevel=GZIP_LEVEL),
            ],
            exception_handlers={HTTPException: self._http_problem, Exception: self._fault},
        )

    def _view(self, view: View) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for a view: the snapshot is taken in the event loop, the answer made in a thread."""

        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(view, request, self.snapshot())

        return endpoint

    def _fleet(self, request: Request, snapshot: Snapshot) -> Response:
        page = request.query_params.get("page", "1")
        number = int(page) if page.isdecimal() and len(page) < 9 else 1
        return HTMLResponse(self._pages.fleet(snapshot, _selection(request), number))

    def _connection(self, request: Request, snapshot: Snapshot) -> Response:
        status, may_ask = _named(request, snapshot), self.ask() is not None
        return HTMLResponse(self._pages.connection(snapshot, status, may_ask=may_ask))

    def _events(self, _request: Request, snapshot: Snapshot) -> Response:
        events, unreadable = read_events(self.store)
        named = {status.name for status in snapshot.connections}
        return HTMLResponse(
            self._pages.render(
                "events.html", snapshot, unreadable=unreadable, events=events or [], named=named
            )
        )

    def _causes(self, _request: Request, snapshot: Snapshot) -> Response:
        return self._text(snapshot, "Causes", causes_page())

    def _cause(self, request: Request, snapshot: Snapshot) -> Response:
        code = request.path_params["code"]
        if code not in CATALOGUE:
            raise HTTPException(404, f"No cause is named “{code}”.")
        cause = Cause(code)
        return self._text(snapshot, CATALOGUE[cause].title, cause_page(cause))

    def _setup(self, _request: Request, snapshot: Snapshot) -> Response:
        return self._text(snapshot, "Setup", setup_page())

    def _text(self, snapshot: Snapshot, title: str, markdown: str) -> Response:
        return HTMLResponse(self._pages.render("text.html", snapshot, title=title, body=html(markdown)))

    def _api_status(self, request: Request, snapshot: Snapshot) -> Response:
        return _tagged(request, self._status_document.render(snapshot, _selection(request)))

    def _api_connection(self, request: Request, snapshot: Snapshot) -> Response:
        status = _named(request, snapshot)
        record, _ = read_record(self.store, status, snapshot.at, snapshot.daemon.maintenance)
        return _tagged(request, api.connection_document(snapshot, status, record))

    def _api_events(self, request: Request, snapshot: Snapshot) -> Response:
        events, _ = read_events(self.store)
        return _tagged(request, api.events_document(snapshot, events))

    def _calendar(self, request: Request, snapshot: Snapshot) -> Response:
        chosen = _selection(request).of(snapshot.connections)
        body = self._reminders.render(chosen, snapshot.at, self.external_url())
        return _tagged(request, api.Document(body, body), "text/calendar; charset=utf-8")

    async def _check(self, request: Request) -> Response:
        """Check one connection now: 202 with JSON, or back to the page if requested there."""
        status = _named(request, self.snapshot())
        if status.connection.paused:
            raise HTTPException(409, f"{status.name} is paused in the configuration.")
        answer = self._asked([status.name])
        if request.url.path.startswith("/api/"):
            return answer
        return RedirectResponse(f"/connections/{quote(status.name)}", 303)

    async def _checks(self, request: Request) -> Response:
        chosen = _selection(request).of(self.snapshot().connections)
        return self._asked([status.name for status in chosen])

    def _asked(self, names: Collection[str]) -> Response:
        ask = self.ask()
        if ask is None:
            text = (
                "Starting checks here is disabled, because the pages have no users. Set web.enable_checks to"
                " true, or add users."
            )
            raise HTTPException(403, text)
        now, asked = self.snapshot().at, ask(names)
        if asked.put_off and not asked.turns:
            free = min(asked.put_off.values())
            seconds = max(1, math.ceil((free - now).total_seconds()))
            text = (
                "No login is left for checks on request: they use at most half of the hourly login budget."
                f" The next one is possible at {exact(free)}."
            )
            raise HTTPException(429, text, {"Retry-After": str(seconds)})
        return JSONResponse(api.asked(asked), 202)

    def _scrape(self, request: Request, snapshot: Snapshot) -> Response:
        """The metrics page, compressed here: between parts, the middleware would wait for the event loop."""
        if problem := self.cut_off():
            return PlainTextResponse(f"{problem}\n", 503)
        accept = request.headers.get("accept", "")
        gzip = "gzip" in request.headers.get("accept-encoding", "")
        packer = isal_zlib.compressobj(GZIP_LEVEL, wbits=16 + isal_zlib.MAX_WBITS)
        pack = packer.compress if gzip else bytes
        pieces, content_type = self.metrics(snapshot, accept, pack)
        headers = {}
        if gzip:
            pieces = [b"".join([*pieces, packer.flush()])]
            headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        headers["Content-Length"] = str(sum(map(len, pieces)))
        return StreamingResponse(_one_by_one(pieces), headers=headers, media_type=content_type)

    async def _healthy(self, _request: Request) -> Response:
        return PlainTextResponse("healthy\n")

    async def _readiness(self, _request: Request) -> Response:
        if problems := self.ready():
            return PlainTextResponse("".join(f"{problem}\n" for problem in problems), 503)
        return PlainTextResponse("ready\n")

    async def _reload_now(self, _request: Request) -> Response:
        """Reload the configuration: 200, or 500 with the error, like other exporters."""
        if self.reload is None:
            text = (
                "Reloading over HTTP is disabled. Set web.enable_reload to true, or send SIGHUP to the"
                " process.\n"
            )
            return PlainTextResponse(text, 403)
        if problem := await self.reload():
            return PlainTextResponse(f"{problem}\n", 500)
        return PlainTextResponse("reloaded\n")

    async def _http_problem(self, request: Request, problem: Exception) -> Response:
        """Client errors, in the requested format."""
        assert isinstance(problem, HTTPException)
        path, status, headers = request.url.path, HTTPStatus(problem.status_code), problem.headers
        # Starlette's texts are the status names; ours are sentences.
        told = {404: f"There is no page at {path}.", 405: f"{request.method} is not allowed for {path}."}
        text = problem.detail if problem.detail != status.phrase else told.get(status, status.phrase)
        if path == "/" or path.startswith(("/connections/", "/causes/")):
            snapshot = self.snapshot()
            body = await run_in_threadpool(
                self._pages.render, "problem.html", snapshot, heading=status.phrase, text=text
            )
            return HTMLResponse(body, status, headers)
        return _plain_problem(path, status, text, headers)

    async def _fault(self, request: Request, _problem: Exception) -> Response:
        """A bug of ours: logged by Starlette, a generic answer here. It bypasses the middleware."""
        text = "Internal error in the monitor. Its log has the details."
        return _plain_problem(request.url.path, HTTPStatus.INTERNAL_SERVER_ERROR, text, HEADERS)


def _plain_problem(path: str, status: int, text: str, headers: Mapping[str, str] | None) -> Response:
    if path.startswith("/api/"):
        return JSONResponse({"error": text}, status, headers)
    return PlainTextResponse(f"{text}\n", status, headers)


class _Headers:
    """Adds HEADERS to answers that don't override them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class _Static(StaticFiles):
    """Static files. URLs with a version may be cached forever, others for a day."""

    def file_response(
        self, full_path: Any, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        forever = f"{scope['path']}?{scope['query_string'].decode('latin-1')}" in VERSIONED.values()
        keep = "public, max-age=31536000, immutable" if forever else "public, max-age=86400"
        answer.headers["Cache-Control"] = keep
        return answer


async def _one_by_one(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _tagged(request: Request, document: api.Document, content_type: str = "application/json") -> Response:
    """A document; 304 if the client has the same one, by a weak validator (RFC 9110, 8.8.1)."""
    digest = blake2b(document.news, digest_size=16).hexdigest()
    headers = {"ETag": f'W/"{digest}"', "Cache-Control": "no-cache"}
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    if headers["ETag"] in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(document.body, headers=headers, media_type=content_type)


def _selection(request: Request) -> Selection:
    try:
        return Selection.read(request.query_params)
    except SelectionError as error:
        raise HTTPException(400, str(error)) from error


def _named(request: Request, snapshot: Snapshot) -> ConnectionStatus:
    name = request.path_params["name"]
    for status in snapshot.connections:
        if status.name == name:
            return status
    raise HTTPException(404, f"No connection is named “{name}”.")
