"""One check of one connection: exchange, diagnose, remember, plan the next check.

If there is a next key, a second exchange follows with it, after the first result was recorded. Each exchange
is guarded: a bug of ours is logged, counted, and shown as `monitor_fault` of the connection; the next check
runs.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog

from monitor.core import cadence, history, rotation
from monitor.core.connection import Connection
from monitor.core.finding import State
from monitor.core.history import History, configuration_fingerprint
from monitor.core.keys.credential import CredentialFacts
from monitor.core.outcome import Exchange, NotSent
from monitor.core.status import NO_FACTS, ConnectionStatus
from monitor.core.verdict.diagnosis import diagnose
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.probe import PutOff, probe
from monitor.watch.audit import Audit, Auditor, Audits, Judged
from monitor.watch.budget import Ledger
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics

AFTER_LOGIN_EVERY = 6
"""One in this many exchanges is followed by a REST call. Calls count against the API allocation and extend
the session that production shares, so they are rare: at 5 minutes, twice an hour."""

log = structlog.get_logger()


class Checker:
    """Checks a fleet's connections, each one at a time."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        keyring: Keyring,
        exchanger: Exchanger,
        clock: Clock,
        own: OwnMetrics,
        after_login_every: int = AFTER_LOGIN_EVERY,
        changed: Callable[[ConnectionStatus, ConnectionStatus], None] = lambda before, after: None,
        audits: Audits = "when due",
    ) -> None:
        """`changed` is called with old and new status after each check, here or by another replica."""
        self._changed = changed
        self._fleet = fleet
        self._keyring = keyring
        self._exchanger = exchanger
        self._clock = clock
        self._own = own
        self._after_login_every = after_login_every
        self._running: dict[str, Connection] = {}
        """The connections of running checks, as they were when these began."""
        self._judged = Judged()
        self._auditor = Auditor(keyring=keyring, exchanger=exchanger, clock=clock, own=own, audits=audits)

    async def check(self, name: str, ledger: Ledger) -> datetime | None:
        """Check a connection. Gives the time of the next check; None if it was removed."""
        if name not in self._fleet or self._fleet[name].connection.paused:
            return None
        self._running[name] = self._fleet[name].connection
        try:
            return await self._check(name, ledger)
        finally:
            del self._running[name]

    def counts(self, name: str) -> bool:
        """Whether a running check of this connection will count: since it began, no reload has removed or
        paused the connection, or changed what is sent for it.
        """
        if name not in self._running or name not in self._fleet:
            return False
        begun, present = self._running[name], self._fleet[name].connection
        return present is begun or (not present.paused and sent(present) == sent(begun))

    async def _check(self, name: str, ledger: Ledger) -> datetime | None:
        after = before = self._fleet[name]
        if not self._is_for_next(before):
            try:
                after = await self._check_current(before, ledger)
            except Exception as bug:  # must not stop other checks
                log.exception("check_failed", connection=name)
                outcome = NotSent(f"Internal error in the monitor: {type(bug).__name__}.")
                exchange = Exchange(self._clock.machine(), outcome)
                after = self._judge(self._present(before, before.history), before.credential, exchange)
            if not self._record(before, after, ledger):
                return self._after_reload(name)
            if after.history.last_exchange is before.history.last_exchange:
                return _next_check(after)  # postponed
        if after.connection.next or after.history.rotation:
            current = after
            try:
                after = await self._check_next(before, current, ledger)
            except Exception:  # nor change the verdict on the current key
                log.exception("check_failed", connection=name)
                after = self._present(current, current.history)
                own_look = rotation.own_look(after.history, after.connection, self._clock.now())
                after = replace(after, next_try=own_look)
            if not self._record(current, after, ledger):
                return self._after_reload(name)
        return _next_check(after)

    def record_configuration(self, name: str, known: History | None, ledger: Ledger) -> None:
        """Record the events of a new configuration: a new connection, or another address or user.

        `known` is the history before that.
        """
        history_now = self._fleet[name].history
        if history_now != known:
            ledger.keep(name, history_now, history.changes(known, history_now))

    def prepare(self, name: str, known: History | None, due: datetime, ledger: Ledger) -> None:
        """Prepare a check with the history from the database: another replica may have made the last one."""
        status, now = self._fleet[name], self._clock.now()
        begun = history.reconfigured(known or history.begin(status.connection, now), status.connection, now)
        self._fleet.put(self._with_history(status, begun, due))
        self.record_configuration(name, known, ledger)

    async def show_result(self, name: str, found: History, due: datetime) -> None:
        """Show another replica's result as if it were ours."""
        connection = self._fleet[name].connection
        current = (await self._keyring.load(connection.current)).facts
        following = (await self._keyring.load(connection.next)).facts if connection.next else None
        if name not in self._fleet:
            return
        status = self._fleet[name]
        if status.connection == connection and not _older(found, status.history):
            after = self._with_history(status, found, due)
            self._fleet.put(replace(after, credential=current, next_credential=following))
            self._changed(status, after)

    def show_unreadable(self, name: str, why: str, due: datetime) -> None:
        """Show that a connection is not checked here, because its history can't be read."""
        status = self._fleet[name]
        outcome = NotSent(f"This version cannot read its history: {why}")
        if status.history.last_exchange is None or status.history.last_exchange.outcome != outcome:
            log.error("history_unreadable", connection=name, reason=why)
        exchange = Exchange(self._clock.now(), outcome)
        status = self._judge(status, status.credential, exchange)
        self._fleet.put(replace(status, next_exchange=due))

    def _with_history(self, status: ConnectionStatus, found: History, due: datetime) -> ConnectionStatus:
        """The status with this history, whose next check, with either key, is at `due`.

        It is of the next key alone if that was planned for then. A sooner one was asked for.
        """
        connection, now, last = status.connection, self._clock.now(), found.last_exchange
        turn = cadence.next_exchange(connection, found, last.at, refused=self._fleet.refused) if last else due
        tried = found.rotation.tried_at if found.rotation else None
        looked = max((at for at in (last and last.at, tried) if at), default=now)
        own_look = rotation.own_look(found, connection, looked)
        is_alone = own_look is not None and own_look <= due + cadence.SOONER
        return replace(
            status,
            history=found,
            forecast=self._fleet.forecast(connection, found, now),
            next_exchange=max(due, turn) if is_alone else due,
            next_try=due if is_alone else own_look,
        )

    async def _check_current(self, before: ConnectionStatus, ledger: Ledger) -> ConnectionStatus:
        """The status after an exchange with the current key."""
        connection = before.connection
        credential = await self._keyring.load(connection.current)
        known = history.rekeyed(before.history, credential.facts.key, self._clock.now())
        doubted = known.after_login is not None and not known.after_login.proves
        turn = known.exchanges % self._after_login_every == 0
        early = cadence.is_early(connection, before.history, before.next_exchange)
        audit = Audit(self._auditor, connection, known, asked=early)
        try:
            take = partial(ledger.take, connection.username)
            async with probe(self._exchanger, connection, credential, take=take) as login:
                if connection.after_login and (turn or doubted):
                    await login.first_call()
                await audit.own(login)
        except PutOff as put_off:
            self._own.logins_deferred.inc()
            until = put_off.until + self._clock.correction()
            return replace(self._present(before, known), credential=credential.facts, next_exchange=until)
        exchange = login.exchange
        if exchange.duration_seconds is not None:
            self._own.exchange_duration.observe(exchange.duration_seconds)
        if facts := await audit.finished(exchange, ledger):
            known = replace(known, audit=facts)
        return self._judge(self._present(before, known), credential.facts, exchange)

    def _present(self, status: ConnectionStatus, known: History) -> ConnectionStatus:
        """The status with this history, otherwise as a reload during the check has left it."""
        present = self._fleet[status.name] if self.counts(status.name) else status
        if present.connection is not status.connection:
            known = history.reconfigured(known, present.connection, self._clock.now())
        return replace(present, history=known)

    def _is_for_next(self, status: ConnectionStatus) -> bool:
        """Whether only the next key is due, and the current one later."""
        if status.next_try is None or status.next_exchange is None:
            return False
        now, changed = self._clock.now(), self._keyring.stale(status.connection.current)
        # Someone who asked during the last check may come before both turns: then the current one is checked.
        return status.next_try <= now < status.next_exchange and not changed

    async def _check_next(
        self, before: ConnectionStatus, after: ConnectionStatus, ledger: Ledger
    ) -> ConnectionStatus:
        """The status after an exchange with the next key. The verdict on the current key does not change.

        `before` is from before the exchange with the current key, if any, and `after` from after it.
        """
        connection, was = after.connection, before.history.last_verdict
        following = await self._keyring.load(connection.next) if connection.next else None
        facts = following.facts if following else NO_FACTS
        last = after.history.last_exchange
        asked = last.outcome if last and last is not before.history.last_exchange else None
        now, tried = self._clock.now(), None
        seen = rotation.with_pairs(after.history, connection, after.credential, facts, now)
        due = rotation.due(seen, connection, was, asked, now)
        usable = following if due and following and following.key else None
        if usable and (take := await ledger.take_next_key(connection.username)):
            with suppress(PutOff):  # it waited too long, and the login is no longer reserved
                async with probe(self._exchanger, connection, usable, take=take) as login:
                    tried = login.exchange.outcome
        after = self._present(after, seen)
        advanced, next_exchange, next_try = rotation.planned(
            after.history, after.connection, was, asked, tried, after.next_exchange, self._clock.now()
        )
        return replace(
            after,
            history=advanced,
            next_credential=facts if following else None,
            next_exchange=next_exchange,
            next_try=next_try,
        )

    def _judge(
        self, before: ConnectionStatus, facts: CredentialFacts, exchange: Exchange
    ) -> ConnectionStatus:
        """The status after an exchange: diagnosis, history, forecast and next check."""
        connection, known, fleet = before.connection, before.history, self._fleet
        exchange, now = self._clock.confirmed(exchange)
        witnesses = fleet.witnesses(before, exchange)
        exchanged = history.exchanged(known, exchange)
        forecast = fleet.forecast(connection, exchanged, now)
        verdict = diagnose(
            exchange,
            facts,
            connection,
            known,
            now,
            witnesses=witnesses,
            forecast=forecast,
            production=fleet.production(connection),
            wrong_steps=self._judged.wrong_steps,
        )
        after = history.diagnosed(exchanged, exchange, verdict)
        asked = min(exchange.at, self._clock.now())  # the clock may have been set back since
        return replace(
            before,
            history=after,
            credential=facts,
            forecast=None if known.approval_since and not after.approval_since else forecast,
            next_exchange=cadence.next_exchange(connection, after, asked, refused=fleet.refused),
        )

    def _record(self, before: ConnectionStatus, after: ConnectionStatus, ledger: Ledger) -> bool:
        """Record the new status and log changes. False if the check no longer counts."""
        if not self.counts(after.name):
            return False
        self._fleet.put(after)
        events = history.changes(before.history, after.history)
        ledger.keep(after.name, after.history, events)
        # Connections that are healthy at their first check are logged in one summary line.
        usual = log.debug if not before.history.exchanges and after.state is State.HEALTHY else log.info
        for event in events:
            tell = log.warning if event.failure else usual
            tell(event.kind, connection=after.name, cause=event.cause, text=event.text)
        self._changed(before, after)
        return True

    def _after_reload(self, name: str) -> datetime | None:
        """When to check if this check did not count: at once, unless the connection was removed."""
        return self._clock.now() if name in self._fleet else None


def sent(connection: Connection) -> tuple[object, ...]:
    """Differs if anything that is sent differs, or what it is signed with."""
    return configuration_fingerprint(connection), connection.pairs


def _next_check(status: ConnectionStatus) -> datetime | None:
    return min((at for at in (status.next_exchange, status.next_try) if at), default=None)


def _older(found: History, known: History) -> bool:
    """Whether another replica's result is older than ours: by its number, which goes back if a backup is
    restored, and its time, which may go back if another server takes over.
    """
    last, ours = found.last_exchange, known.last_exchange
    earlier = ours is not None and (last is None or last.at < ours.at)
    return found.first_seen == known.first_seen and found.exchanges < known.exchanges and earlier
