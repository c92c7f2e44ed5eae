"""Logs: one line per change and failure, as logfmt or JSON, counted by level.

The daemon writes them in a separate thread: the reader may stall (a journal on a hanging disk, a pager,
Ctrl-S), and checks must not wait for it. If the queue is full, lines are dropped and counted.
"""

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from monitor.core.verdict.answer import masked

_FIRST = ("timestamp", "level", "event", "connection", "cause")
"""These fields come first, in this order; the others follow as given."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Syslog priorities, written before each line (sd-daemon(3)), for `journalctl --priority err`."""


WAITING_AT_MOST = 1024 * 1024
"""Queue limit in characters: some thousand lines, minutes of a bad hour."""

LAST_LINES_SECONDS = 1.0
"""How long exit waits for queued lines: longer than any healthy disk takes."""

SAME_AGAIN_SECONDS = 60.0
"""Least time between equal lines of a library: asyncio has one for each connection that it can't accept."""


def configure(
    *,
    format: str = "logfmt",  # noqa: A002 - the option's name
    level: str = "info",
    count: Callable[[str], None] = lambda level: None,
    stream: TextIO = sys.stderr,
    dropped: Callable[[], None] | None = None,
) -> None:
    """Send all logs, ours and the libraries', to `stream`. Calls `count` with the level of each line.

    With `dropped`, callers never wait for the stream; it is called for each line that was dropped.
    """

    def counted(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        count(str(event["level"]))
        return event

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # plain text, without the values of local variables
        _without_secrets,
        counted,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer() if format == "json" else structlog.processors.LogfmtRenderer()
    )
    if _is_the_journal(stream):
        renderer = _with_priority(renderer)
    handler: logging.Handler = Aside(stream, dropped) if dropped else logging.StreamHandler(stream)
    handler.addFilter(_Once())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _in_order, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # from libraries, only problems
    # These warn about bad or aborted requests, one line each: anyone who reaches the port could fill the
    # disk.
    for served_by in ("uvicorn.error", "asyncio"):
        logging.getLogger(served_by).setLevel(logging.ERROR)
    logging.getLogger("monitor").setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _ended


class Aside(logging.Handler):
    """Writes lines in a separate thread, so that callers never wait."""

    def __init__(self, stream: TextIO | None, dropped: Callable[[], None]) -> None:
        super().__init__()
        # Bypasses Python's buffer, whose lock this thread would hold while waiting. None: closed by a shell.
        self._descriptor = stream.fileno() if stream else -1
        self._dropped = dropped
        self._changed = threading.Condition()
        self._waiting = deque[str]()
        self._size = 0
        """Characters queued or being written."""
        self._missing = 0
        """Lines dropped since the last one written."""
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line, or drop it."""
        try:
            line = f"{self.format(record)}\n"
        except Exception:  # noqa: BLE001 # logging would print a traceback, and wait for the stream
            line = f"level=error event=log_line_unreadable logger={record.name}\n"
        with self._changed:
            if self._size + len(line) > WAITING_AT_MOST:
                self._drop()
                return
            self._waiting.append(line)
            self._size += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is written, at most LAST_LINES_SECONDS."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, LAST_LINES_SECONDS)

    def _drop(self) -> None:
        self._missing += 1
        self._dropped()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line, missing = self._waiting.popleft(), self._missing
            lost = f"level=warning event=log_lines_dropped lines={missing}\n" if missing else ""
            written = self._put(lost + line)
            with self._changed:
                if written:
                    self._missing -= missing
                else:
                    self._drop()
                self._size -= len(line)
                self._changed.notify_all()

    def _put(self, text: str) -> bool:
        """Write it. False if the reader has gone."""
        left = text.encode(errors="replace")
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            return False
        return True


class _Once(logging.Filter):
    """Suppresses a library's line if it repeats the last one within a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[str, float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("monitor"):
            return True
        text, now = record.getMessage(), time.monotonic()
        before, at = self._said.get(record.name, ("", 0.0))
        if text == before and now - at < SAME_AGAIN_SECONDS:
            return False
        self._said[record.name] = (text, now)
        return True


def _is_the_journal(stream: TextIO) -> bool:
    """Whether the stream goes to the journal, according to $JOURNAL_STREAM (systemd.exec(5))."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        opened = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file
        return False
    return named == f"{opened.st_dev}:{opened.st_ino}"


def _with_priority(render: Processor) -> Processor:
    def written(logger: WrappedLogger, name: str, event: EventDict) -> str:
        priority = _PRIORITIES.get(str(event.get("level")), 3)
        return f"<{priority}>{render(logger, name, event)!s}"

    return written


def _ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log the exception that ends the process like any other line."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("ended_by_a_fault", exc_info=(kind, error, trace))


def _without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask secrets. Our own lines have none; a library's exception may."""
    return {key: masked(value) if isinstance(value, str) else value for key, value in event.items()}


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Order the fields and drop empty ones."""
    told = {key: value for key, value in event.items() if value is not None}
    if "event" in told:
        told["event"] = str(told["event"]).strip()  # uvicorn's text ends with a line break
    return {key: told[key] for key in (*(key for key in _FIRST if key in told), *told)}
