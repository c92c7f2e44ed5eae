"""Wording shared by all alerts, from the rules or from `notify`: name, responsible, steps, links."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from monitor.core.catalogue import Entry
from monitor.core.causes import Cause, Responsible
from monitor.core.connection import Connection

WHO = {
    Responsible.ORG_ADMIN: "a Salesforce admin of the org",
    Responsible.OPERATOR: "the operator, who manages the integration, its keys and this monitor",
    Responsible.SALESFORCE: "no one on your side; wait for Salesforce",
}

ASK_AGAIN = "When done, check again now: `bearerwatch recheck NAME`, or the button on its page."

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
    """A time in UTC, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def name_of(cause: Cause) -> str:
    """A cause's alert name, such as `BearerwatchApprovalDecayed`."""
    return "Bearerwatch" + "".join(part.capitalize() for part in cause.split("_"))


def remedy(steps: Iterable[str]) -> str:
    """Numbered steps, one per line."""
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def description(what: str, *, who: str, steps: Iterable[str], guide: str | None = None) -> str:
    """What is wrong, who must act, and the steps."""
    source = f" (setup guide, {guide})" if guide else ""
    return f"{what}\nWho must act: {who}.\nWhat to do{source}:\n{remedy(steps)}"


def short(consumer_key: str) -> str:
    """A shortened consumer key, enough to recognise it. It is not secret, but need not be shown in full."""
    return consumer_key if len(consumer_key) <= 12 else f"{consumer_key[:5]}…{consumer_key[-6:]}"


def inert(text: str) -> str:
    """Untrusted text, escaped so that chats show no link, mention or markup from it.

    `<` and `>` delimit Slack's mentions and links (`<!channel>`, `<https://…|Log in>`), Discord's mentions,
    and HTML; an `@` at the start of a word or before a channel name is a mention; `](` makes a Markdown link.
    """
    text = text.translate({ord("<"): "‹", ord(">"): "›", ord("`"): "'"}).replace("](", "] (")
    text = re.sub(r"(?i)@(?=everyone|here|channel|all\b)|(?<![\w.+-])@(?=\w)", "@\N{ZERO WIDTH SPACE}", text)
    return re.sub(r"(?i)\b(https?|ftp)://", r"\1[:]//", text)


def with_name(steps: Iterable[str], connection: str, app: str = "") -> list[str]:
    """The steps with the connection's name in commands, and the app's name after the first mention."""
    text = re.sub(r"(`bearerwatch \w+) NAME", rf"\1 {connection}", "\n".join(steps))
    return re.sub(r"\bthe app\b(?!')", lambda found: f"{found[0]}{app}", text, count=1).split("\n")


def with_last(entry: Entry) -> tuple[str, ...]:
    """A remedy, and how the repair is seen at once, unless there is nothing to repair."""
    return entry.remedy if entry.responsible is Responsible.SALESFORCE else (*entry.remedy, ASK_AGAIN)


def steps(entry: Entry, connection: Connection, *, ask_again: bool = False) -> list[str]:
    """The steps that apply to this connection, with its name and its app's."""
    first = entry.remedy_with_next if connection.next else ()
    app = f' "{connection.app}"' if connection.app else ""
    remedy = with_last(entry) if ask_again else entry.remedy
    return with_name([*first, *remedy], connection.name, app)


@dataclass(frozen=True, slots=True)
class Links:
    """The links in alerts, and which of the operator's labels they carry. Empty: not configured."""

    runbooks: str = ""
    """The base URL of docs/causes; if empty, the daemon's own pages are used."""
    dashboard: str = ""
    pages: str = ""
    labels: tuple[str, ...] = ()

    def page(self, connection: str) -> str:
        """The URL of a connection's page."""
        return f"{self.pages}/connections/{connection}"

    def to(self, *, cause: Cause, connection: str = "") -> dict[str, str]:
        """Annotations that link to the cause's runbook, the dashboard, and the connection's page."""
        page = self.page(connection) if connection else f"{self.pages}/"
        runbook = f"{self.runbooks}/{cause}.md" if self.runbooks else f"{self.pages}/causes/{cause}"
        dashboard = f"{self.dashboard}?var-connection={connection}" if connection else self.dashboard
        links = {
            "runbook_url": (runbook, self.runbooks or self.pages),
            "dashboard_url": (dashboard, self.dashboard),
            "status_url": (page, self.pages),
        }
        return {name: link for name, (link, known) in links.items() if known}
