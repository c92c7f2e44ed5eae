"""What the simulator's tests share: key pairs, and an org that grants."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from monitor.simulator.org import Org
from monitor.simulator.settings import OrgSettings
from tests.making import NOW
from tests.simulator.asking import CONSUMER_KEY, USERNAME, Pair

MakeOrg = Callable[..., Org]


def make_pair(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, days: int) -> Pair:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "salesforce-jwt-integration")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=100))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, SHA256())
    )
    return Pair(key, certificate.public_bytes(Encoding.PEM).decode())


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def pair(rsa_key: rsa.RSAPrivateKey) -> Pair:
    return make_pair(rsa_key, days=365)


@pytest.fixture(scope="session")
def expired_pair(rsa_key: rsa.RSAPrivateKey) -> Pair:
    return make_pair(rsa_key, days=-1)


@pytest.fixture(scope="session")
def other_pair() -> Pair:
    return make_pair(rsa.generate_private_key(65537, 2048), days=365)


@pytest.fixture(scope="session")
def elliptic_pair() -> Pair:
    return make_pair(ec.generate_private_key(ec.SECP256R1()), days=365)


@pytest.fixture
def make_org(pair: Pair) -> MakeOrg:
    """Makes an org that grants what `ask` asks, but for what differs."""

    def make(at: datetime = NOW, **different: Any) -> Org:
        right = {"consumer_key": CONSUMER_KEY, "username": USERNAME, "certificate": pair.certificate}
        return Org("acme", OrgSettings().changed(right | different), at)

    return make
