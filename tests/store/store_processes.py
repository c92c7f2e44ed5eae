"""Programs that the store's tests run as separate processes, to kill them or take away their disk.

Each prints one JSON value per line.
"""

import json
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event as Never

import structlog

from monitor.core.finding import State
from monitor.core.history import Event, EventKind, History
from monitor.core.outcome import Exchange, Granted
from monitor.store import Store, StoreError

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
GRANTED = Granted("opaque", frozenset({"api"}), "https://acme.my.salesforce.com", "00D000000000001", None)


def tell(**what: object) -> None:
    """Prints one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def nth(number: int) -> History:
    """A history after this many exchanges, a minute apart."""
    exchange = Exchange(START + timedelta(minutes=number), GRANTED, duration_seconds=0.25)
    return History(
        START,
        START,
        exchanges=number,
        last_exchange=exchange,
        last_verdict=exchange,
        state=State.HEALTHY,
        configuration="x" * 1000,  # so that a disk fills up in few of them
    )


def progress(path: str, acknowledged: str) -> None:
    """Saves forever; prints each number once it is saved, or once it is on disk."""
    store = Store.open(path)
    known = store.histories()
    first = known["counter"].exchanges + 1 if "counter" in known else 1
    for number in count(first):
        store.save("counter", nth(number), (Event(START, EventKind.STATE, f"event {number}"),))
        store.save(f"other {number % 100}", nth(number))
        if acknowledged == "flushed":
            store.flush()
        else:
            Never().wait(0.001)
        tell(number=number, at=time.monotonic())


def _goes_away_and_comes_back(
    store: Store, path: Path, *, take_away: Callable[[], None], give_back: Callable[[], None]
) -> None:
    """The story of each disk: it works, it is away while checks go on, it is back, nothing is lost."""
    for number in range(1, 11):
        store.save("early", nth(number))
    tell(flushed=store.flush(), problem=store.problem, errors=store.errors)
    take_away()
    for number in range(11, 2011):
        store.save("early", nth(number))
        store.save(f"late {number % 1000}", nth(number))
    tell(flushed=store.flush(), problem=store.problem, errors=store.errors)
    give_back()
    tell(flushed=store.flush(), problem=store.problem, errors=store.errors)
    store.close()
    again = Store.open(path)
    days = again.days(["early"], START.date())["early"]
    tell(
        histories=len(again.histories()),
        early=again.histories()["early"].exchanges,
        kept=len(again.exchanges("early")),
        counted=sum(day.granted for day in days),
        first_day=days[0].granted,
    )
    again.close()
    tell(integrity=sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone()[0])


def small_disk(directory: str) -> None:
    """On a separate 1 MiB disk (in a mount namespace), which another file fills."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=True)
    path, ballast = Path(directory, "bearerwatch.db"), Path(directory, "ballast")

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def make_room() -> None:
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", directory], check=True)

    _goes_away_and_comes_back(Store.open(path), path, take_away=fill, give_back=make_room)


def file_limit(directory: str) -> None:
    """Under a limit on the size of each file."""
    path = Path(directory, "bearerwatch.db")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    _goes_away_and_comes_back(
        Store.open(path),
        path,
        take_away=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1])),
        give_back=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before),
    )


def read_only(directory: str) -> None:
    """In a directory that becomes read-only and loses the database."""
    path = Path(directory, "bearerwatch.db")

    def lose() -> None:
        for file in Path(directory).iterdir():
            file.unlink()
        Path(directory).chmod(0o555)

    _goes_away_and_comes_back(
        Store.open(path), path, take_away=lose, give_back=lambda: Path(directory).chmod(0o755)
    )


def start(path: str) -> None:
    """Opens a database."""
    try:
        Store.open(path).close()
    except StoreError as error:
        tell(error=str(error))


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    {f.__name__: f for f in (progress, small_disk, file_limit, read_only, start)}[sys.argv[1]](*sys.argv[2:])
