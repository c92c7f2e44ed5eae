"""The log: one line an event, our own and the libraries', in either format, each counted by its level."""

import io
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from monitor.daemon import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is the process's, so each test leaves it as it was."""
    root, ours = logging.getLogger(), logging.getLogger("monitor")
    handlers, levels = root.handlers, (root.level, ours.level)
    yield
    root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    structlog.reset_defaults()


def logged(format: str, level: str = "info") -> tuple[io.StringIO, Counter[str]]:  # noqa: A002 - as there
    stream, counted = io.StringIO(), Counter[str]()
    logs.configure(format=format, level=level, stream=stream, count=lambda of: counted.update([of]))
    return stream, counted


def test_logfmt_lines_begin_with_time_level_and_event() -> None:
    stream, _ = logged("logfmt")

    structlog.get_logger("monitor.watch.check").warning(
        "state", text="It went.", connection="acme", cause=None
    )

    timestamp, rest = stream.getvalue().split(" ", 1)
    assert timestamp.startswith("timestamp=")
    assert rest == 'level=warning event=state connection=acme text="It went."\n'


def test_json_has_the_same_fields_in_the_same_order() -> None:
    stream, _ = logged("json")

    structlog.get_logger("monitor.watch.check").info(
        "state", text="It went.", cause="app_blocked", connection="acme"
    )

    told = json.loads(stream.getvalue())
    assert list(told) == ["timestamp", "level", "event", "connection", "cause", "text"]
    assert told["timestamp"].endswith("Z")


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_an_event_is_one_line_whatever_its_content(format: str) -> None:  # noqa: A002 - as there
    stream, _ = logged(format)

    structlog.get_logger("monitor").warning("cause", text='a "word"\nlevel=error event=forged')
    fault = ValueError("a fault\nof two lines")
    structlog.get_logger("monitor").error("check_failed", connection="acme", exc_info=fault)

    assert len(stream.getvalue().splitlines()) == 2


def test_library_warnings_are_logged_and_counted() -> None:
    stream, counted = logged("logfmt")

    logging.getLogger("httpx").info("HTTP Request: POST https://acme.my.salesforce.com")
    logging.getLogger("apscheduler.scheduler").warning("missed %s", "a turn")
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n")
    structlog.get_logger("monitor").info("started")

    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        'level=warning event="missed a turn"',
        'level=error event="Exception in ASGI application"',
        "level=info event=started",
    ]
    assert counted == {"warning": 1, "error": 1, "info": 1}


@pytest.mark.parametrize("library", ["uvicorn.error", "asyncio"])
def test_a_client_cannot_fill_the_log(library: str) -> None:
    stream, counted = logged("logfmt")

    logging.getLogger(library).warning("socket.send() raised exception.")

    assert stream.getvalue() == ""
    assert not counted


def test_the_lowest_logged_level_is_configurable() -> None:
    stream, counted = logged("logfmt", level="warning")

    structlog.get_logger("monitor").info("started")

    assert stream.getvalue() == ""
    assert not counted


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_the_journal_gets_the_priority_of_each_line(
    format: str,  # noqa: A002 - as there
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as stream:
        opened = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{opened.st_dev}:{opened.st_ino}")
        logs.configure(format=format, stream=stream)
        structlog.get_logger("monitor").error("failed")
        structlog.get_logger("monitor").info("works")

    assert [line[:3] for line in log.read_text().splitlines()] == ["<3>", "<6>"]


def test_logs_outside_the_journal_have_no_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A service may send its errors to a file, while systemd names the stream that it set up.
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as stream:
        logs.configure(stream=stream)
        structlog.get_logger("monitor").error("failed")

    assert log.read_text().startswith("timestamp=")


def test_logging_never_blocks_and_dropped_lines_are_counted() -> None:
    """An unread pipe used to block the event loop: no checks, no pages, no stop."""
    reads, writes = os.pipe()
    dropped = list[None]()
    said = threading.Event()

    def drop() -> None:
        dropped.append(None)
        said.set()

    with os.fdopen(writes, "w") as stream:
        logs.configure(stream=stream, dropped=drop)
        log = structlog.get_logger("monitor")

        number = 0
        while not said.is_set():
            number += 1
            log.warning("state", number=number, text="x" * 1000)
        with os.fdopen(reads) as reader:
            lines = [next(reader)]
            while "log_lines_dropped" not in lines[-1]:
                lines.append(next(reader))
            log.warning("read_again")
            while "read_again" not in lines[-1]:
                lines.append(next(reader))

    assert sum("event=state" in line for line in lines) == number - len(dropped)
    assert f"level=warning event=log_lines_dropped lines={len(dropped)}\n" in lines


def test_lines_without_a_reader_are_counted_as_dropped() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    dropped: list[None] = []
    with os.fdopen(writes, "w") as stream:
        logs.configure(stream=stream, dropped=lambda: dropped.append(None))
        structlog.get_logger("monitor").warning("state")
        logging.getLogger().handlers[0].flush()

    assert len(dropped) == 1


def test_a_repeated_library_line_is_written_once_a_minute() -> None:
    """asyncio said 11,000 times in 45 s that it had no descriptors left."""
    stream, counted = logged("logfmt")

    for _ in range(1000):
        logging.getLogger("asyncio").error("socket.accept() out of system resource")
        structlog.get_logger("monitor").warning("state")

    assert counted == {"error": 1, "warning": 1000}
    assert len(stream.getvalue().splitlines()) == 1001
