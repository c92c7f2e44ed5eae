"""TLS for the daemon's own pages: Go's names in OpenSSL's words, and the context that keeps to them."""

import errno
import ipaddress
import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from monitor.config.problem import quoted

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
TOO_OLD = ("TLS10", "TLS11")
"""Versions that the format knows, and RFC 8996 forbids."""

CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""The suites of TLS 1.2 that Go's tls.CipherSuites() lists with forward secrecy; its names are IANA's."""

TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Always on, in Go as in OpenSSL: naming them changes nothing."""

FILE_AT_MOST = 4 * 1024**2
"""Bytes of a file of certificates: the roots of a whole system are some 250 KB."""

CURVES = {"X25519": "X25519", "CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}

VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    # OpenSSL can't ask for a certificate and then accept any; whoever comes gets in with either.
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server's TLS is to be, in the names of the format; what is written in it holds by itself."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None
    client_auth_type: str
    client_allowed_sans: frozenset[str]
    min_version: str
    max_version: str
    cipher_suites: tuple[str, ...]
    prefer_server_cipher_suites: bool
    curve_preferences: tuple[str, ...]


NAMES_SHOWN = 5
"""Names of a client's certificate that are told: enough to know whose it is."""

TurnedAway = Callable[[str], None]
"""Is told why a client was not let in, since all that the client sees is that nobody answers."""


class TlsError(Exception):
    """Why there is no TLS with these files: pairs of an option and what is wrong with it."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{option} {message}" for option, message in problems))


def server_context(tls: ServerTls, turned_away: TurnedAway) -> ssl.SSLContext:
    """The context of a server, with its files read. Raises TlsError with every problem."""
    problems = list(_pair_problems(tls))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    context.maximum_version = VERSIONS[tls.max_version]
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = VERIFY[tls.client_auth_type]
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if suites := [CIPHERS[suite] for suite in tls.cipher_suites if suite in CIPHERS]:
        try:
            context.set_ciphers(":".join(suites))
        except ssl.SSLError:
            problems.append(("cipher_suites", "holds no suite that this machine's OpenSSL speaks."))
    elif tls.cipher_suites and tls.max_version == "TLS12":
        problems.append(("cipher_suites", "holds suites of TLS 1.3 only, but max_version is TLS12."))
    elif tls.cipher_suites:
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # as in Go: TLS 1.2 is left without a suite
    if len(tls.curve_preferences) == 1:
        context.set_ecdh_curve(CURVES[tls.curve_preferences[0]])
    if tls.client_ca_file:
        try:
            bounded(tls.client_ca_file)
            context.load_verify_locations(tls.client_ca_file)
        except ssl.SSLError:
            problems.append(("client_ca_file", f"holds no certificate in PEM ({tls.client_ca_file})."))
        except OSError as error:
            problems.append(("client_ca_file", unreadable(tls.client_ca_file, error)))
    if not problems:
        try:
            # Without a function for the passphrase, OpenSSL would ask for it on the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            why = getattr(error, "reason", None) or error.strerror or "unreadable"
            problems.append(("cert_file", f"can't be used ({str(why).replace('_', ' ').lower()})."))
    if problems:
        raise TlsError(problems)
    if context.verify_mode is not ssl.CERT_NONE:
        context.sslobject_class = _asking(frozenset(map(_plain, tls.client_allowed_sans)), turned_away)
    return context


def bounded(path: Path) -> None:
    """See that a file ends. Raises OSError for a device, a pipe, or what is too large for certificates."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EINVAL, "Is a pipe or a device: name a regular file")
    if found.st_size > FILE_AT_MOST:
        raise OSError(errno.EFBIG, f"Is larger than {FILE_AT_MOST // 1024**2} MiB: that is no PEM")


def unreadable(path: Path, error: OSError) -> str:
    """Why a file can't be read, in words that go on from its option's name."""
    return f"can't be read: {path}: {error.strerror or type(error).__name__}."


def _pair_problems(tls: ServerTls) -> Iterator[tuple[str, str]]:
    """What is wrong with the certificate and the key; OpenSSL says "PEM lib" of nearly all of it."""
    contents = {}
    for option, path in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        try:
            bounded(path)
            contents[option] = path.read_bytes()
        except OSError as error:
            yield option, unreadable(path, error)
    certificate = private_key = None
    if "cert_file" in contents:
        try:
            certificate = x509.load_pem_x509_certificates(contents["cert_file"])[0]
        except ValueError:
            yield "cert_file", f"holds no certificate in PEM ({tls.cert_file})."
    if "key_file" in contents:
        try:
            private_key = load_pem_private_key(
                contents["key_file"], None, unsafe_skip_rsa_key_validation=True
            )
        except TypeError:
            yield (
                "key_file",
                "is encrypted, and nobody is there to type its passphrase. Store it without one.",
            )
        except (ValueError, UnsupportedAlgorithm):
            yield "key_file", f"holds no private key in PEM ({tls.key_file})."
    if certificate and private_key and certificate.public_key() != private_key.public_key():
        yield "key_file", "does not belong to the first certificate in cert_file. Give the pair."


def _asking(allowed: frozenset[str], turned_away: TurnedAway) -> type[ssl.SSLObject]:
    """A connection whose client shows a certificate, with one of the allowed names where there are any."""

    class Asking(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except ssl.SSLCertVerificationError as error:
                turned_away(f"the client's certificate is refused: {error.verify_message}")
                raise
            except ssl.SSLError as error:
                if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
                    turned_away("the client shows no certificate")
                raise
            names = subject_names(self.getpeercert())
            if allowed and allowed.isdisjoint(names):
                shown = ", ".join(map(quoted, sorted(names)[:NAMES_SHOWN])) or "no name at all"
                turned_away(f"the client's certificate holds none of client_allowed_sans, but {shown}")
                # An SSLError, so that asyncio ends the connection as after any failed handshake.
                raise ssl.SSLCertVerificationError("the client's certificate holds none of the allowed names")

    return Asking


def subject_names(certificate: Any) -> frozenset[str]:
    """The DNS names, addresses, e-mails and URIs of a certificate as `getpeercert` gives it."""
    if not certificate:
        return frozenset()
    return frozenset(
        _plain(value)
        for kind, value in certificate.get("subjectAltName", ())
        if kind in {"DNS", "IP Address", "email", "URI"}
    )


def _plain(name: str) -> str:
    """A name as it stands; an address in its shortest form, for OpenSSL writes IPv6 in its longest."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
