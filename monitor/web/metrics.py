"""The metrics page: a Snapshot as Prometheus metric families, plus the daemon's own metrics.

A ConnectionStatus never changes in place, so its lines are cached while it is the same object, and a scrape
joins bytes. Rendering 10,000 connections with prometheus_client would take seconds of CPU per scrape; the
library renders only the fleet's totals and the daemon's own metrics.

Names and labels are a promise to authors of alerts and dashboards.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress, count
from operator import attrgetter, is_not
from threading import Lock
from typing import Any, Literal

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection, org_type
from monitor.core.finding import Finding, State
from monitor.core.history import Slot
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


@dataclass(frozen=True, slots=True)
class Family:
    """One family of samples about connections."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    value: Callable[[ConnectionStatus], Any]
    """What the samples of a connection depend on; None if there are none."""
    text: Callable[[str, Any], str]
    """The samples, given the start of each line (the name and `connection`) and the value."""

    def header(self, exposition: Exposition) -> bytes:
        """The HELP and TYPE lines; OpenMetrics names a counter's family without its `_total`."""
        name = self.name.removesuffix("_total") if exposition.open_metrics else self.name
        return f"# HELP {name} {self.help}\n# TYPE {name} {self.kind}\n".encode()

    def lines(self, value: object, connection: str) -> bytes:
        """The samples of one connection, whose escaped name is `connection`."""
        if value is None:
            return b""
        text = self.text(f'{self.name}{{connection="{connection}"', value)
        return text.encode("utf-8", "replace")  # lone surrogates would break the page


def _escaped(value: str) -> str:
    """A label value, escaped."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _at(start: str, moment: datetime, labels: str = "") -> str:
    """A timestamp in milliseconds, Prometheus' own precision."""
    return f"{start}{labels}}} {moment.timestamp():.3f}\n"


def _seconds(start: str, value: float) -> str:
    """A duration in microseconds precision."""
    return f"{start}}} {value:.6f}\n"


def _number(start: str, value: int, labels: str = "") -> str:
    """A whole number, or a truth as 1 or 0."""
    return f"{start}{labels}}} {value:d}\n"


def _up(status: ConnectionStatus) -> bool:
    last = status.history.last_exchange
    granted = last is not None and isinstance(last.outcome, Granted)
    return granted and not status.connection.paused and not status.unwatched


_STATES = {holds: [f',state="{state}"}} {int(state is holds)}\n' for state in State] for holds in State}


def _state(start: str, state: State) -> str:
    return start + start.join(_STATES[state])


def _first_of_each_cause(findings: Sequence[Finding]) -> Iterable[Finding]:
    """The first finding of each cause: duplicate samples would invalidate the scrape."""
    return {finding.cause: finding for finding in reversed(findings)}.values()


def _finding(start: str, findings: Sequence[Finding]) -> str:
    return "".join(
        f'{start},cause="{found.cause}",severity="{found.severity}",responsible="{found.responsible}"}} 1\n'
        for found in _first_of_each_cause(findings)
    )


def _finding_since(start: str, findings: Sequence[Finding]) -> str:
    return "".join(
        _at(start, found.since, f',cause="{found.cause}"') for found in _first_of_each_cause(findings)
    )


def _info(start: str, connection: Connection) -> str:
    host = connection.host
    labels = [("host", host), ("org_type", org_type(host)), *connection.labels]
    if connection.app:
        labels.append(("app", connection.app))
    if connection.username_in_alerts:
        labels.append(("username", connection.username))
    return start + "".join([f',{name}="{_escaped(value)}"' for name, value in labels]) + "} 1\n"


def _reads(start: str, reads: Mapping[str, str]) -> str:
    return "".join(f'{start},read="{name}"}} {not problem:d}\n' for name, problem in reads.items())


def _last(name: str) -> Callable[[ConnectionStatus], Any]:
    """An attribute of the last exchange; None if there was none."""
    attribute = attrgetter(name)
    return lambda status: attribute(last) if (last := status.history.last_exchange) else None


_CURRENT, _NEXT = (f',slot="{slot}"' for slot in (Slot.CURRENT, Slot.NEXT))


def _of_both(text: Callable[[str, Any, str], str]) -> Callable[[str, tuple[Any, Any]], str]:
    """The samples of a value of the current pair and one of the next."""

    def both(start: str, values: tuple[Any, Any]) -> str:
        current, following = values
        first = "" if current is None else text(start, current, _CURRENT)
        return first if following is None else first + text(start, following, _NEXT)

    return both


def _not_before(status: ConnectionStatus) -> tuple[datetime | None, datetime | None]:
    current, following = status.credential.certificate, status.next_certificate
    return current.not_before if current else None, following.not_before if following else None


def _not_after(status: ConnectionStatus) -> tuple[datetime | None, datetime | None]:
    following = status.next_certificate
    return status.certificate_end, following.not_after if following else None


def _accepted(status: ConnectionStatus) -> tuple[bool | None, bool | None]:
    accepted = status.history.keys_accepted
    return accepted.get(Slot.CURRENT), accepted.get(Slot.NEXT) if status.connection.next else None


def _family(
    name: str,
    meaning: str,
    value: Callable[[ConnectionStatus], Any],
    text: Callable[[str, Any], str],
    *,
    own_timer: bool = False,
) -> Family:
    kind: Literal["gauge", "counter"] = "counter" if name.endswith("_total") else "gauge"
    return Family(f"bearerwatch_connection_{name}", kind, meaning + own_timer * OWN_TIMER, value, text)


FAMILIES = (
    _family(
        "up",
        "1 = the last exchange was granted; 0 = nothing proves that it works: refused, no answer, not checked"
        " yet or in time, or paused (bearerwatch_connection_state tells them apart).",
        _up,
        _number,
        own_timer=True,
    ),
    _family(
        "state",
        "1 for the connection's state, 0 for the others.",
        attrgetter("state"),
        _state,
        own_timer=True,
    ),
    _family(
        "finding",
        "1 while the cause applies; absent otherwise.",
        lambda status: status.findings or None,
        _finding,
        own_timer=True,
    ),
    _family(
        "finding_since_timestamp_seconds",
        "Unix time since which the cause applies.",
        lambda status: status.findings or None,
        _finding_since,
        own_timer=True,
    ),
    _family(
        "info",
        "Always 1: configuration of the connection, with the operator's labels.",
        attrgetter("connection"),
        _info,
    ),
    _family(
        "last_exchange_timestamp_seconds",
        "Unix time of the last check, even if nothing could be sent; absent before the first.",
        _last("at"),
        _at,
        own_timer=True,
    ),
    _family(
        "last_success_timestamp_seconds",
        "Unix time of the last exchange that was granted; absent before the first.",
        attrgetter("history.last_success"),
        _at,
        own_timer=True,
    ),
    _family(
        "next_exchange_timestamp_seconds",
        "Unix time of the next check; absent while none is due.",
        attrgetter("next_exchange"),
        _at,
    ),
    _family(
        "interval_seconds",
        "Configured time between checks while the connection is healthy.",
        attrgetter("connection.interval"),
        lambda start, interval: f"{start}}} {interval.total_seconds()}\n",
    ),
    _family(
        "exchanges_total",
        "Exchanges since the database was created.",
        attrgetter("history.exchanges"),
        _number,
    ),
    _family(
        "exchange_failures_total",
        "Exchanges that were not granted, since the database was created.",
        attrgetter("history.failures"),
        _number,
    ),
    _family(
        "read_ok",
        "1 = this read from the org besides the exchange succeeded; 0 = it failed.",
        lambda status: status.reads or None,
        _reads,
        own_timer=True,
    ),
    _family(
        "last_exchange_duration_seconds",
        "How long the last exchange took, from the start of its connection to the end of its answer;"
        " absent if nothing was sent.",
        _last("duration_seconds"),
        _seconds,
        own_timer=True,
    ),
    _family(
        "certificate_not_before_timestamp_seconds",
        "Unix time at which the certificate becomes valid.",
        _not_before,
        _of_both(_at),
    ),
    _family(
        "certificate_not_after_timestamp_seconds",
        "Unix time at which the certificate expires: its own, or as declared if none is configured.",
        _not_after,
        _of_both(_at),
    ),
    _family(
        "key_accepted",
        "1 = the last verdict with this key was a grant; absent before the first.",
        _accepted,
        _of_both(_number),
        own_timer=True,
    ),
    _family(
        "approval_since_timestamp_seconds",
        "Unix time at which the current approval was first seen.",
        attrgetter("history.approval_since"),
        _at,
    ),
    _family(
        "approval_forecast_timestamp_seconds",
        "Unix time at which the approval is expected to end, if a lifetime is declared or was learnt.",
        lambda status: status.forecast and status.forecast.at,
        _at,
    ),
    _family(
        "last_audit_timestamp_seconds",
        "Unix time of the last audit inside the org; absent before the first.",
        lambda status: status.history.audit and status.history.audit.at,
        _at,
        own_timer=True,
    ),
    _family(
        "production_last_login_timestamp_seconds",
        "Unix time of the integration's own last granted login, according to the last audit; absent if none"
        " was seen, or they cannot be told apart from ours.",
        attrgetter("history.audit"),
        lambda start, audit: (
            _at(start, found.granted) if (found := production(audit)) and found.granted else ""
        ),
        own_timer=True,
    ),
    _family(
        "production_logins_refused",
        "Refused logins of the integration itself since its last granted one, according to the last audit.",
        attrgetter("history.audit"),
        lambda start, audit: _number(start, found.refused) if (found := production(audit)) else "",
        own_timer=True,
    ),
    _family(
        "api_calls_used",
        "API calls used of the org's daily allocation, according to its last REST answer.",
        attrgetter("history.usage"),
        lambda start, usage: _number(start, usage.used),
        own_timer=True,
    ),
    _family(
        "api_calls_allowed",
        "The org's daily API allocation, according to its last REST answer.",
        attrgetter("history.usage"),
        lambda start, usage: _number(start, usage.allowed),
        own_timer=True,
    ),
    _family(
        "clock_offset_seconds",
        "The server's clock minus ours, from the answer's Date header; positive if ours is slow.",
        _last("clock_offset_seconds"),
        _seconds,
        own_timer=True,
    ),
)
"""Metrics from a connection's status, in the order of the page."""

MAINTENANCE = _family(
    "maintenance",
    "1 during a maintenance window, its own or the general one; absent otherwise.",
    lambda status: 1,
    _number,
)
"""Depends on the current time, so it is not cached."""


# Metrics of the daemon


@dataclass(frozen=True, slots=True)
class _Counts:
    """The fleet's totals, kept up to date: counting 10,000 connections costs as much as joining the page."""

    states: Counter[State] = field(default_factory=Counter)
    failures: Counter[Cause] = field(default_factory=Counter)

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


class MetricsPage:
    """Renders Snapshots, caching the lines of each status.

    For use in a worker thread. Concurrent scrapes take turns.
    """

    def __init__(self, own: Collector) -> None:
        self._own = own
        self._rendering = Lock()
        self._statuses: tuple[ConnectionStatus, ...] = ()
        self._columns: list[list[bytes]] = [[b""] for _ in FAMILIES]
        """For each of FAMILIES, its header, and the lines of each status."""
        self._counts = _Counts()

    def render(
        self,
        snapshot: Snapshot,
        exposition: Exposition = TEXT,
        pack: Callable[[bytes], bytes] = bytes,
    ) -> list[bytes]:
        """The page in parts, one per family, each passed through `pack`.

        As a whole it would take 17 MB for 10,000 connections, which the process would never release, and to
        fill fresh memory takes longer than to join the lines.
        """
        with self._rendering:
            self._update(snapshot.connections)
            pieces = []
            for family, column in zip(FAMILIES, self._columns, strict=True):
                column[0] = family.header(exposition)
                pieces.append(pack(b"".join(column)))
            pieces.append(pack(b"".join([MAINTENANCE.header(exposition), *_in_maintenance(snapshot)])))
            pieces.append(pack(exposition.generate(_Totals(snapshot, self._counts, self._own))))
            return pieces

    def _update(self, statuses: tuple[ConnectionStatus, ...]) -> None:
        """Render the lines of each status that is not the same object in the same position."""
        added = len(statuses) - len(self._statuses)
        before: tuple[ConnectionStatus | None, ...] = self._statuses + (None,) * added
        for column in self._columns:
            del column[1 + len(statuses) :]
            column += [b""] * added
        changed = [*compress(count(), map(is_not, statuses, before))]
        for place in changed:
            status, old = statuses[place], before[place]
            known = old if old and old.name == status.name else None
            connection = _escaped(status.name)
            for family, column in zip(FAMILIES, self._columns, strict=True):
                value = family.value(status)
                if not (known and ((was := family.value(known)) is value or was == value)):
                    column[1 + place] = family.lines(value, connection)
        for gone in (*before[len(statuses) :], *[before[place] for place in changed]):
            if gone:
                self._counts.add(gone, -1)
        for place in changed:
            self._counts.add(statuses[place])
        self._statuses = statuses


def _in_maintenance(snapshot: Snapshot) -> Iterator[bytes]:
    """Lines for connections in maintenance."""
    until = snapshot.maintenance()
    for status in snapshot.connections:
        if until(status.connection):
            yield MAINTENANCE.lines(1, _escaped(status.name))
