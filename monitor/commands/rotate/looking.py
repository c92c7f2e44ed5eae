"""Looks at the next key, gently, until the org accepts it."""

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
from monitor.core.outcome import Granted
from monitor.core.verdict.diagnosis import diagnose
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.probe import probe
from monitor.watch.budget import LoginBudget
from monitor.watch.clock import Clock

PACE = timedelta(minutes=1)
"""Between two looks at first: a certificate takes 2 to 10 minutes to spread (setup guide, step 2)."""

AT_FIRST = timedelta(minutes=20)

LATER_PACE = timedelta(minutes=5)
"""After that: most likely nobody has uploaded it yet, and each look is a refused login."""

LONGEST = timedelta(hours=2)
"""After that somebody goes on another day: it takes up where it stopped."""

TICK_SECONDS = 0.25
"""How often it is seen whether the next look is due, or somebody wants to stop."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look came to."""

    at: datetime
    stage: Stage
    verdict: Diagnosis
    """On the next key."""
    current: bool | None
    """Whether the current key is accepted; None where that is not known."""

    @property
    def accepted(self) -> bool:
        """Whether the integration should use the next key."""
        return self.stage in {Stage.ACCEPTED, Stage.CURRENT_REFUSED}

    def told(self) -> str:
        """One line for a person."""
        if self.accepted:
            return "The next key is accepted."
        if self.verdict.cause is None:
            return "Some servers accept the next key: its certificate is spreading."
        if CATALOGUE[self.verdict.cause].refuses_signature:
            return "The next key is not accepted yet."
        said = self.verdict.findings[0].evidence[:1]
        return ": ".join(("Could not test the next key", self.verdict.cause, *said))


class Watcher:
    """Looks at the next key of one connection, and at the current one where that tells more."""

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
        """Look until the next key is accepted, it was long enough, or somebody stops. Gives the last look.

        `tell` is told of each look, and when the next one is.
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
        """Take a login at this moment, or at the first one after it at which the budget has one."""
        while later := self._budget.take(self._connection.username, at):
            at = later
        return at

    async def _look(self, current: Credential, following: Credential) -> Look:
        connection, now = self._connection, self._clock.now()
        self._history = rotation.seen(self._history, connection, current.facts, following.facts, now)
        tried = await probe(self._exchanger, connection, following)
        was = self._history.last_verdict
        wanted = isinstance(tried.outcome, Granted) or was is None
        left = wanted and self._budget.take(connection.username, now) is None
        asked = await probe(self._exchanger, connection, current) if left else None
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
