"""One cause of the catalogue as a page for the person who was paged, and as JSON."""

from pathlib import Path
from typing import Any

from monitor.core.catalogue import CATALOGUE, Entry
from monitor.core.causes import Cause, Severity
from monitor.core.wording import WHO

_SEVERITY = {
    Severity.CRITICAL: "critical: the integration stands still or is about to",
    Severity.WARNING: "warning: act in time, or watch it",
    Severity.INFO: "info: nobody needs to act yet",
}

_REPRODUCE = """\
## Reproduce it

```
sf org login jwt --client-id CONSUMER_KEY --jwt-key-file private-key.pem \\
  --username USERNAME --instance-url https://SUBDOMAIN.my.salesforce.com
```

`bearerwatch check NAME --config FILE` asks once more with what is configured, and explains.
"""

_INDEX = """\
# Causes

A diagnosis is a ranked list: the cause, its evidence, how sure it is, what else fits and what would tell
them apart. Where the answer alone cannot decide, the connection's history does.
Where Salesforce's documents, the setup guide and the field disagree (whether an expired certificate is
refused, whether approvals of admin-approved apps age out), the page of the cause names both.

Who acts: `org_admin` is a Salesforce admin of the org; `operator` runs the integration, its keys and this
monitor; with `salesforce`, only Salesforce or time can help. `bearerwatch causes CODE` prints a page.

| Cause | Means | Who acts | Setup guide |
|---|---|---|---|
"""


def runbook(cause: Cause) -> str:
    """The page of one cause, in Markdown: what it is, who acts, what to do, what it may be taken for."""
    entry = CATALOGUE[cause]
    first = [f"Where a next pair is configured: {step}" for step in entry.remedy_with_next]
    actions = "\n".join(f"{number}. {action}" for number, action in enumerate([*first, *entry.remedy], 1))
    parts = [
        f"# {entry.title}\n",
        "\n".join(_facts(cause, entry)) + "\n",
        f"{entry.meaning}\n",
        f"## What to do\n\n{actions}\n",
        f"## How to tell it apart\n\n{entry.tell_apart}\n",
    ]
    if entry.hidden_by:
        names = "\n".join(f"- [`{other}`]({other}.md): {CATALOGUE[other].title}" for other in entry.hidden_by)
        parts.append(f"While one of these holds, its answer comes first and hides this cause:\n\n{names}\n")
    if entry.needs_exchange:
        parts.append(_REPRODUCE)
    if entry.contested:
        parts.append(f"## Where sources disagree\n\n{entry.contested}\n")
    return "\n".join(parts)


def index() -> str:
    """The table of all causes, in Markdown, each with a link to its page."""
    rows = (
        f"| [`{cause}`]({cause}.md) | {entry.title} | `{entry.responsible}` | {entry.guide or ''} |\n"
        for cause, entry in CATALOGUE.items()
    )
    return f"{_INDEX}{''.join(rows)}"


def write(directory: Path) -> None:
    """Write the page of every cause, and their index, into a directory: `docs/causes` is made in this way."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "index.md").write_text(index(), encoding="utf-8")
    for cause in Cause:
        (directory / f"{cause}.md").write_text(runbook(cause), encoding="utf-8")


def as_json(cause: Cause) -> dict[str, Any]:
    """The entry of one cause, for other programs."""
    entry = CATALOGUE[cause]
    settle = entry.settle
    return {
        "cause": cause.value,
        "title": entry.title,
        "meaning": entry.meaning,
        "severity": entry.severity.value,
        "responsible": entry.responsible.value,
        "guide": entry.guide,
        "settle": settle
        and {
            "shortest_seconds": settle.shortest.total_seconds(),
            "longest_seconds": settle.longest.total_seconds(),
            "source": settle.source,
        },
        "remedy": list(entry.remedy),
        "tell_apart": entry.tell_apart,
        "hidden_by": [other.value for other in entry.hidden_by],
        "contested": entry.contested,
    }


def _facts(cause: Cause, entry: Entry) -> list[str]:
    facts = [
        f"- Cause: `{cause}`",
        f"- Severity: {_SEVERITY[entry.severity]}",
        f"- Who acts: {WHO[entry.responsible]}",
        f"- Setup guide: {entry.guide or 'says nothing of it'}",
    ]
    if entry.settle:
        minutes = [
            f"{limit.total_seconds() / 60:.0f}" for limit in (entry.settle.shortest, entry.settle.longest)
        ]
        facts.append(
            f"- May end by itself within {' to '.join(minutes)} minutes of a change ({entry.settle.source})"
        )
    return facts
