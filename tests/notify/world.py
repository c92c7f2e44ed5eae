"""A fleet, a store and a notifier whose receivers are real sockets; time is passed in."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from monitor.config import Settings, load
from monitor.core.causes import Cause
from monitor.core.status import ConnectionStatus, Snapshot
from monitor.notify import Notifier
from monitor.salesforce.transport import Limits, rust_transport
from monitor.store import Store
from tests.core.fleets import ill, snapshot, well
from tests.making import NOW
from tests.salesforce.wire import Reply, Server, Visit, http, serving

SECOND = timedelta(seconds=1)
QUICK = Limits(connect=SECOND, answer=SECOND, whole=SECOND, in_flight=4)
"""What the tests have patience for."""

TAKEN = http(200, "")
DAY = timedelta(days=1)


def broken(name: str = "acme", **of_connection: Any) -> ConnectionStatus:
    """A connection that has failed for a day."""
    return ill(well(name, **of_connection), Cause.API_DISABLED, NOW - DAY)


@dataclass
class World:
    """What a notifier lives in."""

    folder: Path
    store: Store
    environment: dict[str, str] = field(default_factory=dict)
    now: datetime = NOW
    reload_problem: str | None = None
    fleet: list[ConnectionStatus] = field(default_factory=lambda: [broken()])
    tries: list[bool] = field(default_factory=list)
    notifier: Notifier = field(init=False)

    def snapshot(self) -> Snapshot:
        shot = snapshot(*self.fleet, at=self.now)
        return replace(shot, daemon=replace(shot.daemon, reload_problem=self.reload_problem))

    def settings(self, *sinks: Mapping[str, object], **general: object) -> Settings:
        file = self.folder / "bearerwatch.yaml"
        file.write_text(yaml.safe_dump({"notify": {"sinks": list(sinks)}, "connections": [], **general}))
        return load(file, self.environment)

    async def look(self, later: timedelta = timedelta(0)) -> None:
        """Let time pass, and one round run to its end."""
        self.now += later
        await self.notifier.round(self.snapshot())


@contextmanager
def kept(folder: Path) -> Iterator[Store]:
    store = Store.open(folder / "bearerwatch.db")
    try:
        yield store
    finally:
        assert store.close()


@asynccontextmanager
async def world(
    folder: Path, *sinks: Mapping[str, object], environment: Mapping[str, str] = {}
) -> AsyncIterator[World]:
    """A world with these receivers, and what the folder's database remembers."""
    with kept(folder) as store:
        made = World(folder, store, dict(environment))
        made.notifier = Notifier(
            memory=store,
            transport=rust_transport(QUICK, None, {}, decodes=False),
            environment=made.environment,
            counted=made.tries.append,
        )
        made.notifier.configure(made.settings(*sinks))
        try:
            yield made
        finally:
            await made.notifier.aclose()


@dataclass
class Changing:
    """A receiver that answers otherwise from time to time."""

    reply: Reply

    async def __call__(self, visit: Visit) -> None:
        await self.reply(visit)


async def takes(visit: Visit) -> None:
    """Takes the message."""
    await visit.read()
    await visit.send(TAKEN)


@asynccontextmanager
async def receiver(reply: Reply = takes) -> AsyncIterator[tuple[Changing, Server, str]]:
    """A receiver on a socket, how it answers, and its address."""
    changing = Changing(reply)
    async with serving(changing) as server:
        yield changing, server, f"http://127.0.0.1:{server.port}"


def header(visit: Visit, name: str) -> str:
    """A header of a request; empty where it has none."""
    for line in visit.head.splitlines():
        before, _, value = line.partition(":")
        if before.lower() == name:
            return value.strip()
    return ""
