"""The stage of a rotation, from the org's answers to both keys."""

from dataclasses import replace
from datetime import timedelta

import pytest

from monitor.core.connection import Pair, Source
from monitor.core.history import History, Slot, Stage, changes
from monitor.core.keys.credential import CredentialFacts, KeyFacts
from monitor.core.outcome import Exchange, NotSent, Outcome, Refused
from monitor.core.rotation import (
    AT_FIRST,
    LATELY,
    SELDOM,
    SOON,
    STEP,
    advanced,
    due,
    own_look,
    with_pairs,
)
from tests.making import ACME, GRANTED, NOT_APPROVED, NOW, UNREACHABLE, history

UNPROVEN = Refused(400, "invalid_grant", "invalid assertion", "")
NO_CLIENT = Refused(400, "invalid_client", "invalid client credentials", "")
BARE = Refused(400, "invalid_grant", "", "")
DOWN = Refused(503, "", "", "HTML page: Down for maintenance")
THROTTLED = Refused(400, "invalid_grant", "login rate exceeded", "")
ACME_NEXT = replace(ACME, next=Pair(Source("file", "/keys/acme-next.pem")))
MINUTE = timedelta(minutes=1)


def facts(fingerprint: str) -> CredentialFacts:
    return CredentialFacts(KeyFacts("rsa", 2048, fingerprint))


def begun(*, granted: bool = True) -> History:
    past = history(key_fingerprint="one", last_verdict=Exchange(NOW, GRANTED) if granted else None)
    return with_pairs(past, ACME_NEXT, facts("one"), facts("two"), NOW)


def after(*answers: tuple[Outcome | None, Outcome | None], every: timedelta = 5 * MINUTE) -> History:
    """A rotation after answers to the current and the next key, one round each `every`."""
    known = begun()
    for number, (current, tried) in enumerate(answers, 1):
        at = NOW + number * every
        known = advanced(known, ACME_NEXT, known.last_verdict, current, tried, at)
        if current in {GRANTED, UNPROVEN, NOT_APPROVED} and current is not None:
            known = replace(known, last_verdict=Exchange(at, current))
    return known


def stage(known: History) -> Stage:
    assert known.rotation is not None
    return known.rotation.stage


@pytest.mark.parametrize(
    ("answers", "stands"),
    [
        ([(GRANTED, UNPROVEN)], Stage.PREPARED),
        ([(GRANTED, NO_CLIENT)], Stage.PREPARED),
        ([(GRANTED, BARE)], Stage.PREPARED),
        ([(NOT_APPROVED, NOT_APPROVED)], Stage.PREPARED),
        ([(GRANTED, UNREACHABLE)], Stage.PREPARED),
        ([(NotSent("No usable private key."), UNPROVEN)], Stage.PREPARED),
        ([(GRANTED, UNPROVEN), (UNPROVEN, UNPROVEN)], Stage.PROPAGATING),
        ([(GRANTED, UNPROVEN), (UNPROVEN, UNPROVEN), (UNPROVEN, UNPROVEN)], Stage.PROPAGATING),
        ([(GRANTED, UNPROVEN), (UNPROVEN, UNPROVEN), *[(UNPROVEN, UNPROVEN)] * 2], Stage.PREPARED),
        ([(GRANTED, UNPROVEN), (GRANTED, GRANTED)], Stage.PROPAGATING),
        ([(GRANTED, GRANTED)] * 3, Stage.ACCEPTED),
        ([(GRANTED, GRANTED), (UNPROVEN, UNPROVEN)], Stage.PROPAGATING),
        ([(GRANTED, UNPROVEN), (UNPROVEN, GRANTED)], Stage.CURRENT_REFUSED),
        ([(GRANTED, UNPROVEN), (UNPROVEN, UNPROVEN), (None, GRANTED)], Stage.CURRENT_REFUSED),
        ([(UNPROVEN, GRANTED), (NOT_APPROVED, NOT_APPROVED)], Stage.CURRENT_REFUSED),
        ([(UNPROVEN, GRANTED), (UNREACHABLE, UNREACHABLE)], Stage.CURRENT_REFUSED),
        ([(UNPROVEN, GRANTED), (GRANTED, UNPROVEN)], Stage.PROPAGATING),
    ],
)
def test_the_stage_follows_from_the_answers(
    answers: list[tuple[Outcome | None, Outcome | None]], stands: Stage
) -> None:
    assert stage(after(*answers)) is stands


def test_an_unspecific_refusal_counts_only_if_the_current_key_is_granted() -> None:
    assert after((GRANTED, BARE)).keys_accepted == {Slot.NEXT: False}
    assert after((NOT_APPROVED, BARE)).keys_accepted == {}
    assert after((UNREACHABLE, UNREACHABLE)).keys_accepted == {}
    assert after((GRANTED, UNREACHABLE)).keys_accepted == {}


@pytest.mark.parametrize("answer", [DOWN, THROTTLED], ids=["maintenance", "too many logins"])
def test_an_accepted_next_key_stays_so_if_salesforce_cannot_answer(answer: Refused) -> None:
    known = after(*[(GRANTED, GRANTED)] * 3, (GRANTED, answer))

    assert (stage(known), known.keys_accepted) == (Stage.ACCEPTED, {Slot.NEXT: True})


def test_a_stage_keeps_its_start_time() -> None:
    known = after(*[(GRANTED, UNPROVEN)] * 4)

    assert known.rotation is not None
    assert known.rotation.since == NOW
    assert known.rotation.tried_at == NOW + 20 * MINUTE


def test_only_a_different_key_begins_a_rotation() -> None:
    known = after((GRANTED, UNPROVEN))

    assert with_pairs(known, ACME_NEXT, facts("one"), facts("two"), NOW).rotation == known.rotation
    assert with_pairs(known, ACME_NEXT, facts("one"), CredentialFacts(), NOW).rotation == known.rotation
    for ended in (
        with_pairs(known, ACME_NEXT, facts("two"), facts("two"), NOW),
        with_pairs(known, ACME, facts("one"), CredentialFacts(), NOW),
    ):
        assert (ended.rotation, ended.keys_accepted) == (None, {})


def test_a_third_key_begins_a_new_rotation() -> None:
    known = with_pairs(after((UNPROVEN, GRANTED)), ACME_NEXT, facts("one"), facts("three"), NOW + 9 * MINUTE)

    assert stage(known) is Stage.PREPARED
    assert known.keys_accepted == {}
    assert known.rotation is not None
    assert known.rotation.prepared_at == NOW + 9 * MINUTE


def tried(known: History, ago: timedelta, prepared: timedelta = timedelta(0)) -> History:
    assert known.rotation is not None
    return replace(known, rotation=replace(known.rotation, tried_at=NOW - ago, prepared_at=NOW - prepared))


@pytest.mark.parametrize(
    ("known", "outcome", "gap"),
    [
        (begun(), GRANTED, AT_FIRST),
        (begun(), NOT_APPROVED, AT_FIRST),
        (begun(granted=False), UNPROVEN, SOON),
        (after((UNPROVEN, UNPROVEN)), GRANTED, SOON),
        (after((UNPROVEN, UNPROVEN)), None, SOON),
        (after(*[(GRANTED, GRANTED)] * 3), GRANTED, SELDOM),
    ],
)
def test_the_next_key_is_tried_when_useful(known: History, outcome: Outcome, gap: timedelta) -> None:
    assert due(tried(known, gap), ACME_NEXT, known.last_verdict, outcome, NOW)
    just_before = tried(known, gap - timedelta(seconds=1))
    assert not due(just_before, ACME_NEXT, known.last_verdict, outcome, NOW)


def test_the_next_key_is_tried_at_once_when_the_current_one_is_refused() -> None:
    known = tried(begun(), timedelta(seconds=1))

    assert due(known, ACME_NEXT, known.last_verdict, UNPROVEN, NOW)
    assert not due(known, ACME_NEXT, Exchange(NOW, UNPROVEN), UNPROVEN, NOW)


def test_an_old_next_key_is_tried_rarely() -> None:
    was = Exchange(NOW, GRANTED)

    assert due(begun(), ACME_NEXT, was, GRANTED, NOW)
    assert not due(tried(begun(), SELDOM - MINUTE, LATELY), ACME_NEXT, was, GRANTED, NOW)
    assert due(tried(begun(), SELDOM, LATELY), ACME_NEXT, was, GRANTED, NOW)
    assert not due(history(), ACME, was, GRANTED, NOW)


def test_the_next_key_is_tried_separately_only_while_the_certificate_changes() -> None:
    assert own_look(after((GRANTED, UNPROVEN), (UNPROVEN, UNPROVEN)), ACME_NEXT, NOW) == NOW + STEP
    assert own_look(after((GRANTED, UNPROVEN)), ACME_NEXT, NOW) is None
    assert own_look(after((UNPROVEN, GRANTED)), ACME_NEXT, NOW) is None
    assert own_look(history(), ACME, NOW) is None


def test_the_end_of_a_rotation_says_how_it_ended() -> None:
    known = after((UNPROVEN, GRANTED))
    ended = replace(known, rotation=None)

    assert [event.text for event in changes(known, ended)] == [
        "The next key was removed from the configuration."
    ]
    assert [event.text for event in changes(known, replace(ended, key_fingerprint="two"))] == [
        "The next key is now the current one: the rotation is complete."
    ]
