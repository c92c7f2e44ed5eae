"""The alerts of a Snapshot: the same names, labels and hold times as the Prometheus rules.

1. A finding becomes an alert when it has lasted for its cause's hold time.
2. Maintenance holds alerts back. Paused and settling connections have none.

Stateless: what must survive a restart is in the histories.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import pairwise

from monitor.core.alert import Alert, AlertContext, Terms
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.finding import Finding, State
from monitor.core.history import RECENT_KEPT
from monitor.core.holds import UNCHECKED
from monitor.core.status import ConnectionStatus, Snapshot
from monitor.core.wording import (
    ASK_AGAIN,
    UNEXPLAINED,
    UNSTEADY,
    WHO,
    Links,
    description,
    inert,
    minute,
    name_of,
    short,
    steps,
    with_name,
)

UNSTEADY_CHANGES = 6
"""Changes among the last exchanges, as in the rules: three failures and three recoveries."""


def alerts(snapshot: Snapshot, terms: Terms) -> list[Alert]:
    """All current alerts, including those held back, in the order of the connections."""
    context = AlertContext(snapshot, terms)
    found = []
    for status in context.watched:
        of_causes = [
            _of_cause(finding, status, context)
            for finding in {each.cause: each for each in reversed(status.findings)}.values()
            if context.lasted(finding.since, terms.holds.of_cause(finding.cause))
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
    return _alert(name_of(found.cause), labels, title, texts, found.since, status, context)


def _alert(
    name: str,
    labels: Mapping[str, str],
    title: str,
    texts: Callable[[], Mapping[str, str]],
    since: datetime,
    status: ConnectionStatus,
    context: AlertContext,
) -> Alert:
    connection, carried = status.connection, context.terms.links.labels
    known = (("app", connection.app), ("username", connection.username), *connection.labels)
    own = {label: text for label, text in known if text and label in carried}
    identity = {"alertname": name, "connection": status.name, **labels, "host": connection.host, **own}
    return Alert(identity, title, texts, since, connection, context.maintenance(connection))


def _texts_of_cause(found: Finding, status: ConnectionStatus, links: Links) -> dict[str, str]:
    connection, entry = status.connection, CATALOGUE[found.cause]
    evidence = [*found.evidence]
    if connection.username and not connection.username_in_alerts:
        evidence = [said.replace(connection.username, "(the user)") for said in evidence]
    facts = [entry.meaning, *map(inert, evidence), f"Since {minute(found.since)}."]
    if last := status.history.last_success:
        facts.append(f"Last granted: {minute(last)}.")
    if status.next_exchange:
        facts.append(f"The next check: {minute(status.next_exchange)}.")
    who = WHO[found.responsible]
    if found.responsible is Responsible.ORG_ADMIN:
        # The admin may belong to a customer, without access to our pages.
        app = (
            f'"{connection.app}"'
            if connection.app
            else f"with the consumer key {short(connection.consumer_key)}"
        )
        who += f" at {connection.host}, for the app {app}"
        who += f" and the user {connection.username}" if connection.username_in_alerts else ""
        if links.pages:
            who += f". More: {links.page(connection.name)}"
    return {
        "summary": f"{entry.title}: {connection.name}",
        "description": description(
            "\n".join(facts),
            who=who,
            steps=[*steps(entry, connection), *with_name([ASK_AGAIN], connection.name)],
            guide=entry.guide,
        ),
        **({"note": entry.contested} if entry.contested else {}),
        **links.to(cause=found.cause, connection=connection.name),
    }


def _of_no_cause(status: ConnectionStatus, context: AlertContext) -> list[Alert]:
    """The alert about a connection without a verdict, or one that fails intermittently.

    The operator is responsible; the cause is the one whose runbook helps.
    """
    history, holds = status.history, context.terms.holds
    since = history.state_since or history.first_seen
    silent = status.state in {State.FAILING, State.UNKNOWN} and not status.findings
    lately = ""
    if silent and context.lasted(since, max(holds.transient, UNCHECKED)):
        name, title, severity = "Unexplained", "Not working, without a known cause", Severity.CRITICAL
        cause, what_to_do = Cause.MONITOR_FAULT, with_name(UNEXPLAINED, status.name)
        said = (
            f"Since {minute(since)} no check of {status.name} has succeeded and no cause has been found:"
            " whether it works is unknown."
        )
    elif sum(before != after for before, after in pairwise(history.recent)) >= UNSTEADY_CHANGES:
        name, title, severity = "Unsteady", "Fails and recovers repeatedly", Severity.WARNING
        cause, what_to_do = Cause.NETWORK_UNREACHABLE, list(UNSTEADY)
        failed, of = history.recent.count(False), len(history.recent)
        said = f"{failed} of the last {of} exchanges of {status.name} failed, but never for long."
        # For this long, failures during a maintenance are among the last exchanges.
        counts = max(holds.window, RECENT_KEPT * status.connection.interval)
        lately = context.after_maintenance(status.connection, counts)
    else:
        return []
    labels = {"severity": severity.value, "responsible": Responsible.OPERATOR.value}
    texts = {
        "summary": f"{title}: {status.name}",
        "description": description(said, who=WHO[Responsible.OPERATOR], steps=what_to_do),
        **context.terms.links.to(cause=cause, connection=status.name),
    }
    alert = _alert(f"BearerwatchConnection{name}", labels, title, lambda: texts, since, status, context)
    return [replace(alert, held_back=alert.held_back or lately)]
