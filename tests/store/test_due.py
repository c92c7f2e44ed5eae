"""The rows that replicas share, on a real PostgreSQL: who may check, and whose word holds."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace

import psycopg
import pytest

from monitor.store import Store, due
from monitor.store.due import Appointment, Budget, Configured, Ear, Heard, Link, Wanted
from monitor.store.waiting import Lease
from tests.store.postgres import COMMAND, Postgres, postgres
from tests.store.test_store import AUDIT, GRANTED, event, history

pytestmark = pytest.mark.real(COMMAND)

LATER = 3_600.0
"""Seconds until a connection is due that is not due now."""


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(name="url")
def _url(server: Postgres) -> str:
    """A database in which the tables are made."""
    url = server.database()
    Store.open(url).close()
    return url


def configured(
    *names: str, mark: str = "one", version: str = "v1", budget: int = 60, user: str = "one@acme.com"
) -> Configured:
    return Configured(mark, {name: Wanted(version, user) for name in names}, budget)


@dataclass
class Replica:
    """A replica, as far as the tables know of it; `job` is the last that it has."""

    link: Link
    configured: Configured
    name: str
    worker: int = 0
    job: int = 0
    ear: Ear = field(init=False)

    def __post_init__(self) -> None:
        self.ear = Ear(self.name)

    async def number(self, statement: str, *values: object) -> int:
        row = await (await self.link.execute(statement, values)).fetchone()
        assert row
        return int(row[0])

    async def begins(self) -> None:
        self.worker = await self.number("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        await due.join(self.link, self.worker, self.configured.mark)

    async def dies(self) -> None:
        """It has not been heard of for long."""
        await self.link.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute' WHERE id = %s",
            (self.worker,),
        )

    async def makes(self, count: int) -> list[int]:
        """The engine's part of a plan: here one job is enough."""
        self.job = await self.number(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)"
            " VALUES (%s, 'check', 'doing', %s) RETURNING id",
            self.configured.mark,
            self.worker,
        )
        return [self.job] * count

    async def takes(self) -> list[Appointment]:
        """What it gets when it plans and runs the job of its plan."""
        self.job = 0
        await due.assign(self.link, self.configured, self.worker, self.makes)
        return await self.begins_its_job()

    async def begins_its_job(self) -> list[Appointment]:
        held = await due.held(self.link, self.job, self.worker)
        refused = await due.without_login(self.link, self.configured, held)
        await due.put_off(self.link, self.job, refused)
        self.deferred = len(refused)
        return [one for one in held if one.id not in refused]

    async def gives_back(self, held: Appointment) -> None:
        await due.put_off(self.link, self.job, {held.id: 0.0})

    async def reconciles(self, *, agreed: bool | None = None) -> list[str]:
        """Which of its connections have no row."""
        alive = {of for _, of in (await self.hears()).alive}
        if agreed is None:
            agreed = alive == {self.configured.mark}
        return await due.reconcile(self.link, self.configured, alive, agreed=agreed, late=True)

    async def wants(self, *, claim: bool = False, **seconds: float) -> None:
        await due.want(self.link, self.configured, seconds, claim=claim)

    async def hears(self) -> Heard:
        return await self.ear.listen(self.link)

    def lease(self, held: Appointment, seconds: float = LATER) -> Lease:
        return Lease(held.epoch, self.job, seconds, self.name)


@asynccontextmanager
async def replicas(url: str, *those: Configured) -> AsyncIterator[list[Replica]]:
    """Replicas with these configurations, that have begun."""
    names = ("first", "second", "third")
    made = []
    for name, its in zip(names, those, strict=False):
        link = await psycopg.AsyncConnection.connect(url, autocommit=True)
        made.append(Replica(link, its, name))
        await made[-1].begins()
    try:
        yield made
    finally:
        for one in made:
            await one.link.close()


def write(url: str, found: Mapping[str, Lease], number: int = 1) -> None:
    """Write a result of each, and what happened."""
    with closing(Store.open(url)) as store:
        for name, lease in found.items():
            known = replace(history(GRANTED, number=number), audit=AUDIT)
            store.save(name, known, (event(number),), lease)
        assert store.flush(), store.problem


def names(held: Sequence[Appointment]) -> list[str]:
    return sorted(one.name for one in held)


async def test_a_due_connection_belongs_to_one_job(url: str) -> None:
    both = configured("a", "b", "c")
    async with replicas(url, both, both) as (first, second):
        await first.wants(a=0, b=0, c=LATER)

        assert names(await first.takes()) == ["a", "b"]
        assert await second.takes() == []


async def test_a_result_is_written_with_its_due_time_and_seen_once_by_others(url: str) -> None:
    both = configured("a")
    async with replicas(url, both, both) as (first, second):
        await first.wants(a=0)
        [held] = await first.takes()
        await first.hears()
        await second.hears()

        write(url, {"a": first.lease(held)})

        [heard] = (await second.hears()).news
        assert heard.known == replace(history(GRANTED), audit=AUDIT)
        assert LATER - 60 < heard.seconds <= LATER
        assert (await second.hears()).news == []
        assert (await first.hears()).news == [], "its own result is no news"
        assert await second.takes() == []


async def test_a_job_gets_the_history_with_its_last_audit(url: str) -> None:
    async with replicas(url, configured("a")) as (replica,):
        await replica.wants(a=0)
        [held] = await replica.takes()
        assert held.known is None
        write(url, {"a": replica.lease(held, seconds=0)})

        [held] = await replica.takes()

        assert held.known == replace(history(GRANTED), audit=AUDIT)


async def test_a_result_is_written_once_even_if_the_confirmation_is_lost(url: str) -> None:
    async with replicas(url, configured("a")) as (replica,):
        await replica.wants(a=0)
        [held] = await replica.takes()

        first, second = replica.lease(held), replica.lease(held)
        write(url, {"a": first})
        write(url, {"a": second})

    assert (first.written.result(), second.written.result()) == (True, False)
    with closing(Store.open(url)) as store:
        assert len(store.events("a", 10)) == 1


async def test_a_dead_replicas_connections_are_taken_over_and_its_late_results_discarded(url: str) -> None:
    both = configured("a")
    async with replicas(url, both, both) as (dead, alive):
        await dead.wants(a=0)
        [late] = await dead.takes()
        assert await alive.takes() == []

        await dead.dies()
        [held] = await alive.takes()
        lease = dead.lease(late)
        write(url, {"a": lease}, number=7)
        write(url, {"a": alive.lease(held)}, number=8)

    assert lease.written.result() is False
    with closing(Store.open(url)) as store:
        assert [told.text for _, told in store.events("a", 10)] == [event(8).text]
        assert store.histories()["a"].exchanges == 8


async def test_a_job_declared_dead_holds_nothing_when_its_worker_wakes_up(url: str) -> None:
    both = configured("a")
    async with replicas(url, both, both) as (asleep, awake):
        await asleep.wants(a=0)
        await asleep.takes()
        await asleep.dies()
        await awake.takes()

        assert await asleep.begins_its_job() == []


async def test_an_unreadable_history_is_given_with_the_reason(server: Postgres, url: str) -> None:
    async with replicas(url, configured("a")) as (replica,):
        await replica.wants(a=0)
        [held] = await replica.takes()
        write(url, {"a": replica.lease(held, seconds=0)})
        server.sql("""UPDATE histories SET body = '{"of": "a newer version"}'""", url.split("/")[-1])

        [held] = await replica.takes()

        assert "of: Unknown field" in str(held.known)


async def test_a_login_counts_from_the_start_of_its_job(server: Postgres, url: str) -> None:
    """A job may wait for minutes where the network is away: its logins would leave the hour early."""
    async with replicas(url, configured("a")) as (replica,):
        await replica.wants(a=0)
        await due.assign(replica.link, replica.configured, replica.worker, replica.makes)
        assert replica.job

        assert server.sql("SELECT count(*) FROM login_budgets", url.split("/")[-1]) == [(0,)]


async def test_replicas_share_the_login_budget_and_see_postponed_checks(url: str) -> None:
    eight = configured(*"abcdefgh", budget=5)
    async with replicas(url, eight, configured(*"abcdefgh", budget=5, user="One@Acme.com")) as both:
        first, second = both
        await first.wants(a=0, b=0, c=0, d=0)
        held = await first.takes()
        write(url, {one.name: first.lease(one, seconds=0) for one in held})
        await first.hears()

        assert names(held) == list("abcd")
        assert len(await second.takes()) == 1, "a username is one however it is written"
        assert second.deferred == 3
        news = (await first.hears()).news
        assert {60 * 60 < one.seconds <= 62 * 60 for one in news} == {True}
        assert len(news) == 3


async def test_replicas_share_a_separate_budget_for_next_keys(url: str) -> None:
    both = configured("a", budget=1)
    async with replicas(url, both, both) as (first, second):
        users = ("one@acme.com", "One@Acme.com")
        tries = [
            await due.take_logins(one.link, Budget.NEXT_KEYS, [username], 3) == [None]
            for username in users
            for one in (first, second)
        ]

        assert tries == [True, True, True, False]
        await first.wants(a=0)
        assert names(await first.takes()) == ["a"]


async def test_only_existing_replicas_move_due_times_earlier(url: str) -> None:
    both = configured("a")
    async with replicas(url, both, both) as (there, begins):
        await there.wants(a=LATER)
        await begins.wants(a=0, claim=True)
        assert await there.takes() == []

        await there.wants(a=0)
        assert names(await there.takes()) == ["a"]


async def test_the_configuration_loaded_last_decides_how_a_connection_is_checked(url: str) -> None:
    old, new = configured("a", "b"), configured("a", "b", mark="two")
    new.connections["a"] = Wanted("v2", "one@acme.com")  # type: ignore[index] # a dictionary
    async with replicas(url, old, new) as (first, second):
        await first.wants(a=0, b=0)
        [of_old, _] = await first.takes()
        await second.wants(a=0, b=0, claim=True)

        assert names(await second.takes()) == ["a"], "what did not change stays where it is"
        lease = first.lease(of_old)
        write(url, {"a": lease})
        assert lease.written.result() is False


async def test_connections_of_a_configuration_without_replicas_are_taken_over(url: str) -> None:
    async with replicas(url, configured("a", "b"), configured("a", mark="two")) as (old, new):
        await old.wants(a=0, b=0)
        assert await new.takes() == []

        await new.reconciles()
        assert await new.takes() == []

        await old.dies()
        await new.reconciles()

        assert names(await new.takes()) == ["a"]
        assert await new.number("SELECT count(*) FROM due") == 1


@pytest.mark.parametrize("late", [False, True])
async def test_a_newer_configuration_stays_in_force_while_its_replica_restarts(url: str, late: bool) -> None:
    new = configured("a", "b", mark="two", version="v2")
    async with replicas(url, configured("a"), new) as (of_old, of_new):
        await of_new.wants(a=0, b=0)
        await of_new.dies()
        if late:
            await of_new.link.execute("UPDATE due SET due_at = now() - interval '2 minutes'")

        await of_old.reconciles(agreed=False)

        rows = "SELECT count(*) FROM due WHERE version ="
        assert names(await of_old.takes()) == ["a"] * late
        assert await of_old.number(f"{rows} 'v1'") == late
        assert await of_old.number(f"{rows} 'v2'") == 2 * (not late)
        await of_new.begins()
        await of_new.wants(claim=True, a=0)
        assert "a" in names(await of_new.takes())


async def test_reconciling_removes_rows_only_if_all_replicas_agree(url: str) -> None:
    async with replicas(url, configured("a", "b"), configured("b", "c", mark="two")) as (first, second):
        await first.wants(a=LATER, b=LATER, z=0)

        assert await second.reconciles() == ["c"]
        assert await second.number("SELECT count(*) FROM due") == 2

        await first.dies()
        assert await second.reconciles() == ["c"]
        assert await second.number("SELECT count(*) FROM due") == 1


async def test_a_connection_that_no_replica_has_is_not_late_forever_if_they_disagree(url: str) -> None:
    ours = configured("a", "b", mark="two"), configured("b", "c", mark="three")
    async with replicas(url, configured("a", "gone"), *ours) as (old, second, third):
        await old.wants(a=LATER, gone=0)
        await old.link.execute("UPDATE due SET due_at = now() - interval '2 minutes' WHERE due_at < now()")
        await second.reconciles()
        assert (await second.hears()).overdue > 100

        await old.dies()
        await second.reconciles()
        await third.reconciles()

        assert (await second.hears()).overdue == 0
        assert await second.number("SELECT count(*) FROM due") == 1


async def test_rows_written_late_in_a_long_transaction_are_still_noticed(url: str) -> None:
    both = configured("a", "b")
    async with replicas(url, both, both) as (slow, listening):
        await slow.wants(a=0, b=0)
        held = await slow.takes()
        write(url, {one.name: slow.lease(one) for one in held})
        await listening.hears()

        async with slow.link.transaction():
            await slow.link.execute(
                "UPDATE due SET writer = 'slow', changed_at = clock_timestamp() WHERE connection_id ="
                " (SELECT id FROM connections WHERE name = 'a')"
            )
            write_of_b = "UPDATE due SET writer = 'b', changed_at = clock_timestamp() WHERE connection_id ="
            await listening.link.execute(write_of_b + " (SELECT id FROM connections WHERE name = 'b')")
            assert names((await listening.hears()).news) == ["b"]

        assert names((await listening.hears()).news) == ["a"]


async def test_news_that_take_long_to_read_are_heard(url: str) -> None:
    """After a long outage all is news, and the server ends a transaction that is idle meanwhile."""
    async with replicas(url, configured("a"), configured("a")) as (first, second):
        await first.wants(a=0)
        [held] = await first.takes()
        write(url, {"a": first.lease(held)})
        await second.link.execute("SET idle_in_transaction_session_timeout = '200ms'")
        loop, one_thread = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        loop.set_default_executor(one_thread)
        one_thread.submit(time.sleep, 0.6)

        assert names((await second.hears()).news) == ["a"]


async def test_a_starting_replica_reads_due_times_and_no_history_twice(server: Postgres, url: str) -> None:
    async with replicas(url, configured("a")) as (replica,):
        await replica.wants(a=0)
        [held] = await replica.takes()
        write(url, {"a": replica.lease(held)})
        server.sql("UPDATE due SET changed_at = now() - interval '1 hour'", url.split("/")[-1])

        [news] = (await Ear("another").listen(replica.link)).news

        assert (news.name, news.known) == ("a", None)
        assert LATER - 60 < news.seconds <= LATER


async def test_a_request_to_an_older_replica_leaves_the_newer_configuration_in_force(url: str) -> None:
    """For example a changed key that it notices: what the request is for is the check."""
    old, new = configured("a"), configured("a", mark="two", version="v2")
    async with replicas(url, old, new) as (first, second):
        await first.wants(a=0, claim=True)
        await second.wants(a=LATER, claim=True)

        await first.wants(a=0)

        assert await first.takes() == []
        assert names(await second.takes()) == ["a"]


async def test_a_request_that_follows_a_result_at_once_makes_no_second_login_at_once(url: str) -> None:
    """As two people ask two replicas, and the second has not heard the result yet."""
    both = configured("a")
    async with replicas(url, both, both) as (first, second):
        await first.wants(a=0)
        [held] = await first.takes()
        write(url, {"a": first.lease(held)})

        await second.wants(a=0)

        assert await second.number("SELECT extract(epoch FROM due_at - changed_at) FROM due") == 3


async def test_an_observers_login_comes_from_the_budget_that_all_checks_of_its_user_share(url: str) -> None:
    async with replicas(url, configured("a", budget=2)) as (replica,):
        tries = [
            await due.take_logins(replica.link, Budget.CHECKS, ["One@acme.com"], 2) == [None]
            for _ in range(3)
        ]

        assert tries == [True, True, False]
        await replica.wants(a=0)
        assert await replica.takes() == []
        assert replica.deferred == 1


async def test_a_worker_that_looks_dead_is_not_revived_and_declares_no_other_dead(url: str) -> None:
    """As after a failover to a server without the last seconds: all looked dead to all, freed what was being
    checked each second, and made three times the logins.
    """
    both = configured("a")
    async with replicas(url, both, both) as (first, second):
        await first.wants(a=0)
        await first.takes()
        assert await due.beat(first.link, first.worker)

        await first.dies()
        await second.dies()

        assert not await due.beat(first.link, first.worker)
        assert await second.takes() == []
