"""One check of one connection: credential, assertion, exchange, diagnosis, memory. Where core and I/O meet.

One net is around each check: our own fault is logged, counted, and shown as `monitor_fault` at the connection
that it hit; the next check runs.
"""

from array import array
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog

from monitor.clock import Clock
from monitor.core import approval, cadence, history, rotation
from monitor.core.assertion import sign
from monitor.core.connection import Connection
from monitor.core.credential import Credential, CredentialFacts
from monitor.core.diagnosis import diagnose
from monitor.core.history import Event, History
from monitor.core.outcome import Exchange, NotSent, Outcome
from monitor.core.status import ConnectionStatus
from monitor.exchange import Exchanger
from monitor.fleet import Fleet
from monitor.metrics import OwnMetrics
from monitor.secret_sources import Keyring

AFTER_LOGIN_EVERY = 6
"""One exchange in so many is followed by a REST call: that counts against the API allocation, and keeps the
session alive that production shares, so it is made now and then only. At 5 minutes that is twice an hour."""

HOUR_SECONDS = 3600.0

Keep = Callable[[str, History, tuple[Event, ...]], None]
"""Writes a connection's history down, with what happened; must neither wait nor raise."""

TakeNextKey = Callable[[str, datetime], Awaitable[bool]]
"""Takes one login for a try of a username's next key. Whether there was one."""

log = structlog.get_logger()


class Budget(Protocol):
    """How many logins of each username are left."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login. Gives None where there was one, else the moment at which to ask again."""


class LoginBudget:
    """How many logins of one username are left."""

    def __init__(self, per_hour: int) -> None:
        self.per_hour = per_hour
        self._logins: dict[str, array[float]] = {}
        """Unix times; an array of them is a quarter of the size of a list, for thousands of usernames."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login. Gives None where there was one, else the moment at which there is one again."""
        logins = self._logins.setdefault(username.lower(), array("d"))  # as Salesforce compares them
        second = now.timestamp()
        while logins and second - logins[0] >= HOUR_SECONDS:
            logins.pop(0)
        if len(logins) >= self.per_hour:
            return datetime.fromtimestamp(logins[0] + HOUR_SECONDS, UTC)
        logins.append(second)
        return None


class _PutOff(Exception):  # noqa: N818 # no error: the check is made later
    """There is no login for this check before `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


class Checker:
    """Checks connections of a fleet, one at a time for each name."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        keyring: Keyring,
        exchanger: Exchanger,
        keep: Keep,
        clock: Clock,
        budget: Budget,
        own: OwnMetrics,
        take_next_key: TakeNextKey | None = None,
        after_login_every: int = AFTER_LOGIN_EVERY,
    ) -> None:
        self._fleet = fleet
        self._keyring = keyring
        self._exchanger = exchanger
        self._keep = keep
        self._clock = clock
        self._budget = budget
        self._take_next_key = take_next_key or _taken_here()
        self._own = own
        self._after_login_every = after_login_every

    async def check(self, name: str) -> datetime | None:
        """Check the connection of this name, and give the moment of the next look; None where it is gone."""
        if name not in self._fleet or self._fleet[name].connection.paused:
            return None
        before = self._fleet[name]
        try:
            after = await (self._next_looked_at if self._is_for_next(before) else self._checked)(before)
        except Exception as fault:  # the one net: no bug of ours may stop the other checks
            log.exception("check_failed", connection=name)
            exchange = Exchange(
                self._clock.now(), NotSent(f"The monitor itself failed: {type(fault).__name__}.")
            )
            after = self._judged(before, before.history, before.credential, exchange)
        return self._kept(before, after)

    def taken_on(self, name: str, known: History | None) -> None:
        """Write down what a configuration brought: a connection first seen, or another address or user.

        `known` is what was remembered before it was taken on.
        """
        history_now = self._fleet[name].history
        if history_now != known:
            self._keep(name, history_now, history.changes(known, history_now))

    def taken_over(self, name: str, known: History | None, due: datetime) -> None:
        """Begin a check where another replica may have made the last one: with what is remembered now."""
        status, now = self._fleet[name], self._clock.now()
        begun = history.reconfigured(known or history.begin(status.connection, now), status.connection, now)
        self._fleet.put(self._remembered(status, begun, due))
        self.taken_on(name, known)

    async def heard(self, name: str, found: History, due: datetime) -> None:
        """Show what another replica found, as if it had been found here."""
        connection = self._fleet[name].connection
        current = (await self._keyring.load(connection.current)).facts
        following = (await self._keyring.load(connection.next)).facts if connection.next else None
        if name not in self._fleet:
            return
        status = self._fleet[name]
        if status.connection == connection and not _older(found, status.history):
            status = self._remembered(status, found, due)
            self._fleet.put(replace(status, credential=current, next_credential=following))

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

    async def _checked(self, before: ConnectionStatus) -> ConnectionStatus:
        """The status after one check; nothing is kept yet."""
        connection = before.connection
        credential = await self._keyring.load(connection.current)
        now = self._clock.now()
        known = history.rekeyed(before.history, credential.facts.key, now)
        if credential.key is None:
            exchange = Exchange(now, NotSent("No usable private key."))
            before, known = await self._beside(before, known, credential.facts, exchange.outcome)
            return self._judged(before, known, credential.facts, exchange)
        try:
            exchange = await self._exchanged(connection, credential, known)
        except _PutOff as put_off:
            self._own.logins_deferred.inc()
            return replace(before, history=known, credential=credential.facts, next_exchange=put_off.until)
        before, known = await self._beside(before, known, credential.facts, exchange.outcome)
        return self._judged(before, known, credential.facts, exchange)

    def _is_for_next(self, status: ConnectionStatus) -> bool:
        """Whether the appointment is one of the next key's own, and the current one has its turn later."""
        if status.next_try is None or status.next_exchange is None:
            return False
        now, changed = self._clock.now(), self._keyring.stale(status.connection.current)
        return status.next_try <= now < status.next_exchange and not changed

    async def _next_looked_at(self, before: ConnectionStatus) -> ConnectionStatus:
        """The status after a look at the next key alone."""
        before, known = await self._beside(before, before.history, before.credential, None)
        own_look = rotation.own_look(known, before.connection, self._clock.now())
        return replace(before, history=known, next_try=own_look)

    async def _beside(
        self, before: ConnectionStatus, known: History, current: CredentialFacts, outcome: Outcome | None
    ) -> tuple[ConnectionStatus, History]:
        """Facts of the next pair, and where the rotation stands, after this answer to the current key.

        Has a net of its own: whatever goes wrong here, the verdict on the current key stands.
        """
        connection = before.connection
        if connection.next is None:
            if known.rotation:
                known = rotation.seen(known, connection, current, CredentialFacts(), self._clock.now())
            return replace(before, next_credential=None), known
        try:
            following = await self._keyring.load(connection.next)
            now = self._clock.now()
            seen = rotation.seen(known, connection, current, following.facts, now)
            tried = await self._tried(connection, following, seen, outcome)
            advanced = rotation.advanced(seen, connection, outcome, tried, now)
            return replace(before, next_credential=following.facts), advanced
        except Exception:  # a bug of ours here is no fault of the connection's
            log.exception("next_key_failed", connection=connection.name)
            return before, known

    async def _tried(
        self, connection: Connection, following: Credential, seen: History, outcome: Outcome | None
    ) -> Outcome | None:
        """What one exchange with the next key came to; None where it is not its time."""
        now = self._clock.now()
        if following.key is None or not rotation.due(seen, connection, outcome, now):
            return None
        if not await self._take_next_key(connection.username, now):
            return None
        exchange = await self._exchanger.exchange(
            connection, partial(sign, connection, following.key), after_login=False
        )
        return exchange.outcome

    async def _exchanged(self, connection: Connection, credential: Credential, known: History) -> Exchange:
        key = credential.key
        assert key is not None

        def signed(at: datetime) -> str:
            # Asked only now, as a replica may have slept since the check began, and its turn be another's.
            if free_again := self._budget.take(connection.username, at):
                raise _PutOff(free_again)
            return sign(connection, key, at)

        doubted = known.after_login is not None and bool(known.after_login.error)
        turn = known.exchanges % self._after_login_every == 0
        exchange = await self._exchanger.exchange(
            connection,
            signed,
            after_login=connection.after_login and (turn or doubted),
        )
        if exchange.duration_seconds is not None:
            self._own.exchange_duration.observe(exchange.duration_seconds)
        return exchange

    def _judged(
        self, before: ConnectionStatus, known: History, facts: CredentialFacts, exchange: Exchange
    ) -> ConnectionStatus:
        """The status that an exchange leaves: diagnosed, remembered, forecast, with the next look."""
        connection, now = before.connection, exchange.at
        siblings = self._fleet.siblings(connection)
        verdict = diagnose(
            exchange,
            facts,
            connection,
            known,
            now,
            witnesses=self._fleet.witnesses(before, exchange),
            siblings=siblings,
        )
        after = history.remember(known, exchange, verdict)
        return replace(
            before,
            history=after,
            credential=facts,
            forecast=approval.forecast(connection, after, siblings, now),
            next_exchange=cadence.next_exchange(connection, after, now, refused=self._fleet.refused),
            next_try=rotation.own_look(after, connection, now),
        )

    def _kept(self, before: ConnectionStatus, after: ConnectionStatus) -> datetime | None:
        """Keep the new status, tell of what changed, and give the moment of the next look.

        A reload that came in between decides what is configured, and whether the connection is still there.
        """
        if after.name not in self._fleet:
            return None
        current = self._fleet[after.name].connection
        if current != after.connection:
            return self._clock.now()
        self._fleet.put(after)
        events = history.changes(before.history, after.history)
        self._keep(after.name, after.history, events)
        shown, shown_before = after.history.assignments, before.history.assignments
        if shown and shown.refused and shown != shown_before:
            log.warning("permission_sets_not_shown", connection=after.name, text=shown.refused)
        for event in events:
            tell = log.warning if event.failure else log.info
            tell(event.kind, connection=after.name, cause=event.cause, text=event.text)
        return min((at for at in (after.next_exchange, after.next_try) if at), default=None)


def _taken_here() -> TakeNextKey:
    """The budget for tries of next keys where there is no other daemon."""
    budget = LoginBudget(rotation.LOGINS_PER_HOUR)

    async def take(username: str, now: datetime) -> bool:
        return budget.take(username, now) is None

    return take


def _older(found: History, known: History) -> bool:
    """Whether what another replica found was found before what is known here."""
    theirs, ours = found.last_exchange, known.last_exchange
    return theirs is not None and ours is not None and theirs.at < ours.at
