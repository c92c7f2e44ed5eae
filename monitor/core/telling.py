"""What is due to be told to one receiver, from the alerts of now and what it was last told with success.

There is no queue. What a receiver was told is remembered, what should be told follows from the alerts, and
the difference is due: so a receiver that is away loses nothing, and a restart neither repeats nor forgets.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor.core.alert import Alert, fingerprint, lasted
from monitor.core.alerts_of_many import AFFECTED
from monitor.core.causes import Responsible
from monitor.core.finding import State
from monitor.core.holds import MANY_LEFT
from monitor.core.status import ConnectionStatus, Snapshot

GROUP_INTERVAL = timedelta(minutes=5)
"""A group that was told of is not told of again within this time, who ever joins or leaves it: the usual
interval, in which a fleet is looked at once."""

FLAPS = timedelta(hours=1)
"""What comes back so soon after its end was told, comes and goes: its end is believed after so long then."""

ALERTS_SHOWN = 100
"""Alerts in one message: nobody reads more, and receivers have their limits. The others are counted."""

HOLDS = timedelta(hours=1)
"""So long an alert holds for an Alertmanager that hears nothing more of it: while the daemon is away, what it
found stands for that time, as in the rules for Prometheus."""


@dataclass(frozen=True, slots=True)
class Route:
    """Which alerts a receiver wants; what is empty excludes nothing."""

    responsible: tuple[str, ...] = ()
    """Who acts. An alert about many is the operator's as well, who finds out first what they share."""
    severity: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """The operator's own labels of the connections concerned; one that has them all is enough. What concerns
    none, such as the daemon's own condition, is not for whoever asks for some."""

    def takes(self, alert: Alert) -> bool:
        """Whether the alert is for this receiver."""
        acts = {alert.labels["responsible"]}
        if _is_of_many(alert.labels):
            acts.add(Responsible.OPERATOR.value)
        if self.responsible and acts.isdisjoint(self.responsible):
            return False
        if self.severity and alert.labels["severity"] not in self.severity:
            return False
        wanted = set(self.labels)
        return not wanted or any(wanted <= set(of.labels) for of in alert.concerns)


def _is_of_many(labels: Mapping[str, str]) -> bool:
    return "connection" not in labels and "cause" in labels


@dataclass(frozen=True, slots=True)
class Told:
    """One alert as a receiver knows it. It goes to JSON and back unchanged."""

    labels: dict[str, str]
    annotations: dict[str, str]
    """What its end is told with: the summary and the links."""
    group: str
    since: datetime
    at: datetime
    """When it was last told that it holds."""
    lingers: timedelta = timedelta(0)
    ebbed: datetime | None = None
    """When it was first seen to be no news any more: to stay only, or to have ended."""
    ended: datetime | None = None
    """When it was first seen not to hold any more."""
    resolved: datetime | None = None
    """When its end was told."""
    flaps: bool = False
    """It came back soon after its end had been told."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message for one receiver."""

    title: str
    group: str
    firing: tuple[Alert, ...] = ()
    resolved: tuple[Told, ...] = ()
    id: str = field(default="", compare=False)
    """The same for a message that has to be sent once more, so that a receiver can tell."""


Known = Mapping[str, Told]
"""What a receiver was told, by the alert's fingerprint."""

ENDS_WITH = ("summary", "runbook_url", "dashboard_url", "status_url", "ended")
"""Annotations that are still true once an alert has ended."""


def standing(known: Known) -> dict[str, Told]:
    """What the receiver takes to hold, by the alert's fingerprint: its end was not told."""
    return {mark: told for mark, told in known.items() if told.resolved is None}


def noticed(alerts: Iterable[Alert], known: Known, snapshot: Snapshot) -> dict[str, Told | None]:
    """What changed by itself: alerts that ebbed, ended or came back, and, as None, what may be forgotten."""
    now = snapshot.at
    active = {alert.fingerprint: alert for alert in alerts}
    statuses: dict[str, ConnectionStatus] | None = None
    changes: dict[str, Told | None] = {}
    for mark, told in known.items():
        if told.resolved is not None:
            if lasted(told.resolved, FLAPS, now) and mark not in active:
                changes[mark] = None
        elif alert := active.get(mark):
            ebbed = (told.ebbed or now) if alert.stays else None
            seen = replace(told, lingers=alert.lingers, ebbed=ebbed, ended=None)
            if seen != told:
                changes[mark] = seen
        elif told.ended is None:
            statuses = statuses or {status.name: status for status in snapshot.connections}
            said = {**told.annotations, "ended": _why_it_ended(told, statuses)}
            changes[mark] = replace(told, ebbed=told.ebbed or now, ended=now, annotations=said)
    return changes | _over_for_everybody({**known, **changes}, snapshot)


def _over_for_everybody(known: Mapping[str, Told | None], snapshot: Snapshot) -> dict[str, Told]:
    """Many that were refused, of whom none is left: there is nobody to look at again."""
    ended = {
        mark: told
        for mark, told in known.items()
        if told and told.labels["alertname"] == AFFECTED and told.lingers and told.ended and not told.resolved
    }
    if not ended:
        return {}
    held = {found.cause for status in snapshot.connections for found in status.findings}
    return {
        mark: replace(told, lingers=timedelta(0))
        for mark, told in ended.items()
        if told.labels["cause"] not in held
    }


def _why_it_ended(told: Told, statuses: Mapping[str, ConnectionStatus]) -> str:
    if "cause" not in told.labels and "connection" not in told.labels:
        return "It is so no more."
    if "connection" not in told.labels:
        return "Fewer connections have it."
    status = statuses.get(told.labels["connection"])
    if status is None:
        return "The connection is no longer configured."
    if status.connection.paused:
        return "The connection is paused: nothing is known of it."
    causes = [found.cause for found in status.findings]
    if told.labels.get("cause") in causes:
        return "It holds with another severity now."
    if causes:
        return f"Another cause holds now: {causes[0]}."
    return "The last exchange was granted." if status.state is State.HEALTHY else "Nothing is found any more."


def due(alerts: Iterable[Alert], known: Known, *, repeat: timedelta, now: datetime) -> list[Message]:
    """The messages that are due, the gravest groups as they come, ends last.

    1. An alert that was never told, or whose end was told, is news. News waits for those who may have the
       same, and for GROUP_INTERVAL after its group's last message.
    2. A group that was told of is told again once `repeat` has passed since the last message about any of it.
    3. Ends of a group are told together: when all of it has ended, or GROUP_INTERVAL after the first.
    """
    return [*_news(list(alerts), known, repeat, now), *_ends(known, now)]


def _news(alerts: list[Alert], known: Known, repeat: timedelta, now: datetime) -> Iterator[Message]:
    stands = standing(known)
    groups: defaultdict[str, list[Alert]] = defaultdict(list)
    for alert in _free(alerts, stands):
        groups[alert.group].append(alert)
    for group, members in groups.items():
        last = max((told.at for alert in members if (told := stands.get(alert.fingerprint))), default=None)
        fresh = [alert for alert in members if alert.fingerprint not in stands]
        if last is not None and lasted(last, repeat, now):
            yield _message(group, members, known)
        elif fresh and (lasted(last, GROUP_INTERVAL, now) if last else not all(one.waits for one in fresh)):
            yield _message(group, fresh, known)


def _free(alerts: Iterable[Alert], stands: Known) -> Iterator[Alert]:
    """The alerts that nothing holds back."""
    return (alert for alert, why in held_back(alerts, stands) if not why)


def held_back(alerts: Iterable[Alert], stands: Known) -> Iterator[tuple[Alert, str]]:
    """Each alert, and why a receiver for whom these stand is not told of it now; empty where it may be."""
    many = [told for told in stands.values() if _is_of_many(told.labels)]
    for alert in alerts:
        if alert.held_back:
            yield alert, alert.held_back
        elif alert.stays and alert.fingerprint not in stands:
            yield alert, "told one by one"
        else:
            as_many = (told.labels["alertname"] for told in many if _of(alert, told))
            yield alert, next((f"told as {name}" for name in as_many), "")


def _of(alert: Alert, many: Told) -> bool:
    """Whether it is about one of the many that were told as one: who fails once they ebbed is not."""
    return (
        "connection" in alert.labels
        and all(alert.labels.get(name) == many.labels[name] for name in ("cause", "severity"))
        and (many.ebbed is None or alert.since <= many.ebbed)
    )


def pushed(alerts: Iterable[Alert], known: Known, now: datetime) -> Message:
    """What a receiver is to have now that groups, repeats and waits by itself, as Alertmanager does.

    What it has been given it is given again, also while that is held back: it would take it for mended.
    """
    listed = list(alerts)
    stands = standing(known)
    over = {mark: told for mark, told in stands.items() if _is_over_where_pushed(told, now)}
    kept = {mark: told for mark, told in stands.items() if mark not in over}
    free = {alert.fingerprint for alert in _free(listed, kept) if not alert.waits}
    firing = [alert for alert in listed if alert.fingerprint in free or alert.fingerprint in kept]
    return Message("", "", tuple(firing), tuple(over.values()))


def _is_over_where_pushed(told: Told, now: datetime) -> bool:
    """Ended, or forgotten there by now; or many that have long become few, who would mute who fails anew."""
    if told.ended:
        return _is_over(told, now) or lasted(told.ended, HOLDS, now)
    return told.ebbed is not None and lasted(told.ebbed, MANY_LEFT + told.lingers, now)


def _ends(known: Known, now: datetime) -> Iterator[Message]:
    groups: defaultdict[str, list[Told]] = defaultdict(list)
    for told in standing(known).values():
        groups[told.group].append(told)
    for group, members in groups.items():
        over = [told for told in members if _is_over(told, now)]
        if over and (
            len(over) == len(members)
            or any(told.ended and lasted(told.ended, GROUP_INTERVAL, now) for told in over)
        ):
            first = over[0].annotations.get("summary", over[0].labels["alertname"])
            more = f" and {len(over) - 1:,} more" if len(over) > 1 else ""
            marks = _id("resolved", over, (told.at for told in over))
            yield Message(f"Resolved: {first}{more}", group, resolved=tuple(over), id=marks)


def _is_over(told: Told, now: datetime) -> bool:
    wait = max(told.lingers, FLAPS) if told.flaps else told.lingers
    return told.ended is not None and lasted(told.ended, wait, now)


def _message(group: str, members: list[Alert], known: Known) -> Message:
    first = members[0]
    title = first.annotations["summary"]
    if first.shared and len(members) > 1:
        everyone = len(members) >= first.shared_by
        count = f"all {len(members):,}" if everyone else f"{len(members):,} of {first.shared_by:,}"
        what = title.removesuffix(f": {first.labels['connection']}")
        title = f"{what}: {count} connections of {first.shared}"
    before = (known[alert.fingerprint].at for alert in members if alert.fingerprint in known)
    return Message(title, group, firing=tuple(members), id=_id("firing", members, before))


def _id(status: str, of: Iterable[Alert | Told], told: Iterable[datetime]) -> str:
    """A word for what is told: of whom, since when, and after which messages."""
    parts = [status, *(f"{sorted(one.labels.items())} {one.since}" for one in of), *map(str, sorted(told))]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()[:24]


def accepted(message: Message, known: Known, now: datetime) -> dict[str, Told]:
    """What the receiver knows after it took the message at `now`."""
    from_now = {}
    for alert in message.firing:
        before = known.get(alert.fingerprint)
        from_now[alert.fingerprint] = Told(
            labels=dict(alert.labels),
            annotations={name: text for name, text in alert.annotations.items() if name in ENDS_WITH},
            group=alert.group,
            since=alert.since,
            at=now,
            lingers=alert.lingers,
            ebbed=before.ebbed if before and alert.stays else None,
            flaps=before is not None and (before.flaps or before.resolved is not None),
        )
    for told in message.resolved:
        from_now[fingerprint(told.labels)] = replace(told, resolved=now)
    return from_now
