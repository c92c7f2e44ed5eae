"""For how much of a time a connection worked."""

from datetime import UTC, date, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from monitor.core.availability import UP, Availability, availability, known_since
from monitor.core.finding import State
from monitor.core.history import Event, EventKind, changes, state_change
from monitor.core.maintenance import Maintenance, Once, Weekly, until
from tests.making import NOW, connection, history

START = datetime(2026, 11, 2, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVERY_DAY = {START.date() + number * DAY for number in range(-1, 10)}


def change(at: datetime, was: State, became: State) -> Event:
    return Event(at, EventKind.STATE, f"The state went from {was} to {became}.", failure=became not in UP)


def test_each_outage_counts_once_over_midnight_too() -> None:
    events = [
        change(START + 22 * HOUR, State.HEALTHY, State.FAILING),
        change(START + 26 * HOUR, State.FAILING, State.HEALTHY),
        change(START + 30 * HOUR, State.HEALTHY, State.FAILING),
        change(START + 31 * HOUR, State.FAILING, State.HEALTHY),
    ]

    found = availability(events, State.HEALTHY, START, START + 2 * DAY, days=EVERY_DAY)

    assert found == Availability(43 * HOUR, 5 * HOUR, 2, 4 * HOUR)
    assert found.share == 43 / 48


def test_unknown_settling_maintenance_and_days_without_a_verdict_are_neither_up_nor_down() -> None:
    events = [
        change(START + 1 * HOUR, State.HEALTHY, State.UNKNOWN),
        change(START + 2 * HOUR, State.UNKNOWN, State.SETTLING),
        change(START + 3 * HOUR, State.SETTLING, State.FAILING),
        change(START + 5 * HOUR, State.FAILING, State.DEGRADED),
    ]
    window = Once(START + 4 * HOUR, START + 6 * HOUR)

    found = availability(
        events, State.DEGRADED, START, START + 2 * DAY, maintenance=[window], days={START.date()}
    )

    assert found == Availability(19 * HOUR, HOUR, 1, HOUR)


def test_without_counted_time_there_is_no_availability() -> None:
    assert availability([], State.HEALTHY, START, START + DAY, days=()).share is None
    assert availability([], State.UNKNOWN, START, START + DAY, days=EVERY_DAY).share is None


def test_without_events_the_state_has_never_changed() -> None:
    assert availability([], State.FAILING, START, START + DAY, days=EVERY_DAY).down == DAY


def test_state_changes_are_read_back_from_events() -> None:
    of = connection()
    before, after = history(of, state=State.HEALTHY), history(of, state=State.FAILING)

    assert [state_change(event) for event in changes(before, after) if event.kind is EventKind.STATE] == [
        (State.HEALTHY, State.FAILING)
    ]
    assert state_change(Event(NOW, EventKind.STATE, "Something else.")) is None


def test_changes_are_known_since_the_oldest_kept_event() -> None:
    kept = {True: 3, False: 2}
    events = [
        change(START + HOUR, State.FAILING, State.HEALTHY),
        change(START + 2 * HOUR, State.HEALTHY, State.FAILING),
    ]

    assert known_since(events, kept, START) == START
    later = [*events, change(START + 3 * HOUR, State.FAILING, State.HEALTHY)]
    assert known_since(later, kept, START) == START + HOUR


minutes = st.integers(0, 3 * 24 * 60)
maintenances = st.one_of(
    st.builds(
        lambda start, long: Once(START + start * MINUTE, START + (start + long) * MINUTE),
        minutes,
        st.integers(1, 600),
    ),
    st.builds(
        lambda weekday, hour, long: Weekly(weekday, time(hour), timedelta(minutes=long), "Europe/Berlin"),
        st.integers(0, 6),
        st.integers(0, 23),
        st.integers(1, 10_000),
    ),
)


@given(
    st.lists(st.tuples(minutes, st.sampled_from(State)), max_size=8, unique_by=lambda each: each[0]),
    st.sampled_from(State),
    st.lists(maintenances, max_size=2),
    st.sets(st.sampled_from([START.date() + number * DAY for number in range(4)])),
    minutes,
)
def test_availability_equals_a_recount_minute_by_minute(
    wanted: list[tuple[int, State]],
    first: State,
    windows: list[Maintenance],
    days: set[date],
    until_minute: int,
) -> None:
    events, now = [], first
    for minute, became in sorted(wanted):
        if became is not now:
            events.append(change(START + minute * MINUTE, now, became))
            now = became
    end = START + until_minute * MINUTE

    up = down = 0
    for minute in range(until_minute):
        at = START + minute * MINUTE
        state = first
        for moment, became in sorted(wanted):
            state = became if moment <= minute else state
        if at.date() in days and not until(windows, at):
            up += state in UP
            down += state is State.FAILING

    found = availability(events, now, START, end, maintenance=windows, days=days)
    assert (found.up, found.down) == (up * MINUTE, down * MINUTE)
