"""The monitor's components around a fleet, connected as in the daemon, with instrumentation.

Fleet, keyring, exchanger, store on a real file, schedule, metrics and web application are the product's; only
the configuration file and its watcher are missing. Runs in a separate process (`Elsewhere`).
"""

import asyncio
import gc
import logging
import os
import socket
import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.floor import Floor
from bench.material import AUDITED, HOST, Material
from monitor.core import cadence
from monitor.core.connection import Connection
from monitor.core.keys import assertion
from monitor.core.status import DaemonStatus, Snapshot
from monitor.daemon.interpreter import responsive
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.org import CALLS
from monitor.salesforce.transport import LIMITS
from monitor.store import Store
from monitor.watch.audit import Audits
from monitor.watch.budget import OwnLedger
from monitor.watch.check import Checker
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.schedule import Schedule
from monitor.web.app import Web
from monitor.web.connections import Server
from monitor.web.metrics import MetricsPage

TICK_SECONDS = 0.005
"""How often to measure the event loop's lag."""

SETTLE_SECONDS = 0.5
"""From the start of a schedule until its CPU is measured."""

AWAKE_IN_SECONDS = 4.0
"""Time until all are due: enough to schedule them before that."""

BURSTS = 20
"""How often two halves of a fleet alternate: often enough that a busy machine affects both."""

PATIENCE_SECONDS = 300.0
"""Timeout for checks that should be done long before; later they count as lost."""


@dataclass(frozen=True, slots=True)
class StartUp:
    """The cost of scheduling a fleet."""

    seconds: float
    kib_before: float
    """Memory of the complete process with one connection."""


@dataclass(frozen=True, slots=True)
class Run:
    """Results of a fleet's checks, and the event loop's lag."""

    seconds: float
    checks: int
    cpu_seconds: float
    unchecked: int
    """Connections that were due but not checked."""
    missed: int
    """Checks that the schedule itself reports as missed."""
    failed: int
    """Checks that were not granted, although all orgs are healthy."""
    delays: list[float]
    """Seconds from due time to check."""
    lags: list["Lag"]
    """Lag at each tick outside of scrapes."""
    lags_in_scrapes: list["Lag"]
    kib: float
    """The process's memory at the end."""


@dataclass(frozen=True, slots=True)
class Lag:
    """The event loop's lag at one tick, in seconds."""

    at: float
    whole: float
    own: float
    """The part in which this process was running. The rest is other programs or disk waits."""


@dataclass(frozen=True, slots=True)
class Turns:
    """CPU seconds of one check in two halves of a fleet that take turns: one number for each burst."""

    without: list[float]
    """Where audits are off."""
    after: list[float]
    """Where one was made."""


class Watching:
    """A fleet being watched."""

    def __init__(self, material: Material, url: str, count: int, interval_seconds: float) -> None:
        quiet()
        self._url = url
        self._material = material
        self._interval = timedelta(seconds=interval_seconds)
        self._clock = Clock()
        self._store = Store.open(material.place / f"watching-{count}.db")
        self._fleet = Fleet(self._store.histories())
        self._exchanger = Exchanger(ca_file=material.ca_file)
        self._own = OwnMetrics(
            in_flight=lambda: self._exchanger.in_flight, store_errors=lambda: self._store.errors
        )
        self._page = MetricsPage(self._own)
        self._keyring = Keyring(os.environ)
        self._checker = self._checker_that("when due")
        self._ledger = OwnLedger(1_000_000, self._store.save)
        self._started = self._clock.now()
        self._delays: list[float] = []
        self._scrapes: list[tuple[float, float]] = []
        self._ticks = array("d")  # three numbers each: objects would count as the connections' memory
        self._runner = asyncio.Runner()
        self._schedule: Schedule | None = None
        self._responsive = ExitStack()
        self._address = self._runner.run(self._serve())
        self._runner.run(self._warm_up())
        gc.collect()
        self._kib_before = resident_kib()
        self._connections = [material.connection(number, url, self._interval) for number in range(count)]
        self._audited = self._connections[: min(AUDITED, count // 2)]

    def _checker_that(self, audits: Audits) -> Checker:
        return Checker(
            self._fleet,
            keyring=self._keyring,
            exchanger=self._exchanger,
            clock=self._clock,
            own=self._own,
            audits=audits,
        )

    # Called by the parent process

    def address(self) -> str:
        """The web application's URL. It answers while another method runs."""
        return self._address

    def take_on(self) -> StartUp:
        """Configure and schedule the fleet, like the daemon at its start."""
        return self._runner.run(self._take_on())

    def whole_interval(self) -> Run:
        """Run one interval: one check per connection."""
        return self._runner.run(self._whole_interval())

    def suspend(self) -> None:
        """Make all connections due at the same time, as when a suspended machine wakes up."""
        self._runner.run(self._suspend())

    def wake_up(self) -> Run:
        """Run the checks of that wake-up."""
        return self._runner.run(self._run(AWAKE_IN_SECONDS))

    def on_schedule(self, seconds: float) -> float:
        """CPU seconds per check, run by the schedule for this time."""
        return self._runner.run(self._on_schedule(seconds))

    def checks(self, count: int, at_once: int) -> float:
        """CPU seconds per check, run back to back without the schedule, a few at once."""
        return self._runner.run(self._in_a_row(self._checker, self._connections, count, at_once))

    def each_once(self, at_once: int) -> None:
        """Check all: a key's first check costs twice as much, as it is read and tried."""
        self.checks(len(self._connections), at_once)

    def audits(self, at_once: int) -> float:
        """CPU seconds of one check with an audit, each of half of the fleet in a row, a few at once."""
        return self._runner.run(self._audits(at_once))

    def checks_after_audits(self, count: int, at_once: int) -> Turns:
        """So many checks in a row of both halves, the audited and the other one, in turns."""
        return self._runner.run(self._checks_after_audits(count, at_once))

    def floor(self, times: int) -> float:
        """CPU seconds of a bare signature and exchange, run back to back."""
        return self._runner.run(self._floor(times))

    def form(self) -> str:
        """What a bare exchange posts."""
        return self._runner.run(self._bare()).form

    def floor_at_pace(self, seconds: float) -> float:
        """The same, at the schedule's rate."""
        every_seconds = self._interval.total_seconds() / len(self._connections)
        return self._runner.run(self._floor(max(1, round(seconds / every_seconds)), every_seconds))

    # Implementation

    async def _warm_up(self) -> None:
        """Load what only the first connection costs: libraries, threads, caches."""
        first = self._material.connection(0, self._url, self._interval)
        self._fleet.configure([first], self._clock.now())
        await self._checker.check(first.name, self._ledger)
        self._page.render(self._snapshot())
        await asyncio.to_thread(self._store.flush)

    async def _serve(self) -> str:
        app = Web(self._snapshot, self._page.render, self._store, ready=lambda: ()).app()
        listener = socket.create_server((HOST, 0))
        config = uvicorn.Config(self._timed(app), lifespan="off", log_config=None, access_log=False)
        self._serving = asyncio.create_task(Server(config).serve(sockets=[listener]))
        return f"{HOST}:{listener.getsockname()[1]}"

    def _timed(self, app: ASGIApp) -> ASGIApp:
        """The application, recording when it was busy with a scrape."""

        async def timed(scope: Scope, receive: Receive, send: Send) -> None:
            began = time.monotonic()
            await app(scope, receive, send)
            if scope.get("path") == "/metrics":
                self._scrapes.append((began, time.monotonic()))

        return timed

    def _snapshot(self) -> Snapshot:
        statuses = self._fleet.statuses()
        daemon = DaemonStatus(self._started, "0", len(statuses), self._started)
        return Snapshot(self._clock.now(), daemon, statuses, {})

    async def _take_on(self) -> StartUp:
        began = time.perf_counter()
        now = self._clock.now()
        self._fleet.configure(self._connections, now)
        await self._keep_appointments(self._turns())
        seconds = time.perf_counter() - began
        self._responsive.enter_context(responsive())
        return StartUp(seconds, self._kib_before)

    def _turns(self) -> dict[str, datetime]:
        """Each connection's next check, all within one interval from now."""
        looked = self._clock.now() - self._interval * cadence.TOO_NEAR  # long enough ago for the next turn
        return {connection.name: cadence.regular(connection, looked) for connection in self._connections}

    async def _stop(self) -> None:
        """Stop scheduling until there is a new schedule."""
        if self._schedule:
            await self._schedule.stop(PATIENCE_SECONDS)
            self._schedule = None

    async def _keep_appointments(self, moments: dict[str, datetime]) -> None:
        await self._stop()
        self._schedule = Schedule(self._check, clock=self._clock, at_once=LIMITS.in_flight, own=self._own)
        self._schedule.start()
        for name, moment in moments.items():
            self._schedule.at(name, moment)
            self._fleet.put(replace(self._fleet[name], next_exchange=moment))

    async def _check(self, name: str) -> datetime | None:
        due = self._fleet[name].next_exchange
        if due:
            self._delays.append((self._clock.now() - due).total_seconds())
        return await self._checker.check(name, self._ledger)

    async def _whole_interval(self) -> Run:
        return await self._run(self._interval.total_seconds())

    async def _suspend(self) -> None:
        moment = self._clock.now() + timedelta(seconds=AWAKE_IN_SECONDS)
        await self._keep_appointments({connection.name: moment for connection in self._connections})
        self._page.render(self._snapshot())  # the state after a scrape before the suspension

    async def _run(self, at_least_seconds: float) -> Run:
        """Watch for this long, and until all connections were checked."""
        self._delays, self._scrapes, self._ticks = [], [], array("d")
        before = {status.name: status.history.exchanges for status in self._fleet.statuses()}
        failures, missed = self._failures(), self._missed()
        began, cpu = time.monotonic(), time.process_time()
        ticking = asyncio.create_task(self._tick())
        await asyncio.sleep(at_least_seconds)
        while unchecked := self._unchecked(before):
            await asyncio.sleep(0.1)
            if time.monotonic() - began > at_least_seconds + PATIENCE_SECONDS:
                break
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        ticking.cancel()
        gc.collect()
        kib = resident_kib()
        await self._stop()
        ticks = [Lag(*self._ticks[start : start + 3]) for start in range(0, len(self._ticks), 3)]
        return Run(
            seconds=seconds,
            checks=len(self._delays),
            cpu_seconds=cpu,
            unchecked=len(unchecked),
            missed=int(self._missed() - missed),
            failed=self._failures() - failures,
            delays=self._delays,
            lags=[tick for tick in ticks if not self._in_scrape(tick)],
            lags_in_scrapes=[tick for tick in ticks if self._in_scrape(tick)],
            kib=kib,
        )

    def _unchecked(self, before: dict[str, int]) -> list[str]:
        return [
            status.name
            for status in self._fleet.statuses()
            if status.history.exchanges == before[status.name]
        ]

    def _failures(self) -> int:
        """Checks that were not granted or not made."""
        return sum(sum(status.history.failures_by_cause.values()) for status in self._fleet.statuses())

    def _missed(self) -> float:
        return sum(
            sample.value
            for family in self._own.schedule_missed.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )

    async def _tick(self) -> None:
        while True:
            before, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            late = now - before - TICK_SECONDS
            self._ticks.extend((now, late, min(late, time.process_time() - cpu)))

    def _in_scrape(self, tick: Lag) -> bool:
        before = tick.at - tick.whole - TICK_SECONDS
        return any(began < tick.at and before < ended for began, ended in self._scrapes)

    async def _on_schedule(self, seconds: float) -> float:
        await self._keep_appointments(self._turns())
        await asyncio.sleep(SETTLE_SECONDS)
        self._delays, cpu = [], time.process_time()
        await asyncio.sleep(seconds)
        while not self._delays:  # noqa: ASYNC110 - a busy machine; nothing signals a check
            await asyncio.sleep(TICK_SECONDS)
        cpu, checks = time.process_time() - cpu, len(self._delays)
        await self._stop()
        return cpu / checks

    async def _in_a_row(
        self, checker: Checker, connections: Sequence[Connection], count: int, at_once: int
    ) -> float:
        await self._stop()
        names = iter([connections[number % len(connections)].name for number in range(count)])

        async def work() -> None:
            for name in names:
                await checker.check(name, self._ledger)

        before = time.process_time()
        await asyncio.gather(*(work() for _ in range(at_once)))
        await asyncio.to_thread(self._store.flush)
        return (time.process_time() - before) / count

    async def _audits(self, at_once: int) -> float:
        await self._stop()
        audited = [replace(connection, audit=True) for connection in self._audited]
        for connection in audited:
            before = self._fleet[connection.name]
            first = replace(before.history, audit=None)  # later audits keep some of what the last one read
            self._fleet.put(replace(before, connection=connection, history=first))
        seconds = await self._in_a_row(self._checker_that("always"), audited, len(audited), at_once)
        for connection in audited:
            facts = self._fleet[connection.name].history.audit
            assert facts
            assert facts.calls == CALLS
        return seconds

    async def _checks_after_audits(self, count: int, at_once: int) -> Turns:
        turns = Turns([], [])
        halves = [(self._connections[len(self._audited) :], turns.without), (self._audited, turns.after)]
        for _ in range(BURSTS):
            for connections, measured in halves:
                measured.append(await self._in_a_row(self._checker, connections, count // BURSTS, at_once))
            halves.reverse()  # each is as often the first
        return turns

    async def _floor(self, times: int, every_seconds: float = 0.0) -> float:
        return (await self._bare()).cpu_seconds(times, every_seconds)

    async def _bare(self) -> Floor:
        await self._stop()
        first = self._connections[0]
        credential = await self._keyring.load(first.current)
        assert credential.key
        signed = assertion.sign(first, credential.key, self._clock.now())
        return Floor(self._url, self._material, credential.key, signed)


def quiet() -> None:
    """Log only errors; asyncio warns about a scrape that is cut off at the end."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def resident_kib() -> float:
    """Resident memory of this process; nan if the system doesn't say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024
