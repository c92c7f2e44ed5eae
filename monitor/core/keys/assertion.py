"""The signed assertion: its claims at a given time, as a JWT."""

import json
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt import PyJWS
from jwt.algorithms import RSAAlgorithm

from monitor.core.connection import Connection

LIFETIME = timedelta(seconds=180)
"""How far in the future `exp` is: "within 3 minutes" (Salesforce help for this flow). *Observed*: more is
accepted, but a captured assertion can be used for this long."""

ALGORITHM = "RS256"
"""The only algorithm that the flow accepts (setup guide, step 1: an RSA key, ECDSA is refused)."""


class _RsaOfAnyLength(RSAAlgorithm):
    """Signs without PyJWT's warning about short keys: these are already a finding."""

    def check_key_length(self, key: Any) -> None:
        return None


_signer = PyJWS(algorithms=[])
_signer.register_algorithm(ALGORITHM, _RsaOfAnyLength(RSAAlgorithm.SHA256))


def claims(connection: Connection, now: datetime) -> dict[str, str | int]:
    """The claims: app, user, audience and expiry (setup guide, steps 3, 5 and 7).

    Three common claims are deliberately left out. With `nbf` or `iat`, a clock that is one second fast could
    cause a refusal. `jti` is for detecting replays, which Salesforce is not known to do; each exchange signs
    a new assertion anyway.
    """
    return {
        "iss": connection.consumer_key,
        "sub": connection.username,
        "aud": connection.audience,
        "exp": int((now + LIFETIME).timestamp()),
    }


def sign(connection: Connection, key: RSAPrivateKey, now: datetime) -> str:
    """The assertion at `now`, as compact JWS. From PEM, OpenSSL would test the key's primes on each call."""
    payload = json.dumps(claims(connection, now), separators=(",", ":")).encode()
    return _signer.encode(payload, key, algorithm=ALGORITHM)
