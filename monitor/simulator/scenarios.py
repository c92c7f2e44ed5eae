"""A scenario for each documented cause, from `scenarios.yaml`, and its keys.

To play one, create the keys (`make_keys`), an org with `Scenario.settings` and a connection with
`Scenario.options`, and apply each step at its time.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from typing import Literal

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_elliptic
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass


class Keys(StrEnum):
    """How our private key, our certificate and the app's certificate relate."""

    RIGHT = "right"
    OTHER_UPLOADED = "other_uploaded"
    """Ours are a pair; the app has another certificate."""
    OTHER_KEY = "other_key"
    """The app has our certificate; our key is another."""
    UNREADABLE = "unreadable"
    ELLIPTIC = "elliptic"
    SHORT = "short"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Step:
    """A change to the org, some time after its creation."""

    after: timedelta
    does: Literal["patch", "refresh"]
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Scenario:
    """How to bring a cause about; with `cause` None, a healthy org. The file explains the fields."""

    cause: str | None
    org: Mapping[str, object] = field(default_factory=dict)
    connection: Mapping[str, object] = field(default_factory=dict)
    keys: Keys = Keys.RIGHT
    steps: tuple[Step, ...] = ()
    stands_after: timedelta = timedelta(hours=1)
    called: str = ""

    @property
    def name(self) -> str:
        """The name of its org and connection."""
        return self.called or (self.cause or "").replace("_", "-")

    def settings(self, files: "KeyFiles") -> dict[str, object]:
        """The org's initial settings."""
        return {
            "consumer_key": f"3MVG9_{self.name}",
            "username": f"integration@{self.name}.example.com",
            "certificate": files.uploaded,
            **self.org,
        }

    def options(self, server: str) -> dict[str, object]:
        """The connection's options, except name and keys; `server` is an address without a final slash."""
        return {
            "login_url": f"{server}/{self.name}",
            "audience": "my_domain",
            "consumer_key": f"3MVG9_{self.name}",
            "username": f"integration@{self.name}.example.com",
            **self.connection,
        }


SCENARIOS = TypeAdapter(tuple[Scenario, ...]).validate_python(
    yaml.safe_load(resources.files(__package__).joinpath("scenarios.yaml").read_text(encoding="utf-8"))
)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The contents of the connection's files, and the app's certificate, as PEM."""

    private_key: bytes = field(repr=False)
    certificate: bytes
    uploaded: str


_LIVES = {Keys.EXPIRING: (-360, 5), Keys.EXPIRED: (-366, -1), Keys.NOT_YET_VALID: (30, 395)}
"""Days from now to a certificate's beginning and end."""


def make_keys(kind: Keys, now: datetime) -> KeyFiles:
    """The files of a connection and its app. Keys are cached by kind, as creating one is slow."""
    key = _key(kind if kind in {Keys.SHORT, Keys.ELLIPTIC} else Keys.RIGHT)
    certificate = _certificate(key, now, *_LIVES.get(kind, ()))
    uploaded = certificate
    if kind is Keys.OTHER_UPLOADED:
        uploaded = _certificate(_key(Keys.OTHER_KEY), now)
    if kind is Keys.OTHER_KEY:
        key = _key(Keys.OTHER_KEY)
    private_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if kind is Keys.UNREADABLE:
        private_key = private_key[: len(private_key) // 2]
    return KeyFiles(private_key, certificate, uploaded.decode())


_Key = RSAPrivateKey | EllipticCurvePrivateKey


@lru_cache
def _key(kind: Keys) -> _Key:
    if kind is Keys.ELLIPTIC:
        return generate_elliptic(SECP256R1())
    # The scenario SHORT needs 1024 bits.
    return generate_private_key(65537, 1024 if kind is Keys.SHORT else 2048)


def _certificate(key: _Key, now: datetime, begins: int = -1, ends: int = 3650) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "salesforce-jwt-integration")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + timedelta(days=begins),
        not_valid_after=now + timedelta(days=ends),
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
