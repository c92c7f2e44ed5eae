"""When an org is asked about the steps of the guide, and by whose token: its own, an observer's, or both.

An audit goes along with a check. It is made once a day, with a check that somebody asks for, and after a
refusal that turned to a grant; with an observer also while the connection is refused.
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
from monitor.salesforce.org import CALLS, Get, Reply, Subject
from monitor.salesforce.probe import PutOff, probe
from monitor.watch.budget import Ledger
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics

EVERY = timedelta(days=1)
"""Policies and permission sets change rarely, and each audit takes calls from the org's allocation."""

AT_LEAST_BETWEEN = timedelta(hours=1)
"""However often a connection recovers, or is refused again."""

ASKED_A_DAY = 3
"""With checks that somebody asks for: three tries at a repair. Our own choice."""

AUDITS_PER_MINUTE = 60
"""Of a whole fleet, beside those asked for: a first configuration, or a night without the daemon, makes all
of them due at once. 10,000 connections have theirs within three hours, and the next ones as far apart. Our
own choice."""

ASKING_SECONDS = 30.0
"""After so many spent on an audit's GETs no other is begun: slow answers may not hold a place in flight for
minutes. The last one may still take as long as any answer may. Our own choice."""

KEPT = timedelta(days=7)
"""How long an audit outlives later ones that failed: longer than an outage or an observer's absence over a
weekend; what was read before may have changed. Our own choice."""

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
        self.failed: dict[str, tuple[Connection, datetime]] = {}
        """The last attempt of each connection from which nothing was kept, and for what configuration."""

    def audit(self, connection: Connection, known: History, *, asked: bool = False) -> "Audit":
        """The audit that may go along with a check; `asked`: somebody asked for the check."""
        return Audit(self, connection, known, asked=asked)

    def is_time(self, connection: Connection, known: History, *, granted: bool, asked: bool) -> bool:
        """Whether one is to be made after this login, and there is room for it."""
        now, last = self.clock.now(), known.audit.at if known.audit else None
        tried_for, tried = self.failed.get(connection.name, (None, now))
        if tried_for == connection:
            last = max(last or tried, tried)
            asked = False
        if not connection.audit or self._audits == "never" or not (granted or connection.observer):
            return False
        asked = asked and known.audit is not None and known.audit.asked < ASKED_A_DAY
        recovered = granted and known.failing_since is not None
        unseen = not granted and last is not None and last < (known.failing_since or now)
        if self._audits == "when due" and last is not None and not asked:
            age = now - last
            if age < (AT_LEAST_BETWEEN if recovered or unseen else EVERY):
                return False
        steady = self.clock.steady()
        if not asked and len(self._begun) == AUDITS_PER_MINUTE and steady - self._begun[0] < 60:
            return False
        self._begun.append(steady)
        self.failed[connection.name] = connection, now
        return True


class Audit:
    """One audit beside one check."""

    def __init__(self, auditor: Auditor, connection: Connection, known: History, *, asked: bool) -> None:
        self._auditor, self._connection, self._known, self._asked = auditor, connection, known, asked
        self._subject: Subject | None = None
        self._facts: Facts | None = None
        self._asked_seconds, self._unanswered = 0.0, False

    async def inside(self, granted: Granted, at: datetime, get: Get) -> None:
        """Reads with the connection's own token."""
        if not self._auditor.is_time(self._connection, self._known, granted=True, asked=self._asked):
            return
        known = self._known
        recovered = isinstance(known.last_verdict and known.last_verdict.outcome, Refused)
        self._subject = self._of(
            at, granted.user_id, scopes=granted.scopes, since=known.last_success if recovered else None
        )
        begun = self._begun()
        try:
            self._facts = await org.read(
                self._within_bounds(get), self._subject, begun, own_alone=bool(begun.observer)
            )
        except Exception:  # a bug of ours here may not cost the verdict on a login that was granted
            log.exception("audit_failed", connection=self._connection.name)

    async def finished(self, exchange: Exchange, ledger: Ledger) -> Facts | None:
        """All that it read, with an observer's eyes as well.

        None where it was not its time, or where the last one saw more than this one, which failed.
        """
        connection, known = self._connection, self._known
        refused = isinstance(exchange.outcome, Refused) and exchange.outcome.status < 500
        if refused and self._auditor.is_time(connection, known, granted=False, asked=self._asked):
            at = exchange.at + timedelta(seconds=exchange.clock_offset_seconds or 0)
            self._subject = self._of(at, None, since=known.last_success)
            self._facts = self._begun()
        if self._facts and self._subject and connection.observer:
            await self._observed(connection.observer, self._facts, self._subject, ledger)
        if self._facts is None:
            return None
        if self._saw_less(self._facts, known.audit):
            log.warning(
                "audit_incomplete", connection=connection.name, reasons=sorted({*self._facts.unread.values()})
            )
            return None
        self._auditor.failed.pop(connection.name, None)
        return self._facts

    def _saw_less(self, facts: Facts, last: Facts | None) -> bool:
        """Whether this audit failed, and what the last one saw is still believed."""
        if last is None or not last.rows or facts.at - last.at > KEPT:
            return False
        return not facts.rows or (self._unanswered and not last.rows.keys() <= facts.rows.keys())

    def _within_bounds(self, get: Get) -> Get:
        """The same GET, counted; not made where the time for all of them is over."""

        async def bounded(path: str) -> Reply | None:
            begun = self._auditor.clock.steady()
            reply = None
            if self._asked_seconds < ASKING_SECONDS:
                self._auditor.own.audit_calls.inc()
                reply = await get(path)
                self._asked_seconds += self._auditor.clock.steady() - begun
            self._unanswered = self._unanswered or reply is None or reply.status >= 500
            return reply

        return bounded

    def _begun(self) -> Facts:
        now, last, observer = self._auditor.clock.now(), self._known.audit, self._connection.observer
        again = self._asked and last is not None and now - last.at < EVERY
        return Facts(
            now,
            observer=observer.name if observer else "",
            app=self._connection.app,
            asked=last.asked + 1 if last and again else 0,
        )

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
        problem = f"the observer {observer.name} was not granted a token"

        async def inside(granted: Granted, _at: datetime, get: Get) -> None:
            nonlocal problem
            if mine and granted.org_id and granted.org_id[:15] != mine[:15]:
                problem = f"the observer {observer.name} logs in to another org"
                return
            self._facts = await org.read(self._within_bounds(get), subject, facts, calls=CALLS - facts.calls)
            problem = ""

        try:
            credential = await auditor.keyring.load(observer.current)
            take = partial(ledger.take, observer.username)
            await probe(auditor.exchanger, observer, credential, take=take, inside=inside)
        except PutOff:
            auditor.own.logins_deferred.inc()
        except Exception:  # nor may it here
            log.exception("audit_failed", connection=self._connection.name)
            problem = "the monitor itself failed"
        if problem:
            self._unanswered = True
            unread = {one: problem for one in QUERIES if one not in facts.rows}
            self._facts = replace(facts, unread=unread)
