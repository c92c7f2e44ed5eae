"""When the next look is due."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.cadence import (
    ASKED_TO_WAIT_AT_MOST,
    BACK_OFF,
    CONFIRM,
    MANY_REFUSALS,
    RETRY,
    SLOWED_TO_AT_MOST,
    THROTTLED,
    TOO_NEAR,
    first_looks,
    next_exchange,
    regular,
)
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.outcome import FaultKind, Refused, Unreachable
from tests.making import ACME, NOW, connection, exchange, finding, history

MINUTE = timedelta(minutes=1)


@given(st.text(min_size=1, max_size=20), st.integers(10, 86_400), st.integers(0, 10**8))
def test_the_regular_check_is_once_per_interval_and_never_immediate(
    name: str, seconds: int, later: int
) -> None:
    interval = timedelta(seconds=seconds)
    of = connection(name=name, interval=interval)
    now = NOW + timedelta(seconds=later)

    turn = regular(of, now)

    assert interval * TOO_NEAR <= turn - now <= interval * (1 + TOO_NEAR)
    assert regular(of, turn) == turn + interval


def test_connections_are_spread_over_the_interval_by_their_names() -> None:
    nearest = NOW + ACME.interval * TOO_NEAR
    turns = [(regular(connection(name=f"customer-{n}"), NOW) - nearest) / MINUTE for n in range(1000)]

    for minute in range(5):
        assert 150 < sum(minute <= turn < minute + 1 for turn in turns) < 250


@pytest.mark.parametrize(
    ("refusals", "wait"),
    [
        pytest.param(1, CONFIRM, id="a first refusal is confirmed"),
        pytest.param(2, BACK_OFF[0], id="then it backs off"),
        pytest.param(3, BACK_OFF[1], id="further"),
        pytest.param(4, BACK_OFF[2], id="to an hour"),
        pytest.param(99, BACK_OFF[2], id="and no further"),
    ],
)
def test_after_a_definitive_refusal_checks_back_off(refusals: int, wait: timedelta) -> None:
    known = history(state=State.FAILING, consecutive_refusals=refusals)

    assert next_exchange(ACME, known, NOW) == NOW + wait


def test_back_off_does_not_shorten_a_long_interval() -> None:
    daily = connection(interval=timedelta(days=1))
    known = history(daily, state=State.FAILING, consecutive_refusals=2)

    assert next_exchange(daily, known, NOW) == max(NOW + BACK_OFF[0], regular(daily, NOW))


def test_many_refused_connections_slow_all_of_them_down() -> None:
    known = history(state=State.FAILING, consecutive_refusals=4)

    assert next_exchange(ACME, known, NOW, refused=3 * MANY_REFUSALS) == NOW + 3 * BACK_OFF[-1]
    assert next_exchange(ACME, known, NOW, refused=10_000) == NOW + SLOWED_TO_AT_MOST


@pytest.mark.parametrize(("minutes_ago", "due_in"), [(0, 2), (1, 1), (2, 3), (4, 1), (5, 5), (9, 1)])
def test_a_settling_connection_is_checked_two_five_and_ten_minutes_after_the_change(
    minutes_ago: int, due_in: int
) -> None:
    known = history(seen=minutes_ago * MINUTE, state=State.SETTLING, consecutive_refusals=1)

    assert next_exchange(ACME, known, NOW) == NOW + due_in * MINUTE


@pytest.mark.parametrize("refusals", [0, 1, 4])
@pytest.mark.parametrize("faults", [1, 2, 3])
def test_after_a_fault_the_next_check_is_soon_whatever_was_before(faults: int, refusals: int) -> None:
    known = history(state=State.UNKNOWN, consecutive_faults=faults, consecutive_refusals=refusals)

    assert next_exchange(ACME, known, NOW) == min(NOW + RETRY[faults - 1], regular(ACME, NOW))


def test_an_unknown_host_name_is_retried_soon() -> None:
    gone = exchange(Unreachable(FaultKind.DNS, "no such host"))
    known = history(state=State.FAILING, consecutive_faults=1, last_exchange=gone)

    assert next_exchange(ACME, known, NOW) == min(NOW + RETRY[0], regular(ACME, NOW))


def test_a_lasting_fault_is_checked_at_the_interval() -> None:
    known = history(state=State.UNKNOWN, consecutive_faults=4)

    assert next_exchange(ACME, known, NOW) == regular(ACME, NOW)


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(120.0, 2 * MINUTE), (900.0, 15 * MINUTE), (86_400.0, ASKED_TO_WAIT_AT_MOST)],
)
def test_retry_after_is_honoured_up_to_an_hour(asked: float, wait: timedelta) -> None:
    busy = exchange(Refused(503, "", "", "Down for maintenance", retry_after_seconds=asked))
    known = history(state=State.UNKNOWN, consecutive_faults=1, last_exchange=busy)

    assert next_exchange(ACME, known, NOW) == max(NOW + wait, regular(ACME, NOW))


@pytest.mark.parametrize(("asked", "wait"), [(None, 0 * MINUTE), (900.0, 15 * MINUTE)])
def test_after_a_bare_429_the_next_check_honours_retry_after_and_is_never_soon(
    asked: float | None, wait: timedelta
) -> None:
    known = history(
        state=State.UNKNOWN,
        consecutive_faults=1,
        findings=(finding(Cause.LOGIN_RATE_EXCEEDED),),
        last_exchange=exchange(Refused(429, "", "", "", retry_after_seconds=asked)),
    )

    assert next_exchange(ACME, known, NOW) == max(NOW + wait, regular(ACME, NOW))


def test_after_a_used_up_login_rate_the_next_check_waits_a_quarter_of_an_hour() -> None:
    known = history(
        state=State.FAILING, consecutive_refusals=1, findings=(finding(Cause.LOGIN_RATE_EXCEEDED),)
    )

    assert next_exchange(ACME, known, NOW) >= NOW + THROTTLED


def test_a_small_fleet_is_first_checked_within_seconds() -> None:
    known = [(connection(name=f"customer-{n}"), history()) for n in range(100)]

    looks = first_looks(known, NOW)

    assert len(looks) == 100
    assert max(looks.values()) <= NOW + timedelta(seconds=5)


def test_a_large_fleet_is_first_checked_within_its_interval() -> None:
    known = [(connection(name=f"customer-{n}"), history()) for n in range(10_000)]

    looks = first_looks(known, NOW)

    assert NOW + 4 * MINUTE < max(looks.values()) <= NOW + 5 * MINUTE


def test_a_restart_keeps_future_due_times() -> None:
    at = NOW - timedelta(seconds=1)
    failing = history(
        seen=60 * MINUTE, state=State.FAILING, consecutive_refusals=4, last_exchange=exchange(at=at)
    )

    assert first_looks([(ACME, failing)], NOW)["acme"] == at + BACK_OFF[-1]


def test_a_last_check_in_the_future_delays_no_checks() -> None:
    """The daemon was started while the clock was a day fast."""
    fast = history(seen=60 * MINUTE, state=State.HEALTHY, last_exchange=exchange(at=NOW + timedelta(days=1)))

    assert first_looks([(ACME, fast)], NOW)["acme"] == NOW


def test_a_changed_connection_is_checked_at_once() -> None:
    changed = history(state=State.FAILING, consecutive_refusals=4, last_exchange=exchange(at=NOW - MINUTE))

    assert first_looks([(ACME, changed)], NOW)["acme"] == NOW
