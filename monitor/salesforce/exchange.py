"""One POST to a token endpoint, and what the world answered, as an Outcome. Nothing else talks to an org.

What holds for every exchange:

* The assertion goes in the body, to an allowed host, over verified TLS; plain HTTP to loopback alone.
* No cookie is kept, no redirect followed, no connection used twice: every probe sees what a new client sees,
  and nothing of one org reaches another.
* HTTP/1.1, at most 64 KiB of answer, and an end after a fixed time, however slowly the other side drips.
* At most `Limits.in_flight` exchanges at once. The assertion is signed when its turn has come, so that it
  does not age in the queue.
* Failures of network and server are values. What they say holds neither the assertion nor the token.

**The transport** is pyreqwest's for httpx (Rust: hyper and rustls) for what was measured and seen here. CPU
of a whole exchange (assertion signed, new TLS connection, POST, answer read), as a ratio to a blocking `ssl`
exchange with a bare signature in the same run (2 cores, Python 3.11, medians of 5 x 400): pyreqwest 0.74,
httpcore 1.75; some 0.06 more where an `httpx.AsyncClient` stands between, which is why none does: it would
add cookies, redirects and the environment's proxies only for us to turn them off. pyreqwest ends a trickle
of header lines on time, resolves names on threads of its own, and loses no connection when a request is
cancelled; httpcore does none of the three. It tells faults apart as well as httpcore does, by the texts of
its chain of causes (`_TELLS`). The tests run against httpcore as well: the way back should pyreqwest, which
is young, disappoint.
"""

import asyncio
import os
import re
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlencode

import certifi
import httpx
import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from pyreqwest import exceptions as rust
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.compatibility.httpx import HttpxTransport
from pyreqwest.proxy import ProxyBuilder

from monitor.core.connection import LOOPBACK_HOSTS, Connection, is_loopback, may_receive_assertions
from monitor.core.outcome import ApiUsage, Exchange, FaultKind, Granted, NotSent, Refused, Unreachable
from monitor.core.problem import OperatorError
from monitor.core.verdict.answer import harmless, read_after_login, read_answer, token_in
from monitor.salesforce.org import LARGEST_ANSWER, REST_PATH, Inside, Reply

log = structlog.get_logger()

MAX_ANSWER_BYTES = 64 * 1024
"""An answer has 1 to 2 KiB, a maintenance page some 10 KiB (*observed*). More is not read."""

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"

DATE_ROUNDING_SECONDS = 0.5
"""`Date` is cut to whole seconds, so the server's clock is half a second further on average."""

SPARE_CONNECTIONS = 16
"""Pool places beyond the exchanges in flight: a connection may still be closing when its exchange has
ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an exchange may take, and how many may run at once."""

    connect: timedelta = timedelta(seconds=10)
    """For name, TCP and TLS together: three lost SYN packets take 7 s."""
    answer: timedelta = timedelta(seconds=20)
    """From the start to the answer's headers; longer than `connect`, or the two can't be told apart."""
    whole: timedelta = timedelta(seconds=30)
    """From the start to the answer's last byte."""
    pool: timedelta = timedelta(seconds=5)
    """For a place in the pool. There always is one, as `in_flight` is smaller: waiting at all is a fault."""
    in_flight: int = 128
    """10,000 connections every 5 minutes of which a tenth hangs keep 67 busy."""


TransportFactory = Callable[[Limits, Path | None], httpx.AsyncBaseTransport]
"""Makes a transport that keeps the limits, and trusts the certificates of a PEM file beside the system's."""


class CaFileError(OperatorError):
    """The file of further trusted certificates can't be used; the message says why."""


class ProxyError(OperatorError):
    """The proxy that the environment names can't be used; the message says what would be right."""


def rust_transport(
    limits: Limits, ca_file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> httpx.AsyncBaseTransport:
    """Connections by pyreqwest.

    Trusts the system's roots (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`), or certifi's on a system
    that has none, and `ca_file`'s. Goes through the proxy in `https_proxy` or `all_proxy`, but for the
    hosts in `no_proxy`; never for loopback, and so never for plain HTTP. Faults before the headers all come
    as `ConnectError` or `ConnectTimeout`: `_fault` reads the chain of causes.
    """
    roots, proxy = _certificates(ca_file), _proxy(environ)
    try:
        return HttpxTransport(_rust_client(limits, roots, proxy))
    except rust.BuilderError:
        return HttpxTransport(_rust_client(limits, roots + _certificates(Path(certifi.where())), proxy))


def _rust_client(limits: Limits, roots: list[bytes], proxy: ProxyBuilder | None) -> Client:
    builder = (
        ClientBuilder()
        .http1_only()
        .pool_max_idle_per_host(0)
        .max_connections(limits.in_flight + SPARE_CONNECTIONS)
        .pool_timeout(limits.pool)
        .connect_timeout(limits.connect)
        .read_timeout(limits.answer)
        .timeout(limits.whole)
        .follow_redirects(False)
        .referer(False)
        .gzip(False)
        .deflate(False)
        .brotli(False)
        .zstd(False)
        .no_proxy()
    )
    if proxy:
        builder = builder.proxy(proxy)
    for root in roots:
        builder = builder.add_root_certificate_der(root)
    return builder.build()


def _certificates(file: Path | None) -> list[bytes]:
    """The certificates of a PEM file, in DER."""
    if file is None:
        return []
    try:
        return [each.public_bytes(Encoding.DER) for each in load_pem_x509_certificates(file.read_bytes())]
    except OSError as error:
        raise CaFileError(f"{file}: can't be read ({error.strerror}); PEM certificates are needed") from error
    except ValueError as error:
        raise CaFileError(f"{file}: holds no readable certificate; PEM certificates are needed") from error


def _proxy(environ: Mapping[str, str]) -> ProxyBuilder | None:
    """The proxy for HTTPS that the environment names, as curl reads it: lower case before upper, HTTP without
    a scheme. Raises ProxyError.
    """

    def variable(name: str) -> str:
        return environ.get(name) or environ.get(name.upper()) or ""

    address = variable("https_proxy") or variable("all_proxy")
    if not address:
        return None
    try:
        proxy = ProxyBuilder.https(address if "://" in address else f"http://{address}")
    except ValueError:  # without the address, which may hold a password
        raise ProxyError(
            "https_proxy or all_proxy in the environment is not a proxy address: write e.g. "
            "http://proxy.example.com:3128."
        ) from None
    return proxy.no_proxy(",".join([*sorted(LOOPBACK_HOSTS), variable("no_proxy")]))


# What each error class comes to. None: nothing was wrong outside, so it is ours (`NotSent`). The nearest
# class of an error's ancestry decides; a test holds this against all that httpx and pyreqwest define.
FAULTS: Mapping[type[Exception], FaultKind | None] = MappingProxyType(
    {
        httpx.HTTPError: FaultKind.PROTOCOL,
        httpx.RequestError: FaultKind.PROTOCOL,
        httpx.TransportError: FaultKind.PROTOCOL,
        httpx.TimeoutException: FaultKind.TIMEOUT,
        httpx.ConnectTimeout: FaultKind.CONNECT,
        httpx.ReadTimeout: FaultKind.TIMEOUT,
        httpx.WriteTimeout: FaultKind.TIMEOUT,
        httpx.PoolTimeout: FaultKind.POOL,
        httpx.NetworkError: FaultKind.PROTOCOL,
        httpx.ConnectError: FaultKind.CONNECT,
        httpx.ReadError: FaultKind.PROTOCOL,
        httpx.WriteError: FaultKind.PROTOCOL,
        httpx.CloseError: FaultKind.PROTOCOL,
        httpx.ProxyError: FaultKind.CONNECT,
        httpx.UnsupportedProtocol: None,
        httpx.ProtocolError: FaultKind.PROTOCOL,
        httpx.LocalProtocolError: None,
        httpx.RemoteProtocolError: FaultKind.PROTOCOL,
        httpx.DecodingError: FaultKind.PROTOCOL,
        httpx.TooManyRedirects: FaultKind.PROTOCOL,
        httpx.HTTPStatusError: None,
        httpx.InvalidURL: None,
        httpx.CookieConflict: None,
        httpx.StreamError: None,
        httpx.StreamConsumed: None,
        httpx.StreamClosed: None,
        httpx.ResponseNotRead: None,
        httpx.RequestNotRead: None,
        # pyreqwest's transport translates some of its errors, and none that come late in a body.
        rust.PyreqwestError: FaultKind.PROTOCOL,
        rust.DetailedPyreqwestError: FaultKind.PROTOCOL,
        rust.RequestError: FaultKind.PROTOCOL,
        rust.StatusError: None,
        rust.RedirectError: FaultKind.PROTOCOL,
        rust.DecodeError: FaultKind.PROTOCOL,
        rust.BodyDecodeError: FaultKind.PROTOCOL,
        rust.JSONDecodeError: None,
        rust.TransportError: FaultKind.PROTOCOL,
        rust.RequestTimeoutError: FaultKind.TIMEOUT,
        rust.ConnectTimeoutError: FaultKind.CONNECT,
        rust.ReadTimeoutError: FaultKind.TIMEOUT,
        rust.WriteTimeoutError: FaultKind.TIMEOUT,
        rust.PoolTimeoutError: FaultKind.POOL,
        rust.NetworkError: FaultKind.PROTOCOL,
        rust.ConnectError: FaultKind.CONNECT,
        rust.ReadError: FaultKind.PROTOCOL,
        rust.WriteError: FaultKind.PROTOCOL,
        rust.ClientClosedError: None,
        rust.BuilderError: None,
        rust.RequestPanicError: None,
        # httpcore lets a few of the socket's and TLS's own errors through.
        OSError: FaultKind.PROTOCOL,
        # pyreqwest's transport raises it for a header of the answer that is not text, asyncio's resolver
        # for a host name that can't be written in IDNA.
        ValueError: FaultKind.PROTOCOL,
    }
)

_TELLS = (
    (FaultKind.DNS, re.compile(r"\[Errno -\d+\] |failed to lookup address information: ")),
    (
        FaultKind.TLS,
        re.compile(
            r"\[SSL\b(?!: UNEXPECTED_EOF)|invalid peer certificate|cannot decrypt peer"
            r"|received (fatal alert|corrupt message|unexpected)"
            r"|peer (is incompatible|misbehaved|doesn't support)"
        ),
    ),
)
"""How the texts begin by which a fault of the resolver or of TLS is known: Python's and OpenSSL's, then
Rust's."""

_NO_DESCRIPTORS = re.compile(r"Too many open files|\[Errno (23|24)\]")
"""Of the process, or of the machine: nothing is wrong with the network."""

_CONNECTING = "client error (Connect)"
"""In pyreqwest's chain of causes if, and only if, there was no connection yet."""

_RESOLVER_ERRORS = (
    (-2, re.compile(r"Name (or service not known|does not resolve)")),
    (-3, re.compile(r"Temporary failure in name resolution|Try again")),
    (-5, re.compile(r"No address associated with hostname|Name has no usable address")),
)
"""The numbers of `getaddrinfo` on Linux for its texts (glibc's, then musl's), as Python would show them."""

_MESSAGES = MappingProxyType(
    {
        FaultKind.DNS: "the host name was not resolved",
        FaultKind.CONNECT: "no connection",
        FaultKind.TLS: "no trusted TLS connection",
        FaultKind.TIMEOUT: "no whole answer in time",
        FaultKind.PROTOCOL: "no usable answer",
        FaultKind.POOL: "our own connection pool gave no connection and was rebuilt",
    }
)


class _FaultError(Exception):
    """An answer that we stop reading."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def _fault(error: Exception) -> Unreachable | NotSent:
    """What an error of the transport comes to.

    1. The error's class says what it is.
    2. pyreqwest calls everything before the headers a connect fault: its chain of causes knows better.
    3. A failed (not slow) connection may be the resolver's or TLS's doing, which only the texts tell.
    """
    kind = next(FAULTS[each] for each in type(error).__mro__ if each in FAULTS)
    if kind is None:
        # Without its text, which may quote what was to be sent.
        return NotSent(f"the exchange failed on our side: {type(error).__name__}")
    slow = isinstance(error, httpx.TimeoutException | rust.RequestTimeoutError)
    clues = list(_clues(error))
    if kind is FaultKind.CONNECT and _is_rust(error) and _CONNECTING not in clues:
        kind = FaultKind.TIMEOUT if slow else FaultKind.PROTOCOL
    if slow:
        return Unreachable(kind, _MESSAGES[kind] + (" in time" if kind is FaultKind.CONNECT else ""))
    detail = clues[-1] if clues else type(error).__name__
    if any(_NO_DESCRIPTORS.search(clue) for clue in clues):
        return NotSent("the monitor has too many files open: raise its limit (ulimit -n, LimitNOFILE=)")
    if kind in {FaultKind.CONNECT, FaultKind.PROTOCOL}:
        kind, detail = next(
            ((told, clue) for told, pattern in _TELLS for clue in clues if pattern.match(clue)),
            (kind, detail),
        )
    if kind is FaultKind.DNS:
        detail = _resolver_error(detail)
    return Unreachable(kind, f"{_MESSAGES[kind]}: {harmless(detail)}")


def _is_rust(error: Exception) -> bool:
    return isinstance(error, rust.PyreqwestError) or isinstance(error.__cause__, rust.PyreqwestError)


def _clues(error: BaseException | None) -> Iterator[str]:
    """What an error and its causes say, the deepest last; without the sentence that names the URL."""
    while error is not None:
        texts = [str(error)]
        if isinstance(error, rust.DetailedPyreqwestError):
            texts = [cause["message"] for cause in error.details["causes"] or ()]
        yield from (text for text in texts if text and " for url (" not in text)
        if isinstance(error, BaseExceptionGroup):  # asyncio's, where a host has several addresses
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__  # httpcore's pool cuts the cause off: "from None"


def _resolver_error(text: str) -> str:
    """A resolver's complaint as Python spells it: the number tells "no such name" from "no resolver"."""
    for number, pattern in _RESOLVER_ERRORS:
        if found := pattern.search(text):
            return f"[Errno {number}] {found[0]}"
    return text


@dataclass(frozen=True, slots=True)
class _Answer:
    """An HTTP answer, whole. It may hold a token: it stays in this module."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    waited_seconds: float
    """From the start to the headers."""


@dataclass(slots=True)
class _Line:
    """A transport, and how many requests are under way on it."""

    transport: httpx.AsyncBaseTransport
    requests: int = 0


class Exchanger:
    """Makes exchanges: one transport and one TLS configuration for all orgs, and a bound on those in flight.

    Belongs to one event loop. `aclose` it: what is under way then ends as `NotSent` or `Unreachable`.
    """

    def __init__(
        self,
        *,
        limits: Limits = Limits(),
        ca_file: Path | None = None,
        allowed_hosts: frozenset[str] = frozenset(),
        transport: TransportFactory = rust_transport,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises `CaFileError` where `ca_file` can't be used. `clock` is the wall clock, aware."""
        self._limits = limits
        self.allowed_hosts = allowed_hosts
        """Further hosts that may receive assertions; a reload may change them."""
        self.now = clock
        """The present moment, by the clock that its exchanges go by."""
        self._ca_file = ca_file
        self._transport = transport
        self._line = self._new_line()
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._signing = asyncio.Lock()
        self._in_flight = 0

    def _new_line(self) -> _Line:
        return _Line(self._transport(self._limits, self._ca_file))

    @property
    def in_flight(self) -> int:
        """How many exchanges are under way; those that wait for their turn are not counted."""
        return self._in_flight

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._line.transport.aclose()

    async def exchange(
        self,
        connection: Connection,
        sign: Callable[[datetime], str],
        *,
        after_login: bool = False,
        inside: Inside | None = None,
    ) -> Exchange:
        """One exchange: waits for its turn, signs, posts, and reads the answer.

        `sign` gets the time of sending and returns the assertion (`core.assertion.sign` with the key's
        pair). With `after_login`, a grant is followed by one REST call with the token, if the org's
        instance is an allowed host; `inside` may then ask the org more with the same token.
        `clock_offset_seconds` is the answer's `Date`, half a second added for its rounding, less our clock
        when its headers came: right to half a second and the way back. What `sign` raises is raised.
        """
        async with self._slots:
            self._in_flight += 1
            try:
                return await self._exchange(connection, sign, after_login=after_login, inside=inside)
            finally:
                self._in_flight -= 1

    async def _exchange(
        self,
        connection: Connection,
        sign: Callable[[datetime], str],
        *,
        after_login: bool,
        inside: Inside | None,
    ) -> Exchange:
        if not self._may_receive(connection.login_url):
            return Exchange(
                self.now(), NotSent("the login URL is not of a host that is allowed to receive assertions")
            )
        async with self._signing:
            at = self.now()
            form = urlencode({"grant_type": GRANT_TYPE, "assertion": sign(at)})
            await asyncio.sleep(0)  # one signature in a turn of the loop: all in flight would keep it a while
        started = time.perf_counter()
        answer = await self._ask(
            "POST", connection.token_endpoint, form, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        duration = time.perf_counter() - started
        if isinstance(answer, NotSent):
            return Exchange(at, answer)
        if isinstance(answer, Unreachable):
            return Exchange(at, answer, duration_seconds=duration)
        outcome = _read(answer)
        offset = clock_offset(answer.headers.get("date"), at + timedelta(seconds=answer.waited_seconds))
        called, usage = None, None
        if isinstance(outcome, Granted):
            rest = _Rest(self, _instance(outcome, connection), answer.body)
            if after_login and (resources := await rest.get(REST_PATH)):
                called = read_after_login(resources.status, resources.body)
            if inside and not (called and called.error):
                await inside(outcome, at + timedelta(seconds=offset or 0), rest.get)
            usage = rest.usage
        return Exchange(
            at,
            outcome,
            after_login=called,
            duration_seconds=duration,
            clock_offset_seconds=offset,
            usage=usage,
        )

    async def rest(self, url: str, token: str) -> "tuple[Reply, ApiUsage | None] | None":
        """The answer to a REST call, and what it says of the API allocation; None where none came."""
        if not _TOKEN.fullmatch(token) or not self._may_receive(url):
            return None
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self._ask("GET", url, "", headers, most=LARGEST_ANSWER)
        if not isinstance(answer, _Answer) or httpx.codes.is_redirect(answer.status):
            return None
        used = _USAGE.search(answer.headers.get("sforce-limit-info", ""))
        return Reply(answer.status, answer.body), ApiUsage(int(used[1]), int(used[2])) if used else None

    def _may_receive(self, url: str) -> bool:
        """Whether the allow list has this address, and no two parsers could read another host from it."""
        try:
            return bool(_PLAIN_URL.fullmatch(url)) and may_receive_assertions(url, self.allowed_hosts)
        except ValueError:
            return False

    async def _ask(
        self, method: str, url: str, form: str, headers: dict[str, str], most: int = MAX_ANSWER_BYTES
    ) -> _Answer | Unreachable | NotSent:
        """One request and its answer, or why there is none."""
        try:
            request = httpx.Request(method, url, headers=_HEADERS | headers, content=form.encode())
        except (httpx.InvalidURL, ValueError):
            return NotSent("the address is not a usable URL")
        line = self._line
        line.requests += 1
        try:
            answer: _Answer | Unreachable | NotSent = await self._receive(line.transport, request, most)
        except _FaultError as error:
            answer = Unreachable(error.kind, f"{_MESSAGES[error.kind]}: {error}")
        except _KNOWN as error:
            answer = _fault(error)
            # The libraries' frames hold the error, and so each other and the request: nothing would free the
            # assertion but the garbage collector, some time.
            traceback.clear_frames(error.__traceback__)
        finally:
            line.requests -= 1
            if line is not self._line and not line.requests:
                await line.transport.aclose()
        if isinstance(answer, Unreachable) and answer.kind is FaultKind.POOL and line is self._line:
            self._line = self._new_line()
            if not line.requests:
                await line.transport.aclose()
        return answer

    async def _receive(
        self, transport: httpx.AsyncBaseTransport, request: httpx.Request, most: int
    ) -> _Answer:
        """The whole answer, bounded. What exceeds the bounds raises `_FaultError`."""
        started = time.perf_counter()
        response = await transport.handle_async_request(request)
        waited = time.perf_counter() - started
        deadline = started + self._limits.whole.total_seconds()
        raw = bytearray()
        try:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:
                raw += chunk
                if len(raw) > most:
                    raise _too_large(response, most)
                # Between chunks, and not by a cancellation around all of it, which httpcore's pool does not
                # survive.
                if time.perf_counter() > deadline:
                    raise _FaultError(FaultKind.TIMEOUT, f"{len(raw)} bytes came")
        finally:
            await response.aclose()
        return _Answer(response.status_code, response.headers, _decoded(bytes(raw), response, most), waited)


_KNOWN = tuple(FAULTS)

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "bearerwatch",
}

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What may stand in a header. Anything else would be an error that quotes the token."""

_USAGE = re.compile(r"api-usage=(\d{1,9})/(\d{1,9})")

_PLAIN_URL = re.compile(r"https?://[!-?A-\[\]-~]+", re.IGNORECASE)
"""ASCII without blanks, `@` and backslash: parsers differ on where the host begins with those."""


def _read(answer: _Answer) -> Granted | Refused | Unreachable:
    """What an answer says. One that our reader fails at is not usable, but the login was made."""
    try:
        return read_answer(answer.status, answer.headers, answer.body)
    except Exception as fault:
        log.exception("answer_not_read", status=answer.status)
        return Unreachable(
            FaultKind.PROTOCOL,
            f"{_MESSAGES[FaultKind.PROTOCOL]}: HTTP {answer.status}, which the monitor failed to read"
            f" ({type(fault).__name__})",
        )


def _instance(granted: Granted, connection: Connection) -> str:
    """Where the org serves its API: the login URL (it may have a path) if the grant names its origin. Empty
    where an org on the network names this machine: it has no say in what is asked of that.
    """
    named = granted.instance_url
    url = named if named and not f"{connection.login_url}/".startswith(f"{named}/") else connection.login_url
    return "" if is_loopback(url) and not is_loopback(connection.login_url) else url.rstrip("/")


class _Rest:
    """The REST API of the org that granted a token. The token stays in here."""

    def __init__(self, exchanger: Exchanger, instance: str, granted: bytes) -> None:
        self._exchanger, self._instance = exchanger, instance
        self._token = token_in(granted) or ""
        self.usage: ApiUsage | None = None
        """As the last answer said."""

    async def get(self, path: str) -> Reply | None:
        """One GET; None where none was made or no answer came."""
        answer = await self._exchanger.rest(self._instance + path, self._token)
        if answer is None:
            return None
        reply, usage = answer
        self.usage = usage or self.usage
        return reply


def _too_large(response: httpx.Response, most: int) -> _FaultError:
    return _FaultError(
        FaultKind.PROTOCOL, f"more than {most // 1024} KiB, with status {response.status_code}"
    )


def _decoded(raw: bytes, response: httpx.Response, most: int) -> bytes:
    """The body as it was before `Content-Encoding`, bounded. We ask for none, yet some proxies compress."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"} or not raw:
        return raw
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise _FaultError(FaultKind.PROTOCOL, f"encoded as {harmless(encoding)}, which was not asked for")
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, as its header says
    try:
        body = decoder.decompress(raw, most + 1)
    except zlib.error:
        raise _FaultError(FaultKind.PROTOCOL, f"not encoded as {encoding}, as it says it is") from None
    if len(body) > most:
        raise _too_large(response, most)
    if not decoder.eof:
        raise _FaultError(FaultKind.PROTOCOL, f"its {encoding} encoding ends too early")
    return body


def clock_offset(date: str | None, now: datetime) -> float | None:
    """A `Date` header less our clock, in seconds; None where there is no date that can be read."""
    try:
        server = parsedate_to_datetime(date or "")
        if server.tzinfo is None:  # "-0000": a time in UTC of which nobody says where it was taken
            server = server.replace(tzinfo=UTC)
        return (server - now).total_seconds() + DATE_ROUNDING_SECONDS
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
