"""Production: a second client of the org, which uses one key until told to use another.

It shares no code with the monitor: signs with PyJWT and posts with httpx to the same token endpoint.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.journeys.driver import Traveller
from tests.journeys.keys import PairFiles
from tests.making import NOW


@lru_cache
def _loaded(private_key: bytes) -> RSAPrivateKey:
    key = load_pem_private_key(private_key, None)
    assert isinstance(key, RSAPrivateKey)
    return key


@dataclass(frozen=True, slots=True)
class Login:
    """One login of production's."""

    at: timedelta
    """From the beginning of the journey on."""
    granted: bool


class Production:
    """Logs in to a traveller's org."""

    def __init__(self, traveller: Traveller, files: PairFiles) -> None:
        self._traveller = traveller
        self.use(files)
        self.logins: list[Login] = []

    def use(self, files: PairFiles) -> None:
        """From now on production signs with this key."""
        self._key = _loaded(files.private_key)

    async def log_in(self) -> bool:
        """One login, now."""
        journey, connection = self._traveller.journey, self._traveller.connection
        now = journey.clock.now()
        claims = {
            "iss": connection.consumer_key,
            "sub": connection.username,
            "aud": "https://login.salesforce.com",
            "exp": int((now + timedelta(minutes=2)).timestamp()),
        }
        answer = await journey.control.post(
            f"/{self._traveller.subdomain}/services/oauth2/token",
            data={
                "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "assertion": jwt.encode(claims, self._key, algorithm="RS256"),
            },
        )
        self.logins.append(Login(now - NOW, answer.status_code == httpx.codes.OK))
        return self.logins[-1].granted

    def refused(self) -> list[timedelta]:
        """When it was refused."""
        return [login.at for login in self.logins if not login.granted]
