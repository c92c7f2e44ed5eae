"""One of several replicas, on a real PostgreSQL: what it does with what it holds, when it takes nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from monitor.config import load
from monitor.core import cadence
from monitor.core.history import History
from monitor.core.rotation import LOGINS_PER_HOUR
from monitor.store import Store, records
from monitor.store.postgresql import Server
from monitor.watch.budget import Ledger
from monitor.watch.clock import Clock, SharedClock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.replicas import WANTED_AT_ONCE, Replica
from tests.making import UNREACHABLE, connection
from tests.store.postgres import COMMAND, Postgres, postgres
from tests.store.test_store import GRANTED, history

pytestmark = pytest.mark.real(COMMAND)

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

CONFIGURATION = """
database: postgresql://monitor@127.0.0.1/bearerwatch
login_budget_per_hour: 3600
connections:
"""
CONNECTION = """
  - name: {name}
    login_url: https://acme.my.salesforce.com
    consumer_key: 3MVG9acme
    username: {user}@acme.com
    private_key: {{env: KEY}}
"""


class Checks:
    """In the place of the checker: each check lasts until it is let end, and is granted."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.keys: list[bool] = []
        self.observers: list[bool] = []
        self.unread: list[tuple[str, str]] = []
        self.heard_of: list[str] = []
        self.end = asyncio.Event()
        self.clock: Clock = Clock()
        self.due: Callable[[datetime], datetime] = lambda now: now + timedelta(seconds=1)

    def prepare(self, *_: object) -> None:
        """Nothing is shown here."""

    async def show_result(self, name: str, *_: object) -> None:
        """Note of which there are news."""
        self.heard_of.append(name)

    def show_unreadable(self, name: str, why: str, _: datetime) -> None:
        """Note what can't be read."""
        self.unread.append((name, why))

    async def check(self, name: str, ledger: Ledger) -> datetime | None:
        """Wait for the end, then log in, if that is still allowed."""
        self.begun.append(name)
        await self.end.wait()
        now = self.clock.now()
        if ledger.take("integration@acme.com", now):
            self.refused.append(name)
        take = await ledger.take_next_key("integration@acme.com")
        self.keys.append(take is not None and take(now) is None)
        take = await ledger.take_observer("observer@acme.com")
        self.observers.append(take(now) is None)
        found: History = history(GRANTED, number=len(self.begun))
        ledger.keep(name, found, ())
        return self.due(now)


class _Ahead(Clock):
    def __init__(self, by: timedelta) -> None:
        super().__init__()
        self.by = by

    def machine(self) -> datetime:
        return super().machine() + self.by


@dataclass
class Scene:
    """A replica, and what it is given from outside."""

    server: Postgres
    database: str
    config: Path
    checks: Checks = field(default_factory=Checks)
    seconds_awake: float = 1_000.0
    replica: Replica = field(init=False)
    notified: int = 0

    def sql(self, text: str) -> list[tuple[object, ...]]:
        return self.server.sql(text, self.database)

    def waits_for_a_lock(self, words: str) -> bool:
        """Whether a statement with these words does."""
        return bool(
            self.sql(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                f" AND wait_event_type = 'Lock' AND query LIKE '%{words}%'"
            )
        )

    async def notify(self) -> None:
        self.notified += 1


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
async def scene(server: Postgres, tmp_path: Path) -> AsyncIterator[Scene]:
    """One that keeps appointments, and checks one connection at a time."""
    async with started(server, tmp_path) as made:
        yield made


@asynccontextmanager
async def started(
    server: Postgres,
    folder: Path,
    clock_ahead: timedelta = timedelta(0),
    checks: Checks | None = None,
    names: Iterable[str] = ("a", "b"),
    at_once: int = 1,
    first_in: timedelta = timedelta(0),
    user: str = "integration",
    kind: type[Store] = Store,
    role: str = "monitor",
    begun: bool = True,
) -> AsyncIterator[Scene]:
    """The same with other options."""
    config = folder / "config.yaml"
    config.write_text(
        CONFIGURATION + "".join(CONNECTION.format(name=name, user=user.format(name)) for name in names)
    )
    settings, clock, fleet = load(config, {"KEY": "-"}), SharedClock(_Ahead(clock_ahead)), Fleet({})
    fleet.configure(settings.connections, clock.now())
    with closing(kind.open(url := server.database())) as store:
        scene = Scene(server, url.rsplit("/", 1)[1], config, checks or Checks())
        began = asyncio.get_running_loop().time()
        checker: Any = scene.checks
        scene.replica = Replica(
            Server(make_url(url).set(username=role)), checker=checker, fleet=fleet, store=store, clock=clock,
            at_once=at_once, own=OwnMetrics(), send=scene.notify,
            awake=lambda: scene.seconds_awake + asyncio.get_running_loop().time() - began,
        )  # fmt: skip
        scene.checks.clock = clock
        scene.replica.configure(settings)
        for name in names:
            scene.replica.at(name, clock.now() + first_in)
        scene.replica.start()
        await until(lambda: scene.replica.leads or not begun)
        yield scene
        scene.checks.end.set()
        await scene.replica.stop(1)


def refuse(scene: Scene, table: str, when: str, which: str, why: str) -> None:
    """From now on the database refuses this of these rows."""
    scene.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{why}'; END $$;"
        f"CREATE TRIGGER refuse BEFORE {when} ON {table} FOR EACH ROW WHEN ({which})"
        " EXECUTE FUNCTION refuse()"
    )


async def until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not probe():  # noqa: ASYNC110 # a replica has no event for it
            await asyncio.sleep(0.01)


async def test_after_a_suspension_a_replica_makes_no_login_for_earlier_connections(scene: Scene) -> None:
    """As on a machine that was suspended: another may have taken over, and the check under way goes on."""
    checks = scene.checks
    await until(lambda: checks.begun)

    scene.seconds_awake += 60
    checks.end.set()

    await until(lambda: checks.refused == checks.begun[:1])
    await until(lambda: len(set(checks.begun)) == 2)
    assert checks.refused == checks.begun[:1], "what a new worker of it takes may"


async def test_next_keys_are_tried_within_a_budget(scene: Scene) -> None:
    scene.checks.end.set()

    await until(lambda: len(scene.checks.keys) > LOGINS_PER_HOUR)

    assert scene.checks.keys[: LOGINS_PER_HOUR + 1] == [True] * LOGINS_PER_HOUR + [False]


async def test_an_observers_logins_count_as_those_of_its_user(scene: Scene) -> None:
    scene.checks.end.set()

    await until(lambda: len(scene.checks.observers) > 5)

    count = "SELECT sum(count) FROM login_budgets WHERE budget = 'checks' AND username = '{}@acme.com'"
    [(observer,)], [(own,)] = (scene.sql(count.format(one)) for one in ("observer", "integration"))
    assert int(str(observer)) >= 5
    assert int(str(own)) >= 5


async def test_a_replica_that_cannot_write_takes_no_work_and_says_why(scene: Scene) -> None:
    checks, replica = scene.checks, scene.replica
    checks.end.set()
    await until(lambda: scene.sql("SELECT 1 FROM histories"))

    refuse(scene, "histories", "INSERT", "true", "the disk is full")
    await until(lambda: replica.problem)
    await until(lambda: scene.sql("SELECT count(*) FROM procrastinate_workers") == [(0,)])
    assert "the disk is full" in str(replica.problem)
    begun = len(checks.begun)
    scene.sql("UPDATE due SET due_at = now()")
    await until(lambda: scene.sql("SELECT 1 FROM due WHERE due_at < now() - interval '5 s'"))
    assert len(checks.begun) == begun

    scene.sql("DROP FUNCTION refuse CASCADE")
    await until(lambda: len(checks.begun) > begun)
    assert replica.problem is None


async def test_a_replica_with_an_older_schema_takes_no_work_and_says_why(scene: Scene) -> None:
    scene.checks.end.set()
    await until(lambda: scene.checks.begun)

    scene.sql("UPDATE meta SET value = '99' WHERE key = 'schema'")

    await until(lambda: scene.sql("SELECT count(*) FROM procrastinate_workers") == [(0,)])
    await until(lambda: scene.replica.problem)
    assert "a newer version of bearerwatch wrote it" in str(scene.replica.problem)


async def test_one_unwritable_result_does_not_block_others(scene: Scene) -> None:
    checks = scene.checks
    refuse(scene, "histories", "INSERT", "new.connection_id = 1", "for a reason of its own")
    checks.end.set()

    await until(lambda: len(checks.begun) >= 8)

    counts = sorted(checks.begun.count(name) for name in ("a", "b"))
    assert counts[0] <= 2, "it is put off for a minute"
    assert scene.replica.problem is None


class SomeHang(Checks):
    """Checks of connections that hang from their second one on, and of others that end at once."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most = 0

    async def check(self, name: str, ledger: Ledger) -> datetime | None:
        self.begun.append(name)
        hangs = name.startswith("hangs")
        if hangs and self.begun.count(name) > 1:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await self.end.wait()
            self.under_way -= 1
        found = history(UNREACHABLE if hangs else GRANTED, number=len(self.begun))
        assert found.last_exchange
        ledger.keep(name, replace(found, last_exchange=replace(found.last_exchange, duration_seconds=20)), ())
        return self.due(self.clock.now())


async def test_hanging_connections_use_at_most_half_of_the_slots(server: Postgres, tmp_path: Path) -> None:
    """Four of them used to occupy all four slots, and nothing else was checked."""
    checks = SomeHang()
    names = [*(f"hangs{number}" for number in range(6)), "well"]
    async with started(server, tmp_path, checks=checks, names=names, at_once=4) as scene:
        await until(lambda: checks.under_way == 2)
        before = checks.begun.count("well")

        await until(lambda: checks.begun.count("well") > before + 3)

        assert checks.most == 2
        [(logins,)] = scene.sql("SELECT sum(count) FROM login_budgets")
        assert int(str(logins)) <= len(checks.begun) + len(names), "those that wait take none"


async def test_a_long_check_keeps_its_connection_while_its_worker_ends(scene: Scene) -> None:
    """At a reload or a stop: without heartbeats others would make the same check once more."""
    await until(lambda: scene.checks.begun)
    [(began,)] = scene.sql("SELECT now()")

    scene.replica.dismiss()

    await until(
        lambda: scene.sql(
            f"SELECT 1 FROM procrastinate_workers WHERE last_heartbeat > '{began}'::timestamptz"
            " + interval '6 seconds'"
        )
    )
    scene.checks.end.set()
    await until(lambda: scene.sql("SELECT 1 FROM histories"))


async def test_a_hanging_database_connection_is_cut_once_and_then_given_time(scene: Scene) -> None:
    """Where a word takes long each time, it would be broken off each second, and never be heard."""
    words = (
        "SELECT extract(epoch FROM now() - query_start)::float FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%overdue%'"
        " ORDER BY 1 DESC"
    )
    with psycopg.connect(scene.server.url(scene.database)) as slow:
        slow.execute("LOCK TABLE due")
        await until(lambda: scene.sql(words))
        await until(lambda: len(found := scene.sql(words)) > 1 and float(str(found[1][0])) > 4)

        assert len(scene.sql(words)) == 2

    await until(lambda: scene.replica.problem is None)


async def test_a_task_failing_for_another_reason_than_the_network_is_reported(scene: Scene) -> None:
    scene.checks.end.set()
    with capture_logs() as logged:
        refuse(scene, "procrastinate_jobs", "INSERT", "new.task_name = 'check'", "no room for jobs")
        await until(lambda: scene.replica.problem)
        await until(lambda: [line for line in logged if line["event"] == "task_failed"])
    assert "no room for jobs" in str(scene.replica.problem)

    scene.sql("DROP FUNCTION refuse CASCADE")

    await until(lambda: scene.replica.problem is None)


async def test_a_database_that_takes_no_due_times_is_reported_once_until_it_does(scene: Scene) -> None:
    """One that can only be read was found again and lost again each second."""
    scene.checks.end.set()
    with capture_logs() as logged:
        scene.sql("ALTER TABLE login_budgets RENAME TO elsewhere")
        scene.replica.configure(load(scene.config, {"KEY": "-"}))
        await until(lambda: len([line for line in logged if line["event"] == "replication_crashed"]) > 2)
        assert scene.replica.problem
        scene.sql("ALTER TABLE elsewhere RENAME TO login_budgets")
        await until(lambda: scene.replica.problem is None)
    told = [line["event"] for line in logged]
    assert (told.count("replication_failing"), told.count("replication_recovered")) == (1, 1)


async def test_a_connection_with_another_key_is_claimed_by_the_replica_that_has_it(scene: Scene) -> None:
    before = scene.replica.configured.connections["a"].version
    text = scene.config.read_text().replace("{env: KEY}", "{env: NEW_KEY}", 1)
    scene.config.write_text(text)

    scene.replica.configure(load(scene.config, {"KEY": "-", "NEW_KEY": "-"}))
    scene.replica.at("a", scene.checks.clock.now())

    after = scene.replica.configured.connections["a"].version
    assert after != before
    await until(
        lambda: (
            scene.sql("SELECT version FROM due d JOIN connections c ON c.id = connection_id WHERE name = 'a'")
            == [(after,)]
        )
    )


async def hears(scene: Scene, *, after: float) -> None:
    """Until the next news, so many seconds later."""
    scene.seconds_awake += after
    before = scene.replica.status
    await until(lambda: scene.replica.status is not before)


async def test_rows_of_another_configuration_stay_while_its_replica_may_be_restarting(scene: Scene) -> None:
    scene.checks.end.set()
    scene.sql("INSERT INTO connections (name) VALUES ('other')")
    row = "SELECT 1 FROM due d JOIN connections c ON c.id = connection_id WHERE name = 'other'"

    def add() -> None:
        scene.sql(
            "INSERT INTO due (connection_id, due_at, configuration, version, epoch, changed_at) SELECT id,"
            " now() - interval '2 minutes', 'another', 'v', 0, now() FROM connections WHERE name = 'other'"
        )

    add()
    for _ in range(5):
        await hears(scene, after=3)
        scene.replica.configure(load(scene.config, {"KEY": "-"}))
    assert scene.sql(row)
    for _ in range(3):
        await hears(scene, after=6)
    await until(lambda: not scene.sql(row))

    # After an outage the other may be as late as this one.
    add()
    await hears(scene, after=120)
    scene.replica.configure(load(scene.config, {"KEY": "-"}))
    await hears(scene, after=0)
    await hears(scene, after=0)
    assert scene.sql(row)


async def test_a_replica_that_gets_too_few_database_connections_says_why(
    server: Postgres, tmp_path: Path
) -> None:
    server.sql("CREATE ROLE few LOGIN CONNECTION LIMIT 2 IN ROLE monitor")
    async with started(server, tmp_path, role="few", begun=False) as scene:
        await until(lambda: 'too many connections for role "few"' in str(scene.replica.problem))


async def test_a_job_whose_end_cannot_be_written_does_not_keep_its_connections(scene: Scene) -> None:
    """Notifications are one job at a time: one that never ends would be the last."""
    scene.checks.end.set()
    refuse(scene, "procrastinate_jobs", "DELETE", "old.task_name = 'notify'", "not now")
    await until(lambda: scene.notified)
    stuck = "SELECT id FROM procrastinate_jobs WHERE task_name = 'notify' AND status = 'doing'"
    await until(lambda: scene.sql(stuck))
    scene.sql("DROP FUNCTION refuse CASCADE")
    before = scene.notified

    await until(lambda: scene.notified > before)


async def test_a_key_that_changes_during_its_check_is_checked_afterwards(scene: Scene) -> None:
    checks = scene.checks
    checks.due = lambda now: now + timedelta(hours=1)
    await until(lambda: checks.begun)
    name = checks.begun[0]

    scene.replica.at(name, datetime.now(UTC))
    checks.end.set()

    await until(lambda: checks.begun.count(name) == 2)


async def test_results_of_another_replica_are_shown_once_the_check_here_ends(scene: Scene) -> None:
    """As it wakes up: its own result counts for nothing, and the next may be an hour away."""
    checks = scene.checks
    await until(lambda: checks.begun)
    name = checks.begun[0]
    one = f"(SELECT id FROM connections WHERE name = '{name}')"
    found = records.written(history(GRANTED, number=5))
    scene.sql(f"INSERT INTO histories VALUES ({one}, '{found}')")
    scene.sql(
        "UPDATE due SET job = NULL, epoch = epoch + 1, writer = 'another',"
        f" changed_at = clock_timestamp(), due_at = now() + interval '1 hour' WHERE connection_id = {one}"
    )
    [(written,)] = scene.sql("SELECT now()")
    heard = f"SELECT 1 WHERE clock_timestamp() > '{written}'::timestamptz + interval '4 seconds'"
    await until(lambda: scene.sql(heard))
    assert name not in checks.heard_of

    checks.end.set()

    await until(lambda: name in checks.heard_of)


async def test_an_unreadable_history_is_reported_once_a_minute_and_uses_no_login(scene: Scene) -> None:
    """Each report counts as a failure."""
    checks = scene.checks
    checks.due = lambda now: now + timedelta(hours=1)
    checks.end.set()
    await until(lambda: scene.sql("SELECT count(*) FROM histories") == [(2,)])

    scene.sql("""UPDATE histories SET body = '{"of": "a newer version"}'; UPDATE due SET due_at = now()""")

    await until(lambda: len(checks.unread) == 2)
    [(reported,)] = scene.sql("SELECT now()")
    await until(lambda: scene.sql(f"SELECT 1 WHERE now() > '{reported}'::timestamptz + interval '3 s'"))
    assert sorted(name for name, _ in checks.unread) == ["a", "b"]
    assert "of: Unknown field" in checks.unread[0][1]
    logins = (
        "SELECT sum(count) FROM login_budgets WHERE username = 'integration@acme.com' AND budget = 'checks'"
    )
    assert scene.sql(logins) == [(2,)]
    assert scene.sql("SELECT count(*) FROM due WHERE due_at > now() + interval '30 s'") == [(2,)]


async def test_a_wrong_clock_moves_no_due_time(server: Postgres, tmp_path: Path) -> None:
    """Each replica counts turns from a connection's phase: by its own clock it would count others."""
    one = connection(interval=timedelta(minutes=5))
    async with started(server, tmp_path, clock_ahead=timedelta(seconds=110)) as scene:
        scene.checks.due = partial(cadence.regular, one)
        scene.checks.end.set()
        await until(lambda: scene.sql("SELECT 1 FROM due WHERE epoch > 0"))

        [(due_at, written)] = scene.sql("SELECT due_at, changed_at FROM due WHERE epoch > 0 LIMIT 1")

        assert isinstance(due_at, datetime)
        assert isinstance(written, datetime)
        assert abs(due_at - cadence.regular(one, written)) < timedelta(seconds=2)


async def test_the_leading_replica_notifies(scene: Scene) -> None:
    await until(lambda: scene.notified)


async def test_a_worker_keeps_no_database_connection_to_listen(scene: Scene) -> None:
    """An attempt to connect that the pool doesn't finish held up the server's stop for a minute."""
    await until(lambda: scene.checks.begun)

    assert not scene.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")


async def test_a_worker_whose_heartbeat_hangs_ends(scene: Scene) -> None:
    """Others take over what it holds, and it would go on taking what it may not check."""
    scene.checks.end.set()
    with psycopg.connect(scene.server.url(scene.database)) as other:
        other.execute("LOCK TABLE procrastinate_workers IN SHARE MODE")
        await until(lambda: scene.waits_for_a_lock("update_heartbeat"))
        await until(lambda: scene.waits_for_a_lock("unregister"))


async def test_checks_go_on_when_the_machines_clock_is_set_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.checks.end.set()
    await until(lambda: scene.checks.begun)
    right = time.time

    monkeypatch.setattr(time, "time", lambda: right() - 3_600)
    before = len(scene.checks.begun), scene.notified

    await until(lambda: len(scene.checks.begun) > before[0] + 4)
    await until(lambda: scene.notified > before[1] + 1)


async def test_a_connection_configured_while_it_reads_the_database_is_checked_at_once(
    scene: Scene, tmp_path: Path
) -> None:
    scene.checks.end.set()
    await until(lambda: scene.checks.begun)
    config = tmp_path / "more.yaml"
    config.write_text(
        CONFIGURATION + "".join(CONNECTION.format(name=name, user="integration") for name in ("a", "c"))
    )
    with psycopg.connect(scene.server.url(scene.database)) as slow:
        slow.execute("LOCK TABLE due")
        await until(lambda: scene.waits_for_a_lock("overdue"))
        scene.replica.configure(load(config, {"KEY": "-"}))
        scene.replica.at("c", scene.checks.clock.now())
    [(configured,)] = scene.sql("SELECT now()")

    there = "SELECT 1 FROM due JOIN connections c ON c.id = connection_id WHERE c.name = 'c'"
    late = f"SELECT 1 WHERE now() > '{configured}'::timestamptz + interval '5 seconds'"
    await until(lambda: scene.sql(there) or scene.sql(late))
    assert scene.sql(there)


async def test_a_bug_in_one_check_leaves_the_others_of_its_job_alone(scene: Scene) -> None:
    """Else their connections would be free, and checked once more, while their checks are under way."""
    checks = scene.checks
    checks.end.set()
    await until(lambda: scene.sql("SELECT count(*) FROM histories") == [(2,)])
    checks.end.clear()

    def fails(name: str, *_: object) -> None:
        if name == "a":
            raise RuntimeError

    checks.prepare = fails  # type: ignore[assignment, method-assign]
    scene.sql("UPDATE due SET due_at = now() + interval '3 s' WHERE job IS NULL")

    put_off = "SELECT 1 FROM due WHERE connection_id = 1 AND due_at > now() + interval '30 s'"
    before = len(checks.begun)
    await until(lambda: len(checks.begun) > before)
    held = scene.sql("SELECT job FROM due WHERE connection_id = 2")
    [(began,)] = scene.sql("SELECT now()")
    late = f"SELECT 1 WHERE now() > '{began}'::timestamptz + interval '4 seconds'"
    await until(lambda: scene.sql(late))
    assert scene.sql("SELECT job FROM due WHERE connection_id = 2") == held
    checks.end.set()
    await until(lambda: scene.sql(put_off))


async def test_the_first_checks_of_a_large_fleet_come_as_planned(server: Postgres, tmp_path: Path) -> None:
    """All but the first few thousand used to be due at once."""
    names = [f"c{number}" for number in range(WANTED_AT_ONCE + 2)]
    async with started(server, tmp_path, names=names, first_in=timedelta(hours=1), user="of-{}") as scene:
        await until(lambda: scene.sql("SELECT count(*) FROM due") == [(len(names),)])

        assert scene.sql("SELECT count(*) FROM due WHERE due_at < now() + interval '30 min'") == [(0,)]


async def test_connections_of_a_job_that_a_failover_brought_back_are_checked_again(scene: Scene) -> None:
    """For a server that lacks the last seconds it still runs; its worker, which ended it, is alive."""
    checks = scene.checks
    checks.end.set()
    await until(lambda: len(checks.begun) > 2)
    scene.sql(
        "WITH back AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)"
        " SELECT 'checks', 'check', 'doing', max(id) FROM procrastinate_workers RETURNING id)"
        " UPDATE due SET job = back.id FROM back WHERE connection_id = 1"
    )

    scene.server.crash()
    scene.server.start()

    before = checks.begun.count("a")
    await until(lambda: checks.begun.count("a") > before)


async def test_a_worker_that_others_may_have_declared_dead_begins_nothing_more(scene: Scene) -> None:
    """As after a failover to a server that does not know it: its last heartbeat was a second ago."""
    checks = scene.checks
    await until(lambda: checks.begun)

    scene.sql("DELETE FROM replicas")
    [(forgotten,)] = scene.sql("SELECT now()")
    await until(lambda: scene.sql(f"SELECT 1 WHERE now() > '{forgotten}'::timestamptz + interval '3 s'"))
    checks.end.set()

    await until(lambda: len(checks.begun) > 1)
    assert checks.refused == checks.begun[:1]


class FailingStore(Store):
    """One whose state can't be read, if so wished."""

    fails = False

    @property
    def problem(self) -> str | None:
        """Why it can't write."""
        if self.fails:
            raise RuntimeError
        return super().problem


async def test_heartbeats_go_on_if_another_task_of_the_worker_fails(server: Postgres, tmp_path: Path) -> None:
    """Without them others would make the running checks once more."""
    async with started(server, tmp_path, kind=FailingStore) as scene:
        await until(lambda: scene.checks.begun)
        [(began,)] = scene.sql("SELECT now()")
        store = scene.replica.store
        assert isinstance(store, FailingStore)

        store.fails = True

        await until(
            lambda: scene.sql(f"SELECT 1 WHERE clock_timestamp() > '{began}'::timestamptz + interval '8 s'")
        )
        [(heard,)] = scene.sql(
            f"SELECT max(last_heartbeat) > '{began}'::timestamptz + interval '4 s' FROM procrastinate_workers"
        )
        assert heard
        store.fails = False
        scene.checks.end.set()
        await until(lambda: scene.sql("SELECT 1 FROM histories"))


async def test_a_replica_whose_worker_cannot_begin_says_why(scene: Scene) -> None:
    scene.checks.end.set()
    await until(lambda: scene.checks.begun)

    refuse(scene, "procrastinate_workers", "INSERT", "true", "no room for workers")
    scene.replica.dismiss()

    await until(lambda: "no room for workers" in str(scene.replica.problem))
    scene.sql("DROP FUNCTION refuse CASCADE")
    await until(lambda: scene.replica.problem is None)
    begun = len(scene.checks.begun)
    await until(lambda: len(scene.checks.begun) > begun)


async def test_connections_without_a_login_take_no_room(server: Postgres, tmp_path: Path) -> None:
    names = ["long", "other", *(f"spent{number}" for number in range(4))]
    an_hour = timedelta(hours=1)
    async with started(server, tmp_path, names=names, at_once=2, first_in=an_hour, user="of-{}") as scene:
        await until(lambda: scene.sql("SELECT count(*) FROM due") == [(len(names),)])
        scene.sql(
            "INSERT INTO login_budgets SELECT 'checks', 'of-' || name || '@acme.com',"
            " extract(epoch FROM now())::int / 60, 3600 FROM connections WHERE name LIKE 'spent%'"
        )
        due = "UPDATE due SET due_at = now() FROM connections c WHERE c.id = connection_id AND c.name"
        scene.sql(f"{due} <> 'other'")
        await until(lambda: scene.checks.begun == ["long"])

        scene.sql(f"{due} = 'other'")

        await until(lambda: scene.checks.begun == ["long", "other"])


async def test_a_running_check_costs_one_login_if_its_connection_is_assigned_again(
    server: Postgres, tmp_path: Path
) -> None:
    """As by another configuration that is loaded and taken back while an org hangs."""
    async with started(server, tmp_path, names=["a"], at_once=4) as scene:
        await until(lambda: scene.checks.begun)

        scene.sql("UPDATE due SET job = NULL, due_at = now()")
        await until(lambda: scene.sql("SELECT 1 FROM due WHERE job IS NOT NULL OR due_at > now()"))
        [(assigned,)] = scene.sql("SELECT now()")
        await until(lambda: scene.sql(f"SELECT 1 WHERE now() > '{assigned}'::timestamptz + interval '4 s'"))

        assert scene.checks.begun == ["a"]
        assert scene.sql("SELECT sum(count) FROM login_budgets") == [(1,)]


async def test_a_stop_takes_no_longer_than_the_checks(scene: Scene) -> None:
    scene.checks.end.set()
    await until(lambda: scene.checks.begun)

    began = time.monotonic()
    await scene.replica.stop(20)

    assert time.monotonic() - began < 0.9
