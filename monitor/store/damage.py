"""Detects a damaged SQLite file, moves it away, and salvages what can still be read."""

import os
import sqlite3
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine

from monitor.core.history import History
from monitor.store import records
from monitor.store.problem import DamagedError, StoreError
from monitor.store.sqlite import SqliteFile

LOOK_SECONDS = 10.0
"""How often the file's first page is read. The writer's cache can hide damage for hours."""

WHOLE_SHARE = 100
"""Rest after a full read, in multiples of its duration: it takes at most 1 % of a thread. SQLite reads some
400 MB a second: up to 40 MB each time, the 500 MB of 10,000 connections every two minutes."""

AGAIN_SECONDS = 60.0
"""Least time between two files moved away, so that a bad disk does not fill up with them."""


class CheckUps:
    """Regular integrity checks of the file, made by the one daemon that writes it."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._engine: Engine = file.engine(writes=False)
        self.used = os.path.exists(file.claim_path)  # noqa: PTH110 - Path raises where we may not look
        """Whether a daemon has used this file before. Otherwise it may be any file, named by mistake."""
        self._look_at = self._whole_at = 0.0
        self._moved_at = -AGAIN_SECONDS

    def soon(self) -> None:
        """Make the next check a full one: a reader or the writer has met damage."""
        self._look_at = self._whole_at = 0.0

    def damage(self) -> str | None:
        """What is wrong with the file. None if nothing is known to be, or no check is due."""
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
            return None  # missing or locked; the writer reports that
        if whole:
            now = time.monotonic()
            self._whole_at = now + WHOLE_SHARE * (now - began)
        return None if found == "ok" else f"The database {self._file} is damaged: {found}."

    def moved_away(self) -> Path | None:
        """Move the file and its WAL away. None if that fails, or if it is too soon after the last time."""
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
        for order in ("", " ORDER BY id DESC"):  # from each end up to the damage
            with suppress(sqlite3.DatabaseError):
                names.update(link.execute("SELECT id, name FROM connections" + order))  # noqa: S608 # ours
        for number, name in names:
            bodies: list[Any] = [None, None]
            for place, table in enumerate(("histories", "audits")):
                row = f"SELECT body FROM {table} WHERE connection_id = ?"  # noqa: S608 # ours
                with suppress(sqlite3.DatabaseError, TypeError):
                    bodies[place] = link.execute(row, (number,)).fetchone()[0]
            for audit in (bodies[1], None):  # a history without its audit is better than none
                with suppress(ValidationError, TypeError, UnicodeDecodeError):
                    histories.setdefault(name.decode(), records.read(bodies[0], audit))
    return histories
