"""Fleets of statuses as a reader of the Snapshot gets them, made by hand, and Snapshots of them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from monitor.core.alerts import Terms
from monitor.core.causes import Cause
from monitor.core.finding import Finding, State
from monitor.core.holds import Holds
from monitor.core.maintenance import Maintenance
from monitor.core.status import ConnectionStatus, DaemonStatus, Snapshot
from monitor.core.wording import Links
from tests.making import GRANTED, NOT_APPROVED, NOW, connection, exchange, finding, history

MINUTE = timedelta(minutes=1)
LONG_AGO = NOW - timedelta(days=30)

TERMS = Terms(
    Holds.of((), interval=5 * MINUTE, settle=10 * MINUTE, transient_for=None),
    Links(pages="https://monitor.example.com"),
)


def well(name: str, looked_at: datetime = NOW, **of_connection: Any) -> ConnectionStatus:
    """A working connection, by default with a unique app, user and org."""
    own = {
        "login_url": f"https://{name}.my.salesforce.com",
        "consumer_key": f"3MVG9{name}",
        "username": f"integration@{name}.com",
    }
    of = connection(name=name, **(own | of_connection))
    last = exchange(GRANTED, looked_at)
    known = history(of, NOW - LONG_AGO, last_exchange=last, last_verdict=last, state=State.HEALTHY)
    known = replace(known, last_success=looked_at, state_since=LONG_AGO)
    return ConnectionStatus(of, known, next_exchange=looked_at + of.interval)


def ill(
    status: ConnectionStatus, cause: Cause, since: datetime, looked_at: datetime = NOW, **of_finding: Any
) -> ConnectionStatus:
    """The connection with a finding of this cause."""
    found: Finding = replace(finding(cause, since), **of_finding)
    known = replace(
        status.history,
        state=State.FAILING,
        state_since=since,
        findings=(found,),
        last_exchange=exchange(NOT_APPROVED, looked_at),
    )
    return replace(status, history=known)


def snapshot(
    *statuses: ConnectionStatus, at: datetime = NOW, maintenance: Iterable[Maintenance] = ()
) -> Snapshot:
    """These connections at a moment, of a daemon that has run for long."""
    daemon = DaemonStatus(LONG_AGO, "0", len(statuses), reloaded=LONG_AGO, maintenance=tuple(maintenance))
    return Snapshot(at, daemon, statuses, {})
