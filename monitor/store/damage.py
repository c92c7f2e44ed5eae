"""A SQLite file that is damaged in place: noticed, moved away, and read as far as it can be."""

import sqlite3
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Engine

from monitor.core.history import History
from monitor.store import records
from monitor.store.problem import DamagedError, StoreError
from monitor.store.sqlite import SqliteFile

LOOK_SECONDS = 10.0
"""How often the beginning of the file is read: the writer itself goes on for hours on what it has cached."""

WHOLE_SECONDS = 60.0
WHOLE_SHARE = 100
"""How often all of the file is read: each minute, but so seldom that it takes a hundredth of a thread."""

AGAIN_SECONDS = 60.0
"""How soon another file is moved away: a disk that damages each at once must not be filled by them."""


class CheckUps:
    """Looks at the file now and then, for the one daemon that writes it."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._engine: Engine = file.engine(writes=False)
        self.used = file.claim_path.exists()
        """Whether a daemon has had this file before. If not, it may be any file, named by mistake."""
        self._look_at = self._whole_at = 0.0
        self._moved_at = -AGAIN_SECONDS

    def soon(self) -> None:
        """Somebody has met damage: the next look is at all of the file."""
        self._look_at = self._whole_at = 0.0

    def damage(self) -> str | None:
        """What is wrong with the file; None where nothing is known to be, or it is no time for a look."""
        began = time.monotonic()
        if began < self._look_at:
            return None
        self._look_at = began + LOOK_SECONDS
        whole = began >= self._whole_at
        try:
            with self._file.reading(self._engine) as connection:
                connection.exec_driver_sql("SELECT value FROM meta").all()
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() if whole else "ok"
        except DamagedError as error:
            return str(error)
        except StoreError:
            return None  # it is away or locked, which the writer says
        if whole:
            now = time.monotonic()
            self._whole_at = now + max(WHOLE_SECONDS, WHOLE_SHARE * (now - began))
        return None if found == "ok" else f"The database {self._file} is damaged: {found}."

    def moved_away(self) -> Path | None:
        """Moves the file away, with what lies beside it; None where that fails, or so soon after another."""
        if time.monotonic() - self._moved_at < AGAIN_SECONDS:
            return None
        self._moved_at = time.monotonic()
        to = f"{self._file.path}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        try:
            for ending in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self._file.path}{ending}").rename(f"{to}{ending}")
        except OSError:
            return None
        return Path(to)


def salvaged(path: Path) -> dict[str, History]:
    """The histories that can still be read from a damaged file."""
    histories: dict[str, History] = {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as link:
        link.text_factory = bytes
        names: set[tuple[int, bytes]] = set()
        for order in ("", " ORDER BY id DESC"):  # from either end up to what is damaged
            with suppress(sqlite3.DatabaseError):
                names.update(link.execute("SELECT id, name FROM connections" + order))  # noqa: S608 # ours
        for number, name in names:
            row = "SELECT body FROM histories WHERE connection_id = ?"
            with suppress(sqlite3.DatabaseError, ValidationError, TypeError, UnicodeDecodeError):
                histories[name.decode()] = records.read(link.execute(row, (number,)).fetchone()[0])
    return histories
