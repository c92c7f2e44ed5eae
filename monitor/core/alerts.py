"""The alerts of a Snapshot: the same names, labels and hold times as the Prometheus rules.

1. A finding becomes an alert when it has lasted for its cause's hold time.
2. Maintenance holds alerts back. Paused and settling connections have none.

An alert's labels are its identity; its texts are built only for a message. Stateless: what must survive a
restart is in the histories.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import pairwise

from monitor.core import maintenance, wording
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import Connection
from monitor.core.finding import Finding, State
from monitor.core.history import RECENT_KEPT
from monitor.core.holds import Holds
from monitor.core.status import ConnectionStatus, Snapshot

UNSTEADY_CHANGES = 6
"""Changes among the last exchanges, as in the rules: three failures and three recoveries."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The operator's settings for alerts."""

    holds: Holds
    links: wording.Links


@dataclass(frozen=True)
class Alert:
    """A problem that someone should know about, whether or not notifications are held back."""

    labels: Mapping[str, str]
    """Its identity, including `alertname`: the same labels as from the Prometheus rule."""
    title: str
    """Without the connection's name."""
    texts: Callable[[], Mapping[str, str]] = field(compare=False, repr=False)
    """Builds the annotations, lazily: most alerts are not in any message."""
    since: datetime
    concerns: Connection | None = None
    """None: the daemon itself."""
    held_back: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The `alertname`."""
        return self.labels["alertname"]

    @property
    def connection(self) -> str:
        """The connection's name; empty for the daemon itself."""
        return self.labels.get("connection", "")

    @property
    def group(self) -> str:
        """Equal for alerts with the same fix: by cause and app, or by cause alone if shared or transient."""
        entry = CATALOGUE.get(Cause(self.labels["cause"])) if "cause" in self.labels else None
        if self.concerns is None or (entry and (entry.shared_fault or entry.transient)):
            return self.name
        app = self.concerns.app or self.concerns.consumer_key
        return f"{self.name} {hashlib.sha256(app.encode()).hexdigest()[:12]}"

    @cached_property
    def annotations(self) -> Mapping[str, str]:
        """Summary, description, links."""
        return self.texts()


@dataclass(frozen=True)
class AlertContext:
    """A Snapshot with the operator's settings for alerts."""

    snapshot: Snapshot
    terms: Terms

    @cached_property
    def watched(self) -> tuple[ConnectionStatus, ...]:
        """The connections that are not paused."""
        return tuple(status for status in self.snapshot.connections if not status.connection.paused)

    def maintenance(self, connection: Connection | None = None) -> str:
        """When the current maintenance ends, global or of this connection, in words; empty without one."""
        end = self._maintenance_end(connection)
        return f"maintenance until {wording.minute(end)}" if end else ""

    @cached_property
    def _maintenance_end(self) -> Callable[[Connection | None], datetime | None]:
        return self.snapshot.maintenance()


def lasted(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether a condition has lasted for `span`; one from the future (the clock was set back) has."""
    return since > now or now - since >= span


def alerts(snapshot: Snapshot, terms: Terms) -> list[Alert]:
    """All current alerts, including those held back, in the order of the connections."""
    context = AlertContext(snapshot, terms)
    found: list[Alert] = []
    for status in context.watched:
        of_causes = [
            _of_cause(finding, status, context)
            for finding in {each.cause: each for each in reversed(status.findings)}.values()
            if lasted(finding.since, terms.holds.of_cause(finding.cause), snapshot.at)
        ]
        found += of_causes or _of_no_cause(status, context)
    return found


def _of_cause(found: Finding, status: ConnectionStatus, context: AlertContext) -> Alert:
    labels = {
        "cause": found.cause.value,
        "severity": found.severity.value,
        "responsible": found.responsible.value,
    }
    texts = partial(_texts_of_cause, found, status, context.terms.links)
    title = CATALOGUE[found.cause].title
    return _alert(wording.name_of(found.cause), labels, title, texts, found.since, status, context)


def _alert(
    name: str,
    labels: Mapping[str, str],
    title: str,
    texts: Callable[[], Mapping[str, str]],
    since: datetime,
    status: ConnectionStatus,
    context: AlertContext,
    lately: str = "",
) -> Alert:
    connection, carried = status.connection, context.terms.links.labels
    known = (("app", connection.app), ("username", connection.username), *connection.labels)
    own = {label: text for label, text in known if text and label in carried}
    identity = {"alertname": name, "connection": status.name, **labels, "host": connection.host, **own}
    return Alert(identity, title, texts, since, connection, context.maintenance(connection) or lately)


def _texts_of_cause(found: Finding, status: ConnectionStatus, links: wording.Links) -> dict[str, str]:
    connection, entry = status.connection, CATALOGUE[found.cause]
    evidence = [*found.evidence]
    if connection.username and not connection.username_in_alerts:
        evidence = [said.replace(connection.username, "(the user)") for said in evidence]
    facts = [entry.meaning, *map(wording.inert, evidence), f"Since {wording.minute(found.since)}."]
    if last := status.history.last_success:
        facts.append(f"Last granted: {wording.minute(last)}.")
    if status.next_exchange:
        facts.append(f"The next check: {wording.minute(status.next_exchange)}.")
    who = wording.WHO[found.responsible]
    if found.responsible is Responsible.ORG_ADMIN:
        # The admin may belong to a customer, without access to our pages.
        key = f"with the consumer key {wording.short(connection.consumer_key)}"
        app = f'"{connection.app}"' if connection.app else key
        user = f" and the user {connection.username}" if connection.username_in_alerts else ""
        more = f". More: {links.page(connection.name)}" if links.pages else ""
        who += f" at {connection.host}, for the app {app}{user}{more}"
    what_to_do = wording.steps(entry, connection, ask_again=True)
    return {
        "summary": f"{entry.title}: {connection.name}",
        "description": wording.description("\n".join(facts), who=who, steps=what_to_do, guide=entry.guide),
        **({"note": entry.contested} if entry.contested else {}),
        **links.to(cause=found.cause, connection=connection.name),
    }


def _of_no_cause(status: ConnectionStatus, context: AlertContext) -> list[Alert]:
    """The alert about a connection without a verdict, or one that fails intermittently: the operator's."""
    history, holds = status.history, context.terms.holds
    since = history.state_since or history.first_seen
    silent = status.state in {State.FAILING, State.UNKNOWN} and not status.findings
    lately = ""
    if silent and lasted(since, holds.unexplained, context.snapshot.at):
        name, title, severity = "Unexplained", "Not working, without a known cause", Severity.CRITICAL
        cause, what_to_do = Cause.MONITOR_FAULT, wording.with_name(wording.UNEXPLAINED, status.name)
        said = (
            f"Since {wording.minute(since)} no check of {status.name} has succeeded and no cause has been"
            " found: whether it works is unknown."
        )
    elif sum(before != after for before, after in pairwise(history.recent)) >= UNSTEADY_CHANGES:
        name, title, severity = "Unsteady", "Fails and recovers repeatedly", Severity.WARNING
        cause, what_to_do = Cause.NETWORK_UNREACHABLE, [*wording.UNSTEADY]
        failed, of = history.recent.count(False), len(history.recent)
        said = f"{failed} of the last {of} exchanges of {status.name} failed, but never for long."
        # For this long, failures during a maintenance are among the last exchanges.
        counts = max(holds.window, RECENT_KEPT * status.connection.interval)
        windows = context.snapshot.daemon.maintenance + status.connection.maintenance
        end = maintenance.ended(windows, context.snapshot.at)
        if end and not lasted(end, counts, context.snapshot.at):
            lately = f"maintenance until {wording.minute(end)} still counts"
    else:
        return []
    labels = {"severity": severity.value, "responsible": Responsible.OPERATOR.value}
    texts = {
        "summary": f"{title}: {status.name}",
        "description": wording.description(said, who=wording.WHO[Responsible.OPERATOR], steps=what_to_do),
        **context.terms.links.to(cause=cause, connection=status.name),
    }
    return [
        _alert(f"BearerwatchConnection{name}", labels, title, lambda: texts, since, status, context, lately)
    ]
