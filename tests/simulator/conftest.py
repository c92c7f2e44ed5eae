"""What the simulator's tests share: key pairs, and an org that grants."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from monitor.simulator.org import Org
from monitor.simulator.settings import OrgSettings
from tests.certificates import Key, certificate_of, rsa_key
from tests.making import NOW
from tests.simulator.asking import CONSUMER_KEY, USERNAME, Pair

MakeOrg = Callable[..., Org]


def make_pair(key: Key, days: int = 365) -> Pair:
    """A key, and its certificate that ends in so many days."""
    begins = NOW - timedelta(days=100)
    return Pair(key, certificate_of(key, begins, timedelta(days=100 + days)).decode())


@pytest.fixture(scope="session")
def pair() -> Pair:
    return make_pair(rsa_key())


@pytest.fixture(scope="session")
def expired_pair() -> Pair:
    return make_pair(rsa_key(), days=-1)


@pytest.fixture(scope="session")
def other_pair() -> Pair:
    return make_pair(rsa_key("second"))


@pytest.fixture(scope="session")
def elliptic_pair() -> Pair:
    return make_pair(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def make_org(pair: Pair) -> MakeOrg:
    """Makes an org that grants what `ask` asks, but for what differs."""

    def make(at: datetime = NOW, **different: Any) -> Org:
        right = {"consumer_key": CONSUMER_KEY, "username": USERNAME, "certificate": pair.certificate}
        return Org("acme", OrgSettings().changed(right | different), at)

    return make
