"""Each tale has the expected findings on its days, with real exchanges with the simulator."""

import pytest

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.finding import State
from tests.journeys.driver import Journey
from tests.journeys.tales import TALES, Tale


@pytest.mark.parametrize("tale", TALES, ids=lambda tale: tale.name)
async def test_each_tale_ends_with_its_expected_diagnosis(journey: Journey, tale: Tale) -> None:
    acme = await journey.enter(
        "acme",
        subdomain=tale.subdomain,
        org=dict(tale.org),
        files=tale.files(),
        uploaded=tale.uploaded() if tale.uploaded else None,
        **tale.options,
    )

    for chapter in tale.chapters:
        await journey.at(seconds=chapter.at.total_seconds())

        assert (acme.state, tuple(acme.causes)) == chapter.expected, (chapter.at, acme.status.findings)
        assert set(chapter.may_be) <= set(acme.alternatives), chapter.at
        assert set(chapter.cannot_be).isdisjoint(acme.alternatives), chapter.at
        if chapter.then:
            await chapter.then(acme)


def test_every_cause_in_the_setup_guide_has_a_tale() -> None:
    documented = {cause for cause, entry in CATALOGUE.items() if entry.guide}
    told = {cause for tale in TALES for chapter in tale.chapters for cause in chapter.expected[1]}

    # A sandbox being refreshed takes two connections: test_audits.
    assert documented - {Cause.SANDBOX_REFRESHING} <= told


def test_every_tale_but_one_includes_a_failure() -> None:
    states = [{chapter.expected[0] for chapter in tale.chapters} for tale in TALES]

    # An org that never decays is the one tale in which nothing happens.
    assert [tale.name for tale, seen in zip(TALES, states, strict=True) if seen == {State.HEALTHY}] == [
        "an org where an admin's approval does not age out"
    ]
