"""Notices changed files: the configuration's, and those that keys and certificates come from.

Directories are watched, not files: an editor replaces a file by a new one, and Kubernetes swaps a symbolic
link beside it, and neither would be seen on the old file.
"""

import asyncio
import glob
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from monitor.config import Settings
from monitor.config.files import Stamp, stamp

AGAIN_SECONDS = 10.0
"""Until files are watched again after a fault of ours."""

QUIET_MILLISECONDS = 500
"""Changes within this time of each other are one: a key and its certificate are written as two files."""

log = structlog.get_logger()


def directories(settings: Settings) -> frozenset[Path]:
    """The directories in which a change may matter, of those that exist, and where a link to one is."""
    places = [file.parent for file in (*settings.files, *settings.protection.files)]
    places += [_fixed_part(Path(pattern)) for pattern in settings.patterns]
    for connection in settings.connections:
        for pair in (connection.current, connection.next):
            for source in (pair.private_key, pair.certificate) if pair else ():
                if source and source.kind == "file":
                    places.append(Path(source.place).parent)
    places += [place.parent for place in set(places) if place.is_symlink()]
    return frozenset(place for place in places if place.is_dir())


def configuration_stamps(settings: Settings) -> frozenset[tuple[str, Stamp | None]]:
    """Changes when a file of the configuration or of the pages' TLS is changed, added or removed."""
    paths = {str(settings.files[0]), *map(str, settings.protection.files)}
    for pattern in settings.patterns:
        paths |= set(glob.glob(pattern))  # noqa: PTH207 - a pattern is absolute
    return frozenset((path, stamp(path)) for path in paths)


def _fixed_part(pattern: Path) -> Path:
    """The deepest directory of a pattern before its first wildcard."""
    for parent in reversed([pattern, *pattern.parents]):
        if any(sign in parent.name for sign in "*?["):
            return parent.parent
    return pattern.parent


class ChangedFiles:
    """Calls `changed` a moment after something changed in a watched directory, until it is stopped."""

    def __init__(self, changed: Callable[[], Awaitable[object]]) -> None:
        self._changed = changed
        self._watched: tuple[frozenset[Path], str] = (frozenset(), "")
        self._task: asyncio.Task[None] | None = None

    def over(self, settings: Settings) -> None:
        """Watch what matters to these settings, and nothing else; the database lies beside it and is none."""
        wanted = (directories(settings), settings.database)
        if wanted == self._watched and self._task and not self._task.done():
            return
        before, self._watched = self._task, wanted
        self._task = asyncio.get_running_loop().create_task(self._look(*wanted)) if wanted[0] else None
        if before and before is not asyncio.current_task():
            before.cancel()

    async def stop(self) -> None:
        """Watch no more."""
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
            except Exception:  # the net of this task: without it no change would be noticed any more
                log.exception("file_watch_failed")
                await asyncio.sleep(AGAIN_SECONDS)
