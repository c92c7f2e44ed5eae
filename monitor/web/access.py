"""Access control in front of the web application. For each request, in this order:

1. Host: unknown names are refused, so that web pages can't reach the daemon through a user's browser (DNS
      rebinding). IP addresses are allowed, as they can't be rebound.
2. Basic authentication, if the web configuration has users.
3. Requests that may change something (other than GET, HEAD and OPTIONS) must not come from another site.
4. A rate limit per client on what is expensive to render.

Health checks are open to all and unlimited, unless configured otherwise.
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
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

import bcrypt
import structlog
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.config.problem import quoted

HEALTH = frozenset({"/-/healthy", "/-/ready"})

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""

REMEMBERED = 100
"""Correct passwords to cache, as keyed hashes: more than a file of users needs."""

WAITING_AT_MOST = 8
"""Most passwords waiting to be verified, one at a time: at 70 ms each (cost 10), half a second."""

WAITING_OF_ONE_CLIENT = 4
"""Most of these per client address, to leave room for others."""

BCRYPT_BYTES = 72
"""bcrypt ignores the rest of a password; so did the tool that created the hash."""

REFUSALS_LOGGED = 10
"""Refused logins that are logged at once; then one per minute, so that guessing can't fill the disk."""

CLIENTS_REMEMBERED = 1_000
"""Most client addresses whose requests are counted: about 300 KB."""

Limit = tuple[float, int]
"""Requests per second and client, and burst size."""

METRICS: Limit = (5, 20)
"""5 per second suffice for 75 Prometheus servers at 15 s."""

PAGES: Limit = (50, 100)
"""Enough for 50 people behind one proxy with a page that refreshes each second."""

log = structlog.get_logger()


class Bucket:
    """A token bucket with a burst size and a rate per second."""

    def __init__(self, each_second: float, at_once: int, monotonic: Callable[[], float]) -> None:
        self._each_second = each_second
        self._at_once = at_once
        self._monotonic = monotonic
        self._left = float(at_once)
        self._since = monotonic()

    def take(self) -> float:
        """Take one token. Gives 0, or the seconds until one is available."""
        now = self._monotonic()
        self._left = min(self._at_once, self._left + (now - self._since) * self._each_second)
        self._since = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._each_second


def known_hosts(
    listen_host: str,
    external_url: str,
    configured: Iterable[str] = (),
    machine: Callable[[], str] = socket.gethostname,
) -> frozenset[str]:
    """The daemon's host names, in addition to IP addresses and `localhost`.

    The listening address, the host of `external_url`, configured names, and the machine's name.
    """
    names = {listen_host, urlsplit(external_url).hostname or "", machine(), *configured}
    return frozenset(name.lower().rstrip(".") for name in names if name and not _is_anywhere(name))


class Protection:
    """The application with access control.

    `users` (names with bcrypt hashes) and `hosts` (see `known_hosts`) are called for each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        users: Callable[[], Mapping[str, str]] = dict,
        hosts: Callable[[], frozenset[str]] = frozenset,
        open_health: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._users = users
        self._hosts = hosts
        self._open = HEALTH if open_health else frozenset[str]()
        self._passwords = _Passwords()
        self._bucket = lru_cache(CLIENTS_REMEMBERED)(
            lambda client, each_second, at_once: Bucket(each_second, at_once, monotonic)
        )
        self._refusals = Bucket(1 / 60, REFUSALS_LOGGED, monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        answer: ASGIApp | None = None
        names = {name for name, _ in scope.get("headers", ())}
        # A proxy in front may see another end of the request than we do (RFC 9112, 6.1).
        if {b"content-length", b"transfer-encoding"} <= names:
            answer = _refused(HTTPStatus.BAD_REQUEST, "Two lengths of the body.", {"Connection": "close"})
        elif scope["type"] == "http" and scope["path"] not in self._open:
            answer = await self._refusal(scope, (scope.get("client") or ("",))[0])
        await (answer or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope, client: str) -> Response | None:
        headers, hosts, users = Headers(scope=scope), self._hosts(), self._users()
        if refusal := _other_host(headers.getlist("host"), hosts):
            return refusal
        if users and (refusal := await self._no_login(headers, users, client)):
            return refusal
        if scope["method"] not in SAFE_METHODS and _from_another_site(headers, hosts):
            return _refused(HTTPStatus.FORBIDDEN, "Requests from other sites' pages are not allowed.")
        return self._too_often(scope["path"], client)

    def _too_often(self, path: str, client: str) -> Response | None:
        limit = METRICS if path == "/metrics" else PAGES
        if path.startswith("/static/"):
            return None
        if seconds := math.ceil(self._bucket(client, *limit).take()):
            text = f"Too many requests. Try again in {seconds} s."
            return _refused(HTTPStatus.TOO_MANY_REQUESTS, text, {"Retry-After": str(seconds)})
        return None

    async def _no_login(self, headers: Headers, users: Mapping[str, str], client: str) -> Response | None:
        given = _credentials(headers.get("authorization", ""))
        if given is None:
            return _unauthorized()
        user, password = given
        verdict = await self._passwords.verify(users, user, password, client)
        if verdict is None:
            return _refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "Too many concurrent logins.", {"Retry-After": "1"}
            )
        if verdict:
            return None
        if not self._refusals.take():
            # An unknown user name may be a password typed into the wrong field.
            log.warning("login_refused", user=user if user in users else None, client=client)
        return _unauthorized()


def _refused(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Response:
    kept_safe = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return PlainTextResponse(f"{text}\n", status, {**kept_safe, **(headers or {})})


def _unauthorized() -> Response:
    ask = {"WWW-Authenticate": 'Basic realm="bearerwatch", charset="UTF-8"'}
    return _refused(HTTPStatus.UNAUTHORIZED, "User name and password required.", ask)


def _other_host(given: list[str], ours: frozenset[str]) -> Response | None:
    """Refuse a request for an unknown host.

    Requests without the header are allowed: browsers always send it, old health checkers may not. Starlette's
    TrustedHostMiddleware supports only fixed names, not IP addresses (used to scrape pods) or names added by
    a reload.
    """
    if len(given) > 1:
        return _refused(HTTPStatus.BAD_REQUEST, "More than one Host header.")
    name = _host(given[0]) if given else "localhost"
    if name is None:
        return _refused(HTTPStatus.BAD_REQUEST, "The Host header is neither a name nor an address.")
    if _is_anywhere(name) or name in ours:
        return None
    return _refused(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"{quoted(name)} is not a known host name of this monitor. To allow it, add it to web.hosts.",
    )


def _host(header: str) -> str | None:
    """The host of a Host header, in lower case; None if it can't be one."""
    try:
        parts = urlsplit(f"//{header}")
        _, host = parts.port, parts.hostname
    except ValueError:
        return None
    plain = parts.netloc == header and header.isascii() and header.isprintable()
    return host.rstrip(".") if host and plain and not set(header) & set(" @") else None


def _is_anywhere(host: str) -> bool:
    """Whether a host is independent of DNS: an IP address or localhost."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _from_another_site(headers: Headers, ours: frozenset[str]) -> bool:
    """Whether a browser says that the request comes from another site; other programs don't say."""
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
    # A proxy in front may have changed Host; then the page's name is one of ours.
    return parts.netloc.lower() != headers.get("host", "").lower() and host not in ours


def _credentials(header: str) -> tuple[str, bytes] | None:
    """User and password in an Authorization header (RFC 7617), if any."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


class _Passwords:
    """Verifies passwords one at a time in a thread, and caches correct ones.

    bcrypt deliberately takes 70 ms or more, and scrapers come every few seconds. An unknown user takes as
    long as a known one, so that timing does not reveal names.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._one = asyncio.Semaphore(1)
        self._waiting: Counter[str] = Counter()

    async def verify(self, users: Mapping[str, str], user: str, password: bytes, client: str) -> bool | None:
        """Whether the password is right; None if too many are waiting."""
        hashed = users.get(user) or max(users.values(), key=lambda each: each[4:6])
        # Keyed per process, so that hashes from a memory dump can't be attacked by guessing.
        digest = hashlib.blake2b(repr((user, hashed, password)).encode(), key=self._key).digest()
        if user in users and digest in self._right:  # for an unknown user, it is another one's hash
            self._right.move_to_end(digest)
            return True
        if self._waiting.total() >= WAITING_AT_MOST or self._waiting[client] >= WAITING_OF_ONE_CLIENT:
            return None
        self._waiting[client] += 1
        try:
            async with self._one:
                matches = await asyncio.to_thread(bcrypt.checkpw, password[:BCRYPT_BYTES], hashed.encode())
        finally:
            self._waiting -= Counter({client: 1})  # drops zero counts
        if not (matches and user in users):
            return False
        self._right[digest] = None
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True
