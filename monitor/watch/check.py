"""One check of one connection: exchange, diagnose, remember, plan the next check.

If there is a next key, a second exchange follows with it, after the first result was recorded. Each exchange
is guarded: a bug of ours is logged, counted, and shown as `monitor_fault` of the connection; the next check
runs.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from monitor.core import cadence, history, rotation
from monitor.core.finding import State
from monitor.core.history import History
from monitor.core.keys.credential import CredentialFacts
from monitor.core.outcome import Exchange, Granted, NotSent
from monitor.core.status import NO_FACTS, ConnectionStatus
from monitor.core.verdict import approval
from monitor.core.verdict.diagnosis import diagnose
from monitor.core.verdict.evidence import CLOCK_OFF
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

SOONER = timedelta(seconds=1)
"""A check this much earlier than planned counts as requested: due times shared by replicas are more
precise."""

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
        self._judged = Judged()
        self._auditor = Auditor(keyring=keyring, exchanger=exchanger, clock=clock, own=own, audits=audits)

    async def check(self, name: str, ledger: Ledger) -> datetime | None:
        """Check a connection. Gives the time of the next check; None if it was removed."""
        if name not in self._fleet or self._fleet[name].connection.paused:
            return None
        after = before = self._fleet[name]
        if not self._is_for_next(before):
            after = await self._guarded(self._check_current(before, ledger), before, self._current_failed)
            if not self._record(before, after, ledger):
                return self._after_reload(name)
            if after.history.last_exchange is before.history.last_exchange:
                return _next_check(after)  # postponed
        if after.connection.next or after.history.rotation:
            current, exchanging = after, self._check_next(before, after, ledger)
            after = await self._guarded(exchanging, current, self._next_failed)
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
        status = self._judge(status, status.history, status.credential, exchange)
        self._fleet.put(replace(status, next_exchange=due))

    def _with_history(self, status: ConnectionStatus, found: History, due: datetime) -> ConnectionStatus:
        """The status with this history, whose next check, with either key, is at `due`."""
        connection, now, last = status.connection, self._clock.now(), found.last_exchange
        own_look = rotation.own_look(found, connection, now)
        turn = cadence.next_exchange(connection, found, last.at, refused=self._fleet.refused) if last else due
        return replace(
            status,
            history=found,
            forecast=approval.forecast(connection, found, self._fleet.siblings(connection), now),
            next_exchange=due if own_look is None else max(due, turn),
            next_try=own_look and due,
        )

    async def _guarded(
        self,
        exchanging: Awaitable[ConnectionStatus],
        before: ConnectionStatus,
        otherwise: Callable[[ConnectionStatus, Exception], ConnectionStatus],
    ) -> ConnectionStatus:
        """Catch our own bugs, so that they do not stop other checks."""
        try:
            return await exchanging
        except Exception as fault:
            log.exception("check_failed", connection=before.name)
            return otherwise(before, fault)

    async def _check_current(self, before: ConnectionStatus, ledger: Ledger) -> ConnectionStatus:
        """The status after an exchange with the current key."""
        connection = before.connection
        credential = await self._keyring.load(connection.current)
        known = history.rekeyed(before.history, credential.facts.key, self._clock.now())
        doubted = known.after_login is not None and not known.after_login.proves
        turn = known.exchanges % self._after_login_every == 0
        audit = Audit(self._auditor, connection, known, asked=_is_requested(before))
        try:
            exchange = await probe(
                self._exchanger,
                connection,
                credential,
                take=partial(ledger.take, connection.username),
                first_call=connection.after_login and (turn or doubted),
                inside=audit.inside,
            )
        except PutOff as put_off:
            self._own.logins_deferred.inc()
            until = put_off.until + self._clock.correction()
            return replace(before, history=known, credential=credential.facts, next_exchange=until)
        if exchange.duration_seconds is not None:
            self._own.exchange_duration.observe(exchange.duration_seconds)
        if facts := await audit.finished(exchange, ledger):
            known = replace(known, audit=facts)
        return self._judge(before, known, credential.facts, exchange)

    def _current_failed(self, before: ConnectionStatus, fault: Exception) -> ConnectionStatus:
        """The status after a bug of ours in an exchange with the current key."""
        exchange = Exchange(
            self._clock.machine(), NotSent(f"Internal error in the monitor: {type(fault).__name__}.")
        )
        return self._judge(before, before.history, before.credential, exchange)

    def _is_for_next(self, status: ConnectionStatus) -> bool:
        """Whether only the next key is due, and the current one later."""
        if status.next_try is None or status.next_exchange is None:
            return False
        now, changed = self._clock.now(), self._keyring.stale(status.connection.current)
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
        seen, worth_a_try = rotation.looked_at(
            after.history, connection, after.credential, facts, was, asked, self._clock.now()
        )
        tried = None
        usable = following if following and following.key and worth_a_try else None
        if usable and (take := await ledger.take_next_key(connection.username)):
            with suppress(PutOff):  # it waited too long, and the login is no longer reserved
                tried = (await probe(self._exchanger, connection, usable, take=take)).outcome
        advanced, next_exchange, next_try = rotation.planned(
            seen, connection, was, asked, tried, after.next_exchange, self._clock.now()
        )
        return replace(
            after,
            history=advanced,
            next_credential=facts if following else None,
            next_exchange=next_exchange,
            next_try=next_try,
        )

    def _next_failed(self, after: ConnectionStatus, _: Exception) -> ConnectionStatus:
        """The status after a bug of ours in an exchange with the next key: only its next try is planned."""
        return replace(after, next_try=rotation.own_look(after.history, after.connection, self._clock.now()))

    def _judge(
        self, before: ConnectionStatus, known: History, facts: CredentialFacts, exchange: Exchange
    ) -> ConnectionStatus:
        """The status after an exchange: diagnosis, history, forecast and next check."""
        exchange, now = self._with_confirmed_time(exchange)
        connection, others = before.connection, self._fleet.others(before, exchange)
        served = history.granted(known, exchange.at) if isinstance(exchange.outcome, Granted) else known
        forecast = approval.forecast(connection, served, others.approvals, now)
        verdict = diagnose(
            exchange,
            facts,
            connection,
            known,
            now,
            witnesses=others.witnesses,
            forecast=forecast,
            production=others.production,
            wrong_steps=self._judged.wrong_steps,
        )
        after = history.remember(known, exchange, verdict)
        return replace(
            before,
            history=after,
            credential=facts,
            forecast=None if known.approval_since and not after.approval_since else forecast,
            next_exchange=cadence.next_exchange(connection, after, exchange.at, refused=others.refused),
        )

    def _with_confirmed_time(self, exchange: Exchange) -> tuple[Exchange, datetime]:
        """The exchange with times by the orgs' clocks, and the time for judging dates.

        A single `Date` with a grant that contradicts all others is dropped. While no org has confirmed our
        clock, this one's `Date` is used only for judging dates, so that no wrong time is remembered.
        """
        offset = exchange.clock_offset_seconds
        if offset is not None:
            self._clock.heard(offset)
        correction = self._clock.correction()
        if correction:
            exchange = replace(
                exchange, at=exchange.at + correction, clock_offset_seconds=correction.total_seconds()
            )
            return exchange, exchange.at
        if offset is None or abs(offset) < CLOCK_OFF.total_seconds():
            return exchange, exchange.at
        if not self._clock.is_confirmed:
            return exchange, _shifted(exchange.at, offset)
        granted = isinstance(exchange.outcome, Granted)
        return replace(exchange, clock_offset_seconds=None if granted else offset), exchange.at

    def _record(self, before: ConnectionStatus, after: ConnectionStatus, ledger: Ledger) -> bool:
        """Record the new status and log changes. False if a reload changed the connection meanwhile."""
        if after.name not in self._fleet or self._fleet[after.name].connection != after.connection:
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
        """When to check after a reload meanwhile: at once, unless the connection was removed."""
        return self._clock.now() if name in self._fleet else None


def _is_requested(status: ConnectionStatus) -> bool:
    """Whether the check is earlier than planned: it was requested, or follows another one's recovery.

    Derived from the due time, as another replica may have received the request.
    """
    last, due = status.history.last_exchange, status.next_exchange
    if last is None or due is None:
        return False
    return due + SOONER < cadence.next_exchange(status.connection, status.history, last.at)


def _next_check(status: ConnectionStatus) -> datetime | None:
    return min((at for at in (status.next_exchange, status.next_try) if at), default=None)


def _shifted(moment: datetime, seconds: float) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:  # a `Date` close to year 9999
        return moment


def _older(found: History, known: History) -> bool:
    """Whether another replica's result is older than ours."""
    return found.first_seen == known.first_seen and found.exchanges < known.exchanges
