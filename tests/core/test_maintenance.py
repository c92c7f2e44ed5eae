from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.maintenance import Once, Weekly, ended, until

SATURDAY_EVENING = Weekly(5, time(22), timedelta(hours=4), "Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-12-05T20:59:59", None),
        ("2026-12-05T21:00", "2026-12-06T01:00"),  # 22:00 in Berlin in winter
        ("2026-12-06T00:59", "2026-12-06T01:00"),  # it is Sunday meanwhile
        ("2026-12-06T01:00", None),
        ("2026-07-04T20:00", "2026-07-05T00:00"),  # and in summer
        ("2026-12-04T21:30", None),
    ],
)
def test_a_weekly_maintenance_begins_in_its_time_zone(now: str, ends: str | None) -> None:
    assert until([SATURDAY_EVENING], at(now)) == (at(ends) if ends else None)


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2026-12-06T00:59", "2026-11-29T01:00"),
        ("2026-12-06T01:00", "2026-12-06T01:00"),
        ("2026-12-12T12:00", "2026-12-06T01:00"),  # on the day of the next
    ],
)
def test_the_end_of_the_last_weekly_maintenance_is_known(now: str, last: str) -> None:
    assert ended([SATURDAY_EVENING], at(now)) == at(last)


def test_a_maintenance_has_its_length_even_when_clocks_change() -> None:
    through_the_change = Weekly(5, time(22), timedelta(hours=8), "Europe/Berlin")

    assert until([through_the_change], at("2026-10-24T21:00")) == at("2026-10-25T04:00")


def test_a_weekly_maintenance_of_a_whole_week_never_ends() -> None:
    always = Weekly(0, time(0), timedelta(days=7))

    assert all(until([always], at("2026-11-23T00:00") + timedelta(hours=hour)) for hour in range(14 * 24))


def test_of_several_maintenances_the_latest_end_counts() -> None:
    first = Once(at("2026-12-05T10:00"), at("2026-12-05T12:00"))
    second = Once(at("2026-12-05T11:00"), at("2026-12-05T13:00"))

    assert until((first, second), at("2026-12-05T11:30")) == second.end
    assert until((first, second), at("2026-12-05T10:30")) == first.end
    assert until((first, second), at("2026-12-05T13:00")) is None


@given(
    st.integers(0, 6),
    st.times(),
    st.timedeltas(timedelta(minutes=1), timedelta(days=7)),
    st.timedeltas(timedelta(0), timedelta(days=36_500)),
)
def test_a_weekly_maintenance_ends_within_its_length(
    weekday: int, begins: time, lasts: timedelta, later: timedelta
) -> None:
    now = at("2000-01-01T00:00") + later

    end = until([Weekly(weekday, begins, lasts, "America/New_York")], now)

    assert end is None or now < end <= now + lasts


def test_no_weekly_maintenance_is_left_out_when_clocks_change() -> None:
    tuesdays = Weekly(1, time(17), timedelta(hours=4), "Europe/Berlin")

    windows = list(tuesdays.windows(at("2026-03-01T00:00"), at("2026-05-18T22:03")))

    assert (at("2026-03-17T16:00"), at("2026-03-17T20:00")) in windows
    assert len({start.astimezone(UTC).date() for start, _ in windows}) == len(windows)
