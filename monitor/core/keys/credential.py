"""A credential: the private key that signs, and the facts of key and certificate. Bytes in, facts out.

A key is accepted as PKCS#1 and PKCS#8, a certificate also in a chain, in all wrappings that `core.pem` takes
off. Anything else is one `Problem` that says what it is and what would be right.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from monitor.core.causes import Cause
from monitor.core.keys.pem import Block, NotPemError, blocks

BITS_AT_LEAST = 2048
"""Setup guide, step 1: "Use a key length of at least 2048 bits"."""

BITS_AT_MOST = 16_384
"""OpenSSL's own limit (OPENSSL_RSA_MAX_MODULUS_BITS). One signature at this size takes most of a second."""

EXPONENT_BITS_AT_MOST = 64
"""OpenSSL's limit for the public exponent of a large key (OPENSSL_RSA_MAX_PUBEXP_BITS); 65537 is usual."""

SUBJECT_AT_MOST = 256
"""Characters of a certificate's subject that are kept: enough to recognise it by."""


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
    """None where no RSA key can sign: `facts.problems` says why. A short key is a problem, yet may sign."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class KeyReading:
    """What came of reading a private key. Many credentials may share one."""

    facts: KeyFacts | None = None
    problems: tuple[Problem, ...] = ()
    key: RSAPrivateKey | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CertificateReading:
    """What came of reading a certificate, or a chain of them in the file's order."""

    certificates: tuple[CertificateFacts, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Malformed(Exception):  # noqa: N818 - never leaves this module: it ends a reading at its first problem
    def __init__(
        self, detail: str, cause: Cause = Cause.KEY_UNREADABLE, facts: KeyFacts | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(cause, detail)
        self.facts = facts


def read_credential(private_key: bytes, certificate: bytes | None = None) -> Credential:
    """The credential in the bytes of a private key and, optionally, of its certificate. Never raises.

    Whether the certificate is in date is not judged here: that needs the time.
    """
    certificates = None if certificate is None else read_certificates(certificate)
    return credential_of(read_private_key(private_key), certificates)


def credential_of(key: KeyReading, certificates: CertificateReading | None) -> Credential:
    """Puts a key and its certificate together: of a chain the first that pairs, else the first.

    Whether they pair is judged only where the key can sign: without that it would hide the problem proper.
    """
    if certificates is None:
        certificates = CertificateReading()
    chain = certificates.certificates
    certificate = chain[0] if chain else None
    if key.facts is not None:
        own = key.facts.fingerprint
        certificate = next((each for each in chain if each.key_fingerprint == own), certificate)
    problems = key.problems + certificates.problems
    facts = CredentialFacts(key.facts, certificate, problems)
    if key.key is not None and facts.pairs is False:
        mismatch = Problem(
            Cause.KEY_CERTIFICATE_MISMATCH,
            "The private key and the certificate are not a pair: their public keys differ. "
            "Configure the two files that one run of the setup guide's step 1 made.",
        )
        facts = CredentialFacts(key.facts, certificate, (*problems, mismatch))
    return Credential(facts, key.key)


# Private keys


def read_private_key(material: bytes) -> KeyReading:
    """The private key in these bytes: its facts, what is wrong with it, and the key itself if it can sign.

    OpenSSL's own check of a key tests its primes: 36 ms of CPU for 2048 bits, minutes for thousands of keys.
    So the key is loaded unchecked. The library warns that wrong numbers may then crash it or loop for ever
    (pyca/cryptography, pull request 7667). Therefore nothing is done with the key before its numbers fit
    together (`_flaw`), and nothing else before its public half has verified what it signs.

    Left out is the proof that both factors are prime. A composite one fails that signature, but for numbers
    made to deceive; and whoever can place those can as well place a sound key of theirs.
    """
    try:
        block = _private_block(blocks(material, "private key"))
        key = _load_key(block)
    except NotPemError as wrong:
        return KeyReading(problems=(Problem(Cause.KEY_UNREADABLE, str(wrong)),))
    except _Malformed as wrong:
        return KeyReading(wrong.facts, (wrong.problem,))
    facts = KeyFacts("rsa", key.key_size, _fingerprint(key.public_key()))
    short = Problem(
        Cause.KEY_TOO_SHORT,
        f"The private key has {key.key_size} bits: Salesforce wants RSA of at least {BITS_AT_LEAST} bits.",
    )
    problems = (short,) if key.key_size < BITS_AT_LEAST else ()
    try:
        _prove(key)
    except InvalidSignature:
        damaged = Problem(Cause.KEY_UNREADABLE, _DAMAGED.format("its signature does not verify"))
        return KeyReading(facts, (damaged,))
    except ValueError:  # too short to hold the signature
        return KeyReading(facts, (short,))
    return KeyReading(facts, problems, _loaded_anew(block))


_DAMAGED = "The private key is damaged ({}): take the file again from where it was made, or make a new pair."

_NOT_A_KEY = {
    "CERTIFICATE": "is a certificate: give the private key here (private-key.pem in the setup guide)",
    "PUBLIC KEY": "is only the public half of a key: give the private key itself",
    "RSA PUBLIC KEY": "is only the public half of a key: give the private key itself",
    "CERTIFICATE REQUEST": "is a certificate request: give the private key that it was made with",
}


def _private_block(found: list[Block]) -> Block:
    private = [block for block in found if block.label.endswith("PRIVATE KEY")]
    if len(private) == 1:
        return private[0]
    if private:
        raise _Malformed(
            f"The private key's file holds {len(private)} private keys: leave the one of the certificate."
        )
    label = found[0].label
    meaning = _NOT_A_KEY.get(label, f"is a PEM of another kind ({label[:40]}): give an RSA private key")
    raise _Malformed(f"The private key {meaning}.")


_RSA_PSS = bytes.fromhex("06092a864886f70d01010a")
"""The object identifier of RSA keys that may only make PSS signatures. The library drops that restriction."""


def _load_key(block: Block) -> RSAPrivateKey:
    encrypted = _Malformed(
        "The private key is encrypted with a passphrase: give it unencrypted "
        "(`openssl rsa -in encrypted.pem -out private-key.pem`, or -nodes when it is made)."
    )
    if block.encrypted:
        raise encrypted
    if block.label == "OPENSSH PRIVATE KEY":
        raise _Malformed(
            "The private key is in OpenSSH's own format: rewrite it as PEM "
            "(`ssh-keygen -p -m PEM -f FILE`), or make a new pair with openssl."
        )
    try:
        key: PrivateKeyTypes = load_der_private_key(block.der, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise encrypted from None
    except UnsupportedAlgorithm:
        raise _not_rsa("a kind that is not RSA", None) from None
    except ValueError:
        raise _Malformed(_DAMAGED.format("its content is not a whole key")) from None
    if not isinstance(key, RSAPrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
        bits = getattr(key, "key_size", None)
        facts = KeyFacts(kind.lower(), bits, _fingerprint(key.public_key()))
        raise _not_rsa(f"of the kind {kind}", facts)
    if _RSA_PSS in block.der[:40]:
        raise _not_rsa("of the kind RSA-PSS, which can't make RS256 signatures", None)
    if key.key_size > BITS_AT_MOST:
        raise _Malformed(
            f"The private key has {key.key_size} bits, more than the {BITS_AT_MOST} that can be worked with: "
            f"make one of {BITS_AT_LEAST} to 4096 bits."
        )
    flaw = _flaw(key.private_numbers())
    if flaw:
        raise _Malformed(_DAMAGED.format(flaw))
    return key


def _loaded_anew(block: Block) -> RSAPrivateKey:
    """A sound key once more, without the signature that it was proved by.

    OpenSSL keeps what blinds a key's signatures for the thread that made the first of them. Keys are read
    beside the event loop, and used in it: for that it would keep a second set, of 2 KiB, behind a lock.
    """
    key = load_der_private_key(block.der, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, RSAPrivateKey)
    return key


def _not_rsa(what: str, facts: KeyFacts | None) -> _Malformed:
    detail = f"The private key is {what}: Salesforce accepts RSA only, of at least {BITS_AT_LEAST} bits."
    return _Malformed(detail, Cause.KEY_NOT_RSA, facts)


def _flaw(key: RSAPrivateNumbers) -> str | None:
    """What does not fit together in the numbers of an RSA key (RFC 8017, section 3.2); None where all do."""
    p, q, d = key.p, key.q, key.d
    n, e = key.public_numbers.n, key.public_numbers.e
    if min(p, q, d, e) < 3 or p % 2 == 0 or q % 2 == 0 or p == q or p * q != n:
        return "its primes do not make up its modulus"
    if e % 2 == 0 or e.bit_length() > EXPONENT_BITS_AT_MOST:
        return "its public exponent is out of range"
    if d >= n or d * e % (p - 1) != 1 or d * e % (q - 1) != 1:
        return "its private exponent does not fit its primes"
    if (key.dmp1, key.dmq1) != (d % (p - 1), d % (q - 1)) or key.iqmp >= p or key.iqmp * q % p != 1:
        return "the numbers derived from its primes are wrong"
    return None


def _prove(key: RSAPrivateKey) -> None:
    """Signs and verifies once, as an assertion is signed (RS256)."""
    message = b"bearerwatch"
    key.public_key().verify(key.sign(message, PKCS1v15(), SHA256()), message, PKCS1v15(), SHA256())


def _fingerprint(key: PublicKeyTypes) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


# Certificates


_NOT_A_CERTIFICATE = {
    "PUBLIC KEY": "is a bare public key",
    "CERTIFICATE REQUEST": "is a certificate request, not yet a certificate",
    "NEW CERTIFICATE REQUEST": "is a certificate request, not yet a certificate",
    "PKCS7": "is a PKCS#7 bundle",
    "TRUSTED CERTIFICATE": "is in OpenSSL's format with trust settings",
}


def read_certificates(material: bytes) -> CertificateReading:
    """The certificates in these bytes, in their order; or the problem, with `key_unreadable` as its cause."""
    try:
        found = _certificate_blocks(blocks(material, "certificate"))
        return CertificateReading(tuple(_certificate(block.der) for block in found))
    except NotPemError as wrong:
        return CertificateReading(problems=(Problem(Cause.KEY_UNREADABLE, str(wrong)),))
    except _Malformed as wrong:
        return CertificateReading(problems=(wrong.problem,))


def _certificate_blocks(found: list[Block]) -> list[Block]:
    certificates = [block for block in found if block.label in {"CERTIFICATE", "X509 CERTIFICATE"}]
    if certificates:
        return certificates
    label = found[0].label
    meaning = _NOT_A_CERTIFICATE.get(label, f"is a PEM of another kind ({label[:40]})")
    if label.endswith("PRIVATE KEY"):
        meaning = "is a private key"
    raise _Malformed(f"The certificate {meaning}: give the certificate here (cert.pem in the setup guide).")


def _certificate(der: bytes) -> CertificateFacts:
    try:
        certificate = x509.load_der_x509_certificate(der)
        digits = f"{abs(certificate.serial_number):X}"
        return CertificateFacts(
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            serial="-" * (certificate.serial_number < 0) + "0" * (len(digits) % 2) + digits,
            fingerprint=certificate.fingerprint(SHA256()).hex(),
            subject=certificate.subject.rfc4514_string()[:SUBJECT_AT_MOST],
            key_fingerprint=_fingerprint(certificate.public_key()),
        )
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise _Malformed(
            "The certificate is damaged (its content is not a whole certificate with a readable key): "
            "take the file again from where it was made."
        ) from None
