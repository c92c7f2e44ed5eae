"""A check that something happens to on its way."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from monitor.core import cadence
from monitor.core.causes import Cause
from monitor.core.connection import Pair, Source
from monitor.core.finding import State
from monitor.core.history import History, Rotation, Stage
from monitor.core.keys.credential import Credential
from monitor.core.outcome import Exchange
from monitor.keys import keygen
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.probe import TakeLogin
from monitor.salesforce.transport import Limits
from monitor.watch.budget import OwnLedger
from monitor.watch.check import Checker
from monitor.watch.clock import Clock
from monitor.watch.fleet import Fleet
from monitor.watch.own_metrics import OwnMetrics
from tests.making import NOT_APPROVED, NOW, connection


def checker_of(
    fleet: Fleet,
    clock: Clock,
    answer: Callable[..., Any] = lambda _: httpx.Response(400),
    *,
    keyring: Keyring | None = None,
    own: OwnMetrics | None = None,
    in_flight: int = 2,
) -> Checker:
    """One whose orgs all answer in the same way."""
    exchanger = Exchanger(
        limits=Limits(in_flight=in_flight),
        transport=lambda *_: httpx.MockTransport(answer),
        clock=clock.now,
        steady=clock.steady,
    )
    return Checker(
        fleet, keyring=keyring or Keyring({}), exchanger=exchanger, clock=clock, own=own or OwnMetrics()
    )


async def test_a_connection_removed_before_its_answer_comes_is_not_our_fault(tmp_path: Path) -> None:
    """Found by renaming a connection while the resolver was slow: the log held a traceback."""
    pair = keygen.generate(tmp_path, now=datetime.now(UTC))
    clock, fleet, kept = Clock(), Fleet({}), list[str]()
    fleet.configure([connection(current=Pair(Source("file", str(pair.key_path))))], clock.now())

    def refuse(_: httpx.Request) -> httpx.Response:
        fleet.configure([], clock.now())
        return httpx.Response(400, json={"error": "invalid_grant"})

    checker = checker_of(fleet, clock, refuse)

    with capture_logs() as logged:
        following = await checker.check("acme", OwnLedger(60, lambda name, *_: kept.append(name)))

    assert (following, kept, logged) == (None, [], [])
    assert "acme" not in fleet


@pytest.mark.parametrize("status", [400, 503])
async def test_the_next_check_is_due_in_time_even_if_the_clock_is_set_back_during_a_check(
    tmp_path: Path, status: int
) -> None:
    """Set back by a day meanwhile, it left the connection alone for a day."""

    class Settable(Clock):
        set_by = timedelta(0)

        def machine(self) -> datetime:
            return super().machine() + self.set_by

    pair = keygen.generate(tmp_path, now=datetime.now(UTC))
    clock, fleet = Settable(), Fleet({})
    one = connection(current=Pair(Source("file", str(pair.key_path))), interval=timedelta(minutes=5))
    fleet.configure([one], clock.now())

    def answer(_: httpx.Request) -> httpx.Response:
        clock.set_by = timedelta(days=-1)
        return httpx.Response(status, json={"error": "invalid_grant"})

    following = await checker_of(fleet, clock, answer).check("acme", OwnLedger(60, lambda *_: None, clock))

    assert following
    assert timedelta(0) < following - clock.now() < 2 * one.interval


async def test_a_check_that_takes_most_of_an_interval_skips_no_turn(tmp_path: Path) -> None:
    """Answers, and calls of an audit, may be slow: the interval counts from the login."""

    class Passing(Clock):
        passed = timedelta(0)

        def machine(self) -> datetime:
            return NOW + self.passed

        def steady(self) -> float:
            return self.passed.total_seconds()

    pair = keygen.generate(tmp_path, now=NOW)
    clock, fleet = Passing(), Fleet({})
    one = connection(current=Pair(Source("file", str(pair.key_path))), interval=timedelta(seconds=20))
    fleet.configure([one], clock.now())
    clock.passed = cadence.regular(one, NOW) - NOW  # on schedule

    def slow(_: httpx.Request) -> httpx.Response:
        clock.passed += timedelta(seconds=18)
        return httpx.Response(200, json={"access_token": "00Dxx!secret", "scope": "api refresh_token"})

    asked = clock.now()
    following = await checker_of(fleet, clock, slow).check("acme", OwnLedger(60, lambda *_: None, clock))

    assert following == asked + one.interval


async def test_a_login_whose_reservation_lapsed_before_signing_is_postponed(tmp_path: Path) -> None:
    """So for a replica that was suspended while a check waited for its turn: another has made it since."""
    pair = keygen.generate(tmp_path, now=datetime.now(UTC))
    clock, fleet, own, asked = Clock(), Fleet({}), OwnMetrics(), list[str]()
    current = Pair(Source("file", str(pair.key_path)))
    fleet.configure([connection(name=name, current=current) for name in ("first", "second")], clock.now())
    both_have_their_key, answer = asyncio.Event(), asyncio.Event()
    later = clock.now() + timedelta(minutes=1)

    async def refuse_in_time(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        await answer.wait()
        return httpx.Response(400, json={"error": "invalid_grant"})

    class Counting(Keyring):
        loads = 0

        async def load(self, pair: Pair) -> Credential:
            found = await super().load(pair)
            self.loads += 1
            if self.loads == 2:
                both_have_their_key.set()
            return found

    class Turn(OwnLedger):
        """Over as soon as the first check has its answer."""

        def take(self, username: str, now: datetime) -> datetime | None:
            return later if answer.is_set() else super().take(username, now)

    checker = checker_of(fleet, clock, refuse_in_time, keyring=Counting({}), own=own, in_flight=1)
    turn = Turn(60, lambda *_: None)
    checks = asyncio.gather(*(checker.check(name, turn) for name in ("first", "second")))
    async with asyncio.timeout(5):
        await both_have_their_key.wait()
        answer.set()
        following = await checks

    assert following.count(later) == 1
    assert len(asked) == 1
    assert sorted(status.history.exchanges for status in fleet.statuses()) == [0, 1]
    [deferred] = own.logins_deferred.collect()
    assert deferred.samples[0].value == 1


async def test_a_bug_with_the_next_key_does_not_change_the_verdict_on_the_current_one(
    tmp_path: Path,
) -> None:
    clock, fleet = Clock(), Fleet({})
    current = Pair(Source("file", str(keygen.generate(tmp_path, now=datetime.now(UTC)).key_path)))
    following = Pair(Source("file", "/keys/next.pem"))
    fleet.configure([connection(current=current, next=following)], clock.now())
    kept: list[tuple[State, int]] = []

    class Failing(Keyring):
        async def load(self, pair: Pair) -> Credential:
            if pair == following:
                assert kept == [(State.FAILING, 1)], "the verdict is kept before the next key is looked at"
                raise RuntimeError("a bug of ours")
            return await super().load(pair)

    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": "invalid_grant", "error_description": "user inactive"})

    checker = checker_of(fleet, clock, refuse, keyring=Failing({}))
    ledger = OwnLedger(60, lambda _, history, __: kept.append((history.state, history.exchanges)))

    with capture_logs() as logged:
        again = await checker.check("acme", ledger)

    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["check_failed"]
    assert set(kept) == {(State.FAILING, 1)}
    assert [found.cause for found in fleet["acme"].findings] == [Cause.USER_INACTIVE]
    assert again == fleet["acme"].next_exchange


def test_an_unreadable_history_is_shown_as_a_monitor_fault() -> None:
    """As where a newer replica has written it: it stays, and this one says why it does not check."""
    clock, fleet = Clock(), Fleet({})
    fleet.configure([connection()], clock.now())
    checker = checker_of(fleet, clock)
    due = clock.now() + timedelta(minutes=1)

    with capture_logs() as logged:
        for _ in range(2):
            checker.show_unreadable("acme", "key_fingerprint: Field required", due)

    [found] = fleet["acme"].findings
    assert found.cause is Cause.MONITOR_FAULT
    assert "key_fingerprint: Field required" in " ".join(found.evidence)
    assert [line["event"] for line in logged] == ["history_unreadable"]
    assert fleet["acme"].next_exchange == due


async def test_later_results_of_another_replica_are_shown_regardless_of_its_clock() -> None:
    clock, fleet = Clock(), Fleet({})
    fleet.configure([connection()], clock.now())
    checker = checker_of(fleet, clock)
    first = fleet["acme"].history

    def found(number: int, seconds: int) -> History:
        exchange = Exchange(clock.now() + timedelta(seconds=seconds), NOT_APPROVED)
        return replace(first, exchanges=number, last_exchange=exchange)

    for number, seconds, shown in ((2, 120, 2), (3, 0, 3), (2, -60, 3)):
        await checker.show_result("acme", found(number, seconds), clock.now())
        assert fleet["acme"].history.exchanges == shown


async def test_the_next_key_is_not_tried_after_its_login_has_lapsed(tmp_path: Path) -> None:
    """As its check waited for its turn: meanwhile another replica may have made it."""
    pairs = [
        Pair(Source("file", str(keygen.generate(tmp_path / name, now=datetime.now(UTC)).key_path)))
        for name in ("current", "next")
    ]
    clock, fleet, asked = Clock(), Fleet({}), list[str]()
    fleet.configure([connection(current=pairs[0], next=pairs[1])], clock.now())

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.content.decode())
        return httpx.Response(400, json={"error": "invalid_grant", "error_description": "user inactive"})

    class Over(OwnLedger):
        async def take_next_key(self, username: str) -> TakeLogin | None:
            return lambda at: at + timedelta(seconds=10)

    checker = checker_of(fleet, clock, refuse)

    await checker.check("acme", Over(60, lambda *_: None))

    assert len(asked) == 1, "with the current key alone"
    rotating = fleet["acme"].history.rotation
    assert rotating
    assert rotating.tried_at is None


class Noting(Keyring):
    """One that notes which pairs are loaded."""

    def __init__(self) -> None:
        super().__init__({})
        self.noted: list[Pair] = []

    async def load(self, pair: Pair) -> Credential:
        self.noted.append(pair)
        return await super().load(pair)


def rotating(tmp_path: Path, clock: Clock) -> tuple[Fleet, dict[str, Pair]]:
    """A fleet of one connection with a next pair. Its own turn is at least a quarter of an hour away."""
    now, fleet = clock.now(), Fleet({})
    pairs = {
        name: Pair(Source("file", str(keygen.generate(tmp_path / name, now=now).key_path)))
        for name in ("current", "next")
    }
    hourly = timedelta(hours=1)
    fleet.configure([connection(current=pairs["current"], next=pairs["next"], interval=hourly)], now)
    return fleet, pairs


@pytest.mark.parametrize(
    ("try_in", "asked"),
    [
        pytest.param(timedelta(seconds=-1), "next", id="due"),
        pytest.param(timedelta(minutes=2), "current", id="later"),
    ],
)
async def test_only_where_the_next_key_is_due_alone_does_the_current_one_wait_for_its_turn(
    tmp_path: Path, try_in: timedelta, asked: str
) -> None:
    """A check that is not planned, as when someone asks for one during the last, is of the current key."""
    clock, keyring = Clock(), Noting()
    fleet, pairs = rotating(tmp_path, clock)
    now = clock.now()
    fleet.put(replace(fleet["acme"], next_exchange=now + timedelta(minutes=5), next_try=now + try_in))

    await checker_of(fleet, clock, keyring=keyring).check("acme", OwnLedger(60, lambda *_: None, clock))

    assert keyring.noted[0] == pairs[asked]


@pytest.mark.parametrize(
    ("looked", "asked"),
    [
        pytest.param(timedelta(minutes=2), "next", id="planned"),
        pytest.param(timedelta(seconds=30), "current", id="asked for"),
    ],
)
async def test_a_check_that_another_replica_was_asked_for_is_of_the_current_key(
    tmp_path: Path, looked: timedelta, asked: str
) -> None:
    """While the app's certificate changes, the next key has its own turns. Replicas share only the time."""
    clock, keyring = Clock(), Noting()
    fleet, pairs = rotating(tmp_path, clock)
    following = (await keyring.load(pairs["next"])).facts.key
    assert following is not None
    keyring.noted.clear()
    now = clock.now()
    at = now - looked
    changing = Rotation(following.fingerprint, at, Stage.PROPAGATING, at, tried_at=at, moved_at=at)
    known = replace(
        fleet["acme"].history, exchanges=2, last_exchange=Exchange(at, NOT_APPROVED), rotation=changing
    )
    checker, ledger = checker_of(fleet, clock, keyring=keyring), OwnLedger(60, lambda *_: None, clock)

    checker.prepare("acme", known, now, ledger)
    await checker.check("acme", ledger)

    assert keyring.noted[0] == pairs[asked]


async def test_results_that_follow_a_restored_backup_are_shown(tmp_path: Path) -> None:
    """The database then counts fewer exchanges than a replica remembers."""
    clock, keyring = Clock(), Noting()
    fleet, _ = rotating(tmp_path, clock)
    checker, now = checker_of(fleet, clock, keyring=keyring), clock.now()
    ours = replace(fleet["acme"].history, exchanges=100, last_exchange=Exchange(now, NOT_APPROVED))
    fleet.put(replace(fleet["acme"], history=ours))
    newer = replace(ours, exchanges=2, last_exchange=Exchange(now + timedelta(minutes=5), NOT_APPROVED))

    await checker.show_result("acme", newer, now)

    assert fleet["acme"].history == newer
