"""What audits see before it breaks: each step of the guide wrong once and hidden once, from the first day."""

from datetime import timedelta
from typing import Any

import pytest

from monitor.core.causes import Cause, Severity
from monitor.core.finding import Certainty, State
from monitor.core.reads import Read
from monitor.core.verdict import audit
from monitor.core.verdict.approval import Grounds
from monitor.core.verdict.guide import Ruling, Step
from monitor.watch.audit import ASKED_A_DAY
from monitor.web import api
from tests.journeys.driver import Journey, Traveller
from tests.journeys.keys import pair_files
from tests.making import NOW
from tests.simulator import guide

DAY = timedelta(days=1)
MONTH = {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * 86_400}
EVERYTHING = {"permissions": list(guide.OBSERVES)}
ORGS = {step.name: step for step in guide.STEPS}

FORESEEN = {
    "scopes": ("OAuth scopes", Cause.SCOPE_MISSING),
    "refresh token policy: lifetime": ("Refresh Token Policy", Cause.REFRESH_POLICY_WRONG),
    "refresh token policy: inactivity": ("Refresh Token Policy", Cause.REFRESH_POLICY_WRONG),
    "refresh token policy of a connected app": ("Refresh Token Policy", Cause.REFRESH_POLICY_WRONG),
    "IP relaxation": ("IP restrictions", Cause.IP_RESTRICTED),
    "login IP ranges": ("IP restrictions", Cause.IP_RESTRICTED),
    "session level": ("Session level", Cause.SESSION_LEVEL_REQUIRED),
    "permission set without end": ("Permission set assignments", Cause.PERMISSION_SET_EXPIRING),
    "API Enabled that goes with the permission set": (
        "Permission set assignments",
        Cause.PERMISSION_SET_EXPIRING,
    ),
    "access to an object": ("Object access", Cause.OBJECT_ACCESS_MISSING),
    "an org that lasts": ("Org expiry", Cause.ORG_EXPIRING),
}
"""Wrong while the org still grants: the step, and the finding on the first day."""

REFUSED = {
    "app enabled": Cause.APP_BLOCKED,
    "refresh token policy: at once": Cause.APPROVAL_DECAYED,
    "user active": Cause.USER_INACTIVE,
    "user frozen": Cause.USER_INACTIVE,
    "permission set selected for the app": Cause.USER_NOT_ADMIN_APPROVED,
    "permission set assigned to the user": Cause.USER_NOT_ADMIN_APPROVED,
    "what a refused login was refused for": Cause.IP_RESTRICTED,
}
"""Wrong so that logins end at once: what an observer makes of the refusal, for certain."""

NO_FINDING = {
    "licence of the permission set": "Sources contradict each other on which licence carries an app.",
    "a sandbox that is not being refreshed": "It is a finding of the sandbox's connection: see below.",
}
"""Steps that no audit makes a finding of, and why."""


NEEDED = (("Account", ("read", "write")), ("Contact", ("read",)))


def test_every_misconfigured_org_is_part_of_a_journey() -> None:
    assert FORESEEN.keys() | REFUSED.keys() | NO_FINDING.keys() == ORGS.keys()


def changes(traveller: Traveller) -> tuple[object, ...]:
    assert traveller.history.audit
    return traveller.history.audit.changes


def steps(traveller: Traveller) -> dict[str, Step]:
    status = traveller.status
    seen = audit.seen_of(status.connection, status.history, status.forecast, traveller.journey.clock.now())
    assert seen is not None, "there was no audit"
    return {step.what: step for step in audit.steps(seen)}


async def observed(journey: Journey, org: dict[str, Any], **options: Any) -> Traveller:
    """A connection with a second one that observes it."""
    files = pair_files()
    watching = {
        "consumer_key": "3MVG9observer",
        "username": "observer@acme.example",
        "certificate": files.certificate.decode(),
    }
    acme = await journey.enter("acme", org={**org, "observer": watching}, files=files)
    observer = await journey.enter(
        "observer", subdomain="acme", files=files, username="observer@acme.example"
    )
    return await acme.reconfigure(observer=observer.connection, **options)


@pytest.mark.parametrize("name", FORESEEN)
async def test_on_the_first_day_only_wrong_settings_are_findings(journey: Journey, name: str) -> None:
    what, cause = FORESEEN[name]
    acme = await journey.enter("acme", org={**EVERYTHING, **ORGS[name].wrong}, objects=NEEDED)

    # Production's address is known once it has logged in.
    await journey.at(days=2 if name == "login IP ranges" else 1)

    assert (acme.state, steps(acme)[what].cause) == (State.DEGRADED, cause)
    assert set(acme.causes) - {Cause.PRODUCTION_REFUSED} == {cause}


@pytest.mark.parametrize("name", FORESEEN)
async def test_hidden_parts_of_an_org_are_not_readable_and_not_findings(journey: Journey, name: str) -> None:
    what, cause = FORESEEN[name]
    org = {**EVERYTHING, **ORGS[name].wrong, **ORGS[name].unreadable}
    acme = await journey.enter("acme", org=org, objects=NEEDED)

    await journey.at(days=1)

    if org.get("app_objects_on") == "tooling":  # another way leads there
        assert steps(acme)[what].cause is cause
    else:
        assert steps(acme)[what].ruling in {Ruling.NOT_READABLE, Ruling.RIGHT}
        assert cause not in acme.causes


@pytest.mark.parametrize("name", REFUSED)
async def test_an_observer_makes_the_cause_of_a_refusal_certain(journey: Journey, name: str) -> None:
    acme = await observed(journey, {})
    await journey.at(days=2)
    assert acme.causes == []

    await acme.org(**ORGS[name].wrong)
    await journey.at(days=3)

    assert acme.state is State.FAILING
    assert (acme.causes[0], acme.finding(acme.causes[0]).certainty) == (REFUSED[name], Certainty.CERTAIN)


async def test_a_policy_of_thirty_days_is_reported_on_day_one_with_the_exact_end(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", org={**EVERYTHING, **MONTH})

    await journey.at(days=1)
    foreseen = acme.status.forecast
    assert foreseen is not None
    assert (foreseen.grounds, foreseen.at.date()) == (Grounds.READ, (NOW + 30 * DAY).date())
    assert f"{NOW + 30 * DAY:%Y-%m-%d}" in acme.finding(Cause.REFRESH_POLICY_WRONG).evidence[0]

    await journey.at(days=29, hours=23)
    assert acme.state is State.DEGRADED
    await journey.at(days=30, hours=14)
    assert (acme.state, acme.causes[0]) == (State.FAILING, Cause.APPROVAL_DECAYED)
    assert acme.history.failing_since is not None
    assert acme.history.failing_since.date() == foreseen.at.date()


async def test_without_permissions_an_audit_shows_what_the_users_own_rows_show(journey: Journey) -> None:
    acme = await journey.enter("acme", org={"trial_seconds": 20 * 86_400, "production": {}} | MONTH)

    await journey.at(days=1)

    assert acme.causes == [Cause.ORG_EXPIRING]
    assert steps(acme)["Refresh Token Policy"].permission == (
        "View Setup and Configuration and View all External Client Apps"
    )
    assert steps(acme)["Production's logins"].ruling is Ruling.RIGHT


async def test_refused_production_logins_are_a_finding_even_if_ours_are_granted(journey: Journey) -> None:
    acme = await journey.enter(
        "acme", org={"login_ip_ranges": ["127.0.0.1-127.0.0.1"], "production": {"address": "198.51.100.7"}}
    )

    await journey.at(days=2)

    assert acme.finding(Cause.PRODUCTION_REFUSED).severity is Severity.CRITICAL
    assert "198.51.100.7" in acme.finding(Cause.PRODUCTION_REFUSED).evidence[0]


async def test_a_nearly_used_up_api_allocation_is_a_finding_until_it_has_room(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", org={"api_calls_a_day": 1_000, "api_calls_by_others": 950})
    await journey.at(days=1)
    assert acme.causes == [Cause.API_ALLOCATION_SHORT]

    await acme.org(api_calls_by_others=0)
    await journey.at(days=5)

    assert acme.state is State.HEALTHY


async def test_an_audit_runs_once_a_day_and_after_a_recovery(journey: Journey) -> None:
    acme = await journey.enter("acme", org=EVERYTHING, interval=timedelta(hours=1))
    await journey.at(hours=20)
    assert acme.history.audit is not None
    first = acme.history.audit.at
    assert first < NOW + timedelta(hours=1)

    await acme.org(permission_set_assigned=False)
    await journey.at(hours=22)
    await acme.approve()
    await journey.at(hours=25)

    again = acme.history.audit
    assert again is not None
    assert NOW + timedelta(hours=22) < again.at < NOW + timedelta(hours=24)
    assert "Changed permission set assigned" in str(again.rows[Read.TRAIL][0]["Display"])
    await journey.at(hours=46)
    assert acme.history.audit.at == again.at


async def test_a_change_in_setup_is_shown_the_next_day_while_logins_are_granted(journey: Journey) -> None:
    acme = await journey.enter("acme", org={**EVERYTHING, "login_ip_ranges": ["127.0.0.1-127.0.0.1"]})
    await journey.at(days=1, hours=6)
    assert changes(acme) == ()

    await acme.org(scopes=["api", "refresh_token", "web"])
    await journey.at(days=2, hours=6)

    assert acme.state is State.HEALTHY
    document = api.audit_of(acme.status, journey.clock.now())
    assert document is not None
    (change,) = document["changes"]
    assert change["at"] == f"{NOW + timedelta(days=1, hours=6):%Y-%m-%dT%H:%M:%SZ}"
    assert change["what"].startswith("Changed scopes of Integration")
    assert (document["calls"], steps(acme)["IP restrictions"].ruling) == (8, Ruling.RIGHT)

    journey.watch.ask(["acme"])
    await journey.after(minutes=1)
    assert len(changes(acme)) == 1
    await journey.at(days=4)
    assert changes(acme) == ()


async def test_a_repaired_step_clears_with_a_requested_check(
    journey: Journey,
) -> None:
    acme = await journey.enter("acme", org={**EVERYTHING, **MONTH})
    await journey.at(hours=2)
    assert acme.causes == [Cause.REFRESH_POLICY_WRONG]

    await acme.org(refresh_token_policy="infinite")
    journey.watch.ask(["acme"])
    await journey.after(minutes=1)

    assert acme.causes == []
    assert steps(acme)["Refresh Token Policy"].ruling is Ruling.RIGHT


async def test_requests_all_day_give_three_audits_plus_the_daily_one(journey: Journey) -> None:
    acme = await journey.enter("acme", org=EVERYTHING)
    made = set()
    for hour in range(2, 24):
        await journey.at(hours=hour)
        journey.watch.ask(["acme"])
        await journey.after(minutes=1)
        assert acme.history.audit is not None
        made.add(acme.history.audit.at)

    assert len(made) == ASKED_A_DAY
    await journey.at(days=2)
    assert acme.history.audit is not None
    assert (acme.history.audit.at > max(made) + DAY, acme.history.audit.asked) == (True, 0)


async def test_changing_the_option_app_drops_the_audit_of_the_other_app(journey: Journey) -> None:
    acme = await journey.enter("acme", org={**EVERYTHING, **MONTH})
    await journey.at(hours=2)
    assert acme.causes == [Cause.REFRESH_POLICY_WRONG]

    await acme.reconfigure(app="Another App")
    await journey.at(hours=13)  # the next check

    assert acme.causes == []
    assert steps(acme)["Refresh Token Policy"].ruling is Ruling.NOT_READABLE


async def test_a_refusal_names_setup_changes_that_an_observer_sees(journey: Journey) -> None:
    acme = await observed(journey, {})
    await journey.at(days=2)

    await acme.org(permission_set_assigned=False)
    await journey.at(days=3)

    evidence = " ".join(acme.finding(Cause.USER_NOT_ADMIN_APPROVED).evidence)
    assert "Setup Audit Trail" in evidence
    assert "Changed permission set assigned" in evidence
    assert "(by Org Admin)" in evidence


async def test_a_refused_observer_is_reported_and_not_blamed_on_the_connection(journey: Journey) -> None:
    acme = await observed(journey, {})
    stranger = pair_files()
    await acme.org(
        observer={
            "consumer_key": "3MVG9observer",
            "username": "gone@acme.example",
            "certificate": stranger.certificate.decode(),
        }
    )

    await journey.at(days=1)

    assert acme.state is State.HEALTHY
    assert "the observer observer got no token" in steps(acme)["Refresh Token Policy"].said


async def test_a_sandbox_that_is_being_refreshed_is_a_finding_before_it_breaks(journey: Journey) -> None:
    await journey.enter("acme", org={**EVERYTHING, "sandbox_copy": {"name": "Dev", "percent": 62}})
    sandbox = await journey.enter("acme-dev", subdomain="acme--dev.sandbox", org={"org_type": "sandbox"})
    other = await journey.enter("acme-qa", subdomain="acme--qa.sandbox", org={"org_type": "sandbox"})

    await journey.at(days=2)

    refreshing = sandbox.finding(Cause.SANDBOX_REFRESHING)
    assert (sandbox.state, refreshing.severity) == (State.DEGRADED, Severity.INFO)
    assert "The sandbox Dev is being refreshed: 62 % copied" in refreshing.evidence[0]
    assert (journey.travellers["acme"].causes, other.causes) == ([], [])
    assert "62 %" in steps(journey.travellers["acme"])["Sandbox refreshes"].said

    await sandbox.refresh(username_suffix="dev", loses=[])
    await journey.at(days=3)

    assert (sandbox.state, sandbox.causes[0]) == (State.FAILING, Cause.USERNAME_CHANGED)
    assert "being refreshed: 62 %" in " ".join(sandbox.finding(Cause.USERNAME_CHANGED).evidence)


@pytest.mark.parametrize(
    "hidden",
    [
        {"unreadable": ["SandboxProcess"]},
        {"permissions": ["ViewSetup"]},
        {"without_rows": ["SandboxProcess"]},
    ],
)
async def test_a_hidden_refresh_is_no_finding(journey: Journey, hidden: dict[str, Any]) -> None:
    copying = {**EVERYTHING, "sandbox_copy": {"name": "dev", "percent": 62}, **hidden}
    acme = await journey.enter("acme", org=copying)
    sandbox = await journey.enter("acme-dev", subdomain="acme--dev.sandbox", org={"org_type": "sandbox"})

    await journey.at(days=2)

    assert sandbox.causes == []
    if "unreadable" in hidden:
        assert steps(acme)["Sandbox refreshes"].permission == "Manage Users"


async def test_an_object_declared_after_the_audit_is_not_yet_readable(journey: Journey) -> None:
    acme = await journey.enter("acme", objects=(("Account", ("read",)),))
    await journey.at(hours=2)
    assert steps(acme)["Object access"].ruling is Ruling.RIGHT

    await acme.reconfigure(objects=(("Account", ("read",)), ("Lead", ("read",))))
    assert steps(acme)["Object access"].ruling is Ruling.NOT_READABLE
    await journey.at(days=1, hours=12)

    assert "no object Lead" in acme.finding(Cause.OBJECT_ACCESS_MISSING).evidence[0]


async def test_nothing_is_read_with_audits_off(journey: Journey) -> None:
    acme = await journey.enter("acme", org={**EVERYTHING, **MONTH}, audit=False)

    await journey.at(days=2)

    assert (acme.state, acme.history.audit) == (State.HEALTHY, None)
