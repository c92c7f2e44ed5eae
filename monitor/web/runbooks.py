"""Documents about causes and the setup guide: as Markdown for docs/, as pages, and as JSON.

docs/causes and docs/setup.md are generated here from the catalogue, `causes.md` and `setup.md`; the daemon
serves the same.
"""

import re
from pathlib import Path
from string import Template
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from monitor.core.catalogue import CATALOGUE, Entry
from monitor.core.causes import Cause, Severity
from monitor.core.wording import WHO

_SEVERITY = {
    Severity.CRITICAL: "critical (the integration is down or will be soon)",
    Severity.WARNING: "warning (act in time, or keep an eye on it)",
    Severity.INFO: "info (no action needed yet)",
}

_REPRODUCE = """\
## Reproduce it

```
sf org login jwt --client-id CONSUMER_KEY --jwt-key-file private-key.pem \\
  --username USERNAME --instance-url https://SUBDOMAIN.my.salesforce.com
```

`bearerwatch check NAME --config FILE` tries again with the configured values, and explains the result.
"""

SCREENS = {
    "App Manager": "NavigationMenus",
    "Company Information": "CompanyProfileInfo",
    "Connected Apps OAuth Usage": "ConnectedAppsUsage",
    "External Client App Manager": "ManageExternalClientApplication",
    "Login History": "OrgLoginHistory",
    "Manage Connected Apps": "ConnectedApplication",
    "My Domain": "OrgDomain",
    "Permission Sets": "PermSets",
    "Profiles": "EnhancedProfiles",
    "Session Settings": "SecuritySession",
    "Users": "ManageUsers",
    "View Setup Audit Trail": "SecurityEvents",
}
"""Paths of Setup screens at `/lightning/setup/…/home`, as used by several published programs. Salesforce does
not document them."""

_STEP = re.compile(r"\b([Ss]teps? )(\d)(?:( and | to )(\d))?")
_SCREEN = re.compile(rf"((?:Setup &gt; |, open ))({'|'.join(SCREENS)})\b")


def cause_page(cause: Cause) -> str:
    """A cause's runbook: what it is, who is responsible, what to do, similar causes."""
    entry = CATALOGUE[cause]
    first = [f"If a next pair is configured: {step}" for step in entry.remedy_with_next]
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
        parts.append(
            f"While one of these causes applies, Salesforce answers with that one instead:\n\n{names}\n"
        )
    if entry.needs_exchange:
        parts.append(_REPRODUCE)
    if entry.contested:
        parts.append(f"## Where sources disagree\n\n{entry.contested}\n")
    return _STEP.sub(lambda found: _linked(found, "../setup.md"), "\n".join(parts))


def causes_page() -> str:
    """The table of all causes, with links to their pages."""
    rows = "".join(
        f"| [`{cause}`]({cause}.md) | {entry.title} | `{entry.responsible}` | {entry.guide or ''} |\n"
        for cause, entry in CATALOGUE.items()
    )
    return _text("causes.md") + _STEP.sub(lambda found: _linked(found, "../setup.md"), rows)


def setup_page() -> str:
    """The seven setup steps, with related causes."""
    steps = {f"step_{number}": _causes_of(str(number)) for number in range(1, 8)}
    filled = Template(_text("setup.md")).substitute(steps, sandbox_refresh=_causes_of("sandbox refresh"))
    return "\n".join(
        line if line.startswith(("#", "    ")) else _STEP.sub(lambda found: _linked(found, ""), line)
        for line in filled.splitlines()
    )


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def write(docs: Path) -> None:
    """Write `causes/` and `setup.md` into the docs directory."""
    (docs / "causes").mkdir(parents=True, exist_ok=True)
    for cause in Cause:
        (docs / "causes" / f"{cause}.md").write_text(cause_page(cause), encoding="utf-8")
    (docs / "causes" / "index.md").write_text(causes_page(), encoding="utf-8")
    (docs / "setup.md").write_text(setup_page(), encoding="utf-8")


def html(markdown: str) -> Markup:
    """A document as HTML: headings have GitHub's anchors, links lead to the daemon's pages."""
    tokens = _MARKDOWN.parse(markdown)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet(
                "id", re.sub(r"[^a-z0-9-]", "", tokens[place + 1].content.lower().replace(" ", "-"))
            )
        for part in token.children or ():
            if part.type == "link_open":
                part.attrSet("href", _served(str(part.attrs["href"])))
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704 - already escaped


def coded(text: str, org: str = "") -> Markup:
    """A text of the catalogue as HTML, escaped: `…` becomes code, and setup steps become links.

    If the org's address is given, its Setup screens become links too.
    """
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else _with_links(part, org)
        for place, part in enumerate(text.split("`"))
    )


def guide_link(guide: str) -> Markup:
    """References to the setup guide (`steps 4 and 6`, `sandbox refresh`), as links."""
    if guide == "sandbox refresh":
        return Markup('<a href="/setup#sandbox-refresh">sandbox refresh</a>')
    return _with_links(guide)


def as_json(cause: Cause) -> dict[str, Any]:
    """A cause's entry as JSON."""
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


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def _linked(found: re.Match[str], page: str) -> str:
    word, first, between, second = found.groups()
    more = f"{between}[{second}]({page}#step-{second})" if second else ""
    return f"[{word}{first}]({page}#step-{first}){more}"


def _with_links(text: str, org: str = "") -> Markup:
    made = _STEP.sub(
        lambda found: re.sub(r"\[(.+?)\]\((.+?)\)", r'<a href="\2">\1</a>', _linked(found, "/setup")),
        str(escape(text)),
    )
    if org:
        made = _SCREEN.sub(
            lambda found: (
                f'{found[1]}<a href="{escape(org)}/lightning/setup/{SCREENS[found[2]]}/home"'
                f' rel="noreferrer">{found[2]}</a>'
            ),
            made,
        )
    return Markup(made)  # noqa: S704 - escaped above


def _served(link: str) -> str:
    """The daemon's path for a link in docs/."""
    known = re.fullmatch(r"(?:(?:\.\./)?causes/|\.\./)?(\w+)\.md(#.*)?", link)
    if known is None:
        return link
    page, anchor = known[1], known[2] or ""
    return {"setup": "/setup", "index": "/causes"}.get(page, f"/causes/{page}") + anchor


def _causes_of(step: str) -> str:
    """A step's related causes, as one line."""
    return "If it is wrong: " + ", ".join(
        f"[`{cause}`](causes/{cause}.md)"
        for cause, entry in CATALOGUE.items()
        if entry.guide and step in entry.guide
    )


def _facts(cause: Cause, entry: Entry) -> list[str]:
    guide = entry.guide
    if guide == "sandbox refresh":
        guide = "[sandbox refresh](../setup.md#sandbox-refresh)"
    facts = [
        f"- Cause: `{cause}`",
        f"- Severity: {_SEVERITY[entry.severity]}",
        f"- Who acts: {WHO[entry.responsible]}",
        f"- Setup guide: {guide or 'not covered'}",
    ]
    if entry.settle:
        minutes = [
            f"{limit.total_seconds() / 60:.0f}" for limit in (entry.settle.shortest, entry.settle.longest)
        ]
        facts.append(
            f"- May clear by itself {' to '.join(minutes)} minutes after a change ({entry.settle.source})"
        )
    return facts
