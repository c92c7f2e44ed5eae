"""Who may ask the daemon for something, and how often: what stands before the web application.

In this order, for each request:

1. The Host header: a name that is not ours is refused, so that no web page can reach us through the browser
   of somebody who may (DNS rebinding). An address is always ours: there is no name to rebind.
2. The operator's `rate_limit`.
3. Basic authentication, where the web configuration names users.
4. What changes something (any method but GET, HEAD and OPTIONS) must not come from another site's page.
5. A limit for what is dear to render.

Health may be asked for by everybody, without limit, unless the operator says otherwise.
"""

import asyncio
import base64
import binascii
import hashlib
import ipaddress
import math
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import bcrypt
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.config.problem import quoted
from monitor.config.web_file import WebConfig

HEALTH = frozenset({"/-/healthy", "/-/ready"})

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""

REMEMBERED = 100
"""Passwords found right that are remembered, as keyed hashes: more than a file of users needs."""

WAITING_AT_MOST = 8
"""Passwords that may wait to be verified, one at a time: at 70 ms each (cost 10), half a second."""

BCRYPT_BYTES = 72
"""What bcrypt looks at of a password; whoever made the hash cut the rest off as well."""

REFUSALS_LOGGED = 10
"""Refused logins, and clients turned away for their certificate, that are logged at once; after that one a
minute, so that guessing can't fill a disk."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Dear:
    """Paths that keep a core busy, and how often a second, and at once, they may be asked for."""

    prefixes: tuple[str, ...]
    each_second: float
    at_once: int


DEAR = (
    # 5 a second are 75 Prometheus servers at 15 s. A limit of its own, so that no page can starve a scrape.
    Dear(("/metrics",), each_second=5, at_once=20),
    # Pages, JSON and the calendar: 50 people who look at a page that renews itself each second.
    Dear(("/", "/connections/", "/api/", "/calendar.ics"), each_second=50, at_once=100),
)
"""The built-in limits; a prefix without a slash at its end, and "/", stand for themselves alone."""


class Bucket:
    """A token bucket: so many at once, and so many a second after that."""

    def __init__(self, each_second: float, at_once: int, monotonic: Callable[[], float]) -> None:
        self._each_second = each_second
        self._at_once = at_once
        self._monotonic = monotonic
        self._left = float(at_once)
        self._since = monotonic()

    def take(self) -> float:
        """Take one: 0, or the seconds after which there will be one."""
        now = self._monotonic()
        self._left = min(self._at_once, self._left + (now - self._since) * self._each_second)
        self._since = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._each_second


def protect(
    app: ASGIApp,
    *,
    config: Callable[[], WebConfig] = WebConfig,
    hosts: Callable[[], frozenset[str]] = frozenset,
    open_health: bool = True,
    monotonic: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """The application behind its protection. `config` and `hosts` (see `known_hosts`) are asked each time."""
    return _Protection(app, config, hosts, open_health, monotonic)


def known_hosts(
    listen_host: str,
    external_url: str,
    configured: Iterable[str] = (),
    machine: Callable[[], str] = socket.gethostname,
) -> frozenset[str]:
    """The names by which the daemon may be called, beside addresses and `localhost`.

    The one it listens at, the one of `external_url`, those that the operator adds, and the machine's own.
    """
    names = {listen_host, urlsplit(external_url).hostname or "", machine(), *configured}
    return frozenset(name.lower().rstrip(".") for name in names if name and not _is_anywhere(name))


class _Protection:
    def __init__(
        self,
        app: ASGIApp,
        config: Callable[[], WebConfig],
        hosts: Callable[[], frozenset[str]],
        open_health: bool,
        monotonic: Callable[[], float],
    ) -> None:
        self._app = app
        self._config = config
        self._hosts = hosts
        self._open = HEALTH if open_health else frozenset[str]()
        self._monotonic = monotonic
        self._passwords = _Passwords()
        self._rate: tuple[object, Bucket | None] = (None, None)
        self._dear = [(dear, Bucket(dear.each_second, dear.at_once, monotonic)) for dear in DEAR]
        self._refusals = Bucket(1 / 60, REFUSALS_LOGGED, monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing of ours is a web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        config = self._config()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in config.headers:
                    headers[name] = value
            await send(message)

        refusal = None if scope["path"] in self._open else await self._refusal(scope, config)
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        else:
            await refusal.send(send_with_headers)

    async def _refusal(self, scope: Scope, config: WebConfig) -> "_Refusal | None":
        headers = Headers(scope=scope)
        hosts = self._hosts()
        if refusal := _other_host(headers.getlist("host"), hosts) or self._too_often(config):
            return refusal
        if config.users and (refusal := await self._no_login(scope, headers, config)):
            return refusal
        if scope["method"] not in SAFE_METHODS and _from_another_site(headers, hosts):
            return _Refusal(HTTPStatus.FORBIDDEN, "Not from another site's page.")
        return self._too_dear(scope["path"])

    def _too_often(self, config: WebConfig) -> "_Refusal | None":
        made_of, bucket = self._rate
        if made_of != config.rate:
            rate = config.rate
            bucket = Bucket(1 / rate.interval.total_seconds(), rate.burst, self._monotonic) if rate else None
            self._rate = (rate, bucket)
        return _later(bucket.take()) if bucket else None

    def _too_dear(self, path: str) -> "_Refusal | None":
        for dear, bucket in self._dear:
            for prefix in dear.prefixes:
                if path == prefix or (prefix != "/" and prefix.endswith("/") and path.startswith(prefix)):
                    return _later(bucket.take())
        return None

    async def _no_login(self, scope: Scope, headers: Headers, config: WebConfig) -> "_Refusal | None":
        given = _credentials(headers.get("authorization", ""))
        if given is None:
            return UNAUTHORIZED
        user, password = given
        verdict = await self._passwords.verify(dict(config.users), user, password)
        if verdict is None:
            return _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Too many logins at once.", {"Retry-After": "1"})
        if verdict:
            return None
        if not self._refusals.take():
            known = any(user == name for name, _ in config.users)
            # What is no user's name may be a password that was typed into the wrong field.
            log.warning(
                "login_refused", user=user if known else None, client=(scope.get("client") or ("",))[0]
            )
        return UNAUTHORIZED


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer in place of the application's."""

    status: HTTPStatus
    text: str
    headers: Mapping[str, str] | None = None

    async def send(self, send: Send) -> None:
        body = f"{self.text}\n".encode()
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(self.headers or {}),
        }
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status.value, "headers": raw})
        await send({"type": "http.response.body", "body": body})


UNAUTHORIZED = _Refusal(
    HTTPStatus.UNAUTHORIZED,
    "A user and a password are needed.",
    {"WWW-Authenticate": 'Basic realm="bearerwatch", charset="UTF-8"'},
)


def _later(seconds: float) -> _Refusal | None:
    if not seconds:
        return None
    after = str(math.ceil(seconds))
    return _Refusal(
        HTTPStatus.TOO_MANY_REQUESTS, f"Too many requests. Again after {after} s.", {"Retry-After": after}
    )


def _other_host(given: list[str], ours: frozenset[str]) -> _Refusal | None:
    """A refusal where the request is for a host that is not ours.

    A request without the header passes: a browser always sends it, an old health checker may not.
    """
    if len(given) > 1:
        return _Refusal(HTTPStatus.BAD_REQUEST, "More than one Host header.")
    name = _host(given[0]) if given else "localhost"
    if name is None:
        return _Refusal(HTTPStatus.BAD_REQUEST, "The Host header is neither a name nor an address.")
    if _is_anywhere(name) or name in ours:
        return None
    return _Refusal(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"{quoted(name)} is no name of this monitor. If it should be, add it to web.hosts.",
    )


def _host(header: str) -> str | None:
    """The host of a Host header, in lower case; None where it can't be one."""
    try:
        parts = urlsplit(f"//{header}")
        _, host = parts.port, parts.hostname
    except ValueError:
        return None
    plain = parts.netloc == header and header.isascii() and header.isprintable()
    return host.rstrip(".") if host and plain and not set(header) & set(" @") else None


def _is_anywhere(host: str) -> bool:
    """Whether a host means the same wherever it is looked up: an address, or this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _from_another_site(headers: Headers, ours: frozenset[str]) -> bool:
    """Whether a browser says that this comes from the page of another site; other programs say nothing."""
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return True
    # A proxy in front may have put another name into Host; then the page's own name is one of ours.
    return parts.netloc.lower() != headers.get("host", "").lower() and host not in ours


def _credentials(header: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header (RFC 7617); None where it holds none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


class _Passwords:
    """Verifies passwords one at a time beside the event loop, and remembers those that were right.

    bcrypt takes 70 ms and more on purpose, and a scraper comes every few seconds. A user that doesn't exist
    costs as much as one that does, so that the time doesn't tell which names there are.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._one = asyncio.Semaphore(1)
        self._waiting = 0

    async def verify(self, users: Mapping[str, str], user: str, password: bytes) -> bool | None:
        """Whether the password is the user's; None where too many wait to be verified."""
        hashed = users.get(user) or max(users.values(), key=lambda each: each[4:6])
        # With a key of this process: what a memory dump shows can't be guessed at without it.
        digest = hashlib.blake2b(repr((user, hashed, password)).encode(), key=self._key).digest()
        if user in users and digest in self._right:  # the hash may be another user's, see above
            self._right.move_to_end(digest)
            return True
        if self._waiting >= WAITING_AT_MOST:
            return None
        self._waiting += 1
        try:
            async with self._one:
                matches = await asyncio.to_thread(bcrypt.checkpw, password[:BCRYPT_BYTES], hashed.encode())
        finally:
            self._waiting -= 1
        if not (matches and user in users):
            return False
        self._right[digest] = None
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True
