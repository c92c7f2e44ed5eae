"""The bench runs through, with everything in it, on a fleet of a handful: so it can't rot unseen."""

import math
from pathlib import Path

import pytest

from bench import replicas
from bench.__main__ import Sizes, measure
from bench.figures import Figure, median_ratio, percentile
from tests.store.postgres import COMMAND

HANDFUL = Sizes(
    small=4,
    medium=6,
    medium_seconds=1,
    large=8,
    large_seconds=2,
    few=3,
    few_seconds=1,
    rounds=1,
    times=4,
    turn_seconds=0.5,
    start_seconds=1,
    shared=20,
    shared_seconds=1,
    usual=(1500,),
    usual_seconds=9,
    largest=10,
)


def test_every_benchmark_runs_without_missed_or_failed_checks(tmp_path: Path) -> None:
    figures = list(measure(HANDFUL, tmp_path))

    never = [figure for figure in figures if figure.goal == 0]
    assert len(never) == 4 * 3 + 2, (
        "unchecked, missed, failed: for two fleets, on schedule and all at once; and the very large fleet's"
    )
    assert not any(figure.missed for figure in never)
    assert all(math.isfinite(figure.value) and figure.what in str(figure) for figure in figures)
    assert len({figure.what for figure in figures}) == len(figures)


@pytest.mark.real(COMMAND)
def test_replicas_are_compared_with_one_process_with_a_file(tmp_path: Path) -> None:
    figures = list(
        replicas.figures(
            tmp_path / "replicas",
            HANDFUL.shared,
            HANDFUL.shared_seconds,
            HANDFUL.usual,
            HANDFUL.usual_seconds,
        )
    )

    rates = [figure.value for figure in figures if "checks a second" in figure.what]
    [usual] = [
        figure.value for figure in figures if figure.what.startswith("2 replicas, 1,500 at 300 s: checks")
    ]
    assert 2.5 < usual < 7.5, "five are due each second; a new fleet makes fewer at first, or more"
    assert any("due to login" in figure.what and figure.value > 0 for figure in figures)
    shares = [figure.value for figure in figures if "share" in figure.what]
    assert len(rates) == 1 + len(replicas.REPLICAS) + len(HANDFUL.usual)
    assert all(rate > 0 for rate in rates)
    assert len(shares) == len(replicas.REPLICAS)
    assert max(shares) > 0, "one may be less than a tick of the CPU's count"
    assert max(shares) < 1


@pytest.mark.parametrize(
    ("value", "goal", "missed"),
    [(1.5, 1.5, False), (1.51, 1.5, True), (math.nan, 1.5, True), (9.0, None, False)],
    ids=["just met", "missed", "not measured", "no goal"],
)
def test_a_figure_above_its_goal_is_missed(value: float, goal: float | None, *, missed: bool) -> None:
    assert Figure("what", value, goal=goal).missed is missed


def test_a_line_shows_value_goal_and_verdict() -> None:
    assert str(Figure("one", 0.6234, goal=1.5)).split() == ["one", "0.623", "goal", "1.5", "met"]
    assert str(Figure("two", 1234.5, "ms")).split() == ["two", "1,234", "ms"]


def test_percentiles_and_ratios_are_correct() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert math.isnan(percentile([], 0.5))
    assert median_ratio([2, 9, 4], [1, 3, 1]) == 3
