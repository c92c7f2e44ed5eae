"""Keys and certificates made in the process, for tests that need a sound one and no openssl."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = [rsa.generate_private_key(65_537, 2048) for _ in range(2)]


def pem_of(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificate_of(key: rsa.RSAPrivateKey, *, serial: int = 1, name: str = "acme") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = (
        builder.serial_number(serial).not_valid_before(START).not_valid_after(START + timedelta(days=365))
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
