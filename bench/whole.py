"""The complete watch, from its configuration file: start, a very large fleet, and `bearerwatch check`."""

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.daemon import TICK_SECONDS, Watching, quiet
from bench.elsewhere import Elsewhere
from bench.figures import Figure
from bench.material import Material, consumer_key_of, name_of, username_of
from monitor.config import Settings, load
from monitor.core.status import NO_FACTS
from monitor.daemon.interpreter import responsive
from monitor.store import Store
from monitor.watch.clock import Clock
from monitor.watch.watch import Watch

GOAL_START_SECONDS = 2.0
GOAL_LAG_MS = 20.0
GOAL_CORES = 1.0
GOAL_COMMAND = 1.2

LATE_SECONDS = 5.0
"""A check overdue for longer counts as missed."""


@dataclass(frozen=True, slots=True)
class Start:
    """CPU seconds of a start."""

    read: float
    """Reading the configuration."""
    begun: float
    """From then on too, until the first check begins."""


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in a while."""

    seconds: float
    cpu_seconds: float
    checks: int
    late: int
    failed: int
    lag_seconds: float
    """Worst lag of the event loop while this process had the core."""


def write_configuration(material: Material, url: str, count: int) -> Path:
    """A file with the same connections as in the other benchmarks; JSON is YAML too."""
    file = material.place / f"bearerwatch-{count}.yaml"
    connections = [
        {
            "name": name_of(number),
            "login_url": f"{url}/{name_of(number)}",
            "audience": "login",
            "consumer_key": consumer_key_of(number),
            "username": username_of(number),
            "private_key": {"file": str(material.key(number))},
            "certificate": {"file": str(material.certificate(number))},
            "after_login": False,
            "audit": "off",
            "labels": {"customer": f"customer {number}", "tier": "gold"},
        }
        for number in range(count)
    ]
    lines = ",\n".join(json.dumps(connection) for connection in connections)
    general = {"database": str(file.with_suffix(".db")), "ca_file": str(material.ca_file)}
    file.write_text(f'{json.dumps(general)[:-1]}, "connections": [\n{lines}\n]}}\n')
    return file


class _Noting(Watch):
    def __init__(self, settings: Settings, memory: Store) -> None:
        super().__init__(settings, clock=Clock(), memory=memory)
        self.begun, self.begun_at = asyncio.Event(), 0.0

    async def check(self, name: str) -> datetime | None:
        if not self.begun.is_set():
            self.begun.set()
            self.begun_at = time.process_time()
        return await super().check(name)


class Whole:
    """A watch over the connections in a configuration file, as in the daemon."""

    def __init__(self, file: Path) -> None:
        quiet()
        self._file, self._runner = file, asyncio.Runner()

    def start(self) -> Start:
        """Read the file and begin to watch."""
        return self._runner.run(self._start())

    async def _start(self) -> Start:
        before = time.process_time()
        settings = load(self._file, os.environ)
        read = time.process_time() - before
        self._store = Store.open(settings.database, alone=True)
        self._watch = _Noting(settings, self._store)
        self._watch.start()
        self._watch.configure(settings)
        self._reading = asyncio.create_task(self._watch.read_keys())
        await self._watch.begun.wait()
        return Start(read, self._watch.begun_at - before)

    def through(self, seconds: float, *, until_keys_are_read: bool) -> Window:
        """Watch for some seconds, and optionally until all keys are read."""
        return self._runner.run(self._through(seconds, until_keys_are_read=until_keys_are_read))

    async def _through(self, seconds: float, *, until_keys_are_read: bool) -> Window:
        with responsive():
            began, cpu, lag = time.monotonic(), time.process_time(), 0.0
            while time.monotonic() < began + seconds or (until_keys_are_read and not self._reading.done()):
                before, spent = time.monotonic(), time.process_time()
                await asyncio.sleep(TICK_SECONDS)
                late = time.monotonic() - before - TICK_SECONDS
                lag = max(lag, min(late, time.process_time() - spent))
            took, cpu = time.monotonic() - began, time.process_time() - cpu
        snapshot = self._watch.snapshot()
        unread = sum(one.credential is NO_FACTS for one in snapshot.connections)
        assert not (until_keys_are_read and unread), f"{unread} keys are not read"
        late_by = [
            (snapshot.at - one.next_exchange).total_seconds()
            for one in snapshot.connections
            if one.next_exchange
        ]
        return Window(
            took,
            cpu,
            sum(one.history.exchanges for one in snapshot.connections),
            sum(seconds > LATE_SECONDS for seconds in late_by),
            sum(one.history.failures for one in snapshot.connections),
            lag,
        )

    def end(self) -> None:
        """Close everything."""
        self._reading.cancel()
        self._runner.run(self._watch.stop(10))
        self._runner.run(self._watch.aclose())
        self._store.close()
        gc.collect()


def start(material: Material, url: str, count: int, seconds: float) -> list[Figure]:
    """A daemon's first minute: until the first check, and until all keys are read beside the checks."""
    with Elsewhere(Whole, write_configuration(material, url, count)) as whole:
        started = whole.call(Whole.start)
        window = whole.call(Whole.through, seconds, until_keys_are_read=True)
        whole.call(Whole.end)
    what = f"start with {count:,} connections"
    return [
        Figure(f"{what}: CPU of reading the configuration", started.read, "s"),
        Figure(f"{what}: CPU until the first check begins", started.begun, "s", GOAL_START_SECONDS),
        Figure(f"{what}: all keys read within", window.seconds, "s"),
        Figure(f"{what}: event loop late meanwhile, worst", 1000 * window.lag_seconds, "ms", GOAL_LAG_MS),
    ]


def at_pace(material: Material, url: str, count: int, seconds: float) -> list[Figure]:
    """Many connections in one process at the default interval, beginning with their first checks."""
    with Elsewhere(Whole, write_configuration(material, url, count)) as whole:
        whole.call(Whole.start)
        window = whole.call(Whole.through, seconds, until_keys_are_read=False)
        whole.call(Whole.end)
    what = f"{count:,} connections in one process"
    return [
        Figure(f"{what}: checks a second, over {seconds:.0f} s", window.checks / window.seconds),
        Figure(f"{what}: missed", window.late, goal=0),
        Figure(f"{what}: falsely failed", window.failed, goal=0),
        Figure(
            f"{what}: CPU, their keys read as well", window.cpu_seconds / window.seconds, "cores", GOAL_CORES
        ),
        Figure(f"{what}: event loop late, worst", 1000 * window.lag_seconds, "ms"),
    ]


def command(material: Material, url: str, count: int, bare: Elsewhere[Watching]) -> list[Figure]:
    """`bearerwatch check`: the complete process, relative to bare exchanges back to back."""
    file, floors, checks = write_configuration(material, url, count), [], []
    program = [sys.executable, "-m", "monitor", "check", "--quiet", "--config", str(file)]
    for _ in range(3):
        floors.append(bare.call(Watching.floor, 200))
        before = _children_seconds()
        subprocess.run(program, check=True)  # noqa: S603 - our own arguments
        checks.append(_children_seconds() - before)
    each = min(checks) / count
    what = f"`bearerwatch check` of {count:,} connections"
    return [
        Figure(f"{what}: CPU of one of them", 1000 * each, "ms"),
        Figure(f"{what}: CPU of one / bare, in a row", each / min(floors), goal=GOAL_COMMAND),
    ]


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
