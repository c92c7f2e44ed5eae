"""What a person at a terminal sees of connections: a table of many, the whole diagnosis of one.

Colours only on a terminal, and never where NO_COLOR is set (rich sees to both); plain text pipes well.
"""

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from monitor.core.causes import CATALOGUE
from monitor.core.finding import Diagnosis, State
from monitor.core.history import STAGES
from monitor.core.status import ConnectionStatus, worst_first
from monitor.explain import as_json as diagnosis_as_json

STYLES = {
    State.HEALTHY: "green",
    State.DEGRADED: "yellow",
    State.SETTLING: "cyan",
    State.FAILING: "bold red",
    State.UNKNOWN: "magenta",
    State.PAUSED: "dim",
}

RESPONSIBLE = {"org_admin": "Salesforce admin", "operator": "operator", "salesforce": "Salesforce"}
"""Who must act, in words for a person."""


def as_json(status: ConnectionStatus) -> dict[str, Any]:
    """One verdict as `check --json` prints it: the shape of `explain`, after the connection's name."""
    verdict = Diagnosis(status.state, status.findings, status.history.alternatives)
    return {"connection": status.name, **diagnosis_as_json(verdict)}


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Tell that nothing has this name, and what may be meant."""
    meant = difflib.get_close_matches(name, list(known), n=1)
    return f"No {what} is named {name!r}." + (f" Is {meant[0]!r} meant?" if meant else "")


def show_catalogue(console: Console | None = None) -> None:
    """Print the causes, a line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("CAUSE", "SEVERITY", "WHO ACTS", "GUIDE", "MEANS"):
        table.add_column(heading, overflow="fold")
    for cause, entry in CATALOGUE.items():
        table.add_row(
            cause, entry.severity, RESPONSIBLE[entry.responsible], entry.guide or "", escape(entry.title)
        )
    (console or Console(highlight=False)).print(table)


@contextmanager
def progress(total: int, *, shown: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr while there are many to check and somebody looks."""
    if not shown or total < 2 or not sys.stderr.isatty():
        yield lambda name: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Checking", total=total)
        yield lambda name: bar.advance(task)


def show(
    statuses: Sequence[ConnectionStatus],
    *,
    now: datetime,
    quiet: bool,
    whole: bool,
    console: Console | None = None,
) -> None:
    """Print connections, worst first: each with its diagnosis where `whole`, else a line each."""
    console = console or Console(highlight=False, soft_wrap=whole)
    told = [status for status in worst_first(statuses) if not quiet or status.state is not State.HEALTHY]
    if whole:
        for place, status in enumerate(told):
            if place:
                console.print()
            for line in lines(status, now):
                console.print(line)
        return
    if not told:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("STATE", "CONNECTION", "CAUSE", "WHO ACTS", "SINCE"):
        table.add_column(heading, overflow="fold")
    for status in told:
        first = status.findings[0] if status.findings else None
        table.add_row(
            f"[{STYLES[status.state]}]{status.state}[/]",
            escape(status.name),
            CATALOGUE[first.cause].title if first else "",
            RESPONSIBLE[first.responsible] if first else "",
            ago(now - first.since) if first else "",
        )
    console.print(table)


def lines(status: ConnectionStatus, now: datetime) -> Iterator[str]:
    """The whole diagnosis of one connection, as marked-up lines."""
    style = STYLES[status.state]
    findings = status.findings
    title = CATALOGUE[findings[0].cause].title if findings else "nothing is wrong"
    yield f"[{style}]{status.state}[/] [bold]{escape(status.name)}[/]: {title}"
    if status.history.rotation:
        yield f"  rotation   {STAGES[status.history.rotation.stage]}"
    if not findings:
        return
    first = findings[0]
    entry = CATALOGUE[first.cause]
    yield f"  cause      {first.cause} ({first.certainty}), {first.severity}"
    yield f"  who acts   {RESPONSIBLE[first.responsible]}"
    yield f"  since      {first.since:%Y-%m-%d %H:%M} UTC ({ago(now - first.since)})"
    if entry.guide:
        yield f"  guide      {entry.guide}"
    yield "  evidence"
    for sentence in first.evidence:
        yield f"    - {escape(sentence)}"
    yield "  what to do"
    for number, action in enumerate(entry.remedy, 1):
        yield f"    {number}. {escape(action)}"
    if status.history.alternatives:
        yield "  it may also be"
        for other in status.history.alternatives:
            yield f"    - {other.cause}: {escape(other.tell_apart)}"
    for other_finding in findings[1:]:
        said = escape(other_finding.evidence[0]) if other_finding.evidence else ""
        yield f"  also       {other_finding.cause} ({other_finding.severity}): {said}"


def ago(span: timedelta) -> str:
    """A span of time in one unit, as a person says it."""
    seconds = max(0, int(span.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
