"""Checks brought forward: on request, after a key has changed, or after another connection has recovered."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.status import ConnectionStatus
from monitor.watch.budget import LoginBudget
from monitor.watch.clock import Clock
from monitor.watch.soon import (
    AT_MOST_EVERY,
    BETWEEN_KEY_CHECKS,
    BETWEEN_LOGINS,
    BETWEEN_REQUESTS,
    KeyChecks,
    RecoveryChecks,
    asked,
)
from tests.making import NOW, connection, exchange, finding, history

HOUR = timedelta(hours=1)


def status(name: str, cause: Cause | None = None, *, user: str = "", key: str = "") -> ConnectionStatus:
    of = connection(
        name=name, username=user or f"{name}@acme.com", consumer_key=key or f"3MVG9{name}", paused=False
    )
    known = history(
        of,
        state=State.FAILING if cause else State.HEALTHY,
        findings=(finding(cause),) if cause else (),
        last_exchange=exchange(at=NOW - HOUR),
    )
    return ConnectionStatus(of, known, next_exchange=NOW + HOUR)


def well(one: ConnectionStatus) -> ConnectionStatus:
    return replace(one, history=replace(one.history, state=State.HEALTHY, findings=()))


class Standing(Clock):
    """A clock that only the test advances."""

    moved = timedelta(0)

    def machine(self) -> datetime:
        return NOW + self.moved

    def steady(self) -> float:
        return self.moved.total_seconds()


def wished(budget: LoginBudget, *wanted: ConnectionStatus) -> tuple[set[str], set[str]]:
    """Those that are checked, and those that are put off."""
    found = asked(wanted, NOW, [budget])
    return set(found.turns), set(found.put_off)


def test_a_requested_connection_is_checked_at_once() -> None:
    budget = LoginBudget(60, Standing())

    found = asked([status("acme")], NOW, [budget])

    assert found.turns == {"acme": NOW}
    assert wished(budget, status("acme")) == ({"acme"}, set())


def test_a_request_soon_after_a_check_waits_a_few_seconds() -> None:
    just = replace(status("acme"), history=history(last_exchange=exchange(at=NOW - timedelta(seconds=1))))

    found = asked([just], NOW, [LoginBudget(60, Standing())])

    assert found.turns == {"acme": NOW - timedelta(seconds=1) + BETWEEN_REQUESTS}


def test_a_request_for_a_check_that_is_planned_soon_needs_no_login() -> None:
    just = replace(
        status("acme"),
        history=history(last_exchange=exchange(at=NOW)),
        next_exchange=NOW + BETWEEN_REQUESTS,
    )

    used_up = LoginBudget(1, Standing())
    used_up.take(just.connection.username, NOW)

    found = asked([just], NOW, [used_up])

    assert found.turns == {"acme": NOW + BETWEEN_REQUESTS}
    assert not found.put_off


def test_nothing_is_checked_while_paused_or_without_a_login_left() -> None:
    clock = Standing()
    budget = LoginBudget(2, clock)
    shared = [status(name, user="shared@acme.com") for name in "abc"]
    assert budget.take("shared@acme.com", NOW) is None
    clock.moved = HOUR / 2

    assert wished(budget, *shared, status("other")) == ({"a", "other"}, {"b", "c"})
    assert budget.take("SHARED@acme.com", clock.now()) is None
    assert budget.free_in("shared@acme.com") == HOUR / 2
    assert wished(budget, shared[0]) == (set(), {"a"})
    paused = replace(status("p"), connection=connection(name="p", paused=True))
    assert wished(budget, paused) == (set(), set())


def test_after_a_recovery_others_with_its_cause_app_or_user_are_checked_slowly() -> None:
    before = status("mended", Cause.IP_RESTRICTED, user="one@acme.com", key="3MVG9app")
    fleet = [
        before,
        *(status(f"same-{number}", Cause.IP_RESTRICTED) for number in range(500)),
        status("app", Cause.FLOW_DISABLED, key="3MVG9app"),
        status("user", Cause.FLOW_DISABLED, user="ONE@acme.com"),
        status("another", Cause.FLOW_DISABLED),
        status("fine"),
    ]

    turns = RecoveryChecks().after(before, well(before), lambda: fleet, NOW)

    assert turns.keys() == {"app", "user", *(f"same-{number}" for number in range(500))}
    each_second = Counter((turn - NOW) // BETWEEN_LOGINS for turn in turns.values())
    assert set(each_second.values()) == {1}
    assert max(turns.values()) - NOW < timedelta(minutes=9)


def test_a_recovery_elsewhere_causes_at_most_one_check_an_hour() -> None:
    waves, before = RecoveryChecks(), status("mended", Cause.IP_RESTRICTED)
    fleet = [before, status("other", Cause.IP_RESTRICTED)]

    assert waves.after(before, well(before), lambda: fleet, NOW)
    assert not waves.after(before, well(before), lambda: fleet, NOW + BETWEEN_LOGINS)
    assert waves.after(before, well(before), lambda: fleet, NOW + AT_MOST_EVERY - BETWEEN_LOGINS) == {}
    later = [replace(one, next_exchange=NOW + 2 * HOUR) for one in fleet]
    assert waves.after(before, well(before), lambda: later, NOW + AT_MOST_EVERY).keys() == {"other"}


def test_a_check_that_recovers_nothing_does_not_look_at_the_fleet() -> None:
    def fleet() -> list[ConnectionStatus]:
        raise AssertionError

    before = status("one", Cause.IP_RESTRICTED)

    assert RecoveryChecks().after(before, before, fleet, NOW) == {}
    assert RecoveryChecks().after(well(before), well(before), fleet, NOW) == {}


def test_two_recoveries_at_once_share_one_rate_of_checks() -> None:
    waves = RecoveryChecks()
    first, second = status("first", Cause.IP_RESTRICTED), status("second", Cause.FLOW_DISABLED)
    fleet = [first, second, status("a", Cause.IP_RESTRICTED), status("b", Cause.FLOW_DISABLED)]

    turns = waves.after(first, well(first), lambda: fleet, NOW) | waves.after(
        second, well(second), lambda: fleet, NOW
    )

    assert turns == {"a": NOW + BETWEEN_LOGINS, "b": NOW + 2 * BETWEEN_LOGINS}


def test_a_request_for_many_delays_none_of_their_planned_checks() -> None:
    due = [replace(status(f"{number:03}"), next_exchange=NOW) for number in range(100)]

    found = asked(due, NOW, [LoginBudget(60, Standing())])

    assert set(found.turns.values()) == {NOW}


def test_connections_due_sooner_are_not_rescheduled() -> None:
    before = status("one", Cause.IP_RESTRICTED)
    soon = replace(status("soon", Cause.IP_RESTRICTED), next_exchange=NOW)

    assert not RecoveryChecks().after(before, well(before), lambda: [soon], NOW)


def test_after_a_change_of_a_shared_key_its_connections_are_checked_within_a_minute_not_at_once() -> None:
    checks, fleet = KeyChecks(), [status(f"{number:03}") for number in range(300)]

    turns = checks.after(fleet, NOW)

    assert min(turns.values()) == turns["000"] == NOW
    assert len(set(turns.values())) == 300
    assert timedelta(seconds=55) < max(turns.values()) - NOW < timedelta(minutes=1)


def test_another_changed_file_does_not_delay_the_checks_after_the_first() -> None:
    checks, fleet = KeyChecks(), [status(name) for name in "abc"]
    checks.after(fleet[:2], NOW - BETWEEN_KEY_CHECKS / 2)

    assert checks.after(fleet[1:], NOW) == {"c": NOW + 1.5 * BETWEEN_KEY_CHECKS}
    del checks.waiting["b"]  # it was checked
    assert checks.after(fleet[1:2], NOW + HOUR / 2) == {"b": NOW + HOUR / 2}


def test_a_check_that_may_have_begun_with_the_old_key_is_made_again_at_once() -> None:
    checks, due = KeyChecks(), replace(status("due"), next_exchange=NOW)
    first, second, third = (status(name) for name in ("first", "second", "third"))
    checks.after([first], NOW - BETWEEN_KEY_CHECKS / 2)

    turns = checks.after([due, second, first, third], NOW)

    assert turns["due"] == turns["first"] == NOW
    assert turns["third"] - turns["second"] == BETWEEN_KEY_CHECKS


def test_connections_due_sooner_or_paused_are_not_rescheduled_after_a_change_of_their_key() -> None:
    checks, paused = KeyChecks(), replace(status("paused"), next_exchange=None)
    soon = replace(status("soon"), next_exchange=NOW + BETWEEN_KEY_CHECKS / 2)

    assert set(checks.after([status("first"), soon, paused], NOW)) == {"first"}
