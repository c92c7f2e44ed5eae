"""The watch as one object: takes configurations, makes due checks, gives snapshots.

Used by the daemon, `bearerwatch check`, the demo and the tests. They differ in scheduling (`Scheduler`) and
storage (`Memory`).
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from monitor import __version__
from monitor.config import Settings
from monitor.core import cadence
from monitor.core.history import Event, History
from monitor.core.outcome import NotSent
from monitor.core.status import NO_FACTS, Asked, ConnectionStatus, DaemonStatus, Snapshot
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.transport import Limits, TransportFactory, rust_transport
from monitor.watch.audit import Audits
from monitor.watch.budget import LoginBudget, OwnLedger
from monitor.watch.check import AFTER_LOGIN_EVERY, Checker
from monitor.watch.clock import Clock, SharedClock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.schedule import Schedule, Scheduler
from monitor.watch.soon import KeyChecks, RecoveryChecks, asked, needs_login

if TYPE_CHECKING:  # slow import: the database
    from monitor.store import Store

LAG_SECONDS = 60.0
"""A check overdue for longer is reported: if there were enough replicas, one would have made it by then."""

SOON = timedelta(seconds=10)
"""Connections checked within this time need no separate reading of their keys."""

BETWEEN_KEYS_SECONDS = 0.005
"""Limits the reading of a large fleet's keys to 200 per second."""

log = structlog.get_logger()


class Memory:
    """Histories that a command has read, and changes no more; a daemon has a Store."""

    problem: str | None = None
    damage: str | None = None
    errors = damages = 0
    unwritten_seconds = 0.0

    def __init__(self, known: Mapping[str, History]) -> None:
        self._known = dict(known)

    def histories(self) -> dict[str, History]:
        """The histories by connection name."""
        return self._known

    def save(self, name: str, history: History, events: tuple[Event, ...] = ()) -> None:
        """Record nothing."""


async def _to_nobody() -> None:
    """Send nothing."""


class Watch:
    """Watches the connections of a configuration. The caller closes the memory."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        memory: "Store | Memory",
        scheduler: Scheduler | None = None,
        notify: Callable[[], Awaitable[None]] = _to_nobody,
        transport: TransportFactory = rust_transport,
        after_login_every: int = AFTER_LOGIN_EVERY,
        recovered: Callable[[], None] = lambda: None,
        audits: Audits = "when due",
    ) -> None:
        """Without a `scheduler`, the database decides. `recovered` is called after a recovery.

        Raises OperatorError.
        """
        if scheduler is None and not isinstance(memory, Memory) and memory.place.shared:
            clock = SharedClock(clock)
        self._clock = clock
        self._memory = memory
        self._fleet = Fleet(memory.histories(), clock)
        self._keyring = Keyring(os.environ, settings.vault)
        self._exchanger = Exchanger(
            limits=Limits(in_flight=settings.max_in_flight),
            ca_file=settings.ca_file,
            allowed_hosts=settings.allowed_hosts,
            transport=transport,
            clock=clock.machine,
            steady=clock.steady,
        )
        self.own = OwnMetrics(
            in_flight=lambda: self._exchanger.in_flight,
            store_errors=lambda: self._memory.errors,
            unwritten_seconds=lambda: self._memory.unwritten_seconds,
            damages=lambda: self._memory.damages,
        )
        self._checker = Checker(
            self._fleet,
            keyring=self._keyring,
            exchanger=self._exchanger,
            clock=clock,
            own=self.own,
            after_login_every=after_login_every,
            changed=self._checked,
            audits=audits,
        )
        self._recovery_checks = RecoveryChecks()
        self._key_checks = KeyChecks()
        self._unseen: set[str] = set()
        """Connections never checked so far."""
        self._new = 0
        self._recovered = recovered
        self._budget = OwnLedger(settings.login_budget_per_hour, memory.save, clock)
        self._asks = LoginBudget(_for_asks(settings), clock)
        self._scheduler = scheduler or self._scheduler_for(settings, notify)
        now = clock.now()
        self._status = DaemonStatus(started=now, version=__version__, configured=0, reloaded=now)

    def _scheduler_for(self, settings: Settings, notify: Callable[[], Awaitable[None]]) -> Scheduler:
        """A Schedule for a database file, a Replica for a shared database."""
        clock, store, at_once = self._clock, self._memory, settings.max_in_flight
        if not isinstance(clock, SharedClock):
            return Schedule(self.check, clock=clock, at_once=at_once, own=self.own, hangs=self._hangs)
        from monitor.store.postgresql import Server
        from monitor.watch.replicas import Replica  # needs the extra `postgresql`

        assert not isinstance(store, Memory)
        assert isinstance(store.place, Server)
        return Replica(
            store.place,
            checker=self._checker,
            fleet=self._fleet,
            store=store,
            clock=clock,
            at_once=at_once,
            own=self.own,
            send=notify,
        )

    @property
    def notifies(self) -> bool:
        """Whether this object calls `notify`."""
        return self._scheduler.shared

    @property
    def cut_off(self) -> str | None:
        """Why the status shown here may be old; None otherwise."""
        return self._scheduler.cut_off

    def start(self) -> None:
        """Begin scheduling; needs a running event loop."""
        self._scheduler.start()

    def configure(self, settings: Settings) -> None:
        """Apply a configuration; reschedules only what differs."""
        now = self._clock.now()
        self._budget.per_hour = settings.login_budget_per_hour
        self._asks.per_hour = _for_asks(settings)
        self._exchanger.allowed_hosts = settings.allowed_hosts
        self._keyring.use_vault(settings.vault)
        self._keyring.keep_only([pair for of in settings.connections for pair in of.pairs])
        self._scheduler.configure(settings)
        known = self._memory.histories()
        changed, gone = self._fleet.configure(settings.connections, now)
        for name in gone:
            self._scheduler.cancel(name)
            self._key_checks.waiting.pop(name, None)
        turns = cadence.first_looks(
            ((self._fleet[name].connection, self._fleet[name].history) for name in changed), now
        )
        for name in changed:
            if not self._scheduler.shared:
                self._checker.record_configuration(name, known.get(name), self._budget)
            status = self._fleet[name]
            turn = None if status.connection.paused else turns[name]
            if turn is None:
                self._scheduler.cancel(name)
            elif not self._checker.counts(name):  # otherwise the running check plans the next one
                self._scheduler.at(name, min(turn, self._key_checks.waiting.get(name, turn)))
            self._fleet.put(replace(status, next_exchange=turn))
            if turn and not status.history.exchanges:
                self._unseen.add(name)
        self._unseen -= gone
        self._new = len(self._unseen)
        self._status = replace(
            self._status,
            configured=len(settings.connections),
            reloaded=now,
            maintenance=settings.maintenance,
            reload_problem=None,
        )

    def not_configured(self, problem: str) -> None:
        """Report why the last configuration was not applied."""
        self._status = replace(self._status, reload_problem=problem)

    def look_at_changed_keys(self) -> None:
        """Check connections whose key or certificate has changed since the last check."""
        changed = (
            status
            for status in self._fleet.statuses()
            if status.credential is not NO_FACTS  # not read yet
            and self._keyring.changed(status.connection.current, status.credential)
        )
        for name, turn in self._key_checks.after(changed, self._clock.now()).items():
            self._scheduler.at(name, turn)

    def ask(self, names: Collection[str]) -> Asked:
        """Have connections checked now, within half of their users' login budgets."""
        now = self._clock.now()
        known = [self._fleet[name] for name in names if name in self._fleet]
        wanted = asked(known, now, (self._budget, self._asks))
        for name, turn in wanted.turns.items():
            if needs_login(self._fleet[name], turn, now):
                self._asks.take(self._fleet[name].connection.username, self._clock.machine())
        self._bring_forward(wanted.turns)
        return wanted

    async def read_keys(self) -> None:
        """Read the certificates of connections that are not checked soon, to show them after a restart.

        A key that was repaired or replaced while no daemon ran is checked now. Vault is only read during
        checks, as it may count requests.
        """
        soon = self._clock.now() + SOON
        for status in self._fleet.statuses():
            pair, following = status.connection.current, status.connection.next
            known = status.credential is not NO_FACTS or pair.private_key.kind == "vault"
            if known or status.next_exchange is None or status.next_exchange <= soon:
                continue
            facts = (await self._keyring.load(pair)).facts
            next_facts = (await self._keyring.load(following)).facts if following else None
            if status.name in self._fleet and self._fleet[status.name] is status:  # else checked since
                self._fleet.put(replace(status, credential=facts, next_credential=next_facts))
                last, before = status.history.last_exchange, status.history.key_fingerprint
                unsent = last is not None and isinstance(last.outcome, NotSent)
                if facts.key and (unsent or (before and before != facts.key.fingerprint)):
                    self._bring_forward(self._key_checks.after([status], self._clock.now()))
            await asyncio.sleep(BETWEEN_KEYS_SECONDS)

    def _checked(self, before: ConnectionStatus, after: ConnectionStatus) -> None:
        """After a recovery, check others that may have recovered too."""
        self._key_checks.waiting.pop(after.name, None)
        if after.name in self._unseen:
            self._unseen.discard(after.name)
            if not self._unseen:
                states = Counter(str(one.state) for one in self._fleet.statuses())
                log.info("first_checks_made", connections=self._new, **states)
        holds = {found.cause for found in after.findings}
        if any(found.cause not in holds for found in before.findings):
            self._recovered()
        replicas = self._scheduler.status
        if replicas is None or replicas.leads:
            self._bring_forward(
                self._recovery_checks.after(before, after, self._without_turn, self._clock.now())
            )

    def _without_turn(self) -> list[ConnectionStatus]:
        """The connections that are not checked soon anyway, as their keys have changed."""
        return [status for status in self._fleet.statuses() if status.name not in self._key_checks.waiting]

    def _bring_forward(self, turns: Mapping[str, datetime]) -> None:
        for name, turn in turns.items():
            self._scheduler.at(name, turn)
            self._fleet.put(replace(self._fleet[name], next_exchange=turn))

    async def check(self, name: str) -> datetime | None:
        """Check a connection. Gives the time of its next check; None for no more."""
        return await self._checker.check(name, self._budget)

    def _hangs(self, name: str) -> bool:
        """Whether a connection's last check took long without an answer."""
        last = self._fleet[name].history.last_exchange if name in self._fleet else None
        return last is not None and last.hung

    def status(self, name: str) -> ConnectionStatus:
        """A connection's current status. Raises KeyError for an unknown name."""
        return self._fleet[name]

    def problems(self) -> tuple[str, ...]:
        """Why some connections are not watched or stored. Those waiting for a first check don't count."""
        problems = []
        if not self._scheduler.running:
            problems.append("The schedule is not running.")
        if self._scheduler.problem:
            problems.append(f"No checks can be started: {self._scheduler.problem}")
        if self._memory.problem and self._memory.problem != self._scheduler.problem:
            problems.append(f"The database cannot be written: {self._memory.problem}")
        replicas = self._scheduler.status
        if replicas and replicas.reachable and replicas.overdue_seconds > LAG_SECONDS:
            waited = round(replicas.overdue_seconds)
            problems.append(f"Checks are late: one has been due for {waited} s.")
        return tuple(problems)

    def snapshot(self) -> Snapshot:
        """Everything now."""
        return Snapshot(
            at=self._clock.now(),
            daemon=replace(
                self._status,
                store_problem=self._memory.problem or self._scheduler.problem,
                store_damage=self._memory.damage,
                replicas=self._scheduler.status,
            ),
            connections=self._fleet.statuses(),
            retired_failures=self._fleet.retired_failures(),
        )

    async def stop(self, within_seconds: float) -> None:
        """Begin no more checks, and wait for running ones, but not longer than this."""
        await self._scheduler.stop(within_seconds)

    async def aclose(self) -> None:
        """Close the network client and the key ring, even if one of them fails."""
        async with AsyncExitStack() as parts:
            parts.push_async_callback(asyncio.to_thread, self._keyring.close)
            parts.push_async_callback(self._exchanger.aclose)


def _for_asks(settings: Settings) -> int:
    """Logins of a user in any hour for checks on request; with replicas, through each of them."""
    return max(1, settings.login_budget_per_hour // 2)
