"""Tries the next key at a slow pace until the org accepts it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from monitor.core import history, rotation
from monitor.core.catalogue import CATALOGUE
from monitor.core.connection import Connection
from monitor.core.finding import Diagnosis
from monitor.core.history import Stage
from monitor.core.keys.credential import Credential
from monitor.core.verdict.diagnosis import diagnose
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.probe import probe
from monitor.watch.budget import LoginBudget
from monitor.watch.clock import Clock

PACE = timedelta(minutes=1)
"""Between tries at first: a certificate takes 2 to 10 minutes to propagate (setup guide, step 2)."""

AT_FIRST = timedelta(minutes=20)

LATER_PACE = timedelta(minutes=5)
"""Later: it has probably not been uploaded yet, and each try is a refused login."""

LONGEST = timedelta(hours=2)
"""When to give up; the user can continue another day."""

TICK_SECONDS = 0.25
"""How often to check whether a try is due or the user wants to stop."""


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one try."""

    at: datetime
    stage: Stage
    verdict: Diagnosis
    """Of the next key."""
    current: bool | None
    """Whether the current key is accepted; None if unknown."""

    @property
    def accepted(self) -> bool:
        """Whether the integration should use the next key."""
        return self.stage in {Stage.ACCEPTED, Stage.CURRENT_REFUSED}

    def line(self) -> str:
        """One line of text."""
        if self.accepted:
            return "The next key is accepted."
        if self.verdict.cause is None:
            return "Some servers accept the next key: its certificate is propagating."
        if CATALOGUE[self.verdict.cause].refuses_signature:
            return "The next key is not accepted yet."
        said = self.verdict.findings[0].evidence[:1]
        return ": ".join(("Could not test the next key", self.verdict.cause, *said))


class Watcher:
    """Tries a connection's next key, and the current one if that adds information."""

    def __init__(self, connection: Connection, exchanger: Exchanger, clock: Clock, per_hour: int) -> None:
        self._connection = connection
        self._exchanger = exchanger
        self._clock = clock
        self._budget = LoginBudget(per_hour, clock)
        self._history = history.begin(connection, clock.now())

    async def until_accepted(
        self,
        current: Credential,
        following: Credential,
        *,
        tell: Callable[[Look, datetime], None],
        stop: asyncio.Event,
    ) -> Look:
        """Try until the next key is accepted, LONGEST has passed, or `stop` is set. Gives the last look.

        Calls `tell` with each look and the time of the next.
        """
        stopping = asyncio.create_task(stop.wait())
        began = self._turn(self._clock.now())
        look = await self._look(current, following)
        while not (look.accepted or stop.is_set() or look.at - began >= LONGEST):
            due = self._turn(look.at + (PACE if look.at - began < AT_FIRST else LATER_PACE))
            tell(look, due)
            while self._clock.now() < due and not stop.is_set():
                await asyncio.wait([stopping], timeout=TICK_SECONDS)
            if not stop.is_set():
                look = await self._look(current, following)
        stopping.cancel()
        return look

    def _turn(self, at: datetime) -> datetime:
        """The first time from `at` on at which the budget has a login; takes it."""
        while later := self._budget.take(self._connection.username, at):
            at = later
        return at

    async def _look(self, current: Credential, following: Credential) -> Look:
        connection, now = self._connection, self._clock.now()
        self._history = rotation.with_pairs(self._history, connection, current.facts, following.facts, now)
        async with probe(self._exchanger, connection, following) as login:
            tried, asked = login.exchange, None
        was = self._history.last_verdict
        wanted = tried.granted or was is None
        if wanted and self._budget.take(connection.username, now) is None:
            async with probe(self._exchanger, connection, current) as login:
                asked = login.exchange
        advanced = rotation.advanced(
            self._history, connection, was, asked.outcome if asked else None, tried.outcome, now
        )
        if asked and rotation.proven(asked.outcome, connection) is not None:
            advanced = replace(advanced, last_verdict=asked)
        self._history = advanced
        assert advanced.rotation is not None
        verdict = diagnose(tried, following.facts, connection, history.unknown(connection), tried.at)
        last = advanced.last_verdict
        taken = rotation.proven(last.outcome, connection) if last else None
        return Look(now, advanced.rotation.stage, verdict, taken)
