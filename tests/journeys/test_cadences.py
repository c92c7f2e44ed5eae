"""When the monitor knocks, as the orgs' own login histories tell it."""

from datetime import timedelta
from pathlib import Path

import pytest

from monitor.core.causes import Cause
from monitor.core.finding import State
from tests.journeys.driver import Journey, gaps, setting_out
from tests.journeys.keys import pair_files
from tests.journeys.wires import nobody_listens

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
OFTEN = 5 * MINUTE
SUCCESS = "Success"


async def test_a_healthy_connection_logs_in_once_an_interval(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)

    await journey.at(hours=3)

    moments = [at for at, _ in await acme.logins()]
    assert set(gaps(moments[1:])) == {OFTEN}
    assert len(moments) == 37


async def test_a_refusal_is_confirmed_once_and_then_checked_with_back_off(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1)
    await acme.org(permission_set_assigned=False)
    await journey.at(hours=6)

    refused = [at for at, status in await acme.logins() if status != SUCCESS]

    assert refused[0] <= HOUR + OFTEN
    assert gaps(refused)[:3] == [1 * MINUTE, 15 * MINUTE, 30 * MINUTE]
    assert gaps(refused)[3:] == [60 * MINUTE] * 4


async def test_a_repaired_connection_is_noticed_within_the_hour_and_back_on_schedule(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1)
    await acme.org(permission_set_assigned=False)
    await journey.at(hours=6)
    await acme.approve()
    await journey.at(hours=8)

    granted = [at for at, status in await acme.logins() if status == SUCCESS and at > 6 * HOUR]

    assert granted[0] <= 7 * HOUR
    assert max(gaps(granted)) <= OFTEN


async def test_a_new_connection_is_retried_after_two_five_and_ten_minutes(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", interval=OFTEN, org={"permission_set_assigned": False})
    await journey.at(minutes=10)

    assert [at / MINUTE for at, _ in await acme.logins()] == [0, 2, 5, 10]
    assert acme.history.failures_by_cause == {
        Cause.PROPAGATION_PENDING: 3,
        Cause.USER_NOT_ADMIN_APPROVED: 1,
    }


async def test_settling_does_not_shorten_the_following_back_off(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN, org={"permission_set_assigned": False})
    await journey.at(hours=2)

    definitive = [at for at, _ in await acme.logins() if at >= 10 * MINUTE]

    assert gaps(definitive) == [1 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE]


async def test_a_new_key_is_retried_after_two_five_and_ten_minutes(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1, seconds=1)
    await acme.replace_key(pair_files("second"))
    await journey.at(hours=1, minutes=11)

    refused = [at - HOUR for at, status in await acme.logins() if status != SUCCESS]

    assert [at // MINUTE for at in refused] == [0, 2, 5, 10]


async def test_a_longer_configured_settle_time_is_respected(journey: Journey) -> None:
    acme = await journey.enter(
        "acme", interval=OFTEN, settle=30 * MINUTE, org={"permission_set_assigned": False}
    )

    await journey.at(minutes=29)
    states = [acme.state]
    await journey.at(minutes=30)

    assert [*states, acme.state] == [State.SETTLING, State.FAILING]
    assert [at / MINUTE for at, _ in await acme.logins()] == [0, 2, 5, 10, 30]


async def test_after_login_rate_exceeded_checks_are_a_quarter_of_an_hour_apart(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1)
    await acme.org(login_rate_per_hour=0)
    before = acme.history.exchanges
    await journey.at(hours=3)

    # Salesforce writes down only the first of these: our own count must do.
    assert acme.causes == [Cause.LOGIN_RATE_EXCEEDED]
    assert acme.history.exchanges - before <= 2 * HOUR / (15 * MINUTE) + 1


async def test_the_end_of_an_outage_is_noticed_within_an_interval_without_a_burst(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1)
    journey.weather(nobody_listens)
    await journey.at(hours=3)
    during = acme.history.exchanges
    journey.weather(None)
    await journey.at(hours=4)

    after = [at for at, _ in await acme.logins() if at > 3 * HOUR]

    assert during <= 13 + 3 + 2 * HOUR / OFTEN
    assert after[0] <= 3 * HOUR + OFTEN
    assert set(gaps(after)) == {OFTEN}


async def test_connections_of_one_user_share_its_budget_and_all_are_checked(tmp_path: Path) -> None:
    async with setting_out(tmp_path, budget=30) as journey:
        crowd = [
            await journey.enter(
                f"acme-{n}",
                subdomain="acme",
                interval=OFTEN,
                consumer_key="3MVG9acme",
                username="integration@acme.example",
            )
            for n in range(10)
        ]
        await journey.at(hours=6)

        moments = [at for at, _ in await crowd[0].logins()]
        assert max(sum(begin <= at < begin + HOUR for at in moments) for begin in moments) == 30
        turns = [traveller.history.exchanges for traveller in crowd]
        assert sum(turns) == len(moments)
        assert min(turns) >= 6, turns
        assert all(traveller.state is State.HEALTHY for traveller in crowd)


@pytest.mark.parametrize("down_for", [timedelta(0), 20 * MINUTE, 3 * HOUR])
async def test_a_restart_checks_no_sooner_than_the_old_process_would_have(
    journey: Journey, down_for: timedelta
) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await journey.at(hours=1)
    await acme.org(permission_set_assigned=False)
    await journey.at(hours=4)
    due = acme.status.next_exchange

    await journey.restart(down_for=down_for)
    assert due is not None
    await journey.at(hours=8)

    refused = [at for at, status in await acme.logins() if status != SUCCESS]
    assert min(gaps(refused)[3:]) >= HOUR


async def test_a_clock_weeks_ahead_for_one_check_does_not_stop_later_checks(journey: Journey) -> None:
    """It had stopped all checks of the username, hours later, until that false date, shown as healthy."""
    acme = await journey.enter("acme", interval=2 * MINUTE)
    await journey.at(minutes=30)

    journey.our_clock_goes_wrong(timedelta(days=40))
    await journey.after(minutes=2)
    journey.our_clock_goes_wrong(timedelta(0))
    await journey.after(hours=10)

    moments = [at for at, _ in await acme.logins()]
    assert set(gaps(moments[1:])) == {2 * MINUTE}
    assert moments[-1] >= 10 * HOUR
