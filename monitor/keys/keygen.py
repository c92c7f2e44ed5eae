"""Creates a key and a self-signed certificate like the openssl command in the setup guide's step 1."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

DAYS_AT_MOST = 36_500
"""A hundred years. More is a typo, and certificates can't hold dates after 9999."""

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
    not_after: datetime


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
    key_path, certificate_path = directory / key_name, directory / certificate_name
    _refuse_nonsense(days=days, bits=bits, common_name=common_name)
    for path in (key_path, certificate_path):
        if os.path.lexists(path):
            raise _in_the_way(path)

    key = rsa.generate_private_key(PUBLIC_EXPONENT, bits)
    certificate = _certificate(key, common_name, now, now + timedelta(days=days))
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    with suppress(OSError, ValueError):  # creating the first file reports the error
        directory.mkdir(mode=0o700)
    with (
        _made(key_path, key_pem, 0o600, owner),
        _made(certificate_path, certificate.public_bytes(Encoding.PEM), 0o644, owner),
    ):
        pass
    return GeneratedPair(key_path, certificate_path, certificate.not_valid_after_utc)


def certify(
    key: rsa.RSAPrivateKey,
    certificate_path: Path,
    *,
    now: datetime,
    days: int = 3650,
) -> None:
    """Create the certificate for an existing key, after an interruption. Raises KeygenError."""
    _refuse_nonsense(days=days, bits=key.key_size, common_name=COMMON_NAME)
    certificate = _certificate(key, COMMON_NAME, now, now + timedelta(days=days))
    with _made(certificate_path, certificate.public_bytes(Encoding.PEM), 0o644):
        pass


def _refuse_nonsense(*, days: int, bits: int, common_name: str) -> None:
    if bits not in BITS_ALLOWED:
        raise KeygenError(f"Cannot create a key of {bits} bits: choose 2048, 3072 or 4096.")
    if not 1 <= days <= DAYS_AT_MOST:
        raise KeygenError(f"Cannot create a certificate for {days} days: choose 1 to {DAYS_AT_MOST}.")
    if not 1 <= len(common_name) <= COMMON_NAME_AT_MOST or not common_name.isprintable():
        raise KeygenError(
            f"The common name must be 1 to {COMMON_NAME_AT_MOST} printable characters, such as {COMMON_NAME}."
        )


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


@contextmanager
def _made(path: Path, content: bytes, mode: int, owner: Owner | None = None) -> Iterator[None]:
    """Create a new file; removed if the block raises, so that a pair is created as a whole or not at all."""
    try:
        with created(path, content, mode=mode, owner=owner):
            yield
    except FileExistsError:
        raise _in_the_way(path) from None
    except OSError as error:
        raise KeygenError(
            f"{path} cannot be written ({error.strerror}): choose an existing, writable directory."
        ) from error


def _in_the_way(path: Path) -> KeygenError:
    return KeygenError(f"{path} already exists and was not overwritten: choose another directory.")
