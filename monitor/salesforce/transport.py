"""The HTTP transport below the exchanges and the notifications: requests, and the kinds of their faults.

It is pyreqwest (Rust: hyper and rustls), chosen by measurement. CPU of a whole exchange (sign, new TLS
connection, POST, read the answer), relative to a blocking `ssl` exchange with a bare signature in the same
run (2 cores, Python 3.11, medians of 5 x 400): pyreqwest 0.74, httpcore 1.75. Neither httpx's client nor its
requests and responses are in between: those alone cost a tenth of a check, and the client would add cookies,
redirects and environment proxies. pyreqwest ends a trickle of header lines on time, resolves names on
separate threads, and loses no connection when a request is cancelled; httpcore does none of these. Both
distinguish faults equally well; for pyreqwest, by the texts of its chain of causes (`_TELLS`). The tests also
run with httpcore, as a fallback, because pyreqwest is young.
"""

import os
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import certifi
import httpx
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from pyreqwest import exceptions as rust
from pyreqwest.bytes import Bytes
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.compatibility.httpx import HttpxTransport
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import StreamRequest

from monitor.core.connection import LOOPBACK_HOSTS
from monitor.core.outcome import FaultKind, NotSent, Unreachable
from monitor.core.problem import OperatorError
from monitor.core.verdict.answer import CODE_LIMIT, harmless

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


LIMITS = Limits()


class RustTransport(HttpxTransport):
    """pyreqwest's for httpx, and the client below it."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.client = client


TransportFactory = Callable[[Limits, Path | None], httpx.AsyncBaseTransport]
"""Creates a transport with these limits that also trusts the certificates in a PEM file."""


def rust_transport(
    limits: Limits,
    ca_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    decodes: bool = True,
) -> httpx.AsyncBaseTransport:
    """A transport based on pyreqwest.

    Trusts the system's root certificates (or `SSL_CERT_FILE` and `SSL_CERT_DIR`), or certifi's if the system
    has none, and those in `ca_file`. Uses the proxy in `https_proxy` or `all_proxy`, except for hosts in
    `no_proxy` and loopback (so never for plain HTTP). All faults before the headers are `ConnectError` or
    `ConnectTimeout`: `fault` reads the chain of causes. If it `decodes`, a body that is not encoded as its
    header says is a fault.
    """
    roots, proxy = _certificates(ca_file), _proxy(environ)
    try:
        return RustTransport(_rust_client(limits, roots, proxy, decodes))
    except rust.BuilderError:
        roots += _certificates(Path(certifi.where()))
        return RustTransport(_rust_client(limits, roots, proxy, decodes))


def _rust_client(limits: Limits, roots: list[bytes], proxy: ProxyBuilder | None, decodes: bool) -> Client:
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
        .gzip(decodes)  # we ask for no encoding, but some proxies compress
        .deflate(decodes)
        .brotli(decodes)
        .zstd(decodes)
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
        raise OperatorError(
            f"{file}: cannot be read ({error.strerror}); it must contain PEM certificates"
        ) from error
    except ValueError as error:
        raise OperatorError(
            f"{file}: contains no readable certificate; it must contain PEM certificates"
        ) from error


def _proxy(environ: Mapping[str, str]) -> ProxyBuilder | None:
    """The environment's HTTPS proxy, read like curl: lower case first. Raises OperatorError."""

    def variable(name: str) -> str:
        return environ.get(name) or environ.get(name.upper()) or ""

    address = variable("https_proxy") or variable("all_proxy")
    if not address:
        return None
    try:
        proxy = ProxyBuilder.https(address if "://" in address else f"http://{address}")
    except ValueError:  # unchained: the URL may contain a password
        raise OperatorError(
            "https_proxy or all_proxy in the environment is not a proxy address: write e.g. "
            "http://proxy.example.com:3128."
        ) from None
    return proxy.no_proxy(",".join([*sorted(LOOPBACK_HOSTS), variable("no_proxy")]))


FAULTS: Mapping[type[Exception], FaultKind | None] = {
    httpx.HTTPError: FaultKind.PROTOCOL,
    httpx.TimeoutException: FaultKind.TIMEOUT,
    httpx.ConnectTimeout: FaultKind.CONNECT,
    httpx.PoolTimeout: FaultKind.POOL,
    httpx.ConnectError: FaultKind.CONNECT,
    httpx.ProxyError: FaultKind.CONNECT,
    httpx.UnsupportedProtocol: None,
    httpx.LocalProtocolError: None,
    httpx.HTTPStatusError: None,
    httpx.InvalidURL: None,
    httpx.CookieConflict: None,
    httpx.StreamError: None,
    # pyreqwest's transport converts only some of its errors, and none while reading a body.
    rust.PyreqwestError: FaultKind.PROTOCOL,
    rust.StatusError: None,
    rust.JSONDecodeError: None,
    rust.RequestTimeoutError: FaultKind.TIMEOUT,
    rust.ConnectTimeoutError: FaultKind.CONNECT,
    rust.PoolTimeoutError: FaultKind.POOL,
    rust.ConnectError: FaultKind.CONNECT,
    rust.ClientClosedError: None,
    rust.BuilderError: None,
    rust.RequestPanicError: None,
    # httpcore lets some socket and TLS errors through.
    OSError: FaultKind.PROTOCOL,
    # Raised by pyreqwest's transport for an answer header that isn't text, and by asyncio's resolver for
    # a host name that is invalid in IDNA.
    ValueError: FaultKind.PROTOCOL,
}
"""The kind of fault by error class; the nearest class in an error's MRO decides. None: our own fault
(`NotSent`)."""

_LOOKUP = "failed to lookup address information: "

_TELLS = (
    (FaultKind.DNS, re.compile(rf"\[Errno -\d+\] |{_LOOKUP}")),
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

_MESSAGES = {
    FaultKind.DNS: "the host name was not resolved",  # must not match NO_SUCH_NAME
    FaultKind.CONNECT: "could not connect",
    FaultKind.TLS: "no trusted TLS connection",
    FaultKind.TIMEOUT: "no complete answer in time",
    FaultKind.PROTOCOL: "no usable answer",
    FaultKind.POOL: "our own connection pool had no free connection",
}


def fault(error: Exception) -> Unreachable | NotSent:
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
    is_rust = isinstance(error, rust.PyreqwestError) or isinstance(error.__cause__, rust.PyreqwestError)
    if kind is FaultKind.CONNECT and is_rust and _CONNECTING not in clues:
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
    return unreachable(kind, harmless(detail.removeprefix(_LOOKUP)))


def unreachable(kind: FaultKind, detail: str) -> Unreachable:
    """The outcome of a fault, in words."""
    return Unreachable(kind, f"{_MESSAGES[kind]}: {detail}")


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


@dataclass(frozen=True, slots=True)
class Head:
    """How an HTTP answer begins."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By names in small letters."""
    read: Callable[[], Awaitable[bytes | Bytes | None]] = field(repr=False)
    """Gives the next piece of the body; None after the last."""


def request(
    transport: httpx.AsyncBaseTransport, method: str, url: str, headers: Mapping[str, str], content: bytes
) -> AbstractAsyncContextManager[Head]:
    """A request, sent where it is entered. Raises ValueError where the address is not usable."""
    if isinstance(transport, RustTransport):
        built = transport.client.request(method, url).headers(headers).body_bytes(content)
        return _by_pyreqwest(built.build_streamed())
    try:
        return _by_httpx(transport, httpx.Request(method, url, headers=headers, content=content))
    except httpx.InvalidURL as error:
        raise ValueError from error


_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters, which neither UTF-8 nor an older character set has in a text."""


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """A body whose `Content-Encoding` the transport does not know; at most `most` bytes.

    1. `x-gzip` and `GZIP` are gzip (RFC 9110, section 8.4.1.3).
    2. A text is taken as it is: some servers put a charset there.
    3. For anything else, raises ValueError with the reason.
    """
    if encoding.strip().lower() in {"gzip", "x-gzip"}:
        reader = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            plain = reader.decompress(body, most + 1)
        except zlib.error:
            raise ValueError("broken gzip") from None
        if len(plain) > most:
            raise ValueError(f"more than {most // 1024} KiB")
        if body and not reader.eof:
            raise ValueError("gzip that ends too early")
        return plain
    if encoding and _NO_TEXT.search(body):
        raise ValueError(f"its Content-Encoding is unknown ({harmless(encoding, CODE_LIMIT)})")
    return body


@asynccontextmanager
async def _by_pyreqwest(request: StreamRequest) -> AsyncIterator[Head]:
    async with request as answer:
        yield Head(answer.status, dict(answer.headers.items()), answer.body_reader.read_chunk)


@asynccontextmanager
async def _by_httpx(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> AsyncIterator[Head]:
    answer = await transport.handle_async_request(request)
    headers = answer.headers.copy()
    if headers.get("content-encoding", "").lower() in {"gzip", "deflate"}:  # `aiter_bytes` decodes them
        del headers["content-encoding"]
    try:
        yield Head(answer.status_code, headers, partial(anext, answer.aiter_bytes(), None))
    finally:
        await answer.aclose()
