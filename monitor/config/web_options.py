"""What may stand in a web configuration file: the format that Prometheus' exporters share (exporter-toolkit).

A file that an exporter runs with should do here as well. Where we are stricter, the message says why.
"""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from monitor.config import words
from monitor.config.options import Flag, Options
from monitor.config.problem import quoted
from monitor.config.tls import CIPHERS, CURVES, TLS13_CIPHERS, TOO_OLD, VERSIONS

HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that the format knows, each with the values that it allows; an empty tuple allows any."""

HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
"""A bcrypt hash, with its cost. The salt's last sign has two bits only: with others no password ever fits."""

DEAREST_HASH = 16
"""The cost of a bcrypt hash, at the most: 16 keeps a core busy for some 5 seconds a login, and each step more
doubles that; a check that has begun can't be broken off. What htpasswd makes is well below."""

LEAST_COST = 4
"""Below that bcrypt itself refuses (Go's bcrypt.MinCost)."""

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Go's units of a duration, in seconds."""

LARGEST_BURST = 1_000_000

CLIENT_AUTH = (
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",  # an older name of the one before
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)


def _nothing(value: object) -> object:
    """A key with nothing behind it is an empty block: what stood there was commented out."""
    return {} if value is None else value


def _none_listed(value: object) -> object:
    return [] if value is None else value


def _client_auth(value: object) -> object:
    chosen = words.one_of(*CLIENT_AUTH)(value)
    if chosen in {"RequireAnyClientCert", "RequireClientCert"}:
        raise ValueError(
            f"{chosen} lets in whoever makes a certificate of their own, so it is not supported. "
            "Write RequireAndVerifyClientCert, with client_ca_file."
        )
    return chosen


def _version(value: object) -> object:
    chosen = words.one_of(*VERSIONS, *TOO_OLD)(value)
    if chosen in TOO_OLD:
        raise ValueError(f"{chosen} is broken, and RFC 8996 forbids it. Write TLS12 or TLS13.")
    return chosen


def _cipher(value: object) -> str:
    written = words.text(value)
    known = (*CIPHERS, *TLS13_CIPHERS)
    if written in known:
        return written
    if written.startswith("TLS_RSA_WITH_"):
        raise ValueError(
            f"{quoted(written)} has no forward secrecy: whoever gets the key later can read what was "
            "recorded before. Leave it out."
        )
    raise ValueError(
        f"{quoted(written)} is none of the cipher suites that Go calls secure. "
        f"{words.close(written, known)}".rstrip()
    )


def _headers(value: object) -> object:
    """Names with their values; a blank value leaves the header unset."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise ValueError("must be a mapping, e.g. {X-Frame-Options: deny}.")  # noqa: TRY004 - as pydantic wants
    wrong = []
    for name, written in value.items():
        if name not in HEADERS:
            instead = words.close(name, HEADERS) or f"Use {', '.join(HEADERS)}."
            wrong.append(f"{quoted(name)} can't be set. {instead}")
            continue
        if written == "":
            continue
        try:
            text = words.text(written)
        except ValueError as error:
            wrong.append(f"{name} {error}")
            continue
        if not text.isascii():
            wrong.append(f"{name} holds a character that can't stand in a header: {quoted(text)}.")
        elif HEADERS[name] and text not in HEADERS[name]:
            wrong.append(f"{name} is {quoted(text)}, but may be {' or '.join(HEADERS[name])} only.")
    if wrong:
        raise ValueError(" ".join(wrong))
    return tuple((name, written) for name, written in value.items() if written)


def _users(value: object) -> object:
    """Names with their hashes. No message repeats what should be a hash: it may be the password."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of names to bcrypt hashes.")  # noqa: TRY004 - as pydantic wants
    wrong = []
    for name, written in value.items():
        match = HASH.fullmatch(written) if isinstance(written, str) else None
        if not name or ":" in name or not name.isprintable():
            wrong.append(f"{quoted(name)} can't be a user: a name is not empty and has no colon.")
        elif match is None:
            wrong.append(
                f"What stands for {quoted(name)} is no bcrypt hash. Make one with htpasswd -nBC 10 {name}."
            )
        elif not LEAST_COST <= int(match[1]) <= DEAREST_HASH:
            wrong.append(
                f"The hash of {quoted(name)} has the cost {int(match[1])}, which is not from {LEAST_COST} to "
                f"{DEAREST_HASH}: beyond that a login takes longer than anyone waits. Make one of cost 10."
            )
    if wrong:
        raise ValueError(" ".join(wrong))
    return tuple(value.items())


def _interval(value: object) -> timedelta:
    """A duration as Go writes it; `0` switches the limit off."""
    written = words.text(value)
    if written in {"0", "0s"}:
        return timedelta(0)
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)", written)
    if "".join(number + unit for number, unit in parts) != written or not parts:
        raise ValueError(f"{quoted(written)} is no duration. Write a number and its unit, e.g. 100ms or 1s.")
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not 1e-6 <= seconds <= UNITS["h"]:
        raise ValueError(f"{quoted(written)} is not from 1us to 1h. Write e.g. 100ms.")
    return timedelta(seconds=seconds)


Name = Annotated[str, BeforeValidator(words.text)]
File = Annotated[str | None, BeforeValidator(words.path)]
Version = Annotated[str, BeforeValidator(_version)]


class TlsOptions(Options):
    """`tls_server_config`: files are found from the directory of the web configuration file."""

    cert_file: File = None
    """The server's certificate, with those that lead to its root."""
    key_file: File = None
    """Its private key."""
    client_ca_file: File = None
    """The authorities whose client certificates are accepted."""
    client_auth_type: Annotated[
        Literal["NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"],
        BeforeValidator(_client_auth),
    ] = "NoClientCert"
    """Whether clients must show a certificate: Go's names."""
    client_allowed_sans: Annotated[list[Name], BeforeValidator(_none_listed)] = Field(default=[])
    """Names of which a client's certificate must hold one: DNS, IP, e-mail or URI."""
    min_version: Version = "TLS12"
    """The oldest version that is spoken."""
    max_version: Version = "TLS13"
    """The newest version that is spoken."""
    cipher_suites: Annotated[
        list[Annotated[str, BeforeValidator(_cipher)]], BeforeValidator(_none_listed)
    ] = Field(default=[])
    """Go's names of the suites for TLS 1.2; those of TLS 1.3 are always on, as in Go."""
    prefer_server_cipher_suites: Flag = True
    """Whether the order of `cipher_suites` decides, not the client's."""
    curve_preferences: Annotated[
        list[Annotated[str, BeforeValidator(words.one_of(*CURVES))]], BeforeValidator(_none_listed)
    ] = Field(default=[])
    """Go's names of the curves, the preferred one first."""


class HttpOptions(Options):
    """`http_server_config`."""

    http2: Flag | None = None
    """Accepted, but without effect: the pages are served over HTTP/1.1."""
    headers: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_headers)] = ()
    """Headers of every answer."""


class RateOptions(Options):
    """`rate_limit`: a token bucket over all requests."""

    interval: Annotated[timedelta, BeforeValidator(_interval)] = timedelta(0)
    """Time between two requests; 0 means no limit."""
    burst: Annotated[
        int, BeforeValidator(words.whole(0, LARGEST_BURST, "it is a number of requests at once."))
    ] = 0
    """Requests that may come at once."""


class WebFileOptions(Options):
    """A web configuration file."""

    tls_server_config: Annotated[TlsOptions, BeforeValidator(_nothing)] = TlsOptions()
    http_server_config: Annotated[HttpOptions, BeforeValidator(_nothing)] = HttpOptions()
    rate_limit: Annotated[RateOptions, BeforeValidator(_nothing)] = RateOptions()
    basic_auth_users: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_users)] = Field(
        default=(), repr=False
    )
    """Users, each with the bcrypt hash of the password."""
