"""What belongs together: one message for alerts with one thing to mend, and the wait for who may join."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from monitor.core.alert import Alert, Moment, Seen, Topic
from monitor.core.connection import Connection, is_generic
from monitor.core.finding import State
from monitor.core.status import ConnectionStatus

GROUP_WAIT = timedelta(minutes=5)
"""For so long an alert waits at most for a look at those who may have the same: the usual interval, in which
each of them has its turn."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """Something that connections may share."""

    kind: str
    known_by: Callable[[Connection], str]
    called: Callable[[Connection], str]


_SHARED = (
    _Shared("app", lambda of: of.consumer_key, lambda of: f"the consumer key {short(of.consumer_key)}"),
    _Shared("user", lambda of: of.username.lower(), lambda of: f"the user {of.username}"),
    _Shared("org", lambda of: _org(of), lambda of: f"the org {of.host}"),
)
"""What connections may share, the likeliest thing to mend first."""


def _org(of: Connection) -> str:
    """What stands for the org: its address; the generic one is no org's own."""
    return of.name if is_generic(of.login_url) else of.login_url


def short(consumer_key: str) -> str:
    """Enough of a consumer key to find it, and no more: it is no secret, but nobody's business either."""
    return consumer_key if len(consumer_key) <= 12 else f"{consumer_key[:5]}…{consumer_key[-6:]}"


def shared_by_all(connections: Iterable[Connection]) -> list[str]:
    """What all of them share, in words."""
    listed = list(connections)
    return [
        shared.called(listed[0]) for shared in _SHARED if len({shared.known_by(of) for of in listed}) == 1
    ]


def grouped(alerts: Sequence[Alert], watched: Iterable[ConnectionStatus]) -> list[Alert]:
    """Alerts of single connections, each with its group: the largest of what two or more of them share."""
    candidates: defaultdict[tuple[str, int, str], list[Alert]] = defaultdict(list)
    for alert in alerts:
        for place, shared in enumerate(_SHARED):
            candidates[_topic(alert), place, shared.known_by(alert.concerns[0])].append(alert)
    places = {place for (_, place, _), those in candidates.items() if len(those) > 1}
    sharing = Counter(
        (place, _SHARED[place].known_by(status.connection)) for place in places for status in watched
    )
    found: dict[str, Alert] = {}
    for (topic, place, value), those in sorted(
        candidates.items(), key=lambda each: (-len(each[1]), each[0][1], each[0])
    ):
        left = [alert for alert in those if alert.fingerprint not in found]
        if len(left) < 2:
            continue
        shared = _SHARED[place]
        for alert in left:
            found[alert.fingerprint] = replace(
                alert,
                group=f"{topic} {shared.kind} {hashlib.sha256(value.encode()).hexdigest()[:12]}",
                shared=shared.called(alert.concerns[0]),
                shared_by=sharing[place, value],
            )
    return [
        found.get(alert.fingerprint)
        or replace(alert, group=f"{_topic(alert)} connection {alert.labels['connection']}")
        for alert in alerts
    ]


def _topic(alert: Alert) -> str:
    return f"{alert.name} {alert.labels['severity']} {alert.labels['responsible']}"


def waiting(alerts: Sequence[Alert], topic: Topic, those: Sequence[Seen], moment: Moment) -> list[Alert]:
    """The alerts of a cause; those wait that may soon prove to be one of many.

    While one connection has the cause, those that share its app may have it too; once several have it,
    anyone. Who is looked at soon, and was not yet since the cause began, is waited for. So is a look of its
    own after a start: the cause may have ended meanwhile.
    """
    if not alerts:
        return []
    hold, started = moment.terms.holds.of_cause(topic.cause), moment.snapshot.daemon.started
    eldest, eldest_of_app = _eldest_looks({alert.concerns[0].consumer_key for alert in alerts}, moment)
    statuses = {one.status.name: one.status for one in those}
    pending = any(not moment.lasted(one.finding.since, hold) for one in those)

    def waits(alert: Alert) -> bool:
        ready = max(alert.since + hold, started)
        if moment.now >= ready + GROUP_WAIT:
            return False
        eldest_look = eldest if len(those) > 1 else eldest_of_app.get(alert.concerns[0].consumer_key)
        others = eldest_look is not None and eldest_look < alert.since
        return others or pending or _own_look_is_due(statuses[alert.labels["connection"]], started)

    return [replace(alert, waits=waits(alert)) for alert in alerts]


def _eldest_looks(apps: set[str], moment: Moment) -> tuple[datetime | None, dict[str, datetime]]:
    """The look that is longest ago, of those that work and are looked at soon: of all, by consumer key."""
    soon = moment.now + GROUP_WAIT
    eldest: datetime | None = None
    eldest_of_app: dict[str, datetime] = {}
    for status in moment.watched:
        last, due = status.history.last_exchange, status.next_exchange
        if last is None or due is None or due > soon or status.state not in {State.HEALTHY, State.DEGRADED}:
            continue
        eldest = min(eldest or last.at, last.at)
        app = status.connection.consumer_key
        if app in apps:
            eldest_of_app[app] = min(eldest_of_app.get(app, last.at), last.at)
    return eldest, eldest_of_app


def _own_look_is_due(status: ConnectionStatus, started: datetime) -> bool:
    """Whether it was not looked at since the start, and soon will be."""
    last, due = status.history.last_exchange, status.next_exchange
    return last is not None and last.at < started and due is not None and due < started + GROUP_WAIT
