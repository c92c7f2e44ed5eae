"""The metrics page: a Snapshot as Prometheus metric families, plus the daemon's own metrics.

A ConnectionStatus never changes in place, so its lines are cached while it is the same object, and a scrape
joins bytes. Rendering 10,000 connections with prometheus_client would take seconds of CPU per scrape; the
library renders only the fleet's totals and the daemon's own metrics.

Names and labels are a promise to authors of alerts and dashboards.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress, count
from operator import attrgetter, is_not
from typing import Literal

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import org_type
from monitor.core.finding import Finding, State
from monitor.core.history import Slot
from monitor.core.keys.credential import CertificateFacts
from monitor.core.outcome import Granted
from monitor.core.status import ConnectionStatus, Snapshot
from monitor.core.verdict.surroundings import production

OWN_TIMER = " As of the last check: the daemon's own schedule starts those, not the scrape."
"""Exporters should measure at the scrape, and say so if they don't (Prometheus, "Writing exporters"). Here a
scrape must not cost a login."""


@dataclass(frozen=True, slots=True)
class Exposition:
    """A format of the page."""

    content_type: str
    open_metrics: bool
    generate: Callable[[Collector], bytes]
    """The library's renderer."""


TEXT = Exposition(CONTENT_TYPE_PLAIN_0_0_4, open_metrics=False, generate=generate_latest)
OPEN_METRICS = Exposition(
    openmetrics.CONTENT_TYPE_LATEST, open_metrics=True, generate=openmetrics.generate_latest
)


def negotiate(accept: str) -> Exposition:
    """The format for an `Accept` header: OpenMetrics if requested, otherwise plain text."""
    asked = (kind.split(";")[0].strip().lower() for kind in accept.split(","))
    return OPEN_METRICS if "application/openmetrics-text" in asked else TEXT


# Metrics of connections

Samples = Iterable[tuple[str, float]]
"""Rendered labels after `connection`, and the value."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family of samples about connections."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: Callable[[ConnectionStatus], Samples]
    source: Callable[[ConnectionStatus], object] | None = None
    """What the samples depend on, if most checks leave it as it is: its lines need no rendering then."""

    def header(self, exposition: Exposition) -> bytes:
        """The HELP and TYPE lines; OpenMetrics names a counter's family without its `_total`."""
        name = self.name.removesuffix("_total") if exposition.open_metrics else self.name
        return f"# HELP {name} {self.help}\n# TYPE {name} {self.kind}\n".encode()

    def lines(self, status: ConnectionStatus, connection: str) -> bytes:
        """The samples of one connection, whose escaped name is `connection`."""
        start = f'{self.name}{{connection="{connection}"'
        text = "".join([f"{start}{labels}}} {value!r}\n" for labels, value in self.samples(status)])
        return text.encode("utf-8", "replace")  # lone surrogates would break the page


_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def _escaped(value: str) -> str:
    """A label value, escaped."""
    return value.translate(_ESCAPES)


def _at(moment: datetime | None, labels: str = "") -> Samples:
    """A timestamp in milliseconds, Prometheus' own precision; no sample for None."""
    return () if moment is None else ((labels, round(moment.timestamp(), 3)),)


def _seconds(value: float | None) -> Samples:
    """A duration in microseconds precision; no sample for None."""
    return () if value is None else (("", round(value, 6)),)


def _up(status: ConnectionStatus) -> Samples:
    last = status.history.last_exchange
    granted = last is not None and isinstance(last.outcome, Granted)
    return (("", int(granted and not status.connection.paused and not status.unwatched)),)


_STATE_LABELS = {state: f',state="{state}"' for state in State}


def _state(status: ConnectionStatus) -> Samples:
    holds = status.state
    return [(labels, int(state is holds)) for state, labels in _STATE_LABELS.items()]


def _first_of_each_cause(status: ConnectionStatus) -> Iterable[Finding]:
    """The first finding of each cause: duplicate samples would invalidate the scrape."""
    return {finding.cause: finding for finding in reversed(status.findings)}.values()


def _finding(status: ConnectionStatus) -> Samples:
    return [
        (f',cause="{found.cause}",severity="{found.severity}",responsible="{found.responsible}"', 1)
        for found in _first_of_each_cause(status)
    ]


def _finding_since(status: ConnectionStatus) -> Samples:
    for found in _first_of_each_cause(status):
        yield from _at(found.since, f',cause="{found.cause}"')


def _info(status: ConnectionStatus) -> Samples:
    connection, host = status.connection, status.connection.host
    labels = [("host", host), ("org_type", org_type(host)), *connection.labels]
    if connection.app:
        labels.append(("app", connection.app))
    if connection.username_in_alerts:
        labels.append(("username", connection.username))
    return (("".join(f',{name}="{_escaped(value)}"' for name, value in labels), 1),)


def _last_exchange(status: ConnectionStatus) -> Samples:
    last = status.history.last_exchange
    return _at(last.at if last else None)


def _last_duration(status: ConnectionStatus) -> Samples:
    last = status.history.last_exchange
    return _seconds(last.duration_seconds if last else None)


def _clock_offset(status: ConnectionStatus) -> Samples:
    last = status.history.last_exchange
    return _seconds(last.clock_offset_seconds if last else None)


_SLOT_LABELS = {slot: f',slot="{slot}"' for slot in Slot}


def _certificates(status: ConnectionStatus) -> Iterator[tuple[str, CertificateFacts]]:
    for slot, facts in ((Slot.CURRENT, status.credential), (Slot.NEXT, status.next_credential)):
        if facts and facts.certificate:
            yield _SLOT_LABELS[slot], facts.certificate


def _not_before(status: ConnectionStatus) -> Samples:
    for labels, certificate in _certificates(status):
        yield from _at(certificate.not_before, labels)


def _not_after(status: ConnectionStatus) -> Samples:
    if status.credential.certificate is None:
        yield from _at(status.connection.certificate_not_after, _SLOT_LABELS[Slot.CURRENT])
    for labels, certificate in _certificates(status):
        yield from _at(certificate.not_after, labels)


def _key_accepted(status: ConnectionStatus) -> Samples:
    accepted, connection = status.history.keys_accepted, status.connection
    return [
        (_SLOT_LABELS[slot], int(accepted[slot]))
        for slot, pair in ((Slot.CURRENT, connection.current), (Slot.NEXT, connection.next))
        if pair and slot in accepted
    ]


def _family(
    name: str,
    meaning: str,
    samples: Callable[[ConnectionStatus], Samples],
    *,
    own_timer: bool = False,
    source: Callable[[ConnectionStatus], object] | None = None,
) -> Family:
    kind: Literal["gauge", "counter"] = "counter" if name.endswith("_total") else "gauge"
    return Family(f"bearerwatch_connection_{name}", kind, meaning + own_timer * OWN_TIMER, samples, source)


_configuration = attrgetter("connection")
_findings = attrgetter("findings")
_pairs = attrgetter("connection", "credential", "next_credential")
_audit = attrgetter("history.audit")


FAMILIES = (
    _family(
        "up",
        "1 = the last exchange was granted; 0 = nothing proves that it works: refused, no answer, not checked"
        " yet or in time, or paused (bearerwatch_connection_state tells them apart).",
        _up,
        own_timer=True,
    ),
    _family(
        "state",
        "1 for the connection's state, 0 for the others.",
        _state,
        own_timer=True,
        source=attrgetter("state"),
    ),
    _family(
        "finding", "1 while the cause applies; absent otherwise.", _finding, own_timer=True, source=_findings
    ),
    _family(
        "finding_since_timestamp_seconds",
        "Unix time since which the cause applies.",
        _finding_since,
        own_timer=True,
        source=_findings,
    ),
    _family(
        "info",
        "Always 1: configuration of the connection, with the operator's labels.",
        _info,
        source=_configuration,
    ),
    _family(
        "last_exchange_timestamp_seconds",
        "Unix time of the last check, even if nothing could be sent; absent before the first.",
        _last_exchange,
        own_timer=True,
    ),
    _family(
        "last_success_timestamp_seconds",
        "Unix time of the last exchange that was granted; absent before the first.",
        lambda status: _at(status.history.last_success),
        own_timer=True,
    ),
    _family(
        "next_exchange_timestamp_seconds",
        "Unix time of the next check; absent while none is due.",
        lambda status: _at(status.next_exchange),
    ),
    _family(
        "interval_seconds",
        "Configured time between checks while the connection is healthy.",
        lambda status: _seconds(status.connection.interval.total_seconds()),
        source=_configuration,
    ),
    _family(
        "exchanges_total",
        "Exchanges since the database was created.",
        lambda status: (("", status.history.exchanges),),
    ),
    _family(
        "exchange_failures_total",
        "Exchanges that were not granted, since the database was created.",
        lambda status: (("", status.history.failures),),
    ),
    _family(
        "read_ok",
        "1 = this read from the org besides the exchange succeeded; 0 = it failed.",
        lambda status: [(f',read="{name}"', int(not problem)) for name, problem in status.reads.items()],
        own_timer=True,
    ),
    _family(
        "last_exchange_duration_seconds",
        "How long the last exchange took, from the start of its connection to the end of its answer;"
        " absent if nothing was sent.",
        _last_duration,
        own_timer=True,
    ),
    _family(
        "certificate_not_before_timestamp_seconds",
        "Unix time at which the certificate becomes valid.",
        _not_before,
        source=_pairs,
    ),
    _family(
        "certificate_not_after_timestamp_seconds",
        "Unix time at which the certificate expires: its own, or as declared if none is configured.",
        _not_after,
        source=_pairs,
    ),
    _family(
        "key_accepted",
        "1 = the last verdict with this key was a grant; absent before the first.",
        _key_accepted,
        own_timer=True,
    ),
    _family(
        "approval_since_timestamp_seconds",
        "Unix time at which the current approval was first seen.",
        lambda status: _at(status.history.approval_since),
    ),
    _family(
        "approval_forecast_timestamp_seconds",
        "Unix time at which the approval is expected to end, if a lifetime is declared or was learnt.",
        lambda status: _at(status.forecast.at if status.forecast else None),
    ),
    _family(
        "last_audit_timestamp_seconds",
        "Unix time of the last audit inside the org; absent before the first.",
        lambda status: _at(status.history.audit.at if status.history.audit else None),
        own_timer=True,
        source=_audit,
    ),
    _family(
        "production_last_login_timestamp_seconds",
        "Unix time of the integration's own last granted login, according to the last audit; absent if none"
        " was seen, or they cannot be told apart from ours.",
        lambda status: _at(found.granted if (found := production(status.history.audit)) else None),
        own_timer=True,
        source=_audit,
    ),
    _family(
        "production_logins_refused",
        "Refused logins of the integration itself since its last granted one, according to the last audit.",
        lambda status: (("", found.refused),) if (found := production(status.history.audit)) else (),
        own_timer=True,
        source=_audit,
    ),
    _family(
        "api_calls_used",
        "API calls used of the org's daily allocation, according to its last REST answer.",
        lambda status: (("", usage.used),) if (usage := status.history.usage) else (),
        own_timer=True,
    ),
    _family(
        "api_calls_allowed",
        "The org's daily API allocation, according to its last REST answer.",
        lambda status: (("", usage.allowed),) if (usage := status.history.usage) else (),
        own_timer=True,
    ),
    _family(
        "clock_offset_seconds",
        "The server's clock minus ours, from the answer's Date header; positive if ours is slow.",
        _clock_offset,
        own_timer=True,
    ),
)
"""Metrics from a connection's status, in the order of the page."""

MAINTENANCE = _family(
    "maintenance",
    "1 during a maintenance window, its own or the general one; absent otherwise.",
    lambda status: (("", 1),),
)
"""Depends on the current time, so it is not cached."""


# Metrics of the daemon


@dataclass(frozen=True, slots=True)
class _Counts:
    """The fleet's totals, kept up to date: counting 10,000 connections costs as much as joining the page."""

    states: Counter[State] = field(default_factory=Counter)
    failures: Counter[Cause] = field(default_factory=Counter)

    def copy(self) -> "_Counts":
        return _Counts(self.states.copy(), self.failures.copy())

    def add(self, status: ConnectionStatus, times: int = 1) -> None:
        """Count a status; `times=-1` takes it out."""
        self.states[status.state] += times
        for cause, number in status.history.failures_by_cause.items():
            self.failures[cause] += times * number


def _fleet(snapshot: Snapshot, counts: _Counts) -> Iterable[Metric]:
    """The fleet's totals and the daemon's status."""
    daemon = snapshot.daemon
    yield _labelled(
        GaugeMetricFamily("bearerwatch_build_info", "Always 1: the running version.", labels=["version"]),
        [(daemon.version, 1)],
    )
    yield GaugeMetricFamily(
        "bearerwatch_connections_configured",
        "Connections in the active configuration.",
        value=daemon.configured,
    )
    causes = GaugeMetricFamily(
        "bearerwatch_cause_info", "Always 1: the title of each cause.", labels=["cause", "title"]
    )
    for cause, entry in CATALOGUE.items():
        causes.add_metric([cause, entry.title], 1)
    yield causes
    yield _labelled(
        GaugeMetricFamily("bearerwatch_connections", "Connections in each state.", labels=["state"]),
        [(state, counts.states[state]) for state in State],
    )
    yield _labelled(
        CounterMetricFamily(
            "bearerwatch_failures",
            "Failed checks by the first cause of their diagnosis, since the database was created.",
            labels=["cause"],
        ),
        [(cause, counts.failures[cause] + snapshot.retired_failures.get(cause, 0)) for cause in Cause],
    )
    if replicas := daemon.replicas:
        for name, meaning, value in (
            ("bearerwatch_replicas", "Live replicas, as seen by this one.", replicas.alive),
            (
                "bearerwatch_replicas_configurations",
                "Different configurations among live replicas: 1 if they agree.",
                replicas.configurations,
            ),
            (
                "bearerwatch_replica_leads",
                "1 = this replica sends the notifications for all.",
                replicas.leads,
            ),
            (
                "bearerwatch_connections_scheduled",
                "Configured connections that have a due time.",
                replicas.scheduled,
            ),
            (
                "bearerwatch_database_reachable",
                "1 = the shared database answers; 0 = it does not, and this replica checks nothing.",
                replicas.reachable,
            ),
            (
                "bearerwatch_checks_overdue_seconds",
                "How long the most overdue connection has waited for its check by any replica.",
                replicas.overdue_seconds,
            ),
        ):
            yield GaugeMetricFamily(name, meaning, value=value)
    yield GaugeMetricFamily(
        "bearerwatch_config_last_reload_successful",
        "1 = the last attempt to load the configuration succeeded.",
        value=daemon.reload_problem is None,
    )
    yield GaugeMetricFamily(
        "bearerwatch_config_last_reload_success_timestamp_seconds",
        "Unix time at which the active configuration was loaded.",
        value=round(daemon.reloaded.timestamp(), 3),
    )


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, int]]) -> Metric:
    for label, value in values:
        family.add_metric([str(label)], value)
    return family


@dataclass(frozen=True, slots=True)
class _Totals:
    """A collector for the part that the library renders."""

    snapshot: Snapshot
    counts: _Counts
    own: Collector

    def collect(self) -> Iterable[Metric]:
        yield from _fleet(self.snapshot, self.counts)
        yield from self.own.collect()


# The page


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The statuses at one scrape, and their lines."""

    statuses: tuple[ConnectionStatus, ...] = ()
    columns: tuple[list[bytes], ...] = tuple([] for _ in FAMILIES)
    """For each of FAMILIES, the lines of each status. Not changed afterwards."""
    counts: _Counts = _Counts()


class MetricsPage:
    """Renders Snapshots, caching the lines of each status.

    For use in a worker thread. Concurrent scrapes are safe; at worst both render the same new statuses.
    """

    def __init__(self, own: Collector) -> None:
        self._own = own
        self._kept = _Rendered()

    def render(self, snapshot: Snapshot, exposition: Exposition = TEXT) -> list[bytes]:
        """The page in parts, one per family: as a whole it would take 17 MB for 10,000 connections, which the
        process would never release.
        """
        self._kept = rendered = _rendered(snapshot.connections, self._kept)
        pieces = [
            b"".join([family.header(exposition), *column])
            for family, column in zip(FAMILIES, rendered.columns, strict=True)
        ]
        pieces.append(b"".join([MAINTENANCE.header(exposition), *_in_maintenance(snapshot)]))
        return [*pieces, exposition.generate(_Totals(snapshot, rendered.counts, self._own))]


def _in_maintenance(snapshot: Snapshot) -> Iterator[bytes]:
    """Lines for connections in maintenance."""
    until = snapshot.maintenance()
    for status in snapshot.connections:
        if until(status.connection):
            yield MAINTENANCE.lines(status, _escaped(status.name))


def _rendered(statuses: tuple[ConnectionStatus, ...], kept: _Rendered) -> _Rendered:
    """The lines of each status, from the cache if the same object is in the same position."""
    before = kept.statuses[: len(statuses)]
    added = [b""] * (len(statuses) - len(before))
    changed = [*compress(count(), map(is_not, statuses, before)), *range(len(before), len(statuses))]
    columns = tuple(column[: len(statuses)] + added for column in kept.columns)
    counts = kept.counts.copy()
    for gone in kept.statuses[len(statuses) :]:
        counts.add(gone, -1)
    for place in changed:
        status, old = statuses[place], before[place] if place < len(before) else None
        counts.add(status)
        if old:
            counts.add(old, -1)
        known = old if old and old.name == status.name else None
        connection = _escaped(status.name)
        for family, column in zip(FAMILIES, columns, strict=True):
            source = family.source
            if not (known and source and source(known) == source(status)):
                column[place] = family.lines(status, connection)
    return _Rendered(statuses, columns, counts)
