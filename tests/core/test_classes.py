"""The classes in the catalogue's rows are the sets of causes that were kept elsewhere."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from monitor import discover, runbook
from monitor.core import causes, diagnosis, evidence, history, holds, meaning, rotation
from monitor.core.causes import CATALOGUE, Cause, Entry, Hold, Kind, causes_where
from monitor.core.holds import Holds
from monitor.web import pages


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (evidence.NO_VERDICT, lambda entry: entry.no_verdict),
        (evidence.NO_ORGS_OWN, lambda entry: entry.shared),
        ({Cause.ASSERTION_INVALID, Cause.CLIENT_INVALID}, lambda entry: entry.refuses_signature),
        (diagnosis._UNPROVEN, lambda entry: entry.refuses_signature),
        (rotation.REFUSED_SIGNATURES, lambda entry: entry.refuses_signature),
        (history.NO_LONGER_APPROVED, lambda entry: entry.ends_approval),
        (history.WITHOUT_VERDICT, lambda entry: entry.passing),
        (holds.TRANSIENT, lambda entry: entry.transient),
        (diagnosis._SAYS_NOTHING_OF_CREDENTIALS, lambda entry: entry.kind is not Kind.CREDENTIAL),
        (diagnosis._STOPS_CALLS, lambda entry: entry.stops_calls),
        (meaning._AFTER_LOGIN_CAUSES, lambda entry: entry.stops_calls),
        (diagnosis._SETTLES, lambda entry: entry.settle),
        (diagnosis._IN_THE_WAY, lambda entry: entry.network_mimics),
        (
            {Cause.SALESFORCE_UNAVAILABLE, Cause.LOGIN_RATE_EXCEEDED},
            lambda entry: entry.kind is Kind.SALESFORCE,
        ),
        (discover.NO_PAIRS_FAULT, lambda entry: entry.hopeless),
        (discover.NO_ANSWER, lambda entry: entry.unanswered),
        (causes._UNREACHED, lambda entry: entry.unanswered),
        (discover.WRONG_PAIR, lambda entry: entry.wrong_pair),
        (runbook._NEEDS_NO_EXCHANGE, lambda entry: not entry.needs_exchange),
        (pages.CERTIFICATE_CAUSES, lambda entry: entry.certificate_dates),
    ],
)
def test_each_set_is_a_property_of_its_rows(before: set[Cause], now: Callable[[Entry], object]) -> None:
    assert causes_where(now) == set(before)


@pytest.mark.parametrize("cause", Cause)
def test_the_hold_of_each_cause_is_that_of_its_row(cause: Cause) -> None:
    times = Holds.of((), interval=timedelta(minutes=5), settle=timedelta(minutes=10), transient_for=None)
    by_hold = {
        Hold.CONFIRMED: times.confirmed,
        Hold.TRANSIENT: times.transient,
        Hold.SETTLING: times.settling,
        Hold.THROTTLED: times.throttled,
    }

    assert len(set(by_hold.values())) == len(Hold)
    assert times.of_cause(cause) == by_hold[CATALOGUE[cause].hold]
