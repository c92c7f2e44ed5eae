"""The alerts of a Snapshot, about connections and about the monitor itself.

They have the same names, labels and hold times as those of the Prometheus rules:

1. A finding becomes an alert when it has lasted for its cause's hold time.
2. Maintenance holds alerts back. Paused and settling connections have none.
3. Of the monitor's own problems, the rules also cover those that it can't report: being down, unreachable
   sinks.

An alert's labels are its identity; its texts are built only for a message. Stateless: what must survive a
restart is in the histories.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import pairwise
from urllib.parse import urlsplit

from monitor.core import maintenance, wording
from monitor.core.catalogue import CATALOGUE, entry_of
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import Connection
from monitor.core.finding import Finding, State
from monitor.core.history import RECENT_KEPT
from monitor.core.holds import SCRAPE, Holds
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
        entry = entry_of(self.labels)
        if self.concerns is None or (entry and (entry.shared_fault or entry.transient)):
            return self.name
        app = self.concerns.app or self.concerns.consumer_key
        return f"{self.name} {hashlib.sha256(app.encode()).hexdigest()[:12]}"

    @cached_property
    def annotations(self) -> Mapping[str, str]:
        """Summary, description, links."""
        return self.texts()


def lasted(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether a condition has lasted for `span`; one from the future (the clock was set back) has."""
    return since > now or now - since >= span


# About connections


def alerts(snapshot: Snapshot, terms: Terms) -> list[Alert]:
    """All current alerts about connections, including those held back, in the order of the connections."""
    found: list[Alert] = []
    for status in snapshot.watched:
        of_it = [*_of_causes(status, snapshot.at, terms)] or [*_of_no_cause(status, snapshot, terms)]
        found += (_of_connection(alert, status.connection, snapshot, terms) for alert in of_it)
    return found


def _of_connection(alert: Alert, connection: Connection, snapshot: Snapshot, terms: Terms) -> Alert:
    """The alert with the connection's labels, held back by its maintenance."""
    known = (("app", connection.app), ("username", connection.username), *connection.labels)
    own = {label: text for label, text in known if text and label in terms.links.labels}
    named = {"alertname": alert.name, "connection": connection.name}
    return replace(
        alert,
        labels={**named, **alert.labels, "host": connection.host, **own},
        concerns=connection,
        held_back=_maintenance(snapshot, connection) or alert.held_back,
    )


def _maintenance(snapshot: Snapshot, connection: Connection | None = None) -> str:
    """When the current maintenance ends, global or of this connection, in words; empty without one."""
    end = snapshot.maintenance(connection)
    return f"maintenance until {wording.minute(end)}" if end else ""


def _of_causes(status: ConnectionStatus, now: datetime, terms: Terms) -> Iterator[Alert]:
    for found in status.findings:
        if lasted(found.since, terms.holds.of_cause(found.cause), now):
            labels = {
                "alertname": wording.name_of(found.cause),
                "cause": found.cause.value,
                "severity": found.severity.value,
                "responsible": found.responsible.value,
            }
            texts = partial(_texts_of_cause, found, status, terms.links)
            yield Alert(labels, CATALOGUE[found.cause].title, texts, found.since)


def _texts_of_cause(found: Finding, status: ConnectionStatus, links: wording.Links) -> dict[str, str]:
    connection, entry = status.connection, CATALOGUE[found.cause]
    evidence = [*found.evidence]
    if connection.username and not connection.username_in_alerts:
        evidence = [said.replace(connection.username, "(the user)") for said in evidence]
    facts = [entry.meaning, *map(wording.inert, evidence), f"Since {wording.minute(found.since)}."]
    if last := status.history.last_success:
        facts.append(f"Last granted: {wording.minute(last)}.")
    if status.next_exchange:
        facts.append(f"Next check: {wording.minute(status.next_exchange)}.")
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


def _of_no_cause(status: ConnectionStatus, snapshot: Snapshot, terms: Terms) -> Iterator[Alert]:
    """The alert about a connection without a verdict, or one that fails intermittently: the operator's."""
    history, now = status.history, snapshot.at
    since = history.state_since or history.first_seen
    silent = status.state in {State.FAILING, State.UNKNOWN} and not status.findings
    lately = ""
    if silent and lasted(since, terms.holds.unexplained, now):
        name, title, severity = "Unexplained", "Not working, cause unknown", Severity.CRITICAL
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
        counts = max(terms.holds.window, RECENT_KEPT * status.connection.interval)
        end = maintenance.ended(snapshot.daemon.maintenance + status.connection.maintenance, now)
        if end and not lasted(end, counts, now):
            lately = f"maintenance until {wording.minute(end)} still counts"
    else:
        return
    labels = {
        "alertname": f"BearerwatchConnection{name}",
        "severity": severity.value,
        "responsible": Responsible.OPERATOR.value,
    }
    texts = {
        "summary": f"{title}: {status.name}",
        "description": wording.description(said, who=wording.WHO[Responsible.OPERATOR], steps=what_to_do),
        **terms.links.to(cause=cause, connection=status.name),
    }
    yield Alert(labels, title, lambda: texts, since, held_back=lately)


# About the monitor itself


NAMED = 5
"""Most connections named in an alert."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem of the monitor, as worded for notifications and the Prometheus rules."""

    name: str
    severity: Severity
    hold: timedelta
    summary: str
    """DAEMON is replaced by the monitor's address, COUNT by the number of connections."""
    text: str
    is_there: Callable[[Snapshot, Holds], object]


def late(snapshot: Snapshot, holds: Holds) -> list[str]:
    """Connections whose check is overdue or not scheduled, or that were not checked for too long."""
    return [
        status.name
        for status in snapshot.watched
        if status.unwatched or status.next_exchange is None or snapshot.at - status.next_exchange > holds.late
    ]


TROUBLES = (
    Trouble(
        "BearerwatchChecksLate",
        Severity.CRITICAL,
        2 * SCRAPE,
        "Connections not checked on time: COUNT",
        "The daemon is behind schedule, so the states of these connections are out of date. If all are late,"
        " check the daemon's CPU and `bearerwatch_exchanges_in_flight`: if that is at max_in_flight, raise it"
        " or the intervals. If only a few are late, look for their names in the log. If it does not catch up,"
        " restart the daemon; it keeps its history.",
        late,
    ),
    Trouble(
        "BearerwatchWatchesNothing",
        Severity.WARNING,
        timedelta(minutes=15),  # a new daemon has its connections by then
        "DAEMON has no connections",
        "`bearerwatch config check FILE` names patterns that match no file. Make sure that the patterns of"
        " connections_from match the intended files.",
        lambda snapshot, _: not snapshot.daemon.configured,
    ),
    Trouble(
        "BearerwatchReloadFailed",
        Severity.WARNING,
        timedelta(minutes=5),  # time to notice an error in a file and save it again
        "DAEMON could not reload its configuration",
        "The configuration was changed and has errors, so the daemon still uses the old one; a restart would"
        " fail. `bearerwatch config check FILE` lists every error. The daemon reloads the file automatically"
        " once it is fixed.",
        lambda snapshot, _: snapshot.daemon.reload_problem,
    ),
    Trouble(
        "BearerwatchStoreFailing",
        Severity.WARNING,
        timedelta(minutes=5),  # a full disk stays full; a locked database is free within seconds
        "DAEMON cannot write to its database",
        "New results are kept only in memory, and a restart would lose them. The log has the reason, such as"
        " a full disk, missing write permission, or a damaged file. Once that is fixed, the daemon writes"
        " everything automatically.",
        lambda snapshot, _: snapshot.daemon.store_problem,
    ),
)


def alert_of_trouble(trouble: Trouble, since: datetime, snapshot: Snapshot, terms: Terms) -> Alert:
    """The alert about a problem that began at `since`."""
    links = terms.links
    where = urlsplit(links.pages).netloc
    overdue = late(snapshot, terms.holds) if trouble.is_there is late else []
    daemon = f"bearerwatch at {where}" if where else "bearerwatch"
    summary = trouble.summary.replace("DAEMON", daemon).replace("COUNT", f"{len(overdue):,}")
    among = f"\nAmong them: {', '.join(overdue[:NAMED])}." if overdue else ""
    texts = {
        "summary": summary,
        "description": f"{trouble.text}{among}\nWho must act: {wording.WHO[Responsible.OPERATOR]}.",
        **links.to(cause=Cause.MONITOR_FAULT),
    }
    labels = {
        "alertname": trouble.name,
        "severity": trouble.severity.value,
        "responsible": Responsible.OPERATOR.value,
        **({"instance": where} if where else {}),
    }
    return Alert(labels, summary, lambda: texts, since, held_back=_maintenance(snapshot))
