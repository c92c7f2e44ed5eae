"""Snapshot: all connections at one time, without secrets. The only input of readers.

A ConnectionStatus is never changed in place, so a reader may cache what it derived from one.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property, partial

from monitor.core import maintenance
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Severity
from monitor.core.connection import Connection
from monitor.core.finding import Diagnosis, Finding, State
from monitor.core.history import History
from monitor.core.keys.credential import CertificateFacts, CredentialFacts
from monitor.core.maintenance import Maintenance
from monitor.core.verdict.approval import Forecast

NO_FACTS = CredentialFacts()
"""The facts about keys that were not read yet."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection: configuration, keys, history, and next check."""

    connection: Connection
    history: History
    credential: CredentialFacts = NO_FACTS
    next_credential: CredentialFacts | None = None
    forecast: Forecast | None = None
    next_exchange: datetime | None = None
    """When it is checked next; None while paused."""
    next_try: datetime | None = None
    """When only the next key is tried; None if regular checks suffice."""
    unwatched: bool = False
    """Not checked for so long that its state is outdated."""

    @property
    def name(self) -> str:
        """The operator's name of the connection."""
        return self.connection.name

    @property
    def state(self) -> State:
        """Paused if configured; unknown if outdated; otherwise the state after the last exchange."""
        if self.connection.paused:
            return State.PAUSED
        return State.UNKNOWN if self.unwatched else self.history.state

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The current findings; none for a paused connection."""
        return () if self.connection.paused else self.history.findings

    @property
    def reads(self) -> dict[str, str]:
        """Additional reads that were tried: the error by name, empty on success."""
        call = self.history.after_login if self.connection.after_login else None
        return {"first_call": call.problem} if call else {}

    @property
    def verdict(self) -> Diagnosis:
        """The last diagnosis, as it applies now."""
        alternatives = self.history.alternatives if self.findings else ()
        return Diagnosis(self.state, self.findings, alternatives)

    def title(self, finding: Finding, now: datetime) -> str:
        """A finding's title, such as `The certificate expires in 41 days`."""
        if finding.cause is Cause.CERTIFICATE_EXPIRING and self.certificate_end:
            days = max((self.certificate_end - now).days, 0)
            return f"The certificate expires in {days} {'day' if days == 1 else 'days'}"
        return CATALOGUE[finding.cause].title

    @property
    def certificate_end(self) -> datetime | None:
        """When the current certificate expires; the declared date if none is configured."""
        certificate = self.credential.certificate
        return certificate.not_after if certificate else self.connection.certificate_not_after

    @property
    def next_certificate(self) -> CertificateFacts | None:
        """The next pair's certificate, if there is one."""
        return self.next_credential.certificate if self.next_credential else None


@dataclass(frozen=True, slots=True)
class ReplicasStatus:
    """What a replica knows about itself and the others."""

    alive: int
    """Replicas with a recent heartbeat."""
    configurations: int
    """Number of different configurations among them: normally 1."""
    scheduled: int
    """Our connections that are scheduled: normally all that are not paused."""
    leads: bool
    """Whether this replica is the leader, which notifies."""
    reachable: bool
    """Whether the last database round trip succeeded."""
    overdue_seconds: float = 0.0
    """How late the latest check is, for any replica."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The daemon's own condition. A problem is why the last attempt failed; None if it succeeded."""

    started: datetime
    version: str
    configured: int
    """Connections in the current configuration, loaded at `reloaded`."""
    reloaded: datetime
    reload_problem: str | None = None
    store_problem: str | None = None
    """Of writing to the store or replicas' database."""
    store_damage: str | None = None
    """What was done about a damaged database since the start; None if there was none."""
    replicas: ReplicasStatus | None = None
    maintenance: tuple[Maintenance, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Everything that readers may see, at one time."""

    at: datetime
    daemon: DaemonStatus
    connections: tuple[ConnectionStatus, ...]
    retired_failures: dict[Cause, int]
    """Failures of removed connections, so that counters never decrease on a reload."""

    def states(self) -> dict[State, int]:
        """Number of connections by state, including zeros."""
        counted = Counter([status.state for status in self.connections])
        return {state: counted[state] for state in State}

    @property
    def watched(self) -> tuple[ConnectionStatus, ...]:
        """The connections that are not paused."""
        return tuple(status for status in self.connections if not status.connection.paused)

    def maintenance(self, of: Connection | None = None) -> datetime | None:
        """When the current maintenance ends, of all, or also of one connection; None without one."""
        if of is None or not of.maintenance:
            return self._maintenance_of_all
        return self._until(self.daemon.maintenance + of.maintenance)

    @cached_property
    def _maintenance_of_all(self) -> datetime | None:
        return self._until(self.daemon.maintenance)

    @cached_property
    def _until(self) -> Callable[[tuple[Maintenance, ...]], datetime | None]:
        return cache(partial(maintenance.until, now=self.at))  # many have the same windows


@dataclass(frozen=True, slots=True)
class Asked:
    """The result of a request to check connections now."""

    turns: dict[str, datetime]
    """When each will be checked: at once, or within seconds if there are many."""
    put_off: dict[str, datetime]
    """Those whose login budget is used up, and when a login is available."""


WORST_FIRST = (
    State.FAILING,
    State.DEGRADED,
    State.SETTLING,
    State.UNKNOWN,
    State.HEALTHY,
    State.PAUSED,
)

_PLACES = {state: place for place, state in enumerate(WORST_FIRST)}
"""A look-up takes a third of what `index` takes, and a status page makes one for each connection."""

_SEVERITIES = tuple(Severity)


def urgency(status: ConnectionStatus) -> tuple[int, int, float]:
    """A sort key, worst first: state, severity, most recent failure (old ones are known already).

    Without the name: it is faster to sort by name first.
    """
    place, findings = _PLACES[status.state], status.findings
    if not findings:
        return place, len(_SEVERITIES), 0.0
    first = findings[0]
    return place, _SEVERITIES.index(first.severity), -first.since.timestamp()


def worst_first(statuses: Iterable[ConnectionStatus]) -> list[ConnectionStatus]:
    """The connections by urgency, then name."""
    return sorted(sorted(statuses, key=lambda status: status.name), key=urgency)
