"""A process with a bug whose exception tells all that it knows: in a check, and outside of all nets.

python -m tests.end_to_end.faulty CONFIGURATION LOG_FORMAT
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from monitor.config import load
from monitor.core.connection import Connection
from monitor.core.keys.assertion import sign
from monitor.daemon import logs
from monitor.keys.sources import Keyring
from monitor.watch.budget import OwnLedger
from monitor.watch.check import Checker
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics

TOKEN = "00D5g000004cYlf!AQ4AQPjSecretOfTheOrg"


def telltale(connection: Connection, key: RSAPrivateKey) -> LookupError:
    """An exception that holds assertion, token and key."""
    assertion = sign(connection, key, datetime.now(UTC))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return LookupError(f"{TOKEN} for {assertion}, assertion={assertion!r}, of {pem!r} and {pem}")


class Faulty:
    """In the place of the exchanger."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @asynccontextmanager
    async def login(self, connection: Connection, _signed: Callable[[datetime], str]) -> AsyncIterator[Any]:
        """Raises."""
        key = (await self._keyring.load(connection.current)).key
        assert key
        raise telltale(connection, key)
        yield


async def main(config: Path) -> None:
    """One check, and then the end."""
    settings = load(config, {})
    well = settings.connections[-1]
    fleet, clock, keyring = Fleet({}), Clock(), Keyring({})
    fleet.configure([well], clock.now())
    faulty: Any = Faulty(keyring)
    checker = Checker(fleet, keyring=keyring, exchanger=faulty, clock=clock, own=OwnMetrics())
    await checker.check(well.name, OwnLedger(60, lambda *_: None))
    sys.stdout.write(f"{fleet[well.name]!r}\n")
    async with faulty.login(well, None):
        pass


if __name__ == "__main__":
    logs.configure(format="json" if sys.argv[2] == "json" else "logfmt", level="debug")
    asyncio.run(main(Path(sys.argv[1])))
