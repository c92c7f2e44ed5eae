"""Reads secrets from HashiCorp Vault's key/value store (version 2), using hvac (extra `vault`).

Blocking: call it from the key ring's threads. An expired token is replaced by a new login; tokens are never
renewed or revoked.
"""

import math
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from monitor.config import VaultOptions
from monitor.core.connection import Source
from monitor.core.keys.secret import Secret
from monitor.keys import SourceError

if TYPE_CHECKING:
    from hvac import Client

TIMEOUT_SECONDS = 5.0
"""For connecting and for each read: Vault is close, and its answers are small."""

QUIET_SECONDS = 30.0
"""Pause after Vault did not answer: otherwise each of a thousand keys would wait in turn."""

READERS = 4
"""Concurrent reads: each costs Vault a log entry and a token check."""


class VaultReader:
    """A client for one Vault, with its login."""

    def __init__(
        self,
        vault: VaultOptions,
        read: Callable[[Source], bytes],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` gives our credentials: the token, the secret id or the service account's token."""
        self.vault = vault
        self._read = read
        self._monotonic = monotonic
        self._client: Client | None = None
        self._logging_in = Lock()
        self._quiet = (-math.inf, "")
        """Until when not to ask, and why."""

    def secrets(self, path: str) -> Mapping[str, Secret]:
        """The fields of a secret's newest version. Raises SourceError."""
        # Imported here: it takes half a second, and only users of Vault need it.
        from hvac.exceptions import Forbidden, InvalidPath, VaultError
        from requests.exceptions import RequestException, SSLError, Timeout

        if self._monotonic() < self._quiet[0]:
            raise SourceError(self._quiet[1])
        where = f"{self.vault.mount}/{path}"
        try:
            try:
                answer = self._asked(self._logged_in(None), path)
            except Forbidden:  # perhaps our token has expired
                answer = self._asked(self._logged_in(self._client), path)
        except InvalidPath:
            raise SourceError(
                f"Vault has nothing at {where}, or no version 2 key/value store is mounted there: check "
                f"vault.mount, and run `vault kv get -mount={self.vault.mount} {path}`."
            ) from None
        except Forbidden:
            raise SourceError(
                f"Vault does not allow us to read {where}: add the capability read to our policy for "
                f"{self.vault.mount}/data/{path}."
            ) from None
        except VaultError as refusal:
            raise self._unwell(f"answers with an error ({type(refusal).__name__}); see Vault's log") from None
        except SSLError:
            raise self._unwell("has an untrusted certificate: put its CA into vault.ca_file") from None
        except Timeout:
            raise self._unwell(f"did not answer within {TIMEOUT_SECONDS:.0f} s") from None
        except RequestException:
            raise self._unwell("cannot be reached: check vault.address and the network") from None
        try:
            fields = answer["data"]["data"].items()
        except (TypeError, KeyError, AttributeError):
            raise self._unwell("does not answer like Vault: check vault.address") from None
        return {name: Secret(value) for name, value in fields if isinstance(value, str)}

    def _asked(self, client: "Client", path: str) -> Any:
        return client.secrets.kv.v2.read_secret_version(
            path, mount_point=self.vault.mount, raise_on_deleted_version=True
        )

    def _logged_in(self, ended: "Client | None") -> "Client":
        """A client with a token other than that of `ended`."""
        with self._logging_in:
            if self._client is None or self._client is ended:
                self.close()
                self._client = self._login()
            return self._client

    def close(self) -> None:
        """Close connections; the next read opens new ones."""
        if self._client is not None:
            self._client.adapter.close()
        self._client = None

    def _login(self) -> "Client":
        from hvac import Client
        from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, Unauthorized
        from requests import Session

        vault, login = self.vault, self.vault.login
        try:
            proof = Secret(self._read(login.proof)).text()
        except ValueError:
            raise SourceError(f"vault.login.secret is not text, but {login.method} requires text.") from None
        session = Session()
        # Otherwise a proxy from the environment would see the login and every key (in clear text for an agent
        # on loopback), and ~/.netrc and REQUESTS_CA_BUNDLE would apply.
        session.trust_env = False
        session.verify = str(vault.ca_file) if vault.ca_file else True
        client = Client(
            url=vault.address,
            token=proof if login.method == "token" else "",
            namespace=vault.namespace or None,
            session=session,
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,  # a redirect would send the token elsewhere
        )
        try:
            if login.method != "token":  # approle or kubernetes
                getattr(client.auth, login.method).login(login.role, proof, mount_point=login.mounted_at)
        except (Forbidden, InvalidPath, InvalidRequest, Unauthorized) as refusal:
            raise self._unwell(
                f"refuses our login ({type(refusal).__name__}): check vault.login, and that the method "
                f"{login.method} is enabled at {login.mounted_at}"
            ) from None
        except (KeyError, TypeError):
            raise self._unwell("does not answer like Vault: check vault.address") from None
        return client

    def _unwell(self, what: str) -> SourceError:
        """An error that affects every secret; starts the pause."""
        said = f"Vault at {self.vault.address} {what}."
        self._quiet = self._monotonic() + QUIET_SECONDS, said
        return SourceError(said)
