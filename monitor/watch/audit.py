"""When an org is asked about the steps of the guide, and by whose token: its own, an observer's, or both.

An audit goes along with a check. It is made once a day and after a refusal that turned to a grant; with an
observer also while the connection is refused.
"""

from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

import structlog

from monitor.core.connection import Connection
from monitor.core.history import History
from monitor.core.inside import QUERIES, Facts
from monitor.core.outcome import Exchange, Granted, Refused
from monitor.keys.sources import Keyring
from monitor.salesforce import org
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.org import CALLS, Get, Subject
from monitor.salesforce.probe import PutOff, probe
from monitor.watch.budget import Ledger
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics

EVERY = timedelta(days=1)
"""Policies and permission sets change rarely, and each audit takes calls from the org's allocation."""

AT_LEAST_BETWEEN = timedelta(hours=1)
"""However often a connection recovers, or is refused anew."""

AUDITS_PER_MINUTE = 60
"""Of a whole fleet: a first configuration, or a night without the daemon, makes all of them due at once.
10,000 connections have theirs within three hours, and the next ones as far apart. Our own choice."""

log = structlog.get_logger()

Audits = Literal["when due", "always", "never"]


class Auditor:
    """Begins an audit with each check for which it is time."""

    def __init__(
        self, *, keyring: Keyring, exchanger: Exchanger, clock: Clock, own: OwnMetrics, audits: Audits
    ) -> None:
        self.keyring, self.exchanger, self.clock, self.own = keyring, exchanger, clock, own
        self._audits = audits
        self._begun: deque[float] = deque(maxlen=AUDITS_PER_MINUTE)
        """When the last of them began, by the steady clock."""

    def audit(self, connection: Connection, known: History) -> "Audit":
        """The audit that may go along with a check."""
        return Audit(self, connection, known)

    def is_time(self, connection: Connection, known: History, *, granted: bool) -> bool:
        """Whether one is to be made after this login, and there is room for it."""
        last, now = known.audit, self.clock.now()
        if not connection.audit or self._audits == "never" or not (granted or connection.observer):
            return False
        recovered = granted and known.failing_since is not None
        unseen = not granted and last is not None and last.at < (known.failing_since or now)
        if self._audits == "when due" and last is not None:
            age = now - last.at
            if age < (AT_LEAST_BETWEEN if recovered or unseen else EVERY):
                return False
        steady = self.clock.steady()
        if len(self._begun) == AUDITS_PER_MINUTE and steady - self._begun[0] < 60:
            return False
        self._begun.append(steady)
        return True


class Audit:
    """One audit beside one check."""

    def __init__(self, auditor: Auditor, connection: Connection, known: History) -> None:
        self._auditor, self._connection, self._known = auditor, connection, known
        self._subject: Subject | None = None
        self._facts: Facts | None = None

    async def inside(self, granted: Granted, at: datetime, get: Get) -> None:
        """Reads with the connection's own token."""
        if not self._auditor.is_time(self._connection, self._known, granted=True):
            return
        known = self._known
        recovered = isinstance(known.last_verdict and known.last_verdict.outcome, Refused)
        self._subject = self._of(
            at, granted.user_id, scopes=granted.scopes, since=known.last_success if recovered else None
        )
        begun = Facts(self._auditor.clock.now(), observer=self._observer_name)
        try:
            self._facts = await org.read(get, self._subject, begun, own_alone=bool(begun.observer))
        except Exception:  # a bug of ours here may not cost the verdict on a login that was granted
            log.exception("audit_failed", connection=self._connection.name)

    async def finished(self, exchange: Exchange, ledger: Ledger) -> Facts | None:
        """All that it read, with an observer's eyes as well; None where it was not its time."""
        connection, known = self._connection, self._known
        refused = isinstance(exchange.outcome, Refused) and exchange.outcome.status < 500
        if refused and self._auditor.is_time(connection, known, granted=False):
            at = exchange.at + timedelta(seconds=exchange.clock_offset_seconds or 0)
            self._subject = self._of(at, None, since=known.last_success)
            self._facts = Facts(self._auditor.clock.now(), observer=self._observer_name)
        if self._facts and self._subject and connection.observer:
            await self._observed(connection.observer, self._facts, self._subject, ledger)
        if self._facts:
            self._auditor.own.audit_calls.inc(self._facts.calls)
        return self._facts

    @property
    def _observer_name(self) -> str:
        return self._connection.observer.name if self._connection.observer else ""

    def _of(
        self,
        at: datetime,
        user_id: str | None,
        *,
        scopes: frozenset[str] | None = None,
        since: datetime | None,
    ) -> Subject:
        connection = self._connection
        return Subject(
            username=connection.username,
            app=connection.app or (self._known.audit.application if self._known.audit else ""),
            user_id=user_id or self._known.identity.user_id or "",
            exchanged=at,
            granted=user_id is not None,
            scopes=scopes,
            changes_since=since,
        )

    async def _observed(self, observer: Connection, facts: Facts, subject: Subject, ledger: Ledger) -> None:
        """Go on with the observer's token; where there is none, say so."""
        auditor, mine = self._auditor, self._known.identity.org_id
        credential = await auditor.keyring.load(observer.current)
        problem = f"the observer {observer.name} was not granted a token"

        async def inside(granted: Granted, _at: datetime, get: Get) -> None:
            nonlocal problem
            if mine and granted.org_id and granted.org_id[:15] != mine[:15]:
                problem = f"the observer {observer.name} logs in to another org"
                return
            self._facts = await org.read(get, subject, facts, calls=CALLS - facts.calls)
            problem = ""

        try:
            take = partial(ledger.take, observer.username)
            await probe(auditor.exchanger, observer, credential, take=take, inside=inside)
        except PutOff:
            auditor.own.logins_deferred.inc()
        if problem:
            unread = {one: problem for one in QUERIES if one not in facts.rows}
            self._facts = replace(facts, unread=unread)
