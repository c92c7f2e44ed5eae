"""What happens to all at once is ours, and what a restart must not forget."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from monitor.core.catalogue import causes_where
from monitor.core.causes import Cause, Severity
from monitor.core.finding import State
from monitor.core.history import EventKind
from monitor.core.verdict.diagnosis import CALLS_MISSED
from monitor.core.wording import minute
from tests.journeys.driver import BUDGET_PER_HOUR, Journey, Traveller
from tests.journeys.keys import pair_files
from tests.journeys.wires import (
    Weather,
    no_answer,
    no_resolver,
    no_such_name,
    nobody_listens,
    portal,
    untrusted,
)
from tests.making import NOW

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
OFTEN = 5 * MINUTE
MONTH = {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * 86_400}


async def five(journey: Journey) -> list[Traveller]:
    """Connections of five customers."""
    names = ("acme", "globex", "initech", "umbrella", "hooli")
    return [await journey.enter(name, interval=OFTEN) for name in names]


def counted(fleet: Sequence[Traveller]) -> set[Cause]:
    return {cause for traveller in fleet for cause in traveller.history.failures_by_cause}


async def test_asking_all_the_time_leaves_the_schedule_its_logins(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    put_off = 0
    for minutes in range(2, 122):
        await journey.at(minutes=minutes)
        put_off += len(journey.watch.ask(["acme"]).put_off)

    (deferred,) = journey.watch.own.logins_deferred.collect()
    assert put_off > 0
    assert deferred.samples[0].value == 0
    assert acme.history.exchanges <= BUDGET_PER_HOUR * 2


async def test_impatient_requests_cost_no_logins_beyond_those_that_are_made(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(minutes=2)
    before, put_off = acme.history.exchanges, 0
    for _ in range(60):
        await journey.after(seconds=0.5)
        put_off += len(journey.watch.ask(["acme"]).put_off)

    assert acme.history.exchanges - before in range(5, 15)
    assert put_off == 0


async def test_many_that_are_repaired_together_are_seen_within_minutes(journey: Journey) -> None:
    """A check of one of them is enough: each would have had its own within the hour."""
    files = pair_files()
    customers = [
        await journey.enter(f"customer-{number:03}", files=files, interval=OFTEN) for number in range(60)
    ]
    await journey.at(minutes=20)
    for customer in customers:
        await customer.org(user_active=False)
    await journey.at(hours=3)
    assert {customer.causes[0] for customer in customers} == {Cause.USER_INACTIVE}

    for customer in customers:
        await customer.org(user_active=True)
    journey.watch.ask(["customer-025"])
    await journey.after(minutes=2)

    assert {customer.state for customer in customers} == {State.HEALTHY}


@pytest.mark.parametrize(
    ("outage", "cause"),
    [
        pytest.param(nobody_listens, Cause.NETWORK_UNREACHABLE, id="no connection"),
        pytest.param(no_resolver, Cause.NETWORK_UNREACHABLE, id="no resolver"),
        pytest.param(portal, Cause.NETWORK_UNREACHABLE, id="a captive portal"),
        pytest.param(no_answer, Cause.SALESFORCE_UNAVAILABLE, id="no answers"),
        pytest.param(untrusted, Cause.TLS_UNTRUSTED, id="an interception"),
    ],
)
async def test_a_shared_outage_never_blames_a_credential(
    journey: Journey, outage: Weather, cause: Cause
) -> None:
    fleet = await five(journey)
    await journey.at(hours=1)

    journey.weather(outage)
    await journey.at(hours=3)

    assert {traveller.state for traveller in fleet} == {State.UNKNOWN}
    assert {tuple(traveller.causes) for traveller in fleet} <= {(cause,), (Cause.NETWORK_UNREACHABLE,)}
    assert counted(fleet) <= causes_where(lambda entry: entry.no_verdict)

    journey.weather(None)
    await journey.at(hours=3, minutes=6)

    assert {traveller.state for traveller in fleet} == {State.HEALTHY}
    assert {traveller.history.approval_since for traveller in fleet} <= {
        NOW + n * timedelta(milliseconds=50) for n in range(5)
    }


OUTAGES = [
    pytest.param(nobody_listens, id="no connection"),
    pytest.param(no_such_name, id="a resolver that denies every name"),
    pytest.param(no_resolver, id="no resolver"),
    pytest.param(portal, id="a captive portal"),
    pytest.param(no_answer, id="no answers"),
]


def went_to(fleet: Sequence[Traveller], state: State) -> list[str]:
    """Connections that ever had this finding, according to the stored events."""
    return [
        traveller.connection.name
        for traveller in fleet
        for event in traveller.events()
        if event.kind is EventKind.STATE and event.text.endswith(f"to {state}.")
    ]


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_no_credential_is_blamed_in_an_outage_however_small_the_fleet(
    journey: Journey, outage: Weather, size: int
) -> None:
    fleet = (await five(journey))[:size]
    for name in list(journey.travellers)[size:]:
        await journey.travellers[name].reconfigure(paused=True)
    await journey.at(hours=1)

    journey.weather(outage)
    await journey.after(minutes=25)
    await journey.restart(down_for=timedelta(minutes=1))
    await journey.after(minutes=3)

    assert {traveller.state for traveller in fleet} == {State.UNKNOWN}
    assert len(went_to(fleet, State.UNKNOWN)) >= size
    assert went_to(fleet, State.FAILING) == []


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_noticed_over_a_long_interval_is_a_shared_fault(
    journey: Journey, outage: Weather
) -> None:
    names = ("acme", "globex", "initech", "umbrella", "hooli")
    fleet = [await journey.enter(name, interval=timedelta(hours=6)) for name in names]
    await journey.at(hours=20)

    journey.weather(outage)
    await journey.after(hours=20)

    assert {traveller.state for traveller in fleet} == {State.UNKNOWN}
    assert went_to(fleet, State.FAILING) == []


async def test_an_outage_stays_a_shared_fault_over_a_restart(journey: Journey) -> None:
    fleet = await five(journey)
    await journey.at(hours=1)
    journey.weather(no_such_name)
    await journey.after(hours=1)

    for _ in range(3):
        await journey.restart(down_for=timedelta(minutes=40))
        await journey.after(minutes=20)

    assert {tuple(traveller.causes) for traveller in fleet} == {(Cause.NETWORK_UNREACHABLE,)}
    assert went_to(fleet, State.FAILING) == []


async def test_an_address_refused_by_every_org_is_not_a_credential_fault(journey: Journey) -> None:
    fleet = await five(journey)
    await journey.at(hours=1)

    for traveller in fleet:
        await traveller.org(ip_allowed=False)
    # The first to be refused can't know of the others; each has had its look after the back-off by now.
    await journey.after(minutes=25)

    assert {(traveller.state, *traveller.causes) for traveller in fleet} == {
        (State.UNKNOWN, Cause.IP_RESTRICTED)
    }


async def test_one_missing_host_is_not_a_shared_fault(journey: Journey) -> None:
    fleet = await five(journey)
    await journey.at(hours=1)

    journey.weather(no_such_name, "acme.my.salesforce.com")
    await journey.at(hours=2)

    acme, *others = fleet
    assert (acme.state, acme.causes) == (State.FAILING, [Cause.SUBDOMAIN_UNKNOWN])
    assert {traveller.state for traveller in others} == {State.HEALTHY}


async def test_approvals_that_decay_in_most_orgs_on_one_day_are_still_decays(journey: Journey) -> None:
    names = ("acme", "globex", "initech", "umbrella", "hooli")
    fleet = [await journey.enter(name, org=MONTH) for name in names]

    await journey.at(days=31)

    assert {tuple(traveller.causes) for traveller in fleet} == {(Cause.APPROVAL_DECAYED,)}
    assert {traveller.state for traveller in fleet} == {State.FAILING}


async def test_a_wrong_clock_blames_no_credential(journey: Journey) -> None:
    fleet = await five(journey)
    await journey.at(hours=1)

    journey.our_clock_goes_wrong(timedelta(hours=-1))
    await journey.after(hours=2)

    assert {tuple(traveller.causes) for traveller in fleet} == {(Cause.CLOCK_SKEWED,)}
    assert counted(fleet) == {Cause.CLOCK_SKEWED}
    assert {traveller.history.approval_since is None for traveller in fleet} == {False}


async def test_a_fast_clock_is_reported_while_everything_is_granted(journey: Journey) -> None:
    fleet = await five(journey)
    await journey.at(hours=1)

    journey.our_clock_goes_wrong(timedelta(hours=1))
    await journey.after(hours=1)

    assert {(traveller.state, *traveller.causes) for traveller in fleet} == {
        (State.DEGRADED, Cause.CLOCK_SKEWED)
    }


async def test_a_clock_weeks_ahead_blames_no_certificate_and_stores_no_wrong_times(
    journey: Journey,
) -> None:
    month = pair_files(lives=30 * DAY)
    fleet = [await journey.enter(name, files=month) for name in ("first", "second")]
    await journey.at(days=1)

    journey.our_clock_goes_wrong(timedelta(days=40))
    await journey.after(days=1)

    for traveller in fleet:
        assert traveller.causes == [Cause.CLOCK_SKEWED]
        assert traveller.finding(Cause.CLOCK_SKEWED).severity is Severity.CRITICAL
        assert traveller.history.last_success is not None
        assert traveller.history.last_success <= journey.clock.now()
        assert max(event.at for event in traveller.events()) <= journey.clock.now()

    journey.our_clock_goes_wrong(timedelta(0))
    await journey.after(days=1)

    assert {traveller.state for traveller in fleet} == {State.HEALTHY}


async def test_a_clock_weeks_ahead_from_the_start_blames_no_certificate(journey: Journey) -> None:
    journey.our_clock_goes_wrong(timedelta(days=40))
    acme = await journey.enter("acme", files=pair_files(lives=30 * DAY))

    seen = set()
    for _ in range(10):
        await journey.after(hours=6)
        seen.update(acme.causes)

    assert seen <= {Cause.CLOCK_SKEWED, Cause.PROPAGATION_PENDING}


@pytest.mark.parametrize("fault", [nobody_listens, no_answer, portal])
async def test_a_first_call_that_gets_no_usable_answer_three_times_is_a_finding_until_it_gets_one(
    fault: Weather, journey: Journey
) -> None:
    """It used to stay healthy forever, although no token was proved any more."""
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1)
    journey.weather(fault, "GET")
    seen: list[tuple[int, list[Cause]]] = []
    while acme.history.calls_missed < CALLS_MISSED:
        await journey.after(minutes=5)
        seen.append((acme.history.calls_missed, acme.causes))
    finding = acme.finding(Cause.FIRST_CALL_UNANSWERED)
    proven = acme.history.proven_at
    await journey.restart()
    causes_after_a_restart = acme.causes
    journey.weather(None, "GET")
    await journey.after(minutes=5)

    assert all(not causes for missed, causes in seen if missed < CALLS_MISSED)
    assert finding.severity is Severity.WARNING
    assert proven
    assert finding.evidence[1] == f"The token was last proven to work on {minute(proven)}."
    assert causes_after_a_restart == [Cause.FIRST_CALL_UNANSWERED]
    assert acme.state is State.HEALTHY
    assert acme.history.proven_at == acme.history.last_success


async def test_active_findings_survive_a_restart(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH, interval=timedelta(hours=1))
    await journey.at(days=33)
    before = acme.history
    assert acme.causes == [Cause.APPROVAL_DECAYED]

    await journey.restart(down_for=timedelta(minutes=10))

    assert acme.history == before
    await journey.at(days=34)
    after = acme.history
    assert acme.finding(Cause.APPROVAL_DECAYED).since == before.findings[0].since
    assert after.state_since == before.state_since
    assert after.failing_since == before.failing_since
    assert after.approvals == before.approvals
    assert after.exchanges > before.exchanges
    assert after.failures_by_cause[Cause.APPROVAL_DECAYED] > before.failures_by_cause[Cause.APPROVAL_DECAYED]


async def test_a_process_restarted_daily_learns_like_one_that_never_stops(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH)
    for day in range(1, 62):
        await journey.at(days=day)
        if day == 33:
            await acme.approve()
        await journey.restart()

    assert acme.causes == [Cause.APPROVAL_EXPIRING]
    assert [30 <= approval.days <= 30.5 for approval in acme.history.approvals] == [True]
    assert acme.history.first_success == NOW
    assert len(await acme.logins()) == acme.history.exchanges


async def test_a_paused_connection_is_not_checked_and_resumes_where_it_was(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1)
    await acme.reconfigure(paused=True)
    before = len(await acme.logins())
    await journey.at(days=2)
    assert (len(await acme.logins()), acme.state) == (before, State.PAUSED)

    await acme.reconfigure(paused=False)
    await journey.at(days=2, minutes=5)

    assert acme.state is State.HEALTHY
    assert acme.history.approval_since == NOW


async def test_events_give_the_history_of_a_connection_in_order(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH)
    await journey.at(days=31)
    await acme.approve()
    await journey.at(days=32)
    await acme.reconfigure(audience="https://login.salesforce.com")
    await journey.at(days=33)

    told = [(event.kind, event.cause) for event in acme.events()]

    assert told == [
        (EventKind.CONFIGURATION, None),
        (EventKind.STATE, None),
        (EventKind.APPROVAL, None),
        (EventKind.STATE, Cause.APPROVAL_DECAYED),
        (EventKind.CAUSE, Cause.APPROVAL_DECAYED),
        (EventKind.APPROVAL, Cause.APPROVAL_DECAYED),
        (EventKind.STATE, None),
        (EventKind.CAUSE, Cause.APPROVAL_DECAYED),
        (EventKind.APPROVAL, None),
        (EventKind.CONFIGURATION, None),
        (EventKind.APPROVAL, None),
    ]
