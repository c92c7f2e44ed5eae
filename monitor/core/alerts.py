"""What is an alert now, from a Snapshot: the same names, labels and times as the rules for Prometheus.

1. A finding is an alert once it has held as long as `Holds` says; nothing else is asked of it.
2. Many connections with the same cause at once are one alert, which holds the single ones back.
3. Alerts of connections that share an app, a user or an org are one group: one thing to mend, one message.
4. Maintenance holds back, of all connections or of one. What is paused or settling has no alert at all.

Nothing is remembered here: what a restart must not lose stands in the histories.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import pairwise

from monitor.core import maintenance
from monitor.core.cadence import BACK_OFF
from monitor.core.causes import CATALOGUE, Cause, Responsible, Severity
from monitor.core.connection import Connection, is_generic
from monitor.core.finding import Finding, State
from monitor.core.history import RECENT_KEPT
from monitor.core.holds import (
    APPROVAL_CRITICAL,
    MANY,
    MANY_SHARE,
    TRANSIENT,
    UNCHECKED,
    UNSTEADY_SHARE,
    Holds,
)
from monitor.core.maintenance import Maintenance
from monitor.core.status import ConnectionStatus, Snapshot
from monitor.core.wording import (
    ASK_AGAIN,
    MANY_AT_ONCE,
    SHOWN,
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

GROUP_WAIT = timedelta(minutes=5)
"""For so long an alert waits at most for a look at those who may have the same: the usual interval, in which
each of them has its turn."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator decides about alerts."""

    holds: Holds
    links: Links
    maintenance: tuple[Maintenance, ...] = ()
    """When nobody is told of anything."""


@dataclass(frozen=True)
class Alert:
    """Something that a person should be told, whether or not it is told now. Its mappings never change."""

    labels: Mapping[str, str]
    """Its identity, with `alertname`: the labels that the rule for Prometheus gives it."""
    texts: Callable[[], Mapping[str, str]] = field(compare=False, repr=False)
    """Makes the annotations: most alerts of a moment are not told of in it."""
    since: datetime
    """Since when that holds which it tells of."""
    concerns: tuple[Connection, ...]
    lingers: timedelta = timedelta(0)
    """Its end is believed after so long: a fault that comes and goes is told of once."""
    group: str = ""
    """Alerts of one group are told in one message."""
    shared: str = ""
    """What the connections of its group share, in words; empty where it stands alone."""
    shared_by: int = 1
    """How many watched connections share that."""
    waits: bool = False
    """A look at others that may have the same is yet to come, and does so soon."""
    held_back: str = field(default="", compare=False)
    """Why nobody is told of it now; empty where nothing speaks against it."""

    @property
    def name(self) -> str:
        """The alert's name."""
        return self.labels["alertname"]

    @cached_property
    def annotations(self) -> Mapping[str, str]:
        """What it says: summary, description, links."""
        return self.texts()

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same labels, as long as nobody changes them."""
        return fingerprint(self.labels)


def fingerprint(labels: Mapping[str, str]) -> str:
    """A short word for an alert's labels: 16 hexadecimal digits, as Alertmanager's are."""
    text = "\n".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A cause that holds for a connection."""

    status: ConnectionStatus
    finding: Finding
    quiet: bool
    """The connection is in maintenance."""


_Key = tuple[Cause, Severity, Responsible]


def alerts(snapshot: Snapshot, terms: Terms) -> tuple[Alert, ...]:
    """Every alert of this moment: of many at once, then of single connections, those held back first."""
    now, holds = snapshot.at, terms.holds
    watched = [status for status in snapshot.connections if not status.connection.paused]
    seen: defaultdict[_Key, list[_Seen]] = defaultdict(list)
    for status in watched:
        for found in _first_of_each_cause(status):
            key = (found.cause, _severity(found, status, now), found.responsible)
            quiet = maintenance.until(status.connection.maintenance, now) is not None
            seen[key].append(_Seen(status, found, quiet))
    many = [alert for key, those in seen.items() if (alert := _many(key, those, len(watched), now, terms))]
    held = {(alert.labels["cause"], alert.labels["severity"]): alert.name for alert in many}
    single: list[Alert] = []
    for key, those in seen.items():
        active = [one for one in those if lasted(one.finding.since, holds.of_cause(key[0]), now)]
        if not active:
            continue
        made = [_of_cause(key, one, now, terms, held.get((key[0], key[1]), "")) for one in active]
        pending = len(active) < len(those)
        free = [alert for alert in made if not alert.held_back]
        single += [alert for alert in made if alert.held_back]
        single += _waiting(free, key, len(those), watched, snapshot, pending=pending, holds=holds)
    named = {alert.labels["connection"] for alert in single}
    unreachable = any(cause in TRANSIENT for cause, _ in held)
    single += [
        replace(alert, held_back=alert.held_back or (unreachable and "many are unreachable") or "")
        for alert in _unnamed(watched, named, now, terms)
    ]
    free = [alert for alert in single if not alert.held_back]
    return (*many, *(alert for alert in single if alert.held_back), *_grouped(free, watched))


def lasted(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether it has been so for that long. What began ahead of the clock, which was set back, has."""
    return since > now or now - since >= span


def _first_of_each_cause(status: ConnectionStatus) -> Iterable[Finding]:
    return {found.cause: found for found in reversed(status.findings)}.values()


def _severity(found: Finding, status: ConnectionStatus, now: datetime) -> Severity:
    """The finding's, but for an approval whose forecast end is near: that is critical until it has passed."""
    if found.cause is Cause.APPROVAL_EXPIRING and status.forecast:
        near = timedelta(0) < status.forecast.at - now < APPROVAL_CRITICAL
        return Severity.CRITICAL if near else Severity.WARNING
    return found.severity


# What is told of


def _of_cause(key: _Key, seen: _Seen, now: datetime, terms: Terms, many: str) -> Alert:
    cause, severity, responsible = key
    connection = seen.status.connection
    return Alert(
        labels={
            "alertname": name_of(cause),
            "connection": connection.name,
            "cause": cause.value,
            "severity": severity.value,
            "responsible": responsible.value,
            **_carried(connection, terms.links),
        },
        texts=partial(_texts_of_cause, key, seen, terms),
        since=seen.finding.since,
        concerns=(connection,),
        lingers=terms.holds.lingers if cause in TRANSIENT else timedelta(0),
        held_back=_maintained(connection, now, terms) or (many and f"told as {many}"),
    )


def _texts_of_cause(key: _Key, seen: _Seen, terms: Terms) -> dict[str, str]:
    cause, _, responsible = key
    connection, entry = seen.status.connection, CATALOGUE[cause]
    last = seen.status.history.last_success
    facts = [entry.meaning, *seen.finding.evidence, f"It has held since {_written(seen.finding.since)}."]
    if last:
        facts.append(f"The last exchange that was granted: {_written(last)}.")
    who = WHO[responsible]
    if responsible is Responsible.ORG_ADMIN:
        page = f". Which app and user: {terms.links.page(connection.name)}" if terms.links.pages else ""
        who += f" at {connection.host}{page}"
    return {
        "summary": f"{entry.title}: {connection.name}",
        "description": told(
            "\n".join(facts),
            who=who,
            steps=with_name([*entry.remedy, ASK_AGAIN], connection.name),
            guide=entry.guide,
        ),
        **({"note": entry.contested} if entry.contested else {}),
        **terms.links.to(cause=cause, connection=connection.name),
    }


def _many(key: _Key, those: Sequence[_Seen], watched: int, now: datetime, terms: Terms) -> Alert | None:
    """The one alert about many connections with the same cause, if they are many and for long enough."""
    cause, severity, responsible = key
    if cause is Cause.PROPAGATION_PENDING:
        return None
    since = sorted(one.finding.since for one in those if not one.quiet)
    enough = max(MANY, math.ceil(MANY_SHARE * watched))
    transient = cause in TRANSIENT
    hold = terms.holds.many_transient if transient else terms.holds.many_confirmed
    if len(since) < enough or not lasted(since[enough - 1], hold, now):
        return None
    names = ", ".join(one.status.name for one in those[:SHOWN])
    more = f" and {len(those) - SHOWN:,} more" if len(those) > SHOWN else ""
    first = those[0].status.connection
    alike = [
        f"All of them share {called(first)}."
        for _, value, called in _SHARED
        if len({value(one.status.connection) for one in those}) == 1
    ]
    return Alert(
        labels={
            "alertname": f"BearerwatchManyConnections{'Unreachable' if transient else 'Affected'}",
            "cause": cause.value,
            "severity": severity.value,
            "responsible": responsible.value,
        },
        texts=lambda: {
            "summary": f"{CATALOGUE[cause].title}: {len(those):,} of {watched:,} connections at once",
            "description": told(
                f"The same cause, {cause}, holds for {len(those):,} of {watched:,} connections: something"
                " that they share is the likely reason, be it an app, a key, an address, the network, or"
                f" Salesforce. Single connections are not told of meanwhile.\nAmong them: {names}{more}."
                f" {' '.join(alike)}".rstrip(),
                who="the operator first, who finds out what they share",
                steps=(step.replace("CAUSE", cause) for step in MANY_AT_ONCE),
            ),
            **terms.links.to(cause=cause),
        },
        since=since[0],
        concerns=tuple(one.status.connection for one in those),
        # The refused are looked at again after up to that long: until then nobody knows who is well again.
        lingers=max(terms.holds.lingers, timedelta(0) if transient else BACK_OFF[-1]),
        group=f"many {cause} {severity} {responsible}",
        held_back=_maintained(None, now, terms),
    )


def _unnamed(
    watched: Iterable[ConnectionStatus], named: set[str], now: datetime, terms: Terms
) -> Iterator[Alert]:
    """Connections without a verdict that no cause explains, and those that fail again and again."""
    unexplained_for = max(terms.holds.transient, UNCHECKED)
    for status in watched:
        if status.name in named:
            continue
        history = status.history
        since = history.state_since or history.first_seen
        silent = status.state in {State.FAILING, State.UNKNOWN} and not status.findings
        failed = history.recent.count(False)
        begins = sum(not granted and before for before, granted in pairwise((True, *history.recent)))
        if silent and lasted(since, unexplained_for, now):
            yield _of_connection(
                "BearerwatchConnectionUnexplained",
                Severity.CRITICAL,
                status,
                since,
                f"No verdict and no cause: {status.name}",
                f"{status.name} has not been found to work since {_written(since)}, and no cause is named for"
                " it: whether it works is not known.",
                with_name(UNEXPLAINED, status.name),
                terms.links.to(cause=Cause.MONITOR_FAULT, connection=status.name),
                now,
                terms,
            )
        elif failed >= RECENT_KEPT * UNSTEADY_SHARE and begins >= UNSTEADY_BEGINS:
            yield _of_connection(
                "BearerwatchConnectionUnsteady",
                Severity.WARNING,
                status,
                since,
                f"Fails again and again: {status.name}",
                f"Of the last {len(history.recent)} exchanges of {status.name} {failed} failed, yet none for"
                " long.",
                UNSTEADY,
                terms.links.to(cause=Cause.NETWORK_UNREACHABLE, connection=status.name),
                now,
                terms,
            )


def _of_connection(
    name: str,
    severity: Severity,
    status: ConnectionStatus,
    since: datetime,
    summary: str,
    description: str,
    steps: Iterable[str],
    links: Mapping[str, str],
    now: datetime,
    terms: Terms,
) -> Alert:
    return Alert(
        labels={
            "alertname": name,
            "connection": status.name,
            "severity": severity.value,
            "responsible": Responsible.OPERATOR.value,
            **_carried(status.connection, terms.links),
        },
        texts=lambda: {
            "summary": summary,
            "description": told(description, who=WHO[Responsible.OPERATOR], steps=steps),
            **links,
        },
        since=since,
        concerns=(status.connection,),
        lingers=terms.holds.lingers,
        held_back=_maintained(status.connection, now, terms),
    )


def _carried(connection: Connection, links: Links) -> dict[str, str]:
    own = dict(connection.labels)
    return {"host": connection.host, **{name: own[name] for name in links.labels if name in own}}


def _maintained(connection: Connection | None, now: datetime, terms: Terms) -> str:
    windows = terms.maintenance + (connection.maintenance if connection else ())
    end = maintenance.until(windows, now)
    return f"maintenance until {_written(end)}" if end else ""


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# What belongs together


def _waiting(
    made: list[Alert],
    key: _Key,
    affected: int,
    watched: list[ConnectionStatus],
    snapshot: Snapshot,
    *,
    pending: bool,
    holds: Holds,
) -> list[Alert]:
    """The alerts of a cause; those wait that may soon prove to be one of many.

    While one connection has the cause, those that share its app may have it too; once several have it,
    anyone. Who is looked at soon, and was not yet since the cause began, is waited for. So is a look of its
    own after a start: the cause may have ended meanwhile.
    """
    if not made:
        return []
    now, started = snapshot.at, snapshot.daemon.started
    apps = {alert.concerns[0].consumer_key for alert in made}
    soon = now + GROUP_WAIT
    last_looks: dict[str, datetime] = {}
    for status in watched:
        last = status.history.last_exchange
        due = status.next_exchange
        if last is None or due is None or due > soon or status.state not in {State.HEALTHY, State.DEGRADED}:
            continue
        for pool in (status.connection.consumer_key if status.connection.consumer_key in apps else "", "*"):
            last_looks[pool] = min(last_looks.get(pool, last.at), last.at)
    looks = {status.name: status for status in watched}
    judged = []
    for alert in made:
        status = looks[alert.labels["connection"]]
        ready = max(alert.since + holds.of_cause(key[0]), started)
        pool = "*" if affected > 1 else alert.concerns[0].consumer_key
        others = last_looks.get(pool, alert.since) < alert.since
        last = status.history.last_exchange
        own = bool(
            last is not None
            and last.at < started
            and status.next_exchange
            and status.next_exchange < started + GROUP_WAIT
        )
        waits = now < ready + GROUP_WAIT and (others or pending or own)
        judged.append(replace(alert, waits=waits))
    return judged


_SHARED: tuple[tuple[str, Callable[[Connection], str], Callable[[Connection], str]], ...] = (
    (
        "app",
        lambda of: of.consumer_key,
        lambda of: f"the consumer key {_short(of.consumer_key)}",
    ),
    ("user", lambda of: of.username.lower(), lambda of: f"the user {of.username}"),
    ("org", lambda of: _org(of), lambda of: f"the org {of.host}"),
)
"""What connections may share, the likeliest thing to mend first: how it is known, and how it is called."""


def _org(of: Connection) -> str:
    """What stands for the org: its address; the generic one is no org's own."""
    return of.name if is_generic(of.login_url) else of.login_url


def _short(consumer_key: str) -> str:
    """Enough of a consumer key to find it, and no more: it is no secret, but nobody's business either."""
    return consumer_key if len(consumer_key) <= 12 else f"{consumer_key[:5]}…{consumer_key[-6:]}"


def _grouped(single: list[Alert], watched: Iterable[ConnectionStatus]) -> list[Alert]:
    """The alerts, each with its group: the largest of what two or more with the same cause share."""
    candidates: defaultdict[tuple[str, int, str], list[Alert]] = defaultdict(list)
    for alert in single:
        for place, (_, value, _) in enumerate(_SHARED):
            candidates[_topic(alert), place, value(alert.concerns[0])].append(alert)
    places = {place for (_, place, _), those in candidates.items() if len(those) > 1}
    shared_kinds = [_SHARED[place] for place in places]
    sharing = Counter(
        (kind, value(status.connection)) for kind, value, _ in shared_kinds for status in watched
    )
    grouped: dict[str, Alert] = {}
    for (topic, place, shared), those in sorted(
        candidates.items(), key=lambda each: (-len(each[1]), each[0][1], each[0])
    ):
        left = [alert for alert in those if alert.fingerprint not in grouped]
        if len(left) < 2:
            continue
        kind, _, called = _SHARED[place]
        for alert in left:
            grouped[alert.fingerprint] = replace(
                alert,
                group=f"{topic} {kind} {hashlib.sha256(shared.encode()).hexdigest()[:12]}",
                shared=called(alert.concerns[0]),
                shared_by=sharing[kind, shared],
            )
    return [
        grouped.get(alert.fingerprint)
        or replace(alert, group=f"{_topic(alert)} connection {alert.labels['connection']}")
        for alert in single
    ]


def _topic(alert: Alert) -> str:
    return f"{alert.name} {alert.labels['severity']} {alert.labels['responsible']}"
