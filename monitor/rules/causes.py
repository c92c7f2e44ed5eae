"""An alert for each cause of the catalogue, in two bands where time decides how soon somebody must act.

The findings carry their severity: a key that is too short is milder beside a grant. So one rule serves all
severities of a cause, and replicas that see the same finding make one alert.
"""

from collections.abc import Iterator
from datetime import timedelta

from monitor.config.words import written_duration
from monitor.core.cadence import CONFIRM
from monitor.core.causes import CATALOGUE, Cause, Severity
from monitor.core.holds import APPROVAL_CRITICAL, EXCHANGE, SCRAPE, TRANSIENT, Holds
from monitor.core.wording import Links, name_of
from monitor.rules.document import Alert
from monitor.rules.wording import CONNECTION, annotations_of_cause, carried

REMEMBERED = timedelta(hours=1)
"""While the daemon is away, its findings stand for so long: a restart would otherwise tell everybody that all
is well, and then that all is broken. Its absence is an alert of its own long before."""

BY = "connection, cause, severity, responsible"
FINDING = "bearerwatch_connection_finding"


def alerts(holds: Holds, links: Links) -> Iterator[Alert]:
    """The alerts of all causes, in the catalogue's order, then those of causes that have no rule here."""
    for cause in CATALOGUE:
        yield from _of(cause, holds, links)
    yield _of_no_rule(holds, links)


def remembered(metric: str, matchers: str = "") -> str:
    """A metric as it is; where its daemon is away, as it last was."""
    selector = f"{metric}{{{matchers}}}" if matchers else metric
    past = f"last_over_time({selector}[{written_duration(REMEMBERED)}])"
    return f"{selector}\n  or {past} unless on (job) bearerwatch_build_info"


def holding(matchers: str) -> str:
    """The findings that fit, each once however many replicas see it."""
    return f"max by ({BY}) (\n  {remembered(FINDING, matchers)}\n)"


def _of(cause: Cause, holds: Holds, links: Links) -> Iterator[Alert]:
    expression = holding(f'cause="{cause}"')
    hold, why = _hold(cause, holds)
    severity = f"Severity: {CATALOGUE[cause].severity}, unless the finding says otherwise."
    bands: list[tuple[str, dict[str, str], str]] = [(expression, {}, f"{severity} {why}")]
    if cause is Cause.CERTIFICATE_EXPIRING:
        bands = [
            (
                holding(f'cause="{cause}",severity="{band}"'),
                {"severity": str(band)},
                (
                    f"The {band} band of the certificate's end, as certificate_expiry in the configuration"
                    f" has it. {why}"
                ),
            )
            for band in (Severity.WARNING, Severity.CRITICAL)
        ]
    if cause is Cause.APPROVAL_EXPIRING:
        near = _approval_ends_within(APPROVAL_CRITICAL)
        bands = [
            (
                f"{expression}\nunless on (connection) {near}",
                {"severity": str(Severity.WARNING)},
                f"From a sixth of the lifetime before the forecast end. {why}",
            ),
            (
                f"{expression}\nand on (connection) {near}",
                {"severity": str(Severity.CRITICAL)},
                (
                    f"{APPROVAL_CRITICAL.days} days before the forecast end: time to reach an admin. Once"
                    " the end has passed and the org still grants, the forecast was wrong, and it is a"
                    f" warning again. {why}"
                ),
            ),
        ]
    for band, labels, reason in bands:
        yield Alert(
            name=name_of(cause),
            expression=band,
            hold=hold,
            why=reason,
            labels=labels | carried(links.labels),
            annotations=annotations_of_cause(cause, CATALOGUE[cause], links),
            lingers=holds.lingers if cause in TRANSIENT else None,
        )


def _approval_ends_within(span: timedelta) -> str:
    forecast = remembered("bearerwatch_connection_approval_forecast_timestamp_seconds")
    return f"(\n  max by (connection) (\n  {forecast}\n  ) - time() > 0 < {span.total_seconds():.0f}\n)"


def _hold(cause: Cause, holds: Holds) -> tuple[timedelta, str]:
    """How long a cause must hold, and why."""
    hold = holds.of_cause(cause)
    if cause in TRANSIENT:
        return hold, (
            f"{written_duration(holds.transient)}: one failed exchange proves nothing (alerts.transient_for,"
            f" or three intervals). It stays for {written_duration(holds.lingers)} after its end, for a"
            " fault that comes and goes."
        )
    if cause is Cause.PROPAGATION_PENDING:
        return hold, (
            f"{written_duration(holds.settling)}: the longest settle time, and what it takes to see its end."
            " A change that settles is no alert; one that is made again and again is."
        )
    if cause is Cause.LOGIN_RATE_EXCEEDED:
        return hold, (
            f"{written_duration(holds.throttled)}: the next look comes 15m after such an answer, and must"
            " have found the same."
        )
    return hold, (
        f"{written_duration(holds.confirmed)}: seen again after"
        f" {written_duration(min(CONFIRM, holds.confirmed))} at most, by an exchange of at most"
        f" {written_duration(EXCHANGE)}, and scraped within {written_duration(SCRAPE)}."
    )


def _of_no_rule(holds: Holds, links: Links) -> Alert:
    known = "|".join(CATALOGUE)
    return Alert(
        name="BearerwatchCauseWithoutRule",
        expression=holding(f'cause!~"{known}"'),
        hold=holds.confirmed,
        why="The daemon is newer than these rules, and knows a cause that they don't. For as long as the"
        " others.",
        labels=carried(links.labels),
        annotations={
            "summary": f"{{{{ $labels.cause }}}}: {CONNECTION}",
            "description": (
                "The daemon names a cause for which this rule file has no alert: it is newer than the file."
                " The connection's page says what is wrong and what to do."
            ),
            "remedy": (
                "1. `bearerwatch causes {{ $labels.cause }}` prints the runbook of the cause.\n"
                "2. Write the rules anew: `bearerwatch rules --config FILE`."
            ),
            **links.to(cause=Cause.MONITOR_FAULT, connection=CONNECTION),
        },
    )
