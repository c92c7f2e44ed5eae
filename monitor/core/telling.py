"""Which messages are due to a sink, given the current alerts and what it was last told.

There is no queue. What a sink accepted is remembered by group, and a message is due if it differs from the
current alerts. So a sink that is down misses nothing, and a restart neither repeats nor loses messages.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.core.alerts import Alert, lasted
from monitor.core.catalogue import entry_of
from monitor.core.causes import Severity
from monitor.core.finding import State
from monitor.core.holds import Holds
from monitor.core.status import ConnectionStatus

GROUP_INTERVAL = timedelta(minutes=5)
"""Connections that join a group are reported this long after the last message, like Alertmanager's
group_interval, so that an event that spreads over a fleet causes only a few messages."""

SHOWN = 20
"""Connections named in a message: phones and sinks have limits. The others are counted."""

GROUP_LABELS = ("alertname", "cause", "severity", "responsible")
"""Labels shared by a group's alerts; the severity is the highest one."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a sink was last told about one group. Stored; see `store.records`."""

    labels: dict[str, str]
    """The group's `alertname`, `severity`, `responsible`, and `cause` if any."""
    title: str
    connections: tuple[str, ...]
    since: datetime
    at: datetime
    """When the sink accepted the message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message about one group to one sink."""

    group: str
    told: Told
    """To remember once the sink has accepted the message; for an end, what it was told before."""
    alerts: tuple[Alert, ...] = ()
    """New ones first, then by time, newest first. Empty: the group has ended."""
    ended: str = ""
    """For a group that has ended: the state of its connections."""
    after: datetime | None = None
    """When the sink accepted the previous message about the group."""

    @property
    def title(self) -> str:
        """The message as one line."""
        return self.told.title if self.alerts else f"Resolved: {self.told.title}"

    @property
    def id(self) -> str:
        """The same if the message is sent again, so that receivers can drop duplicates."""
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
    statuses: Mapping[str, ConnectionStatus] = {},
) -> Iterator[Message]:
    """The messages that are due, most severe first, ends last.

    `known`: what the sink was told. `away`: since when groups have had no alert. A group is reported when it
    begins, when its severity changes, when connections join it (GROUP_INTERVAL after its last message), and
    `repeat` after its last message. Its end is reported at once if the `statuses` prove it, otherwise when it
    has been without alerts for as long as the rules keep an alert firing. Maintenance holds all of this back
    and is not an end.
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
        since = away.get(group)
        kept = timedelta(0) if is_proven(told, statuses) else holds.kept(entry_of(told.labels))
        if since and lasted(since, kept, now):
            yield Message(group, told, ended=what_became(told, statuses), after=told.at)


def _gravity(labels: Mapping[str, str]) -> int:
    return list(Severity).index(Severity(labels["severity"]))


def _is_news(told: Told, before: Told | None, repeat: timedelta, now: datetime) -> bool:
    if before is None or told.labels["severity"] != before.labels["severity"]:
        return True
    joined = not set(told.connections) <= set(before.connections)
    return lasted(before.at, GROUP_INTERVAL if joined else repeat, now)


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
    """Whether a group has certainly ended: all its connections are granted. Faults of a network may recur."""
    entry = entry_of(told.labels)
    return bool(entry and not entry.transient) and all(
        name in statuses and statuses[name].state is State.HEALTHY for name in told.connections
    )


def what_became(told: Told, statuses: Mapping[str, ConnectionStatus]) -> str:
    """The state of the connections of a group that has ended: that they work, or that it is unknown."""
    if not told.connections:
        return "The condition has cleared."
    counted = Counter(_became(statuses.get(name)) for name in told.connections)
    if len(told.connections) == 1:
        return f"It is {next(iter(counted))}."
    return "; ".join(f"{count:,} {what}" for what, count in counted.most_common()) + "."


def _became(status: ConnectionStatus | None) -> str:
    if status is None:
        return "no longer configured"
    another = "" if status.state in {State.HEALTHY, State.PAUSED} else " for another reason"
    return f"{status.state}{another}"
