"""Appointments are kept: each once, none lost, not too many at once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics
from monitor.watch.schedule import AFTER_A_FAULT, LOOK_EVERY, Check, Looks, Schedule
from monitor.watch.soon import BETWEEN_REQUESTS

SECOND = timedelta(seconds=1)


class Movable(Clock):
    """The machine's clock, which a test can set; and time that it lets pass."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = self.passed = timedelta(0)

    def machine(self) -> datetime:
        return super().machine() + self.set_by + self.passed

    def steady(self) -> float:
        return super().steady() + self.passed.total_seconds()


CLOCK = Clock()


def schedule(check: Check, at_once: int = 4, clock: Clock = CLOCK) -> Schedule:
    return Schedule(check, clock=clock, at_once=at_once, own=OwnMetrics())


@asynccontextmanager
async def keeping(check: Check, *due: str, at_once: int = 4, clock: Clock = CLOCK) -> AsyncIterator[Schedule]:
    """A schedule that was started, and these are due; it is stopped at the end of the block."""
    appointments = schedule(check, at_once, clock)
    appointments.start()
    for name in due:
        appointments.at(name, clock.now())
    async with asyncio.timeout(5):
        yield appointments
    await appointments.stop(1)


async def keep_ten_thousand_that_are_long_due(check: Check, done: asyncio.Event) -> None:
    appointments = schedule(check, at_once=16)
    long_ago = CLOCK.now() - timedelta(hours=8)
    for n in range(10_000):
        appointments.at(f"c{n}", long_ago)
    appointments.start()
    async with asyncio.timeout(60):
        await done.wait()
    await appointments.stop(1)


async def test_each_connection_is_checked_when_due_and_rescheduled() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def check(name: str) -> datetime | None:
        seen.append(name)
        if len(seen) == 6:
            done.set()
            return None
        return CLOCK.now()

    async with keeping(check, "a", "b"):
        await done.wait()

    assert {"a", "b"} == set(seen)


async def test_ten_thousand_due_at_once_are_all_checked_a_few_at_a_time() -> None:
    waiting, most, kept = 0, 0, set()
    done = asyncio.Event()

    async def check(name: str) -> datetime | None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0)
        waiting -= 1
        kept.add(name)
        if len(kept) == 10_000:
            done.set()
        return None

    await keep_ten_thousand_that_are_long_due(check, done)

    assert most <= 16


async def test_ten_thousand_due_at_once_do_not_block_the_loop() -> None:
    turns, kept = 0, 0
    done = asyncio.Event()

    async def check(name: str) -> datetime | None:
        nonlocal kept
        kept += 1
        if kept == 10_000:
            done.set()
        return None

    async def count_turns() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(count_turns())
    await keep_ten_thousand_that_are_long_due(check, done)
    await turning

    assert turns >= 9_000


async def test_a_connection_is_never_checked_twice_at_once() -> None:
    under_way, overlapped, count = 0, False, 0
    another, done = asyncio.Event(), asyncio.Event()

    async def check(name: str) -> datetime | None:
        nonlocal under_way, overlapped, count
        if name == "another":
            another.set()
            return None
        under_way += 1
        overlapped |= under_way > 1
        another.clear()
        appointments.at(name, CLOCK.now())
        appointments.at("another", CLOCK.now())
        await another.wait()  # it was due later, and so would have come after a second one
        under_way -= 1
        count += 1
        if count == 3:
            done.set()
        return CLOCK.now()

    async with keeping(check) as appointments:
        appointments.at("a", CLOCK.now())
        await done.wait()

    assert not overlapped


async def test_a_request_during_a_check_is_a_login_of_its_own_and_comes_a_little_later() -> None:
    seen: list[str] = []
    again = asyncio.Event()

    async def check(name: str) -> datetime | None:
        seen.append(name)
        if len(seen) == 1:
            appointments.at(name, CLOCK.now())
        else:
            again.set()
        return None

    clock = Movable()
    async with keeping(check, clock=clock) as appointments:
        appointments.at("a", clock.now())
        for _ in range(10):
            await asyncio.sleep(0)
        at_first = len(seen)
        clock.passed = BETWEEN_REQUESTS
        await again.wait()

    assert at_first == 1


async def test_a_check_that_raises_is_counted_and_rescheduled_and_others_continue() -> None:
    clock, own, seen = Movable(), OwnMetrics(), []
    went_on, came_back = asyncio.Event(), asyncio.Event()

    async def check(name: str) -> datetime | None:
        seen.append(name)
        if name == "well":
            went_on.set()
            return None
        if seen.count("torn") == 2:
            came_back.set()
        raise ValueError

    appointments = Schedule(check, clock=clock, at_once=1, own=own)
    appointments.start()
    for name in ("torn", "well"):
        appointments.at(name, clock.now())
    async with asyncio.timeout(5):
        await went_on.wait()
        clock.passed = AFTER_A_FAULT
        await came_back.wait()
    running = appointments.running
    await appointments.stop(1)

    assert running
    [missed] = own.schedule_missed.collect()
    assert missed.samples[0].value == 2


async def test_a_cancelled_connection_is_not_checked() -> None:
    kept: list[str] = []
    done = asyncio.Event()

    async def check(name: str) -> datetime | None:
        kept.append(name)
        done.set()
        return None

    clock = Movable()
    async with keeping(check, clock=clock) as appointments:
        appointments.at("gone", clock.now() + 100 * SECOND)
        appointments.cancel("gone")
        appointments.cancel("never there")
        appointments.at("stays", clock.now() + 200 * SECOND)
        clock.passed = 200 * SECOND
        await done.wait()

    assert kept == ["stays"]


async def test_a_connection_that_is_due_now_does_not_wait_for_the_next_look() -> None:
    seen: list[str] = []

    async def check(name: str) -> datetime | None:
        seen.append(name)
        return None

    async with keeping(check, "a"):
        for _ in range(3):
            await asyncio.sleep(0)

    assert seen == ["a"]


async def test_who_waits_for_a_slot_can_still_be_cancelled_or_put_off() -> None:
    seen: list[str] = []
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def check(name: str) -> datetime | None:
        seen.append(name)
        begun.set()
        await may_end.wait()
        return None

    async with keeping(check, "first", "cancelled", "put off", "last", at_once=1) as appointments:
        await begun.wait()
        appointments.cancel("cancelled")
        appointments.at("put off", CLOCK.now() + 100 * SECOND)
        may_end.set()
        for _ in range(10):
            await asyncio.sleep(0)

    assert seen == ["first", "last"]


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1)])
async def test_setting_the_wall_clock_makes_no_check_come_sooner_or_later(step: timedelta) -> None:
    """Set ahead, it made all due at once. Set back, it made those due that were planned just after."""
    clock, checked = Movable(), asyncio.Queue[str]()

    async def check(name: str) -> datetime | None:
        checked.put_nowait(name)
        return None

    appointments = schedule(check, clock=clock)
    appointments.at("sooner", clock.now() + 10 * SECOND)
    clock.set_by = step
    appointments.at("later", clock.now() + 20 * SECOND)
    appointments.start()
    came = []
    for clock.passed in (10 * SECOND, 20 * SECOND):
        async with asyncio.timeout(5):
            came.append((await checked.get(), checked.empty()))
    await appointments.stop(1)

    assert came == [("sooner", True), ("later", True)]


async def test_a_clock_that_skips_years_is_one_look_not_one_for_each_second() -> None:
    now = CLOCK.now()

    assert Looks().get_next_fire_time(now - timedelta(days=20_000), now) == now + LOOK_EVERY


@pytest.mark.parametrize("steps", range(4))
async def test_stopping_logs_no_error_even_if_a_look_begins(
    steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(name: str) -> datetime | None:
        return None

    appointments = schedule(check)
    appointments.start()
    for _ in range(steps):
        await asyncio.sleep(0)
    await appointments.stop(1)
    for _ in range(4):
        await asyncio.sleep(0)

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_stopping_waits_for_running_checks_but_not_forever() -> None:
    begun, may_end, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def check(name: str) -> datetime | None:
        begun.set()
        await may_end.wait()
        finished.set()
        return None

    async def with_one_under_way() -> Schedule:
        begun.clear()
        appointments = schedule(check)
        appointments.start()
        appointments.at("a", CLOCK.now())
        async with asyncio.timeout(5):
            await begun.wait()
        return appointments

    appointments = await with_one_under_way()
    await appointments.stop(0.01)
    assert not finished.is_set()

    appointments = await with_one_under_way()
    asyncio.get_running_loop().call_soon(may_end.set)  # once the stop has begun
    await appointments.stop(60)
    assert finished.is_set()


async def test_a_stop_just_as_a_check_is_due_is_not_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def check(name: str) -> datetime | None:
        return None

    for turns_of_the_loop in range(3):
        appointments = schedule(check)
        appointments.start()
        appointments.at("a", CLOCK.now() - SECOND)
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        await appointments.stop(1)

    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_hanging_connections_use_at_most_half_of_the_slots() -> None:
    """600 of 2,000 that hung made all others up to two minutes late."""
    release, well_done = asyncio.Event(), asyncio.Event()
    under_way, most, kept = set[str](), 0, list[str]()

    async def check(name: str) -> datetime | None:
        nonlocal most
        if name.startswith("hangs"):
            under_way.add(name)
            most = max(most, len(under_way))
            await release.wait()
            under_way.discard(name)
        kept.append(name)
        if sum(name.startswith("well") for name in kept) == 100:
            well_done.set()
        return None

    appointments = Schedule(
        check, clock=CLOCK, at_once=8, own=OwnMetrics(), hangs=lambda name: name.startswith("hangs")
    )
    for kind, ago in (("hangs", 2), ("well", 1)):
        for n in range(100):
            appointments.at(f"{kind}{n}", CLOCK.now() - timedelta(hours=ago))
    appointments.start()
    async with asyncio.timeout(60):
        await well_done.wait()
    made = len(kept)
    release.set()
    await appointments.stop(5)

    assert (most, made) == (4, 100)
