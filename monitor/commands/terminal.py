"""Terminal output: progress of checks, a table of connections, details of one.

Colours only on a terminal and without NO_COLOR (rich handles both). Piped output has one line per connection,
however long, for grep and cut.
"""

import difflib
import io
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from monitor.core import wording
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Responsible
from monitor.core.finding import Diagnosis, State
from monitor.core.history import STAGES
from monitor.core.status import WORST_FIRST, ConnectionStatus, worst_first
from monitor.core.wording import steps
from monitor.web.reproduce import command
from monitor.web.words import WHO, WITHOUT_FINDING, exact, relative

if TYPE_CHECKING:  # slow import: database and network
    from monitor.commands.alerts import ActiveAlert

STYLES = {
    State.HEALTHY: "green",
    State.DEGRADED: "yellow",
    State.SETTLING: "cyan",
    State.FAILING: "bold red",
    State.UNKNOWN: "magenta",
    State.PAUSED: "dim",
}

READABLE_COLUMNS = 100
"""Longer lines of prose are hard to read (WCAG 2.1, 1.4.8 says 80; sentences here are indented)."""

PIPED_COLUMNS = 10_000
"""Wide enough that piped tables never wrap."""

LIST_BELOW = 70
"""Below this many columns a table would fold names, so a list is printed instead."""


Line = tuple[str, str | Text]
"""A prefix, which sets the indentation of wrapped lines, and a text."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """An error message for an unknown name, with a suggestion."""
    known = list(known)
    meant = difflib.get_close_matches(name, known, n=1)
    if meant:
        return f"No {what} is named {name!r}. Did you mean {meant[0]!r}?"
    few = ", ".join(known) if len(known) <= 5 else f"{', '.join(known[:5])} and {len(known) - 5} more"
    return f"No {what} is named {name!r}. Known: {few}."


def show_catalogue(console: Console | None = None) -> None:
    """Print the causes, one per line."""
    table = _table("CAUSE", "SEVERITY", "WHO ACTS", "GUIDE", "MEANS")
    for cause, entry in CATALOGUE.items():
        table.add_row(cause, entry.severity, WHO[entry.responsible], entry.guide or "", Text(entry.title))
    _print(table, console or Console(highlight=False))


def show_text(markdown: str, console: Console | None = None) -> None:
    """Print a document: rendered on a terminal, as Markdown if piped."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.print(Text(markdown), soft_wrap=True)
        return
    from rich.markdown import Markdown

    console.print(
        Markdown(re.sub(r"\[(.+?)\]\(.+?\)", r"\1", markdown)), width=min(console.width, READABLE_COLUMNS)
    )


@contextmanager
def progress(
    what: str, total: int, *, shown: bool = True, console: Console | None = None
) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, on a terminal. Gives the function that advances it."""
    console = console or Console(stderr=True)
    with Progress(
        TextColumn(what, markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not (shown and total and console.is_terminal),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def show(
    statuses: Sequence[ConnectionStatus],
    *,
    now: datetime,
    quiet: bool,
    whole: bool,
    console: Console | None = None,
) -> None:
    """Print connections, worst first: in detail if `whole`, otherwise one line each."""
    console = console or Console(highlight=False)
    told = [status for status in worst_first(statuses) if not quiet or status.state is not State.HEALTHY]
    if not told:
        return
    if not whole:
        _print(_rows(told, now), console)
        return
    for place, status in enumerate(told):
        if place:
            console.print()
        show_lines(_about(status, now), console)


def show_lines(lines: Iterable[Line], console: Console | None = None) -> None:
    """Print lines, wrapped on a terminal."""
    console = console or Console(highlight=False)
    width = min(console.width, READABLE_COLUMNS) if console.is_terminal else PIPED_COLUMNS
    for line in lines:
        text = _folded(line, width)
        console.print(text, soft_wrap=bool(text.no_wrap) or not console.is_terminal)


def show_rechecked(shown: Mapping[str, Any]) -> None:
    """Print a connection's state after a requested check."""
    state = State(shown["state"])
    title = f": {shown['title']}" if shown["title"] else ""
    Console(highlight=False).print(Text.assemble((state, STYLES[state]), f" {shown['name']}{title}"))


def show_alerts(found: "Sequence[ActiveAlert]", *, now: datetime) -> None:
    """Print alerts, one per line: with sinks, or why they are held back."""
    table = _table("SEVERITY", "ALERT", "WHO ACTS", "SINCE", "TELLS")
    for one in found:
        reaches = ", ".join(
            f"{name} (sent {relative(one.told[name], now)})" if name in one.told else name
            for name in one.reaches
        )
        held = f"held back: {one.alert.held_back}" if one.alert.held_back else ""
        table.add_row(
            one.alert.labels["severity"],
            Text(one.alert.annotations["summary"]),
            WHO[Responsible(one.alert.labels["responsible"])],
            relative(one.alert.since, now),
            Text("; ".join(part for part in (reaches or "no one", held) if part)),
        )
    if found:
        _print(table, Console(highlight=False))


def summary(statuses: Sequence[ConnectionStatus]) -> Text:
    """A summary, such as `12 connections: 1 failing, 11 healthy`."""
    count = Counter(status.state for status in statuses)
    counts = [Text(f"{count[state]:,} {state}", STYLES[state]) for state in WORST_FIRST if count[state]]
    return Text(f"{len(statuses):,} connection{'' if len(statuses) == 1 else 's'}: ") + Text(", ").join(
        counts
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in {"STATE", "SINCE", "SEVERITY"})
    return table


def _rows(statuses: Iterable[ConnectionStatus], now: datetime) -> Table:
    table = _table("STATE", "CONNECTION", "CAUSE", "WHO ACTS", "SINCE")
    for status in statuses:
        first = status.findings[0] if status.findings else None
        table.add_row(
            Text(status.state, STYLES[status.state]),
            Text(status.name),
            status.title(first, now) if first else "",
            WHO[first.responsible] if first else "",
            relative(first.since, now) if first else "",
        )
    return table


def _print(table: Table, console: Console) -> None:
    """Print a table, fitted to the terminal; if piped, one line per row, without trailing blanks."""
    if console.is_terminal and console.width < LIST_BELOW:
        for first, second, *others in zip(*(column.cells for column in table.columns), strict=True):
            console.print(first, "", second, soft_wrap=True)  # wrapped by the terminal
            for part in filter(None, others):
                console.print(f"  {part}")
        return
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(file=io.StringIO(), width=PIPED_COLUMNS)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def _folded(line: Line, width: int) -> Text:
    before, text = line
    if isinstance(text, Text):
        return text
    folded = textwrap.fill(
        text,
        width,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return Text(folded or before)


def _about(status: ConnectionStatus, now: datetime) -> Iterator[Line]:
    """The same details as on the connection's page, in the same order."""
    first = status.findings[0] if status.findings else None
    title = status.title(first, now) if first else WITHOUT_FINDING[status.state]
    name = Text.assemble((status.state, STYLES[status.state]), " ", (status.name, "bold"))
    yield "", name + Text(f": {title}")
    if not first:
        yield from _facts(status, now)
        return
    yield from verdict(
        status.verdict,
        steps(CATALOGUE[first.cause], status.connection),
        now=now,
        facts=_facts(status, now),
    )
    if CATALOGUE[first.cause].needs_exchange:
        yield from _heading("Reproduce it")
        yield from verbatim(textwrap.indent(command(status.connection), "  "))


def _facts(status: ConnectionStatus, now: datetime) -> Iterator[Line]:
    if status.connection.app:
        yield "  App          ", status.connection.app
    if end := status.certificate_end:
        yield "  Certificate  ", f"{'ended' if end <= now else 'ends'} {exact(end)} ({relative(end, now)})"
    if status.forecast:
        at = status.forecast.at
        yield "  Approval     ", f"may end {exact(at)} ({relative(at, now)}). {status.forecast.reason}"
    for read, problem in status.reads.items():
        if problem:
            yield "  Not read     ", f"{read}: {problem}"
    if status.history.rotation:
        yield "  Rotation     ", STAGES[status.history.rotation.stage]


def verdict(
    found: Diagnosis, remedy: Iterable[str], *, now: datetime | None = None, facts: Iterable[Line] = ()
) -> Iterator[Line]:
    """A verdict with findings: the first one's meaning, more facts, evidence and remedy, then the others.

    With `now`, also since when: for findings that are older than this command.
    """
    first, *others = found.findings
    entry, who = CATALOGUE[first.cause], wording.WHO[first.responsible]
    guide = f"; setup guide, {entry.guide}" if entry.guide else ""
    yield "  ", entry.meaning
    yield "", ""
    if now:
        yield "  Since        ", f"{exact(first.since)} ({relative(first.since, now)})"
    yield "  Who acts     ", who[0].upper() + who[1:]
    yield "  Cause        ", f"{first.cause}, {first.certainty}, {first.severity}{guide}"
    yield from facts
    yield from _heading("Evidence")
    yield from (("  - ", sentence) for sentence in first.evidence)
    if found.alternatives:
        yield from _heading("It may also be")
        for other in found.alternatives:
            yield "  - ", f"{CATALOGUE[other.cause].title} ({other.cause}): {other.tell_apart}"
        yield "  ", f"What to do about it: bearerwatch causes {found.alternatives[0].cause}"
    yield from _heading("What to do")
    yield from ((f"  {number}. ", action) for number, action in enumerate(remedy, 1))
    if entry.contested:
        yield from _heading("Note: where sources disagree")
        yield "  ", entry.contested
    for finding in others:
        yield from _heading(f"Also: {CATALOGUE[finding.cause].title}")
        since = f", since {exact(finding.since)}" if now else ""
        yield "  ", f"{finding.cause}, {finding.severity}, {WHO[finding.responsible]}{since}"
        yield from (("  - ", sentence) for sentence in finding.evidence)


def verbatim(text: str) -> Iterator[Line]:
    """A text to copy, whose lines are never wrapped."""
    yield from (("", Text(line, no_wrap=True, overflow="ignore")) for line in text.splitlines())


def _heading(text: str) -> Iterator[Line]:
    yield "", ""
    yield "", Text(text, "bold")
