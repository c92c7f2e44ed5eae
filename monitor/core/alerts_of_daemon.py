"""Alerts about the monitor itself. The rules cover what it can't report: being down, unreachable sinks."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from monitor.core.alerts import Alert, AlertContext
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.holds import SCRAPE
from monitor.core.wording import WHO

NAMED = 5
"""Most connections named in an alert."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem of the monitor, as worded for notifications and the Prometheus rules."""

    name: str
    severity: Severity
    hold: timedelta
    summary: str
    """DAEMON is replaced by the monitor's address, COUNT by the number of connections."""
    text: str


CHECKS_LATE = Trouble(
    "BearerwatchChecksLate",
    Severity.CRITICAL,
    2 * SCRAPE,
    "Connections not checked on time: COUNT",
    "The daemon is behind schedule, so the states of these connections are out of date. If all are late,"
    " check the daemon's CPU and `bearerwatch_exchanges_in_flight`: if that is at max_in_flight, raise it or"
    " the intervals. If only a few are late, look for their names in the log. If it does not catch up,"
    " restart the daemon; it keeps its history.",
)
WATCHES_NOTHING = Trouble(
    "BearerwatchWatchesNothing",
    Severity.WARNING,
    timedelta(minutes=15),  # a new daemon has its connections by then
    "DAEMON has no connections",
    "`bearerwatch config check FILE` lists the files it reads. Make sure that the patterns of"
    " connections_from match the intended files.",
)
RELOAD_FAILED = Trouble(
    "BearerwatchReloadFailed",
    Severity.WARNING,
    timedelta(minutes=5),  # time to notice an error in a file and save it again
    "DAEMON could not reload its configuration",
    "The configuration was changed and has errors, so the daemon still uses the old one; a restart would"
    " fail. `bearerwatch config check FILE` lists every error. The daemon reloads the file by itself once it"
    " is fixed.",
)
STORE_FAILING = Trouble(
    "BearerwatchStoreFailing",
    Severity.WARNING,
    timedelta(minutes=5),  # a full disk stays full; a locked database is free within seconds
    "DAEMON cannot write to its database",
    "New results are kept only in memory, and a restart would lose them. The log has the reason, such as a"
    " full disk, missing write permission, or a damaged file. Once that is fixed, the daemon writes"
    " everything by itself.",
)


def late(context: AlertContext) -> list[str]:
    """Connections whose check is overdue or not scheduled, or that were not checked for too long."""
    return [
        status.name
        for status in context.watched
        if status.unwatched
        or status.next_exchange is None
        or context.snapshot.at - status.next_exchange > context.terms.holds.late
    ]


TROUBLES: dict[Trouble, Callable[[AlertContext], object]] = {
    CHECKS_LATE: late,
    WATCHES_NOTHING: lambda context: not context.snapshot.daemon.configured,
    RELOAD_FAILED: lambda context: context.snapshot.daemon.reload_problem,
    STORE_FAILING: lambda context: context.snapshot.daemon.store_problem,
}


def alert_of_trouble(trouble: Trouble, since: datetime, context: AlertContext) -> Alert:
    """The alert about a problem that began at `since`."""
    links = context.terms.links
    where = urlsplit(links.pages).netloc
    overdue = late(context) if trouble is CHECKS_LATE else []
    daemon = f"bearerwatch at {where}" if where else "bearerwatch"
    summary = trouble.summary.replace("DAEMON", daemon).replace("COUNT", f"{len(overdue):,}")
    among = f"\nAmong them: {', '.join(overdue[:NAMED])}." if overdue else ""
    texts = {
        "summary": summary,
        "description": f"{trouble.text}{among}\nWho must act: {WHO[Responsible.OPERATOR]}.",
        **links.to(cause=Cause.MONITOR_FAULT),
    }
    labels = {
        "alertname": trouble.name,
        "severity": trouble.severity.value,
        "responsible": Responsible.OPERATOR.value,
        **({"instance": where} if where else {}),
    }
    return Alert(labels, summary, lambda: texts, since, held_back=context.maintenance())
