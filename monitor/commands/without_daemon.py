"""The daemon's database, for commands that run without the daemon."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.config import Settings

if TYPE_CHECKING:
    from monitor.store import Store


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
