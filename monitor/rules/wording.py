"""What Prometheus' alerts say to a person: sentences with values that are looked up in Prometheus.

Values are looked up by templates in annotations, not joined into the expressions: a join that finds nothing,
or two, would lose the alert; a look-up that finds nothing loses its own sentence.
"""

from collections.abc import Iterable

from monitor.core.catalogue import Entry
from monitor.core.causes import Cause, Responsible
from monitor.core.wording import ASK_AGAIN, WHO, Links, told, with_name
from monitor.rules.replicas import BUT_CUT_OFF

CONNECTION = "{{ $labels.connection }}"

MAINTENANCE = "bearerwatch_connection_maintenance"
"""Of whom nobody is told anything new now."""


def carried(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels of alerts about connections beside what is found: the org's, and the operator's own."""
    return ("host", *labels)


def carrying(expression: str, labels: Iterable[str]) -> str:
    """The expression about connections, with those labels.

    The page has one info for each connection. Where someone drops it, or replicas differ for a moment, no
    alert may be lost: then a connection has no such labels, or those of one replica.
    """
    return (
        f"{expression}\n* on (connection) group_left ({', '.join(carried(labels))}) (\n"
        "  topk by (connection) (1, bearerwatch_connection_info)\n"
        "  or on (connection) max by (connection) (bearerwatch_connection_state)\n)"
    )


def firing(matchers: str) -> str:
    """The alerts that fire and fit, as Prometheus itself records them."""
    return f'ALERTS{{alertstate="firing",{matchers}}}'


def quiet(alert: str, maintenance: str = MAINTENANCE) -> str:
    """Those in a maintenance, but for those of which this alert tells already: leaving out is ending."""
    told_already = f'alertname="{alert}"'
    return f"({maintenance} unless on (connection) {firing(told_already)})"


def looked_up(query: str, then: str, *labels: str) -> str:
    """A template: `then`, about what `query` finds in Prometheus; nothing where it finds nothing.

    Each `%q` of the query stands for the alert's label of that place.
    """
    arguments = "".join(f" $labels.{label}" for label in labels)
    return f"{{{{ with printf `{query}`{arguments} | query }}}}{then}{{{{ end }}}}"


def _evidence(metric: str, then: str, selector: str = "", shown: str = "humanizeTimestamp") -> str:
    """A template: a line of evidence, in which VALUE is the metric of the alert's connection."""
    query = f"max(bearerwatch_connection_{metric}{{connection=%q{selector}}} {BUT_CUT_OFF})"
    value = f"{{{{ . | first | value | {shown} }}}}"
    return looked_up(query, "\n" + then.replace("VALUE", value), "connection")


SINCE = looked_up(
    f"min(bearerwatch_connection_finding_since_timestamp_seconds{{connection=%q,cause=%q}} {BUT_CUT_OFF})",
    "\nIt has held since {{ . | first | value | humanizeTimestamp }}.",
    "connection",
    "cause",
)

LAST_GRANTED = _evidence("last_success_timestamp_seconds", "The last exchange that was granted: VALUE.")

_CERTIFICATE_END = _evidence(
    "certificate_not_after_timestamp_seconds", "The end of the certificate: VALUE.", ',slot="current"'
)

MORE_EVIDENCE = {
    Cause.APPROVAL_EXPIRING: _evidence(
        "approval_forecast_timestamp_seconds", "The expected end of the approval: VALUE."
    )
    + _evidence("approval_since_timestamp_seconds", "It was first seen to serve: VALUE."),
    Cause.CERTIFICATE_EXPIRING: _CERTIFICATE_END,
    Cause.CERTIFICATE_EXPIRED: _CERTIFICATE_END,
    Cause.CERTIFICATE_NOT_YET_VALID: _evidence(
        "certificate_not_before_timestamp_seconds",
        "The beginning of the certificate: VALUE.",
        ',slot="current"',
    ),
    Cause.ASSERTION_INVALID: _CERTIFICATE_END,
    Cause.CLIENT_INVALID: _CERTIFICATE_END,
    Cause.CLOCK_SKEWED: _evidence(
        "clock_offset_seconds", "The server's clock minus ours: VALUE.", shown="humanizeDuration"
    ),
}
"""What Prometheus can tell of a cause beyond what it can tell of each."""

AT_HOST = "{{ with $labels.host }} at {{ . }}{{ end }}"
"""The org, where it is known."""


def annotations_of_cause(cause: Cause, entry: Entry, links: Links) -> dict[str, str]:
    """All that a person needs who reads nothing but the alert."""
    who = WHO[entry.responsible]
    if entry.responsible is Responsible.ORG_ADMIN:
        who += AT_HOST
    page = f"\nUser, answers and all evidence: {links.page(CONNECTION)}" if links.pages else ""
    return {
        "summary": f"{entry.title}: {CONNECTION}",
        "description": told(
            f"{entry.meaning}{SINCE}{MORE_EVIDENCE.get(cause, '')}{LAST_GRANTED}{page}",
            who=who,
            steps=with_name([*entry.remedy, ASK_AGAIN], CONNECTION),
            guide=entry.guide,
        ),
        **({"note": entry.contested} if entry.contested else {}),
        **links.to(cause=cause, connection=CONNECTION),
    }
