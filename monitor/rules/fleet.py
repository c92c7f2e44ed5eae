"""What only many connections together, or one over an hour, can show: totals, many at once, unsteadiness."""

from collections.abc import Iterator
from datetime import timedelta

from monitor.config.words import written_duration
from monitor.core.alerts_of_many import AFFECTED, UNREACHABLE
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.holds import (
    MANY,
    MANY_LEFT,
    MANY_SHARE,
    SCRAPE,
    UNCHECKED,
    UNSTEADY_SHARE,
    Holds,
)
from monitor.core.wording import MANY_AT_ONCE, SHOWN, UNEXPLAINED, UNSTEADY, WHO, Links, told, with_name
from monitor.rules.causes import BY, EVENT, FINDING, HELD, OF_A_CAUSE, OF_MANY, REMEMBERED, holding
from monitor.rules.document import Alert, Record
from monitor.rules.replicas import BUT_CUT_OFF, CUT_OFF, CUT_OFF_NOW
from monitor.rules.wording import (
    CONNECTION,
    LAST_GRANTED,
    MAINTENANCE,
    carrying,
    firing,
    looked_up,
    quiet,
)

UNSTEADY_FAILURES = 5
"""Failed exchanges: one short outage makes four, the first and its three quick repeats."""

WATCHED = "fleet:bearerwatch_connections_watched:count"
"""Recorded, so that it can be had while the daemon is away: its findings stand for that time as well."""

AT_ONCE = "cause_severity_responsible:bearerwatch_connection_finding:at_once"
"""How many connections begin one event."""

MANY_HELD = "cause_severity_responsible:bearerwatch_connection_finding:many"
"""How many connections make one event."""

RECORDS = (
    CUT_OFF_NOW,
    Record(
        "state:bearerwatch_connections:count",
        f"count by (state) (max by (connection, state) (bearerwatch_connection_state {BUT_CUT_OFF}) == 1)",
        "Connections in each state, each once however many replicas see it.",
    ),
    Record(
        WATCHED,
        'count(max by (connection) (bearerwatch_connection_state{state="paused"}) == 0)',
        "Connections that are not paused.",
    ),
    Record(
        "fleet:bearerwatch_connection_up:ratio",
        "avg(\n"
        f"  max by (connection) (bearerwatch_connection_up {BUT_CUT_OFF})\n"
        '  and on (connection) max by (connection) (bearerwatch_connection_state{state="paused"}) == 0\n'
        ")",
        "The share of the watched connections whose last exchange was granted: a service level.",
    ),
    Record(
        "cause_severity_responsible:bearerwatch_connection_finding:count",
        f"count by (cause, severity, responsible) (max by ({BY}) ({FINDING} {BUT_CUT_OFF}))",
        "Connections for which each cause holds.",
    ),
    Record(
        "cause:bearerwatch_failures:rate1h",
        "sum by (cause) (\n"
        "  rate(bearerwatch_failures_total[1h]) unless on (job, instance) bearerwatch_replicas\n"
        "  or avg by (job, cause) (\n"
        "    rate(bearerwatch_failures_total[1h]) and on (job, instance) bearerwatch_replicas\n"
        f"    {BUT_CUT_OFF}\n"
        "  )\n"
        ")",
        "Failed exchanges a second by cause, over an hour: a dozen looks at the usual interval. Each replica"
        " counts those of all.",
    ),
    Record(
        "fleet:bearerwatch_exchange_duration_seconds:p95_1h",
        "histogram_quantile(0.95, sum by (le) (rate(bearerwatch_exchange_duration_seconds_bucket[1h])))",
        "How long all but the slowest twentieth of the exchanges took, over the same hour.",
    ),
)


def alerts(holds: Holds, links: Links) -> Iterator[Alert]:
    """Many at once, and single connections that no cause explains."""
    transient = "|".join(cause for cause, entry in CATALOGUE.items() if entry.transient)
    waits = written_duration(holds.lingers)
    for name, matchers, hold, seen_again, lingers, reason in (
        (
            AFFECTED,
            f'cause!~"{transient}"',
            holds.many_confirmed,
            holds.refused,
            None,
            (
                f"{written_duration(holds.many_confirmed)}: many refused at once confirm each other."
                f" {written_duration(holds.refused)}: so late may who was refused be looked at again, and"
                " later where more than a hundred are."
            ),
        ),
        (
            UNREACHABLE,
            f'cause=~"{transient}"',
            holds.many_transient,
            holds.lingers,
            holds.lingers + 2 * SCRAPE,
            (
                f"{written_duration(holds.many_transient)}: the single alerts' time less one interval,"
                " within which the fleet is seen once, so that this comes before them."
                f" {waits}: an interval, and it stays longer than the single alerts do after their end."
            ),
        ),
    ):
        yield Alert(
            name=name,
            expression=_many(name, matchers, seen_again),
            hold=hold,
            lingers=lingers,
            why="Many, as recorded above: one event, for which Alertmanager holds the single alerts back."
            f" With fewer than {MANY} it goes on until those were looked at again, or none is left. {reason}",
            annotations={
                "summary": "{{ $labels.cause }}: {{ $value }} connections at once",
                "description": told(
                    "The same cause holds for {{ $value }} connections, and held for a quarter of the fleet"
                    " at once: something that they share is the likely reason, be it an app, a key, an"
                    " address, the network, or Salesforce. Alerts of single connections for it are held back"
                    " meanwhile."
                    f"{_named()}",
                    who="the operator first, who finds out what they share",
                    steps=(step.replace("CAUSE", "{{ $labels.cause }}") for step in MANY_AT_ONCE),
                ),
                **_links_of_label(links),
            },
        )
    yield _unexplained(holds, links)
    yield _unsteady(holds, links)


def many() -> Iterator[Record]:
    """The rules for what is one event of many."""
    lasting = f'cause!="{Cause.PROPAGATION_PENDING}"'
    counted = f"count by ({EVENT}) ({holding(lasting)}) >= {MANY}"
    watched = f"scalar(last_over_time({WATCHED}[{written_duration(REMEMBERED)}]))"
    left = written_duration(MANY_LEFT)
    yield Record(
        AT_ONCE,
        f"{counted}\nand on ({EVENT}) count by ({EVENT}) ({holding(lasting)}) / {watched} >= {MANY_SHARE}",
        f"At least {MANY} connections and a share of {MANY_SHARE} of the watched ones have the same cause.",
    )
    yield Record(
        MANY_HELD,
        f"{AT_ONCE}\nor {counted}\n"
        f"  and on ({EVENT}) last_over_time({AT_ONCE}[{left}])\n  and on ({EVENT}) {firing(OF_MANY)}",
        f"Once told, it goes on while at least {MANY} have it, but no longer than {left} after they were less"
        " than that share: by then whoever was refused was looked at again, and who is left is told of"
        " alone.",
    )


def _many(name: str, matchers: str, seen_again: timedelta) -> str:
    counted = f"count by ({EVENT}) ({holding(matchers)})"
    lately = f"last_over_time({MANY_HELD}[{written_duration(seen_again)}])"
    this = f'alertname="{name}"'
    return (
        f"{MANY_HELD}{{{matchers}}}\nor {counted}\n"
        f"  and on ({EVENT}) {lately}\n  and on ({EVENT}) {firing(this)}"
    )


def _named() -> str:
    """A template: a few connections that have the alert's cause."""
    query = f"topk({SHOWN}, max by (connection) ({HELD}{{cause=%q}}))"
    names = "{{ range $place, $one := . }}{{ if $place }}, {{ end }}{{ $one.Labels.connection }}{{ end }}"
    return looked_up(query, f"\nAmong them: {names}.", "cause")


def _links_of_label(links: Links) -> dict[str, str]:
    """Links as of a cause, which here is known by the alert's label only."""
    made = links.to(cause=Cause.MONITOR_FAULT)
    if links.runbooks:
        made["runbook_url"] = f"{links.runbooks}/{{{{ $labels.cause }}}}.md"
    return made


def _unexplained(holds: Holds, links: Links) -> Alert:
    name, hold = "BearerwatchConnectionUnexplained", max(holds.transient, UNCHECKED)
    silent = 'bearerwatch_connection_state{state=~"failing|unknown"}'
    return Alert(
        name=name,
        expression=carrying(
            "(\n"
            f"  max by (connection) ({silent} {BUT_CUT_OFF}) == 1\n"
            f"  unless on (connection) ({FINDING} {BUT_CUT_OFF})\n"
            f"  unless on (connection) {quiet(name)}\n"
            ")",
            links.labels,
        ),
        hold=hold,
        why=f"{written_duration(hold)}: a daemon that starts has looked at all connections by then. A"
        " connection without a verdict and without a finding would otherwise be silent.",
        labels={"severity": Severity.CRITICAL.value, "responsible": Responsible.OPERATOR.value},
        annotations={
            "summary": f"No verdict and no cause: {CONNECTION}",
            "description": told(
                f"{CONNECTION} has not been found to work for {written_duration(hold)}, and no cause is"
                f" named for it: whether it works is not known.{LAST_GRANTED}",
                who=WHO[Responsible.OPERATOR],
                steps=with_name(UNEXPLAINED, CONNECTION),
            ),
            **links.to(cause=Cause.MONITOR_FAULT, connection=CONNECTION),
        },
    )


def _unsteady(holds: Holds, links: Links) -> Alert:
    name, window = "BearerwatchConnectionUnsteady", written_duration(holds.window)
    # One that was cut off counts at its return, at once, what the others counted meanwhile.
    steadily = f"unless on (job, instance) last_over_time({CUT_OFF}[{window}])"
    failed, tried = (
        f"max by (connection) (increase(bearerwatch_connection_{metric}_total[{window}]) {steadily})"
        for metric in ("exchange_failures", "exchanges")
    )
    lately = quiet(name, f"last_over_time({MAINTENANCE}[{window}])")
    return Alert(
        name=name,
        expression=carrying(
            "(\n"
            f"  {failed} >= {UNSTEADY_FAILURES}\n"
            f"  and {failed} / {tried} >= {UNSTEADY_SHARE}\n"
            f"  unless on (connection) last_over_time({firing(OF_A_CAUSE)}[{window}])\n"
            f"  unless on (connection) {lately}\n"
            '  unless on (connection) bearerwatch_connection_state{state="paused"} == 1\n'
            ")",
            links.labels,
        ),
        hold=SCRAPE,
        why=f"At least {UNSTEADY_FAILURES} failures, and half of the exchanges in {window} (a dozen"
        " intervals, an hour at least): faults that come and go never hold long enough to be an alert of"
        " their own. One short outage makes four failures, with its quick repeats. Failures that an alert has"
        " told of in that time, or that a maintenance covers, are no news.",
        labels={"severity": Severity.WARNING.value, "responsible": Responsible.OPERATOR.value},
        annotations={
            "summary": f"Fails again and again: {CONNECTION}",
            "description": told(
                f"Of the exchanges of {CONNECTION} in {window}, {{{{ $value | printf `%.0f` }}}} failed,"
                f" half of them or more, yet none for long.{LAST_GRANTED}",
                who=WHO[Responsible.OPERATOR],
                steps=UNSTEADY,
            ),
            **links.to(cause=Cause.NETWORK_UNREACHABLE, connection=CONNECTION),
        },
    )
