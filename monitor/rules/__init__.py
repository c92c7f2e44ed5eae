"""Prometheus alert rules: renders `alerts.yml.j2` with a configuration's times, links and labels."""

import json
from functools import partial
from pathlib import Path

from jinja2 import Environment

from monitor.config import Settings
from monitor.config.words import written_duration
from monitor.core import wording
from monitor.core.alerts import TROUBLES
from monitor.core.cadence import UNSEEN_GRACE, UNSEEN_INTERVALS
from monitor.core.catalogue import CATALOGUE, Entry
from monitor.core.holds import KEPT, SCRAPE


def rules(settings: Settings) -> str:
    """The rule file. Regenerate it when intervals, settle times, links or labels change."""
    holds, links = settings.terms.holds, settings.terms.links
    template = _ENVIRONMENT.from_string(Path(__file__).with_name("alerts.yml.j2").read_text(encoding="utf-8"))
    slowest = max((each.interval for each in settings.connections), default=settings.interval)
    written = template.render(
        causes=CATALOGUE,
        troubles={each.name: each for each in TROUBLES},
        transient="|".join(cause for cause, entry in CATALOGUE.items() if entry.transient),
        holds=holds,
        links=links,
        labels=", ".join(("host", *links.labels)),
        scrape=SCRAPE,
        kept=KEPT,
        unseen=UNSEEN_INTERVALS,
        grace=int((UNSEEN_GRACE + SCRAPE).total_seconds()),
        first_looks=slowest + UNSEEN_GRACE,
        wording=wording,
    )
    return "".join(line for line in written.splitlines(keepends=True) if line.strip())


def _steps(entry: Entry, app: bool) -> str:
    name = '{{ with $labels.app }} "{{ . }}"{{ end }}' if app else ""
    return wording.remedy(wording.with_name(wording.with_last(entry), "{{ $labels.connection }}", name))


_ENVIRONMENT = Environment(  # noqa: S701 - YAML, not HTML
    variable_start_string="<<",
    variable_end_string=">>",
    block_start_string="<%",
    block_end_string="%>",
    comment_start_string="<#",
    comment_end_string="#>",
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {
    "alert": wording.name_of,
    "duration": written_duration,
    "steps": _steps,
    "yaml": partial(json.dumps, ensure_ascii=False),
}
