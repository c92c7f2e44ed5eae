"""The current status of all connections: the daemon's only mutable state, source of every Snapshot.

Also answers questions about the whole fleet: whether a fault is shared, how long approvals of the same app
lasted, how many connections are currently refused.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from monitor.core import cadence
from monitor.core import history as histories
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import State
from monitor.core.history import Approval, History
from monitor.core.inside import Facts
from monitor.core.outcome import Exchange, Granted, NotSent, Outcome, Unreachable
from monitor.core.reads import Read
from monitor.core.status import ConnectionStatus
from monitor.core.verdict import approval
from monitor.core.verdict.approval import Forecast
from monitor.core.verdict.evidence import Witnesses
from monitor.watch.clock import Clock

AT_ONCE = timedelta(minutes=30)
"""Connections that stop within this time, or within an interval if that is longer, have stopped together: all
were checked in that time."""


@dataclass(frozen=True, slots=True)
class _Witness:
    """What a connection says about shared faults: that it works, or why it stopped working."""

    name: str
    trouble: str
    """The kind of fault; empty if it works."""
    at: datetime
    """When it was last checked; if it stopped, since when."""


class Fleet:
    """The status of all configured connections by name, and the histories of removed ones."""

    def __init__(self, remembered: Mapping[str, History], clock: Clock | None = None) -> None:
        self._remembered = dict(remembered)
        self._clock = clock or Clock()
        self._outdated: dict[str, float] = {}
        """When each connection's state becomes outdated, by the steady clock."""
        self._statuses: dict[str, ConnectionStatus] = {}
        self._stopped: dict[str, _Witness] = {}
        self._orgs: dict[str, _Witness] = {}
        """The witness of each org: the connection checked last."""
        self._times: defaultdict[str | None, list[datetime]] = defaultdict(list)
        """Sorted times of these witnesses by kind of fault; under None, of all that stopped."""
        self._refused: set[str] = set()
        self._approvals: dict[str, dict[str, tuple[Approval, ...]]] = {}
        self._productions: dict[str, dict[str, Facts]] = {}
        """Audits that read refreshes of sandboxes, by My Domain and connection."""

    def __contains__(self, name: str) -> bool:
        return name in self._statuses

    def __getitem__(self, name: str) -> ConnectionStatus:
        return self._statuses[name]

    @property
    def refused(self) -> int:
        """Number of connections refused now: they share our source address."""
        return len(self._refused)

    def configure(self, connections: Iterable[Connection], now: datetime) -> tuple[set[str], set[str]]:
        """Apply a configuration. Gives the names that are new or changed, and those removed."""
        wanted = {connection.name: connection for connection in connections}
        gone = self._statuses.keys() - wanted.keys()
        for name in gone:
            self._forget(name)
            self._outdated.pop(name, None)
            self._remembered[name] = self._statuses.pop(name).history
        changed = set()
        for name, connection in wanted.items():
            status = self._statuses.get(name)
            if status and status.connection == connection:
                continue
            changed.add(name)
            known = status.history if status else self._remembered.pop(name, None)
            history = known or histories.begin(connection, now)
            history = histories.reconfigured(history, connection, now)
            status = status or ConnectionStatus(connection, history)
            self.put(replace(status, connection=connection, history=history, next_try=None))
        for name in changed:
            status = self._statuses[name]
            # Its severity depends on the date: after a restart, a reported alert must not seem to have ended.
            if any(found.cause is Cause.APPROVAL_EXPIRING for found in status.findings):
                self.put(replace(status, forecast=self.forecast(status.connection, status.history, now)))
        return changed, gone

    def put(self, status: ConnectionStatus) -> None:
        """Set a connection's status."""
        name, history = status.name, status.history
        before = self._stopped.get(name)
        self._forget(name)
        if self._is_news(status):
            status = replace(status, unwatched=False)
            least = status.connection.interval + cadence.UNSEEN_GRACE  # even if the last check is old
            self._outdated[name] = self._clock.steady() + max(self._time_left(status), least).total_seconds()
        elif name in self._outdated:  # only the plan changed, as after a restart
            fresh_until = self._clock.steady() + self._time_left(status).total_seconds()
            self._outdated[name] = max(self._outdated[name], fresh_until)
        self._statuses[name] = status
        if status.connection.paused:
            self._outdated.pop(name, None)
            return
        if history.approvals:
            self._approvals.setdefault(status.connection.consumer_key, {})[name] = history.approvals
        if history.audit and Read.SANDBOXES in history.audit.rows:
            self._productions.setdefault(status.connection.sandbox[0], {})[name] = history.audit
        if history.state is State.FAILING and history.consecutive_refusals:
            self._refused.add(name)
        exchange = history.last_exchange
        if exchange is None or history.first_success is None:
            return
        if history.consecutive_successes:
            self._set_witness(_org(status), _Witness(name, "", exchange.at))
        elif history.failing_since:
            trouble = _trouble(exchange.outcome)
            if before is None or before.trouble != trouble:
                before = _Witness(name, trouble, exchange.at if before else history.failing_since)
            self._stopped[name] = before
            self._set_witness(_org(status), before)

    def _is_news(self, status: ConnectionStatus) -> bool:
        """Whether the connection was checked or configured since the last `put`."""
        known, last = self._statuses.get(status.name), status.history.last_exchange
        if known is None or known.connection != status.connection:
            return last is not None
        before = known.history.last_exchange
        return last is not None and (before is None or before.at != last.at)

    def _time_left(self, status: ConnectionStatus) -> timedelta:
        """How long until the state becomes outdated; negative if it already is."""
        history, last = status.history, status.history.last_exchange
        age = max(timedelta(0), self._clock.now() - last.at) if last else timedelta(0)
        return cadence.outdated(status.connection, history, status.next_exchange) - age

    def _forget(self, name: str) -> None:
        """Drop what `put` derived from the connection's status."""
        self._refused.discard(name)
        self._stopped.pop(name, None)
        if status := self._statuses.get(name):
            self._approvals.get(status.connection.consumer_key, {}).pop(name, None)
            self._productions.get(status.connection.sandbox[0], {}).pop(name, None)
            org = _org(status)
            if (witness := self._orgs.get(org)) and witness.name == name:
                self._set_witness(org, None)

    def _set_witness(self, org: str, witness: _Witness | None) -> None:
        if before := self._orgs.pop(org, None):
            for moments in self._counted(before):
                del moments[bisect_left(moments, before.at)]
            if not self._times[before.trouble]:
                del self._times[before.trouble]
        if witness:
            self._orgs[org] = witness
            for moments in self._counted(witness):
                insort(moments, witness.at)

    def _counted(self, witness: _Witness) -> list[list[datetime]]:
        """The sorted lists that contain this witness's time."""
        return [self._times[key] for key in ((witness.trouble, None) if witness.trouble else ("",))]

    def production(self, connection: Connection) -> Facts | None:
        """The newest audit of a sandbox's production org that read its refreshes; None if none could."""
        domain, sandbox = connection.sandbox
        audits = self._productions.get(domain, {}).values() if sandbox else ()
        return max(audits, key=lambda facts: facts.at, default=None)

    def witnesses(self, status: ConnectionStatus, exchange: Exchange) -> Witnesses | None:
        """Whether a fault is shared: how many orgs stopped with it at once, of those checked since.

        `status` is from before the exchange, as a reload may have removed the connection meanwhile.

        1. The event begins when the first of these orgs stopped. Orgs not checked since then, or stopped
           before, don't count.
        2. Each org counts once, by its connection checked last: the fault may be the org's.
        3. None after a grant, or with too few witnesses.

        Counting is a search in a sorted list, so an outage costs a large fleet no more than a small one.
        """
        if exchange.granted:
            return None
        org, trouble = _org(status), _trouble(exchange.outcome)
        stop = self._stopped.get(status.name)
        began = stop.at if stop and stop.trouble == trouble else exchange.at
        at_once = max(AT_ONCE, status.connection.interval)
        latest = began + at_once
        own = self._orgs.get(org)
        self._set_witness(org, _Witness(status.name, trouble, began))
        same = self._times[trouble]
        first = bisect_left(same, began - at_once)
        since = same[first]
        alike = bisect_right(same, latest) - first
        asked = len(self._times[""]) - bisect_left(self._times[""], since)
        asked += bisect_right(self._times[None], latest) - bisect_left(self._times[None], since)
        self._set_witness(org, own)
        return Witnesses.counted(alike, asked, since)

    def forecast(self, connection: Connection, history: History, now: datetime) -> Forecast | None:
        """When the approval may end."""
        own = approval.lifetimes(history.approvals)
        siblings = () if own else self.siblings(connection)  # there may be thousands
        return approval.forecast(connection, history, siblings, now)

    def siblings(self, connection: Connection) -> tuple[Approval, ...]:
        """Earlier approvals on other connections of the same app."""
        known = self._approvals.get(connection.consumer_key, {})
        return tuple(
            approval for name, approvals in known.items() if name != connection.name for approval in approvals
        )

    def statuses(self) -> tuple[ConnectionStatus, ...]:
        """The current status of all connections, in the configuration's order. Outdated ones have state
        unknown.
        """
        now = self._clock.steady()
        for name in [name for name, until in self._outdated.items() if until < now]:
            if not (status := self._statuses[name]).unwatched:
                self.put(replace(status, unwatched=True))
        return tuple(self._statuses.values())

    def retired_failures(self) -> dict[Cause, int]:
        """Failures of removed connections."""
        counted: Counter[Cause] = Counter()
        for history in self._remembered.values():
            counted.update(history.failures_by_cause)
        return counted


def _org(status: ConnectionStatus) -> str:
    """A connection's org: the id from its grants, otherwise its address."""
    return status.history.identity.org_id or status.connection.login_url


def _trouble(outcome: Outcome) -> str:
    """The kind of fault, for recognising shared ones."""
    match outcome:
        case Unreachable(kind=kind):
            return f"unreachable {kind}"
        case Granted() | NotSent():
            return "none"
        case _:
            return f"refused {outcome.status} {outcome.error} {outcome.description}"
