"""Key pairs for journeys: a few RSA keys, made once a process, under certificates of any dates."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.making import NOW


@dataclass(frozen=True, slots=True)
class PairFiles:
    """What the files of a private key and its certificate hold."""

    private_key: bytes = field(repr=False)
    certificate: bytes


def pair_files(
    which: str = "first",
    *,
    begins: datetime = NOW - timedelta(days=1),
    lives: timedelta = timedelta(days=3650),
) -> PairFiles:
    """The key that goes by this name, and a certificate of it."""
    key = _key(which)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "salesforce-jwt-integration")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + lives)
        .sign(key, SHA256())
    )
    return PairFiles(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.public_bytes(Encoding.PEM),
    )


@lru_cache
def _key(which: str) -> RSAPrivateKey:
    return generate_private_key(65537, 2048)
