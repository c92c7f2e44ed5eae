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
from monitor.core.causes import Cause, Severity

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
    """Series, and all that fires at some minutes of them: exactly that, and nothing else."""

    name: str
    series: Mapping[str, str]
    firing: Mapping[float, Iterable[Firing]]
    spares: tuple[str, ...] = ()
    """Alerts that come near, and must not fire."""
    texts: tuple[Text, ...] = field(default=())
    counts: Mapping[tuple[float, str], float] = field(default_factory=dict)
    """At a minute, what a query gives: one number, without labels."""


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
    """A counter that stands still but for one moment."""
    return f"0x{steps(at) - 1} {by:g}x{steps(LONG)}"


DAEMON = {
    'up{job="bearerwatch",instance="here:9877"}': constant(1),
    'bearerwatch_build_info{job="bearerwatch",instance="here:9877",version="1"}': constant(1),
}


def connections(*names: str, state: str = "healthy") -> dict[str, str]:
    """A daemon with these connections, each looked at in time."""
    series = dict(DAEMON)
    series["bearerwatch_connections_configured" + of()] = constant(len(names))
    for name in names:
        for each in ("healthy", "failing", "unknown", "paused"):
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


def labels_of(connection: str, cause: Cause, severity: Severity | None = None) -> dict[str, str]:
    entry = CATALOGUE[cause]
    return {
        "connection": connection,
        "cause": cause.value,
        "severity": (severity or entry.severity).value,
        "responsible": entry.responsible.value,
    }


def finding(connection: str, cause: Cause, values: str, severity: Severity | None = None) -> dict[str, str]:
    return {"bearerwatch_connection_finding" + of(**labels_of(connection, cause, severity)): values}


def alert_of(cause: Cause) -> str:
    return "Bearerwatch" + "".join(word.capitalize() for word in cause.value.split("_"))


def single(connection: str, cause: Cause, severity: Severity | None = None) -> Firing:
    """The alert about one connection."""
    return Firing(alert_of(cause), labels_of(connection, cause, severity))


def own(name: str, severity: str = "warning", **labels: str) -> Firing:
    """An alert about the daemon."""
    return Firing(name, {"severity": severity, "responsible": "operator", **labels})


HERE = {"job": "bearerwatch", "instance": "here:9877"}

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

FORECAST = "bearerwatch_connection_approval_forecast_timestamp_seconds"
DAY = 86_400


def cases() -> Iterator[Case]:
    yield from causes()
    yield from bands()
    yield from fleet()
    yield from maintenance()
    yield from daemon()
    yield from absence()
    yield from texts()


def causes() -> Iterator[Case]:
    every = connections(*Cause)
    lasting = dict(every)
    passing = dict(every)
    for cause, hold in HOLDS.items():
        lasting |= finding(cause, cause, between(BEGIN, LONG))
        passing |= finding(cause, cause, between(BEGIN, BEGIN + hold))
    moments = sorted(set(HOLDS.values()))
    yield Case(
        "Each cause that lasts is an alert, and none before its time",
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
        "What ends before its time is none: one refused look, an outage of minutes, a change that settles",
        passing,
        {BEGIN + moment: [] for moment in (CONFIRMED - STEP, CONFIRMED, 5, SETTLING, TRANSIENT, 20)},
        spares=tuple(alert_of(cause) for cause in Cause),
    )
    yield Case(
        "Two replicas that see the same make one alert, which ends where both see its end",
        connections("acme")
        | finding("acme", Cause.USER_INACTIVE, between(BEGIN, 12))
        | {
            series.replace("here", "there"): values
            for series, values in finding("acme", Cause.USER_INACTIVE, between(BEGIN, 10)).items()
        },
        {
            BEGIN + CONFIRMED: [single("acme", Cause.USER_INACTIVE)],
            11: [single("acme", Cause.USER_INACTIVE)],
            12: [],
        },
    )
    yield Case(
        "A fault that comes and goes is one alert, which stays for an interval after its end",
        connections("acme") | finding("acme", Cause.NETWORK_UNREACHABLE, between(BEGIN, 25)),
        {
            24: [single("acme", Cause.NETWORK_UNREACHABLE)],
            29.5: [single("acme", Cause.NETWORK_UNREACHABLE)],
            31: [],
        },
    )
    yield Case(
        "The severity is that of the finding: beside a grant a short key is only a warning",
        connections("acme") | finding("acme", Cause.KEY_TOO_SHORT, between(BEGIN, LONG), Severity.WARNING),
        {BEGIN + CONFIRMED: [single("acme", Cause.KEY_TOO_SHORT, Severity.WARNING)]},
    )
    new = {"connection": "acme", "cause": "brand_new", "severity": "critical", "responsible": "operator"}
    yield Case(
        "A cause that these rules don't know is an alert all the same",
        connections("acme") | {"bearerwatch_connection_finding" + of(**new): between(BEGIN, LONG)},
        {BEGIN + 1.5: [], BEGIN + CONFIRMED: [Firing("BearerwatchCauseWithoutRule", new)]},
    )
    yield Case(
        "A cause that is known needs no such alert",
        connections("acme") | finding("acme", Cause.APP_BLOCKED, between(BEGIN, LONG)),
        {BEGIN + CONFIRMED: [single("acme", Cause.APP_BLOCKED)]},
        spares=("BearerwatchCauseWithoutRule",),
    )


def bands() -> Iterator[Case]:
    expiring = Cause.CERTIFICATE_EXPIRING
    yield Case(
        "A certificate that comes from the warning into the critical band is told of as critical",
        connections("acme")
        | finding("acme", expiring, between(BEGIN, 20), Severity.WARNING)
        | finding("acme", expiring, between(20, LONG), Severity.CRITICAL),
        {
            BEGIN + CONFIRMED: [single("acme", expiring, Severity.WARNING)],
            22: [single("acme", expiring, Severity.CRITICAL)],
        },
    )
    approval = Cause.APPROVAL_EXPIRING
    for name, days, severity in (
        ("Five days before its end an approval is a warning", 5, Severity.WARNING),
        ("A day before its end an approval is critical", 1, Severity.CRITICAL),
        ("An approval that outlived its forecast is a warning again", -1, Severity.WARNING),
    ):
        yield Case(
            name,
            connections("acme")
            | finding("acme", approval, between(BEGIN, LONG))
            | {FORECAST + of(connection="acme"): constant(days * DAY)},
            {BEGIN + CONFIRMED: [single("acme", approval, severity)]},
        )
    yield Case(
        "A forecast that is far off is no finding, and no alert",
        connections("acme") | {FORECAST + of(connection="acme"): constant(DAY)},
        {BEGIN + CONFIRMED: []},
        spares=("BearerwatchApprovalExpiring",),
    )


# Many, and what no cause explains


def numbered(count: int) -> list[str]:
    return [f"org-{number:02}" for number in range(count)]


def some(count: int, cause: Cause, values: str) -> dict[str, str]:
    series: dict[str, str] = {}
    for name in numbered(count):
        series |= finding(name, cause, values)
    return series


def many(name: str, cause: Cause) -> Firing:
    labels = labels_of("", cause)
    return Firing(name, {label: value for label, value in labels.items() if label != "connection"})


def fleet() -> Iterator[Case]:
    decayed, network = Cause.APPROVAL_DECAYED, Cause.NETWORK_UNREACHABLE
    affected = many("BearerwatchManyConnectionsAffected", decayed)
    unreachable = many("BearerwatchManyConnectionsUnreachable", network)
    yield Case(
        "Five of twenty refused at once are one event, told before the single ones",
        connections(*numbered(20)) | some(5, decayed, between(BEGIN, LONG)),
        {
            BEGIN: [],
            BEGIN + 0.5: [affected],
            BEGIN + CONFIRMED: [affected, *(single(name, decayed) for name in numbered(5))],
        },
    )
    mending = some(8, decayed, between(BEGIN, LONG))
    for place, name in enumerate(numbered(8)):
        mending |= finding(name, decayed, between(BEGIN, 20 + 5 * place))
    yield Case(
        "Many that are mended one after the other stay one until none is left",
        connections(*numbered(30)) | mending,
        {
            BEGIN + 0.5: [affected],
            31: [affected, *(single(name, decayed) for name in numbered(8)[3:])],
            36: [affected, *(single(name, decayed) for name in numbered(8)[4:])],
            54: [affected, *(single(name, decayed) for name in numbered(8)[7:])],
            55: [],
        },
    )
    yield Case(
        "Of many that are mended, one that is left is told of alone after an hour, in which it was looked at",
        connections(*numbered(20))
        | some(5, decayed, between(BEGIN, 10))
        | finding(numbered(1)[0], decayed, between(BEGIN, LONG)),
        {
            68: [affected, *(single(name, decayed) for name in numbered(1))],
            70: [single(name, decayed) for name in numbered(1)],
        },
    )
    yield Case(
        "Of many that are mended, five that are left are told of one by one after hours",
        connections(*numbered(30))
        | some(8, decayed, between(BEGIN, 30))
        | some(5, decayed, between(BEGIN, LONG)),
        {
            30: [affected, *(single(name, decayed) for name in numbered(5))],
            440: [affected, *(single(name, decayed) for name in numbered(5))],
            460: [single(name, decayed) for name in numbered(5)],
        },
    )
    yield Case(
        "Five of twenty-one are less than a quarter",
        connections(*numbered(21)) | some(5, decayed, between(BEGIN, BEGIN + 1.5)),
        {BEGIN + 0.5: [], BEGIN + 1: []},
        spares=("BearerwatchManyConnectionsAffected",),
    )
    yield Case(
        "Four are read one by one, even if that is all there are",
        connections(*numbered(4)) | some(4, decayed, between(BEGIN, LONG)),
        {BEGIN + 1.5: [], BEGIN + CONFIRMED: [single(name, decayed) for name in numbered(4)]},
        spares=("BearerwatchManyConnectionsAffected",),
    )
    yield Case(
        "Paused connections are no part of the fleet",
        connections(*numbered(19))
        | connections("paused-1", "paused-2", state="paused")
        | {"bearerwatch_connections_configured" + of(): constant(21)}
        | some(5, decayed, between(BEGIN, LONG)),
        {BEGIN + 0.5: [affected]},
    )
    yield Case(
        "Our own network is away for longer than a passing outage",
        connections(*numbered(8)) | some(8, network, between(BEGIN, LONG)),
        {
            BEGIN + 9.5: [],
            BEGIN + 10: [unreachable],
            BEGIN + TRANSIENT: [unreachable, *(single(name, network) for name in numbered(8))],
        },
    )
    yield Case(
        "At its end an outage is one for longer than the single ones are: else each would be told of then",
        connections(*numbered(8)) | some(8, network, between(BEGIN, 30)),
        {
            29.5: [unreachable, *(single(name, network) for name in numbered(8))],
            34.5: [unreachable, *(single(name, network) for name in numbered(8))],
            35.5: [unreachable],
            36.5: [],
        },
    )
    yield Case(
        "An outage of our own network that lasts for nine minutes is nobody's alert",
        connections(*numbered(8)) | some(8, network, between(BEGIN, BEGIN + 9)),
        {BEGIN + 5: [], BEGIN + 9: [], BEGIN + 10: [], BEGIN + 16: []},
        spares=("BearerwatchManyConnectionsUnreachable", "BearerwatchNetworkUnreachable"),
    )
    yield from unexplained()
    yield from unsteady()


def unexplained() -> Iterator[Case]:
    silent = own("BearerwatchConnectionUnexplained", "critical", connection="acme")
    for state in ("failing", "unknown"):
        yield Case(
            f"A connection that is {state} without a finding is told of",
            connections("acme", state=state),
            {14.5: [], 15: [silent]},
        )
    yield Case(
        "A connection that is failing for a reason is explained",
        connections("acme", state="failing") | finding("acme", Cause.ORG_INACTIVE, constant(1)),
        {20: [single("acme", Cause.ORG_INACTIVE)]},
        spares=("BearerwatchConnectionUnexplained",),
    )


def exchanges(tried_per_hour: float, failed_per_hour: float) -> dict[str, str]:
    return {
        "bearerwatch_connection_exchanges_total" + of(connection="acme"): counting(tried_per_hour / 60),
        "bearerwatch_connection_exchange_failures_total" + of(connection="acme"): counting(
            failed_per_hour / 60
        ),
    }


def unsteady() -> Iterator[Case]:
    unsteady = own("BearerwatchConnectionUnsteady", connection="acme")
    yield Case(
        "A connection of which two in three exchanges fail, for an hour, is told of",
        connections("acme") | exchanges(12, 8),
        {30: [], 62: [unsteady]},
    )
    network = Cause.NETWORK_UNREACHABLE
    yield Case(
        "What an alert has told of, for an hour and a half, is not told again once it has ended",
        connections("acme") | exchanges(12, 12) | finding("acme", network, between(0, 90)),
        {80: [single("acme", network)], 94: [single("acme", network)], 97: [], 120: []},
        spares=("BearerwatchConnectionUnsteady",),
    )
    yield Case(
        "One in three is not enough",
        connections("acme") | exchanges(24, 8),
        {30: [], 62: []},
        spares=("BearerwatchConnectionUnsteady",),
    )
    yield Case(
        "One short outage, of a connection that is looked at once a day, is not enough",
        connections("acme")
        | {
            "bearerwatch_connection_exchanges_total" + of(connection="acme"): jump(20, 4),
            "bearerwatch_connection_exchange_failures_total" + of(connection="acme"): jump(20, 4),
        },
        {22: [], 40: []},
        spares=("BearerwatchConnectionUnsteady",),
    )


# What is held back


def in_maintenance(start: float, end: float, *names: str) -> dict[str, str]:
    return {"bearerwatch_connection_maintenance" + of(connection=name): between(start, end) for name in names}


def maintenance() -> Iterator[Case]:
    decayed, network = Cause.APPROVAL_DECAYED, Cause.NETWORK_UNREACHABLE
    held = alert_of(decayed)
    yield Case(
        "What begins in a maintenance is no alert before its end, and then one where it still holds",
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
            40: [],
        },
        spares=(held,),
    )
    yield Case(
        "What was told before a maintenance is not told to be mended in it, and its end is",
        connections("acme")
        | in_maintenance(10, 60, "acme")
        | finding("acme", decayed, between(BEGIN, 40))
        | finding("acme", network, between(20, 50)),
        {9: [single("acme", decayed)], 10: [single("acme", decayed)], 39: [single("acme", decayed)], 40: []},
        spares=(alert_of(network),),
    )
    yield Case(
        "Those in a maintenance do not make many",
        connections(*numbered(8))
        | in_maintenance(0, LONG, *numbered(4))
        | some(8, decayed, between(BEGIN, LONG)),
        {BEGIN + 0.5: [], BEGIN + CONFIRMED: [single(name, decayed) for name in numbered(8)[4:]]},
        spares=("BearerwatchManyConnectionsAffected",),
    )
    yield Case(
        "A maintenance of all holds back many at once as well",
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
    unreachable = many("BearerwatchManyConnectionsUnreachable", network)
    yield Case(
        "Many that were told before a maintenance, and before each was told of alone, go on in it",
        connections(*numbered(8))
        | in_maintenance(17, 60, *numbered(8))
        | some(8, network, between(BEGIN, 40)),
        {
            16.5: [unreachable],
            17: [unreachable],
            # At the end of their own time each is an alert, which the one about all of them holds back.
            BEGIN + TRANSIENT: [unreachable, *(single(name, network) for name in numbered(8))],
            39: [unreachable, *(single(name, network) for name in numbered(8))],
            47: [],
        },
    )
    others, last = numbered(6)[:5], numbered(6)[5]
    affected = many("BearerwatchManyConnectionsAffected", decayed)
    yield Case(
        "Who fails anew in a maintenance is none of the many that were told of before",
        connections(*others, last)
        | some(5, decayed, between(BEGIN, 20))
        | in_maintenance(10, 60, last)
        | finding(last, decayed, between(12, 50)),
        {
            9: [affected, *(single(name, decayed) for name in others)],
            12 + CONFIRMED: [affected, *(single(name, decayed) for name in others)],
            20: [],
            49: [],
        },
        spares=(held,),
    )
    yield Case(
        "What no cause explains waits for the end of a maintenance as well",
        connections("acme", state="unknown") | in_maintenance(0, 30, "acme"),
        {
            29: [],
            44.5: [],
            45: [own("BearerwatchConnectionUnexplained", "critical", connection="acme")],
        },
        spares=("BearerwatchConnectionUnexplained",),
    )
    unsteady = own("BearerwatchConnectionUnsteady", connection="acme")
    yield Case(
        "Failures within a maintenance make no connection unsteady, also after its end",
        connections("acme") | exchanges(24, 16) | in_maintenance(0, 30, "acme"),
        {29: [], 32: []},
        spares=("BearerwatchConnectionUnsteady",),
    )
    yield Case(
        "An unsteadiness that was told before a maintenance goes on in it",
        connections("acme") | exchanges(24, 16) | in_maintenance(30, 50, "acme"),
        {29: [unsteady], 40: [unsteady]},
    )
    paused = "bearerwatch_connection_state" + of(connection="acme", state="paused")
    yield Case(
        "A connection that is paused is no longer unsteady, whatever it was before",
        connections("acme") | exchanges(24, 16) | {paused: f"0x{steps(30) - 1} {constant(1)}"},
        {29.5: [unsteady], 30: []},
        spares=("BearerwatchConnectionUnsteady",),
    )


# The daemon


def daemon() -> Iterator[Case]:
    yield from late()
    yield from coverage()
    yield from replicas()
    yield from cut_off()
    reload = "bearerwatch_config_last_reload_successful" + of()
    failed = own("BearerwatchReloadFailed", **HERE)
    yield Case(
        "A configuration that stays broken is told of",
        connections("acme") | {reload: f"1x9 {constant(0)}"},
        {9.5: [], 10: [failed]},
    )
    yield Case(
        "A configuration that is mended within minutes is not",
        connections("acme") | {reload: f"1x9 0x8 {constant(1)}"},
        {9.5: [], 10: [], 12: []},
        spares=("BearerwatchReloadFailed",),
    )
    for name, metric, severity, labels in (
        ("BearerwatchScheduleMissed", "schedule_missed_total", "warning", {}),
        ("BearerwatchLogErrors", "log_messages_total", "warning", {"level": "error"}),
    ):
        yield Case(
            f"{name}: one is enough, and is news for a quarter of an hour",
            connections("acme") | {f"bearerwatch_{metric}" + of(**labels): jump(5, 1)},
            {
                5.5: [],
                6: [own(name, severity, **HERE, **labels)],
                19: [own(name, severity, **HERE, **labels)],
                21: [],
            },
        )
        yield Case(
            f"{name}: what a counter has counted long ago is no news",
            connections("acme") | {f"bearerwatch_{metric}" + of(**labels): constant(7)},
            {6: [], 30: []},
            spares=(name,),
        )
    yield Case(
        "Warnings in the log are no errors",
        connections("acme") | {"bearerwatch_log_messages_total" + of(level="warning"): counting(10)},
        {10: []},
        spares=("BearerwatchLogErrors",),
    )
    yield from over_time("BearerwatchStoreFailing", "store_errors_total", "warning", hold=5.5, passes=3)
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
        f"{name}: it goes on and on",
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
        "A connection without an appointment is late, though nothing is overdue",
        {series: values for series, values in connections("acme").items() if series != due},
        {0.5: [], 1: [late]},
    )
    yield Case(
        "A check that waits for its turn for some minutes is not late",
        connections("acme") | {due: f"60x11 {constant(1000)}"},
        {5: [], 6: [], 8: []},
        spares=("BearerwatchChecksLate",),
    )
    yield Case(
        "Neither a paused connection nor one that is looked at less often is late",
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
        "A connection that is configured and not exported is told of",
        connections("acme", "globex") | {configured: constant(3)},
        {0.5: [], 1: [incomplete]},
    )
    yield Case(
        "None is exported at all",
        DAEMON | {configured: constant(3)},
        {0.5: [], 1: [incomplete]},
    )
    yield Case(
        "A reload between two scrapes is no lack",
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
        "A daemon that is filled within minutes is only being set up",
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
    reachable, scheduled = "bearerwatch_database_reachable" + of(), "bearerwatch_connections_scheduled" + of()
    three = at_each(
        connections("acme")
        | connections("old", state="paused")
        | {"bearerwatch_connections_configured" + of(): constant(2)}
        | {"bearerwatch_connections" + of(state="paused"): constant(1)}
        | {scheduled: constant(1)}
    )
    lone = {"job": "bearerwatch"}
    differing = "bearerwatch_replicas_configurations" + of()
    for name, severity, broken, hold, passing in (
        ("BearerwatchDatabaseUnreachable", "critical", (reachable, 1, 0), 3, 2),
        ("BearerwatchScheduleIncomplete", "critical", (scheduled, 1, 0), 5, 4),
        ("BearerwatchReplicasDiffer", "warning", (differing, 1, 2), 15, 10),
    ):
        series, well, ill = broken
        yield Case(
            f"{name}: once for all three, when it lasts; a paused connection needs no appointment",
            three | at_each({series: f"{well}x9 {constant(ill)}"}),
            {4.5 + hold: [], 5 + hold: [own(name, severity, **lone)]},
        )
        yield Case(
            f"{name}: a restart, or a renewal of one after the other, is none",
            three | at_each({series: f"{well}x9 {ill}x{steps(passing)} {constant(well)}"}),
            {4.5 + hold: [], 6 + hold: [], 30: []},
            spares=(name,),
        )
    decayed = single("acme", Cause.APPROVAL_DECAYED)
    yield Case(
        "A finding that three replicas see is one alert",
        three | at_each(finding("acme", Cause.APPROVAL_DECAYED, constant(1))),
        {30: [decayed]},
    )
    failures = "bearerwatch_failures_total" + of(cause="app_blocked")
    rate = 'sum(cause:bearerwatch_failures:rate1h{cause="app_blocked"})'
    yield Case(
        "Failures that three replicas count are counted once; those of a daemon that watches alone add up",
        three
        | at_each({failures: counting(60), "bearerwatch_replicas" + of(): constant(3)})
        | at_one("alone", DAEMON | {failures: counting(120)}),
        {62: []},
        counts={(62, rate): 3},
    )


def cut_off() -> Iterator[Case]:
    """A replica of which the database is out of reach from minute 5: what it shows stands still."""
    reachable = "bearerwatch_database_reachable" + of()
    due = "bearerwatch_connection_next_exchange_timestamp_seconds" + of(connection="acme")
    well = connections("acme", "globex") | {reachable: constant(1)}
    alone = well | {
        reachable: f"1x9 {constant(0)}",
        due: f"200+30x9 {constant(470)}",
        "bearerwatch_connection_state" + of(connection="acme", state="healthy"): f"1x11 {constant(0)}",
        "bearerwatch_connection_state" + of(connection="acme", state="unknown"): f"0x11 {constant(1)}",
    }
    unreachable = own("BearerwatchDatabaseUnreachable", "critical", job="bearerwatch")
    late, silent = (
        own("BearerwatchChecksLate", "critical"),
        own("BearerwatchConnectionUnexplained", "critical", connection="acme"),
    )
    decayed, approval = Cause.APPROVAL_DECAYED, Cause.APPROVAL_EXPIRING
    states = "sum(state:bearerwatch_connections:count)"
    findings = "sum(cause_severity_responsible:bearerwatch_connection_finding:count)"
    healthy = 'sum(state:bearerwatch_connections:count{state="healthy"})'
    yield Case(
        "One replica is cut off: what the others see counts, and what it saw before is no alert any more",
        well
        | finding("globex", decayed, between(0, 12))
        | at_one(
            "there",
            alone
            | finding("globex", decayed, constant(1))
            | {
                "bearerwatch_replicas_configurations" + of(): f"1x9 {constant(2)}",
                "bearerwatch_connections" + of(state="paused"): constant(0),
                "bearerwatch_connections_scheduled" + of(): f"2x9 {constant(1)}",
            },
        ),
        {
            5: [single("globex", decayed)],
            8: [single("globex", decayed), unreachable],
            12: [unreachable],
            40: [unreachable],
        },
        spares=(
            "BearerwatchApprovalDecayed",
            "BearerwatchChecksLate",
            "BearerwatchConnectionUnexplained",
            "BearerwatchReplicasDiffer",
            "BearerwatchScheduleIncomplete",
        ),
        counts={(40, states): 2, (40, healthy): 2, (11, findings): 1, (40, f"{findings} or vector(0)"): 0},
    )
    yield Case(
        "One replica is cut off: neither its cause nor its appointment is one for what the others see",
        connections("acme", "globex", state="failing")
        | {due: "_"}
        | finding("globex", Cause.APP_BLOCKED, constant(1))
        | {reachable: constant(1)}
        | {"bearerwatch_connection_up" + of(connection=name): constant(0) for name in ("acme", "globex")}
        | at_one("there", alone | finding("acme", decayed, constant(1)))
        | at_one("there", {"bearerwatch_connection_up" + of(connection="globex"): constant(1)}),
        {
            4: [single("globex", Cause.APP_BLOCKED), single("acme", decayed)],
            40: [single("globex", Cause.APP_BLOCKED), unreachable, late, silent],
        },
        counts={(40, "sum(fleet:bearerwatch_connection_up:ratio)"): 0},
    )
    yield Case(
        "All replicas are cut off: nobody knows, which is told, and what is known goes on",
        at_each(alone | finding("globex", decayed, constant(1))),
        {
            13: [single("globex", decayed), unreachable],
            40: [single("globex", decayed), unreachable, late, silent],
        },
        counts={(40, states): 2, (40, healthy): 1},
    )
    yield Case(
        "The last replica that was reachable goes: what the one that is cut off knows counts again",
        {series: until(20, values) for series, values in well.items()}
        | at_one("there", alone | finding("acme", decayed, constant(1))),
        {4: [single("acme", decayed)], 19: [unreachable], 22.5: [single("acme", decayed), unreachable, late]},
    )
    yield Case(
        "The forecast of a replica that is cut off is an old one",
        well
        | finding("acme", approval, between(BEGIN, LONG))
        | {FORECAST + of(connection="acme"): constant(DAY)}
        | at_one("there", alone | {FORECAST + of(connection="acme"): constant(5 * DAY)}),
        {20: [single("acme", approval, Severity.CRITICAL), unreachable]},
    )
    network, back = Cause.NETWORK_UNREACHABLE, 250
    tried, failed = (
        f"bearerwatch_connection_{metric}_total" + of(connection="acme")
        for metric in ("exchanges", "exchange_failures")
    )
    # Twelve exchanges an hour, all of which fail from minute 10 to minute 170.
    yield Case(
        "A replica that was cut off for hours has all at once what the others counted, and that is no news",
        well
        | finding("acme", network, between(10, 170))
        | {tried: counting(12 / 60), failed: f"0x19 0+0.1x{steps(160)} {16 * 2:g}x{steps(LONG)}"}
        | at_one(
            "there",
            alone
            | {
                reachable: f"1x9 0x{steps(back) - 11} {constant(1)}",
                due: f"200+30x9 470x{steps(back) - 11} {200 + back * 60}+30x{steps(LONG)}",
                "bearerwatch_connection_state" + of(connection="acme", state="healthy"): constant(1),
                "bearerwatch_connection_state" + of(connection="acme", state="unknown"): constant(0),
                tried: f"0+0.1x9 1x{steps(back) - 11} {back / 5:g}+0.1x{steps(LONG)}",
                failed: f"0x{steps(back) - 1} 32x{steps(LONG)}",
            },
        ),
        {100: [single("acme", network), unreachable], 180: [unreachable], back + 1: [], back + 30: []},
        spares=("BearerwatchConnectionUnsteady",),
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
        "While the daemon is away its findings stand, for an hour, and its absence is told of",
        dead | {up: f"1x19 {constant(0)}"},
        {
            9: [decayed],
            11: [decayed],
            12.5: [decayed],
            13: [decayed, absent, down],
            60: [decayed, absent, down],
            71: [absent, down],
        },
    )
    ended = alive | finding("acme", Cause.APPROVAL_DECAYED, between(0, 5))
    yield Case(
        "What had ended before the daemon went away does not come back",
        {series: until(10, values) if "stale" not in values else values for series, values in ended.items()},
        {4: [decayed], 6: [], 12.5: [], 13: [absent], 30: [absent]},
        spares=("BearerwatchApprovalDecayed",),
    )
    yield Case(
        "A daemon that Prometheus has lost altogether is absent as well",
        dead | {up: between(0, 10)},
        {12.5: [decayed], 13: [decayed, absent]},
        spares=("BearerwatchDown",),
    )
    due = "bearerwatch_connection_next_exchange_timestamp_seconds" + of(connection="acme")
    again = {series: f"{values} _x3 {constant(int(values[0]))}" for series, values in dead.items()}
    yield Case(
        "A restart of two minutes ends no alert, and is none",
        again | {up: f"1x19 0x3 {constant(1)}", due: f"{dead[due]} _x3 {constant(5000)}"},
        {at: [decayed] for at in (9, 10, 11, 12, 13, 14)},
        spares=("BearerwatchAbsent", "BearerwatchDown"),
    )
    yield Case(
        "Many that are told of as one stay one while the daemon is away",
        {
            series: until(10, values)
            for series, values in (
                connections(*numbered(8)) | some(5, Cause.APPROVAL_DECAYED, constant(1))
            ).items()
        },
        {
            30: [
                absent,
                many("BearerwatchManyConnectionsAffected", Cause.APPROVAL_DECAYED),
                *(single(name, Cause.APPROVAL_DECAYED) for name in numbered(5)),
            ]
        },
    )


# Texts


def texts() -> Iterator[Case]:
    decayed = CATALOGUE[Cause.APPROVAL_DECAYED]
    remedy = [*decayed.remedy, "To ask once more: `bearerwatch check acme --config FILE`."]
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(remedy, 1))
    info = {"host": "acme.my.salesforce.com", "customer": "Acme Ltd"}
    known = {
        "bearerwatch_connection_info" + of(connection="acme", org_type="production", **info): "1x99",
        "bearerwatch_connection_finding_since_timestamp_seconds"
        + of(connection="acme", cause="approval_decayed"): constant(240),
        "bearerwatch_connection_last_success_timestamp_seconds" + of(connection="acme"): constant(120),
    }
    page = "http://127.0.0.1:9877/connections/acme"
    yield Case(
        "The text says what, since when, where, who must act and how; the alert carries the operator's label",
        connections("acme") | finding("acme", Cause.APPROVAL_DECAYED, constant(1)) | known,
        {
            5: [
                Firing(
                    "BearerwatchApprovalDecayed",
                    labels_of("acme", Cause.APPROVAL_DECAYED) | info,
                )
            ]
        },
        texts=(
            Text(
                5,
                "BearerwatchApprovalDecayed",
                labels_of("acme", Cause.APPROVAL_DECAYED) | info,
                {
                    "summary": "The approval has aged out: acme",
                    "description": (
                        f"{decayed.meaning}\n"
                        "It has held since 1970-01-01 00:04:00 +0000 UTC.\n"
                        "The last exchange that was granted: 1970-01-01 00:02:00 +0000 UTC.\n"
                        f"User, answers and all evidence: {page}\n"
                        "Who must act: a Salesforce admin of the org at acme.my.salesforce.com.\n"
                        "What to do (setup guide, step 4):\n"
                        f"{steps}"
                    ),
                    "note": decayed.contested or "",
                    "runbook_url": page,
                    "dashboard_url": "http://127.0.0.1:3000/d/bearerwatch?var-connection=acme",
                    "status_url": page,
                },
            ),
        ),
    )


# The file

HEAD = """\
# For every alert the series in which it fires and those in which it must not:
#
#     promtool test rules deploy/prometheus/alerts.test.yml
#
# Written by `python -m tests.deploy.alert_cases`, where the cases stand. The times are those of alerts.yml.
rule_files: [alerts.yml]
evaluation_interval: 30s
group_eval_order: [bearerwatch-fleet, bearerwatch-connections, bearerwatch-daemon]
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
        ]
        + [
            {"expr": query, "eval_time": minutes(at), "exp_samples": [{"labels": "{}", "value": value}]}
            for (at, query), value in case.counts.items()
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
