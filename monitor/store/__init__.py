"""Histories, exchanges, day counts and events in a database, written by one thread of its own.

1. `place`: where it is, a file (`sqlite`) or a server (`postgresql`). What goes wrong is said in words.
2. `schema`: the tables, and how an older database becomes one of today.
3. `waiting`: what is yet to be written of a connection.
4. `database`: an open database in one thread: one batch, one transaction.
5. `keeper`: the Store: puts things down at once, writes them a little later, and tries again when it must.
6. `records`: the stored shape of a history, named and versioned, and the way to the core's and back.
7. `due`: who checks what and when, where replicas share a database. `moving`: from a file to a server.
"""

from monitor.store.database import SUCCESS_DAYS
from monitor.store.keeper import DayCounts, PastExchange, Store
from monitor.store.moving import move
from monitor.store.problem import StoreError
from monitor.store.schema import UPGRADES
from monitor.store.waiting import EVENTS_KEPT, EXCHANGES_KEPT, Verdict

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
