"""What Prometheus' alerts say to a person: sentences with values that are looked up in Prometheus.

Values are looked up by templates in annotations and labels, not joined into the expressions: a join that
finds nothing, or two, would lose the alert; a look-up that finds nothing loses its own sentence.
"""

from collections.abc import Iterable

from monitor.core.causes import Cause, Entry
from monitor.core.wording import WHO, Links, remedy, with_name

CONNECTION = "{{ $labels.connection }}"


def carried(labels: Iterable[str]) -> dict[str, str]:
    """The operator's own labels of the alert's connection."""
    return {name: info(name) for name in labels}


def looked_up(query: str, then: str, *labels: str) -> str:
    """A template: `then`, about what `query` finds in Prometheus; nothing where it finds nothing.

    Each `%q` of the query stands for the alert's label of that place.
    """
    arguments = "".join(f" $labels.{label}" for label in labels)
    return f"{{{{ with printf `{query}`{arguments} | query }}}}{then}{{{{ end }}}}"


def of_connection(metric: str, then: str, selector: str = "") -> str:
    """A template about the alert's connection: `VALUE` in `then` stands for the metric's value."""
    query = f"max(bearerwatch_connection_{metric}{{connection=%q{selector}}})"
    return looked_up(query, then.replace("VALUE", "{{ . | first | value }}"), "connection")


def moment_of_connection(metric: str, then: str, selector: str = "") -> str:
    """The same where the value is a moment."""
    when = "{{ . | first | value | humanizeTimestamp }}"
    return of_connection(metric, then.replace("MOMENT", when), selector)


def info(label: str) -> str:
    """A template: a label of what is configured for the alert's connection; `none` where it has none.

    Never empty: of a label that comes to nothing Prometheus keeps the template itself in its ALERTS series.
    """
    value = f'{{{{ with . | first | label "{label}" }}}}{{{{ . }}}}{{{{ else }}}}none{{{{ end }}}}'
    return looked_up(_INFO, f"{value}{{{{ else }}}}none", "connection", "connection")


_INFO = (
    "bearerwatch_connection_info{connection=%q} or"
    " last_over_time(bearerwatch_connection_info{connection=%q}[1h])"
)
"""What is configured; while the daemon is away, what was: an alert whose labels change is another alert."""


SINCE = looked_up(
    "min(bearerwatch_connection_finding_since_timestamp_seconds{connection=%q,cause=%q})",
    "It holds since {{ . | first | value | humanizeTimestamp }}. ",
    "connection",
    "cause",
)

LAST_GRANTED = moment_of_connection(
    "last_success_timestamp_seconds", "The last exchange that was granted: MOMENT. "
)

HOST = looked_up(_INFO, 'Host: {{ . | first | label "host" }}. ', "connection", "connection")

_CERTIFICATE_END = moment_of_connection(
    "certificate_not_after_timestamp_seconds", "The certificate ends: MOMENT. ", ',slot="current"'
)
_CLOCK = of_connection(
    "clock_offset_seconds", "The server's clock minus ours: {{ . | first | value | humanizeDuration }}. "
)

MORE_EVIDENCE = {
    Cause.APPROVAL_EXPIRING: moment_of_connection(
        "approval_forecast_timestamp_seconds", "The approval is expected to end: MOMENT. "
    )
    + moment_of_connection("approval_since_timestamp_seconds", "It was first seen to serve: MOMENT. "),
    Cause.CERTIFICATE_EXPIRING: _CERTIFICATE_END,
    Cause.CERTIFICATE_EXPIRED: _CERTIFICATE_END,
    Cause.CERTIFICATE_NOT_YET_VALID: moment_of_connection(
        "certificate_not_before_timestamp_seconds", "The certificate begins: MOMENT. ", ',slot="current"'
    ),
    Cause.ASSERTION_INVALID: _CERTIFICATE_END,
    Cause.CLIENT_INVALID: _CERTIFICATE_END,
    Cause.CLOCK_SKEWED: _CLOCK,
}
"""What Prometheus can tell of a cause beyond what it can tell of each."""


def annotations_of_cause(cause: Cause, entry: Entry, links: Links) -> dict[str, str]:
    """All that a person needs who reads nothing but the alert."""
    evidence = SINCE + HOST + MORE_EVIDENCE.get(cause, "") + LAST_GRANTED
    guide = f" (setup guide, {entry.guide})" if entry.guide else ""
    return {
        "summary": f"{entry.title}: {CONNECTION}",
        "description": "\n".join(
            [
                entry.meaning,
                evidence.rstrip(),
                f"Who must act: {WHO[entry.responsible]}.",
                f"What to do{guide}: the steps in `remedy`, in their order.",
                f"To ask once more: `bearerwatch check {CONNECTION}`.",
            ]
        ),
        "remedy": remedy(with_name(entry.remedy, CONNECTION)),
        **({"note": entry.contested} if entry.contested else {}),
        **({"guide": entry.guide} if entry.guide else {}),
        **links.to(cause=cause, connection=CONNECTION),
    }
