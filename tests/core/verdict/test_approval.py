from datetime import UTC, date, datetime, timedelta

import pytest

from monitor.core.connection import ApprovalPolicy, Connection
from monitor.core.history import Approval
from monitor.core.inside import Facts
from monitor.core.policy import Policy
from monitor.core.reads import Read, Row
from monitor.core.verdict.approval import SHORTEST_LIFETIME, Grounds, forecast, lifetimes, note
from tests.making import ACME, NOW, connection, history

DAY = timedelta(days=1)


def declared(policy: ApprovalPolicy) -> Connection:
    return connection(approval=policy)


def epoch(days: float, ended_before: float = 0) -> Approval:
    until = NOW - ended_before * DAY
    return Approval(until - days * DAY, until)


def test_a_declared_lifetime_ends_on_the_exact_day() -> None:
    policy = ApprovalPolicy("lifetime", 90, date(2026, 9, 1))

    found = forecast(declared(policy), history(seen=10 * DAY, approval_since=NOW - 10 * DAY), (), NOW)

    assert found is not None
    assert (found.at, found.grounds) == (datetime(2026, 11, 30, tzinfo=UTC), Grounds.DECLARED)


def test_a_declared_day_is_enough_for_a_forecast_before_the_first_grant() -> None:
    found = forecast(declared(ApprovalPolicy("lifetime", 90, date(2026, 9, 1))), history(), (), NOW)

    assert found is not None
    assert found.at == datetime(2026, 11, 30, tzinfo=UTC)


def test_a_declared_lifetime_of_a_century_has_a_forecast() -> None:
    found = forecast(declared(ApprovalPolicy("lifetime", 36_500)), history(approval_since=NOW), (), NOW)

    assert found is not None
    assert found.at == NOW + timedelta(days=36_500)


def test_an_end_in_thousands_of_years_is_no_forecast() -> None:
    """Adding the lead to it was beyond the last day there is: each check failed. So did the page."""
    assert (
        forecast(declared(ApprovalPolicy("lifetime", 36_500, date(9890, 1, 1))), history(), (), NOW) is None
    )
    assert Policy("", "lifetime", 36_500, "months").end(NOW) is None


def test_a_declared_lifetime_without_a_day_counts_from_the_first_grant() -> None:
    since = NOW - 10 * DAY

    found = forecast(declared(ApprovalPolicy("lifetime", 90)), history(approval_since=since), (), NOW)

    assert found is not None
    assert found.at == since + 90 * DAY


@pytest.mark.parametrize(
    ("created", "approvals", "said"),
    [
        ("2026-11-01T00:00:00Z", (), "was given on 2026-11-01"),
        ("2026-11-01T00:00:00Z", (epoch(30, ended_before=11),), "was first seen on 2026-11-13"),
        ("", (), "was first seen on 2026-11-13"),
    ],
    ids=["shown", "an earlier one shown", "none shown"],
)
def test_the_first_grant_is_not_reported_as_the_approvals_creation(
    created: str, approvals: tuple[Approval, ...], said: str
) -> None:
    shown: Row = {"AppName": "Integration", "CreatedDate": created, "LastUsedDate": ""}
    month: Row = {
        "RefreshTokenPolicyType": "SpecificLifetime",
        "RefreshTokenValidityPeriod": 30,
        "RefreshTokenValidityUnit": "Days",
    }
    audit = Facts(NOW, rows={Read.POLICY: (month,), Read.TOKENS: (shown,)}, application="Integration")

    known = history(approval_since=NOW - 10 * DAY, approvals=approvals, audit=audit)

    found = forecast(ACME, known, (), NOW)

    assert found is not None
    assert f"this one {said}" in found.reason


@pytest.mark.parametrize(
    ("granted", "end"),
    [(date(2026, 9, 1), NOW + 26 * DAY), (date(2026, 11, 19), datetime(2026, 12, 19, tzinfo=UTC))],
)
def test_a_declared_day_is_ignored_after_a_later_approval_has_ended(granted: date, end: datetime) -> None:
    policy = ApprovalPolicy("lifetime", 30, granted)
    known = history(approvals=(epoch(30, ended_before=5),), approval_since=NOW - 4 * DAY)

    found = forecast(declared(policy), known, (), NOW)

    assert found is not None
    assert found.at == end


def test_there_is_no_forecast_before_the_first_grant() -> None:
    assert forecast(declared(ApprovalPolicy("lifetime", 90)), history(), (), NOW) is None
    assert forecast(declared(ApprovalPolicy("inactivity", 90)), history(), (), NOW) is None
    assert forecast(ACME, history(approvals=(epoch(30),)), (epoch(30),), NOW) is None


def test_an_inactivity_policy_counts_from_the_last_use_with_a_note_about_our_logins() -> None:
    inactive = declared(ApprovalPolicy("inactivity", 30))

    found = forecast(inactive, history(last_success=NOW, approval_since=NOW - 90 * DAY), (), NOW)

    assert found is not None
    assert found.at == NOW + 30 * DAY
    assert "monitor itself may keep this approval alive" in (note(inactive) or "")


@pytest.mark.parametrize("policy", [None, ApprovalPolicy("lifetime", 30), ApprovalPolicy("until_revoked")])
def test_only_inactivity_policies_have_the_note_about_our_logins(policy: ApprovalPolicy | None) -> None:
    assert note(connection(approval=policy)) is None


@pytest.mark.parametrize("policy", ["until_revoked", "immediately"])
def test_a_declared_policy_without_an_end_outranks_earlier_decays(policy: str) -> None:
    known = history(approvals=(epoch(30),), approval_since=NOW)

    assert forecast(declared(ApprovalPolicy(policy)), known, (epoch(30),), NOW) is None  # type: ignore[arg-type]


def test_a_lifetime_is_learnt_from_the_median_of_earlier_approvals() -> None:
    known = history(approvals=(epoch(30, 100), epoch(7, 60), epoch(30.5, 40)), approval_since=NOW - 20 * DAY)

    found = forecast(ACME, known, (epoch(90),), NOW)

    assert found is not None
    assert (found.at, found.grounds) == (NOW + 10 * DAY, Grounds.LEARNT)
    assert "3 earlier approvals of this connection lasted 30.0 days (median)" in found.reason


def test_connections_of_the_same_app_provide_the_lifetime_if_a_connection_has_none() -> None:
    found = forecast(ACME, history(approval_since=NOW - 20 * DAY), (epoch(30),), NOW)

    assert found is not None
    assert (found.at, found.grounds) == (NOW + 10 * DAY, Grounds.SIBLINGS)


def test_an_approval_of_only_hours_does_not_count_as_a_lifetime() -> None:
    short = epoch(SHORTEST_LIFETIME / DAY - 0.01)

    assert lifetimes((short, epoch(30))) == (30,)
    assert forecast(ACME, history(approvals=(short,), approval_since=NOW), (), NOW) is None


def test_an_approval_that_outlives_its_forecast_proves_it_wrong() -> None:
    def at(age: float) -> bool:
        return forecast(ACME, history(approval_since=NOW - age * DAY), (epoch(30),), NOW) is not None

    assert at(30)
    assert at(35)
    assert not at(35.1)


@pytest.mark.parametrize(("days", "lead_at_least"), [(30, 3), (90, 9), (365, 30)])
def test_the_warning_comes_in_time_relative_to_the_lifetime(days: float, lead_at_least: float) -> None:
    found = forecast(ACME, history(approval_since=NOW), (epoch(days),), NOW)

    assert found is not None
    assert found.at - found.warns_from >= lead_at_least * DAY
    assert found.warns_from > NOW + days / 2 * DAY
