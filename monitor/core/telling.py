"""Which messages are due to a receiver: from the alerts of now, and from what it was last told.

There is no queue. What a receiver took is remembered by group, and a message is due where that differs from
what holds now: so a receiver that is away loses nothing, and a restart neither repeats nor forgets.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.core.alert import Alert, lasted
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Severity
from monitor.core.finding import State
from monitor.core.holds import Holds
from monitor.core.status import ConnectionStatus

GROUP_INTERVAL = timedelta(minutes=5)
"""Connections that join a group are told once the last message is this old: as Alertmanager's group_interval,
so that an event that spreads over a fleet is a few messages."""

SHOWN = 20
"""Connections in one message: a phone shows no more, and receivers have limits. The others are counted."""

GROUP_LABELS = ("alertname", "cause", "severity", "responsible")
"""Labels that the alerts of a group have in common; the severity is that of the gravest."""

_SEVERITIES = tuple(Severity)


@dataclass(frozen=True, slots=True)
class Route:
    """Which alerts a receiver wants; what is empty excludes nothing."""

    responsible: tuple[str, ...] = ()
    """Who acts."""
    severity: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """The operator's own labels of the connection, all of them. What concerns none, such as the daemon's own
    condition, is not for a receiver that asks for some."""

    def takes(self, alert: Alert) -> bool:
        """Whether the alert is for this receiver."""
        own = alert.concerns.labels if alert.concerns else ()
        return (
            (not self.responsible or alert.labels["responsible"] in self.responsible)
            and (not self.severity or alert.labels["severity"] in self.severity)
            and set(self.labels) <= set(own)
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What a receiver was last told about one group. Stored: see the store's records."""

    labels: dict[str, str]
    """Of the group: `alertname`, `severity`, `responsible`, and `cause` where it has one."""
    title: str
    connections: tuple[str, ...]
    """Everyone in the group at that time."""
    since: datetime
    at: datetime
    """When the message was taken."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message about one group to one receiver."""

    group: str
    told: Told
    """What the receiver has been told once it took the message; of an end, what it was told before."""
    alerts: tuple[Alert, ...] = ()
    """Those that the receiver was not told about first, then the newest first. None: the group has ended."""
    ended: str = ""
    """What became of the connections of a group that ended."""
    after: datetime | None = None
    """When the receiver took the message before this one about the group."""

    @property
    def title(self) -> str:
        """The message in one line."""
        return self.told.title if self.alerts else f"Resolved: {self.told.title}"

    @property
    def id(self) -> str:
        """The same for a message that has to be sent again, so that a receiver can drop the second."""
        told = self.told
        parts = (self.group, self.title, told.labels["severity"], told.since, self.after, *told.connections)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def due(
    alerts: Sequence[Alert],
    known: Mapping[str, Told],
    away: Mapping[str, datetime],
    *,
    holds: Holds,
    repeat: timedelta,
    now: datetime,
    proven: Collection[str] = (),
) -> Iterator[Message]:
    """The messages that are due, the gravest first, ends last.

    `known` is what the receiver was told, `away` since when groups of that have had no alert. A group is told
    when it begins, when its severity changes, when connections join it (GROUP_INTERVAL after its last
    message), and `repeat` after its last message; its end is told at once where it is `proven`, else once
    it has been away for as long as the rules keep an alert. Maintenance holds all that back, and is no end.
    """
    groups: defaultdict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        if not alert.held_back:
            groups[alert.group].append(alert)
    begun = [(group, _told(members, now), members) for group, members in groups.items()]
    for group, told, members in sorted(begun, key=lambda each: _gravity(each[1].labels)):
        before = known.get(group)
        if _is_news(told, before, repeat, now):
            known_names = set(before.connections) if before else set()
            newest_first = sorted(members, key=lambda alert: alert.since, reverse=True)
            newest_first.sort(key=lambda alert: alert.connection in known_names)
            yield Message(group, told, tuple(newest_first), after=before.at if before else None)
    for group, told in known.items():
        kept = timedelta(0) if group in proven else holds.kept(told.labels.get("cause", ""))
        if (since := away.get(group)) and lasted(since, kept, now):
            yield Message(group, told, after=told.at)


def _gravity(labels: Mapping[str, str]) -> int:
    return _SEVERITIES.index(Severity(labels["severity"]))


def _is_news(told: Told, before: Told | None, repeat: timedelta, now: datetime) -> bool:
    if before is None or told.labels["severity"] != before.labels["severity"]:
        return True
    joined = not set(told.connections) <= set(before.connections)
    return lasted(before.at, min(GROUP_INTERVAL, repeat) if joined else repeat, now)


def _told(members: Sequence[Alert], now: datetime) -> Told:
    first = min(members, key=lambda alert: _gravity(alert.labels))
    names = [alert.connection for alert in members if alert.connection]
    whom = f": {names[0]}" if len(names) == 1 else f": {len(names):,} connections" if names else ""
    return Told(
        {label: first.labels[label] for label in GROUP_LABELS if label in first.labels},
        first.title + whom,
        tuple(names),
        min(alert.since for alert in members),
        now,
    )


def is_proven(told: Told, statuses: Mapping[str, ConnectionStatus]) -> bool:
    """Whether the end of a group is certain: Salesforce granted where it had refused, for each connection.

    What the network or a server did not let through once may come back a moment later.
    """
    entry = CATALOGUE.get(Cause(told.labels["cause"])) if "cause" in told.labels else None
    return bool(entry and not entry.transient and told.connections) and all(
        name in statuses and statuses[name].state is State.HEALTHY for name in told.connections
    )


def what_became(told: Told, statuses: Mapping[str, ConnectionStatus]) -> str:
    """What became of the connections of a group that ended: that they work, or that nothing is known."""
    if not told.connections:
        return "The condition has cleared."
    counted: Counter[str] = Counter()
    for name in told.connections:
        status = statuses.get(name)
        if status is None:
            counted["no longer configured"] += 1
        elif status.state is State.HEALTHY:
            counted["healthy"] += 1
        elif status.state is State.PAUSED:
            counted["paused"] += 1
        else:
            counted[f"{status.state} for another reason"] += 1
    if len(told.connections) == 1:
        return f"It is {next(iter(counted))}."
    return "; ".join(f"{count:,} {what}" for what, count in counted.most_common()) + "."
