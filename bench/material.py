"""Keys and certificates for benchmarks: the server's and its CA's, and a key file for each connection."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from monitor.core.connection import Connection, Pair, Source

HOST = "127.0.0.1"

KEYS = 4
"""Distinct keys: generating 10,000 would take a quarter of an hour. But each connection's file has unique
bytes, so the monitor reads, verifies and keeps one key per connection."""

BITS = 2048

AUDITED = 50
"""Connections whose audits are measured; no more are started in a minute."""


@dataclass(frozen=True, slots=True)
class Material:
    """Paths in a directory."""

    place: Path

    @property
    def ca_file(self) -> Path:
        """The CA certificate that clients must trust."""
        return self.place / "ca.pem"

    @property
    def server_certificate(self) -> Path:
        """The server's certificate chain."""
        return self.place / "server.pem"

    @property
    def server_key(self) -> Path:
        """The server's key."""
        return self.place / "server-key.pem"

    def certificate(self, number: int) -> Path:
        """The certificate of a connection's key."""
        return self.place / f"certificate-{number % KEYS}.pem"

    def key(self, number: int) -> Path:
        """The key file of a connection."""
        return self.place / "keys" / f"{number:05}.pem"

    def connection(self, number: int, url: str, interval: timedelta) -> Connection:
        """A connection to the org of its number; `url` is the server's."""
        login_url = f"{url}/{name_of(number)}"
        return Connection(
            name=name_of(number),
            login_url=login_url,
            audience="https://login.salesforce.com",
            consumer_key=consumer_key_of(number),
            username=username_of(number),
            current=Pair(
                Source("file", str(self.key(number))), Source("file", str(self.certificate(number)))
            ),
            interval=interval,
            after_login=False,  # would add noise: a second exchange, one time in six
            audit=False,  # eight more requests, once a day: measured on its own
            labels=(("customer", f"customer {number}"), ("tier", "gold")),
        )


def name_of(number: int) -> str:
    """The name of a connection, and of its org."""
    return f"customer-{number:05}"


def consumer_key_of(number: int) -> str:
    """A consumer key of realistic length."""
    return f"3MVG9{number:080}"


def username_of(number: int) -> str:
    """A connection's user."""
    return f"integration@{name_of(number)}.example.com"


def prepare(place: Path, connections: int) -> Material:
    """Create all files for the connections and their server."""
    material = Material(place)
    material.key(0).parent.mkdir()
    authority, server = _key(), _key()
    issued = _certificate("bench authority", authority, None, authority)
    _write(material.ca_file, issued.public_bytes(Encoding.PEM))
    leaf = _certificate(HOST, server, issued, authority)
    _write(material.server_certificate, leaf.public_bytes(Encoding.PEM) + issued.public_bytes(Encoding.PEM))
    _write(material.server_key, _pem(server))
    keys = [_key() for _ in range(KEYS)]
    for number, key in enumerate(keys):
        own = _certificate(f"key {number}", key, None, key)
        _write(material.certificate(number), own.public_bytes(Encoding.PEM))
    pems = [_pem(key) for key in keys]
    for number in range(connections):
        _write(material.key(number), f"{name_of(number)}\n".encode() + pems[number % KEYS])
    return material


def _key() -> RSAPrivateKey:
    return generate_private_key(65_537, BITS)


def _pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def _certificate(
    name: str, key: RSAPrivateKey, issuer: x509.Certificate | None, signer: RSAPrivateKey
) -> x509.Certificate:
    """A leaf certificate for HOST if there is an issuer, otherwise a self-signed CA."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.now(UTC) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, SHA256())
