"""A rotation as everybody lives it: the admin uploads, the monitor tells, production switches."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from monitor.core import rotation
from monitor.core.causes import Cause, Responsible
from monitor.core.finding import State
from monitor.core.history import STAGES, Event, EventKind, History, Slot, Stage
from tests.journeys.driver import Journey, Traveller, setting_out
from tests.journeys.keys import pair_files
from tests.journeys.production import Production

MINUTE = timedelta(minutes=1)
TEN = 10 * MINUTE
OFTEN = 5 * MINUTE
TOLD = {Stage.ACCEPTED, Stage.CURRENT_REFUSED}


def stage(traveller: Traveller) -> Stage | None:
    return traveller.history.rotation.stage if traveller.history.rotation else None


def told(traveller: Traveller) -> list[str]:
    return [event.text for event in traveller.events() if event.kind is EventKind.ROTATION]


async def lived(
    journey: Journey,
    acme: Traveller,
    production: Production,
    *,
    until: timedelta,
    each_minute: Callable[[timedelta], Awaitable[object]] | None = None,
) -> None:
    """Minute by minute: due checks, then production's login with the key it was told to use."""
    for minute in range(
        int((journey.clock.now() - acme.history.first_seen) / MINUTE) + 1, until // MINUTE + 1
    ):
        if each_minute:
            await each_minute(minute * MINUTE)
        await journey.at(minutes=minute)
        if stage(acme) in TOLD:
            production.use(pair_files("second"))
        await production.log_in()


@pytest.mark.parametrize("seed", range(3))
async def test_production_that_switches_when_advised_is_refused_only_during_the_switch(
    journey: Journey, seed: int
) -> None:
    chance = Random(seed)
    spread = timedelta(seconds=chance.uniform(0, 600))
    acme = await journey.enter("acme", interval=OFTEN, org={"propagation_seconds": 0})
    await acme.prepare(pair_files("second"))
    production = Production(acme, pair_files())
    upload = timedelta(minutes=chance.randint(20, 40))
    await lived(journey, acme, production, until=upload)
    assert stage(acme) is Stage.PREPARED

    await acme.org(propagation_seconds=spread.total_seconds())
    await acme.upload(pair_files("second"))
    await lived(journey, acme, production, until=upload + 3 * TEN)

    # The monitor's next look finds the change, so production waits for an interval at most.
    assert all(upload <= at <= upload + spread + OFTEN for at in production.refused())
    assert stage(acme) is Stage.CURRENT_REFUSED
    assert told(acme) == [STAGES[Stage.PREPARED], STAGES[Stage.CURRENT_REFUSED]]

    await acme.make_current()
    await lived(journey, acme, production, until=upload + 6 * TEN)

    assert max(production.refused(), default=upload) <= upload + TEN + OFTEN
    assert (acme.state, stage(acme)) == (State.HEALTHY, None)
    assert told(acme)[-1] == "The next key is now the current one: the rotation is complete."


@pytest.mark.parametrize("seed", range(2))
async def test_servers_that_disagree_for_ten_minutes_lead_to_one_clear_verdict(
    journey: Journey, seed: int
) -> None:
    chance = Random(seed)
    acme = await journey.enter("acme", interval=OFTEN)
    await acme.prepare(pair_files("second"))
    production = Production(acme, pair_files())
    upload = timedelta(minutes=30)

    async def another_server(at: timedelta) -> None:
        if upload <= at <= upload + TEN:
            new = at == upload + TEN or chance.random() < (at - upload) / TEN
            await acme.upload(pair_files("second" if new else "first"))

    await lived(journey, acme, production, until=upload + 4 * TEN, each_minute=another_server)

    assert all(upload <= at <= upload + TEN + OFTEN for at in production.refused())
    assert stage(acme) is Stage.CURRENT_REFUSED
    assert production.logins[-1].granted


async def test_the_finding_of_a_refused_current_key_says_to_switch(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await acme.prepare(pair_files("second"))
    await journey.at(hours=1)
    await acme.upload(pair_files("second"))
    await journey.at(hours=1, minutes=10)

    found = acme.finding(Cause.ASSERTION_INVALID)
    assert found.evidence[0] == STAGES[Stage.CURRENT_REFUSED]
    assert found.responsible is Responsible.OPERATOR
    assert acme.history.keys_accepted == {Slot.CURRENT: False, Slot.NEXT: True}


async def test_a_current_key_replaced_within_its_settle_time_is_not_settling(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", interval=MINUTE)
    await acme.prepare(pair_files("second"))
    await journey.at(minutes=2)
    await acme.upload(pair_files("second"))
    await journey.at(minutes=4)

    assert (acme.state, acme.causes) == (State.FAILING, [Cause.ASSERTION_INVALID])
    assert stage(acme) is Stage.CURRENT_REFUSED


async def test_an_admin_can_restore_the_old_certificate(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await acme.prepare(pair_files())  # another file of the same key: nothing to rotate to
    await journey.at(minutes=20)
    assert stage(acme) is None

    await acme.prepare(pair_files("second"))
    await journey.at(minutes=30)
    await acme.upload(pair_files("second"))
    await journey.at(minutes=36)
    assert stage(acme) is Stage.CURRENT_REFUSED

    await acme.upload(pair_files())  # the admin puts the old one back
    await journey.at(minutes=60)
    assert stage(acme) is Stage.PROPAGATING
    await journey.at(hours=3)
    assert (stage(acme), acme.state) == (Stage.PREPARED, State.HEALTHY)


async def test_a_rotation_survives_a_restart(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await acme.prepare(pair_files("second"))
    await journey.at(hours=1)
    before = acme.history.rotation

    await journey.restart()

    assert acme.history.rotation == before is not None


async def test_removing_the_next_pair_ends_the_rotation(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await acme.prepare(pair_files("second"))
    await journey.at(hours=1)
    await acme.reconfigure(next=None)
    await journey.at(hours=2)

    assert stage(acme) is None
    assert acme.history.keys_accepted == {Slot.CURRENT: True}
    assert acme.status.next_credential is None
    assert told(acme)[-1] == "The next key was removed from the configuration."


# What it must not disturb


def of_the_current_key(history: History) -> History:
    accepted: dict[Slot, bool] = {
        slot: was for slot, was in history.keys_accepted.items() if slot is Slot.CURRENT
    }
    return replace(history, rotation=None, keys_accepted=accepted)


async def day_of(folder: Path, *, with_next: bool) -> tuple[list[History], list[Event]]:
    """What is remembered, hour by hour, of a day in which the approval is lost and given again."""
    folder.mkdir()
    remembered = []
    async with setting_out(folder) as journey:
        # An audit would read the next key's logins as well.
        acme = await journey.enter("acme", interval=OFTEN, audit=False)
        if with_next:
            await acme.prepare(pair_files("second"))
        for hour in range(1, 25):
            await journey.at(hours=hour)
            remembered.append(
                replace(of_the_current_key(acme.history), last_exchange=None, last_verdict=None)
            )
            if hour == 8:
                await acme.org(permission_set_assigned=False)
            if hour == 16:
                await acme.approve()
        return remembered, [event for event in acme.events() if event.kind is not EventKind.ROTATION]


async def test_a_refused_next_key_does_not_change_the_verdict_on_the_current_one(tmp_path: Path) -> None:
    without = await day_of(tmp_path / "without", with_next=False)

    assert await day_of(tmp_path / "with", with_next=True) == without


async def test_the_next_key_is_tried_slowly(journey: Journey) -> None:
    acme = await journey.enter("acme", interval=OFTEN)
    await acme.prepare(pair_files("second"))
    await journey.at(days=1)

    tries = [at for at, status in await acme.logins() if status != "Success"]

    assert len([at for at in tries if at <= rotation.LATELY]) <= 13
    assert len([at for at in tries if at > rotation.LATELY]) <= 22
    assert acme.history.failures == 0


async def test_next_keys_of_one_user_share_a_separate_budget(tmp_path: Path) -> None:
    async with setting_out(tmp_path, budget=60) as journey:
        travellers = []
        for number in range(20):
            traveller = await journey.enter(
                f"acme-{number}", subdomain="acme", consumer_key="3MVG9acme",
                username="integration@acme.example", interval=timedelta(hours=1),
            )  # fmt: skip
            travellers.append(await traveller.prepare(pair_files("second")))
        await journey.at(minutes=59)

        logins = [status for _, status in await travellers[0].logins()]
        assert len([status for status in logins if status != "Success"]) == rotation.LOGINS_PER_HOUR
        assert all(traveller.state is State.HEALTHY for traveller in travellers)
