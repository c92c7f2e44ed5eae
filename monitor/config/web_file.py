"""The web configuration file: certificate, client certificates and users of the daemon's own pages.

It has the format of Prometheus' exporters (exporter-toolkit), as far as it protects. The rest of the format
is refused with a message that says so, since a proxy in front of the pages does it better. Certificates and
keys are read too, so what is accepted here can be served.
"""

import re
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from monitor.config import text, words
from monitor.config.complaints import complaints
from monitor.config.files import PEM_AT_MOST, FileError, read, trust_authorities
from monitor.config.options import Options, resolved
from monitor.config.problem import ConfigError, Problem, quoted
from monitor.config.text import Block, Value, shown_path
from monitor.config.words import Address

_Note = Callable[[text.Path, str], None]

LARGEST_FILE = 1024 * 1024
"""Bytes: a file with thousands of users. More is a mistaken path."""

HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
"""A bcrypt hash, with its cost. The salt's last character has two bits: with others no password ever fits."""

LIGHT_HASH = 10
"""The cost of a bcrypt hash below which a caution is given: the format's own advice, and htpasswd's for files
that may be stolen."""

COSTS = range(4, 17)
"""Costs of a bcrypt hash: bcrypt refuses less, and 16 keeps a core busy for some 5 seconds a login, each step
more doubles that, and a check that has begun can't be stopped."""

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

PROXY = "is not supported here. Leave it out; if you need it, put a proxy in front of the pages."

ENCRYPTED = "is encrypted, and the daemon has no passphrase for it. Store it without one."


def _version(value: object) -> object:
    chosen = words.one_of(*VERSIONS, "TLS10", "TLS11")(value)
    if chosen not in VERSIONS:
        raise ValueError(f"{chosen} is broken, and RFC 8996 forbids it. Write TLS12 or TLS13.")
    return chosen


def _client_auth(value: object) -> object:
    chosen = words.one_of(
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    )(value)
    if chosen not in {"NoClientCert", "RequireAndVerifyClientCert"}:
        raise ValueError(
            f"{chosen} is not supported here: it also lets in clients that no authority of yours vouches for."
            " Write RequireAndVerifyClientCert, or put a proxy in front of the pages."
        )
    return chosen


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
            wrong.append(f"{quoted(name)} has no bcrypt hash. Make one with htpasswd -nBC 10 {name}.")
        elif int(match[1]) not in COSTS:
            wrong.append(
                f"The hash of {quoted(name)} has the cost {int(match[1])}, which is not from {COSTS[0]} to "
                f"{COSTS[-1]}: above that a login takes longer than anyone waits. Make one of cost 10."
            )
    if wrong:
        raise ValueError(" ".join(wrong))
    return tuple(value.items())


Place = Annotated[Path, BeforeValidator(resolved)]


class TlsOptions(Options):
    """`tls_server_config`: paths start at the directory of the web configuration file."""

    removed: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "cert", "key", "client_ca", "client_allowed_sans", "max_version", "cipher_suites",
            "prefer_server_cipher_suites", "curve_preferences",
        ),
        PROXY,
    )  # fmt: skip

    cert_file: Place
    """The server's certificate, with those that lead to its root."""
    key_file: Place
    """Its private key."""
    client_ca_file: Place | None = None
    """The authorities whose client certificates are accepted."""
    client_auth_type: Annotated[
        Literal["NoClientCert", "RequireAndVerifyClientCert"], BeforeValidator(_client_auth)
    ] = Field(default="NoClientCert", validate_default=True)
    """Whether clients must show a certificate: Go's names."""
    min_version: Annotated[str, BeforeValidator(_version)] = "TLS12"
    """The oldest version that is spoken."""

    @field_validator("client_auth_type")
    @classmethod
    def _with_its_authorities(cls, chosen: str, info: ValidationInfo) -> str:
        authorities = info.data.get("client_ca_file")
        if chosen != "NoClientCert" and "client_ca_file" in info.data and not authorities:
            raise ValueError("needs client_ca_file: else any public authority could let people in.")
        if chosen == "NoClientCert" and authorities:
            raise ValueError("must be RequireAndVerifyClientCert, else client_ca_file has no effect.")
        return chosen

    @property
    def verifies_clients(self) -> bool:
        """Whether only clients with a certificate get in."""
        return self.client_auth_type == "RequireAndVerifyClientCert"

    def load_pair(self, context: ssl.SSLContext) -> None:
        """Have a context serve the certificate as it is on disk now. Raises ssl.SSLError, OSError."""
        # Without a function for the passphrase, OpenSSL would ask for it on the terminal.
        context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")


class WebFileOptions(Options):
    """A web configuration file."""

    removed: ClassVar[dict[str, str]] = dict.fromkeys(("http_server_config", "rate_limit"), PROXY)

    tls_server_config: TlsOptions | None = None
    basic_auth_users: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_users)] = Field(
        default=(), repr=False
    )
    """Users, each with the bcrypt hash of the password."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What protects the daemon's pages. The default protects nothing."""

    tls: TlsOptions | None = None
    context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    """What TLS is served with."""
    users: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Names, each with its bcrypt hash."""
    files: tuple[Path, ...] = ()
    """All that was read: what to watch for a change."""
    notes: tuple[str, ...] = ()
    """What is allowed, but may be meant otherwise: a sentence each."""

    def renew(self, new: "WebConfig") -> str | None:
        """Go on serving with the certificate of `new`. Gives what is not taken on, in a sentence."""
        if self.context and new.tls:
            try:
                new.tls.load_pair(self.context)
            except OSError as error:  # it was right a moment ago; the next change of a file tries again
                return f"The certificate of the pages can't be renewed: {error}."
        if _only_at_a_start(self) != _only_at_a_start(new):
            return "tls_server_config has changed, which takes effect at the next start."
        return None


def _only_at_a_start(config: WebConfig) -> object:
    if config.tls is None or config.context is None:
        return None
    return config.tls.min_version, config.tls.client_auth_type, config.context.get_ca_certs(binary_form=True)


def load_web_config(path: Path) -> WebConfig:
    """What a web configuration file says. Raises ConfigError with every problem found."""
    shown = str(path)
    try:
        content = text.read(read(path, LARGEST_FILE))
    except FileError as error:
        raise ConfigError([Problem(shown, None, "", str(error))]) from error
    problems = [
        Problem(shown, each.line, shown_path(None, each.path), each.message) for each in content.mistakes
    ]

    def note(within: text.Path, message: str) -> None:
        problems.append(
            Problem(shown, text.line_of(content.value, within), shown_path(None, within), message)
        )

    if isinstance(content.value, Block):
        # A key with nothing behind it is an empty block: what was there is commented out.
        written = {name: value for name, value in content.value.items() if value is not None}
    else:
        written = {}
        if content.value is not None:
            note((), f"must be a mapping of options, but is {quoted(content.value)}.")
    options, context = _checked(written, path.parent, note), None
    if tls := options.tls_server_config:
        context, wrong = server_context(tls)
        for option, message in wrong:
            note(("tls_server_config", option), message)
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
    return WebConfig(
        tls=tls,
        context=context,
        users=options.basic_auth_users,
        files=(path, *(file for file in named if file)),
        notes=tuple(_notes(options)),
    )


def _checked(written: Mapping[str, Value], directory: Path, note: _Note) -> WebFileOptions:
    """The options without the blocks that have a mistake, so that what is wrong in the others is said too."""
    places = {"directory": str(directory)}
    try:
        return WebFileOptions.model_validate(written, context=places)
    except ValidationError as error:
        for within, message in complaints(error, WebFileOptions):
            note(within, message)
        wrong = {found["loc"][0] for found in error.errors(include_url=False, include_input=False)}
    right = {name: value for name, value in written.items() if name not in wrong}
    return WebFileOptions.model_validate(right, context=places)


def server_context(tls: TlsOptions) -> tuple[ssl.SSLContext, list[tuple[str, str]]]:
    """The context of a server with its files read, and pairs of an option and what is wrong with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    context.set_alpn_protocols(["http/1.1"])
    wrong = list(_pair_problems(tls))
    if tls.client_ca_file:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            trust_authorities(context, tls.client_ca_file)
        except FileError as error:
            wrong.append(("client_ca_file", f'"{tls.client_ca_file}" {error}'))
    if not wrong:
        try:
            tls.load_pair(context)
        except (ssl.SSLError, OSError) as error:
            why = getattr(error, "reason", None) or error.strerror or "unreadable"
            wrong.append(("cert_file", f"can't be used ({str(why).replace('_', ' ').lower()})."))
    return context, wrong


def _pair_problems(tls: TlsOptions) -> Iterator[tuple[str, str]]:
    """What is wrong with the certificate and the key; OpenSSL says "PEM lib" of nearly all of it."""
    certificate = private_key = None
    shown = f'"{tls.cert_file}"'
    try:
        certificate = x509.load_pem_x509_certificates(read(tls.cert_file, PEM_AT_MOST))[0]
    except FileError as error:
        yield "cert_file", f"{shown} {error}"
    except ValueError:
        yield "cert_file", f"{shown} holds no certificate in PEM."
    shown = f'"{tls.key_file}"'
    try:
        private_key = load_pem_private_key(
            read(tls.key_file, PEM_AT_MOST), None, unsafe_skip_rsa_key_validation=True
        )
    except FileError as error:
        yield "key_file", f"{shown} {error}"
    except TypeError:
        yield "key_file", f"{shown} {ENCRYPTED}"
    except (ValueError, UnsupportedAlgorithm):
        yield "key_file", f"{shown} holds no private key in PEM."
    if certificate and private_key and certificate.public_key() != private_key.public_key():
        yield "key_file", "does not belong to the first certificate in cert_file. Give the pair."


def exposure(listen: Address, web: WebConfig) -> str | None:
    """What others could do at this address, in one sentence; None if there are none, or nothing is open."""
    without = []
    if web.tls is None:
        without.append("TLS")
    if not web.users and not (web.tls and web.tls.verifies_clients):
        without.append("a login")
    if listen.is_loopback or not without:
        return None
    harm = (
        "anyone who reaches it can read the names of all connections, their hosts and what is wrong with them"
        if "a login" in without
        else "passwords and pages can be read on their way"
    )
    return (
        f"listen is {listen}, without {' and without '.join(without)}: {harm}. "
        "Give a web.config_file, or listen on 127.0.0.1."
    )


def _notes(options: WebFileOptions) -> Iterator[str]:
    """What is allowed, but may be meant otherwise."""
    light = [name for name, hashed in options.basic_auth_users if int(hashed[4:6]) < LIGHT_HASH]
    if light:
        yield (
            f"The hashes of {', '.join(map(quoted, light))} cost less than {LIGHT_HASH}: "
            "if the file is stolen, the passwords are soon guessed."
        )
    tls = options.tls_server_config
    if tls and tls.key_file.stat().st_mode & stat.S_IROTH:
        yield f"key_file can be read by every user of this machine: chmod 600 {tls.key_file}."
