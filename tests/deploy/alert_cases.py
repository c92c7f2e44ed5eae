"""For every alert the series in which it fires and those in which it must not, as promtool's unit tests.

`deploy/prometheus/alerts.test.yml` is written from here: `python -m tests.deploy.alert_cases`. The times are
those of config.example.yaml, in plain numbers: they don't follow the rules, so that a wrong rule shows.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.wording import with_last, with_name

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
TESTS = DEPLOY / "prometheus" / "alerts.test.yml"

STEP = 0.5
"""Minutes between two samples and two evaluations."""

CONFIRMED = 2.0
TRANSIENT = 15.0
SETTLING = 11.0
THROTTLED = 16.0
"""Minutes that a finding must last: a look and its confirmation; three intervals of 5 minutes; the settle
time of 10; the 15 minutes after which a throttled login is tried again."""

KEPT = 5.0
"""Minutes that an alert keeps firing after its end, so that a restart ends none."""

LONG = 24 * 60.0
"""Minutes: longer than any case runs."""


@dataclass(frozen=True)
class Firing:
    """An alert that must be firing, with all its labels."""

    name: str
    labels: Mapping[str, str]

    def sample(self) -> dict[str, Any]:
        labels = {"alertname": self.name, "alertstate": "firing", **self.labels}
        text = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
        return {"labels": f"ALERTS{{{text}}}", "value": 1}


@dataclass(frozen=True)
class Text:
    """What an alert must say, word for word."""

    at: float
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """Series, and exactly the alerts that fire at some minutes."""

    name: str
    series: Mapping[str, str]
    firing: Mapping[float, Iterable[Firing]]
    spares: tuple[str, ...] = ()
    """Alerts that come near, and must not fire."""
    texts: tuple[Text, ...] = field(default=())


# Series


def steps(minutes: float) -> int:
    return round(minutes / STEP)


def constant(value: float, minutes: float = LONG) -> str:
    return f"{value:g}x{steps(minutes)}"


def between(start: float, end: float, value: float = 1) -> str:
    """There from one minute until just before another, and then gone from the page."""
    before = f"_x{steps(start)} " if start else ""
    return f"{before}{value:g}x{steps(end - start) - 1} stale"


def until(minute: float, values: str) -> str:
    """The same values until the page is gone."""
    return re.sub(r"x[0-9]+$", f"x{steps(minute) - 1} stale", values)


def counting(per_minute: float, minutes: float = LONG) -> str:
    return f"0+{per_minute * STEP:g}x{steps(minutes)}"


def jump(at: float, by: float) -> str:
    """A counter that is constant except for one increase."""
    return f"0x{steps(at) - 1} {by:g}x{steps(LONG)}"


DAEMON = {
    'up{job="bearerwatch",instance="here:9877"}': constant(1),
    'bearerwatch_build_info{job="bearerwatch",instance="here:9877",version="1"}': constant(1),
}


def connections(*names: str, state: str = "healthy") -> dict[str, str]:
    """A daemon with these connections, each checked on time."""
    series = dict(DAEMON)
    series["bearerwatch_connections_configured" + of()] = constant(len(names))
    for name in names:
        for each in sorted({"healthy", "paused", state}):
            series["bearerwatch_connection_state" + of(connection=name, state=each)] = constant(each == state)
        if state != "paused":
            # Always 200 seconds ahead.
            due = f"200+{STEP * 60:g}x{steps(LONG)}"
            series["bearerwatch_connection_next_exchange_timestamp_seconds" + of(connection=name)] = due
    return series


def of(**labels: str) -> str:
    """The labels of a series of the daemon's."""
    labels = {"job": "bearerwatch", "instance": "here:9877", **labels}
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def labels_of(
    connection: str,
    cause: Cause,
    severity: Severity | None = None,
    responsible: Responsible | None = None,
) -> dict[str, str]:
    entry = CATALOGUE[cause]
    return {
        "connection": connection,
        "cause": cause.value,
        "severity": (severity or entry.severity).value,
        "responsible": (responsible or entry.responsible).value,
    }


def finding(
    connection: str,
    cause: Cause,
    values: str,
    severity: Severity | None = None,
    responsible: Responsible | None = None,
    since: int = 300,
) -> dict[str, str]:
    """What a connection has, and since which second."""
    return {
        "bearerwatch_connection_finding" + of(**labels_of(connection, cause, severity, responsible)): values,
        "bearerwatch_connection_finding_since_timestamp_seconds"
        + of(connection=connection, cause=cause.value): re.sub(r"\b1x", f"{since}x", values),
    }


def alert_of(cause: Cause) -> str:
    return "Bearerwatch" + "".join(word.capitalize() for word in cause.value.split("_"))


def single(connection: str, cause: Cause, severity: Severity | None = None) -> Firing:
    """The alert about one connection."""
    return Firing(alert_of(cause), labels_of(connection, cause, severity))


def own(name: str, severity: str = "warning", **labels: str) -> Firing:
    """An alert about the daemon."""
    return Firing(name, {"severity": severity, "responsible": "operator", **labels})


HERE = {"job": "bearerwatch", "instance": "here:9877"}

HOST = {"host": "acme.my.salesforce.com"}
INFO = {"bearerwatch_connection_info" + of(connection="acme", org_type="production", **HOST): constant(1)}

# Causes

WITHOUT_VERDICT = (
    Cause.SALESFORCE_UNAVAILABLE,
    Cause.NETWORK_UNREACHABLE,
    Cause.TLS_UNTRUSTED,
    Cause.MONITOR_FAULT,
    Cause.SUBDOMAIN_UNKNOWN,
)

HOLDS = {
    **dict.fromkeys(Cause, CONFIRMED),
    **dict.fromkeys(WITHOUT_VERDICT, TRANSIENT),
    Cause.PROPAGATION_PENDING: SETTLING,
    Cause.LOGIN_RATE_EXCEEDED: THROTTLED,
}
"""Minutes that each cause must last."""

BEGIN = 5.0
"""The minute at which findings begin."""


def cases() -> Iterator[Case]:
    yield from causes()
    yield from bands()
    yield from fleet()
    yield from maintenance()
    yield from daemon()
    yield from absence()
    yield from prometheus_says()


def causes() -> Iterator[Case]:
    every = connections(*Cause)
    lasting = dict(every)
    passing = dict(every)
    for cause, hold in HOLDS.items():
        lasting |= finding(cause, cause, between(BEGIN, LONG))
        passing |= finding(cause, cause, between(BEGIN, BEGIN + hold))
    moments = sorted(set(HOLDS.values()))
    yield Case(
        "Each cause that lasts becomes an alert, and not before its hold time",
        lasting,
        {
            BEGIN + moment + shift: [
                single(cause, cause) for cause, hold in HOLDS.items() if hold <= moment + shift
            ]
            for moment in moments
            for shift in (-STEP, 0)
        },
    )
    yield Case(
        "A finding shorter than its hold time raises no alert: a refusal, a short outage, a settling change",
        passing,
        {BEGIN + moment: [] for moment in (CONFIRMED - STEP, CONFIRMED, 5, SETTLING, TRANSIENT, 20)},
        spares=tuple(alert_of(cause) for cause in Cause),
    )
    yield Case(
        "Two replicas with the same finding raise one alert, which ends once both see it end",
        connections("acme")
        | finding("acme", Cause.USER_INACTIVE, between(BEGIN, 12))
        | {
            series.replace("here", "there"): values
            for series, values in finding("acme", Cause.USER_INACTIVE, between(BEGIN, 10)).items()
        },
        {
            BEGIN + CONFIRMED: [single("acme", Cause.USER_INACTIVE)],
            11: [single("acme", Cause.USER_INACTIVE)],
            12 + KEPT - STEP: [single("acme", Cause.USER_INACTIVE)],
            12 + KEPT: [],
        },
    )
    yield Case(
        "A fault that comes and goes is one alert, which lasts one interval longer",
        connections("acme") | finding("acme", Cause.NETWORK_UNREACHABLE, between(BEGIN, 25)),
        {
            24: [single("acme", Cause.NETWORK_UNREACHABLE)],
            29.5: [single("acme", Cause.NETWORK_UNREACHABLE)],
            31: [],
        },
    )
    yield Case(
        "The severity is the finding's: while logins are granted, a short key is only a warning",
        connections("acme") | finding("acme", Cause.KEY_TOO_SHORT, between(BEGIN, LONG), Severity.WARNING),
        {BEGIN + CONFIRMED: [single("acme", Cause.KEY_TOO_SHORT, Severity.WARNING)]},
    )
    info = {"bearerwatch_cause_info" + of(cause=cause, title="T"): constant(1) for cause in Cause}
    new = {"bearerwatch_cause_info" + of(cause="brand_new", title="T"): between(BEGIN, LONG)}
    yield Case(
        "A daemon with a cause that the rules lack is newer than the rules",
        connections("acme") | info | new,
        {BEGIN: [], BEGIN + 0.5: [own("BearerwatchCauseWithoutRule")]},
    )
    yield Case(
        "A daemon with the same causes as the rules is not newer",
        connections("acme") | info,
        {BEGIN + CONFIRMED: []},
        spares=("BearerwatchCauseWithoutRule",),
    )


def bands() -> Iterator[Case]:
    expiring = Cause.CERTIFICATE_EXPIRING
    yield Case(
        "A certificate that enters the critical band raises a critical alert",
        connections("acme")
        | finding("acme", expiring, between(BEGIN, 20), Severity.WARNING)
        | finding("acme", expiring, between(20, LONG), Severity.CRITICAL)
        | {
            "bearerwatch_connection_finding_since_timestamp_seconds"
            + of(connection="acme", cause=expiring.value): between(BEGIN, LONG, 300)
        },
        {
            BEGIN + CONFIRMED: [single("acme", expiring, Severity.WARNING)],
            # Alertmanager inhibits the warning while the critical alert fires.
            22: [
                single("acme", expiring, Severity.WARNING),
                single("acme", expiring, Severity.CRITICAL),
            ],
            20 + KEPT: [single("acme", expiring, Severity.CRITICAL)],
        },
    )


# Many, and what no cause explains


def numbered(count: int) -> list[str]:
    return [f"org-{number:02}" for number in range(count)]


def some(count: int, cause: Cause, values: str, since: int = 300) -> dict[str, str]:
    series: dict[str, str] = {}
    for name in numbered(count):
        series |= finding(name, cause, values, since=since)
    return series


def many(name: str, cause: Cause) -> Firing:
    labels = labels_of("", cause, responsible=Responsible.OPERATOR)
    return Firing(name, {label: value for label, value in labels.items() if label != "connection"})


def fleet() -> Iterator[Case]:
    decayed, network = Cause.APPROVAL_DECAYED, Cause.NETWORK_UNREACHABLE
    affected = many("BearerwatchManyConnectionsAffected", decayed)
    unreachable = many("BearerwatchManyConnectionsUnreachable", network)
    yield Case(
        "Five of twenty refused at once are one event, which fires before the individual alerts",
        connections(*numbered(20)) | some(5, decayed, between(BEGIN, LONG)),
        {
            BEGIN: [],
            BEGIN + 0.5: [affected],
            BEGIN + CONFIRMED: [affected, *(single(name, decayed) for name in numbered(5))],
        },
    )
    blocked = Cause.IP_RESTRICTED
    responsible = [Responsible.ORG_ADMIN] * 3 + [Responsible.OPERATOR] * 2
    shared: dict[str, str] = {}
    for name, who in zip(numbered(5), responsible, strict=True):
        shared |= finding(name, blocked, between(BEGIN, LONG), responsible=who)
    yield Case(
        "Five with the same cause are one event, even if different people are responsible",
        connections(*numbered(20)) | shared,
        {BEGIN + 0.5: [many("BearerwatchManyConnectionsAffected", blocked)]},
    )
    yield Case(
        "An event that is repaired ends a minute after the individual ones, which stay inhibited",
        connections(*numbered(20)) | some(5, decayed, between(BEGIN, 20)),
        {
            19.5: [affected, *(single(name, decayed) for name in numbered(5))],
            20 + KEPT - STEP: [affected, *(single(name, decayed) for name in numbered(5))],
            20 + KEPT: [affected],
            21 + KEPT: [],
        },
    )
    yield Case(
        "The last few of an event get their own alerts",
        connections(*numbered(20))
        | some(5, decayed, between(BEGIN, 20))
        | finding(numbered(1)[0], decayed, between(BEGIN, LONG)),
        {40: [single(numbered(1)[0], decayed)]},
    )
    yield Case(
        "After six hours an event is over, and what is left gets its own alerts",
        connections(*numbered(20)) | some(5, decayed, between(BEGIN, LONG)),
        {
            364: [affected, *(single(name, decayed) for name in numbered(5))],
            373: [single(name, decayed) for name in numbered(5)],
        },
    )
    yield Case(
        "Failures of a third of the fleet since yesterday are not an event, nor is one more",
        connections(*numbered(15))
        | some(5, decayed, constant(1), since=-86_400)
        | finding(numbered(6)[5], decayed, between(BEGIN, LONG)),
        {
            BEGIN + 1: [single(name, decayed) for name in numbered(5)],
            BEGIN + CONFIRMED: [single(name, decayed) for name in numbered(6)],
        },
        spares=("BearerwatchManyConnectionsAffected",),
    )
    for count, firing in ((50, [affected]), (49, [])):
        yield Case(
            f"Of a large fleet {count} {'are' if firing else 'are not'} an event, though less than a quarter",
            connections(*numbered(240)) | some(count, decayed, between(BEGIN, LONG)),
            {BEGIN + 0.5: firing},
        )
    yield Case(
        "Five of twenty-one are fewer than a quarter",
        connections(*numbered(21)) | some(5, decayed, between(BEGIN, BEGIN + 1.5)),
        {BEGIN + 0.5: [], BEGIN + 1: []},
        spares=("BearerwatchManyConnectionsAffected",),
    )
    yield Case(
        "Four are alerted one by one, even if the fleet has no more",
        connections(*numbered(4)) | some(4, decayed, between(BEGIN, LONG)),
        {BEGIN + 1.5: [], BEGIN + CONFIRMED: [single(name, decayed) for name in numbered(4)]},
        spares=("BearerwatchManyConnectionsAffected",),
    )
    yield Case(
        "Paused connections do not count as part of the fleet",
        connections(*numbered(19))
        | connections("paused-1", "paused-2", state="paused")
        | {"bearerwatch_connections_configured" + of(): constant(21)}
        | some(5, decayed, between(BEGIN, LONG)),
        {BEGIN + 0.5: [affected]},
    )
    yield Case(
        "Our own network is down for longer than a passing outage",
        connections(*numbered(8)) | some(8, network, between(BEGIN, LONG)),
        {
            BEGIN + 9.5: [],
            BEGIN + 10: [unreachable],
            BEGIN + TRANSIENT: [unreachable, *(single(name, network) for name in numbered(8))],
        },
    )
    yield Case(
        "The alert about an outage ends an interval after the individual ones, which stay inhibited",
        connections(*numbered(8)) | some(8, network, between(BEGIN, 30)),
        {
            34.5: [unreachable, *(single(name, network) for name in numbered(8))],
            35.5: [unreachable],
            40.5: [unreachable],
            41.5: [],
        },
    )
    yield Case(
        "A nine-minute outage of our own network raises no alert",
        connections(*numbered(8)) | some(8, network, between(BEGIN, BEGIN + 9)),
        {BEGIN + 5: [], BEGIN + 9: [], BEGIN + 10: [], BEGIN + 16: []},
        spares=("BearerwatchManyConnectionsUnreachable", "BearerwatchNetworkUnreachable"),
    )
    yield from unexplained()
    yield from unsteady()


def unexplained() -> Iterator[Case]:
    silent = own("BearerwatchConnectionUnexplained", "critical", connection="acme", **HOST)
    for state in ("failing", "unknown"):
        yield Case(
            f"A connection that is {state} without a finding raises an alert",
            connections("acme", state=state) | INFO,
            {14.5: [], 15: [silent]},
        )
    yield Case(
        "A failing connection with a finding is not unexplained",
        connections("acme", state="failing") | finding("acme", Cause.ORG_INACTIVE, constant(1)),
        {20: [single("acme", Cause.ORG_INACTIVE)]},
        spares=("BearerwatchConnectionUnexplained",),
    )


def flapping(times: int, begin: float = 0) -> dict[str, str]:
    """Fails for one minute in five, this many times."""
    fails = " ".join(["1x7 0x1"] * times)
    before = f"1x{steps(begin) - 1} " if begin else ""
    return {"bearerwatch_connection_up" + of(connection="acme"): f"{before}{fails} {constant(1)}"}


def unsteady() -> Iterator[Case]:
    unsteady = own("BearerwatchConnectionUnsteady", connection="acme", **HOST)
    yield Case(
        "A connection that fails and recovers three times within an hour is unsteady",
        connections("acme") | INFO | flapping(3),
        {14: [], 15.5: [unsteady], 60: [unsteady], 75: []},
    )
    yield Case(
        "One that fails twice is not unsteady",
        connections("acme") | INFO | flapping(2),
        {10.5: [], 30: []},
        spares=("BearerwatchConnectionUnsteady",),
    )
    network = Cause.NETWORK_UNREACHABLE
    yield Case(
        "One that was down for an hour is not unsteady: it had its own alert",
        connections("acme")
        | INFO
        | {"bearerwatch_connection_up" + of(connection="acme"): f"1x9 0x120 {constant(1)}"}
        | finding("acme", network, between(5, 65)),
        {60: [Firing(alert_of(network), labels_of("acme", network) | HOST)], 75: []},
        spares=("BearerwatchConnectionUnsteady",),
    )


# What is held back


def in_maintenance(start: float, end: float, *names: str) -> dict[str, str]:
    return {"bearerwatch_connection_maintenance" + of(connection=name): between(start, end) for name in names}


def maintenance() -> Iterator[Case]:
    decayed = Cause.APPROVAL_DECAYED
    held = alert_of(decayed)
    yield Case(
        "A finding that begins during maintenance raises an alert afterwards if it still applies",
        connections("acme", "globex", "short")
        | in_maintenance(4, 30, "acme", "short")
        | finding("acme", decayed, between(BEGIN, 40))
        | finding("short", decayed, between(BEGIN, 29))
        | finding("globex", decayed, between(BEGIN, 40)),
        {
            BEGIN + CONFIRMED: [single("globex", decayed)],
            29: [single("globex", decayed)],
            30 + CONFIRMED - STEP: [single("globex", decayed)],
            30 + CONFIRMED: [single("globex", decayed), single("acme", decayed)],
            40 + KEPT: [],
        },
        spares=(held,),
    )
    yield Case(
        "An alert ends when maintenance begins, and returns after it",
        connections("acme") | in_maintenance(10, 60, "acme") | finding("acme", decayed, between(BEGIN, LONG)),
        {
            9: [single("acme", decayed)],
            9.5 + KEPT: [single("acme", decayed)],
            10 + KEPT: [],
            60: [],
            60 + CONFIRMED: [single("acme", decayed)],
        },
    )
    yield Case(
        "Connections in maintenance do not count towards an event",
        connections(*numbered(8))
        | in_maintenance(0, LONG, *numbered(4))
        | some(8, decayed, between(BEGIN, LONG)),
        {BEGIN + 0.5: [], BEGIN + CONFIRMED: [single(name, decayed) for name in numbered(8)[4:]]},
        spares=("BearerwatchManyConnectionsAffected",),
    )
    yield Case(
        "Maintenance of all connections suppresses the event, too",
        connections(*numbered(8))
        | in_maintenance(0, 20, *numbered(8))
        | some(8, decayed, between(BEGIN, LONG)),
        {
            BEGIN + CONFIRMED: [],
            19: [],
            20.5: [many("BearerwatchManyConnectionsAffected", decayed)],
        },
        spares=("BearerwatchManyConnectionsAffected", held),
    )
    yield Case(
        "A failure without a cause waits for the end of maintenance, too",
        connections("acme", state="unknown") | INFO | in_maintenance(0, 30, "acme"),
        {
            29: [],
            44.5: [],
            45: [own("BearerwatchConnectionUnexplained", "critical", connection="acme", **HOST)],
        },
        spares=("BearerwatchConnectionUnexplained",),
    )
    yield Case(
        "Failures during maintenance make no connection unsteady, even afterwards",
        connections("acme") | INFO | flapping(4) | in_maintenance(0, 30, "acme"),
        {29: [], 32: []},
        spares=("BearerwatchConnectionUnsteady",),
    )


# The daemon


def daemon() -> Iterator[Case]:
    yield from late()
    yield from coverage()
    yield from replicas()
    reload = "bearerwatch_config_last_reload_successful" + of()
    failed = own("BearerwatchReloadFailed", **HERE)
    yield Case(
        "A configuration that stays broken raises an alert",
        connections("acme") | {reload: f"1x9 {constant(0)}"},
        {9.5: [], 10: [failed]},
    )
    yield Case(
        "A configuration that is fixed within minutes raises none",
        connections("acme") | {reload: f"1x9 0x8 {constant(1)}"},
        {9.5: [], 10: [], 12: []},
        spares=("BearerwatchReloadFailed",),
    )
    for name, metric, severity, labels in (
        ("BearerwatchScheduleMissed", "schedule_missed_total", "warning", {}),
        ("BearerwatchLogErrors", "log_messages_total", "warning", {"level": "error"}),
    ):
        yield Case(
            f"{name}: one is enough, and fires for a quarter of an hour",
            connections("acme") | {f"bearerwatch_{metric}" + of(**labels): jump(5, 1)},
            {
                5.5: [],
                6: [own(name, severity, **HERE, **labels)],
                19: [own(name, severity, **HERE, **labels)],
                21: [],
            },
        )
        yield Case(
            f"{name}: old counts raise no alert",
            connections("acme") | {f"bearerwatch_{metric}" + of(**labels): constant(7)},
            {6: [], 30: []},
            spares=(name,),
        )
    yield Case(
        "Warnings in the log do not count as errors",
        connections("acme") | {"bearerwatch_log_messages_total" + of(level="warning"): counting(10)},
        {10: []},
        spares=("BearerwatchLogErrors",),
    )
    yield from over_time("BearerwatchStoreFailing", "store_errors_total", "warning", hold=5.5, passes=3)
    yield Case(
        "A hanging disk raises the alert, although no write fails",
        connections("acme") | {"bearerwatch_store_unwritten_seconds" + of(): f"0+30x{steps(30)}"},
        {6: [], 6.5: [own("BearerwatchStoreFailing", "warning", **HERE)]},
    )
    yield from over_time(
        "BearerwatchNotificationsFailing", "notifications_failed_total", "critical", hold=20.5, passes=9
    )
    yield from over_time(
        "BearerwatchLoginBudgetShort", "logins_deferred_total", "warning", hold=60.5, passes=0.5
    )


def over_time(name: str, metric: str, severity: str, *, hold: float, passes: float) -> Iterator[Case]:
    """Counters that may count for a while."""
    series = f"bearerwatch_{metric}" + of()
    yield Case(
        f"{name}: it lasts",
        connections("acme") | {series: counting(1)},
        {hold - 1: [], hold: [own(name, severity, **HERE)]},
    )
    count = steps(passes)
    yield Case(
        f"{name}: it ends soon",
        connections("acme") | {series: f"0+1x{count} {constant(count)}"},
        {hold: [], hold + 10: []} if hold < 60 else {30: [], hold - 1: [], hold + 2: []},
        spares=(name,),
    )


def late() -> Iterator[Case]:
    due = "bearerwatch_connection_next_exchange_timestamp_seconds" + of(connection="acme")
    late = own("BearerwatchChecksLate", "critical")
    yield Case(
        "A check that is overdue by an interval is late",
        connections("acme") | {due: constant(60)},
        {6.5: [], 7.5: [late]},
    )
    yield Case(
        "A connection without a scheduled check is late, although nothing is overdue",
        {series: values for series, values in connections("acme").items() if series != due},
        {0.5: [], 1: [late]},
    )
    last = due.replace("next_exchange", "last_exchange")
    interval = "bearerwatch_connection_interval_seconds" + of(connection="acme")
    put_off = connections("acme") | {due: constant(10_000_000), last: constant(60), interval: constant(300)}
    stopped = own("BearerwatchChecksStopped", "critical")
    yield Case(
        "A connection that was not checked for three intervals raises an alert, whatever is scheduled",
        put_off,
        {28.5: [], 29: [stopped]},
    )
    yield Case(
        "A last check weeks in the future does not count as recent",
        put_off | {last: constant(4_000_000)},
        {10.5: [], 11: [stopped]},
    )
    yield Case(
        "After a long absence, connections have an interval to be checked again",
        put_off | {last: f"-90000x8 {constant(270)}"},
        {4: [], 4.5: [], 10: []},
        spares=("BearerwatchChecksStopped",),
    )
    yield Case(
        "A check that waits some minutes for a slot is not late",
        connections("acme") | {due: f"60x11 {constant(1000)}"},
        {5: [], 6: [], 8: []},
        spares=("BearerwatchChecksLate",),
    )
    yield Case(
        "Neither a paused connection nor one with a longer interval is late",
        connections("acme", state="paused")
        | connections("globex")
        | {
            "bearerwatch_connections_configured" + of(): constant(2),
            due.replace("acme", "globex"): constant(7200),
        },
        {10: [], 60: []},
        spares=("BearerwatchChecksLate",),
    )


def coverage() -> Iterator[Case]:
    configured = "bearerwatch_connections_configured" + of()
    incomplete = own("BearerwatchCoverageIncomplete", "critical", **HERE)
    yield Case(
        "A connection that is configured but not exported raises an alert",
        connections("acme", "globex") | {configured: constant(3)},
        {0.5: [], 1: [incomplete]},
    )
    yield Case(
        "No connection is exported at all",
        DAEMON | {configured: constant(3)},
        {0.5: [], 1: [incomplete]},
    )
    yield Case(
        "A reload between two scrapes does not count as missing connections",
        connections("acme", "globex") | {configured: f"2x9 3x0 {constant(2)}"},
        {5: [], 5.5: [], 6: []},
        spares=("BearerwatchCoverageIncomplete",),
    )
    yield Case(
        "A daemon without connections watches nothing",
        DAEMON | {configured: constant(0)},
        {14.5: [], 15: [own("BearerwatchWatchesNothing", **HERE)]},
    )
    yield Case(
        "A daemon that gets connections within minutes is only being set up",
        connections("acme") | {configured: f"0x0 {constant(1)}"},
        {1: [], 16: []},
        spares=("BearerwatchWatchesNothing",),
    )


def at_one(instance: str, series: Mapping[str, str]) -> dict[str, str]:
    """The same series of another replica."""
    return {name.replace("here:9877", f"{instance}:9877"): values for name, values in series.items()}


def at_each(series: Mapping[str, str]) -> dict[str, str]:
    """The same series of three replicas."""
    return {
        name: values
        for instance in ("here", "there", "yonder")
        for name, values in at_one(instance, series).items()
    }


def replicas() -> Iterator[Case]:
    """Three of them, who see the same: each alert is one."""
    differing = "bearerwatch_replicas_configurations" + of()
    three = at_each(connections("acme"))
    yield Case(
        "Replicas with different configurations raise one alert if it lasts",
        three | at_each({differing: f"1x9 {constant(2)}"}),
        {19.5: [], 20: [own("BearerwatchReplicasDiffer", job="bearerwatch")]},
    )
    yield Case(
        "Replicas that get a new configuration one after the other raise none",
        three | at_each({differing: f"1x9 2x{steps(10)} {constant(1)}"}),
        {19.5: [], 21: [], 30: []},
        spares=("BearerwatchReplicasDiffer",),
    )
    decayed = single("acme", Cause.APPROVAL_DECAYED)
    yield Case(
        "A finding that three replicas see is one alert",
        three | at_each(finding("acme", Cause.APPROVAL_DECAYED, constant(1))),
        {30: [decayed]},
    )
    cut_off = {
        series: values if series.startswith("up{") else until(5, values)
        for series, values in at_one(
            "there", connections("acme") | finding("acme", Cause.APP_BLOCKED, constant(1))
        ).items()
    }
    down = own("BearerwatchDown", "critical", job="bearerwatch", instance="there:9877")
    up = 'up{job="bearerwatch",instance="there:9877"}'
    yield Case(
        "A replica cut off from its database answers 503: it is down, and its findings end",
        connections("acme") | cut_off | {up: f"1x9 {constant(0)}"},
        {4: [single("acme", Cause.APP_BLOCKED)], 8: [single("acme", Cause.APP_BLOCKED), down], 30: [down]},
        spares=("BearerwatchChecksLate", "BearerwatchConnectionUnexplained"),
    )


def absence() -> Iterator[Case]:
    """The daemon goes at minute 10, and with it every series of it."""
    decayed = single("acme", Cause.APPROVAL_DECAYED)
    absent = own("BearerwatchAbsent", "critical")
    down = own("BearerwatchDown", "critical", **HERE)
    alive = connections("acme") | finding("acme", Cause.APPROVAL_DECAYED, constant(1))
    dead = {series: until(10, values) for series, values in alive.items()}
    up = 'up{job="bearerwatch",instance="here:9877"}'
    yield Case(
        "The daemon's absence fires before its findings end, in time to inhibit them",
        dead | {up: f"1x19 {constant(0)}"},
        {
            9: [decayed],
            12.5: [decayed],
            13: [decayed, absent, down],
            9.5 + KEPT: [decayed, absent, down],
            10 + KEPT: [absent, down],
        },
    )
    yield Case(
        "A daemon that Prometheus no longer scrapes is absent, too",
        dead | {up: between(0, 10)},
        {12.5: [decayed], 13: [decayed, absent]},
        spares=("BearerwatchDown",),
    )
    back = {series: f"{values} _x9 {constant(int(values[0]))}" for series, values in dead.items()}
    due = "bearerwatch_connection_next_exchange_timestamp_seconds" + of(connection="acme")
    yield Case(
        "The daemon's absence lasts a minute longer than what it inhibits",
        back | {up: f"1x19 0x9 {constant(1)}", due: f"{dead[due]} _x9 {constant(5000)}"},
        {14.5: [decayed, absent, down], 15: [decayed, absent], 15.5: [decayed, absent], 16: [decayed]},
    )
    again = {series: f"{values} _x3 {constant(int(values[0]))}" for series, values in dead.items()}
    yield Case(
        "A restart of two minutes neither ends an alert nor raises one",
        again | {up: f"1x19 0x3 {constant(1)}", due: f"{dead[due]} _x3 {constant(5000)}"},
        {at: [decayed] for at in (9, 10, 11, 12, 13, 14)},
        spares=("BearerwatchAbsent", "BearerwatchDown"),
    )


# Texts


def prometheus_says() -> Iterator[Case]:
    yield _says(
        "The text says what, since when, where, who must act and how; the alert has the operator's labels",
        Cause.APPROVAL_DECAYED,
        Responsible.ORG_ADMIN,
        'a Salesforce admin of the org at acme.my.salesforce.com, for the app "Billing"',
    )
    yield _says(
        "If the evidence makes the operator responsible, the text names the operator",
        Cause.IP_RESTRICTED,
        Responsible.OPERATOR,
        "the operator, who manages the integration, its keys and this monitor",
    )


def _says(name: str, cause: Cause, responsible: Responsible, who: str) -> Case:
    entry = CATALOGUE[cause]
    remedy = with_name(with_last(entry), "acme", ' "Billing"')
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(remedy, 1))
    info = HOST | {"app": "Billing", "customer": "Acme Ltd"}
    known = {"bearerwatch_connection_info" + of(connection="acme", org_type="production", **info): "1x99"}
    page = "http://127.0.0.1:9877/connections/acme"
    labels = labels_of("acme", cause, responsible=responsible) | info
    annotations = {
        "summary": f"{entry.title}: acme",
        "description": (
            f"{entry.meaning}\n"
            f"Since 1970-01-01 00:04 UTC. Next check: 1970-01-01 00:08 UTC. Evidence: {page}\n"
            f"Who must act: {who}.\n"
            f"What to do (setup guide, {entry.guide}):\n"
            f"{steps}"
        ),
        "note": entry.contested or "",
        "runbook_url": f"http://127.0.0.1:9877/causes/{cause}",
        "dashboard_url": "http://127.0.0.1:3000/d/bearerwatch?var-connection=acme",
        "status_url": page,
    }
    return Case(
        name,
        connections("acme") | finding("acme", cause, constant(1), responsible=responsible, since=240) | known,
        {5: [Firing(alert_of(cause), labels)]},
        texts=(Text(5, alert_of(cause), labels, annotations),),
    )


# The file

HEAD = """\
# For every alert the series in which it fires and those in which it must not:
#
#     promtool test rules deploy/prometheus/alerts.test.yml
#
# Written by `python -m tests.deploy.alert_cases`, which has the cases. The times are those of alerts.yml.
rule_files: [alerts.yml]
evaluation_interval: 30s
tests:
"""


def minutes(value: float) -> str:
    return f"{round(value * 60)}s"


def as_test(case: Case) -> dict[str, Any]:
    """One of promtool's tests."""
    test: dict[str, Any] = {
        "name": case.name,
        "interval": minutes(STEP),
        "input_series": [
            {"series": series, "values": shortened(values, case)} for series, values in case.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": minutes(at),
                "exp_samples": [alert.sample() for alert in firing],
            }
            for at, firing in case.firing.items()
        ],
    }
    if case.texts:
        test["alert_rule_test"] = [
            {
                "eval_time": minutes(text.at),
                "alertname": text.name,
                "exp_alerts": [{"exp_labels": dict(text.labels), "exp_annotations": dict(text.annotations)}],
            }
            for text in case.texts
        ]
    return test


def shortened(values: str, case: Case) -> str:
    """The values without what comes after the last look."""
    end = steps(max(case.firing)) + 1
    return re.sub(r"x([0-9]+)", lambda count: f"x{min(int(count[1]), end)}", values)


def written() -> str:
    """The whole file."""
    tests = [as_test(case) for case in cases()]
    return HEAD + yaml.safe_dump(tests, sort_keys=False, allow_unicode=True, width=10_000)


if __name__ == "__main__":
    TESTS.write_text(written(), encoding="utf-8")
