"""What is wrong with the monitor itself: what is said of it, and what of it the monitor can tell by itself.

That it is dead, or can't reach its receivers, it can't: the rules for Prometheus can. The credentials' owners
are told of none of this: it is the operator's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

from monitor.core.alert import Alert, Moment
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.holds import SCRAPE
from monitor.core.wording import SHOWN, WHO, Links, told

SAVED = timedelta(minutes=5)
"""Who saves a file with a mistake sees it, and saves again."""

STANDING = timedelta(minutes=5)
"""A disk that is full stays full; a database that another process reads is free again within seconds."""

LASTING = timedelta(minutes=15)
"""A daemon that is being set up has its connections by then."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that may be wrong with the monitor, and how a person is told of it.

    In its texts DAEMON stands for the daemon, and where it is, and COUNT for how many are concerned.
    """

    name: str
    severity: Severity
    hold: timedelta
    """How long it must last."""
    summary: str
    description: str
    steps: tuple[str, ...]

    @property
    def labels(self) -> dict[str, str]:
        """The labels beside the name."""
        return {"severity": self.severity.value, "responsible": Responsible.OPERATOR.value}

    def annotations(self, links: Links, *, daemon: str, count: str, names: str = "") -> dict[str, str]:
        """What the alert says; `names` is a sentence with those concerned, as a further line."""

        def filled(text: str) -> str:
            return text.replace("DAEMON", daemon).replace("COUNT", count)

        return {
            "summary": filled(self.summary),
            "description": told(
                filled(self.description) + names, who=WHO[Responsible.OPERATOR], steps=self.steps
            ),
            **links.to(cause=Cause.MONITOR_FAULT),
        }


CHECKS_LATE = Trouble(
    "BearerwatchChecksLate",
    Severity.CRITICAL,
    2 * SCRAPE,
    "Connections that are not checked in time: COUNT",
    "The daemon is behind its own appointments: what it says of COUNT of its connections is old.",
    (
        (
            "If it is all of them, see the daemon's processor time and"
            " `bearerwatch_exchanges_in_flight`: at max_in_flight, raise that or the intervals."
        ),
        "If it is a few, see the log for their names.",
        "Restart the daemon if it does not catch up: nothing that it remembers is lost.",
    ),
)

WATCHES_NOTHING = Trouble(
    "BearerwatchWatchesNothing",
    Severity.WARNING,
    LASTING,
    "DAEMON has no connections",
    "The daemon runs with a configuration that holds no connection.",
    (
        "`bearerwatch config check FILE` says which files were read.",
        "See that the patterns of connections_from find the files that they should.",
    ),
)

RELOAD_FAILED = Trouble(
    "BearerwatchReloadFailed",
    Severity.WARNING,
    SAVED,
    "DAEMON keeps an old configuration",
    "The configuration was changed, and can't be read: the daemon goes on with the one before. A restart"
    " would fail.",
    (
        "`bearerwatch config check FILE` names every problem, with its place and what would be right.",
        "Save the file once it is right: the daemon takes it on by itself.",
    ),
)

STORE_FAILING = Trouble(
    "BearerwatchStoreFailing",
    Severity.WARNING,
    STANDING,
    "DAEMON can't write its database",
    "What is learnt now is kept in memory only: a restart would forget it, and with it how long approvals"
    " lived.",
    (
        "See the log for the reason: a full disk, a directory that may not be written, a damaged file.",
        "Mend that: what is held in memory is written by itself as soon as it can be.",
    ),
)


def troubles(moment: Moment) -> Iterator[Trouble]:
    """What of these is so now, however long it has been."""
    daemon = moment.snapshot.daemon
    if _late(moment):
        yield CHECKS_LATE
    if not daemon.configured:
        yield WATCHES_NOTHING
    if daemon.reload_problem:
        yield RELOAD_FAILED
    if daemon.store_problem:
        yield STORE_FAILING


def alert_of_trouble(trouble: Trouble, since: datetime, moment: Moment) -> Alert:
    """The alert about it, which has been so since then."""
    links = moment.terms.links
    where = urlsplit(links.pages).netloc
    late = _late(moment) if trouble is CHECKS_LATE else []
    return Alert(
        labels={
            "alertname": trouble.name,
            **trouble.labels,
            **({"instance": where} if where else {}),
        },
        texts=partial(
            trouble.annotations,
            links,
            daemon=f"bearerwatch at {where}" if where else "bearerwatch",
            count=f"{len(late):,}",
            names=f"\nAmong them: {', '.join(late[:SHOWN])}." if late else "",
        ),
        since=since,
        concerns=(),
        # After a restart it must last for as long again before it is seen to be so still.
        lingers=trouble.hold,
        group=f"daemon {trouble.name}",
        held_back=moment.maintenance(),
    )


def _late(moment: Moment) -> list[str]:
    """The connections whose check is overdue, or that have no appointment for one."""
    return [
        status.name
        for status in moment.watched
        if status.next_exchange is None or moment.now - status.next_exchange > moment.terms.holds.late
    ]
