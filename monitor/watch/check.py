"""One check of one connection, in one direction: look, diagnose, remember, plan the next look.

Where a next key is prepared, a second look follows with that one, after the first was kept. One net is around
each look: our own fault is logged, counted, and shown as `monitor_fault` at the connection that it hit; the
next check runs.
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
from monitor.watch.audit import Auditor, Audits
from monitor.watch.budget import Ledger
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics

AFTER_LOGIN_EVERY = 6
"""One exchange in so many is followed by a REST call: that counts against the API allocation, and keeps the
session alive that production shares, so it is made now and then only. At 5 minutes that is twice an hour."""

SOONER = timedelta(seconds=1)
"""By so much a check must be brought forward to be one that was asked for: what replicas say to each other of
due times is exact to less."""

log = structlog.get_logger()


class Checker:
    """Checks connections of a fleet, one at a time for each name."""

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
        """`changed` is told how a connection was and is, after each check, here or by another replica."""
        self._changed = changed
        self._fleet = fleet
        self._keyring = keyring
        self._exchanger = exchanger
        self._clock = clock
        self._own = own
        self._after_login_every = after_login_every
        self._auditor = Auditor(keyring=keyring, exchanger=exchanger, clock=clock, own=own, audits=audits)

    async def check(self, name: str, ledger: Ledger) -> datetime | None:
        """Check the connection of this name, and give the moment of the next look; None where it is gone."""
        if name not in self._fleet or self._fleet[name].connection.paused:
            return None
        after = before = self._fleet[name]
        if not self._is_for_next(before):
            after = await self._caught(self._current_looked_at(before, ledger), before, self._failed)
            if not self._kept(before, after, ledger):
                return self._again(name)
            if after.history.last_exchange is before.history.last_exchange:
                return _next_look(after)  # put off
        if after.connection.next or after.history.rotation:
            current, look = after, self._next_looked_at(before, after, ledger)
            after = await self._caught(look, current, self._left)
            if not self._kept(current, after, ledger):
                return self._again(name)
        return _next_look(after)

    def taken_on(self, name: str, known: History | None, ledger: Ledger) -> None:
        """Write down what a configuration brought: a connection first seen, or another address or user.

        `known` is what was remembered before it was taken on.
        """
        history_now = self._fleet[name].history
        if history_now != known:
            ledger.keep(name, history_now, history.changes(known, history_now))

    def taken_over(self, name: str, known: History | None, due: datetime, ledger: Ledger) -> None:
        """Begin a check where another replica may have made the last one: with what is remembered now."""
        status, now = self._fleet[name], self._clock.now()
        begun = history.reconfigured(known or history.begin(status.connection, now), status.connection, now)
        self._fleet.put(self._remembered(status, begun, due))
        self.taken_on(name, known, ledger)

    async def heard(self, name: str, found: History, due: datetime) -> None:
        """Show what another replica found, as if it had been found here."""
        connection = self._fleet[name].connection
        current = (await self._keyring.load(connection.current)).facts
        following = (await self._keyring.load(connection.next)).facts if connection.next else None
        if name not in self._fleet:
            return
        status = self._fleet[name]
        if status.connection == connection and not _older(found, status.history):
            after = self._remembered(status, found, due)
            self._fleet.put(replace(after, credential=current, next_credential=following))
            self._changed(status, after)

    def unreadable(self, name: str, why: str, due: datetime) -> None:
        """Show that a connection is not checked here, as what is remembered of it can't be read."""
        status = self._fleet[name]
        outcome = NotSent(f"Its history can't be read by this version: {why}")
        if status.history.last_exchange is None or status.history.last_exchange.outcome != outcome:
            log.error("history_unreadable", connection=name, reason=why)
        exchange = Exchange(self._clock.now(), outcome)
        status = self._judged(status, status.history, status.credential, exchange)
        self._fleet.put(replace(status, next_exchange=due))

    def _remembered(self, status: ConnectionStatus, found: History, due: datetime) -> ConnectionStatus:
        """The status as a history leaves it, whose next appointment, for whichever key, is at `due`."""
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

    async def _caught(
        self,
        look: Awaitable[ConnectionStatus],
        before: ConnectionStatus,
        otherwise: Callable[[ConnectionStatus, Exception], ConnectionStatus],
    ) -> ConnectionStatus:
        """The one net: no bug of ours in a look may stop the other checks."""
        try:
            return await look
        except Exception as fault:
            log.exception("check_failed", connection=before.name)
            return otherwise(before, fault)

    async def _current_looked_at(self, before: ConnectionStatus, ledger: Ledger) -> ConnectionStatus:
        """The status after a look with the current key."""
        connection = before.connection
        credential = await self._keyring.load(connection.current)
        known = history.rekeyed(before.history, credential.facts.key, self._clock.now())
        doubted = known.after_login is not None and bool(known.after_login.error)
        turn = known.exchanges % self._after_login_every == 0
        audit = self._auditor.audit(connection, known, asked=_is_asked_for(before))
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
        return self._judged(before, known, credential.facts, exchange)

    def _failed(self, before: ConnectionStatus, fault: Exception) -> ConnectionStatus:
        """The status after a look at the current key in which we failed ourselves."""
        exchange = Exchange(
            self._clock.machine(), NotSent(f"The monitor itself failed: {type(fault).__name__}.")
        )
        return self._judged(before, before.history, before.credential, exchange)

    def _is_for_next(self, status: ConnectionStatus) -> bool:
        """Whether the appointment is one of the next key's own, and the current one has its turn later."""
        if status.next_try is None or status.next_exchange is None:
            return False
        now, changed = self._clock.now(), self._keyring.stale(status.connection.current)
        return status.next_try <= now < status.next_exchange and not changed

    async def _next_looked_at(
        self, before: ConnectionStatus, after: ConnectionStatus, ledger: Ledger
    ) -> ConnectionStatus:
        """The status after a look with the next key. The verdict on the current key stays as it is.

        `before` is from before the look with the current key, if there was one, and `after` what that left.
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
            with suppress(PutOff):  # it waited for its turn, and the login is no longer its own
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

    def _left(self, after: ConnectionStatus, _: Exception) -> ConnectionStatus:
        """The status after a look at the next key in which we failed: only its next try is planned."""
        return replace(after, next_try=rotation.own_look(after.history, after.connection, self._clock.now()))

    def _judged(
        self, before: ConnectionStatus, known: History, facts: CredentialFacts, exchange: Exchange
    ) -> ConnectionStatus:
        """The status that an exchange leaves: diagnosed, remembered, forecast, with the next look."""
        exchange, now = self._in_true_time(exchange)
        connection, others = before.connection, self._fleet.others(before, exchange)
        served = history.granted(known, exchange.at) if isinstance(exchange.outcome, Granted) else known
        forecast = approval.forecast(connection, served, others.approvals, now)
        verdict = diagnose(
            exchange, facts, connection, known, now, witnesses=others.witnesses, forecast=forecast
        )
        after = history.remember(known, exchange, verdict)
        return replace(
            before,
            history=after,
            credential=facts,
            forecast=None if known.approval_since and not after.approval_since else forecast,
            next_exchange=cadence.next_exchange(connection, after, exchange.at, refused=others.refused),
        )

    def _in_true_time(self, exchange: Exchange) -> tuple[Exchange, datetime]:
        """The exchange as it was by the orgs' clocks, and the moment by which dates are to be judged.

        What one `Date` beside a grant says against all others is dropped. While no org has confirmed any
        time, what this one says counts for the dates alone: nothing false may be remembered.
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

    def _kept(self, before: ConnectionStatus, after: ConnectionStatus, ledger: Ledger) -> bool:
        """Keep the new status and log what changed. False where a reload changed the connection meanwhile."""
        if after.name not in self._fleet or self._fleet[after.name].connection != after.connection:
            return False
        self._fleet.put(after)
        events = history.changes(before.history, after.history)
        ledger.keep(after.name, after.history, events)
        # Of a connection that is well from the start the watch tells in one line about all.
        usual = log.debug if not before.history.exchanges and after.state is State.HEALTHY else log.info
        for event in events:
            tell = log.warning if event.failure else usual
            tell(event.kind, connection=after.name, cause=event.cause, text=event.text)
        self._changed(before, after)
        return True

    def _again(self, name: str) -> datetime | None:
        """When to look after a reload came in between: at once, unless the connection is gone."""
        return self._clock.now() if name in self._fleet else None


def _is_asked_for(status: ConnectionStatus) -> bool:
    """Whether the check comes sooner than planned: somebody asked for it, or another one was put right.

    With replicas another one may have heard the wish, so it is read from the due time.
    """
    last, due = status.history.last_exchange, status.next_exchange
    if last is None or due is None:
        return False
    return due + SOONER < cadence.next_exchange(status.connection, status.history, last.at)


def _next_look(status: ConnectionStatus) -> datetime | None:
    return min((at for at in (status.next_exchange, status.next_try) if at), default=None)


def _shifted(moment: datetime, seconds: float) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:  # a `Date` at the end of the calendar
        return moment


def _older(found: History, known: History) -> bool:
    """Whether what another replica found was found before what is known here."""
    return found.first_seen == known.first_seen and found.exchanges < known.exchanges
