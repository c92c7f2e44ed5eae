"""Posts an assertion to a token endpoint and returns an Outcome. The only module that talks to orgs.

For every exchange:

* The assertion is in the body, sent to an allowed host over verified TLS; plain HTTP only to loopback.
* No cookies, redirects or connection reuse: every probe sees what a new client sees, and nothing leaks
  between orgs.
* HTTP/1.1, at most 64 KiB of answer, and a fixed total timeout, however slowly data trickles in.
* At most `Limits.in_flight` exchanges at once. The assertion is signed after queueing, so that it does not
  age.
* Failures of network and server are values, whose text contains neither assertion nor token.

**The transport** is pyreqwest (Rust: hyper and rustls), chosen by measurement. CPU of a whole exchange (sign,
new TLS connection, POST, read the answer), relative to a blocking `ssl` exchange with a bare signature in the
same run (2 cores, Python 3.11, medians of 5 x 400): pyreqwest 0.74, httpcore 1.75. Neither httpx's client nor
its requests and responses are in between: those alone cost a tenth of a check, and the client would add
cookies, redirects and environment proxies. pyreqwest ends a trickle of header lines on time, resolves names
on separate threads, and loses no connection when a request is cancelled; httpcore does none of these. Both
distinguish faults equally well; for pyreqwest, by the texts of its chain of causes (`_TELLS`). The tests also
run with httpcore, as a fallback, because pyreqwest is young.
"""

import asyncio
import os
import re
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import certifi
import httpx
import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from pyreqwest import exceptions as rust
from pyreqwest.bytes import Bytes
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.compatibility.httpx import HttpxTransport
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import StreamRequest

from monitor.core.connection import LOOPBACK_HOSTS, Connection, is_loopback, may_receive_assertions
from monitor.core.outcome import (
    NO_STATUS,
    AfterLogin,
    ApiUsage,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Refused,
    Unreachable,
)
from monitor.core.problem import OperatorError
from monitor.core.verdict.answer import harmless, read_after_login, read_answer, token_in
from monitor.salesforce.org import LARGEST_ANSWER, REST_PATH, Inside, Reply

log = structlog.get_logger()

MAX_ANSWER_BYTES = 64 * 1024
"""Longest answer to read. Answers have 1 to 2 KiB, a maintenance page about 10 KiB (*observed*)."""

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FORM = f"grant_type={quote(GRANT_TYPE)}&assertion="

DATE_ROUNDING_SECONDS = 0.5
"""`Date` is truncated to whole seconds, so on average the server's clock is half a second ahead of it."""

SPARE_CONNECTIONS = 16
"""Extra connections in the pool: some may still be closing after their exchange has ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts of an exchange, and how many may run at once."""

    connect: timedelta = timedelta(seconds=10)
    """For DNS, TCP and TLS together: three lost SYN packets take 7 s."""
    answer: timedelta = timedelta(seconds=20)
    """From the start to the answer's headers; longer than `connect`, to distinguish the two."""
    whole: timedelta = timedelta(seconds=30)
    """From the start to the answer's last byte."""
    pool: timedelta = timedelta(seconds=5)
    """For a connection from the pool. One is always free, as `in_flight` is smaller: waiting is a fault."""
    in_flight: int = 128
    """10,000 connections every 5 minutes, a tenth of which hang, occupy 67."""


class RustTransport(HttpxTransport):
    """pyreqwest's for httpx, and the client below it."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.client = client


TransportFactory = Callable[[Limits, Path | None], httpx.AsyncBaseTransport]
"""Creates a transport with these limits that also trusts the certificates in a PEM file."""


class CaFileError(OperatorError):
    """`ca_file` can't be used. The message says why."""


class ProxyError(OperatorError):
    """The environment's proxy can't be used. The message says how to fix it."""


def rust_transport(
    limits: Limits, ca_file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> httpx.AsyncBaseTransport:
    """A transport based on pyreqwest.

    Trusts the system's root certificates (or `SSL_CERT_FILE` and `SSL_CERT_DIR`), or certifi's if the system
    has none, and those in `ca_file`. Uses the proxy in `https_proxy` or `all_proxy`, except for hosts in
    `no_proxy` and loopback (so never for plain HTTP). All faults before the headers are `ConnectError` or
    `ConnectTimeout`: `_fault` reads the chain of causes.
    """
    roots, proxy = _certificates(ca_file), _proxy(environ)
    try:
        return RustTransport(_rust_client(limits, roots, proxy))
    except rust.BuilderError:
        return RustTransport(_rust_client(limits, roots + _certificates(Path(certifi.where())), proxy))


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
    """The certificates in a PEM file, as DER."""
    if file is None:
        return []
    try:
        return [each.public_bytes(Encoding.DER) for each in load_pem_x509_certificates(file.read_bytes())]
    except OSError as error:
        raise CaFileError(
            f"{file}: cannot be read ({error.strerror}); it must contain PEM certificates"
        ) from error
    except ValueError as error:
        raise CaFileError(
            f"{file}: contains no readable certificate; it must contain PEM certificates"
        ) from error


def _proxy(environ: Mapping[str, str]) -> ProxyBuilder | None:
    """The environment's HTTPS proxy, read like curl: lower-case variables first, http by default. Raises
    ProxyError.
    """

    def variable(name: str) -> str:
        return environ.get(name) or environ.get(name.upper()) or ""

    address = variable("https_proxy") or variable("all_proxy")
    if not address:
        return None
    try:
        proxy = ProxyBuilder.https(address if "://" in address else f"http://{address}")
    except ValueError:  # unchained: the URL may contain a password
        raise ProxyError(
            "https_proxy or all_proxy in the environment is not a proxy address: write e.g. "
            "http://proxy.example.com:3128."
        ) from None
    return proxy.no_proxy(",".join([*sorted(LOOPBACK_HOSTS), variable("no_proxy")]))


# The kind of fault by error class. None: our own fault (`NotSent`). The nearest class in the error's MRO
# decides; a test compares this with all classes in httpx and pyreqwest.
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
        # pyreqwest's transport converts only some of its errors, and none while reading a body.
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
        # httpcore lets some socket and TLS errors through.
        OSError: FaultKind.PROTOCOL,
        # Raised by pyreqwest's transport for an answer header that isn't text, and by asyncio's resolver for
        # a host name that is invalid in IDNA.
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
"""Prefixes of texts that identify DNS and TLS faults: Python's and OpenSSL's, then Rust's."""

_NO_DESCRIPTORS = re.compile(r"Too many open files|\[Errno (23|24)\]")
"""The process or machine has no file descriptors left: not a network fault."""

_CONNECTING = "client error (Connect)"
"""In pyreqwest's chain of causes exactly if there was no connection yet."""

_RESOLVER_ERRORS = (
    (-2, re.compile(r"Name (or service not known|does not resolve)")),
    (-3, re.compile(r"Temporary failure in name resolution|Try again")),
    (-5, re.compile(r"No address associated with hostname|Name has no usable address")),
)
"""`getaddrinfo`'s error numbers on Linux by text (glibc's, then musl's), in Python's format."""

_MESSAGES = MappingProxyType(
    {
        FaultKind.DNS: "the host name was not resolved",  # must not match NO_SUCH_NAME
        FaultKind.CONNECT: "could not connect",
        FaultKind.TLS: "no trusted TLS connection",
        FaultKind.TIMEOUT: "no complete answer in time",
        FaultKind.PROTOCOL: "no usable answer",
        FaultKind.POOL: "our own connection pool had no free connection and was rebuilt",
    }
)


class _FaultError(Exception):
    """We stop reading the answer."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def _fault(error: Exception) -> Unreachable | NotSent:
    """Classify a transport error.

    1. By its class.
    2. pyreqwest reports everything before the headers as a connect fault; its chain of causes is precise.
    3. A failed (not slow) connection may be a DNS or TLS fault, which only the texts show.
    """
    kind = next(FAULTS[each] for each in type(error).__mro__ if each in FAULTS)
    if kind is None:
        # Without its text, which may quote the request.
        return NotSent(f"the exchange failed on our side: {type(error).__name__}")
    slow = isinstance(error, httpx.TimeoutException | rust.RequestTimeoutError)
    clues = list(_clues(error))
    if kind is FaultKind.CONNECT and _is_rust(error) and _CONNECTING not in clues:
        kind = FaultKind.TIMEOUT if slow else FaultKind.PROTOCOL
    if slow:
        return Unreachable(kind, _MESSAGES[kind] + (" in time" if kind is FaultKind.CONNECT else ""))
    detail = clues[-1] if clues else type(error).__name__
    if any(_NO_DESCRIPTORS.search(clue) for clue in clues):
        return NotSent("the monitor has too many open files: raise the limit (ulimit -n, LimitNOFILE=)")
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
    """The texts of an error and its causes, deepest last, without the sentence that contains the URL."""
    while error is not None:
        texts = [str(error)]
        if isinstance(error, rust.DetailedPyreqwestError):
            texts = [cause["message"] for cause in error.details["causes"] or ()]
        yield from (text for text in texts if text and " for url (" not in text)
        if isinstance(error, BaseExceptionGroup):  # from asyncio, if a host has several addresses
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__  # httpcore's pool raises "from None"


def _resolver_error(text: str) -> str:
    """A resolver error in Python's format, with the number that distinguishes "no such name" from others."""
    for number, pattern in _RESOLVER_ERRORS:
        if found := pattern.search(text):
            return f"[Errno {number}] {found[0]}"
    return text


@dataclass(frozen=True, slots=True)
class _Head:
    """How an HTTP answer begins."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By names in small letters."""
    read: Callable[[], Awaitable[bytes | Bytes | None]] = field(repr=False)
    """Gives the next piece of the body; None after the last."""


def _request(
    transport: httpx.AsyncBaseTransport, method: str, url: str, headers: Mapping[str, str], content: bytes
) -> AbstractAsyncContextManager[_Head]:
    """A request, sent where it is entered. Raises ValueError where the address is not usable."""
    if isinstance(transport, RustTransport):
        built = transport.client.request(method, url).headers(headers).body_bytes(content)
        return _by_pyreqwest(built.build_streamed())
    try:
        return _by_httpx(transport, httpx.Request(method, url, headers=headers, content=content))
    except httpx.InvalidURL as error:
        raise ValueError from error


@asynccontextmanager
async def _by_pyreqwest(request: StreamRequest) -> AsyncIterator[_Head]:
    async with request as answer:
        yield _Head(answer.status, dict(answer.headers.items()), answer.body_reader.read_chunk)


@asynccontextmanager
async def _by_httpx(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> AsyncIterator[_Head]:
    answer = await transport.handle_async_request(request)
    assert isinstance(answer.stream, httpx.AsyncByteStream)
    try:
        yield _Head(answer.status_code, answer.headers, partial(anext, aiter(answer.stream), None))
    finally:
        await answer.aclose()


@dataclass(frozen=True, slots=True)
class _Answer:
    """A complete HTTP answer. May contain a token, so it must not leave this module."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    waited_seconds: float
    """From the start to the headers."""


@dataclass(slots=True)
class _Line:
    """A transport and its number of running requests."""

    transport: httpx.AsyncBaseTransport
    requests: int = 0


class Exchanger:
    """Performs exchanges, with one transport and TLS configuration for all orgs, and a limit on concurrency.

    Use it in one event loop. On `aclose`, running exchanges end as `NotSent` or `Unreachable`.
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
        """Raises CaFileError if `ca_file` can't be used. `clock` gives aware wall-clock times."""
        self._limits = limits
        self.allowed_hosts = allowed_hosts
        """Additional hosts that may receive assertions; a reload may change them."""
        self.now = clock
        """The current time, by the clock used for exchanges."""
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
        """Number of running exchanges, without those waiting."""
        return self._in_flight

    async def aclose(self) -> None:
        """Close the connections."""
        await self._line.transport.aclose()

    async def exchange(
        self,
        connection: Connection,
        sign: Callable[[datetime], str],
        *,
        after_login: bool = False,
        inside: Inside | None = None,
    ) -> Exchange:
        """One exchange: waits for a slot, signs, posts, and reads the answer.

        `sign` gets the time of sending and returns the assertion (see `core.keys.assertion.sign`). With
        `after_login`, a grant is followed by one REST call with the token, if the org's instance is an
        allowed host; `inside` may then make more calls with the same token. `clock_offset_seconds` is the
        answer's `Date`, plus half a second for rounding, minus our clock when the headers arrived: exact to
        half a second plus network delay. Raises whatever `sign` raises.
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
            return Exchange(self.now(), NotSent("the login URL's host is not allowed to receive assertions"))
        async with self._signing:
            at = self.now()
            form = _FORM + quote(sign(at))
            await asyncio.sleep(0)  # one signature per iteration of the loop, so that it isn't blocked
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
            if after_login:
                called = await rest.first_call()
            if inside and (called is None or called.proves):
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

    async def rest(self, url: str, token: str) -> "tuple[Reply, ApiUsage | None] | AfterLogin":
        """The answer to a REST call and the API usage in it, or why there is none."""
        if not _TOKEN.fullmatch(token):
            return AfterLogin(NO_STATUS, "", "not made: the token is not valid in a header")
        if not self._may_receive(url):
            return AfterLogin(NO_STATUS, "", "not made: the org's API address is not an allowed host")
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self._ask("GET", url, "", headers, most=LARGEST_ANSWER)
        if not isinstance(answer, _Answer):
            return AfterLogin(NO_STATUS, "", answer.message)
        if httpx.codes.is_redirect(answer.status):
            return AfterLogin(answer.status, "", "a redirect, which is not followed")
        used = _USAGE.search(answer.headers.get("sforce-limit-info", ""))
        return Reply(answer.status, answer.body), ApiUsage(int(used[1]), int(used[2])) if used else None

    def _may_receive(self, url: str) -> bool:
        """Whether the address is on the allow list, and all parsers agree on its host."""
        try:
            return bool(_PLAIN_URL.fullmatch(url)) and may_receive_assertions(url, self.allowed_hosts)
        except ValueError:
            return False

    async def _ask(
        self, method: str, url: str, form: str, headers: dict[str, str], most: int = MAX_ANSWER_BYTES
    ) -> _Answer | Unreachable | NotSent:
        """One request: its answer, or why there is none."""
        line = self._line
        try:
            request = _request(line.transport, method, url, _HEADERS | headers, form.encode())
        except ValueError:
            return NotSent("the address is not a usable URL")
        line.requests += 1
        try:
            answer: _Answer | Unreachable | NotSent = await self._receive(request, most)
        except _FaultError as error:
            answer = Unreachable(error.kind, f"{_MESSAGES[error.kind]}: {error}")
        except _KNOWN as error:
            answer = _fault(error)
            # The libraries' frames form a reference cycle with the error, which would keep the assertion in
            # memory until the next garbage collection.
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

    async def _receive(self, request: AbstractAsyncContextManager[_Head], most: int) -> _Answer:
        """Read the complete answer. Raises _FaultError beyond the limits."""
        started = time.perf_counter()
        deadline = started + self._limits.whole.total_seconds()
        raw = bytearray()
        async with request as head:
            waited = time.perf_counter() - started
            while (piece := await head.read()) is not None:
                raw += piece
                if len(raw) > most:
                    raise _too_large(head.status, most)
                # Checked between pieces, as httpcore's pool does not survive a cancellation.
                if time.perf_counter() > deadline:
                    raise _FaultError(FaultKind.TIMEOUT, f"{len(raw)} bytes received")
        return _Answer(head.status, head.headers, _decoded(bytes(raw), head, most), waited)


_KNOWN = tuple(FAULTS)

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "bearerwatch",
}

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""A token that can be put into a header. Anything else would raise an error that quotes it."""

_USAGE = re.compile(r"api-usage=(\d{1,9})/(\d{1,9})")

_PLAIN_URL = re.compile(r"https?://[!-?A-\[\]-~]+", re.IGNORECASE)
"""ASCII without blanks, `@` and backslash, for which parsers disagree on where the host begins."""


def _read(answer: _Answer) -> Granted | Refused | Unreachable:
    """Parse an answer. If our parser fails, the answer is unusable, but the login was made."""
    try:
        return read_answer(answer.status, answer.headers, answer.body)
    except Exception as fault:
        log.exception("answer_not_read", status=answer.status)
        return Unreachable(
            FaultKind.PROTOCOL,
            f"{_MESSAGES[FaultKind.PROTOCOL]}: HTTP {answer.status}, which the monitor could not read"
            f" ({type(fault).__name__})",
        )


def _instance(granted: Granted, connection: Connection) -> str:
    """The org's API base URL: the login URL (which may have a path) if the grant has the same origin. Empty
    if a remote org names this machine, to prevent requests to it.
    """
    named = granted.instance_url
    url = named if named and not f"{connection.login_url}/".startswith(f"{named}/") else connection.login_url
    return "" if is_loopback(url) and not is_loopback(connection.login_url) else url.rstrip("/")


class _Rest:
    """The REST API of the org that granted a token. Keeps the token private."""

    def __init__(self, exchanger: Exchanger, instance: str, granted: bytes) -> None:
        self._exchanger, self._instance = exchanger, instance
        self._token = token_in(granted) or ""
        self.usage: ApiUsage | None = None
        """From the last answer."""

    async def get(self, path: str) -> Reply | None:
        """One GET; None if it was not made or not answered."""
        reply = await self._reply(path)
        return reply if isinstance(reply, Reply) else None

    async def first_call(self) -> AfterLogin:
        """The first call with the token."""
        reply = await self._reply(REST_PATH)
        return read_after_login(reply.status, reply.body) if isinstance(reply, Reply) else reply

    async def _reply(self, path: str) -> Reply | AfterLogin:
        answer = await self._exchanger.rest(self._instance + path, self._token)
        if isinstance(answer, AfterLogin):
            return answer
        reply, usage = answer
        self.usage = usage or self.usage
        return reply


def _too_large(status: int, most: int) -> _FaultError:
    return _FaultError(FaultKind.PROTOCOL, f"more than {most // 1024} KiB, with status {status}")


def _decoded(raw: bytes, head: _Head, most: int) -> bytes:
    """The body without its `Content-Encoding`, bounded. We ask for none, but some proxies compress."""
    encoding = head.headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"} or not raw:
        return raw
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise _FaultError(FaultKind.PROTOCOL, f"encoded as {harmless(encoding)}, which was not requested")
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: detect gzip or zlib
    try:
        body = decoder.decompress(raw, most + 1)
    except zlib.error:
        raise _FaultError(FaultKind.PROTOCOL, f"not valid {encoding}, although its header says so") from None
    if len(body) > most:
        raise _too_large(head.status, most)
    if not decoder.eof:
        raise _FaultError(FaultKind.PROTOCOL, f"its {encoding} data is incomplete")
    return body


def clock_offset(date: str | None, now: datetime) -> float | None:
    """A `Date` header minus our clock, in seconds; None without a valid date."""
    try:
        server = parsedate_to_datetime(date or "")
        if server.tzinfo is None:  # "-0000": UTC from an unknown zone
            server = server.replace(tzinfo=UTC)
        return (server - now).total_seconds() + DATE_ROUNDING_SECONDS
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
