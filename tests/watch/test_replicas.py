"""One of several replicas, on a real PostgreSQL: what it does with what it holds, when it takes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from monitor.config import load
from monitor.core.history import History
from monitor.core.rotation import LOGINS_PER_HOUR
from monitor.store import Store
from monitor.store.postgresql import Server
from monitor.watch.budget import Ledger
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.replicas import Replica
from tests.store.postgres import COMMAND, Postgres, postgres
from tests.store.test_store import GRANTED, history

pytestmark = pytest.mark.real(COMMAND)

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

CONFIGURATION = """
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
    """In the place of the checker: each check lasts until it is let end, and is granted."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.keys: list[bool] = []
        self.end = asyncio.Event()

    def taken_over(self, *_: object) -> None:
        """Nothing is shown here."""

    async def heard(self, *_: object) -> None:
        """Nor here."""

    async def check(self, name: str, ledger: Ledger) -> datetime | None:
        """Wait for the end, then log in, if that is still allowed."""
        self.begun.append(name)
        await self.end.wait()
        now = datetime.now(UTC)
        if ledger.take("integration@acme.com", now):
            self.refused.append(name)
        self.keys.append(await ledger.take_next_key("integration@acme.com", now))
        found: History = history(GRANTED, number=len(self.begun))
        ledger.keep(name, found, ())
        return now + timedelta(seconds=1)


@dataclass
class Scene:
    """A replica, and what it is given from outside."""

    server: Postgres
    database: str
    checks: Checks = field(default_factory=Checks)
    seconds_awake: float = 1_000.0
    replica: Replica = field(init=False)
    notified: int = 0

    def sql(self, text: str) -> list[tuple[object, ...]]:
        return self.server.sql(text, self.database)

    async def notify(self) -> None:
        self.notified += 1


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Scene]:
    """One that keeps appointments, and checks one connection at a time."""
    config = folder / "config.yaml"
    config.write_text(CONFIGURATION)
    settings, clock, fleet = load(config, {"KEY": "-"}), Clock(), Fleet({})
    fleet.configure(settings.connections, clock.now())
    with postgres() as server, closing(Store.open(url := server.database())) as store:
        scene = Scene(server, url.rsplit("/", 1)[1])
        began = asyncio.get_running_loop().time()
        checks: Any = scene.checks
        scene.replica = Replica(
            Server(make_url(url)), checker=checks, fleet=fleet, store=store, clock=clock, at_once=1,
            own=OwnMetrics(), notify=scene.notify,
            awake=lambda: scene.seconds_awake + asyncio.get_running_loop().time() - began,
        )  # fmt: skip
        scene.replica.configure(settings)
        scene.replica.start()
        await until(lambda: scene.replica.leads)
        yield scene
        scene.checks.end.set()
        await scene.replica.stop(1)


async def until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not probe():  # noqa: ASYNC110 # a replica has no event that tells of it
            await asyncio.sleep(0.01)


async def test_what_it_held_as_it_fell_asleep_may_log_in_no_more(tmp_path: Path) -> None:
    """As on a machine that was suspended: another may have taken over, and the check under way goes on."""
    async with started(tmp_path) as scene:
        checks = scene.checks
        await until(lambda: checks.begun)

        scene.seconds_awake += 60
        checks.end.set()

        await until(lambda: checks.refused == checks.begun[:1])
        await until(lambda: len(set(checks.begun)) == 2)
        assert checks.refused == checks.begun[:1], "what a new worker of it takes may"


async def test_next_keys_are_tried_within_a_budget(tmp_path: Path) -> None:
    async with started(tmp_path) as scene:
        scene.checks.end.set()

        await until(lambda: len(scene.checks.keys) > LOGINS_PER_HOUR)

        assert scene.checks.keys[: LOGINS_PER_HOUR + 1] == [True] * LOGINS_PER_HOUR + [False]


async def test_who_can_not_write_takes_nothing_and_says_why(tmp_path: Path) -> None:
    async with started(tmp_path) as scene:
        checks, replica = scene.checks, scene.replica
        checks.end.set()
        await until(lambda: scene.sql("SELECT 1 FROM histories"))

        scene.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                  " $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$")  # fmt: skip
        scene.sql("CREATE TRIGGER refuse BEFORE INSERT ON histories FOR EACH ROW EXECUTE FUNCTION refuse()")
        await until(lambda: replica.problem)
        await until(lambda: scene.sql("SELECT count(*) FROM procrastinate_workers") == [(0,)])
        assert "the disk is full" in str(replica.problem)
        begun = len(checks.begun)
        scene.sql("UPDATE due SET due_at = now()")
        await until(lambda: scene.sql("SELECT 1 FROM due WHERE due_at < now() - interval '5 s'"))
        assert len(checks.begun) == begun

        scene.sql("DROP TRIGGER refuse ON histories")
        await until(lambda: len(checks.begun) > begun)
        assert replica.problem is None


async def test_who_knows_an_older_schema_takes_nothing_and_says_why(tmp_path: Path) -> None:
    async with started(tmp_path) as scene:
        scene.checks.end.set()
        await until(lambda: scene.checks.begun)

        scene.sql("UPDATE meta SET value = '99' WHERE key = 'schema'")

        await until(lambda: scene.sql("SELECT count(*) FROM procrastinate_workers") == [(0,)])
        assert "upgrade this one" in str(scene.replica.problem)


async def test_one_result_that_can_not_be_written_holds_up_no_other(tmp_path: Path) -> None:
    async with started(tmp_path) as scene:
        checks = scene.checks
        scene.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                  " $$ BEGIN RAISE EXCEPTION 'for a reason of its own'; END $$")  # fmt: skip
        scene.sql("CREATE TRIGGER refuse BEFORE INSERT ON histories FOR EACH ROW WHEN (new.connection_id ="
                  " 1) EXECUTE FUNCTION refuse()")  # fmt: skip
        checks.end.set()

        await until(lambda: len(checks.begun) >= 8)

        counts = sorted(checks.begun.count(name) for name in ("a", "b"))
        assert counts[0] <= 2, "it is put off for a minute"
        assert scene.replica.problem is None


async def test_who_leads_notifies(tmp_path: Path) -> None:
    async with started(tmp_path) as scene:
        await until(lambda: scene.notified)
