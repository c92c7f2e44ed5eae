"""The web configuration file: certificate, client certificates and users of the daemon's pages.

Uses the security options of the format of Prometheus' exporters (exporter-toolkit). Its other options are
refused with a message, since a proxy in front of the pages does that better. Certificates and keys are loaded
too, so that an accepted file can be served.
"""

import re
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from monitor.config import document, words
from monitor.config.files import PEM_AT_MOST, FileError, read, trust_authorities
from monitor.config.options.values import Authorities, OneOf, Options, Place
from monitor.config.problem import ConfigError, Problem, quoted
from monitor.config.text import Block
from monitor.config.words import Address

HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
"""A bcrypt hash and its cost. The salt's last character has only two bits; others never match a password."""

LIGHT_HASH = 10
"""Warn about bcrypt costs below this, as the format's documentation and htpasswd advise."""

COSTS = range(4, 17)
"""Allowed bcrypt costs. bcrypt refuses less; 16 takes about 5 seconds of CPU per login, each step doubles
that, and a running check can't be stopped."""

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

PROXY = "is not supported here. Remove it; if you need it, put a proxy in front of the pages."


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


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read(path, PEM_AT_MOST))
    except FileError as error:
        raise ValueError(f'"{path}" {error}') from None
    except ValueError:
        raise ValueError(f'"{path}" contains no PEM certificate.') from None


def _certificate_file(path: Path) -> Path:
    try:
        _certificates(path)[0].public_key()
    except UnsupportedAlgorithm:
        raise ValueError(f'"{path}" has a kind of key that is not supported. Use RSA or P-256.') from None
    return path


def _key_file(path: Path, info: ValidationInfo) -> Path:
    """For most problems of a pair, OpenSSL only says "PEM lib"."""
    try:
        key = load_pem_private_key(read(path, PEM_AT_MOST), None, unsafe_skip_rsa_key_validation=True)
    except FileError as error:
        raise ValueError(f'"{path}" {error}') from None
    except TypeError:
        raise ValueError(
            f'"{path}" is encrypted, and the daemon has no passphrase for it. Store it without a passphrase.'
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f'"{path}" contains no PEM private key.') from None
    certificate = info.data.get("cert_file")
    if certificate and _certificates(certificate)[0].public_key() != key.public_key():
        raise ValueError("does not belong to the first certificate in cert_file. Use a matching pair.")
    return path


class TlsOptions(Options):
    """`tls_server_config`. Paths are relative to the web configuration file's directory."""

    removed: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "cert", "key", "client_ca", "client_allowed_sans", "max_version", "cipher_suites",
            "prefer_server_cipher_suites", "curve_preferences",
        ),
        PROXY,
    )  # fmt: skip

    cert_file: Annotated[Place, AfterValidator(_certificate_file)]
    """The server's certificate, with those that lead to its root."""
    key_file: Annotated[Place, AfterValidator(_key_file)]
    """The private key of cert_file."""
    client_ca_file: Authorities | None = None
    """The authorities whose client certificates are accepted."""
    client_auth_type: Annotated[Literal["NoClientCert", "RequireAndVerifyClientCert"], OneOf()] = Field(
        default="NoClientCert", validate_default=True
    )
    """Whether clients must show a certificate: Go's names."""
    min_version: Annotated[Literal["TLS12", "TLS13"], OneOf()] = "TLS12"
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

    @property
    def requires_login(self) -> bool:
        """Whether only users or clients with a certificate can read the pages."""
        return bool(self.users or (self.tls and self.tls.client_ca_file))

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
    problems: list[Problem] = []
    file = document.read(str(path), path, problems)
    if file is None:
        raise ConfigError(problems)
    written = {}
    if isinstance(file.value, Block):
        # An empty value is an empty block: its content may be commented out.
        written = {name: value for name, value in file.value.items() if value is not None}
    elif file.value is not None:
        file.note((), f"must be a mapping of options, but is {quoted(file.value)}.")
    options, context = file.checked((), WebFileOptions, written), None
    if options and (tls := options.tls_server_config):
        try:
            context = _server_context(tls)
        except (FileError, OSError) as error:
            why = str(getattr(error, "reason", None) or getattr(error, "strerror", None) or "unreadable")
            file.note(
                ("tls_server_config", "cert_file"), f"cannot be used ({why.replace('_', ' ').lower()})."
            )
    if problems or options is None:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    tls = options.tls_server_config
    named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
    return WebConfig(
        tls=tls,
        context=context,
        users=options.basic_auth_users,
        files=(path, *(file for file in named if file)),
    )


def _server_context(tls: TlsOptions) -> ssl.SSLContext:
    """A server context with its files loaded. Raises FileError, OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    context.set_alpn_protocols(["http/1.1"])
    if tls.client_ca_file:
        context.verify_mode = ssl.CERT_REQUIRED
        trust_authorities(context, tls.client_ca_file)
    tls.load_pair(context)
    return context


def doubts(listen: Address, web: WebConfig) -> Iterator[str]:
    """Warnings about settings that are probably not intended, and what others can do at this address."""
    without = [*(["TLS"] if web.tls is None else []), *(["a login"] if not web.requires_login else [])]
    if without and not listen.is_loopback:
        harm = (
            "passwords and pages can be read in transit"
            if web.requires_login
            else "anyone who reaches it can read the names of all connections, their hosts and what is wrong"
            " with them"
        )
        yield (
            f"listen is {listen}, without {' and without '.join(without)}: {harm}. "
            "Set web.config_file, or listen on 127.0.0.1."
        )
    light = [name for name, hashed in web.users if int(hashed[4:6]) < LIGHT_HASH]
    if light:
        yield (
            f"The hashes of {', '.join(map(quoted, light))} have a cost below {LIGHT_HASH}: if the file is"
            " stolen, the passwords are quickly guessed."
        )
    if web.tls and web.tls.key_file.stat().st_mode & stat.S_IROTH:
        yield f"key_file can be read by every user of this machine: chmod 600 {web.tls.key_file}."
