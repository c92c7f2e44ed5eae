"""Makes a key and a self-signed certificate as the openssl command of the setup guide's step 1 does."""

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
"""Setup guide, step 1: "at least 2048 bits". Beyond 4096 a signature costs more than its exchange."""

DAYS_AT_MOST = 36_500
"""A hundred years: more is a slip of the hand, and dates after 9999 can't be written into a certificate."""

COMMON_NAME_AT_MOST = 64
"""Characters (RFC 5280, appendix A, ub-common-name)."""

PUBLIC_EXPONENT = 65_537

COMMON_NAME = "salesforce-jwt-integration"
"""The subject in the setup guide's command."""


class KeygenError(OperatorError):
    """Nothing was made; its text says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class GeneratedPair:
    """The two files that were made."""

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
    """Makes both files in a directory, the key readable for its owner alone; overwrites nothing.

    `owner` is to whom root gives them.

    A directory that is not there is made, for its owner alone, where the one above it is: a path that is
    misspelt further up stays a mistake. Raises KeygenError, and then leaves no file behind.

    The key is PKCS#8; the certificate is what `openssl req -x509 -sha256` makes: version 3, a random serial
    number, and it may verify itself.
    """
    key_path, certificate_path = directory / key_name, directory / certificate_name
    _refuse_nonsense(days=days, bits=bits, common_name=common_name)
    for path in (key_path, certificate_path):
        if os.path.lexists(path):
            raise _in_the_way(path)

    key = rsa.generate_private_key(PUBLIC_EXPONENT, bits)
    certificate = _certificate(key, common_name, now, now + timedelta(days=days))
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    with suppress(OSError, ValueError):  # what is wrong with the directory, the first file says
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
    common_name: str = COMMON_NAME,
) -> None:
    """Makes the certificate of a key that is there already: of one whose making was interrupted.

    Raises KeygenError.
    """
    _refuse_nonsense(days=days, bits=key.key_size, common_name=common_name)
    certificate = _certificate(key, common_name, now, now + timedelta(days=days))
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
    """Makes a file that was not there; taken back where the block raises, so that a pair is made as one."""
    try:
        with created(path, content, mode=mode, owner=owner):
            yield
    except FileExistsError:
        raise _in_the_way(path) from None
    except OSError as error:
        raise _not_written(path, error) from error


def _in_the_way(path: Path) -> KeygenError:
    return KeygenError(f"{path} already exists and was not overwritten: choose another directory.")


def _not_written(path: Path, error: OSError) -> KeygenError:
    return KeygenError(
        f"{path} cannot be written ({error.strerror}): choose an existing, writable directory."
    )
