"""An alert for each cause of the catalogue, in two bands where time decides how soon somebody must act.

The findings carry their severity: a key that is too short is milder beside a grant. So one rule serves all
severities of a cause, and replicas that see the same finding make one alert.
"""

from collections.abc import Iterator
from datetime import timedelta

from monitor.config.words import written_duration
from monitor.core.alerts_of_many import AFFECTED, UNREACHABLE
from monitor.core.cadence import CONFIRM
from monitor.core.catalogue import CATALOGUE, Hold
from monitor.core.causes import Cause, Severity
from monitor.core.holds import APPROVAL_CRITICAL, EXCHANGE, SCRAPE, Holds
from monitor.core.wording import Links, name_of, told
from monitor.rules.document import Alert, Record
from monitor.rules.replicas import BUT_CUT_OFF
from monitor.rules.wording import (
    CONNECTION,
    LAST_GRANTED,
    MAINTENANCE,
    SINCE,
    annotations_of_cause,
    carried,
    carrying,
    firing,
)

REMEMBERED = timedelta(hours=1)
"""While the daemon is away, what it found last stands for so long: a restart would otherwise tell everybody
that all is well, and then that all is broken. Its absence is an alert of its own long before."""

EVENT = "cause, severity, responsible"
"""What the connections of one event have in common."""

BY = f"connection, {EVENT}"
FINDING = "bearerwatch_connection_finding"

OF_A_CAUSE = 'alertname=~"Bearerwatch.+",cause!=""'
"""The alerts that have a cause."""

OF_MANY = f'alertname=~"{AFFECTED}|{UNREACHABLE}"'
"""The alerts about many connections at once."""

HELD = f"connection:{FINDING}:held"
"""The findings that alerts go by: those of now, but for what is new in a maintenance; while the daemon is
away, those of when it was last there."""


def alerts(holds: Holds, links: Links) -> Iterator[Alert]:
    """The alerts of all causes, in the catalogue's order, then those of causes that have no rule here."""
    for cause in CATALOGUE:
        yield from _of(cause, holds, links)
    yield _of_no_rule(holds, links)


def holding(matchers: str, by: str = BY) -> str:
    """The findings that fit, each once however many replicas see it."""
    return f"max by ({by}) ({HELD}{{{matchers}}})"


def held(links: Links) -> Record:
    """The rule for what alerts go by."""
    labels = ", ".join(("job", BY, *carried(links.labels)))
    news = (
        f"(\n  {FINDING} unless on (connection) {MAINTENANCE}\n"
        f"  or {FINDING} and on (connection, cause) {firing(OF_A_CAUSE)}\n"
        f"  or {FINDING} and on ({EVENT}) {firing(OF_MANY)}\n"
        f"    and on (connection, cause) {HELD}\n)"
    )
    away = f"{HELD} unless on (job) bearerwatch_build_info"
    lately = f"last_over_time(bearerwatch_build_info[{written_duration(REMEMBERED)}])"
    return Record(
        HELD,
        f"max by ({labels}) (\n{carrying(news, links.labels)}\n{BUT_CUT_OFF}\n)\n"
        f"or {away}\n  and on (job) {lately}",
        "The findings of now; in a maintenance those alone that are told of already, or that this rule held"
        " before and that are told of as one of many: without them they would be told to be mended. While a"
        f" daemon is away, the rule keeps what it came to itself before, for {written_duration(REMEMBERED)}:"
        " neither a restart nor a lost scrape ends an alert, and what ended before stays so.",
    )


def _of(cause: Cause, holds: Holds, links: Links) -> Iterator[Alert]:
    expression = holding(f'cause="{cause}"', ", ".join((BY, *carried(links.labels))))
    hold, why = _hold(cause, holds)
    usual = f"Severity: {CATALOGUE[cause].severity}, unless the finding says otherwise."
    bands: list[tuple[str, dict[str, str], str]] = [(expression, {}, usual)]
    if cause is Cause.CERTIFICATE_EXPIRING:
        bands = [
            (expression, {}, "Severity: warning, then critical, as certificate_expiry has the two bands.")
        ]
    if cause is Cause.APPROVAL_EXPIRING:
        near = _approval_ends_within(APPROVAL_CRITICAL)
        bands = [
            (
                f"{expression}\nunless on (connection) {near}",
                {"severity": str(Severity.WARNING)},
                "From a sixth of the lifetime before the forecast end.",
            ),
            (
                f"{expression}\nand on (connection) {near}",
                {"severity": str(Severity.CRITICAL)},
                (
                    f"{APPROVAL_CRITICAL.days} days before the forecast end: time to reach an admin. Once"
                    " the end has passed and the org still grants, the forecast was wrong, and it is a"
                    " warning again."
                ),
            ),
        ]
    for band, labels, reason in bands:
        yield Alert(
            name=name_of(cause),
            expression=band,
            hold=hold,
            why=f"{reason} {why}",
            labels=labels,
            annotations=annotations_of_cause(cause, CATALOGUE[cause], links),
            lingers=holds.lingers if CATALOGUE[cause].transient else None,
        )


def _approval_ends_within(span: timedelta) -> str:
    forecast = "bearerwatch_connection_approval_forecast_timestamp_seconds"
    lately = f"last_over_time({forecast}[{written_duration(REMEMBERED)}])"
    left = f"max by (connection) ({lately} {BUT_CUT_OFF}) - time()"
    return f"(\n  {left} > 0 < {span.total_seconds():.0f}\n)"


def _hold(cause: Cause, holds: Holds) -> tuple[timedelta, str]:
    """How long a cause must hold, and why."""
    hold = holds.of_cause(cause)
    match CATALOGUE[cause].hold:
        case Hold.TRANSIENT:
            why = (
                "one failed exchange proves nothing (alerts.transient_for, or three intervals). It stays for"
                f" {written_duration(holds.lingers)} after its end, for a fault that comes and goes."
            )
        case Hold.SETTLING:
            why = (
                "the longest settle time, and what it takes to see its end. A change that settles is no"
                " alert; one that is made again and again is."
            )
        case Hold.THROTTLED:
            why = "the next look comes 15m after such an answer, and must have found the same."
        case Hold.CONFIRMED:
            why = (
                f"seen again after {written_duration(min(CONFIRM, holds.confirmed))} at most, by an exchange"
                f" of at most {written_duration(EXCHANGE)}, and scraped within {written_duration(SCRAPE)}."
            )
    return hold, f"{written_duration(hold)}: {why}"


def _of_no_rule(holds: Holds, links: Links) -> Alert:
    known = "|".join(CATALOGUE)
    return Alert(
        name="BearerwatchCauseWithoutRule",
        expression=holding(f'cause!~"{known}"', ", ".join((BY, *carried(links.labels)))),
        hold=holds.confirmed,
        why="The daemon is newer than these rules, and knows a cause that they don't. For as long as the"
        " others.",
        annotations={
            "summary": f"{{{{ $labels.cause }}}}: {CONNECTION}",
            "description": told(
                "The daemon names a cause for which this rule file has no alert: it is newer than the file."
                f" The connection's page says what is wrong.{SINCE}{LAST_GRANTED}",
                who="{{ $labels.responsible }}, once the operator has told them what",
                steps=(
                    "`bearerwatch causes {{ $labels.cause }}` prints the runbook of the cause.",
                    "Write the rules anew: `bearerwatch rules --config FILE`.",
                ),
            ),
            **links.to(cause=Cause.MONITOR_FAULT, connection=CONNECTION),
        },
    )
