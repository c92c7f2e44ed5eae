"""Key pairs for journeys: a few RSA keys, made once a process, under certificates of any dates."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.certificates import certificate_of, pem_of, rsa_key
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
    return PairFiles(pem_of(rsa_key(which)), certificate_of(rsa_key(which), begins, lives))
