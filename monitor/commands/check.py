"""`bearerwatch check`: one round of checks without a daemon.

Reads the daemon's database, to distinguish a decay from a first set-up, but writes nothing to it.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from monitor.commands.without_daemon import memory
from monitor.config import Settings
from monitor.core import history
from monitor.core.connection import Connection
from monitor.core.history import History
from monitor.core.status import ConnectionStatus
from monitor.salesforce.transport import TransportFactory, rust_transport
from monitor.watch.audit import Audits
from monitor.watch.clock import Clock
from monitor.watch.schedule import ManualSchedule
from monitor.watch.watch import Memory, Watch


def _remembered(settings: Settings) -> dict[str, History]:
    with memory(settings) as store:
        return dict(store.histories()) if store else {}


async def check_once(
    settings: Settings,
    connections: Iterable[Connection],
    *,
    clock: Clock,
    done: Callable[[], None] = lambda: None,
    audits: Audits = "never",
    remember: bool = True,
    transport: TransportFactory = rust_transport,
) -> list[ConnectionStatus]:
    """Check these connections once each, even if paused. Gives their statuses in the same order.

    `done` is called after each. Without a new audit, the daemon's last one is used. `remember`: whether the
    histories in the daemon's database count.
    """
    chosen = tuple(replace(connection, paused=False) for connection in connections)
    settings = settings.model_copy(update={"connections": chosen})
    known = {of.name: history.unknown(of) for of in chosen}
    if remember:
        known |= await asyncio.to_thread(_remembered, settings)
    watch = Watch(
        settings,
        clock=clock,
        memory=Memory(known),
        scheduler=ManualSchedule(),
        transport=transport,
        audits=audits,
        after_login_every=1,  # the user also wants to know whether the token is accepted
    )

    async def check(name: str) -> ConnectionStatus:
        await watch.check(name)
        done()
        return watch.status(name)

    try:
        watch.configure(settings)
        return await asyncio.gather(*(check(connection.name) for connection in chosen))
    finally:
        await watch.aclose()


def as_json(status: ConnectionStatus) -> dict[str, Any]:
    """One verdict for `check --json`: the connection's name, then the same keys as `explain`."""
    from monitor.commands.explain import as_json as diagnosis_as_json  # slow to import

    return {"connection": status.name, **diagnosis_as_json(status.verdict)}
