"""The daemon's life: start, reload, stop. It wires the rooms together and decides nothing else.

1. Start: load the configuration, open the store, take up the histories, keep the appointments, open the port.
2. Reload (SIGHUP, `POST /-/reload`, a changed file): load aside, check, swap; only what differs is scheduled
   anew. A bad file changes nothing, and is said in a metric and on the page.
3. Stop (SIGTERM, SIGINT): schedule, checks under way (bounded), store, HTTP. Each in its own `try`.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.applications import Starlette

from monitor import __version__
from monitor.config import ConfigError, Settings, load
from monitor.core import cadence
from monitor.core.status import DaemonStatus, Snapshot
from monitor.daemon.changed_files import Watch, configuration_stamps
from monitor.daemon.interpreter import responsive
from monitor.daemon.service_manager import ServiceManager
from monitor.keys.sources import Keyring
from monitor.notify import NOTIFYING, Notifier
from monitor.salesforce.exchange import Exchanger, Limits, rust_transport
from monitor.store import Store
from monitor.store.place import Place, place_of
from monitor.store.sqlite import SqliteFile
from monitor.watch.budget import LoginBudget
from monitor.watch.check import Checker
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.schedule import Check, Engine, Schedule
from monitor.web.access import known_hosts, protect
from monitor.web.app import create_app
from monitor.web.connections import DeadlineProtocol, listen
from monitor.web.metrics import (
    MetricsPage,
    negotiate,
)

if TYPE_CHECKING:
    from monitor.watch.replicas import Replica

NOTIFY_EVERY_SECONDS = 10.0
"""Between two rounds of notifications: an alert has held for minutes when it becomes one."""

ONLY_AT_A_START = (
    "listen",
    "database",
    "ca_file",
    "max_in_flight",
    "web.enable_reload",
    "web.open_health",
)
"""Options that a reload cannot change: what they name is open, or what serves the pages is made of them."""

STOP_WITHIN_SECONDS = 20.0
"""How long checks under way may take at a stop: longer than the exchange's own timeouts, shorter than the
90 seconds after which systemd kills."""

log = structlog.get_logger()


class Daemon:
    """One running daemon over one configuration file."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        clock: Clock,
        store: Store,
        schedule: Callable[[Check, OwnMetrics], Engine] | None = None,
    ) -> None:
        """`schedule` makes what keeps the appointments: the demo's lets weeks pass in seconds."""
        self._path = path
        self._clock = clock
        self._store = store
        self._fleet = Fleet(store.histories())
        self._settings = self._started_with = settings
        self._stamps = configuration_stamps(settings)
        self._status = DaemonStatus(
            started=clock.now(), version=__version__, configured=0, reloaded=clock.now()
        )
        self._exchanger = Exchanger(
            limits=Limits(in_flight=settings.max_in_flight),
            ca_file=settings.ca_file,
            allowed_hosts=settings.allowed_hosts,
            clock=clock.now,
        )
        self.own = OwnMetrics(
            in_flight=lambda: self._exchanger.in_flight, store_errors=lambda: self._store.errors
        )
        self._page = MetricsPage(self.own)
        self._budget = LoginBudget(settings.login_budget_per_hour)
        self._keyring = Keyring(os.environ, settings.vault)
        self._replica = self._one_of_several(place_of(settings.database, 0))
        self._checker = Checker(
            self._fleet,
            keyring=self._keyring,
            exchanger=self._exchanger,
            keep=self._replica.keep if self._replica else store.save,
            clock=clock,
            budget=self._replica or self._budget,
            take_next_key=self._replica.take_next_key if self._replica else None,
            own=self.own,
        )
        if self._replica:
            self._replica.checker = self._checker
        self._schedule: Engine
        if schedule:
            self._schedule = schedule(self._checker.check, self.own)
        else:
            self._schedule = self._replica or Schedule(
                self._checker.check, clock=clock, at_once=settings.max_in_flight, own=self.own
            )
        self._notifier = Notifier(
            memory=store,
            transport=rust_transport(NOTIFYING, settings.ca_file),
            environment=os.environ,
            counted=self.own.count_notification,
        )
        self._watch = Watch(self._look_at_files)
        self._manager = ServiceManager(os.environ)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reload_turn = asyncio.Lock()
        self._reloads_asked = 0
        self._reloads_done = 0
        self._reloads_under_way: set[asyncio.Task[str | None]] = set()

    def _one_of_several(self, place: Place) -> "Replica | None":
        """What keeps the appointments together with other daemons; None where the database is a file."""
        if isinstance(place, SqliteFile):
            return None
        from monitor.store.postgresql import Server
        from monitor.watch.replicas import Replica  # its libraries are an extra

        assert isinstance(place, Server)
        return Replica(
            place,
            fleet=self._fleet,
            store=self._store,
            clock=self._clock,
            at_once=self._settings.max_in_flight,
            own=self.own,
            notify=self._notify,
        )

    async def _notify(self) -> None:
        if not self._stopping.is_set():
            await self._notifier.round(self.snapshot())

    async def _notify_until_stopped(self) -> None:
        """Round after round of notifications, where no other replica may do it."""
        while not self._stopping.is_set():
            try:
                await self._notify()
            except Exception:  # the rounds must go on, whatever went wrong in one
                log.exception("notifier_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NOTIFY_EVERY_SECONDS):
                    await self._stopping.wait()

    async def run(self) -> None:
        """Live until `stop` is asked for; needs a free port, which was checked when the socket was bound."""
        listener = listen(self._settings.listen)
        server = _Server(self._serving())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        self._schedule.start()
        self._take_on(self._settings)
        with responsive():
            await self._serve_until_stopped(server, listener)

    async def _serve_until_stopped(self, server: "_Server", listener: socket.socket) -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        log.info("started", address=str(self._settings.listen), connections=len(self._settings.connections))
        alive = asyncio.create_task(self._manager.keep_alive())
        alone = self._replica is None
        notifying = asyncio.create_task(self._notify_until_stopped() if alone else self._stopping.wait())
        self._manager.ready()
        self.listening.set()
        await self._stopping.wait()
        log.info("stopping")
        self._manager.stopping()
        self._notifier.stop()
        for what, stopping in (
            ("watch", self._watch.stop()),
            ("notifications", notifying),
            ("schedule", self._schedule.stop(STOP_WITHIN_SECONDS)),
            ("notifier", self._notifier.aclose()),
            ("exchanger", self._exchanger.aclose()),
            ("keyring", asyncio.to_thread(self._keyring.close)),
            ("store", asyncio.to_thread(self._store.close)),
        ):
            try:
                await stopping
            except Exception:  # one part that can't be stopped must not keep the next from it
                log.exception("stop_failed", part=what)
        server.should_exit = True
        await serving
        alive.cancel()

    def _serving(self) -> uvicorn.Config:
        """How the pages are served: protected, and over TLS where the web configuration file has it."""
        context = self._settings.protection.context
        return uvicorn.Config(
            protect(
                self.app(),
                users=lambda: dict(self._settings.protection.users),
                hosts=lambda: known_hosts(
                    self._settings.listen.host, self._settings.web.external_url, self._settings.web.hosts
                ),
                open_health=self._settings.web.open_health,
            ),
            ssl_context_factory=(lambda _config, _default: context) if context else None,
            http=DeadlineProtocol,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
        )

    def app(self) -> Starlette:
        """The web application over this daemon."""
        return create_app(
            snapshot=self.snapshot,
            metrics=self._metrics,
            store=self._store,
            ready=self.ready,
            cut_off=lambda: self._replica.cut_off if self._replica else None,
            reload=self.reload if self._settings.web.enable_reload else None,
            external_url=lambda: self._settings.web.external_url,
        )

    def stop(self) -> None:
        """Ask for the end; `run` returns when all is stopped."""
        self._stopping.set()

    async def reload(self) -> str | None:
        """Load the configuration aside and swap it in. Gives what is wrong with it; None where it holds.

        One after the other, so that an older file never comes last; those that were asked for while another
        was under way are one.
        """
        self._reloads_asked += 1
        mine = self._reloads_asked
        async with self._reload_turn:
            if self._reloads_done >= mine:
                return self._status.reload_problem
            asked = self._reloads_asked
            self._manager.reloading()
            try:
                return await self._reload()
            finally:
                self._reloads_done = asked
                self._manager.ready()

    def _hung_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self.reload())
        self._reloads_under_way.add(task)  # the loop itself would not keep it
        task.add_done_callback(self._reloads_under_way.discard)

    async def _reload(self) -> str | None:
        self._stamps = await asyncio.to_thread(configuration_stamps, self._settings)
        try:
            settings = await asyncio.to_thread(load, self._path, os.environ)
        except ConfigError as error:
            problem = str(error)
            self._status = replace(self._status, reload_problem=problem)
            log.warning("reload_failed", problem=problem)
            return problem
        for option in ONLY_AT_A_START:
            value = attrgetter(option)
            if value(settings) != value(self._started_with):
                log.warning(
                    "configuration", text=f"{option} has changed, which takes effect at the next start."
                )
        if not_taken_on := self._started_with.protection.renew(settings.protection):
            log.warning("configuration", text=not_taken_on)
        self._take_on(settings)
        log.info("reloaded", connections=len(settings.connections))
        return None

    async def _look_at_files(self) -> None:
        """Take on what changed on disk: another configuration by a reload, another key by a check now."""
        if await asyncio.to_thread(configuration_stamps, self._settings) != self._stamps:
            await self.reload()
        now = self._clock.now()
        for status in self._fleet.statuses():
            if not status.connection.paused and self._keyring.stale(status.connection.current):
                self._schedule.at(status.name, now)

    def ready(self) -> tuple[str, ...]:
        """Why the daemon is not ready; empty where it is. What has not been checked yet is no reason."""
        problems = []
        if not self._schedule.running:
            problems.append("The schedule is not running.")
        if self._replica and self._replica.problem:
            problems.append(f"No appointments can be kept: {self._replica.problem}")
        if self._store.problem:
            problems.append(f"The store can't be written: {self._store.problem}")
        return tuple(problems)

    def _metrics(self, accept: str) -> tuple[list[bytes], str]:
        exposition = negotiate(accept)
        return self._page.render(self.snapshot(), exposition), exposition.content_type

    def snapshot(self) -> Snapshot:
        """Everything at this moment."""
        return Snapshot(
            at=self._clock.now(),
            daemon=replace(
                self._status,
                store_problem=self._store.problem or (self._replica.problem if self._replica else None),
                replicas=self._replica.status if self._replica else None,
            ),
            connections=self._fleet.statuses(),
            retired_failures=self._fleet.retired_failures(),
        )

    def _take_on(self, settings: Settings) -> None:
        """Swap the configuration in, and make the appointments that differ."""
        now = self._clock.now()
        self._settings = settings
        self._budget.per_hour = settings.login_budget_per_hour
        self._exchanger.allowed_hosts = settings.allowed_hosts
        if self._replica:
            self._replica.configure(settings)
        known = self._store.histories()
        changed, gone = self._fleet.configure(settings.connections, now)
        for name in gone:
            self._schedule.cancel(name)
        self._keyring.look_into(settings.vault)
        self._keyring.keep_only(
            [pair for of in settings.connections for pair in (of.current, of.next) if pair is not None]
        )
        turns = cadence.first_looks(
            ((self._fleet[name].connection, self._fleet[name].history) for name in changed), now
        )
        for name in changed:
            self._checker.taken_on(name, known.get(name))
            status = self._fleet[name]
            if status.connection.paused:
                self._schedule.cancel(name)
                self._fleet.put(replace(status, next_exchange=None))
                continue
            self._schedule.at(name, turns[name])
            self._fleet.put(replace(status, next_exchange=turns[name]))
        for warning in settings.warnings:
            log.warning("configuration", text=warning)
        self._watch.over(settings)
        self._notifier.configure(settings)
        self._status = replace(
            self._status,
            configured=len(settings.connections),
            reloaded=now,
            maintenance=settings.maintenance,
            reload_problem=None,
        )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the daemon decides in which order things stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
