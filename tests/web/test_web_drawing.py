"""What is drawn: geometry from facts."""

import re
from datetime import date, timedelta

import pytest

from monitor.core.finding import State
from monitor.core.history import Approval
from monitor.core.verdict.approval import Forecast, Grounds
from monitor.store import DayCounts
from monitor.web.drawing import DAY_WIDTH, STRIP_DAYS, shares, strip, timeline
from tests.making import NOW, history

TODAY = date(2026, 11, 23)


def day(ago: int, granted: int = 0, refused: int = 0, no_verdict: int = 0) -> DayCounts:
    return DayCounts(TODAY - timedelta(days=ago), granted, refused, no_verdict)


def places(path: str) -> list[int]:
    return [int(x) // DAY_WIDTH for x in re.findall(r"M(\d+) ", path)]


def test_grants_are_above_the_line_and_refusals_below() -> None:
    drawn = strip([day(29, granted=4), day(1, granted=2, refused=2), day(0, refused=3)], TODAY)

    assert places(drawn.granted) == [0, 28]
    assert places(drawn.refused) == [28, 29]
    assert all(height.startswith("-") for height in re.findall(r"v(-?\d+)", drawn.granted))
    assert not any(height.startswith("-") for height in re.findall(r"v(-?\d+)", drawn.refused))
    assert drawn.words == "Last 30 days: 2 days with grants, 2 days with refusals"


def test_one_refusal_among_hundreds_of_grants_is_visible() -> None:
    assert re.findall(r"v(\d+)", strip([day(0, granted=288, refused=1)], TODAY).refused) == ["3"]


def test_a_day_without_a_verdict_is_a_dot_and_one_without_a_check_a_gap() -> None:
    drawn = strip([day(3, no_verdict=2), day(2, granted=5, no_verdict=1)], TODAY)

    assert places(drawn.no_verdict) == [26]
    assert places(drawn.granted) == [27]


def test_days_outside_of_the_strip_are_left_out() -> None:
    drawn = strip([day(STRIP_DAYS, granted=1), day(-1, granted=1)], TODAY)

    assert drawn.granted == ""
    assert drawn.words == "Last 30 days: no checks"


def test_the_bar_adds_up_and_a_few_among_thousands_are_visible() -> None:
    none = dict.fromkeys(State, 0)
    parts = shares({**none, State.HEALTHY: 9_999, State.FAILING: 1})

    assert [state for state, _, _ in parts] == [State.FAILING, State.HEALTHY]
    assert parts[0][2] > 0.9
    assert sum(width for _, _, width in parts) == pytest.approx(100, abs=0.01)
    assert shares(none) == []


def test_the_timeline_runs_from_the_first_approval_to_the_forecast() -> None:
    ended = Approval(NOW - timedelta(days=60), NOW - timedelta(days=30))
    known = history(approvals=(ended,), approval_since=NOW - timedelta(days=29))
    coming = Forecast(NOW + timedelta(days=1), Grounds.LEARNT, timedelta(days=30), "")

    drawn = timeline(known, coming, NOW)

    assert drawn is not None
    assert [epoch.kind for epoch in drawn.epochs] == ["ended", "current", "forecast"]
    assert [(epoch.until - epoch.since).days for epoch in drawn.epochs] == [30, 29, 1]
    xs = [epoch.x for epoch in drawn.epochs]
    assert xs == sorted(xs)
    assert drawn.epochs[2].x == drawn.now
    assert all(0 <= epoch.x <= epoch.x + epoch.width <= 100 for epoch in drawn.epochs)
    assert 2 <= len(drawn.ticks) <= 7


@pytest.mark.parametrize(
    "length", [timedelta(0), timedelta(minutes=1), *map(timedelta, (400, 9000, 36_500, 110_000))]
)
def test_a_timeline_of_any_length_has_few_ticks(length: timedelta) -> None:
    drawn = timeline(history(approval_since=NOW - length), None, NOW)

    assert drawn is not None
    assert len(drawn.ticks) <= 7


def test_without_an_approval_there_is_no_timeline() -> None:
    assert timeline(history(), None, NOW) is None
