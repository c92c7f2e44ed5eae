"""What an audit's rows say of each step of the guide, and what they say to a refusal."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor.core import history as histories
from monitor.core.causes import Cause, Severity
from monitor.core.finding import Certainty, Diagnosis, State
from monitor.core.inside import Facts, Logins, summed
from monitor.core.keys.credential import CredentialFacts
from monitor.core.outcome import ApiUsage, Outcome, Refused
from monitor.core.policy import LONGEST_PERIOD, Policy
from monitor.core.reads import QUERIES, Permission, Read, Row
from monitor.core.verdict import approval, audit
from monitor.core.verdict.approval import Grounds
from monitor.core.verdict.diagnosis import diagnose
from monitor.core.verdict.guide import Ruling, Seen, Step
from tests.making import GRANTED, NOT_APPROVED, NOW, SECRET_FIELDS, connection, exchange, history

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
APP = "0xI000000000001AAA"

ACCESS: Row = {
    "PermissionsApiEnabled": True,
    "PermissionsViewSetup": True,
    "PermissionsExternalClientAppViewer": True,
    "PermissionsViewSetupAuditTrail": True,
    "PermissionsManageUsers": False,
}
POLICY: Row = {
    "PermittedUsersPolicyType": "AdminApprovedPreAuthorized",
    "RefreshTokenPolicyType": "Infinite",
    "RefreshTokenValidityPeriod": None,
    "RefreshTokenValidityUnit": None,
    "IpRelaxationPolicyType": "Bypass",
    "RequiredSessionLevel": "STANDARD",
    "PolicyAction": None,
    "LastModifiedDate": "2026-11-20T08:00:00.000+0000",
    "LastModifiedBy.Name": "Ada Admin",
}
ASSIGNMENT: Row = {
    "PermissionSetId": "0PS000000000001AAA",
    "PermissionSetGroupId": None,
    "PermissionSet.ProfileId": None,
    "PermissionSet.Name": "Integration",
    "PermissionSet.PermissionsApiEnabled": True,
    "PermissionSet.License.Name": None,
    "ExpirationDate": None,
    "IsActive": True,
    "IsRevoked": False,
}
OURS = Logins("My Integration", "198.51.100.7", "Success", 12, NOW - DAY, NOW)
AS_IT_SHOULD_BE: dict[Read, tuple[Row, ...]] = {
    Read.ACCESS: (ACCESS,),
    Read.LOGINS: (),
    Read.ORG: ({"IsSandbox": False, "TrialExpirationDate": None},),
    Read.ASSIGNMENTS: (ASSIGNMENT,),
    Read.APP: ({"Id": APP, "MasterLabel": "My Integration"},),
    Read.POLICY: (POLICY,),
    Read.ASSOCIATION: ({"ParentId": "0PS000000000001AAA", "Parent.Name": "Integration"},),
    Read.PROFILE: (),
}


def facts(**different: Any) -> Facts:
    """What the audit of an org reads in which all is as the guide wants it, with what differs."""
    whole = Facts(
        NOW, rows=AS_IT_SHOULD_BE, logins=(OURS,), application="My Integration", address="198.51.100.7"
    )
    return replace(whole, **different)


def with_rows(read: Read, *rows: Row, **different: Any) -> Facts:
    return facts(rows={**AS_IT_SHOULD_BE, read: rows}, **different)


def without(*reads: Read, why: str = "", **access: bool) -> Facts:
    """The facts where these reads were refused, and the asking user's permissions differ."""
    rows = {read: rows for read, rows in AS_IT_SHOULD_BE.items() if read not in reads}
    return facts(rows={**rows, Read.ACCESS: ({**ACCESS, **access},)}, unread=dict.fromkeys(reads, why))


def seen(found: Facts, outcome: Outcome = GRANTED, **different: Any) -> Seen:
    return replace(Seen(found, connection(), outcome, None, None, NOW), **different)


def steps(found: Facts, outcome: Outcome = GRANTED, **different: Any) -> dict[str, Step]:
    return {step.what: step for step in audit.steps(seen(found, outcome, **different))}


def verdict(found: Facts, outcome: Outcome = GRANTED, **past: Any) -> Diagnosis:
    """The diagnosis of an exchange after which this was read, of a connection that worked for 40 days."""
    known = replace(
        history(seen=40 * DAY),
        **{
            "audit": found,
            "first_success": NOW - 40 * DAY,
            "last_success": NOW - DAY,
            "approval_since": NOW - 40 * DAY,
            "failing_since": None if outcome is GRANTED else NOW - MINUTE,
            **past,
        },
    )
    foreseen = approval.forecast(connection(), known, (), NOW)
    return diagnose(exchange(outcome), CredentialFacts(), connection(), known, NOW, forecast=foreseen)


# Right


def test_a_correct_org_has_every_visible_step_right() -> None:
    rulings = {step.what: step.ruling for step in audit.steps(seen(facts(), usage=ApiUsage(100, 15_000)))}

    assert rulings.pop("Proof Key for Code Exchange") is Ruling.CANNOT_BE_SEEN
    assert set(rulings.values()) == {Ruling.RIGHT}
    assert verdict(facts()).state is State.HEALTHY


def test_a_user_hidden_from_the_observer_names_the_missing_permission() -> None:
    hidden = with_rows(Read.USER, observer="observer")

    assert steps(hidden, NOT_APPROVED)["Integration user"].permission == "Manage Users"


# Wrong


def policy(**different: Any) -> Facts:
    return with_rows(Read.POLICY, {**POLICY, **different})


def assignments(*ends: str | None, **different: Any) -> Facts:
    return with_rows(Read.ASSIGNMENTS, *({**ASSIGNMENT, "ExpirationDate": end, **different} for end in ends))


SOON = "2026-11-27T12:00:00.000+0000"
RANGE: Row = {"startAddress": "192.0.2.0", "endAddress": "192.0.2.255"}
PRODUCTION = Logins("Sync", "203.0.113.9", "Restricted IP", 41, NOW - timedelta(hours=2), NOW - MINUTE)

WRONG = {
    "a lifetime": (
        policy(
            RefreshTokenPolicyType="SpecificLifetime",
            RefreshTokenValidityPeriod=90,
            RefreshTokenValidityUnit="Days",
        ),
        ("Refresh Token Policy", Cause.REFRESH_POLICY_WRONG),
    ),
    "inactivity, as numbers": (
        policy(
            RefreshTokenPolicyType="SpecificInactivity",
            RefreshTokenValidityPeriod=3,
            RefreshTokenValidityUnit="2",
        ),
        ("Refresh Token Policy", Cause.REFRESH_POLICY_WRONG),
    ),
    "at once": (policy(RefreshTokenPolicyType="Zero"), ("Refresh Token Policy", Cause.REFRESH_POLICY_WRONG)),
    "addresses enforced": (
        policy(IpRelaxationPolicyType="Enforce_RelaxRefresh"),
        ("IP restrictions", Cause.IP_RESTRICTED),
    ),
    "the profile's ranges leave us out": (
        with_rows(Read.PROFILE, RANGE),
        ("IP restrictions", Cause.IP_RESTRICTED),
    ),
    "high assurance": (
        policy(RequiredSessionLevel="HIGH_ASSURANCE"),
        ("Session level", Cause.SESSION_LEVEL_REQUIRED),
    ),
    "users authorise themselves": (
        policy(PermittedUsersPolicyType="AllSelfAuthorized"),
        ("Permitted Users", Cause.USER_NOT_ADMIN_APPROVED),
    ),
    "an assignment ends": (
        with_rows(
            Read.ASSIGNMENTS,
            ASSIGNMENT,
            {**ASSIGNMENT, "PermissionSet.Name": "Other", "PermissionSetId": "x", "ExpirationDate": SOON},
        ),
        ("Permission set assignments", Cause.PERMISSION_SET_EXPIRING),
    ),
    "the only way into the app ends": (
        assignments(SOON),
        ("Selected Permission Sets", Cause.PERMISSION_SET_EXPIRING),
    ),
    "the app selects a set that the user lacks": (
        with_rows(Read.ASSOCIATION, {"ParentId": "0PS000000000009AAA", "Parent.Name": "Sales"}),
        ("Selected Permission Sets", Cause.USER_NOT_ADMIN_APPROVED),
    ),
    "the app selects no set": (
        with_rows(Read.ASSOCIATION),
        ("Selected Permission Sets", Cause.USER_NOT_ADMIN_APPROVED),
    ),
    "the trial ends": (
        with_rows(Read.ORG, {"TrialExpirationDate": SOON}),
        ("Org expiry", Cause.ORG_EXPIRING),
    ),
    "production is refused": (
        facts(logins=(OURS, PRODUCTION, replace(PRODUCTION, status="Success", last=PRODUCTION.first - DAY))),
        ("Production's logins", Cause.PRODUCTION_REFUSED),
    ),
    "a classic app's approvals end": (
        facts(
            rows={
                **{read: rows for read, rows in AS_IT_SHOULD_BE.items() if read is not Read.POLICY},
                Read.CLASSIC: (
                    {
                        "Id": APP,
                        "OptionsAllowAdminApprovedUsersOnly": True,
                        "OptionsRefreshTokenValidityMetric": True,
                        "RefreshTokenValidityPeriod": 30,
                        "OptionsHasSessionLevelPolicy": False,
                    },
                ),
            }
        ),
        ("Refresh Token Policy", Cause.REFRESH_POLICY_WRONG),
    ),
}


@pytest.mark.parametrize(("found", "expected"), WRONG.values(), ids=WRONG)
def test_a_wrong_step_is_a_finding_while_the_org_still_grants(
    found: Facts, expected: tuple[str, Cause]
) -> None:
    what, cause = expected
    step = steps(found)[what]

    assert (step.ruling, step.cause) == (Ruling.WRONG, cause)
    assert {one.cause for one in verdict(found).findings} == {cause}
    assert verdict(found).state is State.DEGRADED


@pytest.mark.parametrize(("found", "expected"), WRONG.values(), ids=WRONG)
def test_only_what_says_how_soon_it_ends_changes_its_text_with_time(
    found: Facts, expected: tuple[str, Cause]
) -> None:
    today, tomorrow = steps(found), steps(found, now=NOW + DAY)

    changes = today[expected[0]].said != tomorrow[expected[0]].said
    assert changes is today[expected[0]].dated


def test_the_last_assignment_that_gives_access_is_critical_a_week_before_it_ends() -> None:
    (finding,) = verdict(assignments(SOON)).findings

    assert finding.severity is Severity.CRITICAL
    assert "last permission set for the app" in " ".join(finding.evidence)
    assert "The user then loses API Enabled" in " ".join(finding.evidence)


def test_a_required_session_level_is_a_warning_while_logins_are_granted() -> None:
    found = policy(RequiredSessionLevel="HIGH_ASSURANCE", PolicyAction="Block")
    (finding,) = verdict(found).findings

    assert (finding.severity, finding.certainty) == (Severity.WARNING, Certainty.POSSIBLE)
    assert "(PolicyAction: Block)" in finding.evidence[0]
    assert steps(found, NOT_APPROVED)["Session level"].severity is Severity.CRITICAL


def test_where_sources_disagree_on_preauthorised_users_a_warning_names_both() -> None:
    found = policy(
        RefreshTokenPolicyType="SpecificLifetime", RefreshTokenValidityPeriod=90, RefreshTokenValidityUnit="0"
    )
    (finding,) = verdict(found).findings

    assert (finding.severity, finding.certainty) == (Severity.WARNING, Certainty.POSSIBLE)
    assert "setup guide (step 4)" in finding.evidence[0]
    assert "CLI guide" in finding.evidence[0]
    assert "by Ada Admin" in finding.evidence[0]


def test_production_at_our_own_address_is_not_reported_as_refused() -> None:
    same = replace(PRODUCTION, application=OURS.application, address=OURS.address)

    assert steps(facts(logins=(OURS, same)))["Production's logins"].ruling is Ruling.RIGHT


def test_refused_production_is_counted_since_its_last_grant() -> None:
    granted = replace(PRODUCTION, status="Success", first=NOW - 3 * DAY, last=NOW - 3 * timedelta(hours=1))

    said = steps(facts(logins=(OURS, PRODUCTION, granted)))["Production's logins"].said
    found = facts(logins=(OURS, replace(granted, last=NOW), PRODUCTION)).production

    assert "last logged in on 2026-11-23 09:00 UTC; at least 41 of its logins were refused" in said
    assert "Restricted IP, from 203.0.113.9" in said
    assert found is not None
    assert (found.granted, found.refused) == (NOW, 0)


def test_only_new_refusals_of_known_clients_count_as_refused_production() -> None:
    granted = replace(PRODUCTION, status="Success", first=NOW - 3 * DAY, last=NOW - 2 * MINUTE)
    older = replace(PRODUCTION, first=NOW - DAY)
    stranger = replace(older, application="Browser", status="Invalid Password")

    once = facts(logins=(OURS, granted, older)).production
    never = facts(logins=(OURS, granted, stranger)).production

    assert once is not None
    assert (once.refused, once.since) == (1, NOW - MINUTE)
    assert never is not None
    assert (never.refused, never.last) == (0, None)


@pytest.mark.parametrize(
    ("used", "severity"), [(13_499, None), (13_500, Severity.WARNING), (15_000, Severity.CRITICAL)]
)
def test_an_allocation_is_short_in_its_last_tenth(used: int, severity: Severity | None) -> None:
    step = steps(facts(), usage=ApiUsage(used, 15_000))["API allocation"]

    assert (step.severity if step.cause else None) == severity


# The date


@pytest.mark.parametrize(
    ("unit", "period", "end"),
    [
        ("Days", 30, "2026-12-01"),
        ("1", 48, "2026-11-03"),
        ("Months", 3, "2027-02-01"),
        ("2", 1, "2026-12-01"),
    ],
)
def test_a_lifetime_ends_on_its_exact_day_counted_from_the_approvals_creation(
    unit: str, period: int, end: str
) -> None:
    found = policy(
        RefreshTokenPolicyType="SpecificLifetime",
        RefreshTokenValidityPeriod=period,
        RefreshTokenValidityUnit=unit,
    )
    created = datetime(2026, 11, 1, 9, tzinfo=UTC)
    token: Row = {"AppName": "My Integration", "CreatedDate": "2026-11-01T09:00:00.000+0000"}
    known = history(audit=replace(found, rows={**found.rows, Read.TOKENS: (token,)}), approval_since=NOW)

    foreseen = approval.forecast(connection(), known, (), created)

    assert foreseen is not None
    assert foreseen.grounds is Grounds.READ
    assert f"{foreseen.at:%Y-%m-%d}" == end


def test_inactivity_is_counted_from_the_last_use_and_says_that_our_checks_may_be_one() -> None:
    found = policy(
        RefreshTokenPolicyType="SpecificInactivity",
        RefreshTokenValidityPeriod=30,
        RefreshTokenValidityUnit="Days",
    )
    known = history(audit=found, approval_since=NOW - 60 * DAY, last_success=NOW - DAY)

    foreseen = approval.forecast(connection(), known, (), NOW)

    assert foreseen is not None
    assert foreseen.at == NOW + 29 * DAY
    assert "Each check may count as a use" in (approval.note(connection(), found) or "")


def test_a_policy_read_in_the_org_outranks_how_long_earlier_approvals_lasted() -> None:
    ended = tuple(histories.Approval(NOW - n * 40 * DAY, NOW - (n * 40 - 30) * DAY) for n in (3, 2))
    known = history(audit=facts(), approval_since=NOW - DAY, approvals=ended)

    assert approval.forecast(connection(), known, (), NOW) is None
    learnt = approval.forecast(connection(), replace(known, audit=None), (), NOW)
    assert learnt is not None
    assert learnt.grounds is Grounds.LEARNT


# Not readable


@pytest.mark.parametrize(
    ("found", "what", "permission"),
    [
        (
            without(Read.APP, Read.POLICY, PermissionsExternalClientAppViewer=False),
            "Refresh Token Policy",
            "View Setup and Configuration and View all External Client Apps",
        ),
        (
            without(Read.ASSIGNMENTS, PermissionsViewSetup=False),
            "Permission set assignments",
            "View Setup and Configuration",
        ),
        (
            without(Read.ASSOCIATION, why="INVALID_TYPE: sObject type 'SetupEntityAccess' is not supported."),
            "Selected Permission Sets",
            "View Setup and Configuration",
        ),
        (without(Read.ORG, why="no answer"), "Org expiry", ""),
        (
            replace(
                without(Read.APP, Read.POLICY, PermissionsExternalClientAppViewer=False),
                rows={
                    Read.ACCESS: ({**ACCESS, "PermissionsExternalClientAppViewer": False},),
                    Read.ASSIGNMENTS: (ASSIGNMENT,),
                    Read.ASSOCIATION: (),
                },
            ),
            "Selected Permission Sets",
            "View Setup and Configuration and View all External Client Apps",
        ),
        (
            facts(
                rows={Read.ACCESS: (ACCESS,), Read.APP: ()},
                unread={
                    Read.POLICY: "not read: the app was not found",
                    Read.CLASSIC: "INVALID_TYPE: sObject type 'ConnectedApplication' is not supported.",
                },
            ),
            "Session level",
            "View Setup and Configuration",
        ),
    ],
)
def test_an_unreadable_step_names_the_missing_permission(found: Facts, what: str, permission: str) -> None:
    step = steps(found)[what]

    assert (step.ruling, step.permission) == (Ruling.NOT_READABLE, permission)
    assert verdict(found).state is State.HEALTHY


@pytest.mark.parametrize(
    "date", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "1970-01-01"]
)
@pytest.mark.parametrize("unit", ["Hours", "Days", "Months"])
def test_an_absurd_date_is_not_believed_and_costs_no_verdict(date: str, unit: str) -> None:
    rows: dict[Read, tuple[Row, ...]] = {
        **AS_IT_SHOULD_BE,
        Read.ORG: ({"TrialExpirationDate": date},),
        Read.ASSIGNMENTS: ({**ASSIGNMENT, "ExpirationDate": date},),
        Read.POLICY: (
            {
                **POLICY,
                "RefreshTokenPolicyType": "SpecificLifetime",
                "RefreshTokenValidityPeriod": LONGEST_PERIOD,
                "RefreshTokenValidityUnit": unit,
                "LastModifiedDate": date,
            },
        ),
        Read.TOKENS: ({"AppName": "My Integration", "CreatedDate": date, "LastUsedDate": date},),
        Read.TRAIL: ({"CreatedDate": date, "Display": "A change"},),
    }

    found = verdict(facts(rows=rows))

    assert found.state is not State.FAILING
    assert not {Cause.ORG_EXPIRING, Cause.PERMISSION_SET_EXPIRING} & {one.cause for one in found.findings}


def test_an_end_beyond_year_9999_is_ignored() -> None:
    endless = Policy("admin", "lifetime", LONGEST_PERIOD, "months")

    assert endless.end(datetime(9999, 1, 1, tzinfo=UTC)) is None
    assert replace(endless, unit="days").end(datetime(9999, 1, 1, tzinfo=UTC)) is None


def test_an_unknown_value_is_not_readable_and_is_shown() -> None:
    step = steps(policy(RefreshTokenPolicyType="SpecificMoonPhase"))["Refresh Token Policy"]

    assert step.ruling is Ruling.NOT_READABLE
    assert "SpecificMoonPhase" in step.said


@pytest.mark.parametrize("outcome", [GRANTED, NOT_APPROVED], ids=["granted", "refused"])
@pytest.mark.parametrize(
    ("found", "what", "why"),
    [
        (with_rows(Read.POLICY), "Refresh Token Policy", "The org did not show it."),
        (with_rows(Read.POLICY), "Session level", "The org did not show it."),
        (with_rows(Read.POLICY), "Permitted Users", "The org did not show it."),
        (policy(PermittedUsersPolicyType="9"), "Permitted Users", "not shown or not understood"),
        (facts(logins=(), address=""), "Production's logins", "The org did not show it."),
        (facts(logins=(OURS, PRODUCTION)), "Production's logins", "was not seen to log in"),
    ],
)
def test_what_an_audit_asked_in_vain_is_not_said_to_need_a_login(
    found: Facts, what: str, why: str, outcome: Outcome
) -> None:
    step = steps(found, outcome)[what]

    assert step.ruling is Ruling.NOT_READABLE
    assert why in step.said


def test_an_audit_that_is_off_says_nothing() -> None:
    off = connection(audit=False)
    known = history(audit=policy(RefreshTokenPolicyType="Zero"))

    assert diagnose(exchange(), CredentialFacts(), off, known, NOW).findings == ()


# A refusal


INACTIVE: Row = {"Id": "005", "Username": "integration@acme.com", "IsActive": False}

NAMED = {
    "the set is not assigned": (
        with_rows(Read.ASSOCIATION, {"ParentId": "0PS000000000009AAA", "Parent.Name": "Sales"}),
        NOT_APPROVED,
        Cause.USER_NOT_ADMIN_APPROVED,
    ),
    "Login History says so": (
        facts(status="Failed: Not approved for access"),
        NOT_APPROVED,
        Cause.USER_NOT_ADMIN_APPROVED,
    ),
    "an address": (
        facts(status="Restricted IP"),
        Refused(400, "invalid_grant", "not authorized", ""),
        Cause.IP_RESTRICTED,
    ),
    "a frozen user": (
        facts(status="User is frozen"),
        Refused(400, "invalid_grant", "inactive user", ""),
        Cause.USER_INACTIVE,
    ),
    "an inactive user": (with_rows(Read.USER, INACTIVE), NOT_APPROVED, None),
    "no such user": (
        facts(
            rows={
                **AS_IT_SHOULD_BE,
                Read.USER: (),
                Read.ACCESS: ({**ACCESS, "PermissionsManageUsers": True},),
            }
        ),
        NOT_APPROVED,
        Cause.USERNAME_CHANGED,
    ),
    "a policy that ends approvals at once": (
        policy(RefreshTokenPolicyType="Zero", PermittedUsersPolicyType="AllSelfAuthorized"),
        NOT_APPROVED,
        Cause.APPROVAL_DECAYED,
    ),
    "a scope is gone": (
        with_rows(
            Read.SCOPES,
            {
                "OauthScopesAPI": True,
                "OauthScopesREFRESH_TOKEN": False,
                "OauthScopesOFFLINE_ACCESS": False,
            },
        ),
        NOT_APPROVED,
        None,
    ),
    "the app is disabled": (
        with_rows(Read.ENABLED, {"IsEnabled": False, "OauthPluginStatus": "Enabled"}),
        Refused(400, "app_not_found", "External client app is not installed in this org", ""),
        Cause.APP_BLOCKED,
    ),
}


@pytest.mark.parametrize(("found", "refused", "cause"), NAMED.values(), ids=NAMED)
def test_what_an_observer_read_during_a_refusal_makes_its_cause_certain(
    found: Facts, refused: Outcome, cause: Cause | None
) -> None:
    told = verdict(replace(found, observer="observer"), refused)

    if cause is None:  # the answer excludes it, or logins can be granted with it: it is only evidence
        assert told.findings[0].certainty is Certainty.LIKELY
        assert re.search("not active|lack refresh_token", " ".join(told.findings[0].evidence))
    else:
        assert (told.cause, told.findings[0].certainty) == (cause, Certainty.CERTAIN)


BY_ITSELF = {
    "addresses enforced, without any range": (
        policy(IpRelaxationPolicyType="Enforce"),
        "authentication failure",
        (Cause.NOT_AUTHORIZED, Certainty.POSSIBLE),
    ),
    "users authorise themselves": (
        policy(PermittedUsersPolicyType="AllSelfAuthorized"),
        "user hasn't approved this consumer",
        (Cause.APPROVAL_DECAYED, Certainty.LIKELY),
    ),
    "an answer that is certain by itself": (
        with_rows(Read.ASSOCIATION),
        "app must be installed into org",
        (Cause.APP_BLOCKED, Certainty.CERTAIN),
    ),
}


@pytest.mark.parametrize(("found", "answer", "expected"), BY_ITSELF.values(), ids=BY_ITSELF)
def test_a_fault_that_allows_grants_is_never_the_certain_cause_of_a_refusal(
    found: Facts, answer: str, expected: tuple[Cause, Certainty]
) -> None:
    told = verdict(replace(found, observer="observer"), Refused(400, "invalid_grant", answer, ""))

    assert (told.cause, told.findings[0].certainty) == expected


def test_login_historys_status_of_an_earlier_login_is_evidence_for_another_answer() -> None:
    now = Refused(400, "invalid_grant", "user hasn't approved this consumer", "")
    found = facts(status="Restricted IP", observer="observer", at=NOW - timedelta(hours=2))

    told = verdict(found, now, failing_since=NOW - timedelta(hours=2))

    assert (told.cause, told.findings[0].certainty) == (Cause.APPROVAL_DECAYED, Certainty.LIKELY)
    assert 'Login History has this status for our login on 2026-11-23 10:00 UTC: "Restricted IP".' in (
        told.findings[0].evidence
    )


def test_login_historys_status_applies_while_the_answer_stays_the_same() -> None:
    first = verdict(facts(status="Restricted IP", observer="observer"), NOT_APPROVED)
    past = {
        "failing_since": NOW - timedelta(hours=2),
        "last_verdict": exchange(NOT_APPROVED, NOW - MINUTE),
        "findings": first.findings,
    }
    earlier = facts(status="Restricted IP", observer="observer", at=NOW - timedelta(hours=2))
    other = Refused(400, "invalid_grant", "user is inactive", "")

    assert [verdict(earlier, answer, **past).cause for answer in (NOT_APPROVED, other)] == [
        Cause.IP_RESTRICTED,
        Cause.USER_INACTIVE,
    ]


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("user is inactive", Cause.USER_INACTIVE),
        ("app must be installed into org", Cause.APP_BLOCKED),
        ("client identifier invalid", Cause.CONSUMER_KEY_UNKNOWN),
    ],
)
def test_login_historys_status_does_not_override_an_answer_that_is_certain(answer: str, cause: Cause) -> None:
    found = facts(status="Restricted IP", observer="observer", at=NOW - timedelta(hours=2))

    told = verdict(
        found, Refused(400, "invalid_grant", answer, ""), failing_since=NOW - DAY, last_success=NOW - DAY
    )

    assert told.cause is cause


def test_an_observer_that_cannot_see_other_users_does_not_prove_a_username_wrong() -> None:
    found = with_rows(Read.USER, observer="observer")

    assert verdict(found, NOT_APPROVED).cause is Cause.APPROVAL_DECAYED
    assert steps(found, NOT_APPROVED)["Integration user"].ruling is Ruling.NOT_READABLE


@pytest.mark.parametrize("assigned", [(), ({**ASSIGNMENT, "PermissionSet.PermissionsApiEnabled": False},)])
def test_a_user_whose_token_read_the_org_has_api_enabled(assigned: tuple[Row, ...]) -> None:
    silent = {**ACCESS, "PermissionsApiEnabled": None}
    found = facts(rows={**AS_IT_SHOULD_BE, Read.ACCESS: (silent,), Read.ASSIGNMENTS: assigned})

    assert steps(found)["Integration user"].ruling is Ruling.RIGHT
    assert steps(replace(found, observer="observer"))["Integration user"].ruling is Ruling.RIGHT


def test_an_observer_sees_that_no_set_of_a_refused_user_has_api_enabled() -> None:
    found = assignments(None, **{"PermissionSet.PermissionsApiEnabled": False})
    refused = Refused(400, "invalid_grant", "not authorized", "")

    told = verdict(replace(found, observer="observer"), refused)

    assert (told.cause, told.findings[0].certainty) == (Cause.API_DISABLED, Certainty.CERTAIN)
    unseen = with_rows(Read.ASSIGNMENTS, observer="observer")
    assert steps(unseen, NOT_APPROVED)["Integration user"].ruling is Ruling.NOT_READABLE


UNASSIGNED: Row = {"ParentId": "0PS000000000009AAA", "Parent.Name": "Sales"}
IN_A_GROUP: Row = {**ASSIGNMENT, "PermissionSetGroupId": "0PG000000000001AAA"}


@pytest.mark.parametrize("carriers", [(), (UNASSIGNED,)])
def test_after_a_grant_a_missing_assignment_is_only_possible(carriers: tuple[Row, ...]) -> None:
    (finding,) = verdict(with_rows(Read.ASSOCIATION, *carriers)).findings

    assert (finding.cause, finding.severity) == (Cause.USER_NOT_ADMIN_APPROVED, Severity.WARNING)
    assert finding.certainty is Certainty.POSSIBLE


@pytest.mark.parametrize("outcome", [GRANTED, NOT_APPROVED])
@pytest.mark.parametrize(
    "different",
    [
        {Read.POLICY: ()},
        {Read.POLICY: ({**POLICY, "PermittedUsersPolicyType": "SomeoneElse"},)},
        {Read.ASSIGNMENTS: (IN_A_GROUP,)},
        {Read.ASSIGNMENTS: ()},
    ],
    ids=[
        "policy not shown",
        "policy in unknown words",
        "assigned by way of a group",
        "no assignment shown",
    ],
)
def test_a_missing_assignment_proves_nothing_if_there_may_be_another_way(
    different: dict[Read, tuple[Row, ...]], outcome: Outcome
) -> None:
    rows = {**AS_IT_SHOULD_BE, Read.ASSOCIATION: (UNASSIGNED,), **different}
    told = verdict(facts(rows=rows, observer="observer"), outcome)

    step = steps(facts(rows=rows), outcome)["Selected Permission Sets"]
    assert step.ruling is Ruling.NOT_READABLE
    assert Cause.USER_NOT_ADMIN_APPROVED not in {finding.cause for finding in told.findings}


def test_an_ending_set_is_not_the_last_access_if_a_group_may_give_it() -> None:
    group = {**IN_A_GROUP, "PermissionSetId": "0PS000000000005AAA", "PermissionSet.Name": "Group"}
    found = with_rows(Read.ASSIGNMENTS, {**ASSIGNMENT, "ExpirationDate": SOON}, group)

    assert steps(found)["Selected Permission Sets"].ruling is Ruling.NOT_READABLE
    (finding,) = verdict(found).findings
    assert (finding.cause, finding.severity) == (Cause.PERMISSION_SET_EXPIRING, Severity.WARNING)


def test_an_audit_older_than_the_refusal_is_evidence_but_not_proof() -> None:
    found = replace(policy(RefreshTokenPolicyType="Zero"), at=NOW - DAY)

    told = verdict(found, NOT_APPROVED)

    assert (told.cause, told.findings[0].certainty) == (Cause.APPROVAL_DECAYED, Certainty.LIKELY)
    assert "The audit on 2026-11-22 12:00 UTC found: The app's Refresh Token Policy" in " ".join(
        told.findings[0].evidence
    )


def test_a_refusal_names_what_was_changed_in_setup_since_the_last_grant() -> None:
    change: Row = {
        "CreatedDate": "2026-11-23T11:40:00.000+0000",
        "Section": "Manage Users",
        "Action": "PermSetUnassign",
        "Display": "Permission set Integration: unassigned from Integration User",
        "CreatedBy.Name": "Ada Admin",
    }

    told = verdict(with_rows(Read.TRAIL, change), NOT_APPROVED)

    assert (
        "Setup Audit Trail, 2026-11-23 11:40 UTC: Permission set Integration: unassigned from Integration"
        " User (by Ada Admin)."
    ) in told.findings[0].evidence


def test_changes_before_the_last_grant_do_not_explain_a_refusal() -> None:
    change: Row = {"CreatedDate": "2026-11-22T11:40:00.000+0000", "Display": "Changed another app"}

    told = verdict(with_rows(Read.TRAIL, change), NOT_APPROVED)
    spreading = verdict(with_rows(Read.TRAIL, change), NOT_APPROVED, last_success=NOW - DAY - 15 * MINUTE)

    assert "Changed another app" not in " ".join(told.findings[0].evidence)
    assert "Changed another app" in " ".join(spreading.findings[0].evidence)


# Refreshes of sandboxes, as the production org shows them


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("acme.my.salesforce.com", ("acme", "")),
        ("acme--dev.sandbox.my.salesforce.com", ("acme", "dev")),
        ("acme--dev.my.salesforce.com", ("acme", "dev")),
        ("acme--x.scratch.my.salesforce.com", ("acme--x.scratch", "")),
        ("test.salesforce.com", ("test.salesforce.com", "")),
    ],
)
def test_a_sandboxs_host_has_its_production_orgs_subdomain(host: str, expected: tuple[str, str]) -> None:
    assert connection(login_url=f"https://{host}").sandbox == expected


def test_the_latest_refresh_of_a_sandbox_counts_unless_it_ended_before_the_last_grant() -> None:
    ended: Row = {"SandboxName": "Dev", "CopyProgress": 100, "EndDate": "2026-11-23T10:00:00.000+0000"}
    older: Row = {"SandboxName": "Dev", "CopyProgress": 40, "EndDate": None}
    found = with_rows(Read.SANDBOXES, ended, older)

    assert found.refresh_of("dev", NOW - DAY) == (
        "A refresh of the sandbox dev ended on 2026-11-23 10:00 UTC.",
        False,
    )
    assert found.refresh_of("dev", NOW) is None
    assert found.refresh_of("qa", NOW - DAY) is None


def test_a_read_that_was_left_out_says_why_once() -> None:
    step = steps(without(Read.ORG, why="not read: an audit makes at most 8 calls"))["Org expiry"]

    assert step.said == "Organization was not read: an audit makes at most 8 calls."


def test_an_org_that_shows_none_of_the_declared_objects_proves_nothing() -> None:
    needs = connection(objects=(("Account", ("read",)),))

    step = steps(with_rows(Read.OBJECTS), connection=needs)["Object access"]

    assert step.ruling is Ruling.NOT_READABLE


@pytest.mark.parametrize(
    ("licence", "selected", "mentioned"),
    [
        ("Salesforce API Integration", False, True),
        ("Salesforce API Integration", True, False),
        (None, False, False),
    ],
)
def test_a_disputed_licence_is_mentioned_only_if_the_app_selects_none_of_the_users_sets(
    licence: str | None, selected: bool, mentioned: bool
) -> None:
    sets = {Read.ASSIGNMENTS: ({**ASSIGNMENT, "PermissionSet.License.Name": licence},)}
    found = facts(rows={**AS_IT_SHOULD_BE, **sets, **({} if selected else {Read.ASSOCIATION: ()})})

    step = steps(found, NOT_APPROVED)["Selected Permission Sets"]

    assert (step.ruling is Ruling.WRONG) is not selected
    assert ("knowledge article 001453686" in step.said) is mentioned
    assert ("setup guide (steps 5 and 6)" in step.said) is mentioned


# The table of queries


def test_no_query_names_a_field_that_holds_a_secret() -> None:
    values = dict.fromkeys(("user", "username", "app", "label", "profile", "since", "objects"), "x")

    for query in QUERIES.values():
        assert not [field for field in SECRET_FIELDS if field in query.filled(values)]


def test_a_name_with_quotes_cannot_break_out_of_its_text() -> None:
    soql = QUERIES[Read.USER].filled({"username": "o'hara\\@acme.com' OR Id != '"})

    assert "WHERE Username = 'o\\'hara\\\\@acme.com\\' OR Id != \\'' LIMIT 1" in soql


def test_only_missing_permissions_are_named() -> None:
    found = without(Read.APP, PermissionsExternalClientAppViewer=False)

    assert found.lacks(Read.APP) is Permission.VIEW_APPS
    assert found.lacks(Read.ASSIGNMENTS) is None


def test_similar_logins_are_grouped_with_count_and_times() -> None:
    refused, granted = summed(
        (NOW - timedelta(minutes=ago), {"Application": "Sync", "SourceIp": "203.0.113.9", "Status": status})
        for ago, status in ((60, "Success"), (120, "Success"), (30, "Restricted IP"))
    )

    assert (refused.status, refused.count, refused.granted) == ("Restricted IP", 1, False)
    assert (granted.count, granted.last - granted.first) == (2, timedelta(hours=1))
