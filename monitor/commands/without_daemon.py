"""Resources for commands that run without the daemon: keys, network, and the database."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.config import Settings
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.transport import Limits
from monitor.watch.clock import Clock

if TYPE_CHECKING:
    from monitor.store import Store


@asynccontextmanager
async def keys_and_network(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Keyring, Exchanger]]:
    """Keyring and exchanger for these settings, one exchange at a time. Raises OperatorError."""
    keyring = Keyring(os.environ, settings.vault)
    exchanger = Exchanger(
        limits=Limits(in_flight=1),
        ca_file=settings.ca_file,
        allowed_hosts=settings.allowed_hosts,
        clock=clock.machine,
    )
    try:
        yield keyring, exchanger
    finally:
        await exchanger.aclose()
        keyring.close()


@contextmanager
def memory(settings: Settings) -> Iterator["Store | None"]:
    """The daemon's database for reading; None if it doesn't exist yet. Raises StoreError."""
    if "://" not in settings.database and not Path(settings.database).exists():
        yield None
        return
    from monitor.store import Store  # slow to import

    store = Store.open(settings.database)
    try:
        yield store
    finally:
        store.close()
