"""The signed assertion: the claims at a given moment, and the JWT that carries them."""

import json
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt import PyJWS
from jwt.algorithms import RSAAlgorithm

from monitor.core.connection import Connection

LIFETIME = timedelta(seconds=180)
"""How far ahead `exp` lies: "within 3 minutes", as Salesforce's help for this flow says. *Observed*: more is
tolerated. But whoever captures an assertion can use it for as long as this."""

ALGORITHM = "RS256"
"""The only algorithm that the flow accepts (setup guide, step 1: an RSA key, ECDSA is refused)."""


class _RsaOfAnyLength(RSAAlgorithm):
    """Signs without PyJWT's warning on short keys: a short key is a finding, and a finding is told once."""

    def check_key_length(self, key: Any) -> None:
        return None


_signer = PyJWS(algorithms=[])
_signer.register_algorithm(ALGORITHM, _RsaOfAnyLength(RSAAlgorithm.SHA256))


def claims(connection: Connection, now: datetime) -> dict[str, str | int]:
    """What the assertion states: app, user, audience and end (setup guide, steps 3, 5 and 7).

    Three claims that JWTs often carry are left out on purpose. With `nbf` or `iat`, a clock that is fast by
    a second could cause a refusal. `jti` serves to refuse replays; nothing is known of Salesforce doing so,
    and each exchange signs afresh anyway.
    """
    return {
        "iss": connection.consumer_key,
        "sub": connection.username,
        "aud": connection.audience,
        "exp": int((now + LIFETIME).timestamp()),
    }


def sign(connection: Connection, key: RSAPrivateKey, now: datetime) -> str:
    """The assertion at `now`, as compact JWS.

    Takes the loaded key. Given PEM, OpenSSL would test its primes on each call: a hundred times the cost of
    the signature itself.
    """
    payload = json.dumps(claims(connection, now), separators=(",", ":")).encode()
    return _signer.encode(payload, key, algorithm=ALGORITHM)
