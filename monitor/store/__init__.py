"""Histories, exchanges, day counts and events in a database, written by a dedicated thread.

1. `place`: where the database is: a file (`sqlite`) or a server (`postgresql`).
2. `schema`: the tables, and upgrades from older versions.
3. `waiting`: the unwritten changes of one connection.
4. `database`: a database opened by one thread; each batch is one transaction.
5. `keeper`: the Store: queues changes, writes them shortly after, retries failed writes.
6. `records`: the stored format of a history, versioned.
7. `due`: which replica checks what, and when. `moving`: from a file to a server.
"""

from monitor.store.database import SUCCESS_DAYS
from monitor.store.keeper import DayCounts, Store
from monitor.store.moving import move
from monitor.store.problem import StoreError
from monitor.store.schema import UPGRADES
from monitor.store.waiting import EVENTS_KEPT, EXCHANGES_KEPT, PastExchange, Verdict

__all__ = [
    "EVENTS_KEPT",
    "EXCHANGES_KEPT",
    "SUCCESS_DAYS",
    "UPGRADES",
    "DayCounts",
    "PastExchange",
    "Store",
    "StoreError",
    "Verdict",
    "move",
]
