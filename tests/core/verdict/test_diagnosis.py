import json
import string
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import ApprovalPolicy, Connection
from monitor.core.finding import Certainty, Diagnosis, State
from monitor.core.history import Approval, Change, History, Identity
from monitor.core.keys.credential import CertificateFacts, CredentialFacts, KeyFacts, Problem
from monitor.core.outcome import (
    AfterLogin,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Outcome,
    Refused,
    Unreachable,
)
from monitor.core.verdict.answer import read_answer
from monitor.core.verdict.approval import forecast
from monitor.core.verdict.diagnosis import diagnose
from monitor.core.verdict.evidence import CLOCK_OFF, FLEET_SHARE, NAME_MAY_RETURN, Witnesses
from monitor.core.verdict.vocabulary import TEXTS
from tests.making import ACME, GRANTED, NOT_APPROVED, NOW, connection, exchange, history, remember

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
NOTHING = CredentialFacts()
LONG = history(
    seen=60 * DAY, first_success=NOW - 60 * DAY, last_success=NOW - 5 * MINUTE, approval_since=NOW - 60 * DAY
)
NEVER = history(seen=2 * DAY)
INVALID_ASSERTION = Refused(400, "invalid_grant", "invalid assertion", "")
SANDBOX = connection(login_url="https://acme--dev.sandbox.my.salesforce.com")


def pair(matches: bool = True, left: timedelta = 3000 * DAY, life: timedelta = 3650 * DAY) -> CredentialFacts:
    """Facts of a good key, and of a certificate with this much of its life left."""
    end = NOW + left
    certificate = CertificateFacts(end - life, end, "0a1b", "c" * 64, "CN=x", "k" if matches else "other")
    mismatch = Problem(Cause.KEY_CERTIFICATE_MISMATCH, "They do not match.")
    return CredentialFacts(KeyFacts("rsa", 2048, "k"), certificate, () if matches else (mismatch,))


def verdict(
    outcome: Outcome,
    known: History = LONG,
    facts: CredentialFacts = NOTHING,
    of: Connection = ACME,
    *,
    now: datetime = NOW,
    offset: float | None = None,
    after: AfterLogin | None = None,
    share: float | None = None,
    siblings: tuple[Approval, ...] = (),
    **more: Any,
) -> Diagnosis:
    if share is not None:
        more["witnesses"] = Witnesses.of_share(share)
    exchange = Exchange(now, outcome, after_login=after, clock_offset_seconds=offset)
    foreseen = forecast(of, known, siblings, now)
    return diagnose(exchange, facts, of, known, now, forecast=foreseen, **more)


def causes(diagnosis: Diagnosis) -> list[Cause]:
    return [finding.cause for finding in diagnosis.findings]


def alternatives(diagnosis: Diagnosis) -> list[Cause]:
    return [other.cause for other in diagnosis.alternatives]


# What the past makes of an answer


def test_a_clean_grant_is_healthy() -> None:
    assert verdict(GRANTED) == Diagnosis(State.HEALTHY)


def test_an_approval_that_worked_for_weeks_has_decayed() -> None:
    found = verdict(NOT_APPROVED, replace(LONG, approvals=(Approval(NOW - 90 * DAY, NOW - 60 * DAY),)))

    assert (found.state, found.cause) == (State.FAILING, Cause.APPROVAL_DECAYED)
    assert found.findings[0].certainty is Certainty.LIKELY
    assert found.findings[0].evidence == (
        'Salesforce answered HTTP 400: "invalid_grant: user hasn\'t approved this consumer".',
        "It worked from 2026-09-24 12:00 UTC until 2026-11-23 11:55 UTC (60 days).",
        "Nothing has changed on our side since 2026-09-24 12:00 UTC.",
        "Earlier approvals of this connection lasted 30.0 days.",
    )
    assert alternatives(found)[0] is Cause.USER_NOT_ADMIN_APPROVED


def test_the_working_time_counts_from_the_last_approval() -> None:
    epochs = (Approval(NOW - 90 * DAY, NOW - 61 * DAY), Approval(NOW - 60 * DAY, NOW - 30 * DAY))
    refused_since = replace(
        LONG, approvals=epochs, approval_since=None, first_success=NOW - 90 * DAY, last_success=NOW - 31 * DAY
    )

    found = verdict(NOT_APPROVED, refused_since)

    assert "It worked from 2026-09-24 12:00 UTC until 2026-10-23 12:00 UTC (29 days)." in (
        found.findings[0].evidence
    )


def test_an_approval_that_worked_for_hours_may_have_ended_otherwise() -> None:
    young = history(seen=DAY / 4, first_success=NOW - DAY / 4, last_success=NOW - MINUTE)

    found = verdict(NOT_APPROVED, young)

    assert (found.cause, found.findings[0].certainty) == (Cause.APPROVAL_DECAYED, Certainty.POSSIBLE)


def test_a_repeated_refusal_is_the_same_decay() -> None:
    ended = replace(
        LONG, approval_since=None, approvals=(Approval(NOW - 60 * DAY, NOW),), consecutive_refusals=3
    )

    assert verdict(NOT_APPROVED, ended, now=NOW + DAY).cause is Cause.APPROVAL_DECAYED


def test_a_connection_that_never_worked_was_never_approved() -> None:
    found = verdict(NOT_APPROVED, NEVER)

    assert found.cause is Cause.CONSUMER_NOT_APPROVED
    assert Cause.APPROVAL_DECAYED not in alternatives(found)


def test_a_failure_after_our_own_change_is_not_a_decay() -> None:
    changed = replace(LONG, changed_at=NOW - 2 * MINUTE * 30, changed=Change.CONFIGURATION)

    found = verdict(NOT_APPROVED, replace(changed, last_success=NOW - 2 * MINUTE * 31))

    assert found.cause is Cause.CONSUMER_NOT_APPROVED
    assert Cause.APPROVAL_DECAYED in alternatives(found)
    assert any("Its configuration changed" in said for said in found.findings[0].evidence)


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (timedelta(0), State.SETTLING),
        (9 * MINUTE, State.SETTLING),
        (10 * MINUTE - timedelta(microseconds=1), State.SETTLING),
        (10 * MINUTE, State.FAILING),
        (-MINUTE, State.FAILING),
    ],
)
def test_a_refusal_settles_within_the_settle_time_of_a_change_only(age: timedelta, state: State) -> None:
    found = verdict(NOT_APPROVED, history(seen=age))

    assert found.state is state
    if state is State.SETTLING:
        assert found.cause is Cause.PROPAGATION_PENDING
        assert alternatives(found)[0] is Cause.CONSUMER_NOT_APPROVED


def test_the_configured_settle_time_counts() -> None:
    patient = connection(settle=timedelta(hours=1))

    assert verdict(NOT_APPROVED, history(seen=30 * MINUTE), of=patient).state is State.SETTLING


SETTLING_TEXTS = {
    "invalid_app_access: user is not admin approved to access this app": True,
    "invalid_client_id: client identifier invalid": True,
    "app_not_found: External client app is not installed in this org": True,
    "invalid_grant: invalid assertion": True,
    "invalid_client: invalid client credentials": True,
    "unsupported_grant_type: grant type not supported": True,
    "invalid_grant: audience is invalid": False,
    "invalid_grant: inactive user": False,
    "invalid_grant: inactive organization": False,
    "invalid_grant: ip restricted": False,
    "invalid_grant: login rate exceeded": False,
    "invalid_grant: expired authorization code": False,
    "invalid_request: scope parameter not supported": False,
    "unknown_error: retry your request": False,
}


@pytest.mark.parametrize(("text", "settles"), SETTLING_TEXTS.items())
def test_only_answers_typical_of_a_changing_app_settle(text: str, settles: bool) -> None:
    error, _, description = text.partition(": ")

    found = verdict(Refused(400, error, description, ""), history(seen=MINUTE))

    assert (found.state is State.SETTLING) is settles


def test_a_server_error_minutes_after_a_change_is_not_settling() -> None:
    assert verdict(Refused(503, "", "", ""), history(seen=MINUTE)).state is State.UNKNOWN


def test_a_sandbox_that_forgot_its_user_was_refreshed() -> None:
    unknown_user = Refused(400, "invalid_grant", "invalid user", "")

    refreshed = verdict(unknown_user, of=SANDBOX)
    elsewhere = verdict(unknown_user)

    assert refreshed.cause is elsewhere.cause is Cause.USERNAME_CHANGED
    assert refreshed.findings[0].certainty is Certainty.LIKELY
    assert elsewhere.findings[0].certainty is Certainty.POSSIBLE
    assert any("refresh" in said for said in refreshed.findings[0].evidence)


def test_an_unknown_answer_after_weeks_may_be_a_decay() -> None:
    found = verdict(Refused(400, "invalid_grant", "the moon is in the wrong phase", ""))

    assert found.cause is Cause.UNRECOGNISED
    assert alternatives(found)[0] is Cause.APPROVAL_DECAYED
    assert "the moon is in the wrong phase" in found.findings[0].evidence[0]


# Our own key and certificate


@pytest.mark.parametrize("outcome", [INVALID_ASSERTION, Refused(400, "invalid_client", "", "")])
def test_a_pair_that_does_not_match_explains_a_refused_signature(outcome: Refused) -> None:
    found = verdict(outcome, facts=pair(matches=False))

    assert (found.cause, found.findings[0].certainty) == (Cause.KEY_CERTIFICATE_MISMATCH, Certainty.CERTAIN)
    assert causes(found) == [Cause.KEY_CERTIFICATE_MISMATCH]


def test_a_pair_that_does_not_match_explains_a_bare_invalid_grant() -> None:
    assert verdict(Refused(400, "invalid_grant", "", ""), facts=pair(matches=False)).cause is (
        Cause.KEY_CERTIFICATE_MISMATCH
    )


def test_a_pair_that_does_not_match_does_not_explain_an_inactive_user() -> None:
    found = verdict(Refused(400, "invalid_grant", "inactive user", ""), facts=pair(matches=False))

    assert causes(found) == [Cause.USER_INACTIVE, Cause.KEY_CERTIFICATE_MISMATCH]


def test_a_pair_that_matches_excludes_a_mismatch() -> None:
    found = verdict(INVALID_ASSERTION, facts=pair())

    assert found.cause is Cause.ASSERTION_INVALID
    assert Cause.KEY_CERTIFICATE_MISMATCH not in alternatives(found)
    assert any("serial number 0a1b" in said for said in found.findings[0].evidence)


def test_an_unknown_pair_leaves_a_mismatch_open() -> None:
    assert alternatives(verdict(INVALID_ASSERTION))[0] is Cause.KEY_CERTIFICATE_MISMATCH


def test_a_key_changed_hours_ago_is_named_beside_a_refused_signature() -> None:
    rekeyed = replace(LONG, changed=Change.KEY, changed_at=NOW - DAY / 8, last_success=NOW - DAY / 6)

    said = verdict(INVALID_ASSERTION, rekeyed, pair()).findings[0].evidence

    assert any("the certificate of the previous key" in sentence for sentence in said)


def test_a_mismatch_is_only_a_warning_while_logins_are_granted() -> None:
    found = verdict(GRANTED, facts=pair(matches=False))

    assert (found.state, found.cause) == (State.DEGRADED, Cause.KEY_CERTIFICATE_MISMATCH)
    assert found.findings[0].severity is Severity.WARNING


@pytest.mark.parametrize("cause", [Cause.KEY_UNREADABLE, Cause.KEY_NOT_RSA, Cause.KEY_TOO_SHORT])
def test_a_key_that_cannot_sign_is_failing_without_a_request(cause: Cause) -> None:
    found = verdict(
        NotSent("No usable private key."), facts=CredentialFacts(problems=(Problem(cause, "It is so."),))
    )

    assert (found.state, found.cause) == (State.FAILING, cause)
    assert found.findings[0].evidence == ("It is so.",)


def test_our_own_fault_never_blames_the_key() -> None:
    problem = Problem(Cause.KEY_TOO_SHORT, "1024 bits")

    found = verdict(
        NotSent("The monitor itself failed: KeyError."), facts=CredentialFacts(problems=(problem,))
    )

    assert (found.state, found.cause) == (State.UNKNOWN, Cause.MONITOR_FAULT)


YEAR = 365 * DAY


EXPIRING, EXPIRED = Cause.CERTIFICATE_EXPIRING, Cause.CERTIFICATE_EXPIRED


@pytest.mark.parametrize(
    ("days_of_life", "days_left", "cause", "severity"),
    [
        (200, 51, None, None),
        (200, 49, EXPIRING, Severity.WARNING),
        (200, 11, EXPIRING, Severity.WARNING),
        (200, 9, EXPIRING, Severity.CRITICAL),
        (200, 0, EXPIRED, Severity.CRITICAL),
        (200, -1, EXPIRED, Severity.CRITICAL),
        (200, 201, Cause.CERTIFICATE_NOT_YET_VALID, Severity.WARNING),
        # A ten-year certificate, as the guide makes it.
        (3650, 850, None, None),
        (3650, 61, None, None),
        (3650, 59, EXPIRING, Severity.WARNING),
        (3650, 15, EXPIRING, Severity.WARNING),
        (3650, 13, EXPIRING, Severity.CRITICAL),
        # A short one: a twentieth of it would be too late.
        (90, 8, EXPIRING, Severity.WARNING),
        (90, 6, EXPIRING, Severity.CRITICAL),
    ],
)
def test_a_certificate_warns_at_a_quarter_of_its_life_or_60_days_and_is_critical_in_7_to_14_days(
    days_of_life: int, days_left: int, cause: Cause | None, severity: Severity | None
) -> None:
    found = verdict(GRANTED, facts=pair(left=days_left * DAY, life=days_of_life * DAY))

    assert found.cause is cause
    assert (found.findings[0].severity if found.findings else None) is severity


def test_a_declared_expiry_counts_if_no_certificate_is_configured() -> None:
    ending = connection(certificate_not_after=NOW + 30 * DAY)

    assert causes(verdict(GRANTED, of=ending)) == [Cause.CERTIFICATE_EXPIRING]
    assert causes(verdict(GRANTED, of=ending, facts=pair())) == []


@pytest.mark.parametrize(
    "outcome",
    [INVALID_ASSERTION, NOT_APPROVED, Refused(400, "invalid_grant", "certificate expired", "")],
)
def test_an_expired_certificate_is_never_the_cause_of_a_refusal(outcome: Refused) -> None:
    found = verdict(outcome, facts=pair(left=-DAY))

    assert found.cause is not Cause.CERTIFICATE_EXPIRED
    assert Cause.CERTIFICATE_EXPIRED in causes(found)


def test_an_expired_certificate_is_an_alternative_to_a_refused_signature() -> None:
    assert alternatives(verdict(INVALID_ASSERTION, facts=pair(left=-DAY)))[0] is Cause.CERTIFICATE_EXPIRED
    assert Cause.CERTIFICATE_EXPIRED not in alternatives(verdict(INVALID_ASSERTION, facts=pair()))


# Clock and fleet


def test_a_measured_offset_makes_an_expired_code_certain() -> None:
    expired = Refused(400, "invalid_grant", "expired authorization code", "")

    assert verdict(expired, offset=660).findings[0].certainty is Certainty.CERTAIN
    assert verdict(expired).findings[0].certainty is Certainty.LIKELY
    assert verdict(expired, offset=0.3).findings[0].certainty is Certainty.POSSIBLE


def test_a_clock_offset_above_the_threshold_is_a_finding_after_a_grant() -> None:
    limit = CLOCK_OFF.total_seconds()

    assert verdict(GRANTED, offset=limit - 1).state is State.HEALTHY
    for offset in (limit, -limit):
        found = verdict(GRANTED, offset=offset)
        assert (found.state, found.cause) == (State.DEGRADED, Cause.CLOCK_SKEWED)
        assert found.findings[0].severity is Severity.WARNING


def test_a_clock_offset_is_the_likely_cause_of_a_bare_invalid_grant() -> None:
    found = verdict(Refused(400, "invalid_grant", "", ""), offset=600)

    assert (found.cause, found.findings[0].certainty) == (Cause.CLOCK_SKEWED, Certainty.LIKELY)


def test_a_clock_offset_is_the_certain_cause_of_an_expired_assertion() -> None:
    found = verdict(Refused(400, "invalid_grant", "expired authorization code", ""), offset=600)

    assert (found.cause, found.findings[0].certainty) == (Cause.CLOCK_SKEWED, Certainty.CERTAIN)


def test_a_clock_that_stops_the_whole_fleet_counts_against_no_credential() -> None:
    expired = Refused(400, "invalid_grant", "expired authorization code", "")

    assert verdict(expired, offset=600, share=FLEET_SHARE).state is State.UNKNOWN
    assert verdict(expired, offset=600, share=FLEET_SHARE - 0.01).state is State.FAILING


NO_SUCH_NAME = Unreachable(FaultKind.DNS, "[Errno -2] Name or service not known")


@pytest.mark.parametrize(
    ("share", "known", "cause", "certainty"),
    [
        (None, NEVER, Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY),
        (None, LONG, Cause.SUBDOMAIN_UNKNOWN, Certainty.POSSIBLE),
        (0.0, LONG, Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY),
        (FLEET_SHARE, LONG, Cause.NETWORK_UNREACHABLE, Certainty.LIKELY),
    ],
)
def test_an_unknown_host_name_is_the_connections_fault_unless_shared(
    share: float | None, known: History, cause: Cause, certainty: Certainty
) -> None:
    found = verdict(NO_SUCH_NAME, known, share=share)

    assert (found.cause, found.findings[0].certainty) == (cause, certainty)


def test_a_name_that_used_to_resolve_gives_no_verdict_until_other_names_are_known_to_resolve() -> None:
    def failing_for(length: timedelta) -> History:
        return replace(LONG, failing_since=NOW - length)

    assert verdict(NO_SUCH_NAME, LONG).state is State.UNKNOWN
    assert verdict(NO_SUCH_NAME, failing_for(NAME_MAY_RETURN - MINUTE)).state is State.UNKNOWN
    assert verdict(NO_SUCH_NAME, failing_for(NAME_MAY_RETURN)).state is State.FAILING
    assert verdict(NO_SUCH_NAME, LONG, share=0.0).state is State.FAILING
    assert verdict(NO_SUCH_NAME, NEVER).state is State.FAILING


def test_an_address_refused_by_most_orgs_is_our_fault() -> None:
    restricted = Refused(400, "invalid_grant", "ip restricted", "")

    found = verdict(restricted, share=FLEET_SHARE)
    assert (found.state, found.cause) == (State.UNKNOWN, Cause.IP_RESTRICTED)
    assert found.findings[0].responsible is Responsible.OPERATOR
    assert found.findings[0].evidence[-1].endswith("the fault is not in this org.")

    alone = verdict(restricted, share=FLEET_SHARE - 0.01)
    assert (alone.state, alone.findings[0].responsible) == (State.FAILING, Responsible.ORG_ADMIN)


PORTAL = Refused(200, "", "", "HTML page: Welcome")


def test_a_page_for_many_orgs_at_once_is_from_our_network() -> None:
    assert verdict(PORTAL).cause is Cause.SALESFORCE_UNAVAILABLE
    assert verdict(PORTAL, share=FLEET_SHARE).cause is Cause.NETWORK_UNREACHABLE


def test_a_server_error_for_many_orgs_at_once_is_salesforces_fault() -> None:
    assert verdict(Refused(503, "", "", ""), share=1.0).cause is Cause.SALESFORCE_UNAVAILABLE


def test_many_refused_approvals_at_once_are_not_a_shared_fault() -> None:
    found = verdict(NOT_APPROVED, witnesses=Witnesses.counted(14, 16, NOW))

    assert (found.state, found.cause) == (State.FAILING, Cause.APPROVAL_DECAYED)
    said = "14 of the 16 orgs checked since 2026-11-23 12:00 UTC failed in the same way."
    assert said in found.findings[0].evidence


def test_fewer_than_five_orgs_prove_nothing_and_a_few_must_agree_more() -> None:
    def everybodys(alike: int, asked: int) -> bool | None:
        said = Witnesses.counted(alike, asked, NOW)
        return None if said is None else said.everybodys

    assert everybodys(4, 4) is None
    assert (everybodys(4, 5), everybodys(5, 5)) == (False, True)
    assert (everybodys(11, 16), everybodys(12, 16)) == (False, True)
    assert (everybodys(59, 100), everybodys(60, 100)) == (False, True)
    assert (everybodys(1600, 5000), everybodys(2600, 5000)) == (False, True)


# A grant and what follows it


def test_a_changed_identity_is_a_finding() -> None:
    pinned = replace(LONG, identity=Identity("00Dxx0000000009", "005xx0000000001"))

    found = verdict(GRANTED, pinned, of=SANDBOX)

    assert (found.state, causes(found)) == (State.DEGRADED, [Cause.IDENTITY_CHANGED])
    assert found.findings[0].evidence == (
        "The token is for org 00Dxx0000000001AAA; before, it was for org 00Dxx0000000009.",
        "The host is a sandbox: it was probably refreshed.",
    )


def test_ids_of_15_and_18_characters_are_equal_if_their_case_is() -> None:
    def moved(org: str) -> bool:
        return verdict(GRANTED, replace(LONG, identity=Identity(org, None))).state is not State.HEALTHY

    assert not moved("00Dxx0000000001")
    assert moved("00DXX0000000001AAA")


def test_the_worst_finding_of_a_grant_comes_first() -> None:
    odd = replace(GRANTED, token_format="jwt", scopes=frozenset({"openid"}))

    found = verdict(odd, facts=pair(left=50 * DAY), offset=-100)

    assert causes(found) == [
        Cause.JWT_ACCESS_TOKEN,
        Cause.SCOPE_MISSING,
        Cause.CERTIFICATE_EXPIRING,
        Cause.CLOCK_SKEWED,
    ]


def test_a_missing_scope_is_as_severe_before_the_first_call_as_after_it() -> None:
    """It used to be a warning until the call was refused, and so was reported twice."""
    openid = replace(GRANTED, scopes=frozenset({"openid"}))

    before, after = verdict(openid), verdict(openid, after=NOT_FOR_REST)

    assert [found.findings[0].severity for found in (before, after)] == 2 * [Severity.CRITICAL]


def test_a_missing_scope_is_a_warning_if_no_call_is_made() -> None:
    found = verdict(replace(GRANTED, scopes=frozenset({"openid"})), of=replace(ACME, after_login=False))

    assert (found.cause, found.findings[0].severity) == (Cause.SCOPE_MISSING, Severity.WARNING)


def test_scopes_missing_from_the_answer_do_not_count_as_missing() -> None:
    assert verdict(replace(GRANTED, scopes=None)).state is State.HEALTHY
    assert verdict(replace(GRANTED, scopes=frozenset({"full"}))).state is State.HEALTHY


@pytest.mark.parametrize(
    ("status", "error", "message", "state", "cause"),
    [
        (200, "", "", State.HEALTHY, None),
        (403, "API_CURRENTLY_DISABLED", "API is currently disabled", State.FAILING, Cause.API_DISABLED),
        (403, "API_DISABLED_FOR_ORG", "", State.FAILING, Cause.API_DISABLED),
        (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", State.HEALTHY, None),
        (401, "INVALID_SESSION_ID", "Session expired or invalid", State.DEGRADED, Cause.UNRECOGNISED),
        (
            401,
            "INVALID_SESSION_ID",
            "This session is not valid for use with the REST API",
            State.FAILING,
            Cause.APP_BLOCKED,
        ),
        (403, "ORG_LOCKED", "the org is locked", State.FAILING, Cause.ORG_INACTIVE),
        (403, "ORG_IN_MAINTENANCE", "", State.HEALTHY, None),
        (401, "INVALID_JWT_FORMAT", "", State.DEGRADED, Cause.JWT_ACCESS_TOKEN),
        (403, "", "HTML page: Forbidden", State.HEALTHY, None),
        (404, "NOT_FOUND", "The requested resource does not exist", State.HEALTHY, None),
        (500, "UNKNOWN_EXCEPTION", "An unexpected error occurred", State.HEALTHY, None),
        (503, "SERVER_UNAVAILABLE", "", State.HEALTHY, None),
    ],
)
def test_a_first_call_counts_against_the_credential_only_if_it_says_so(
    status: int, error: str, message: str, state: State, cause: Cause | None
) -> None:
    found = verdict(GRANTED, after=AfterLogin(status, error, message))

    assert (found.state, found.cause) == (state, cause)


NOT_FOR_REST = AfterLogin(401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")


@pytest.mark.parametrize(
    ("scopes", "cause"),
    [
        (frozenset({"api", "refresh_token"}), Cause.APP_BLOCKED),
        (frozenset({"full"}), Cause.APP_BLOCKED),
        (frozenset({"openid"}), Cause.SCOPE_MISSING),
        (None, Cause.SCOPE_MISSING),
    ],
)
def test_a_granted_scope_is_not_reported_as_missing(scopes: frozenset[str] | None, cause: Cause) -> None:
    found = verdict(replace(GRANTED, scopes=scopes), after=NOT_FOR_REST)

    assert (found.state, found.cause) == (State.FAILING, cause)
    assert found.findings[0].responsible is Responsible.ORG_ADMIN


def test_granted_scopes_are_evidence_for_a_refused_first_call() -> None:
    said = verdict(GRANTED, after=NOT_FOR_REST).findings[0].evidence

    assert "The granted scopes are api, refresh_token." in said


def test_a_required_session_level_is_the_admins_responsibility() -> None:
    demanded = AfterLogin(403, "INSUFFICIENT_ACCESS", "This needs a High Assurance session")

    found = verdict(GRANTED, after=demanded)

    assert (found.cause, found.findings[0].responsible) == (Cause.NOT_AUTHORIZED, Responsible.ORG_ADMIN)


NO_SUCH_APP = Refused(400, "app_not_found", "External client app is not installed in this org", "")


@pytest.mark.parametrize(
    ("host", "audience", "known", "who"),
    [
        ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com", NEVER, Responsible.ORG_ADMIN),
        ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com", LONG, Responsible.ORG_ADMIN),
        ("https://login.salesforce.com", "https://login.salesforce.com", LONG, Responsible.OPERATOR),
        ("https://acme.my.salesforce.com", "https://login.salesforce.com", LONG, Responsible.OPERATOR),
        ("", "", LONG, Responsible.ORG_ADMIN),
        ("", "", NEVER, Responsible.OPERATOR),
    ],
)
def test_an_app_not_found_at_the_orgs_address_is_the_admins_responsibility(
    host: str, audience: str, known: History, who: Responsible
) -> None:
    found = verdict(NO_SUCH_APP, known, of=connection(login_url=host, audience=audience))

    assert (found.cause, found.findings[0].responsible) == (Cause.APP_NOT_FOUND, who)
    assert Cause.USER_NOT_ADMIN_APPROVED in alternatives(found)


def test_an_authentication_failure_is_not_an_ended_approval() -> None:
    found = verdict(Refused(400, "invalid_grant", "authentication failure", ""))

    assert found.cause is Cause.NOT_AUTHORIZED
    assert Cause.APPROVAL_DECAYED not in alternatives(found)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", Cause.NETWORK_UNREACHABLE),
        ("[SSL] EOF occurred in violation of protocol (_ssl.c:1006)", Cause.NETWORK_UNREACHABLE),
        ("certificate verify failed: certificate has expired", Cause.TLS_UNTRUSTED),
        ("The connection was closed: could not establish trust relationship", Cause.TLS_UNTRUSTED),
    ],
)
def test_only_errors_about_trust_are_tls_trust_faults(message: str, cause: Cause) -> None:
    assert verdict(Unreachable(FaultKind.TLS, message)).cause is cause


def test_an_approval_near_its_declared_end_is_a_finding() -> None:
    declared = connection(approval=ApprovalPolicy("lifetime", 63))

    found = verdict(GRANTED, of=declared)

    assert (found.state, causes(found)) == (State.DEGRADED, [Cause.APPROVAL_EXPIRING])
    assert (
        found.findings[0].evidence[0] == "The approval is expected to end on 2026-11-26 12:00 UTC, in 3 days."
    )


def test_a_forecast_from_siblings_is_only_possible() -> None:
    found = verdict(GRANTED, siblings=(Approval(NOW - 62 * DAY, NOW),))

    assert (found.cause, found.findings[0].certainty) == (Cause.APPROVAL_EXPIRING, Certainty.POSSIBLE)


def test_a_refusal_has_no_forecast() -> None:
    declared = connection(approval=ApprovalPolicy("lifetime", 63))

    assert Cause.APPROVAL_EXPIRING not in causes(verdict(NOT_APPROVED, of=declared))


# What holds for every answer

CREDENTIAL_CAUSES = set(Cause) - {
    Cause.NETWORK_UNREACHABLE,
    Cause.SALESFORCE_UNAVAILABLE,
    Cause.TLS_UNTRUSTED,
    Cause.MONITOR_FAULT,
    Cause.SUBDOMAIN_UNKNOWN,
}

moments = st.datetimes(NOW.replace(tzinfo=None) - 400 * DAY, NOW.replace(tzinfo=None) + DAY).map(
    lambda moment: moment.replace(tzinfo=NOW.tzinfo)
)
histories = st.builds(
    History,
    first_seen=moments,
    changed_at=moments,
    changed=st.sampled_from(Change),
    first_success=st.none() | moments,
    last_success=st.none() | moments,
    approval_since=st.none() | moments,
    identity=st.builds(Identity, st.none() | st.text(), st.none() | st.text()),
    approvals=st.lists(st.builds(Approval, moments, moments), max_size=3).map(tuple),
)
words = (
    st.sampled_from([str(cause) for cause in Cause])
    | st.text(max_size=40)
    | st.text(string.printable, max_size=40)
)
refusals = st.builds(Refused, st.integers(100, 999), words, words, words)
faults = st.builds(Unreachable, st.sampled_from(FaultKind), words)
grants = st.builds(
    Granted,
    token_format=st.sampled_from(["jwt", "opaque"]),
    scopes=st.none() | st.frozensets(words),
    instance_url=st.none() | words,
    org_id=st.none() | words,
    user_id=st.none() | words,
)
key_problems = st.builds(
    Problem,
    st.sampled_from(
        [Cause.KEY_UNREADABLE, Cause.KEY_NOT_RSA, Cause.KEY_TOO_SHORT, Cause.KEY_CERTIFICATE_MISMATCH]
    ),
    st.just("What is wrong, and what would be right."),
)


@pytest.mark.parametrize(
    ("left", "severity"),
    [(3 * DAY, Severity.WARNING), (DAY, Severity.CRITICAL), (-DAY, Severity.WARNING)],
)
def test_an_approval_is_critical_in_its_last_two_days_until_the_forecast_has_proved_wrong(
    left: timedelta, severity: Severity
) -> None:
    granted = (NOW + left - 90 * DAY).date()
    declared = connection(approval=ApprovalPolicy("lifetime", 90, granted))

    (found,) = verdict(GRANTED, of=declared).findings

    assert (found.cause, found.severity) == (Cause.APPROVAL_EXPIRING, severity)


facts = st.sampled_from(
    [NOTHING, pair(), pair(matches=False), pair(left=-DAY), pair(left=4000 * DAY)]
) | st.builds(
    CredentialFacts,
    problems=st.lists(key_problems, max_size=2).map(tuple),
)
shares = st.none() | st.floats(0, 1)
offsets = st.none() | st.floats(-1e6, 1e6)
places = st.sampled_from(
    [
        ACME,
        SANDBOX,
        connection(login_url="https://login.salesforce.com", audience="https://login.salesforce.com"),
        connection(approval=ApprovalPolicy("lifetime", 30), certificate_not_after=NOW + DAY),
        connection(approval=ApprovalPolicy("inactivity", 30)),
    ]
)


@given(refusals | faults | grants | st.builds(NotSent, words), histories, facts, places, shares, offsets)
def test_every_outcome_gets_a_complete_diagnosis(
    outcome: Outcome,
    known: History,
    credential: CredentialFacts,
    of: Connection,
    share: float | None,
    offset: float | None,
) -> None:
    found = verdict(outcome, known, credential, of, offset=offset, share=share)

    assert (found.state is State.HEALTHY) == (not found.findings)
    assert len(set(causes(found))) == len(found.findings)
    assert found.cause not in alternatives(found)
    for finding in found.findings:
        everybodys = finding.cause is Cause.IP_RESTRICTED and share is not None and share >= FLEET_SHARE
        expected = {Responsible.OPERATOR if everybodys else CATALOGUE[finding.cause].responsible}
        if finding.cause is Cause.APP_NOT_FOUND:  # who acts depends on the host
            expected.add(Responsible.ORG_ADMIN)
        assert finding.responsible in expected
        assert all(finding.evidence)
    if isinstance(outcome, Granted):
        assert found.state in {State.HEALTHY, State.DEGRADED}
    else:
        assert found.state in {State.SETTLING, State.FAILING, State.UNKNOWN}


@given(faults, histories, facts, places, shares, offsets)
def test_no_network_fault_blames_the_credential(
    fault: Unreachable,
    known: History,
    credential: CredentialFacts,
    of: Connection,
    share: float | None,
    offset: float | None,
) -> None:
    found = verdict(fault, known, credential, of, offset=offset, share=share)

    assert found.cause not in CREDENTIAL_CAUSES
    if found.state is not State.UNKNOWN:
        assert (found.state, found.cause) == (State.FAILING, Cause.SUBDOMAIN_UNKNOWN)
    if share is not None and share >= FLEET_SHARE:
        assert found.state is State.UNKNOWN


@given(st.integers(500, 599), words, words, words, histories)
def test_no_server_error_blames_the_credential(
    status: int, error: str, description: str, excerpt: str, known: History
) -> None:
    found = verdict(Refused(status, error, description, excerpt), known)

    assert found.state is State.UNKNOWN
    assert found.cause not in CREDENTIAL_CAUSES


@given(st.sampled_from(["invalid_grant", "app_not_found", "IP_RESTRICTED"]), words)
def test_letters_case_blanks_and_apostrophes_do_not_matter(error: str, description: str) -> None:
    def told(text: str) -> list[Cause]:
        return [found.cause for found in verdict(Refused(400, error, text, "")).findings]

    plain = " ".join(description.split())
    if not plain.isascii():
        return

    assert told(plain) == told(plain.upper().lower()) == told(plain.replace(" ", "   ").replace("'", "’"))


TOO_MANY = Refused(429, "", "", "Too many requests", retry_after_seconds=120.0)


def test_a_bare_429_is_not_a_verdict_until_it_has_lasted_an_hour() -> None:
    first = verdict(TOO_MANY, LONG)
    known = LONG
    for minutes in (0, 30, 61):
        at = NOW + minutes * MINUTE
        found = verdict(TOO_MANY, known, now=at)
        known = remember(known, Exchange(at, TOO_MANY), found)

    assert (first.state, first.cause) == (State.UNKNOWN, Cause.LOGIN_RATE_EXCEEDED)
    assert first.findings[0].severity is Severity.WARNING
    assert (found.state, found.cause) == (State.FAILING, Cause.LOGIN_RATE_EXCEEDED)
    assert found.findings[0].severity is Severity.CRITICAL


def test_salesforces_text_with_a_429_is_a_verdict_at_once() -> None:
    found = verdict(Refused(429, "invalid_grant", "login rate exceeded", ""), LONG)

    assert (found.state, found.findings[0].severity) == (State.FAILING, Severity.CRITICAL)


@pytest.mark.parametrize(
    "body",
    [
        b"Request blocked by WAF id 1234",
        b"This site is blocked by your organisation",
        b"Access denied",
        b'{"message": "blocked by proxy policy"}',
        b'{"message": "user is not authorized"}',
    ],
)
def test_text_without_a_salesforce_code_is_attributed_to_an_intermediary(body: bytes) -> None:
    found = verdict(read_answer(400, {"content-type": "text/plain"}, body), LONG)

    assert found.state is State.UNKNOWN
    assert found.cause in {Cause.NETWORK_UNREACHABLE, Cause.SALESFORCE_UNAVAILABLE}


def test_only_an_oauth_error_is_certain() -> None:
    without_code = verdict(read_answer(400, {}, b'{"message": "inactive user"}'))
    with_code = verdict(read_answer(400, {}, b'{"error": "invalid_grant", "message": "inactive user"}'))

    assert without_code.cause is with_code.cause is Cause.USER_INACTIVE
    assert without_code.findings[0].certainty is Certainty.LIKELY
    assert with_code.findings[0].certainty is Certainty.CERTAIN


@pytest.mark.parametrize(
    "refused", [NOT_FOR_REST, AfterLogin(403, "API_DISABLED_FOR_ORG", "API is not enabled for this Partner")]
)
def test_a_site_user_lacks_the_permission_and_not_the_scope(refused: AfterLogin) -> None:
    found = verdict(replace(GRANTED, of_site=True), after=refused)

    assert (found.state, found.cause) == (State.FAILING, Cause.NOT_AUTHORIZED)
    assert "The user belongs to an Experience Cloud site." in found.findings[0].evidence
    assert Cause.API_DISABLED in alternatives(found)


@pytest.mark.parametrize("field", ["sfdc_community_url", "sfdc_site_url"])
def test_a_grant_says_whether_the_user_belongs_to_a_site(field: str) -> None:
    body = json.dumps({"access_token": "00Dxx!AQ", field: "https://acme.my.site.com"}).encode()

    of_site = read_answer(200, {}, body)

    assert isinstance(of_site, Granted)
    assert of_site.of_site
    assert read_answer(200, {}, b'{"access_token":"00Dxx!AQ"}') == replace(of_site, of_site=False)


def test_api_access_control_is_about_the_app_and_not_the_user() -> None:
    said = AfterLogin(403, "INSUFFICIENT_ACCESS", "API is not enabled for this app by API Access Control")

    assert verdict(GRANTED, after=said).cause is Cause.APP_BLOCKED


def test_app_not_found_at_a_generic_host_is_the_operators_even_after_months() -> None:
    generic = "https://login.salesforce.com"
    missing = Refused(400, "app_not_found", "External client app is not installed in this org", "")

    for of, who in (
        (connection(login_url=generic, audience=generic), Responsible.OPERATOR),
        (ACME, Responsible.ORG_ADMIN),
    ):
        assert verdict(missing, LONG, of=of).findings[0].responsible is who


def test_every_rule_can_be_reached() -> None:
    """A rule after a more general one would be dead; each must match some text first."""
    reached = {
        next(pattern for pattern, _ in TEXTS if pattern.search(text))
        for text in (
            "api access control",
            "login rate exceeded",
            "retry your request",
            "scope parameter not supported",
            "audience is invalid",
            "request not supported on this domain",
            "no valid scopes defined",
            "too many scopes requested",
            "invalid username, password, security token; or user locked out",
            "authentication failure",
            "expired certificate",
            "expired access/refresh token",
            "expired authorization code",
            "ip restricted",
            "soap api login() is disabled by default in this org",
            "api is not enabled",
            "inactive organization",
            "inactive user",
            "app blocked",
            "oauth approval error generic",
            "app not found",
            "user is not admin approved",
            "user hasn't approved this consumer",
            "invalid user",
            "client identifier invalid",
            "grant type not supported",
            "invalid client",
            "invalid assertion",
            "not authorized",
            "malformed",
            "invalid grant: ",
            "unknown error: ",
        )
    }

    assert reached == {pattern for pattern, _ in TEXTS}


def test_a_finding_dates_from_its_diagnosis() -> None:
    later = NOW + DAY

    found = verdict(NOT_APPROVED, now=later)

    assert {finding.since for finding in found.findings} == {later}
    assert exchange().at == NOW


@pytest.mark.parametrize("status", [401, 403, 451])
def test_a_filter_that_imitates_an_org_is_a_network_fault(status: int) -> None:
    found = verdict(Refused(status, "access_denied", "Blocked by the company's web filter", ""))

    assert (found.state, found.cause) == (State.UNKNOWN, Cause.NETWORK_UNREACHABLE)
