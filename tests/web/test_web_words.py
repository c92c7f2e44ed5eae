"""Moments, spans and people in words, and selections in addresses."""

from datetime import timedelta

import pytest
from starlette.datastructures import QueryParams

from monitor.core import wording
from monitor.core.causes import Cause, Responsible
from monitor.core.finding import State
from monitor.web import words
from monitor.web.selection import Order, Selection
from tests.making import NOW


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=47), "47 h"),
        (timedelta(hours=48), "2 days"),
        (timedelta(days=121), "121 days"),
        (timedelta(days=122), "4 months"),
        (timedelta(days=729), "23 months"),
        (timedelta(days=731), "2 years"),
        (timedelta(days=-3), "3 days"),
    ],
)
def test_a_duration_has_one_unit(length: timedelta, expected: str) -> None:
    assert words.span(length) == expected


def test_a_time_is_relative_to_now() -> None:
    assert words.relative(NOW - timedelta(hours=3), NOW) == "3 h ago"
    assert words.relative(NOW + timedelta(days=33), NOW) == "in 33 days"
    assert words.relative(NOW, NOW) == "now"


def test_a_measured_duration_is_short() -> None:
    assert [words.seconds(each) for each in (0.2144, 1.84)] == ["214 ms", "1.8 s"]


@pytest.mark.parametrize("told", [words.WHO, wording.WHO, words.ACTS])
def test_every_responsible_party_has_a_name(told: dict[Responsible, str]) -> None:
    assert set(told) == set(Responsible)


def test_every_state_has_a_text_without_a_finding() -> None:
    assert set(words.WITHOUT_FINDING) == set(State)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(
            states=(State.FAILING, State.PAUSED),
            causes=(Cause.APPROVAL_DECAYED,),
            responsible=(Responsible.OPERATOR,),
            labels=("tier=gold & silver", "x"),
            text="a+b=ü&",
            order=Order.NAME,
        ),
    ],
)
def test_a_selection_survives_the_round_trip_through_its_url(selection: Selection) -> None:
    assert Selection.read(QueryParams(selection.query(page=3).removeprefix("?"))) == selection


def test_a_tile_toggles_its_state() -> None:
    assert Selection().toggled(State.FAILING) == "?state=failing"
    assert Selection(states=(State.FAILING,)).toggled(State.FAILING) == "./"
    assert Selection(states=(State.PAUSED,), text="x").toggled(State.FAILING) == "?state=failing&q=x"
