"""A credential: the private key that signs, and the facts about key and certificate. Bytes in, facts out.

Accepts PKCS#1 and PKCS#8 keys, and certificates or chains, in all encodings that `pem` unwraps. Anything else
gives one `Problem` that says what it is and how to fix it.
"""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from monitor.core.causes import Cause
from monitor.core.keys.pem import Block, MalformedError, blocks

BITS_AT_LEAST = 2048
"""Setup guide, step 1: "Use a key length of at least 2048 bits"."""

BITS_AT_MOST = 16_384
"""OpenSSL's limit (OPENSSL_RSA_MAX_MODULUS_BITS). A signature of this size takes most of a second."""

EXPONENT_BITS_AT_MOST = 64
"""OpenSSL's limit for the public exponent of a large key (OPENSSL_RSA_MAX_PUBEXP_BITS); 65537 is usual."""

SUBJECT_AT_MOST = 256
"""Characters kept of a certificate's subject: enough to recognise it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in a key or certificate, found before any exchange."""

    cause: Cause
    detail: str
    """A sentence for the operator: what is wrong and how to fix it. Contains no key material."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The public facts about a private key."""

    kind: str
    """`rsa`, `ec`, `ed25519`, `dsa`, …"""
    bits: int | None
    fingerprint: str
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The facts about a certificate."""

    not_before: datetime
    not_after: datetime
    serial: str
    """Hexadecimal, as `openssl x509 -serial` prints it."""
    fingerprint: str
    """SHA-256 of the certificate (DER), hexadecimal."""
    subject: str
    key_fingerprint: str
    """SHA-256 of its public key: equals the private key's fingerprint if they are a pair."""


@dataclass(frozen=True, slots=True)
class CredentialFacts:
    """The public facts about a credential."""

    key: KeyFacts | None = None
    certificate: CertificateFacts | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def pairs(self) -> bool | None:
        """Whether key and certificate are a pair; None if one of them is missing or can't be read."""
        if self.key is None or self.certificate is None:
            return None
        return self.key.fingerprint == self.certificate.key_fingerprint


@dataclass(frozen=True, slots=True)
class Credential:
    """The private key, if it can sign, and the facts."""

    facts: CredentialFacts
    key: RSAPrivateKey | None = field(default=None, repr=False, compare=False)
    """None if no RSA key can sign: `facts.problems` says why. A short key is a problem but can sign."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class KeyReading:
    """The result of reading a private key. Credentials can share one."""

    facts: KeyFacts | None = None
    problems: tuple[Problem, ...] = ()
    key: RSAPrivateKey | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CertificateReading:
    """The result of reading a certificate, or a chain in the file's order; empty without any."""

    certificates: tuple[CertificateFacts, ...] = ()
    problems: tuple[Problem, ...] = ()


class _NotRsaError(MalformedError):
    def __init__(self, what: str, facts: KeyFacts | None = None) -> None:
        super().__init__(
            f"The private key is {what}: Salesforce only accepts RSA keys with at least {BITS_AT_LEAST} bits."
        )
        self.facts = facts


def credential_of(key: KeyReading, certificates: CertificateReading) -> Credential:
    """Combines a key and its certificate: from a chain, the first one that pairs, otherwise the first.

    A mismatch is reported only if the key can sign; else it would hide the actual problem.
    """
    chain = certificates.certificates
    own = key.facts.fingerprint if key.facts else ""
    certificate = next((each for each in chain if each.key_fingerprint == own), chain[0] if chain else None)
    facts = CredentialFacts(key.facts, certificate, key.problems + certificates.problems)
    if key.key is not None and facts.pairs is False:
        mismatch = Problem(
            Cause.KEY_CERTIFICATE_MISMATCH,
            "The private key and the certificate do not match: their public keys differ. Configure the two"
            " files from the same run of step 1 of the setup guide.",
        )
        facts = replace(facts, problems=(*facts.problems, mismatch))
    return Credential(facts, key.key)


# Private keys


def read_private_key(material: bytes) -> KeyReading:
    """Reads a private key: its facts, its problems, and the key itself if it can sign.

    OpenSSL's check of a key tests its primes: 36 ms of CPU for 2048 bits, minutes for thousands of keys. So
    the key is loaded unchecked. The library warns that inconsistent numbers may then crash it or loop forever
    (pyca/cryptography, pull request 7667). Therefore the numbers are checked for consistency first (`_flaw`),
    and then its public half must verify a test signature.

    This does not prove that both factors are prime. Composite factors fail the signature unless crafted, and
    anyone who can plant a crafted key can plant a valid one too.
    """
    try:
        block = _private_block(blocks(material, "private key"))
        key = _load_key(block)
    except _NotRsaError as wrong:
        return KeyReading(wrong.facts, (Problem(Cause.KEY_NOT_RSA, str(wrong)),))
    except MalformedError as wrong:
        return KeyReading(problems=(Problem(Cause.KEY_UNREADABLE, str(wrong)),))
    facts = KeyFacts("rsa", key.key_size, _fingerprint(key.public_key()))
    short = Problem(
        Cause.KEY_TOO_SHORT,
        f"The private key has {key.key_size} bits: Salesforce requires RSA with at least {BITS_AT_LEAST}"
        " bits.",
    )
    problems = (short,) if key.key_size < BITS_AT_LEAST else ()
    try:
        _prove(key)
    except InvalidSignature:
        damaged = Problem(Cause.KEY_UNREADABLE, _DAMAGED.format("its signature does not verify"))
        return KeyReading(facts, (damaged,))
    except ValueError:  # too short to hold the signature
        return KeyReading(facts, (short,))
    # Loaded again, without the test signature's state: OpenSSL keeps a key's blinding values for the thread
    # that first signed with it. Keys are read in another thread than they are used in; it would keep a second
    # set of 2 KiB, behind a lock.
    return KeyReading(facts, problems, _load_key(block))


_DAMAGED = (
    "The private key is damaged ({}): copy the file again from where it was created, or create a new pair."
)

_NOT_A_KEY = {
    "CERTIFICATE": "is a certificate: configure the private key here (private-key.pem in the setup guide)",
    "PUBLIC KEY": "is only the public key: configure the private key",
    "RSA PUBLIC KEY": "is only the public key: configure the private key",
    "CERTIFICATE REQUEST": "is a certificate request: configure the private key that it was created with",
}


def _private_block(found: list[Block]) -> Block:
    private = [block for block in found if block.label.endswith("PRIVATE KEY")]
    if len(private) == 1:
        return private[0]
    if private:
        raise MalformedError(
            f"The private key's file contains {len(private)} private keys: keep only the one that belongs to"
            " the certificate."
        )
    label = found[0].label
    meaning = _NOT_A_KEY.get(
        label, f"is a different kind of PEM ({label[:40]}): configure an RSA private key"
    )
    raise MalformedError(f"The private key {meaning}.")


_RSA_PSS = bytes.fromhex("06092a864886f70d01010a")
"""The object identifier of RSA keys restricted to PSS signatures. The library drops that restriction."""


def _load_key(block: Block) -> RSAPrivateKey:
    encrypted = MalformedError(
        "The private key is encrypted with a passphrase: store it unencrypted (`openssl rsa -in"
        " encrypted.pem -out private-key.pem`, or create it with -nodes)."
    )
    if block.encrypted:
        raise encrypted
    if block.label == "OPENSSH PRIVATE KEY":
        raise MalformedError(
            "The private key is in OpenSSH's own format: convert it to PEM "
            "(`ssh-keygen -p -m PEM -f FILE`), or create a new pair with openssl."
        )
    try:
        key: PrivateKeyTypes = load_der_private_key(block.der, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise encrypted from None
    except UnsupportedAlgorithm:
        raise _NotRsaError("not an RSA key") from None
    except (ValueError, InternalError):  # the latter if a curve's number has a wrong length
        raise MalformedError(_DAMAGED.format("it does not contain a complete key")) from None
    if not isinstance(key, RSAPrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
        bits = getattr(key, "key_size", None)
        facts = KeyFacts(kind.lower(), bits, _fingerprint(key.public_key()))
        raise _NotRsaError(f"of type {kind}", facts)
    if _RSA_PSS in block.der[:40]:
        raise _NotRsaError("of type RSA-PSS, which cannot create RS256 signatures")
    if key.key_size > BITS_AT_MOST:
        raise MalformedError(
            f"The private key has {key.key_size} bits, more than the supported {BITS_AT_MOST}: create one"
            f" with {BITS_AT_LEAST} to 4096 bits."
        )
    flaw = _flaw(key.private_numbers())
    if flaw:
        raise MalformedError(_DAMAGED.format(flaw))
    return key


def _flaw(key: RSAPrivateNumbers) -> str | None:
    """What is inconsistent in the numbers of an RSA key (RFC 8017, section 3.2); None if nothing is."""
    p, q, d = key.p, key.q, key.d
    n, e = key.public_numbers.n, key.public_numbers.e
    if min(p, q, d, e) < 3 or p % 2 == 0 or q % 2 == 0 or p == q or p * q != n:
        return "its modulus is not the product of its primes"
    if e % 2 == 0 or e.bit_length() > EXPONENT_BITS_AT_MOST:
        return "its public exponent is out of range"
    if d >= n or d * e % (p - 1) != 1 or d * e % (q - 1) != 1:
        return "its private exponent does not match its primes"
    if (key.dmp1, key.dmq1) != (d % (p - 1), d % (q - 1)) or key.iqmp >= p or key.iqmp * q % p != 1:
        return "the numbers derived from its primes are wrong"
    return None


def _prove(key: RSAPrivateKey) -> None:
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
    """Reads certificates, in order; or gives the problem, with cause `key_unreadable`."""
    try:
        found = _certificate_blocks(blocks(material, "certificate"))
        return CertificateReading(tuple(_certificate(block.der) for block in found))
    except MalformedError as wrong:
        return CertificateReading(problems=(Problem(Cause.KEY_UNREADABLE, str(wrong)),))


def _certificate_blocks(found: list[Block]) -> list[Block]:
    certificates = [block for block in found if block.label in {"CERTIFICATE", "X509 CERTIFICATE"}]
    if certificates:
        return certificates
    label = found[0].label
    meaning = _NOT_A_CERTIFICATE.get(label, f"is a different kind of PEM ({label[:40]})")
    if label.endswith("PRIVATE KEY"):
        meaning = "is a private key"
    raise MalformedError(
        f"The certificate {meaning}: configure the certificate here (cert.pem in the setup guide)."
    )


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
        raise MalformedError(
            "The certificate is damaged (it does not contain a complete certificate with a readable key):"
            " copy the file again from where it was created."
        ) from None
