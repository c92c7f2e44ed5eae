"""The assertion's claims and signature, as PyJWT's decoder and a bare RSA verification see them."""

import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from monitor.core.keys.assertion import LIFETIME, claims, sign
from tests.certificates import rsa_key
from tests.making import connection

NOW = datetime(2026, 11, 23, 12, 0, 0, 750_000, tzinfo=UTC)

CONNECTION = connection(audience="https://login.salesforce.com")


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa_key()


def test_the_claims_are_exactly_the_four_that_salesforce_reads() -> None:
    assert claims(CONNECTION, NOW) == {
        "iss": "3MVG9acme",
        "sub": "integration@acme.com",
        "aud": "https://login.salesforce.com",
        "exp": 1795435380,
    }


def test_the_expiry_is_an_integer_at_most_three_minutes_ahead() -> None:
    end = claims(CONNECTION, NOW)["exp"]

    assert isinstance(end, int)
    assert timedelta(minutes=3) >= LIFETIME >= datetime.fromtimestamp(end, UTC) - NOW > timedelta(minutes=2)


def test_the_time_zone_of_now_does_not_change_the_expiry() -> None:
    elsewhere = NOW.astimezone(tz=None)

    assert claims(CONNECTION, elsewhere) == claims(CONNECTION, NOW)


def test_the_assertion_is_a_jwt_that_the_public_key_verifies(key: rsa.RSAPrivateKey) -> None:
    assertion = sign(CONNECTION, key, NOW)

    header, payload, signature = (
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in assertion.split(".")
    )
    key.public_key().verify(
        signature, assertion.rpartition(".")[0].encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    assert json.loads(header) == {"alg": "RS256", "typ": "JWT"}
    assert json.loads(payload) == claims(CONNECTION, NOW)


def test_pyjwts_decode_reads_the_assertion(key: rsa.RSAPrivateKey) -> None:
    now = datetime.now(UTC)

    read = jwt.decode(
        sign(CONNECTION, key, now), key.public_key(), algorithms=["RS256"], audience=CONNECTION.audience
    )

    assert read == claims(CONNECTION, now)


@pytest.mark.parametrize("bits", [1024, 4096])
def test_keys_of_other_lengths_sign_without_a_warning(bits: int) -> None:
    """Warnings are errors in these tests."""
    odd = rsa.generate_private_key(public_exponent=65537, key_size=bits)

    assert len(sign(CONNECTION, odd, NOW).split(".")) == 3
