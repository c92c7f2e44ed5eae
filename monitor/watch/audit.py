"""When to audit an org, and with which token: the connection's own, an observer's, or both.

An audit is part of a check: once a day, when the check was requested, and after a recovery; with an observer
also while the connection is refused.
"""

from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

import structlog

from monitor.core.connection import Connection
from monitor.core.history import History
from monitor.core.inside import Facts
from monitor.core.outcome import Exchange, Refused
from monitor.core.reads import QUERIES, Read, Rows
from monitor.core.verdict.audit import wrong_steps
from monitor.core.verdict.guide import Seen, Step
from monitor.keys.sources import Keyring
from monitor.salesforce import org
from monitor.salesforce.exchange import Exchanger, Login
from monitor.salesforce.org import CALLS, Get, Reply, Subject
from monitor.salesforce.probe import PutOff, probe
from monitor.watch.budget import Ledger
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics

EVERY = timedelta(days=1)
"""Policies and permission sets change rarely, and each audit takes calls from the org's allocation."""

AT_LEAST_BETWEEN = timedelta(hours=1)
"""Even if a connection recovers or is refused more often."""

ASKED_A_DAY = 3
"""Audits with requested checks: three repair attempts. Our choice."""

AUDITS_PER_MINUTE = 60
"""For the whole fleet, not counting requested ones: after a new configuration, or a night without the daemon,
all are due at once. 10,000 connections take three hours, and are then spread out. Our choice."""

ASKING_SECONDS = 30.0
"""An audit begins no further GET after this time, so that slow answers do not occupy a slot for minutes. The
last GET may still take its full timeout. Our choice."""

KEPT = timedelta(days=7)
"""How long to keep an audit when later ones fail: longer than an outage, or an observer's absence over a
weekend; older facts may no longer be true. Our choice."""

log = structlog.get_logger()

Audits = Literal["when due", "always", "never"]


class Judged:
    """Judges audits, and remembers the result for up to an hour: judging costs 5 % of a check, or more.

    A step becomes wrong without a new audit only with time, days before it matters. What ends soon is judged
    at each check: it says how soon.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Facts, tuple[object, ...], tuple[Step, ...]]] = {}
        """By connection: the facts, all else that was judged, and the wrong steps."""

    def wrong_steps(self, seen: Seen) -> tuple[Step, ...]:
        """The wrong steps."""
        hour = seen.now.replace(minute=0, second=0, microsecond=0)
        beside = (seen.connection, seen.outcome, seen.usage, seen.ends, hour)
        if known := self._known.get(seen.connection.name):
            facts, before, wrong = known
            if facts is seen.facts and before == beside:
                return wrong
        wrong = wrong_steps(seen)
        if not any(step.dated for step in wrong):
            self._known[seen.connection.name] = seen.facts, beside, wrong
        return wrong


class Auditor:
    """Decides which checks include an audit."""

    def __init__(
        self, *, keyring: Keyring, exchanger: Exchanger, clock: Clock, own: OwnMetrics, audits: Audits
    ) -> None:
        self.keyring, self.exchanger, self.clock, self.own = keyring, exchanger, clock, own
        self._audits = audits
        self._begun: deque[float] = deque(maxlen=AUDITS_PER_MINUTE)
        """Start times of recent audits, by the steady clock."""
        self.failed: dict[str, tuple[Connection, datetime]] = {}
        """By connection: the last audit that failed, and for which configuration."""

    def is_time(self, connection: Connection, known: History, *, granted: bool, asked: bool) -> bool:
        """Whether an audit is due after this login and within the rate limits. If so, it counts as begun."""
        if not connection.audit or self._audits == "never" or not (granted or connection.observer):
            return False
        now, last = self.clock.now(), known.audit.at if known.audit else None
        tried_for, tried = self.failed.get(connection.name, (None, now))
        if tried_for == connection:
            last, asked = max(last or tried, tried), False
        if not (asked and known.audit and known.audit.asked < ASKED_A_DAY):
            due = self._audits == "always" or _is_due(known, last, now, granted=granted)
            has_room = len(self._begun) < AUDITS_PER_MINUTE or self.clock.steady() - self._begun[0] >= 60
            if not (due and has_room):
                return False
        self._begun.append(self.clock.steady())
        self.failed[connection.name] = connection, now
        return True


def _is_due(known: History, last: datetime | None, now: datetime, *, granted: bool) -> bool:
    """Whether the last audit, or the last try of one, is old enough."""
    recovered = granted and known.failing_since is not None
    unseen = not granted and last is not None and last < (known.failing_since or now)
    return last is None or now - last >= (AT_LEAST_BETWEEN if recovered or unseen else EVERY)


class Audit:
    """One audit within one check, which may turn out not to be due."""

    def __init__(
        self, auditor: Auditor, connection: Connection, known: History, *, asked: bool = False
    ) -> None:
        """`asked`: the check was requested."""
        self._auditor, self._connection, self._known, self._asked = auditor, connection, known, asked
        self._subject: Subject | None = None
        self._facts: Facts | None = None
        self._asked_seconds, self._unanswered = 0.0, False

    async def own(self, login: Login) -> None:
        """Read with the connection's own token, if there is one."""
        if not login.granted or not self._auditor.is_time(
            self._connection, self._known, granted=True, asked=self._asked
        ):
            return
        since, kept = self._changes()
        self._subject = self._of(login.exchange, since)
        begun = replace(self._begun(), rows=kept)
        try:
            self._facts = await org.read(
                self._within_bounds(login.get), self._subject, begun, own_alone=bool(begun.observer)
            )
        except Exception:  # a bug here must not affect the verdict on the login
            log.exception("audit_failed", connection=self._connection.name)

    def _changes(self) -> tuple[datetime | None, Rows]:
        """Since when to read changes in Setup, if at all, and the rows of the last audit to keep.

        A requested audit reads policies again, and has no call left for changes: it keeps those known.
        """
        known, last = self._known, self._known.audit
        if isinstance(known.last_verdict and known.last_verdict.outcome, Refused):
            return known.last_success, {}
        if last is None:
            return None, {}
        if self._asked:
            return None, {one: rows for one, rows in last.rows.items() if one is Read.TRAIL}
        return min(last.at, self._auditor.clock.now() - EVERY), org.lasting(last)

    async def finished(self, exchange: Exchange, ledger: Ledger) -> Facts | None:
        """Complete the audit, using the observer if there is one.

        None if no audit was due, or if it failed and the last one saw more.
        """
        connection, known = self._connection, self._known
        refused = isinstance(exchange.outcome, Refused) and exchange.outcome.status < 500
        if refused and self._auditor.is_time(connection, known, granted=False, asked=self._asked):
            self._subject = self._of(exchange, known.last_success)
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
        """Whether this audit failed, and the last one is still recent enough."""
        if last is None or not last.rows or facts.at - last.at > KEPT:
            return False
        nothing = facts.rows.keys() <= org.lasting(last).keys() | {Read.TRAIL}
        return nothing or (self._unanswered and not last.rows.keys() <= facts.rows.keys())

    def _within_bounds(self, get: Get) -> Get:
        """A GET that is counted, and refused after ASKING_SECONDS."""

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

    def _of(self, exchange: Exchange, since: datetime | None) -> Subject:
        connection = self._connection
        granted = exchange.granted
        return Subject(
            username=connection.username,
            app=connection.app or (self._known.audit.application if self._known.audit else ""),
            user_id=(granted and granted.user_id) or self._known.identity.user_id or "",
            exchanged=exchange.at + timedelta(seconds=exchange.clock_offset_seconds or 0),
            granted=granted is not None,
            scopes=granted.scopes if granted else None,
            changes_since=since,
            objects=tuple(name for name, _ in connection.objects),
        )

    async def _observed(self, observer: Connection, facts: Facts, subject: Subject, ledger: Ledger) -> None:
        """Continue with the observer's token; note it if there is none."""
        auditor, mine = self._auditor, self._known.identity.org_id
        problem = f"the observer {observer.name} got no token"
        try:
            credential = await auditor.keyring.load(observer.current)
            take = await ledger.take_observer(observer.username)
            async with probe(auditor.exchanger, observer, credential, take=take) as login:
                org_id = login.granted and login.granted.org_id
                if mine and org_id and org_id[:15] != mine[:15]:
                    problem = f"the observer {observer.name} logs in to another org"
                elif login.granted:
                    get, left = self._within_bounds(login.get), CALLS - facts.calls
                    self._facts = await org.read(get, subject, facts, calls=left)
                    problem = ""
        except PutOff:
            auditor.own.logins_deferred.inc()
        except Exception:  # as in `own`
            log.exception("audit_failed", connection=self._connection.name)
            problem = "internal error in the monitor"
        if problem:
            self._unanswered = True
            unread = {one: problem for one in QUERIES if one not in facts.rows}
            self._facts = replace(facts, unread=unread)
