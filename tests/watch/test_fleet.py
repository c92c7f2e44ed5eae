"""What only the whole fleet can tell."""

from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Any

import pytest

from monitor.core.cadence import next_exchange, phase, regular
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.finding import State
from monitor.core.history import Approval, History, Identity
from monitor.core.keys.credential import CredentialFacts
from monitor.core.outcome import FaultKind, Outcome, Refused, Unreachable
from monitor.core.status import ConnectionStatus
from monitor.core.verdict.diagnosis import diagnose
from monitor.watch.clock import Clock
from monitor.watch.fleet import AT_ONCE, Fleet
from tests.making import (
    ACME,
    GRANTED,
    NOT_APPROVED,
    NOW,
    UNREACHABLE,
    connection,
    exchange,
    finding,
    history,
    remember,
)

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def fleet_of(count: int) -> Fleet:
    """A fleet in which every connection works."""
    fleet = Fleet({})
    fleet.configure([connection(name=f"c{n}") for n in range(count)], NOW)
    for status in fleet.statuses():
        fleet.put(replace(status, history=working(status.name)))
    return fleet


def working(org: str = "") -> History:
    """A connection's status, by default with a unique org."""
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


def said(fleet: Fleet, name: str, outcome: Outcome, at: datetime = NOW) -> str:
    """The sentence about the fleet, without its end; "nothing" without a verdict."""
    witnesses = fleet.witnesses(fleet[name], exchange(outcome, at))
    if witnesses is None:
        return "nothing"
    return witnesses.sentence.removesuffix(" UTC failed in the same way")


def test_orgs_that_stopped_alike_are_counted_among_those_checked_since() -> None:
    fleet = fleet_of(7)
    for name in ("c1", "c2"):
        stop(fleet, name, UNREACHABLE, failing_for=timedelta(0))

    assert said(fleet, "c0", UNREACHABLE) == "3 of the 7 orgs checked since 2026-11-23 12:00"


def test_different_kinds_of_fault_are_not_counted_together() -> None:
    fleet = fleet_of(5)
    for name in ("c1", "c2"):
        stop(fleet, name, Unreachable(FaultKind.DNS, "no such host"), failing_for=timedelta(0))

    assert said(fleet, "c0", UNREACHABLE) == ""


def test_a_long_broken_connection_is_no_evidence_about_the_network() -> None:
    fleet = fleet_of(5)
    for name in ("c1", "c2"):
        stop(fleet, name, NOT_APPROVED, failing_for=AT_ONCE + MINUTE)

    assert said(fleet, "c0", NOT_APPROVED) == "nothing"


def test_a_lasting_outage_stays_a_shared_fault() -> None:
    fleet = fleet_of(5)
    for status in fleet.statuses():
        stop(fleet, status.name, UNREACHABLE)

    witnesses = fleet.witnesses(fleet["c0"], exchange(UNREACHABLE, NOW + 10 * AT_ONCE))

    assert witnesses
    assert witnesses.everybodys
    assert "5 of the 5 orgs checked since 2026-11-23 11:59 UTC" in witnesses.sentence


def test_an_already_failing_connection_joins_an_outage_at_the_time_of_the_outage() -> None:
    fleet = fleet_of(5)
    for name in ("c0", "c1", "c2"):
        stop(fleet, name, NOT_APPROVED, failing_for=10 * AT_ONCE)
    for name in ("c0", "c1", "c2"):
        stop(fleet, name, UNREACHABLE, failing_for=10 * AT_ONCE)

    assert said(fleet, "c0", UNREACHABLE) == "3 of the 5 orgs checked since 2026-11-23 12:00"
    assert said(fleet, "c3", UNREACHABLE) == "4 of the 5 orgs checked since 2026-11-23 12:00"


def test_a_connection_that_never_worked_is_not_counted() -> None:
    fleet = fleet_of(5)
    never = history(state=State.FAILING, last_exchange=exchange(NOT_APPROVED), failing_since=NOW)
    fleet.put(replace(fleet["c1"], history=never))

    assert said(fleet, "c0", NOT_APPROVED) == "nothing"


def test_a_grant_is_never_a_shared_fault() -> None:
    fleet = fleet_of(9)

    assert fleet.witnesses(fleet["c0"], exchange()) is None


def test_two_of_three_failing_connections_say_nothing_about_the_fleet() -> None:
    fleet = fleet_of(3)
    stop(fleet, "c1", UNREACHABLE)

    assert said(fleet, "c0", UNREACHABLE) == "nothing"


def test_an_org_not_checked_since_a_fault_began_does_not_count_as_healthy() -> None:
    fleet = fleet_of(9)

    assert said(fleet, "c0", UNREACHABLE, NOW + MINUTE) == "nothing"


def test_an_org_counts_once_however_many_connections_it_has() -> None:
    fleet = fleet_of(8)
    for name in ("c1", "c2", "c3"):
        fleet.put(replace(fleet[name], history=working("acme")))
        stop(fleet, name, UNREACHABLE, failing_for=timedelta(0))

    assert said(fleet, "c0", UNREACHABLE) == "2 of the 6 orgs checked since 2026-11-23 12:00"


def test_connections_of_the_same_org_do_not_make_a_fault_shared() -> None:
    fleet = fleet_of(6)
    for status in fleet.statuses():
        fleet.put(replace(status, history=working("acme")))
        stop(fleet, status.name, UNREACHABLE)

    assert said(fleet, "c0", UNREACHABLE) == "nothing"


def test_rarely_checked_orgs_stop_together_within_their_interval() -> None:
    fleet = Fleet({})
    hourly = timedelta(hours=1)
    fleet.configure([connection(name=f"c{n}", interval=hourly) for n in range(5)], NOW)
    for n, status in enumerate(fleet.statuses()):
        fleet.put(replace(status, history=working(status.name)))
        stop(fleet, status.name, UNREACHABLE, failing_for=hourly / 5 * n)

    assert said(fleet, "c0", UNREACHABLE) == "5 of the 5 orgs checked since 2026-11-23 11:12"


def test_a_recovered_connection_counts_as_healthy_again() -> None:
    fleet = fleet_of(5)
    stop(fleet, "c1", UNREACHABLE)
    fleet.put(replace(fleet["c1"], history=working("c1")))

    assert said(fleet, "c0", UNREACHABLE) == ""


IP_RESTRICTED = Refused(400, "invalid_grant", "ip restricted", "")
UNNAMED = replace(GRANTED, org_id=None, user_id=None)


@pytest.mark.parametrize(
    ("size", "blocked", "responsible", "state"),
    [
        pytest.param(5000, 1600, Responsible.ORG_ADMIN, State.FAILING, id="a third of 5,000 orgs"),
        pytest.param(1000, 1000, Responsible.OPERATOR, State.UNKNOWN, id="each of 1,000 orgs"),
    ],
)
def test_an_outage_of_a_large_fleet_has_one_responsible_and_correct_evidence(
    size: int, blocked: int, responsible: Responsible, state: State
) -> None:
    """Two intervals of checks as the daemon makes them, of which each is judged by those before it."""
    interval = timedelta(minutes=10)
    fleet = Fleet({})
    connections = [
        connection(name=f"customer-{n:04}", login_url=f"https://o{n}.my.salesforce.com", interval=interval)
        for n in range(size)
    ]
    fleet.configure(connections, NOW)
    for status in fleet.statuses():
        asked = NOW - interval * (1 - phase(status.name))
        begun = replace(working(status.name), last_exchange=exchange(at=asked), last_success=asked)
        fleet.put(replace(status, history=begun))
    victims = {one.name for one in connections[:blocked]}
    due = [(regular(one, NOW), one.name) for one in connections]
    heapify(due)
    owners: list[tuple[Responsible, State]] = []
    by_name = {one.name: one for one in connections}
    seen_blocked: set[str] = set()
    while due[0][0] <= NOW + 2 * interval:
        now, name = heappop(due)
        status, of = fleet[name], by_name[name]
        said = exchange(IP_RESTRICTED if name in victims else UNNAMED, now)
        witnesses = fleet.witnesses(status, said)
        verdict = diagnose(said, CredentialFacts(), of, status.history, now, witnesses=witnesses)
        after = remember(status.history, said, verdict)
        fleet.put(replace(status, history=after))
        heappush(due, (next_exchange(of, after, now, refused=fleet.refused), name))
        if name not in victims:
            assert verdict.state is State.HEALTHY
            continue
        seen_blocked.add(name)
        owners.append((verdict.findings[0].responsible, verdict.state))
        if blocked < size:
            assert "not one org's own" not in " ".join(verdict.findings[0].evidence)

    assert seen_blocked == victims
    # The first four are asked before there are five witnesses.
    assert set(owners[4:]) == {(responsible, state)}
    holding = [found for one in fleet.statuses() for found in one.findings]
    assert {(found.cause, found.severity) for found in holding} == {(Cause.IP_RESTRICTED, Severity.CRITICAL)}
    assert len(holding) == len(victims)


def test_configuring_gives_new_changed_and_removed_connections() -> None:
    fleet = fleet_of(3)
    slower = connection(name="c1", interval=timedelta(hours=1))

    changed, gone = fleet.configure([connection(name="c0"), slower, connection(name="c9")], NOW)

    assert (changed, gone) == ({"c1", "c9"}, {"c2"})
    assert [status.name for status in fleet.statuses()] == ["c0", "c1", "c9"]


def test_a_connection_added_again_has_its_history() -> None:
    fleet = fleet_of(1)
    fleet.put(replace(fleet["c0"], history=replace(working(), exchanges=7)))
    fleet.configure([], NOW)

    fleet.configure([connection(name="c0")], NOW)

    assert fleet["c0"].history.exchanges == 7


def test_failures_of_removed_connections_are_still_counted() -> None:
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


def test_refused_connections_are_counted_without_paused_ones() -> None:
    fleet = fleet_of(2)
    refused = replace(working(), state=State.FAILING, consecutive_refusals=2)
    fleet.put(replace(fleet["c0"], history=refused))
    fleet.put(replace(fleet["c1"], connection=connection(name="c1", paused=True), history=refused))

    assert fleet.refused == 1


# What is known grows old


class Steady(Clock):
    """A steady clock that only the test advances, with any wall clock."""

    passed = wrong = timedelta(0)

    def machine(self) -> datetime:
        return NOW + self.passed + self.wrong

    def steady(self) -> float:
        return self.passed.total_seconds()


def looked_at(name: str, at: datetime, **known: Any) -> ConnectionStatus:
    past = history(last_exchange=exchange(at=at), state=State.HEALTHY, **known)
    return ConnectionStatus(connection(name=name), past, next_exchange=at + timedelta(days=40))


def states(fleet: Fleet) -> list[State]:
    return [status.state for status in fleet.statuses()]


def test_a_connection_not_checked_for_long_becomes_unknown_even_if_scheduled() -> None:
    clock = Steady()
    fleet = Fleet({}, clock)
    fleet.put(looked_at("acme", NOW))
    long = 3 * ACME.interval + timedelta(minutes=1)

    clock.passed = long
    before = states(fleet)
    clock.passed += SECOND

    assert (before, states(fleet)) == ([State.HEALTHY], [State.UNKNOWN])
    fleet.put(looked_at("acme", clock.now()))
    assert states(fleet) == [State.HEALTHY]


def test_setting_the_wall_clock_does_not_make_old_states_look_fresh() -> None:
    clock = Steady()
    fleet = Fleet({}, clock)
    clock.wrong = timedelta(days=40)
    fleet.put(looked_at("acme", clock.now()))

    clock.wrong = timedelta(0)
    clock.passed = timedelta(hours=1)

    assert states(fleet) == [State.UNKNOWN]


def test_a_connection_in_back_off_keeps_its_known_state() -> None:
    clock = Steady()
    fleet = Fleet({}, clock)
    refused = looked_at("acme", NOW)
    past = replace(refused.history, state=State.FAILING)
    fleet.put(replace(refused, history=past, next_exchange=NOW + timedelta(hours=1)))

    clock.passed = timedelta(hours=1)
    still = states(fleet)
    clock.passed += timedelta(minutes=2)

    assert (still, states(fleet)) == ([State.FAILING], [State.UNKNOWN])


def test_after_a_start_stored_states_count_until_the_next_check() -> None:
    clock = Steady()
    clock.passed = timedelta(days=2)
    fleet = Fleet({"acme": looked_at("acme", NOW).history}, clock)
    fleet.configure([ACME], clock.now())

    remembered = states(fleet)
    clock.passed += ACME.interval + timedelta(minutes=1, seconds=1)

    assert (remembered, states(fleet)) == ([State.HEALTHY], [State.UNKNOWN])


def test_a_connection_in_back_off_keeps_its_known_state_over_a_restart() -> None:
    """It was unknown from three intervals after the restart on, until its next look."""
    clock = Steady()
    refused = replace(looked_at("acme", NOW).history, state=State.FAILING)
    fleet = Fleet({"acme": refused}, clock)
    fleet.configure([ACME], clock.now())
    fleet.put(replace(fleet["acme"], next_exchange=NOW + timedelta(hours=1)))

    clock.passed = timedelta(hours=1)
    still = states(fleet)
    clock.passed += timedelta(minutes=2)

    assert (still, states(fleet)) == ([State.FAILING], [State.UNKNOWN])


def test_rescheduling_does_not_keep_an_old_state_fresh() -> None:
    clock = Steady()
    fleet = Fleet({}, clock)
    fleet.put(looked_at("acme", NOW))

    for minutes in range(0, 20, 2):
        clock.passed = timedelta(minutes=minutes)
        fleet.put(replace(fleet["acme"], next_exchange=clock.now() + timedelta(minutes=5)))

    assert states(fleet) == [State.UNKNOWN]
