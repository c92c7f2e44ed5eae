"""One round of checks without a daemon: what `bearerwatch check` does.

It knows what the daemon's database remembers, so that it can tell a decay from a first set-up, but writes
nothing into it: the running daemon's word is not disturbed.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from monitor.commands.explain import as_json as diagnosis_as_json
from monitor.commands.without_daemon import keys_and_network, memory
from monitor.config import Settings
from monitor.core import history
from monitor.core.connection import Connection
from monitor.core.finding import Diagnosis
from monitor.core.history import Event, History
from monitor.core.status import ConnectionStatus
from monitor.watch.budget import LoginBudget
from monitor.watch.check import Checker
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics


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
    unknown = {of.name: history.unknown(of) for of in chosen if of.name not in remembered}
    fleet = Fleet(remembered | unknown)
    fleet.configure(chosen, clock.now())
    async with keys_and_network(settings, clock, in_flight=settings.max_in_flight) as (keyring, exchanger):
        checker = Checker(
            fleet,
            keyring=keyring,
            exchanger=exchanger,
            keep=_forget,
            clock=clock,
            budget=LoginBudget(settings.login_budget_per_hour),
            own=OwnMetrics(),
            after_login_every=1,  # a person who asks wants to know whether the token is accepted, too
        )

        async def check(name: str) -> None:
            await checker.check(name)
            done(fleet[name])

        await asyncio.gather(*(check(connection.name) for connection in chosen))
    return [fleet[connection.name] for connection in chosen]


def _remembered(settings: Settings) -> dict[str, History]:
    with memory(settings) as store:
        return store.histories() if store else {}


def _forget(name: str, known: History, events: tuple[Event, ...]) -> None:
    """Keep nothing: a one-off check is nobody's history."""


def as_json(status: ConnectionStatus) -> dict[str, Any]:
    """One verdict as `check --json` prints it: the shape of `explain`, after the connection's name."""
    verdict = Diagnosis(status.state, status.findings, status.history.alternatives)
    return {"connection": status.name, **diagnosis_as_json(verdict)}
