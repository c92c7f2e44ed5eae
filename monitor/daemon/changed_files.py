"""Watches the configuration, key and certificate files for changes.

Watches directories, not files: editors replace a file with a new one, and Kubernetes swaps a symbolic link;
a watch on the file itself would miss both.
"""

import asyncio
import glob
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from monitor.config import Settings
from monitor.config.files import Stamp, stamp

AGAIN_SECONDS = 10.0
"""Pause before watching again after a bug."""

QUIET_MILLISECONDS = 500
"""Changes this close together count as one: a key and its certificate are two files."""

log = structlog.get_logger()


def directories(settings: Settings) -> frozenset[Path]:
    """The directories to watch, including those that contain links to them; none that this user may not read,
    which would end the watch over all.
    """
    places = [file.parent for file in (*settings.files, *settings.protection.files)]
    places += [_fixed_part(Path(pattern)) for pattern in settings.patterns]
    for connection in settings.connections:
        for pair in connection.pairs:
            places += [Path(source.place).parent for source in pair.sources if source.kind == "file"]
    # Not by the methods of Path: they raise where this user may not look.
    places += [place.parent for place in set(places) if os.path.islink(place)]  # noqa: PTH114
    return frozenset(place for place in places if os.path.isdir(place) and os.access(place, os.R_OK))  # noqa: PTH112


def configuration_stamps(settings: Settings) -> frozenset[tuple[str, Stamp | None]]:
    """Differs after a configuration or web TLS file was changed, added or removed."""
    paths = {str(settings.files[0]), *map(str, settings.protection.files)}
    for pattern in settings.patterns:
        paths |= set(glob.glob(pattern))  # noqa: PTH207 - patterns are absolute
    return frozenset((path, stamp(path)) for path in paths)


def _fixed_part(pattern: Path) -> Path:
    """A pattern's deepest directory before the first wildcard."""
    for parent in reversed([pattern, *pattern.parents]):
        if any(sign in parent.name for sign in "*?["):
            return parent.parent
    return pattern.parent


class ChangedFiles:
    """Calls `changed` shortly after a change in a watched directory, until stopped."""

    def __init__(self, changed: Callable[[], Awaitable[object]]) -> None:
        self._changed = changed
        self._watched: tuple[frozenset[Path], str] = (frozenset(), "")
        self._task: asyncio.Task[None] | None = None

    def over(self, settings: Settings) -> None:
        """Watch the files of these settings. Ignores the database, which may be in the same directory."""
        wanted = (directories(settings), settings.database)
        if wanted == self._watched and self._task and not self._task.done():
            return
        before, self._watched = self._task, wanted
        self._task = asyncio.get_running_loop().create_task(self._look(*wanted)) if wanted[0] else None
        if before and before is not asyncio.current_task():
            before.cancel()

    async def stop(self) -> None:
        """Stop watching."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self, places: frozenset[Path], database: str) -> None:
        def matters(_: Change, path: str) -> bool:
            return not path.startswith(database)

        while self._watched == (places, database):
            try:
                async for _ in awatch(
                    *places, watch_filter=matters, debounce=QUIET_MILLISECONDS, recursive=False
                ):
                    await self._changed()
                    if self._watched != (places, database):
                        return
            except Exception:  # without this, a bug would end the watching
                log.exception("file_watch_failed")
                await asyncio.sleep(AGAIN_SECONDS)
