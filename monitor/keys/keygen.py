"""Creates a key and a self-signed certificate like the openssl command in the setup guide's step 1."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from monitor.core.problem import OperatorError
from monitor.keys.new_files import Owner, created

BITS_ALLOWED = (2048, 3072, 4096)
"""Setup guide, step 1: "at least 2048 bits". Beyond 4096, signing costs more than the exchange."""

COMMON_NAME_AT_MOST = 64
"""In characters (RFC 5280, appendix A, ub-common-name)."""

PUBLIC_EXPONENT = 65_537

COMMON_NAME = "salesforce-jwt-integration"
"""The subject in the setup guide's command."""


class KeygenError(OperatorError):
    """Nothing was created. The text says why, and how to fix it."""


@dataclass(frozen=True, slots=True)
class GeneratedPair:
    """The two new files."""

    key_path: Path
    certificate_path: Path


def generate(
    directory: Path,
    *,
    now: datetime,
    days: int = 3650,
    bits: int = 2048,
    common_name: str = COMMON_NAME,
    key_name: str = "private-key.pem",
    certificate_name: str = "cert.pem",
    owner: Owner | None = None,
) -> GeneratedPair:
    """Create both files in a directory, the key readable only by its owner. Overwrites nothing.

    `owner`: the user and group that root gives the files to. Creates a missing directory with mode 0700, but
    not its parents: a path misspelt further up is an error. Raises KeygenError, and then leaves no file.

    The key is PKCS#8. The certificate is what `openssl req -x509 -sha256` creates: version 3, random serial
    number, CA:TRUE.
    """
    if bits not in BITS_ALLOWED:
        raise KeygenError(f"Cannot create a key of {bits} bits: choose 2048, 3072 or 4096.")
    if not 1 <= len(common_name) <= COMMON_NAME_AT_MOST or not common_name.isprintable():
        raise KeygenError(
            f"The common name must be 1 to {COMMON_NAME_AT_MOST} printable characters, such as {COMMON_NAME}."
        )
    made = GeneratedPair(directory / key_name, directory / certificate_name)
    key = rsa.generate_private_key(PUBLIC_EXPONENT, bits)
    certificate = _certificate(key, common_name, now, now + timedelta(days=days))
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = certificate.public_bytes(Encoding.PEM)
    try:
        with suppress(ValueError):  # a path that no file can have: creating the first file reports it
            directory.mkdir(mode=0o700, exist_ok=True)
        with (
            created(made.key_path, key_pem, mode=0o600, owner=owner),
            created(made.certificate_path, pem, mode=0o644, owner=owner),
        ):
            return made
    except FileExistsError as error:
        raise KeygenError(
            f"{error.filename} already exists and was not overwritten: choose another directory."
        ) from None
    except OSError as error:
        raise KeygenError(
            f"{error.filename} cannot be written ({error.strerror}): choose an existing, writable directory."
        ) from error


def _certificate(
    key: rsa.RSAPrivateKey, common_name: str, start: datetime, end: datetime
) -> x509.Certificate:
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(identifier, critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
