"""Logs: one line a change and a failure, logfmt for people, JSON for machines; each counted by level."""

import logging
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from monitor.core.verdict.answer import masked

LogFormat = Literal["logfmt", "json"]

_FIRST = ("timestamp", "level", "event", "connection", "cause")
"""What a reader looks for, in this order; the rest follows as it was given."""


_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Of syslog, as sd-daemon(3) has them in front of a line: `journalctl --priority err` goes by them."""


def configure(
    *,
    format: LogFormat = "logfmt",  # noqa: A002 - the option's name
    level: str = "info",
    count: Callable[[str], None] = lambda level: None,
    stream: TextIO = sys.stderr,
) -> None:
    """Send all logs, our own and the libraries', to `stream`; `count` is told the level of each line."""

    def counted(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        count(str(event["level"]))
        return event

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # plain text: never the values of local variables
        _without_secrets,
        counted,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer() if format == "json" else structlog.processors.LogfmtRenderer()
    )
    if _is_the_journal(stream):
        renderer = _with_priority(renderer)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _in_order, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # libraries speak when something is wrong
    # Their warnings are about what somebody sent, or did not wait for, a line each: whoever reaches the port
    # could fill the disk.
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


def _is_the_journal(stream: TextIO) -> bool:
    """Whether the journal reads the stream: systemd names the one that it set up (systemd.exec(5))."""
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
    """What ends the process is a line of the log like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("ended_by_a_fault", exc_info=(kind, error, trace))


def _without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """No line of ours holds a secret; this is for what an exception of a library may say."""
    return {key: masked(value) if isinstance(value, str) else value for key, value in event.items()}


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The line's fields in their order, without those that say nothing."""
    told = {key: value for key, value in event.items() if value is not None}
    if "event" in told:
        told["event"] = str(told["event"]).strip()  # uvicorn ends its text with a line break
    return {key: told[key] for key in (*(key for key in _FIRST if key in told), *told)}
