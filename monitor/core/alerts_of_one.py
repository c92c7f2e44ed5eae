"""The alerts about a single connection: a cause that holds, no verdict and no cause, or coming and going."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

from monitor.core.alert import Alert, Moment, Seen, Topic, written
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import Connection
from monitor.core.finding import State
from monitor.core.grouping import short
from monitor.core.history import RECENT_KEPT
from monitor.core.holds import UNCHECKED, UNSTEADY_SHARE
from monitor.core.status import ConnectionStatus
from monitor.core.wording import (
    ASK_AGAIN,
    UNEXPLAINED,
    UNSTEADY,
    WHO,
    Links,
    name_of,
    told,
    with_name,
)

UNSTEADY_BEGINS = 3
"""So often the failures must have begun anew: what failed for long, once or twice, was told of as it was."""


def alert_of_cause(topic: Topic, seen: Seen, moment: Moment) -> Alert:
    """The alert about a finding."""
    connection, holds, links = seen.status.connection, moment.terms.holds, moment.terms.links
    return Alert(
        labels={
            "alertname": name_of(topic.cause),
            "connection": connection.name,
            **topic.labels,
            **_carried(connection, links),
        },
        texts=partial(_texts_of_cause, topic, seen, links),
        since=seen.finding.since,
        concerns=(connection,),
        lingers=holds.lingers if CATALOGUE[topic.cause].transient else timedelta(0),
        held_back=moment.maintenance(connection),
    )


def _texts_of_cause(topic: Topic, seen: Seen, links: Links) -> dict[str, str]:
    connection, entry = seen.status.connection, CATALOGUE[topic.cause]
    last = seen.status.history.last_success
    facts = [entry.meaning, *seen.finding.evidence, f"It has held since {written(seen.finding.since)}."]
    if last:
        facts.append(f"The last exchange that was granted: {written(last)}.")
    who = WHO[topic.responsible]
    if topic.responsible is Responsible.ORG_ADMIN:
        # That admin may be a customer's, who sees none of our pages.
        who += (
            f" at {connection.host}, for the app with the consumer key {short(connection.consumer_key)}"
            f" and the user {connection.username}"
        )
        if links.pages:
            who += f". More: {links.page(connection.name)}"
    return {
        "summary": f"{entry.title}: {connection.name}",
        "description": told(
            "\n".join(facts),
            who=who,
            steps=with_name([*entry.remedy, ASK_AGAIN], connection.name),
            guide=entry.guide,
        ),
        **({"note": entry.contested} if entry.contested else {}),
        **links.to(cause=topic.cause, connection=connection.name),
    }


def alert_of_no_cause(status: ConnectionStatus, moment: Moment) -> Alert | None:
    """The alert about a connection that no cause explains: it has no verdict, or fails again and again."""
    history, links = status.history, moment.terms.links
    silent = status.state in {State.FAILING, State.UNKNOWN} and not status.findings
    if silent and moment.lasted(_since(status), max(moment.terms.holds.transient, UNCHECKED)):
        texts = partial(_texts_of_silence, status, links)
        return _operators("BearerwatchConnectionUnexplained", Severity.CRITICAL, texts, status, moment)
    begins = sum(not granted and before for before, granted in pairwise((True, *history.recent)))
    if history.recent.count(False) >= RECENT_KEPT * UNSTEADY_SHARE and begins >= UNSTEADY_BEGINS:
        texts = partial(_texts_of_unsteadiness, status, links)
        alert = _operators("BearerwatchConnectionUnsteady", Severity.WARNING, texts, status, moment)
        # What failed in a maintenance is among the last exchanges for so long after its end.
        counts = max(moment.terms.holds.window, RECENT_KEPT * status.connection.interval)
        lately = moment.after_maintenance(status.connection, counts)
        return replace(alert, held_back=alert.held_back or lately)
    return None


def _operators(
    name: str,
    severity: Severity,
    texts: Callable[[], Mapping[str, str]],
    status: ConnectionStatus,
    moment: Moment,
) -> Alert:
    """An alert for the operator, who finds out."""
    return Alert(
        labels={
            "alertname": name,
            "connection": status.name,
            "severity": severity.value,
            "responsible": Responsible.OPERATOR.value,
            **_carried(status.connection, moment.terms.links),
        },
        texts=texts,
        since=_since(status),
        concerns=(status.connection,),
        lingers=moment.terms.holds.lingers,
        held_back=moment.maintenance(status.connection),
    )


def _since(status: ConnectionStatus) -> datetime:
    return status.history.state_since or status.history.first_seen


def _texts_of_silence(status: ConnectionStatus, links: Links) -> dict[str, str]:
    return {
        "summary": f"No verdict and no cause: {status.name}",
        "description": told(
            f"{status.name} has not been found to work since {written(_since(status))}, and no cause is"
            " named for it: whether it works is not known.",
            who=WHO[Responsible.OPERATOR],
            steps=with_name(UNEXPLAINED, status.name),
        ),
        **links.to(cause=Cause.MONITOR_FAULT, connection=status.name),
    }


def _texts_of_unsteadiness(status: ConnectionStatus, links: Links) -> dict[str, str]:
    recent = status.history.recent
    return {
        "summary": f"Fails again and again: {status.name}",
        "description": told(
            f"Of the last {len(recent)} exchanges of {status.name} {recent.count(False)} failed, yet none for"
            " long.",
            who=WHO[Responsible.OPERATOR],
            steps=UNSTEADY,
        ),
        **links.to(cause=Cause.NETWORK_UNREACHABLE, connection=status.name),
    }


def _carried(connection: Connection, links: Links) -> dict[str, str]:
    own = dict(connection.labels)
    return {"host": connection.host, **{name: own[name] for name in links.labels if name in own}}
