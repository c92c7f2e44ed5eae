"""A credential: the private key that signs, and the facts of key and certificate. PEM in, facts out."""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from monitor.core.causes import Cause


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a key or certificate, known before any exchange."""

    cause: Cause
    detail: str
    """A sentence for the operator: what is wrong and what would be right. Holds no key material."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What may be shown of a private key."""

    kind: str
    """`rsa`, `ec`, `ed25519`, `dsa`, …"""
    bits: int | None
    fingerprint: str
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What may be shown of a certificate."""

    not_before: datetime
    not_after: datetime
    serial: str
    """Hexadecimal, as `openssl x509 -serial` prints it."""
    fingerprint: str
    """SHA-256 of the certificate (DER), hexadecimal."""
    subject: str
    key_fingerprint: str
    """SHA-256 of its public key: equal to the private key's where the two pair."""


@dataclass(frozen=True, slots=True)
class CredentialFacts:
    """All that anyone but the signer may know of a credential."""

    key: KeyFacts | None = None
    certificate: CertificateFacts | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def pairs(self) -> bool | None:
        """Whether key and certificate are a pair; None where one of them is not there or can't be read."""
        if self.key is None or self.certificate is None:
            return None
        return self.key.fingerprint == self.certificate.key_fingerprint


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key that can sign, where there is one, and the facts."""

    facts: CredentialFacts
    key: RSAPrivateKey | None = field(default=None, repr=False, compare=False)
    """None where no RSA key can sign: `facts.problems` says why. A short key is a problem, yet it may sign."""
