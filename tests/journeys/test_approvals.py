"""What months teach about approvals, and what must not count as a lesson."""

import re
from datetime import timedelta

from monitor.core.causes import Cause, Severity
from monitor.core.finding import Certainty, State
from monitor.core.history import EventKind
from monitor.core.verdict.approval import Grounds
from tests.journeys.driver import Journey, Traveller
from tests.journeys.keys import pair_files
from tests.journeys.wires import nobody_listens
from tests.making import NOW

DAY = timedelta(days=1)
MONTH = {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * 86_400}


def lifetimes(traveller: Traveller) -> list[float]:
    return [approval.days for approval in traveller.history.approvals]


def is_a_month(days: float) -> bool:
    """Measured by a look every half a day."""
    return 30 <= days <= 30.5


async def test_after_one_decay_the_next_is_forecast_in_time(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH)

    await journey.at(days=29)
    assert (acme.state, acme.status.forecast) == (State.HEALTHY, None), "nothing was learnt yet"

    await journey.at(days=33)
    assert acme.causes == [Cause.APPROVAL_DECAYED]
    assert acme.finding(Cause.APPROVAL_DECAYED).certainty is Certainty.LIKELY
    assert {Cause.USER_NOT_ADMIN_APPROVED, Cause.CONSUMER_NOT_APPROVED} <= set(acme.alternatives)
    assert [is_a_month(days) for days in lifetimes(acme)] == [True]

    await acme.approve()  # on day 33, so that it ends on day 63
    await journey.at(days=57)
    assert acme.state is State.HEALTHY
    assert acme.status.forecast is not None
    assert acme.status.forecast.grounds is Grounds.LEARNT
    assert abs(acme.status.forecast.at - (NOW + 63 * DAY)) <= DAY

    await journey.at(days=60)
    assert (acme.state, acme.causes) == (State.DEGRADED, [Cause.APPROVAL_EXPIRING])
    assert acme.finding(Cause.APPROVAL_EXPIRING).since <= NOW + 59 * DAY, "five of thirty days ahead"

    await journey.at(days=64)
    assert acme.causes == [Cause.APPROVAL_DECAYED]
    assert [is_a_month(days) for days in lifetimes(acme)] == [True, True]

    texts = [event.text for event in acme.events() if event.kind is EventKind.APPROVAL]
    granted, ended = "First successful login under this approval.", "The approval ended after 30.x days."
    assert [re.sub(r"30\.\d days", "30.x days", text) for text in texts] == [granted, ended, granted, ended]


async def test_a_decay_on_one_connection_gives_a_forecast_for_others_of_the_same_app(
    journey: Journey,
) -> None:
    app = "3MVG9app"
    await journey.enter("acme", org=MONTH, consumer_key=app)
    await journey.at(days=10)
    globex = await journey.enter("globex", org=MONTH, consumer_key=app)
    other = await journey.enter("initech", org=MONTH)

    await journey.at(days=29)
    assert globex.status.forecast is None

    await journey.at(days=37)
    assert (globex.state, globex.causes) == (State.DEGRADED, [Cause.APPROVAL_EXPIRING])
    assert globex.finding(Cause.APPROVAL_EXPIRING).certainty is Certainty.POSSIBLE
    assert globex.status.forecast is not None
    assert globex.status.forecast.grounds is Grounds.SIBLINGS
    assert abs(globex.status.forecast.at - (NOW + 40 * DAY)) <= DAY
    assert other.state is State.HEALTHY, "another app tells nothing of this one"

    await journey.at(days=41)
    assert globex.causes == [Cause.APPROVAL_DECAYED]


async def test_a_better_policy_ends_the_warning(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH)
    await journey.at(days=31)
    await acme.org(refresh_token_policy="infinite")

    await journey.at(days=60)
    assert acme.causes == [Cause.APPROVAL_EXPIRING], "nobody told the monitor of the new policy"

    await journey.at(days=67)
    assert (acme.state, acme.status.forecast) == (State.HEALTHY, None), "it outlived what was foretold"


async def test_an_hour_of_maintenance_changes_neither_history_nor_approval(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH, interval=timedelta(minutes=5))
    await journey.at(hours=1)
    before = acme.history

    await acme.org(maintenance=True)
    await journey.at(hours=2)
    assert (acme.state, acme.causes) == (State.UNKNOWN, [Cause.SALESFORCE_UNAVAILABLE])
    assert acme.finding(Cause.SALESFORCE_UNAVAILABLE).severity is Severity.WARNING
    assert acme.alternatives == [Cause.NETWORK_UNREACHABLE]
    await acme.org(maintenance=False)
    await journey.at(hours=2, minutes=5)

    after = acme.history
    assert (acme.state, acme.causes) == (State.HEALTHY, [])
    assert after.approval_since == before.approval_since
    assert after.first_success == before.first_success
    assert (after.approvals, after.consecutive_refusals) == ((), 0)
    assert set(after.failures_by_cause) == {Cause.SALESFORCE_UNAVAILABLE}


async def test_an_approval_that_ends_during_an_outage_is_a_decay_after_it(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH)
    await journey.at(days=29)
    journey.weather(nobody_listens)
    await journey.at(days=35)
    assert acme.state is State.UNKNOWN

    journey.weather(None)
    await journey.at(days=36)

    assert (acme.state, acme.causes) == (State.FAILING, [Cause.APPROVAL_DECAYED])
    assert acme.history.approval_since is None


async def test_a_key_that_is_replaced_does_not_end_an_approval(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH)
    await journey.at(days=10)
    await acme.replace_key(pair_files("second"))
    await journey.at(days=10, minutes=9)
    assert acme.causes == [Cause.PROPAGATION_PENDING]
    await acme.org(certificate=pair_files("second").certificate.decode())  # in this org a new approval

    await journey.at(days=39)
    assert acme.state is State.HEALTHY
    assert acme.history.approval_since == NOW

    await journey.at(days=41)
    assert acme.causes == [Cause.APPROVAL_DECAYED]


async def test_removing_a_permission_set_does_not_count_as_an_approval_lifetime(journey: Journey) -> None:
    acme = await journey.enter("acme")
    await journey.at(days=30)
    await acme.org(permission_set_assigned=False)
    await journey.at(days=31)
    assert acme.causes == [Cause.USER_NOT_ADMIN_APPROVED]
    assert acme.history.approval_since is None

    await acme.approve()
    await journey.at(days=60)

    assert (acme.state, lifetimes(acme), acme.status.forecast) == (State.HEALTHY, [], None)
    assert acme.history.approval_since is not None
    assert acme.history.approval_since >= NOW + 31 * DAY


async def test_another_app_in_the_configuration_begins_a_new_approval(journey: Journey) -> None:
    acme = await journey.enter("acme", org=MONTH)
    await journey.at(days=20)
    await acme.org(consumer_key="3MVG9new", permission_set_assigned=True)
    await acme.reconfigure(consumer_key="3MVG9new")

    await journey.at(days=21)

    assert acme.state is State.HEALTHY
    assert acme.history.approval_since == NOW + 20 * DAY
