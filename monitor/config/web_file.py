"""A web configuration file (exporter-toolkit's format) to what the daemon's pages are protected by.

1. The text, then each option by itself (`web_options`), then what they mean together.
2. Certificates and keys are read as well (`tls`): what is accepted here can be served with.
3. Stricter than the exporters: a `tls_server_config` that would silently mean plain HTTP is a problem, and so
   are versions, suites and client checks that protect nothing.
"""

import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from monitor.config import text
from monitor.config.complaints import complaints
from monitor.config.problem import ConfigError, Problem, quoted
from monitor.config.text import Block
from monitor.config.tls import ServerTls, TlsError, TurnedAway, server_context, unreadable
from monitor.config.web_options import TlsOptions, WebFileOptions
from monitor.config.words import Address

_Note = Callable[[text.Path, str], None]

LARGEST_FILE = 1024 * 1024
"""Bytes: a file with thousands of users. More is a mistaken path."""

LIGHT_HASH = 10
"""The cost of a bcrypt hash below which it is noted: the format's own advice, and htpasswd's for files that
may be stolen."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: one more request each `interval`, and up to `burst` at once."""

    interval: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What protects the daemon's pages. The default protects nothing."""

    tls: ssl.SSLContext | None = field(default=None, repr=False)
    verifies_clients: bool = False
    """Whether nobody comes in without a client certificate."""
    headers: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Names, each with its bcrypt hash."""
    rate: Rate | None = None
    files: tuple[Path, ...] = ()
    """All that was read: what to look at for a change."""
    notes: tuple[str, ...] = ()
    """What is allowed, but may be meant otherwise: a sentence each."""


def load_web_config(path: Path, turned_away: TurnedAway = lambda _: None) -> WebConfig:
    """What a web configuration file says. Raises ConfigError with every problem found."""
    shown = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError([Problem(shown, None, "", unreadable(path, error))]) from error
    if len(raw) > LARGEST_FILE:
        raise ConfigError([Problem(shown, None, "", "is larger than 1 MiB: it is no web configuration.")])
    content = text.read(raw)
    problems = [Problem(shown, found.line, _shown(found.path), found.message) for found in content.mistakes]

    def note(within: text.Path, message: str) -> None:
        problems.append(Problem(shown, text.line_of(content.value, within), _shown(within), message))

    written = Block(1) if content.value is None else content.value
    options = None
    if isinstance(written, Block):
        options = _options(written, note)
    else:
        note((), f"must be a mapping of options, but is {quoted(written)}.")
    context = None
    tls = _tls(options.tls_server_config, path.parent, note) if options else None
    if tls:
        try:
            context = server_context(tls, turned_away)
        except TlsError as error:
            for option, message in error.problems:
                note(("tls_server_config", option), message)
    if options and options.rate_limit.interval and not options.rate_limit.burst:
        note(("rate_limit",), "has a burst of 0, so that no request would ever pass. Write e.g. burst: 20.")
    if problems or options is None:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    rate = options.rate_limit
    return WebConfig(
        tls=context,
        verifies_clients=bool(context and context.verify_mode is ssl.CERT_REQUIRED),
        headers=options.http_server_config.headers,
        users=options.basic_auth_users,
        rate=Rate(rate.interval, rate.burst) if rate.interval else None,
        files=(path, *((tls.cert_file, tls.key_file) if tls else ()), *_authority(tls)),
        notes=tuple(_notes(options, tls)),
    )


def exposure(listen: Address, web: WebConfig) -> str | None:
    """What others could do at this address, in one sentence; None where nobody can, or nothing is open."""
    if listen.is_loopback:
        return None
    lacks = []
    if web.tls is None:
        lacks.append("TLS")
    if not web.users and not web.verifies_clients:
        lacks.append("a login")
    if not lacks:
        return None
    harm = (
        "whoever reaches it can read the names of all connections, their hosts and what ails them"
        if "a login" in lacks
        else "passwords and pages can be read on their way"
    )
    return (
        f"listen is {listen}, without {' and without '.join(lacks)}: {harm}. "
        "Give a web.config_file, or listen on 127.0.0.1."
    )


def _shown(path: text.Path) -> str:
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            shown += ("." if shown else "") + (step if step.isidentifier() else quoted(step))
    return shown


def _authority(tls: ServerTls | None) -> tuple[Path, ...]:
    return (tls.client_ca_file,) if tls and tls.client_ca_file else ()


def _options(written: Block, note: _Note) -> WebFileOptions:
    """The options, less the blocks that have a mistake: what is wrong in the others is told at once."""
    try:
        return WebFileOptions.model_validate(written)
    except ValidationError as error:
        for within, message in complaints(error, WebFileOptions):
            note(within, message)
        wrong = {found["loc"][0] for found in error.errors(include_url=False, include_input=False)}
    return WebFileOptions.model_validate({name: written[name] for name in written if name not in wrong})


def _tls(options: TlsOptions, directory: Path, note: _Note) -> ServerTls | None:
    """The TLS that is asked for, also where its options don't go together; None where it lacks a file."""
    if not options.model_fields_set:
        return None
    within: text.Path = ("tls_server_config",)
    for needed in ("cert_file", "key_file"):
        if getattr(options, needed) is None:
            note(within, f"lacks {needed}: without it there is no TLS, and all of it would be in vain.")
    verifies = options.client_auth_type in {"VerifyClientCertIfGiven", "RequireAndVerifyClientCert"}
    if verifies and options.client_ca_file is None:
        message = "needs client_ca_file: else any public authority could let people in."
        note((*within, "client_auth_type"), message)
    if options.client_ca_file and not verifies:
        message = (
            "has no effect without client_auth_type. Write client_auth_type: RequireAndVerifyClientCert."
        )
        note((*within, "client_ca_file"), message)
    if options.client_allowed_sans and options.client_auth_type != "RequireAndVerifyClientCert":
        message = "needs client_auth_type: RequireAndVerifyClientCert, else there is no name to look at."
        note((*within, "client_allowed_sans"), message)
    if options.min_version > options.max_version:
        message = f"{options.min_version} is above max_version {options.max_version}."
        note((*within, "min_version"), message)
    if options.cert_file is None or options.key_file is None:
        return None
    return ServerTls(
        cert_file=directory / options.cert_file,
        key_file=directory / options.key_file,
        client_ca_file=directory / options.client_ca_file if options.client_ca_file else None,
        client_auth_type=options.client_auth_type,
        client_allowed_sans=frozenset(options.client_allowed_sans),
        min_version=options.min_version,
        max_version=options.max_version,
        cipher_suites=tuple(options.cipher_suites),
        prefer_server_cipher_suites=options.prefer_server_cipher_suites,
        curve_preferences=tuple(options.curve_preferences),
    )


def _notes(options: WebFileOptions, tls: ServerTls | None) -> Iterator[str]:
    """What is allowed, but may be meant otherwise."""
    if options.http_server_config.http2:
        yield "http2 has no effect: the pages are served over HTTP/1.1."
    light = [name for name, hashed in options.basic_auth_users if int(hashed[4:6]) < LIGHT_HASH]
    if light:
        yield (
            f"The hashes of {', '.join(map(quoted, light))} cost less than {LIGHT_HASH}: "
            "if the file is stolen, the passwords are soon guessed."
        )
    if tls is None:
        return
    if tls.client_auth_type == "RequestClientCert":
        yield "RequestClientCert lets everyone in, so no certificate is asked for."
    if len(tls.curve_preferences) > 1:
        yield "curve_preferences names several curves, but only one can be set: OpenSSL's own list is used."
    if tls.key_file.stat().st_mode & stat.S_IROTH:
        yield f"key_file may be read by everybody on this machine: chmod 600 {tls.key_file}."
