"""What the machine does to a daemon: nothing of it may be silent, and no check may stop for it."""

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from monitor.daemon.daemon import END_WITHIN_SECONDS, HANGS_SECONDS
from tests.end_to_end.processes import Running, daemon, until, without_proxies
from tests.end_to_end.watching import connection, exchanges_of, write

pytestmark = pytest.mark.real("openssl")


def goes_on(running: Running, name: str) -> None:
    """Another exchange is made from now on."""
    before = exchanges_of(running, name)
    until(lambda: exchanges_of(running, name) > before, "another exchange")


def reload_problem(running: Running) -> str:
    page = running.page("/api/status")
    return str(page.json()["daemon"]["reload_problem"] or "") if page else ""


def exchanged(running: Running) -> set[str]:
    return {
        dict(labels)["connection"]
        for (metric, labels), value in running.samples().items()
        if metric == "bearerwatch_connection_exchanges_total" and value
    }


def test_an_unread_log_blocks_nothing(orgs: httpx.Client, pair: Path, tmp_path: Path) -> None:
    """It stopped checks, pages, health and SIGTERM after 45 seconds, in silence."""
    names = [f"unread-{number}" for number in range(20)]
    config = write(tmp_path, *(connection(orgs, pair, name) for name in names))
    address = next(line.split()[1] for line in config.read_text().splitlines() if line.startswith("listen:"))
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "monitor", "run", "--config", str(config)]
    process = subprocess.Popen(command, stderr=writes, env=without_proxies())
    os.close(writes)
    running = Running(process, f"http://{address}", tmp_path / "none")
    try:
        # One request a time, as the pages limit them.
        until(lambda: len(exchanged(running)) == len(names), "the first exchanges")
        goes_on(running, names[0])
        asked = time.monotonic()

        assert running.stop() == 0
        assert time.monotonic() - asked < END_WITHIN_SECONDS
    finally:
        os.close(reads)
        process.kill()
        process.wait()


def test_a_database_damaged_at_the_start_is_logged_in_the_chosen_format(tmp_path: Path) -> None:
    """That line came before the log was set up: on stdout, as no reader of logs expects it."""
    config = write(tmp_path)
    with daemon(config) as running:
        assert running.stop() == 0
    with (tmp_path / "bearerwatch.db").open("r+b") as database:
        database.seek(4096)
        database.write(b"damage! " * 1024)

    with daemon(config, "--log-format", "json") as running:
        lines = running.log.read_text().split("event=stopped\n")[1].splitlines()

    assert [json.loads(line)["event"] for line in lines][:2] == ["store_damaged", "store_replaced"]


def test_link_loops_and_pipes_are_reported_and_later_edits_noticed(
    orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    """A link loop used to end the watching of files, a pipe all reloads and the stop; both silently."""
    more = tmp_path / "connections.d"
    more.mkdir()
    config = write(tmp_path, connection(orgs, pair, "acme"), more="connections_from: [connections.d/*.yaml]")
    with daemon(config) as running:
        circle, pipe, right = more / "circle.yaml", more / "pipe.yaml", more / "right.yaml"
        circle.symlink_to(circle)
        until(lambda: "circle.yaml" in reload_problem(running), "the circle to be said")
        assert running.sample("bearerwatch_config_last_reload_successful") == 0
        circle.unlink()
        until(lambda: not reload_problem(running), "the circle to be gone")

        os.mkfifo(pipe)
        until(lambda: "is a pipe or a device" in reload_problem(running), "the pipe to be said")
        pipe.unlink()
        right.write_text(connection(orgs, pair, "globex"))
        until(lambda: exchanges_of(running, "globex"), "the connection of the next edit")
        assert not reload_problem(running)
        assert running.stop() == 0


def test_a_hanging_reload_is_reported_applied_later_and_blocks_no_stop(
    orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))  # pipes are read there, as a shell's are
    try:
        written = write(tmp_path, connection(orgs, pair, "acme"))
        config = folder / "bearerwatch.yaml"
        text = f"database: {tmp_path}/bearerwatch.db\n{written.read_text()}"
        config.write_text(text)
        with daemon(config) as running:
            config.unlink()
            os.mkfifo(config)
            running.process.send_signal(signal.SIGHUP)
            until(lambda: "may be hanging" in reload_problem(running), "it to be said", HANGS_SECONDS + 60)
            goes_on(running, "acme")

            def give() -> None:
                with config.open("w") as pipe:
                    pipe.write(text + connection(orgs, pair, "globex"))

            threading.Thread(target=give, daemon=True).start()
            until(lambda: exchanges_of(running, "globex"), "what was read at last")
            assert not reload_problem(running)

            running.process.send_signal(signal.SIGHUP)
            goes_on(running, "acme")
            assert running.stop() == 0
    finally:
        shutil.rmtree(folder)


def test_without_file_descriptors_the_fault_is_ours_and_the_log_stays_short(
    orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    """It was "no connection" to the org, and 11,000 lines of tracebacks in 45 seconds."""
    names = [f"starved-{number}" for number in range(5)]
    config = write(tmp_path, *(connection(orgs, pair, name) for name in names))
    with daemon(config) as running:
        until(lambda: len(exchanged(running)) == len(names), "the first exchanges")
        pid = running.process.pid
        allowed = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        knocking = socket.create_connection(("127.0.0.1", httpx.URL(running.url).port or 0))
        resource.prlimit(
            pid, resource.RLIMIT_NOFILE, (len(list(Path(f"/proc/{pid}/fd").iterdir())), allowed[1])
        )
        waiting = [socket.create_connection(knocking.getpeername()) for _ in range(50)]
        until(lambda: log_of(running).count("cause=monitor_fault") >= len(names), "all to be our fault")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, allowed)
        for client in (knocking, *waiting):
            client.close()
        for name in names:
            goes_on(running, name)

        log = log_of(running)
        assert "cause=network_unreachable" not in log
        assert log.count("Traceback") <= 1
        assert log.count("\n") < 10 * len(names)
        assert running.stop() == 0


def log_of(running: Running) -> str:
    return running.log.read_text()


def test_a_stop_that_could_not_write_says_so(orgs: httpx.Client, pair: Path, tmp_path: Path) -> None:
    """It had ended with 0, and ten seconds of history were gone."""
    config = write(tmp_path, connection(orgs, pair, "unwritten"))
    with daemon(config) as running, closing(sqlite3.connect(tmp_path / "bearerwatch.db")) as other:
        until(lambda: exchanges_of(running, "unwritten"), "the first exchange")
        other.execute("BEGIN IMMEDIATE")
        goes_on(running, "unwritten")

        assert running.stop() == 3
        assert "event=results_not_written" in running.log.read_text()
