"""The product as its users run it: real processes, real sockets, real files."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

T = TypeVar("T")

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), Path("libfaketime.so.1"))
"""Debian's libfaketime: lets a whole process live at another time."""

PATIENCE_SECONDS = 60.0
"""How long a real process may take for what it is waited for, on a busy machine."""


def until(
    probe: Callable[[], T | None], what: str, patience: float = PATIENCE_SECONDS, pause: float = 0.05
) -> T:
    """What the probe gives as soon as it gives something; fails where that takes too long."""
    end = time.monotonic() + patience
    never = threading.Event()
    while time.monotonic() < end:
        if found := probe():
            return found
        never.wait(pause)
    raise AssertionError(f"waited {patience:.0f} s in vain for: {what}")


def free_port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Running:
    """A process of the product, and where its pages are."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def page(self, path: str) -> httpx.Response | None:
        """A page, or None without an answer."""
        try:
            return httpx.get(self.url + path, trust_env=False, timeout=PATIENCE_SECONDS)
        except httpx.TransportError:
            return None

    def text(self) -> str:
        """The text of /metrics; empty without an answer."""
        page = self.page("/metrics")
        return page.text if page is not None and page.status_code == 200 else ""

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """The samples of /metrics by name and labels; empty without an answer."""
        page = self.page("/metrics")
        if page is None or page.status_code != 200:
            return {}
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }

    def sample(self, name: str, **labels: str) -> float | None:
        """One sample; None where it is not there."""
        return self.samples().get((name, frozenset(labels.items())))

    def set_clock(self, ahead: timedelta) -> None:
        """Set its wall clock, while it runs; only one that was started ahead can be set."""
        _write_clock(self.log, ahead)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, and give its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def without_proxies() -> dict[str, str]:
    """The environment, without what would send loopback's requests elsewhere."""
    return {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}


def _write_clock(log: Path, ahead: timedelta) -> Path:
    """Write how far ahead the process with this log is, where libfaketime looks for it."""
    clock = log.with_suffix(".clock")
    new = log.with_suffix(".clock.new")
    new.write_text(f"{ahead.total_seconds():+.0f}s\n")
    return new.replace(clock)


@contextmanager
def started(
    command: list[str],
    url: str,
    log: Path,
    *,
    ahead: timedelta = timedelta(0),
    code: Path | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Iterator[Running]:
    """Run `bearerwatch` with these arguments, `ahead` of the real time, until the block ends; the `code` in
    another folder, if one is given. It keeps the file descriptors `pass_fds`.
    """
    environment = without_proxies()
    if ahead:
        environment |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(_write_clock(log, ahead)),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until it sees that the file was changed
            "DONT_FAKE_MONOTONIC": "1",  # otherwise threads that wait with a timeout never wake up
        }
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "monitor", *command],
            stdout=stream,
            stderr=stream,
            env=environment,
            cwd=code,
            pass_fds=pass_fds,
        )
        try:
            yield Running(process, url, log)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def bearerwatch(
    *arguments: object, folder: Path | None = None, stdin: str | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """A command of the product, until it ends; `folder`: where it runs."""
    return subprocess.run(
        [sys.executable, "-m", "monitor", *map(str, arguments)],
        cwd=folder,
        input=stdin,
        env=os.environ | {"NO_COLOR": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def bound_by_modes() -> list[str]:
    """What makes a process heed the modes of files, where it would run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


@contextmanager
def simulator(folder: Path) -> Iterator[httpx.Client]:
    """A simulator in a separate process; yields a client for its control API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        started(["simulate", "--port", str(port)], url, folder / "simulator.log") as running,
        httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS) as control,
    ):
        until(lambda: running.page("/_orgs"), "the simulator")
        yield control


@contextmanager
def daemon(
    config: Path, *options: str, ahead: timedelta = timedelta(0), code: Path | None = None
) -> Iterator[Running]:
    """The daemon over a configuration that says where it listens."""
    address = next(line.split()[1] for line in config.read_text().splitlines() if line.startswith("listen:"))
    command = ["run", "--config", str(config), *options]
    with started(command, f"http://{address}", config.with_suffix(".log"), ahead=ahead, code=code) as running:

        def ready() -> bool:
            assert running.process.poll() is None, running.log.read_text()
            page = running.page("/-/ready")
            return page is not None and page.status_code == 200

        until(ready, "the daemon to be ready")
        yield running


@contextmanager
def component(folder: Path, name: str, *command: str, ready: str) -> Iterator[None]:
    """One of Prometheus' programs, until the block ends."""
    log = folder / f"{name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [name, *command], cwd=folder, stdout=stream, stderr=stream, env=without_proxies()
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(ready, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(answers, name)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


STORY_PATIENCE_SECONDS = 300.0
"""How long twelve weeks may take at once: some ten thousand exchanges, on a busy machine."""


@contextmanager
def told_demo(folder: Path) -> Iterator[Running]:
    """The demo at the end of its story."""
    port = free_port()
    command = ["demo", "--at-once", "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}", folder / "demo.log") as running:

        def told() -> bool:
            assert running.process.poll() is None, running.log.read_text()
            return "The simulated weeks are over" in running.log.read_text()

        until(told, "the demo's story", STORY_PATIENCE_SECONDS)
        yield running
