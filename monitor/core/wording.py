"""The wording that all alerts share, from the rules or from `notify`: name, who must act, steps, links."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from monitor.core.catalogue import Entry
from monitor.core.causes import Cause, Responsible
from monitor.core.connection import Connection

WHO = {
    Responsible.ORG_ADMIN: "a Salesforce admin of the org",
    Responsible.OPERATOR: "the operator, who runs the integration, its keys and this monitor",
    Responsible.SALESFORCE: "nobody on your side; wait for Salesforce",
}

ASK_AGAIN = "When done, check again now: `bearerwatch recheck NAME`, or the button on its page."
"""The last step of each remedy."""

UNEXPLAINED = (
    "`bearerwatch check NAME --config FILE` checks now, and explains the result.",
    "If that works, look in the daemon's log for why it does not check this connection.",
)

UNSTEADY = (
    "The connection's page shows each failure.",
    "Timeouts and resets: check this machine's network, DNS and proxy.",
    "Refusals: look in the org's Setup Audit Trail for what keeps changing.",
)


def minute(at: datetime) -> str:
    """A moment in UTC, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def name_of(cause: Cause) -> str:
    """The name of a cause's alert: `BearerwatchApprovalDecayed`."""
    return "Bearerwatch" + "".join(part.capitalize() for part in cause.split("_"))


def remedy(steps: Iterable[str]) -> str:
    """Steps, numbered, a line each."""
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def told(what: str, *, who: str, steps: Iterable[str], guide: str | None = None) -> str:
    """A complete description: what is wrong, who must act, and each step."""
    source = f" (setup guide, {guide})" if guide else ""
    return f"{what}\nWho must act: {who}.\nWhat to do{source}:\n{remedy(steps)}"


def short(consumer_key: str) -> str:
    """Enough of a consumer key to find it. It is not a secret, but need not be shown in full."""
    return consumer_key if len(consumer_key) <= 12 else f"{consumer_key[:5]}…{consumer_key[-6:]}"


def inert(text: str) -> str:
    """A stranger's text that no chat takes for a link, a mention or markup, and a person still reads.

    `<` and `>` hold Slack's mentions and links (`<!channel>`, `<https://…|Log in>`), Discord's mentions, and
    HTML; an `@` that begins a word or names a whole channel is a mention; `](` makes a Markdown link.
    """
    text = text.translate({ord("<"): "‹", ord(">"): "›", ord("`"): "'"}).replace("](", "] (")
    text = re.sub(r"(?i)@(?=everyone|here|channel|all\b)|(?<![\w.+-])@(?=\w)", "@\N{ZERO WIDTH SPACE}", text)
    return re.sub(r"(?i)\b(https?|ftp)://", r"\1[:]//", text)


def with_name(steps: Iterable[str], connection: str, app: str = "") -> list[str]:
    """The steps with a connection in the commands that want its name, and `app` behind the first app."""
    listed = [re.sub(r"(`bearerwatch \w+) NAME", rf"\1 {connection}", step) for step in steps]
    for place, step in enumerate(listed):
        named = re.sub(r"\bthe app\b(?!')", lambda found: f"{found[0]}{app}", step, count=1)
        if named != step:
            listed[place] = named
            break
    return listed


def steps(entry: Entry, connection: Connection) -> list[str]:
    """What to do about a cause of this connection: what applies to it, with its name and its app's."""
    first = entry.remedy_with_next if connection.next else ()
    app = f' "{connection.app}"' if connection.app else ""
    return with_name([*first, *entry.remedy], connection.name, app)


@dataclass(frozen=True, slots=True)
class Links:
    """What alerts point to, and which of the operator's labels they carry. Empty: the operator names none."""

    runbooks: str = ""
    """Where the operator has put docs/causes; without it the daemon serves these pages itself."""
    dashboard: str = ""
    pages: str = ""
    """Where the daemon's own pages are."""
    labels: tuple[str, ...] = ()

    def page(self, connection: str) -> str:
        """A connection's own page."""
        return f"{self.pages}/connections/{connection}"

    def to(self, *, cause: Cause, connection: str = "") -> dict[str, str]:
        """The annotations that link to the runbook of a cause, the dashboard, and a connection's own page."""
        page = self.page(connection) if connection else f"{self.pages}/"
        runbook = f"{self.runbooks}/{cause}.md" if self.runbooks else f"{self.pages}/causes/{cause}"
        dashboard = f"{self.dashboard}?var-connection={connection}" if connection else self.dashboard
        links = {
            "runbook_url": (runbook, self.runbooks or self.pages),
            "dashboard_url": (dashboard, self.dashboard),
            "status_url": (page, self.pages),
        }
        return {name: link for name, (link, known) in links.items() if known}
