"""Each error class of the transports gives one outcome, and the texts below it distinguish faults."""

import inspect
from types import ModuleType

import httpx
import pytest
from pyreqwest import exceptions as rust

from monitor.core.causes import Cause
from monitor.core.outcome import FaultKind, NotSent, Unreachable
from monitor.core.verdict.meaning import of_not_sent
from monitor.salesforce.transport import fault


def exceptions_of(module: ModuleType) -> list[type[Exception]]:
    """The module's own public exception classes."""
    return [
        each
        for name, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Exception) and not name.startswith("_") and each.__module__ == module.__name__
    ]


ALL = {*exceptions_of(httpx), *exceptions_of(rust)}

KINDS: dict[FaultKind | None, set[type[Exception]]] = {
    FaultKind.PROTOCOL: {
        httpx.HTTPError, httpx.RequestError, httpx.TransportError, httpx.NetworkError, httpx.ReadError,
        httpx.WriteError, httpx.CloseError, httpx.ProtocolError, httpx.RemoteProtocolError,
        httpx.DecodingError, httpx.TooManyRedirects,
        rust.PyreqwestError, rust.DetailedPyreqwestError, rust.RequestError, rust.TransportError,
        rust.NetworkError, rust.ReadError, rust.WriteError, rust.DecodeError, rust.BodyDecodeError,
        rust.RedirectError,
        OSError, ValueError,
    },
    FaultKind.TIMEOUT: {
        httpx.TimeoutException, httpx.ReadTimeout, httpx.WriteTimeout,
        rust.RequestTimeoutError, rust.ReadTimeoutError, rust.WriteTimeoutError,
    },
    FaultKind.CONNECT: {
        httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError,
        rust.ConnectError, rust.ConnectTimeoutError,
    },
    FaultKind.POOL: {httpx.PoolTimeout, rust.PoolTimeoutError},
    None: {
        httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.HTTPStatusError, httpx.InvalidURL,
        httpx.CookieConflict, httpx.StreamError, httpx.StreamConsumed, httpx.StreamClosed,
        httpx.ResponseNotRead, httpx.RequestNotRead,
        rust.StatusError, rust.JSONDecodeError, rust.ClientClosedError, rust.BuilderError,
        rust.RequestPanicError,
    },
}  # fmt: skip


def test_every_error_class_of_the_libraries_has_a_known_kind() -> None:
    assert set.union(*KINDS.values()) - {OSError, ValueError} == ALL


def make(error: type[Exception]) -> Exception:
    """An error of this class with a text that quotes a secret."""
    made = error.__new__(error)
    made.args = ("SECRET",)
    if isinstance(made, rust.DetailedPyreqwestError):
        made.details = {"causes": [{"message": "client error (Connect)"}]}
    return made


@pytest.mark.parametrize(
    ("kind", "error"),
    [(kind, error) for kind, errors in KINDS.items() for error in sorted(errors, key=str)],
    ids=lambda each: f"{each.__module__}.{each.__name__}" if isinstance(each, type) else str(each),
)
def test_an_error_gives_its_outcome(kind: FaultKind | None, error: type[Exception]) -> None:
    outcome = fault(make(error))

    if kind is None:
        assert outcome == NotSent(f"the exchange failed on our side: {error.__name__}")
    else:
        assert isinstance(outcome, Unreachable)
        assert outcome.kind is kind
        assert outcome.message


def test_a_new_error_class_of_a_library_maps_like_its_parent() -> None:
    class Newer(httpx.ReadError):
        pass

    outcome = fault(Newer("odd"))

    assert outcome == Unreachable(FaultKind.PROTOCOL, "no usable answer: odd")


def rust_chain(error: type[rust.DetailedPyreqwestError], *texts: str) -> httpx.RequestError:
    """What pyreqwest's transport raises for such a chain of causes."""
    sending = "error sending request for url (https://acme.my.salesforce.com/services/oauth2/token)"
    cause = error("connection error", {"causes": [{"message": text} for text in (sending, *texts)]})
    translated = httpx.ConnectTimeout if issubclass(error, rust.RequestTimeoutError) else httpx.ConnectError
    made = translated("connection error")
    made.__cause__ = cause
    return made


LOOKUP = "failed to lookup address information: "
CONNECT = "client error (Connect)"
SEND = "client error (SendRequest)"

CHAINS = {
    "no such name": (
        (CONNECT, "dns error", "error resolving DNS", LOOKUP + "Name or service not known"),
        (FaultKind.DNS, "the host name was not resolved: Name or service not known"),
    ),
    "no such name, on musl": (
        (CONNECT, "dns error", "error resolving DNS", LOOKUP + "Name does not resolve"),
        (FaultKind.DNS, "the host name was not resolved: Name does not resolve"),
    ),
    "no resolver": (
        (CONNECT, "dns error", "error resolving DNS", LOOKUP + "Temporary failure in name resolution"),
        (
            FaultKind.DNS,
            "the host name was not resolved: Temporary failure in name resolution",
        ),
    ),
    "no resolver, on musl": (
        (CONNECT, "dns error", "error resolving DNS", LOOKUP + "Try again"),
        (FaultKind.DNS, "the host name was not resolved: Try again"),
    ),
    "a name without an address": (
        (CONNECT, "dns error", LOOKUP + "No address associated with hostname"),
        (
            FaultKind.DNS,
            "the host name was not resolved: No address associated with hostname",
        ),
    ),
    "a resolver with a word of its own": (
        (CONNECT, "dns error", LOOKUP + "Memory allocation failure"),
        (FaultKind.DNS, "the host name was not resolved: Memory allocation failure"),
    ),
    "no route": (
        (CONNECT, "tcp connect error", "Network is unreachable (os error 101)"),
        (FaultKind.CONNECT, "could not connect: Network is unreachable (os error 101)"),
    ),
    "a proxy that refuses": (
        (CONNECT, "tunnel error: unsuccessful"),
        (FaultKind.CONNECT, "could not connect: tunnel error: unsuccessful"),
    ),
    "an alert": (
        (CONNECT, "received fatal alert: HandshakeFailure"),
        (FaultKind.TLS, "no trusted TLS connection: received fatal alert: HandshakeFailure"),
    ),
    "an alert after the handshake": (
        (SEND, "connection error", "received fatal alert: CertificateRequired"),
        (FaultKind.TLS, "no trusted TLS connection: received fatal alert: CertificateRequired"),
    ),
    "a reset after the request": (
        (SEND, "connection error", "Connection reset by peer (os error 104)"),
        (FaultKind.PROTOCOL, "no usable answer: Connection reset by peer (os error 104)"),
    ),
    "a certificate that names a resolver's error": (
        (CONNECT, f'invalid peer certificate: only valid for DnsName("{LOOKUP}x")\x1b[31m'),
        (
            FaultKind.TLS,
            f'no trusted TLS connection: invalid peer certificate: only valid for DnsName("{LOOKUP}x")',
        ),
    ),
}


@pytest.mark.parametrize(("texts", "expected"), CHAINS.values(), ids=CHAINS)
def test_a_chain_of_causes_shows_what_failed(texts: tuple[str, ...], expected: tuple[FaultKind, str]) -> None:
    assert fault(rust_chain(rust.ConnectError, *texts)) == Unreachable(*expected)


def test_a_timeout_while_connecting_differs_from_one_while_waiting() -> None:
    connecting = rust_chain(rust.ConnectTimeoutError, CONNECT, "tcp connect error", "deadline has elapsed")
    waiting = rust_chain(rust.ConnectTimeoutError, "operation timed out")

    assert fault(connecting) == Unreachable(FaultKind.CONNECT, "could not connect in time")
    assert fault(waiting) == Unreachable(FaultKind.TIMEOUT, "no complete answer in time")


def test_no_message_names_the_url() -> None:
    outcome = fault(rust_chain(rust.ConnectError, CONNECT, "tcp connect error"))

    assert "salesforce" not in repr(outcome)


@pytest.mark.parametrize("kind", ["the process'", "the resolver's"])
def test_a_lack_of_file_descriptors_is_our_own_fault(kind: str) -> None:
    chain = {
        "the process'": (CONNECT, "tcp open error", "Too many open files (os error 24)"),
        "the resolver's": (CONNECT, "dns error", "failed to lookup address information: Too many open files"),
    }[kind]

    outcome = fault(rust_chain(rust.ConnectError, *chain))

    assert isinstance(outcome, NotSent)
    assert of_not_sent(outcome).cause is Cause.MONITOR_FAULT
