"""CPU of storing a check, compared with creating the same JSON and inserting the same rows with SQLite."""

import sqlite3
import statistics
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from bench.figures import Figure, median_ratio
from bench.scrape import status
from monitor.core.history import History
from monitor.daemon.interpreter import responsive
from monitor.store import Store, records

GOAL_RATIO = 2.0
"""Our own overhead: queueing, batches, events, a thread."""

GOAL_KIB = 1.5
"""SQLite writes each page twice, to its log and to the file."""

BATCH = 500
"""Rows per transaction, as in the store."""

TABLES = """
CREATE TABLE histories (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE exchanges (id INTEGER, slot INTEGER, at_ms INTEGER, verdict INTEGER, cause INTEGER,
    status INTEGER, duration_ms INTEGER, PRIMARY KEY (id, slot)) WITHOUT ROWID;
CREATE TABLE days (day INTEGER, id INTEGER, granted INTEGER, refused INTEGER, no_verdict INTEGER,
    PRIMARY KEY (day, id)) WITHOUT ROWID;
"""

WRITES = (
    "INSERT INTO histories VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
    "INSERT OR REPLACE INTO exchanges VALUES (?, ?, ?, 0, NULL, 200, 250)",
    "INSERT INTO days VALUES (?, ?, 1, 0, 0) ON CONFLICT DO UPDATE SET granted = granted + 1",
)


def figures(place: Path, connections: int, rounds: int) -> list[Figure]:
    """One save per connection and round, alternating with the baseline."""
    histories = {f"customer-{number:05}": status(number).history for number in range(connections)}
    store = Store.open(place / "saved.db")
    bare = sqlite3.connect(place / "bare.db", isolation_level=None)
    bare.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {TABLES}")
    saves, rows, written = [], [], []
    with responsive():  # like the daemon
        for turn in range(rounds + 1):  # the first round inserts, the others update
            histories = {name: _later(history) for name, history in histories.items()}
            before = _bytes_written()
            saves.append(_saved(store, histories) / connections)
            written.append((_bytes_written() - before) / connections)
            rows.append(_written(bare, list(histories.values()), turn) / connections)
    store.close()
    bare.close()
    return [
        Figure("CPU of a save", 1e6 * statistics.median(saves[1:]), "us"),
        Figure(
            "CPU of a save / JSON and bare rows in SQLite", median_ratio(saves[1:], rows[1:]), goal=GOAL_RATIO
        ),
        Figure(
            "written to the disk of a save, all due at once",
            statistics.median(written[1:]) / 1024,
            "KiB",
            GOAL_KIB,
        ),
    ]


def _bytes_written() -> int:
    """Bytes written by this process; 0 if the system doesn't say."""
    with suppress(OSError):
        return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])
    return 0


def _later(history: History) -> History:
    """The history after another exchange, five minutes later."""
    assert history.last_exchange
    exchange = replace(history.last_exchange, at=history.last_exchange.at + timedelta(minutes=5))
    return replace(history, exchanges=history.exchanges + 1, last_exchange=exchange, last_verdict=exchange)


def _saved(store: Store, histories: dict[str, History]) -> float:
    before = time.process_time()
    for name, history in histories.items():
        store.save(name, history)
    if not store.flush(60):
        raise RuntimeError(f"not written: {store.problem}")
    return time.process_time() - before


def _written(bare: sqlite3.Connection, histories: list[History], turn: int) -> float:
    before = time.process_time()
    for start in range(0, len(histories), BATCH):
        batch = [
            (number, records.written(history))
            for number, history in enumerate(histories[start : start + BATCH], start)
        ]
        bare.execute("BEGIN IMMEDIATE")
        bare.executemany(WRITES[0], batch)
        bare.executemany(WRITES[1], [(number, turn % 50, 1_795_000_000_000 + turn) for number, _ in batch])
        bare.executemany(WRITES[2], [(20_000, number) for number, _ in batch])
        bare.execute("COMMIT")
    return time.process_time() - before
