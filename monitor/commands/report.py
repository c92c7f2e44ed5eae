"""The availability of connections in a month, for service level reports."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from monitor.commands.without_daemon import memory
from monitor.config import Settings
from monitor.core.availability import Availability
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.problem import OperatorError
from monitor.core.status import ConnectionStatus
from monitor.store import SUCCESS_DAYS, DayCounts, Store
from monitor.web.record import all_events, availability_of
from monitor.web.words import percent, span

NOT_ALL_KNOWN = (
    f"state changes are kept for {SUCCESS_DAYS} days; for a connection that flaps, only the most recent"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One connection's month."""

    connection: Connection
    found: Availability
    days: Sequence[DayCounts]
    causes: tuple[Cause, ...]
    """Causes found in that month, whether or not they stopped logins."""


def month(text: str) -> tuple[datetime, datetime]:
    """Start and end of a month such as 2026-11. Raises OperatorError."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", text):
        raise OperatorError(f"{text!r} is not a month. Write e.g. 2026-11.")
    start = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    return start, (start + timedelta(days=32)).replace(day=1)


def report(settings: Settings, wanted: str, labels: Sequence[str], now: datetime) -> list[Line]:
    """The connections with these labels (`key=value`, or a `key`), in the configuration's order.

    Raises OperatorError, and StoreError if the database can't be read.
    """
    start, end = month(wanted)
    if start > now:
        raise OperatorError(f"{wanted} is in the future.")
    chosen = [one for one in settings.connections if one.has_labels(labels)]
    if labels and not chosen:
        raise OperatorError(f"No connection has the label {' and '.join(labels)}.")
    with memory(settings) as store:
        if store is None:
            raise OperatorError(f"There is no database at {settings.database} yet, so there is no history.")
        histories = store.histories()
        return [
            _line(store, ConnectionStatus(one, histories[one.name]), start, min(end, now), settings, now)
            for one in chosen
            if one.name in histories
        ]


def _line(
    store: Store, status: ConnectionStatus, start: datetime, end: datetime, settings: Settings, now: datetime
) -> Line:
    name = status.name
    events = all_events(store, name)
    last = (end - timedelta(microseconds=1)).date()
    days = [day for day in store.days([name], start.date()).get(name, []) if day.day <= last]
    since = max(start, now - timedelta(days=SUCCESS_DAYS))
    found = (
        availability_of(status, events, days, since, end, settings.maintenance)
        if since < end
        else Availability()
    )
    causes = {
        event.cause: None for event in events if event.cause and event.failure and start <= event.at < end
    }
    return Line(status.connection, found, days, tuple(causes))


COLUMNS: dict[str, Callable[[Line], object]] = {
    "connection": lambda line: line.connection.name,
    "host": lambda line: line.connection.host,
    "labels": lambda line: " ".join(f"{key}={value}" for key, value in line.connection.labels),
    "availability_percent": lambda line: "" if line.found.share is None else f"{100 * line.found.share:.4f}",
    "down_minutes": lambda line: f"{line.found.down.total_seconds() / 60:.1f}",
    "outages": lambda line: line.found.outages,
    "longest_outage_minutes": lambda line: f"{line.found.longest.total_seconds() / 60:.1f}",
    "counted_hours": lambda line: f"{(line.found.up + line.found.down).total_seconds() / 3600:.1f}",
    "granted": lambda line: sum(day.granted for day in line.days),
    "refused": lambda line: sum(day.refused for day in line.days),
    "no_verdict": lambda line: sum(day.no_verdict for day in line.days),
    "causes": lambda line: " ".join(line.causes),
}
"""The columns of the CSV."""


def as_csv(lines: Iterable[Line]) -> str:
    """One row per connection; durations in minutes, availability in percent."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([column(line) for column in COLUMNS.values()] for line in lines)
    return out.getvalue()


def as_markdown(lines: Iterable[Line], wanted: str) -> str:
    """A Markdown table."""
    rows = [
        f"| {line.connection.name} | {percent(line.found.share)} |"
        f" {span(line.found.down) if line.found.down else '–'} | {line.found.outages} |"
        f" {span(line.found.longest) if line.found.longest else '–'} |"
        f" {'; '.join(CATALOGUE[cause].title for cause in line.causes) or '–'} |"
        for line in lines
    ]
    return "\n".join(
        [
            f"# Availability in {wanted}",
            "",
            "| Connection | Available | Down | Outages | Longest | What was found |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Share of the time with a verdict, in UTC. Unknown, settling and maintenance do not count.",
            f"It only covers the time that is still recorded: {NOT_ALL_KNOWN}.",
        ]
    )
