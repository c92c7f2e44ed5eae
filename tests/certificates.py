"""Keys and certificates made in the process: of authorities, servers and clients, and of logins."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
LOOPBACK = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))

Key = RSAPrivateKey | EllipticCurvePrivateKey


def pem_of(key: Key, passphrase: bytes | None = None) -> bytes:
    """A key as its file holds it."""
    how: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """The files NAME.crt and NAME.key."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(pem_of(self.key))
        key.chmod(0o600)
        return certificate, key


def authority(name: str = "authority") -> Issued:
    """One that signs itself."""
    return _issue(name, None, is_authority=True)


def signed(by: Issued | None, *names: x509.GeneralName, common_name: str = "leaf", days: float = 1) -> Issued:
    """A certificate for these names, for so many days from now; without an authority it signs itself."""
    return _issue(common_name, by, names, days=days)


def for_loopback(by: Issued) -> Issued:
    """A server's certificate."""
    return signed(by, *LOOPBACK, common_name="server")


@lru_cache
def rsa_key(which: str = "first") -> RSAPrivateKey:
    """The key that goes by this name, made once a process."""
    return rsa.generate_private_key(65_537, 2048)


def certificate_of(
    key: Key,
    begins: datetime.datetime = START,
    lives: datetime.timedelta = 365 * DAY,
    *,
    serial: int = 1,
    name: str = "acme",
) -> bytes:
    """The certificate of a login's key, as it is uploaded."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = _builder(subject, subject, key, begins, begins + lives, serial).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM)


def _issue(
    common_name: str,
    by: Issued | None,
    names: Sequence[x509.GeneralName] = (),
    *,
    is_authority: bool = False,
    days: float = 1,
) -> Issued:
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    issuer = by.certificate.subject if by else subject
    builder = _builder(subject, issuer, key, now - DAY, now + days * DAY, x509.random_serial_number())
    builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(builder.sign(by.key if by else key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: Key,
    begins: datetime.datetime,
    ends: datetime.datetime,
    serial: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
