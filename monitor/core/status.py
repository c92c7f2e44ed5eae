"""Snapshot: every connection at one moment, nothing secret in it. All that any reader may see.

Metrics, status page, JSON, notifications, rules and reminders are pure views of it; there is no second
ledger. A ConnectionStatus is never changed in place: a view may keep what it made of it while it is the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial

from monitor.core import maintenance
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Severity
from monitor.core.connection import Connection
from monitor.core.finding import Diagnosis, Finding, State
from monitor.core.history import History
from monitor.core.keys.credential import CredentialFacts
from monitor.core.maintenance import Maintenance
from monitor.core.verdict.approval import Forecast

NO_FACTS = CredentialFacts()
"""Of keys that were not looked at yet."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection: what is configured, what is known of its keys, what is remembered, what comes next."""

    connection: Connection
    history: History
    credential: CredentialFacts = NO_FACTS
    next_credential: CredentialFacts | None = None
    """Facts of the pair to rotate to; None where none is configured."""
    forecast: Forecast | None = None
    next_exchange: datetime | None = None
    """When it is looked at next; None while it is paused."""
    next_try: datetime | None = None
    """When the next pair's key is tried by itself, before or after that; None where the checks suffice."""
    unwatched: bool = False
    """Nobody has looked at it for so long that what is known tells nothing any more."""

    @property
    def name(self) -> str:
        """The operator's name of the connection."""
        return self.connection.name

    @property
    def state(self) -> State:
        """Paused by configuration, else what the last exchange left, where that isn't out of date."""
        if self.connection.paused:
            return State.PAUSED
        return State.UNKNOWN if self.unwatched else self.history.state

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What holds now; nothing is said of a paused connection."""
        return () if self.connection.paused else self.history.findings

    @property
    def reads(self) -> dict[str, str]:
        """What the configuration has read beside exchange and audit: why it could not be, or an empty text.

        What was not tried yet is not there.
        """
        if self.connection.after_login and (call := self.history.after_login):
            return {"first_call": f"{call.status} {call.error}: {call.message}" if call.error else ""}
        if self.connection.after_login and self.history.last_success:
            return {"first_call": "It got no answer."}
        return {}

    @property
    def verdict(self) -> Diagnosis:
        """What holds now, and what else it may be."""
        alternatives = self.history.alternatives if self.findings else ()
        return Diagnosis(self.state, self.findings, alternatives)

    def title(self, finding: Finding, now: datetime) -> str:
        """A finding in a few words: `The certificate expires in 41 days`."""
        if finding.cause is Cause.CERTIFICATE_EXPIRING and self.certificate_end:
            days = max((self.certificate_end - now).days, 0)
            return f"The certificate expires in {days} {'day' if days == 1 else 'days'}"
        return CATALOGUE[finding.cause].title

    @property
    def certificate_end(self) -> datetime | None:
        """The end of the current certificate; as the operator declares it where none is configured."""
        certificate = self.credential.certificate
        return certificate.not_after if certificate else self.connection.certificate_not_after


@dataclass(frozen=True, slots=True)
class ReplicasStatus:
    """What a replica knows of itself and the others."""

    alive: int
    """Replicas that were heard of within seconds."""
    configurations: int
    """How many different configurations they have: 1 where all is well."""
    scheduled: int
    """Our connections that have an appointment: all that are not paused, if all is well."""
    leads: bool
    """Whether this one does what is to be done once."""
    reachable: bool
    """Whether the last word to the database had an answer."""
    overdue_seconds: float = 0.0
    """Since the connection was due that has waited longest for its check, whoever is to make it."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The daemon's own condition, as far as a reader of the page needs it."""

    started: datetime
    version: str
    configured: int
    """Connections in the configuration that holds: what `connections` must count to."""
    reloaded: datetime
    """When the configuration that holds was loaded."""
    reload_problem: str | None = None
    """Why the last reload changed nothing; None where it succeeded."""
    store_problem: str | None = None
    """Why the last write of the store, or word to the replicas' database, failed; None where it succeeded."""
    store_damage: str | None = None
    """What became of a database that was damaged; None where none was since the start."""
    replicas: ReplicasStatus | None = None
    """None where this daemon watches alone."""
    maintenance: tuple[Maintenance, ...] = ()
    """When nobody is told of anything, by the configuration that holds."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment."""

    at: datetime
    daemon: DaemonStatus
    connections: tuple[ConnectionStatus, ...]
    retired_failures: dict[Cause, int]
    """Failures of connections that are no longer configured: a count never goes down by a reload."""

    def states(self) -> dict[State, int]:
        """How many connections are in each state; every state is there."""
        counted = Counter(status.state for status in self.connections)
        return {state: counted[state] for state in State}

    def maintenance(self) -> Callable[[Connection | None], datetime | None]:
        """Tells until when there is maintenance of a connection, or of all for None; None: there is none."""
        until = cache(partial(maintenance.until, now=self.at))  # many have the same windows
        of_all = self.daemon.maintenance
        end = until(of_all)
        return lambda one: until(of_all + one.maintenance) if one and one.maintenance else end

    def failures(self) -> dict[Cause, int]:
        """How many checks failed for each cause since the store began; every cause is there."""
        counted = dict.fromkeys(Cause, 0) | self.retired_failures
        for status in self.connections:
            for cause, count in status.history.failures_by_cause.items():
                counted[cause] += count
        return counted


@dataclass(frozen=True, slots=True)
class Asked:
    """What becomes of a wish to have connections checked now."""

    turns: dict[str, datetime]
    """When each is checked: at once, or a few seconds later where there are many."""
    put_off: dict[str, datetime]
    """Those whose user has no login left, and when there is one again."""


WORST_FIRST = (
    State.FAILING,
    State.DEGRADED,
    State.SETTLING,
    State.UNKNOWN,
    State.HEALTHY,
    State.PAUSED,
)
"""The order in which a person wants to see the states."""

_SEVERITIES = tuple(Severity)


def urgency(status: ConnectionStatus) -> tuple[int, int, float, str]:
    """What sorts the worst first: by state, by how severe its cause is, by what broke last, by name.

    What broke last is what somebody is looking for; what has been broken for weeks is known.
    """
    place = WORST_FIRST.index(status.state)
    if not status.findings:
        return place, len(_SEVERITIES), 0.0, status.name
    first = status.findings[0]
    return place, _SEVERITIES.index(first.severity), -first.since.timestamp(), status.name


def worst_first(statuses: Iterable[ConnectionStatus]) -> list[ConnectionStatus]:
    """The connections in the order in which a person wants to see them."""
    return sorted(statuses, key=urgency)
