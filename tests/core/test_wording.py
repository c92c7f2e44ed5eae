"""What a remedy says to the people of one connection."""

from dataclasses import replace

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Pair, Source
from monitor.core.wording import steps
from tests.making import ACME

REFUSED = CATALOGUE[Cause.ASSERTION_INVALID]


def test_the_first_step_that_mentions_the_app_names_it() -> None:
    named = steps(REFUSED, replace(ACME, app="Billing"))

    assert 'select the app "Billing", and' in named[0]
    assert "\n".join(named).count("Billing") == 1
    assert "select the app, and" in steps(REFUSED, ACME)[0]


def test_steps_about_the_next_key_need_a_next_pair() -> None:
    rotating = replace(ACME, next=Pair(Source("file", "/keys/next.pem")))

    assert "next key" in steps(REFUSED, rotating)[0]
    assert not [step for step in steps(REFUSED, replace(ACME, next=None)) if "next key" in step]
