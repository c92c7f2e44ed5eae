"""What time it is, whatever the machine's clock is set to."""

from datetime import datetime, timedelta

from monitor.watch.budget import LoginBudget
from monitor.watch.clock import AGREEING, Clock
from tests.making import NOW

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Machine(Clock):
    """A machine whose wall clock can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = timedelta(0)
        self.ahead = timedelta(0)

    def machine(self) -> datetime:
        return NOW + self.passed + self.ahead

    def steady(self) -> float:
        return self.passed.total_seconds()

    def answered(self, *, wrong_by: timedelta = timedelta(0)) -> None:
        """An org answers, whose own clock may be wrong."""
        self.heard((wrong_by - self.ahead).total_seconds())


def test_the_machines_clock_is_used_until_an_org_has_answered() -> None:
    clock = Machine()
    clock.ahead = DAY

    assert clock.now() == NOW + DAY


def test_a_wall_clock_set_wrongly_is_corrected_before_the_next_answer() -> None:
    clock = Machine()
    clock.answered()

    clock.passed, clock.ahead = HOUR, 450 * DAY

    assert clock.now() == NOW + HOUR
    assert clock.correction() == -450 * DAY


def test_a_clock_wrong_from_the_start_is_corrected_once_answers_agree() -> None:
    clock = Machine()
    clock.ahead = 40 * DAY

    told = []
    for _ in range(AGREEING):
        clock.answered()
        told.append(clock.now() - NOW)

    assert told == [40 * DAY, 40 * DAY, timedelta(0)]


def test_one_wrong_date_among_many_answers_is_ignored() -> None:
    clock = Machine()
    for _ in range(2 * AGREEING):
        clock.answered(wrong_by=-DAY)
        clock.answered()

    assert clock.now() == NOW


def test_wrong_dates_that_disagree_are_ignored() -> None:
    clock = Machine()
    for days in range(1, 10):
        clock.answered(wrong_by=days * DAY)

    assert clock.now() == NOW


def test_after_a_suspension_the_machines_clock_is_used_again_at_the_first_answer() -> None:
    """A paused virtual machine: its steady clock was stopped, its wall clock corrected."""
    clock = Machine()
    clock.answered()
    clock.ahead = 8 * HOUR  # the orgs' clocks went on as well
    assert clock.now() == NOW

    clock.heard(0.0)

    assert clock.now() == NOW + 8 * HOUR


def test_a_budget_counts_an_hour_whatever_the_clock_is_set_to() -> None:
    """A check while the clock was weeks ahead stopped all checks of its username for those weeks."""
    clock = Machine()
    budget = LoginBudget(2, clock)

    def take() -> timedelta | None:
        until = budget.take("Integration@acme.com", clock.machine())
        return until - clock.machine() if until else None

    clock.ahead = 40 * DAY
    assert take() is None
    clock.ahead = timedelta(0)
    assert [take(), take()] == [None, HOUR]
    clock.ahead = -2 * HOUR
    assert take() == HOUR
    clock.passed = HOUR
    assert take() is None
