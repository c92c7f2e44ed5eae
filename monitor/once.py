"""One round of checks without a daemon: what `bearerwatch check` does.

It knows what the daemon's database remembers, so that it can tell a decay from a first set-up, but writes
nothing into it: the running daemon's word is not disturbed.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from monitor.check import Checker, LoginBudget
from monitor.clock import Clock
from monitor.config import Settings
from monitor.core import history
from monitor.core.connection import Connection
from monitor.core.evidence import UNKNOWN_PAST
from monitor.core.finding import Diagnosis
from monitor.core.history import Event, History
from monitor.core.status import ConnectionStatus
from monitor.exchange import Exchanger, Limits
from monitor.explain import as_json as diagnosis_as_json
from monitor.fleet import Fleet
from monitor.metrics import OwnMetrics
from monitor.secret_sources import Keyring
from monitor.store import Store


async def check_once(
    settings: Settings,
    connections: Iterable[Connection],
    *,
    clock: Clock,
    done: Callable[[ConnectionStatus], None] = lambda status: None,
) -> list[ConnectionStatus]:
    """Check these connections once each, paused or not, and give their statuses in the same order.

    `done` is told each as it comes in.
    """
    chosen = [replace(connection, paused=False) for connection in connections]
    remembered = await asyncio.to_thread(_remembered, settings)
    # What was never seen here may be years old: a refusal is not taken for a change on its way.
    unknown = {of.name: history.begin(of, UNKNOWN_PAST) for of in chosen if of.name not in remembered}
    fleet = Fleet(remembered | unknown)
    fleet.configure(chosen, clock.now())
    keyring = Keyring(os.environ, settings.vault)
    own = OwnMetrics()
    exchanger = Exchanger(
        limits=Limits(in_flight=settings.max_in_flight),
        ca_file=settings.ca_file,
        allowed_hosts=settings.allowed_hosts,
        clock=clock.now,
    )
    checker = Checker(
        fleet,
        keyring=keyring,
        exchanger=exchanger,
        keep=_forget,
        clock=clock,
        budget=LoginBudget(settings.login_budget_per_hour),
        own=own,
        after_login_every=1,  # a person who asks wants to know whether the token is accepted, too
    )

    async def check(name: str) -> None:
        await checker.check(name)
        done(fleet[name])

    try:
        await asyncio.gather(*(check(connection.name) for connection in chosen))
    finally:
        await exchanger.aclose()
        keyring.close()
    return [fleet[connection.name] for connection in chosen]


def _remembered(settings: Settings) -> dict[str, History]:
    """What the daemon's database remembers; nothing where there is none yet."""
    if "://" not in settings.database and not Path(settings.database).exists():
        return {}
    store = Store.open(settings.database)
    try:
        return store.histories()
    finally:
        store.close()


def _forget(name: str, known: History, events: tuple[Event, ...]) -> None:
    """Keep nothing: a one-off check is nobody's history."""


def as_json(status: ConnectionStatus) -> dict[str, Any]:
    """One verdict as `check --json` prints it: the shape of `explain`, after the connection's name."""
    verdict = Diagnosis(status.state, status.findings, status.history.alternatives)
    return {"connection": status.name, **diagnosis_as_json(verdict)}
