"""Documents about causes and the setup guide: as Markdown for docs/, as pages, and as JSON.

docs/causes and docs/setup.md are generated here from the catalogue and the templates in `documents`; the
daemon serves the same.
"""

import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from monitor.core.cadence import SETTLE_STEPS
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.wording import WHO

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

_DOCUMENTS = Environment(  # noqa: S701 - Markdown, not HTML
    loader=PackageLoader("monitor.web", "documents"),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_DOCUMENTS.filters["minutes"] = lambda length: length // timedelta(minutes=1)
_SHORTEST, *_, _LONGEST = SETTLE_STEPS
_DOCUMENTS.globals |= {"catalogue": CATALOGUE, "who": WHO, "shortest": _SHORTEST, "longest": _LONGEST}
_STEP = re.compile(r"\b([Ss]teps? )(\d)(?:( and | to )(\d))?")
_SCREEN = re.compile(rf"((?:Setup &gt; |, open ))({'|'.join(SCREENS)})\b")


def cause_page(cause: Cause) -> str:
    """A cause's runbook: what it is, who is responsible, what to do, similar causes."""
    return _filled("cause.md", "../setup.md", cause=cause, entry=CATALOGUE[cause])


def causes_page() -> str:
    """The table of all causes, with links to their pages."""
    return _filled("causes.md", "../setup.md")


def setup_page() -> str:
    """The seven setup steps, with related causes."""
    return _filled("setup.md", "")


def _filled(template: str, setup: str, **values: object) -> str:
    """A document with links to the steps in `setup`, except in headings and code."""
    filled = _DOCUMENTS.get_template(template).render(values)
    return "\n".join(
        line if line.startswith(("#", "    ")) else _STEP.sub(lambda found: _linked(found, setup), line)
        for line in filled.split("\n")
    )


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


@cache
def guide_link(guide: str) -> Markup:
    """A cause's references to the setup guide (`steps 4 and 6`, `sandbox refresh`), as links."""
    if guide == "sandbox refresh":
        return Markup('<a href="/setup#sandbox-refresh">sandbox refresh</a>')
    return _with_links(guide)


def as_json(cause: Cause) -> dict[str, Any]:
    """A cause's entry as JSON."""
    entry = CATALOGUE[cause]
    return {
        "cause": cause.value,
        "title": entry.title,
        "meaning": entry.meaning,
        "severity": entry.severity.value,
        "responsible": entry.responsible.value,
        "guide": entry.guide,
        "settle": entry.settle
        and {
            "shortest_seconds": _SHORTEST.total_seconds(),
            "longest_seconds": _LONGEST.total_seconds(),
            "source": entry.settle,
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
