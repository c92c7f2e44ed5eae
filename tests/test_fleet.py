"""What only the whole fleet can tell."""

from dataclasses import replace
from datetime import timedelta

from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.history import Approval, History, Identity
from monitor.core.outcome import FaultKind, Outcome, Unreachable
from monitor.core.status import ConnectionStatus
from monitor.fleet import AT_ONCE, Fleet
from tests.making import NOT_APPROVED, NOW, UNREACHABLE, connection, exchange, finding, history

MINUTE = timedelta(minutes=1)


def fleet_of(count: int) -> Fleet:
    """A fleet in which every connection works."""
    fleet = Fleet({})
    fleet.configure([connection(name=f"c{n}") for n in range(count)], NOW)
    for status in fleet.statuses():
        fleet.put(replace(status, history=working(status.name)))
    return fleet


def working(org: str = "") -> History:
    """Of a connection to an org of its own, unless another one is named."""
    return history(
        state=State.HEALTHY,
        first_success=NOW,
        last_exchange=exchange(),
        consecutive_successes=5,
        identity=Identity(org_id=org),
    )


def stop(fleet: Fleet, name: str, outcome: Outcome, failing_for: timedelta = MINUTE) -> None:
    stopped = replace(
        fleet[name].history,
        state=State.UNKNOWN,
        last_exchange=exchange(outcome),
        consecutive_successes=0,
        failing_since=NOW - failing_for,
    )
    fleet.put(replace(fleet[name], history=stopped))


def test_the_share_counts_the_others_that_stopped_with_the_same_trouble() -> None:
    fleet = fleet_of(5)
    for name in ("c1", "c2"):
        stop(fleet, name, UNREACHABLE)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) == 0.5


def test_another_trouble_is_not_the_same_trouble() -> None:
    fleet = fleet_of(5)
    for name in ("c1", "c2"):
        stop(fleet, name, Unreachable(FaultKind.DNS, "no such host"))

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) == 0


def test_a_connection_that_has_long_been_broken_says_nothing_of_the_network() -> None:
    fleet = fleet_of(5)
    for name in ("c1", "c2"):
        stop(fleet, name, NOT_APPROVED, failing_for=AT_ONCE + MINUTE)

    assert fleet.failing_share(fleet["c0"], exchange(NOT_APPROVED)) is None


def test_an_outage_that_lasts_is_still_everybodys() -> None:
    fleet = fleet_of(5)
    for name in ("c0", "c1", "c2"):
        stop(fleet, name, UNREACHABLE)

    hours_later = exchange(UNREACHABLE, NOW + 10 * AT_ONCE)

    assert fleet.failing_share(fleet["c0"], hours_later) == 0.5


def test_what_had_been_broken_before_joins_an_outage_with_the_moment_of_the_outage() -> None:
    fleet = fleet_of(5)
    for name in ("c0", "c1", "c2"):
        stop(fleet, name, NOT_APPROVED, failing_for=10 * AT_ONCE)
    for name in ("c0", "c1", "c2"):
        stop(fleet, name, UNREACHABLE, failing_for=10 * AT_ONCE)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE, NOW)) == 0.5
    assert fleet.failing_share(fleet["c3"], exchange(UNREACHABLE, NOW)) == 0.75


def test_a_connection_that_never_worked_is_no_witness() -> None:
    fleet = fleet_of(4)
    never = history(state=State.FAILING, last_exchange=exchange(NOT_APPROVED), failing_since=NOW)
    fleet.put(replace(fleet["c1"], history=never))

    assert fleet.failing_share(fleet["c0"], exchange(NOT_APPROVED)) is None


def test_too_few_others_tell_nothing_and_a_grant_needs_no_share() -> None:
    assert (fleet := fleet_of(3)).failing_share(fleet["c0"], exchange(UNREACHABLE)) is None
    assert (fleet := fleet_of(9)).failing_share(fleet["c0"], exchange()) is None


def test_all_of_a_few_that_agree_are_enough() -> None:
    fleet = fleet_of(2)
    stop(fleet, "c1", UNREACHABLE)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) == 1


def test_a_few_that_do_not_agree_tell_nothing() -> None:
    fleet = fleet_of(3)
    stop(fleet, "c1", UNREACHABLE)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) is None


def test_who_was_not_asked_since_a_trouble_began_is_no_witness_of_health() -> None:
    fleet = fleet_of(9)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE, NOW + MINUTE)) is None


def test_the_connections_of_one_org_are_one_witness() -> None:
    fleet = fleet_of(6)
    for name in ("c1", "c2", "c3"):
        fleet.put(replace(fleet[name], history=working("acme")))
        stop(fleet, name, UNREACHABLE)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) == 1 / 3


def test_the_other_connections_of_an_org_tell_nothing_of_other_orgs() -> None:
    fleet = fleet_of(4)
    for name in ("c0", "c1", "c2", "c3"):
        fleet.put(replace(fleet[name], history=working("acme")))
        stop(fleet, name, UNREACHABLE)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) is None


def test_orgs_that_are_asked_seldom_stop_together_within_their_interval() -> None:
    fleet = Fleet({})
    hourly = timedelta(hours=1)
    fleet.configure([connection(name=f"c{n}", interval=hourly) for n in range(4)], NOW)
    for n, status in enumerate(fleet.statuses()):
        fleet.put(replace(status, history=working(status.name)))
        stop(fleet, status.name, UNREACHABLE, failing_for=hourly / 4 * n)

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) == 1


def test_a_connection_that_recovers_is_a_witness_of_health_again() -> None:
    fleet = fleet_of(5)
    stop(fleet, "c1", UNREACHABLE)
    fleet.put(replace(fleet["c1"], history=working("c1")))

    assert fleet.failing_share(fleet["c0"], exchange(UNREACHABLE)) == 0


def test_a_configuration_names_what_is_new_changed_and_gone() -> None:
    fleet = fleet_of(3)
    slower = connection(name="c1", interval=timedelta(hours=1))

    changed, gone = fleet.configure([connection(name="c0"), slower, connection(name="c9")], NOW)

    assert (changed, gone) == ({"c1", "c9"}, {"c2"})
    assert [status.name for status in fleet.statuses()] == ["c0", "c1", "c9"]


def test_a_connection_that_comes_back_has_its_history() -> None:
    fleet = fleet_of(1)
    fleet.put(replace(fleet["c0"], history=replace(working(), exchanges=7)))
    fleet.configure([], NOW)

    fleet.configure([connection(name="c0")], NOW)

    assert fleet["c0"].history.exchanges == 7


def test_the_failures_of_a_connection_that_is_gone_are_still_counted() -> None:
    fleet = fleet_of(1)
    failed = replace(working(), failures_by_cause={Cause.APPROVAL_DECAYED: 3})
    fleet.put(replace(fleet["c0"], history=failed))

    fleet.configure([], NOW)

    assert fleet.retired_failures() == {Cause.APPROVAL_DECAYED: 3}


def test_lifetimes_are_shared_by_the_connections_of_one_app() -> None:
    fleet = Fleet({})
    fleet.configure(
        [connection(name="a"), connection(name="b"), connection(name="c", consumer_key="other")], NOW
    )
    ended = Approval(NOW - 30 * 24 * 60 * MINUTE, NOW)
    for name in ("b", "c"):
        fleet.put(ConnectionStatus(fleet[name].connection, replace(working(), approvals=(ended,))))

    assert fleet.siblings(connection(name="a")) == (ended,)
    assert fleet.siblings(connection(name="b")) == ()


def test_an_approval_that_was_near_its_end_before_a_restart_still_is() -> None:
    day = 24 * 60 * MINUTE
    expiring = finding(Cause.APPROVAL_EXPIRING, NOW - day)
    own = replace(working(), approval_since=NOW - 29 * day, findings=(expiring,))
    lived = Approval(NOW - 59 * day, NOW - 29 * day)
    remembered = {
        "learnt": replace(own, approvals=(lived,)),
        "from_sibling": own,
        "far_from_it": replace(own, findings=()),
    }
    fleet = Fleet(remembered)

    fleet.configure([connection(name=name) for name in remembered], NOW)

    ends = {status.name: status.forecast and status.forecast.at for status in fleet.statuses()}
    assert ends == {"learnt": NOW + day, "from_sibling": NOW + day, "far_from_it": None}


def test_the_refused_are_counted_and_the_paused_are_not() -> None:
    fleet = fleet_of(2)
    refused = replace(working(), state=State.FAILING, consecutive_refusals=2)
    fleet.put(replace(fleet["c0"], history=refused))
    fleet.put(replace(fleet["c1"], connection=connection(name="c1", paused=True), history=refused))

    assert fleet.refused == 1
