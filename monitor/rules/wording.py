"""What alerts say to a person: links, sentences with values looked up in Prometheus, who must act.

Values are looked up by templates in annotations and labels, not joined into the expressions: a join that
finds nothing, or two, would lose the alert; a look-up that finds nothing loses its own sentence.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from monitor.core.causes import Cause, Entry, Responsible

CONNECTION = "{{ $labels.connection }}"

WHO = {
    Responsible.ORG_ADMIN: "a Salesforce admin of the org",
    Responsible.OPERATOR: "the operator, who runs the integration, its keys and this monitor",
    Responsible.SALESFORCE: "nobody here; Salesforce, or time",
}


@dataclass(frozen=True, slots=True)
class Links:
    """What alerts point to, and which of the operator's labels they carry. Empty: the operator names none."""

    runbooks: str
    """Where the pages of the causes are."""
    dashboard: str
    pages: str
    """Where the daemon's own pages are."""
    labels: tuple[str, ...]

    def carried(self) -> dict[str, str]:
        """The operator's own labels of the alert's connection."""
        return {name: info(name) for name in self.labels}

    def to(self, *, cause: Cause, connection: str = "") -> dict[str, str]:
        """The annotations that link to the runbook of a cause, the dashboard, and a connection's own page."""
        page = f"{self.pages}/connections/{connection}" if connection else f"{self.pages}/"
        runbook = f"{self.runbooks}/{cause}.md" if self.runbooks else page
        dashboard = f"{self.dashboard}?var-connection={connection}" if connection else self.dashboard
        links = {
            "runbook_url": (runbook, self.runbooks or self.pages),
            "dashboard_url": (dashboard, self.dashboard),
            "status_url": (page, self.pages),
        }
        return {name: link for name, (link, known) in links.items() if known}


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
        "remedy": remedy(_named(entry.remedy)),
        **({"note": entry.contested} if entry.contested else {}),
        **({"guide": entry.guide} if entry.guide else {}),
        **links.to(cause=cause, connection=CONNECTION),
    }


def remedy(steps: Iterable[str]) -> str:
    """Steps, numbered, a line each."""
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _named(steps: Iterable[str]) -> Iterable[str]:
    """The steps with the alert's connection in the commands that want its name."""
    return (re.sub(r"(`bearerwatch \w+) NAME", rf"\1 {CONNECTION}", step) for step in steps)
