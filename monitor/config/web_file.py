"""The web configuration file: certificate, client certificates and users of the daemon's pages.

Uses the security options of the format of Prometheus' exporters (exporter-toolkit). Its other options are
refused with a message, since a proxy in front of the pages does that better. Certificates and keys are loaded
too, so that an accepted file can be served.
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
from monitor.config.options.values import Options, Place
from monitor.config.problem import ConfigError, Problem, quoted
from monitor.config.text import Block, Value, shown_path
from monitor.config.words import Address

_Note = Callable[[text.Path, str], None]

LARGEST_FILE = 1024 * 1024
"""In bytes: enough for thousands of users. More is a wrong path."""

HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
"""A bcrypt hash and its cost. The salt's last character has only two bits; others never match a password."""

LIGHT_HASH = 10
"""Warn about bcrypt costs below this, as the format's documentation and htpasswd advise."""

COSTS = range(4, 17)
"""Allowed bcrypt costs. bcrypt refuses less; 16 takes about 5 seconds of CPU per login, each step doubles
that, and a running check can't be stopped."""

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

PROXY = "is not supported here. Remove it; if you need it, put a proxy in front of the pages."

ENCRYPTED = "is encrypted, and the daemon has no passphrase for it. Store it without a passphrase."


def _version(value: object) -> object:
    chosen = words.one_of(*VERSIONS, "TLS10", "TLS11")(value)
    if chosen not in VERSIONS:
        raise ValueError(f"{chosen} is insecure, and RFC 8996 forbids it. Use TLS12 or TLS13.")
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
            f"{chosen} is not supported here: it also admits clients without a certificate from your CA. Use"
            " RequireAndVerifyClientCert, or put a proxy in front of the pages."
        )
    return chosen


def _users(value: object) -> object:
    """Names with hashes. Messages never repeat the hash: it may be the password."""
    users = words.entries(value, "{NAME: BCRYPT-HASH}")
    wrong = []
    for name, written in users.items():
        match = HASH.fullmatch(written) if isinstance(written, str) else None
        if not name or ":" in name or not name.isprintable():
            wrong.append(f"{quoted(name)} is not a valid user name: it must not be empty or contain a colon.")
        elif match is None:
            wrong.append(f"{quoted(name)} has no bcrypt hash. Create one with htpasswd -nBC 10 {name}.")
        elif int(match[1]) not in COSTS:
            wrong.append(
                f"The hash of {quoted(name)} has cost {int(match[1])}, which is outside {COSTS[0]} to"
                f" {COSTS[-1]}: above that, logins take too long. Create one with cost 10."
            )
    if wrong:
        raise ValueError(" ".join(wrong))
    return tuple(users.items())


class TlsOptions(Options):
    """`tls_server_config`. Paths are relative to the web configuration file's directory."""

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
            raise ValueError(
                "needs client_ca_file: otherwise a certificate from any public CA would be accepted."
            )
        if chosen == "NoClientCert" and authorities:
            raise ValueError("must be RequireAndVerifyClientCert, otherwise client_ca_file has no effect.")
        return chosen

    @property
    def verifies_clients(self) -> bool:
        """Whether clients need a certificate."""
        return self.client_auth_type == "RequireAndVerifyClientCert"

    def load_pair(self, context: ssl.SSLContext) -> None:
        """Load the certificate from disk into a context. Raises ssl.SSLError, OSError."""
        # Without a password function, OpenSSL would prompt on the terminal.
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
    """TLS and users of the daemon's pages. The default has neither."""

    tls: TlsOptions | None = None
    context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    """For serving TLS; None for plain HTTP."""
    users: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Names with bcrypt hashes."""
    files: tuple[Path, ...] = ()
    """All files read; watched for changes."""
    notes: tuple[str, ...] = ()
    """Warnings about settings that are probably not intended, a sentence each."""

    def renew(self, new: "WebConfig") -> str | None:
        """Serve the certificate of `new` from now on. Gives a sentence about changes that need a restart."""
        if self.context and new.tls:
            try:
                new.tls.load_pair(self.context)
            except OSError as error:  # it was valid a moment ago; the next change retries
                return f"The pages' certificate cannot be reloaded: {error}."
        if _only_at_a_start(self) != _only_at_a_start(new):
            return "tls_server_config has changed; this takes effect after a restart."
        return None


def _only_at_a_start(config: WebConfig) -> object:
    if config.tls is None or config.context is None:
        return None
    return config.tls.min_version, config.tls.client_auth_type, config.context.get_ca_certs(binary_form=True)


def load_web_config(path: Path) -> WebConfig:
    """Load a web configuration file. Raises ConfigError with all problems."""
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
        # An empty value is an empty block: its content may be commented out.
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
    """Validate the options, leaving out invalid blocks, so that problems in the others are reported too."""
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
    """A server context with its files loaded, and problems as pairs of option and message."""
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
            wrong.append(("cert_file", f"cannot be used ({str(why).replace('_', ' ').lower()})."))
    return context, wrong


def _pair_problems(tls: TlsOptions) -> Iterator[tuple[str, str]]:
    """Problems of certificate and key, for most of which OpenSSL only says "PEM lib"."""
    certificate = private_key = None
    shown = f'"{tls.cert_file}"'
    try:
        certificate = x509.load_pem_x509_certificates(read(tls.cert_file, PEM_AT_MOST))[0]
    except FileError as error:
        yield "cert_file", f"{shown} {error}"
    except ValueError:
        yield "cert_file", f"{shown} contains no PEM certificate."
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
        yield "key_file", f"{shown} contains no PEM private key."
    if certificate and private_key and certificate.public_key() != private_key.public_key():
        yield "key_file", "does not belong to the first certificate in cert_file. Use a matching pair."


def exposure(listen: Address, web: WebConfig) -> str | None:
    """A warning about what others can do at this address; None if it is local or protected."""
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
        else "passwords and pages can be read in transit"
    )
    return (
        f"listen is {listen}, without {' and without '.join(without)}: {harm}. "
        "Set web.config_file, or listen on 127.0.0.1."
    )


def _notes(options: WebFileOptions) -> Iterator[str]:
    """Warnings about settings that are probably not intended."""
    light = [name for name, hashed in options.basic_auth_users if int(hashed[4:6]) < LIGHT_HASH]
    if light:
        yield (
            f"The hashes of {', '.join(map(quoted, light))} have a cost below {LIGHT_HASH}: if the file is"
            " stolen, the passwords are quickly guessed."
        )
    tls = options.tls_server_config
    if tls and tls.key_file.stat().st_mode & stat.S_IROTH:
        yield f"key_file can be read by every user of this machine: chmod 600 {tls.key_file}."
