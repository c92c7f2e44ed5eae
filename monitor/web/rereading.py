"""The web configuration file while the daemon runs: read again when it, or a certificate, has changed.

A look costs a `stat` a file (some 3 µs each), so it is made for each request and each new connection, as the
exporters do that share the format. What can't be used never replaces what can.
"""

import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from monitor.config import ConfigError
from monitor.config.web_file import WebConfig, load_web_config
from monitor.web.access import REFUSALS_LOGGED, Bucket

TLS_COMES_OR_GOES = (
    "turns TLS on or off, which takes a restart: whoever is connected speaks one of the two. "
    "What was read before stays in use."
)

TRY_AGAIN_SECONDS = 10.0
"""A file that can't be used is tried again this often: what it lacks may come where nobody looks."""

log = structlog.get_logger()

_Stamp = tuple[int, int, int, int] | None


class Rereading:
    """What the web configuration file says now. Raises ConfigError if it can't be used at the start."""

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._told = Bucket(1 / 60, REFUSALS_LOGGED, monotonic)
        self.problem: str | None = None
        """Why the file as it stands is not in use; None where it is."""
        self._stamps = _stamps([path])
        self._tried = monotonic()
        self._read = self._load()

    def now(self) -> WebConfig:
        """What holds now: the file as it stands, or as it last could be used."""
        again = self.problem is not None and self._monotonic() - self._tried >= TRY_AGAIN_SECONDS
        if again or _stamps(self._stamps) != self._stamps:
            self._reread()
        return self._read

    def context(self) -> ssl.SSLContext | None:
        """A server's context that follows the file; None where there is no TLS."""
        return _FollowingContext(self._tls) if self.now().tls else None

    def _tls(self) -> ssl.SSLContext:
        context = self.now().tls
        assert context is not None  # TLS neither comes nor goes while we run
        return context

    def _load(self) -> WebConfig:
        """Read the file, with stamps from before: what changes meanwhile is seen at the next look."""
        self._stamps = _stamps(self._stamps)
        config = load_web_config(self._path, self._turned_away)
        if not self._stamps.keys() >= set(config.files):  # it names files of which there is no stamp yet
            self._stamps = _stamps(config.files)
            config = load_web_config(self._path, self._turned_away)
        return config

    def _reread(self) -> None:
        self._tried = self._monotonic()
        try:
            config = self._load()
        except ConfigError as error:
            self._complain(str(error))
            return
        if (config.tls is None) != (self._read.tls is None):
            self._complain(f"{self._path}: {TLS_COMES_OR_GOES}")
            return
        self._stamps = {path: self._stamps.get(path) for path in config.files}
        self._read, self.problem = config, None
        log.info("web_config_reread", file=str(self._path))

    def _turned_away(self, why: str) -> None:
        if not self._told.take():
            log.warning("client_turned_away", reason=why)

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("web_config_refused", problem=problem)
        self.problem = problem


class _FollowingContext(ssl.SSLContext):
    """Gives each connection the context that holds when it begins; one that stands keeps its own."""

    def __new__(cls, _current: Callable[[], ssl.SSLContext]) -> "_FollowingContext":
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, current: Callable[[], ssl.SSLContext]) -> None:
        self._current = current

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """What asyncio calls once for each connection."""
        return self._current().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _stamps(paths: Iterable[Path]) -> dict[Path, _Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> _Stamp:
    """Changes with the content behind a path, also when a link to it is swapped; None where nothing is."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
