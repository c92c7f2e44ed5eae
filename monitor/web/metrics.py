"""The metrics page: a Snapshot as Prometheus metric families, plus the daemon's own metrics.

A ConnectionStatus never changes in place, so its lines are cached while it is the same object, and a scrape
joins bytes. Rendering 10,000 connections with prometheus_client would take seconds of CPU per scrape; the
library renders only the fleet's totals and the daemon's own metrics.

Names and labels are a promise to authors of alerts and dashboards.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, compress, count
from operator import attrgetter, is_not
from threading import Lock
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import Finding, State
from monitor.core.history import Slot
from monitor.core.status import ConnectionStatus, Snapshot

OWN_TIMER = " As of the last check; the daemon's own schedule starts checks, not the scrape."
"""Exporters should measure at the scrape, and say so if they don't (Prometheus, "Writing exporters"). Here a
scrape must not cost a login."""


# Metrics of connections


@dataclass(frozen=True, slots=True)
class Family:
    """One family of samples about connections."""

    name: str
    help: str
    value: Callable[[ConnectionStatus], Any]
    """What the samples of a connection depend on; None if there are none."""
    text: Callable[[str, Any], str]
    """The samples, given the start of each line (the name and `connection`) and the value."""

    def header(self, *, open_metrics: bool) -> bytes:
        """The HELP and TYPE lines; OpenMetrics names a counter's family without its `_total`."""
        name = self.name.removesuffix("_total") if open_metrics else self.name
        kind = "counter" if self.name.endswith("_total") else "gauge"
        return f"# HELP {name} {self.help}\n# TYPE {name} {kind}\n".encode()

    def lines(self, value: object, connection: str) -> bytes:
        """The samples of one connection, whose escaped name is `connection`, if it has a value."""
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
    granted = last is not None and last.granted is not None
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
    labels = [("host", connection.host), ("org_type", connection.org_type), *connection.labels]
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


def _of_both(text: Callable[[str, Any, str], str]) -> Callable[[str, tuple[Any, Any]], str]:
    """The samples of a value of the current pair and one of the next."""

    def both(start: str, values: tuple[Any, Any]) -> str:
        current, following = values
        first = "" if current is None else text(start, current, ',slot="current"')
        return first if following is None else first + text(start, following, ',slot="next"')

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


FAMILIES = (
    Family(
        "bearerwatch_connection_up",
        "1 = the last exchange was granted; 0 = nothing proves that it works: refused, no answer, not checked"
        " yet or not in time, or paused (bearerwatch_connection_state tells them apart)." + OWN_TIMER,
        _up,
        _number,
    ),
    Family(
        "bearerwatch_connection_state",
        "1 for the connection's state, 0 for the others." + OWN_TIMER,
        attrgetter("state"),
        _state,
    ),
    Family(
        "bearerwatch_connection_finding",
        "1 while the cause applies; absent otherwise." + OWN_TIMER,
        lambda status: status.findings or None,
        _finding,
    ),
    Family(
        "bearerwatch_connection_finding_since_timestamp_seconds",
        "Unix time at which the cause began to apply." + OWN_TIMER,
        lambda status: status.findings or None,
        _finding_since,
    ),
    Family(
        "bearerwatch_connection_info",
        "Always 1: configuration of the connection, with the operator's labels.",
        attrgetter("connection"),
        _info,
    ),
    Family(
        "bearerwatch_connection_last_exchange_timestamp_seconds",
        "Unix time of the last check, even if nothing could be sent; absent before the first." + OWN_TIMER,
        _last("at"),
        _at,
    ),
    Family(
        "bearerwatch_connection_last_success_timestamp_seconds",
        "Unix time of the last exchange that was granted; absent before the first." + OWN_TIMER,
        attrgetter("history.last_success"),
        _at,
    ),
    Family(
        "bearerwatch_connection_next_exchange_timestamp_seconds",
        "Unix time of the next check; absent while none is due.",
        attrgetter("next_exchange"),
        _at,
    ),
    Family(
        "bearerwatch_connection_interval_seconds",
        "Configured time between checks while the connection is healthy.",
        attrgetter("connection.interval"),
        lambda start, interval: f"{start}}} {interval.total_seconds()}\n",
    ),
    Family(
        "bearerwatch_connection_exchanges_total",
        "Exchanges since the database was created.",
        attrgetter("history.exchanges"),
        _number,
    ),
    Family(
        "bearerwatch_connection_exchange_failures_total",
        "Exchanges that were not granted, since the database was created.",
        attrgetter("history.failures"),
        _number,
    ),
    Family(
        "bearerwatch_connection_read_ok",
        "1 = this read from the org, made after the exchange, succeeded; 0 = it failed." + OWN_TIMER,
        lambda status: status.reads or None,
        _reads,
    ),
    Family(
        "bearerwatch_connection_last_exchange_duration_seconds",
        "How long the last exchange took, from the start of its connection to the end of its answer;"
        " absent if nothing was sent." + OWN_TIMER,
        _last("duration_seconds"),
        _seconds,
    ),
    Family(
        "bearerwatch_connection_certificate_not_before_timestamp_seconds",
        "Unix time at which the certificate becomes valid.",
        _not_before,
        _of_both(_at),
    ),
    Family(
        "bearerwatch_connection_certificate_not_after_timestamp_seconds",
        "Unix time at which the certificate expires: its own, or as declared if none is configured.",
        _not_after,
        _of_both(_at),
    ),
    Family(
        "bearerwatch_connection_key_accepted",
        "1 = the last verdict with this key was a grant; absent before the first." + OWN_TIMER,
        _accepted,
        _of_both(_number),
    ),
    Family(
        "bearerwatch_connection_approval_since_timestamp_seconds",
        "Unix time at which the current approval was first seen.",
        attrgetter("history.approval_since"),
        _at,
    ),
    Family(
        "bearerwatch_connection_approval_forecast_timestamp_seconds",
        "Unix time at which the approval is expected to end, if a lifetime is declared or was learnt.",
        lambda status: status.forecast and status.forecast.at,
        _at,
    ),
    Family(
        "bearerwatch_connection_last_audit_timestamp_seconds",
        "Unix time of the last audit inside the org; absent before the first." + OWN_TIMER,
        lambda status: status.history.audit and status.history.audit.at,
        _at,
    ),
    Family(
        "bearerwatch_connection_production_last_login_timestamp_seconds",
        "Unix time of the integration's own last granted login, according to the last audit; absent if none"
        " was seen, or if they cannot be told apart from ours." + OWN_TIMER,
        attrgetter("history.audit"),
        lambda start, audit: (
            _at(start, found.granted) if (found := audit.production) and found.granted else ""
        ),
    ),
    Family(
        "bearerwatch_connection_production_logins_refused",
        "Refused logins of the integration itself since its last granted one, according to the last audit."
        + OWN_TIMER,
        attrgetter("history.audit"),
        lambda start, audit: _number(start, found.refused) if (found := audit.production) else "",
    ),
    Family(
        "bearerwatch_connection_api_calls_used",
        "API calls used of the org's daily allocation, according to its last REST answer." + OWN_TIMER,
        attrgetter("history.usage"),
        lambda start, usage: _number(start, usage.used),
    ),
    Family(
        "bearerwatch_connection_api_calls_allowed",
        "The org's daily API allocation, according to its last REST answer." + OWN_TIMER,
        attrgetter("history.usage"),
        lambda start, usage: _number(start, usage.allowed),
    ),
    Family(
        "bearerwatch_connection_clock_offset_seconds",
        "The server's clock minus ours, from the answer's Date header; positive if ours is slow." + OWN_TIMER,
        _last("clock_offset_seconds"),
        _seconds,
    ),
)
"""Metrics from a connection's status, in the order of the page."""

MAINTENANCE = Family(
    "bearerwatch_connection_maintenance",
    "1 during a maintenance window, its own or a global one; absent otherwise.",
    lambda status: 1,
    _number,
)
"""Depends on the current time, so it is not cached."""


# Metrics of the daemon


def _fleet(snapshot: Snapshot, states: Counter[State], failures: Counter[Cause]) -> Iterable[Metric]:
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
        [(state, states[state]) for state in State],
    )
    yield _labelled(
        CounterMetricFamily(
            "bearerwatch_failures",
            "Failed checks by the first cause of their diagnosis, since the database was created.",
            labels=["cause"],
        ),
        [(cause, failures[cause] + snapshot.retired_failures.get(cause, 0)) for cause in Cause],
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
                "How long the most overdue connection has waited for any replica to check it.",
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

    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


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
        self._states, self._failures = Counter[State](), Counter[Cause]()
        """The fleet's totals, kept: counting 10,000 connections costs as much as joining the page."""

    def render(
        self, snapshot: Snapshot, accept: str = "", pack: Callable[[bytes], bytes] = bytes
    ) -> tuple[list[bytes], str]:
        """The page in parts, each passed through `pack`, and its content type for an `Accept` header.

        As a whole it would take 17 MB for 10,000 connections, which the process would never release, and to
        fill fresh memory takes longer than to join the lines.
        """
        asked = {kind.split(";")[0].strip().lower() for kind in accept.split(",")}
        open_metrics = "application/openmetrics-text" in asked
        library, content_type = (
            (openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST)
            if open_metrics
            else (generate_latest, CONTENT_TYPE_PLAIN_0_0_4)
        )
        maintained = [
            MAINTENANCE.lines(1, _escaped(status.name))
            for status in snapshot.connections
            if snapshot.maintenance(status.connection)
        ]
        with self._rendering:
            self._update(snapshot.connections)
            pieces = []
            for family, column in zip(FAMILIES, self._columns, strict=True):
                column[0] = family.header(open_metrics=open_metrics)
                pieces.append(pack(b"".join(column)))
            pieces.append(pack(b"".join([MAINTENANCE.header(open_metrics=open_metrics), *maintained])))
            totals = _Totals(chain(_fleet(snapshot, self._states, self._failures), self._own.collect()))
            pieces.append(pack(library(totals)))
            return pieces, content_type

    def _update(self, statuses: tuple[ConnectionStatus, ...]) -> None:
        """Render the lines of each status that is not the same object in the same position."""
        added = len(statuses) - len(self._statuses)
        before: tuple[ConnectionStatus | None, ...] = self._statuses + (None,) * added
        for column in self._columns:
            del column[1 + len(statuses) :]
            column += [b""] * added
        changed = [*compress(count(), map(is_not, statuses, before))]
        parts = [
            (family.value, family.lines, column)
            for family, column in zip(FAMILIES, self._columns, strict=True)
        ]
        for place in changed:
            status, old = statuses[place], before[place]
            known = old if old and old.name == status.name else None
            connection = _escaped(status.name)
            for value_of, lines, column in parts:
                value = value_of(status)
                if not (known and ((was := value_of(known)) is value or was == value)):
                    column[1 + place] = b"" if value is None else lines(value, connection)
        for gone in (*before[len(statuses) :], *[before[place] for place in changed]):
            if gone:
                self._count(gone, -1)
        for place in changed:
            self._count(statuses[place], 1)
        self._statuses = statuses

    def _count(self, status: ConnectionStatus, times: int) -> None:
        self._states[status.state] += times
        for cause, number in status.history.failures_by_cause.items():
            self._failures[cause] += times * number
