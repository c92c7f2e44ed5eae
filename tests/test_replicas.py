"""One of several replicas, on a real PostgreSQL: what it does with what it holds."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.clock import Clock
from monitor.config import load
from monitor.core.rotation import LOGINS_PER_HOUR
from monitor.fleet import Fleet
from monitor.metrics import OwnMetrics
from monitor.replicas import Replica
from monitor.store import Store
from monitor.store.appointments import Appointments
from tests.postgres import COMMAND, Postgres, postgres

pytestmark = pytest.mark.real(COMMAND)

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

CONFIGURATION = """
replicas: true
database: postgresql://monitor@127.0.0.1/bearerwatch
connections:
""" + "".join(
    f"""
  - name: {name}
    login_url: https://acme.my.salesforce.com
    consumer_key: 3MVG9acme
    username: integration@acme.com
    private_key: {{env: KEY}}
"""
    for name in ("a", "b")
)


class Checks:
    """In the place of the checker: each check lasts until it is let end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.end = asyncio.Event()

    def taken_over(self, *_: object) -> None:
        """Nothing is shown here."""

    async def check(self, name: str) -> datetime | None:
        """Wait for the end."""
        self.begun.append(name)
        await self.end.wait()
        return None


@dataclass
class Scene:
    """A replica, and what it is given from outside."""

    server: Postgres
    database: str
    checks: Checks = field(default_factory=Checks)
    seconds_awake: float = 0.0
    replica: Replica = field(init=False)

    def sql(self, text: str) -> list[tuple[object, ...]]:
        return self.server.sql(text, self.database)


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Scene]:
    """One that keeps appointments, and checks one connection at a time."""
    config = folder / "config.yaml"
    config.write_text(CONFIGURATION)
    settings, clock, fleet = load(config, {"KEY": "-"}), Clock(), Fleet({})
    fleet.configure(settings.connections, clock.now())
    with postgres() as server, closing(Store.open(url := server.database())) as store:
        scene = Scene(server, url.rsplit("/", 1)[1])
        scene.replica = Replica(
            Appointments.open(url, "one"), "one", fleet=fleet, store=store, clock=clock, at_once=1,
            own=OwnMetrics(), awake=lambda: scene.seconds_awake,
        )  # fmt: skip
        checks: Any = scene.checks
        scene.replica.checker = checks
        scene.replica.configure(settings)
        scene.replica.start()
        await until(lambda: scene.replica.sure)
        yield scene
        await scene.replica.stop(1)


async def until(probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not probe():  # noqa: ASYNC110 # a replica has no event that tells of it
            await asyncio.sleep(0.01)


async def test_what_waits_is_let_go_after_a_time_in_which_others_could_take_it_over(tmp_path: Path) -> None:
    """As on a machine that was suspended: its check under way goes on, while it hears of the others again."""
    async with started(tmp_path) as scene:
        replica, checks = scene.replica, scene.checks
        replica.at("a", LONG_AGO)
        await until(lambda: checks.begun == ["a"])
        replica.at("b", LONG_AGO)
        await until(lambda: len(scene.sql("SELECT 1 FROM appointments WHERE holder = 'one'")) == 2)

        scene.sql(
            "UPDATE appointments SET holder = 'two', epoch = epoch + 1, due_ms = due_ms + 3600000000000"
            " WHERE connection_id = (SELECT id FROM connections WHERE name = 'b')"
        )
        scene.seconds_awake += 60
        assert not replica.sure
        await until(lambda: replica.sure)
        checks.end.set()
        await until(lambda: replica.idle)

        assert "b" not in checks.begun


async def test_next_keys_are_tried_within_a_budget_and_not_at_all_while_the_database_is_away(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as scene:
        replica = scene.replica

        tries = [await replica.take_next_key("one@acme.com", LONG_AGO) for _ in range(LOGINS_PER_HOUR + 1)]
        assert tries == [True] * LOGINS_PER_HOUR + [False]

        assert await replica.take_next_key("two@acme.com", LONG_AGO)
        scene.server.stop()
        assert not await replica.take_next_key("two@acme.com", LONG_AGO)
        scene.server.start()
