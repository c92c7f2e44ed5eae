"""The daemon's life cycle: start, reload, stop. Connects the packages and decides nothing else.

1. Start: load the configuration, open the store, restore the histories, start the schedule, open the port.
2. Reload (SIGHUP, `POST /-/reload`, a changed file): load, validate, swap; reschedules only what differs. A
   bad file changes nothing; a metric and the page report it.
3. Stop (SIGTERM, SIGINT): schedule, running checks (bounded), store, HTTP. Each in a separate `try`.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from monitor.config import ConfigError, Settings, load
from monitor.daemon.aside import aside
from monitor.daemon.changed_files import ChangedFiles, configuration_stamps
from monitor.daemon.descriptors import enough
from monitor.daemon.interpreter import responsive
from monitor.daemon.service_manager import ServiceManager
from monitor.notify import NOTIFYING, Notifier
from monitor.salesforce.transport import rust_transport
from monitor.store import Store
from monitor.watch.clock import Clock
from monitor.watch.schedule import Scheduler
from monitor.watch.watch import Watch
from monitor.web.access import Protection, known_hosts
from monitor.web.app import Web
from monitor.web.connections import DeadlineProtocol, Server, listen
from monitor.web.metrics import MetricsPage

NOTIFY_EVERY_SECONDS = 10.0
"""Between two rounds of notifications. Short compared to an alert's hold time of minutes."""

NOTIFY_SOONEST_SECONDS = 3.0
"""The same after a recovery: the person who fixed it is waiting for the message."""

NEED_RESTART = (
    "listen",
    "database",
    "ca_file",
    "max_in_flight",
    "web.enable_reload",
    "web.open_health",
)
"""Options that need a restart: they concern open files and sockets, or the web server."""

STOP_WITHIN_SECONDS = 20.0
"""How long running checks may take to finish at a stop: longer than the exchange timeouts, shorter than the
90 seconds after which systemd kills."""

END_WITHIN_SECONDS = 40.0
"""When to abort a hanging stop: more than its parts may take together, less than Docker's 45 seconds."""

HANGS_SECONDS = 30.0
"""A reload is reported as hanging after this long; ten thousand files take half of it."""

HANGS = (
    f"Reading the configuration has taken more than {HANGS_SECONDS:.0f} seconds: its disk may be hanging."
    " It takes effect once it has been read."
)

log = structlog.get_logger()


class Daemon:
    """One daemon with one configuration file."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        clock: Clock,
        store: Store,
        scheduler: Scheduler | None = None,
    ) -> None:
        """`scheduler`: used instead of the one that suits the database."""
        self._path = path
        self._store = store
        self._settings = self._started_with = settings
        self._stamps = configuration_stamps(settings)
        self._recovered = asyncio.Event()
        self.watch = Watch(
            settings,
            clock=clock,
            memory=store,
            scheduler=scheduler,
            notify=self._notify,
            recovered=self._recovered.set,
        )
        self._notifier = Notifier(
            memory=store,
            transport=rust_transport(NOTIFYING, settings.ca_file, decodes=False),  # the status says it all
            environment=os.environ,
            counted=self.watch.own.count_notification,
        )
        self._files = ChangedFiles(self._files_changed)
        self._manager = ServiceManager(os.environ)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reload_lock = asyncio.Lock()
        self._next_reload: asyncio.Task[str | None] | None = None
        """The one that waits for its turn."""
        self._reloads_under_way: set[asyncio.Task[str | None]] = set()

    async def _notify(self) -> None:
        if not self._stopping.is_set():
            await self._notifier.round(self.watch.snapshot())

    async def _notify_until_stopped(self) -> None:
        """Send notifications regularly, unless another replica does."""
        while not self._stopping.is_set():
            try:
                await self._notify()
            except Exception:  # a bug in one round must not stop the next
                log.exception("notifier_failed")
            for seconds, event in (
                (NOTIFY_SOONEST_SECONDS, self._stopping),
                (NOTIFY_EVERY_SECONDS - NOTIFY_SOONEST_SECONDS, self._recovered),
            ):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await event.wait()
            self._recovered.clear()

    async def run(self) -> bool:
        """Run until `stop` is called. Raises OSError if the port can't be bound.

        True if everything was written to the database.
        """
        if short := enough(self._settings.max_in_flight):
            log.warning("configuration", text=short)
        listener = listen(self._settings.listen)
        server = Server(self._web_server())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begun(self.reload()))
        self.watch.start()
        self._apply(self._settings)
        with responsive():
            return await self._serve_until_stopped(server, listener)

    async def _serve_until_stopped(self, server: Server, listener: socket.socket) -> bool:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        log.info("started", address=str(self._settings.listen), connections=len(self._settings.connections))
        alive = asyncio.create_task(self._manager.keep_alive())
        notifies = self.watch.notifies
        notifying = asyncio.create_task(self._stopping.wait() if notifies else self._notify_until_stopped())
        self._manager.ready()
        self.listening.set()
        await self._stopping.wait()
        log.info("stopping")
        self._manager.stopping()
        self._notifier.stop()
        for what, stopping in (
            ("files", self._files.stop()),
            ("notifications", notifying),
            ("checks", self.watch.stop(STOP_WITHIN_SECONDS)),
            ("notifier", self._notifier.aclose()),
            ("watch", self.watch.aclose()),
        ):
            try:
                await stopping
            except Exception:  # a part that fails to stop must not block the next
                log.exception("stop_failed", part=what)
        server.end()
        await serving
        alive.cancel()
        # Not in a thread: there may be no memory for one.
        if written := self._store.close():
            log.info("stopped")
        else:
            log.error("results_not_written", problem=self._store.problem)
        return written

    def _web_server(self) -> uvicorn.Config:
        """The web server's settings, with access control and TLS from the web configuration file."""
        context = self._settings.protection.context
        web = Web(
            snapshot=self.watch.snapshot,
            metrics=MetricsPage(self.watch.own).render,
            store=self._store,
            ready=self.watch.problems,
            cut_off=lambda: self.watch.cut_off,
            reload=self.reload if self._settings.web.enable_reload else None,
            ask=lambda: self.watch.ask if self._settings.takes_checks else None,
            external_url=lambda: self._settings.web.external_url,
        )
        return uvicorn.Config(
            Protection(
                web.app(),
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

    def stop(self) -> None:
        """Request a stop; `run` returns when everything has stopped."""
        if not self._stopping.is_set():
            end = threading.Timer(END_WITHIN_SECONDS, _force_exit)
            end.daemon = True
            end.start()
        self._stopping.set()
        self._recovered.set()

    async def reload(self) -> str | None:
        """Load and apply the configuration. Gives what is wrong with it, or None.

        A reload that hangs is reported, and continues in the background.
        """
        reload = self._next_reload = self._next_reload or self._begun(self._reload_in_turn())
        return reload.result() if await self._in_time(reload) else HANGS

    def _begun(self, reload: Coroutine[Any, Any, str | None]) -> asyncio.Task[str | None]:
        task = asyncio.get_running_loop().create_task(reload)
        self._reloads_under_way.add(task)  # the loop keeps only a weak reference
        task.add_done_callback(self._reloads_under_way.discard)
        return task

    async def _in_time(self, reading: asyncio.Task[Any]) -> bool:
        """Whether the task ends within HANGS_SECONDS. If not, reports it."""
        _, late = await asyncio.wait([reading], timeout=HANGS_SECONDS)
        if late:
            self.watch.not_configured(HANGS)
            log.error("reload_hangs", problem=HANGS)
        return not late

    async def _reload_in_turn(self) -> str | None:
        """One at a time, so that the newest file wins. Requests before its turn share one reload."""
        async with self._reload_lock:
            self._next_reload = None
            self._manager.reloading()
            try:
                return await self._reload()
            except Exception as fault:  # the next reload may succeed
                log.exception("reload_crashed")
                problem = f"Internal error in the monitor ({type(fault).__name__}): see the log."
                self.watch.not_configured(problem)
                return problem
            finally:
                self._manager.ready()

    async def _reload(self) -> str | None:
        self._stamps = await aside(partial(configuration_stamps, self._settings))
        try:
            settings = await aside(partial(load, self._path, os.environ))
        except ConfigError as error:
            problem = str(error)
            self.watch.not_configured(problem)
            log.warning("reload_failed", problem=problem)
            return problem
        for option in NEED_RESTART:
            value = attrgetter(option)
            if value(settings) != value(self._started_with):
                log.warning("configuration", text=f"{option} has changed; this takes effect after a restart.")
        if not_taken_on := self._started_with.protection.renew(settings.protection):
            log.warning("configuration", text=not_taken_on)
        self._apply(settings)
        log.info("reloaded", connections=len(settings.connections))
        return None

    async def _files_changed(self) -> None:
        """React to changed files: reload the configuration, check the connections of a changed key."""
        look = asyncio.get_running_loop().create_task(aside(partial(configuration_stamps, self._settings)))
        if not await self._in_time(look) or await look != self._stamps:
            await self.reload()
        self.watch.look_at_changed_keys()

    def _apply(self, settings: Settings) -> None:
        self._settings = settings
        self.watch.configure(settings)
        self._reading_keys = asyncio.get_running_loop().create_task(self.watch.read_keys())
        for warning in settings.warnings:
            log.warning("configuration", text=warning)
        self._files.over(settings)
        self._notifier.configure(settings)


def _force_exit() -> None:
    log.critical("stop_timed_out", seconds=END_WITHIN_SECONDS)
    logging.shutdown()
    os._exit(1)
