"""What is an alert now, from a Snapshot: the same names, labels and times as the rules for Prometheus.

1. A finding is an alert once it has held as long as `Holds` says; nothing else is asked of it.
2. Many connections with the same cause at once are one alert, which holds the single ones back. Once told,
   it goes on until few are left.
3. Alerts of connections that share an app, a user or an org are one group: one thing to mend, one message.
4. Maintenance holds back, of all connections or of one. What is paused or settling has no alert at all.

Nothing is remembered here: what a restart must not lose stands in the histories.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from monitor.core.alert import Alert, Moment, Seen, Terms, Topic
from monitor.core.alerts_of_many import alert_of_many
from monitor.core.alerts_of_one import alert_of_cause, alert_of_no_cause
from monitor.core.catalogue import CATALOGUE
from monitor.core.finding import Finding
from monitor.core.grouping import grouped, waiting
from monitor.core.status import ConnectionStatus, Snapshot


def alerts(snapshot: Snapshot, terms: Terms) -> tuple[Alert, ...]:
    """Every alert of this moment: of many at once, then of single connections, those held back first."""
    moment = Moment(snapshot, terms)
    seen = _seen(moment)
    many = {topic: alert for topic, those in seen.items() if (alert := alert_of_many(topic, those, moment))}
    told_as = {
        (topic.cause, topic.severity): f"told as {alert.name}"
        for topic, alert in many.items()
        if not alert.stays
    }
    free: list[Alert] = []
    held_back: list[Alert] = []
    for topic, those in seen.items():
        hold = terms.holds.of_cause(topic.cause)
        lasting = [one for one in those if moment.lasted(one.finding.since, hold)]
        made = [alert_of_cause(topic, one, moment) for one in lasting]
        if why := told_as.get((topic.cause, topic.severity)):
            made = [replace(alert, held_back=alert.held_back or why) for alert in made]
        held_back += [alert for alert in made if alert.held_back]
        free += waiting([alert for alert in made if not alert.held_back], topic, those, moment)
    named = {alert.labels["connection"] for alert in (*free, *held_back)}
    unreachable = "many are unreachable" if any(CATALOGUE[cause].transient for cause, _ in told_as) else ""
    for status in moment.watched:
        if status.name not in named and (alert := alert_of_no_cause(status, moment)):
            why = alert.held_back or unreachable
            (held_back if why else free).append(replace(alert, held_back=why))
    return (*many.values(), *held_back, *grouped(free, moment.watched))


def _seen(moment: Moment) -> dict[Topic, list[Seen]]:
    """The findings of now, by what they have in common."""
    seen: defaultdict[Topic, list[Seen]] = defaultdict(list)
    for status in moment.watched:
        for found in _first_of_each_cause(status):
            topic = Topic(found.cause, found.severity, found.responsible)
            seen[topic].append(Seen(status, found))
    return seen


def _first_of_each_cause(status: ConnectionStatus) -> Iterable[Finding]:
    return {found.cause: found for found in reversed(status.findings)}.values()
