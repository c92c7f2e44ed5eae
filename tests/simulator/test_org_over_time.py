"""What an org does as its own clock goes on and its settings change."""

from datetime import timedelta
from typing import Any

import pytest

from monitor.simulator.org import Org
from monitor.simulator.settings import Refresh, SettingsError
from tests.making import NOW
from tests.simulator.asking import BASE, Pair, ask, error, get, said, token_of
from tests.simulator.conftest import MakeOrg

NOT_APPROVED = "invalid_grant: user hasn't approved this consumer"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DAYS_30 = 30 * 86_400
RESOURCES = "/services/data/v62.0/"


def lifetime(kind: str = "lifetime") -> dict[str, Any]:
    return {"refresh_token_policy": kind, "refresh_token_validity_seconds": DAYS_30}


# Approvals


@pytest.mark.parametrize("permitted", ["admin_approved", "self_authorized"])
def test_an_approval_with_limited_lifetime_ends_even_if_used(
    make_org: MakeOrg, pair: Pair, permitted: str
) -> None:
    org = make_org(permitted_users=permitted, **lifetime())

    answers = [error(ask(org, pair, NOW + day * DAY)) for day in (0, 15, 29, 30, 31)]

    assert answers == ["granted", "granted", "granted", NOT_APPROVED, NOT_APPROVED]


def test_a_setting_lets_admin_approved_users_log_in_without_an_unexpired_approval(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(decays_when_admin_approved=False, **lifetime())

    assert error(ask(org, pair, NOW + 100 * DAY)) == "granted"


def test_each_login_extends_an_approval_with_inactivity_policy(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(**lifetime("inactivity"))

    answers = [error(ask(org, pair, NOW + day * DAY)) for day in (0, 29, 58, 87, 117)]

    assert answers == ["granted", "granted", "granted", "granted", NOT_APPROVED]


def test_a_refused_login_does_not_extend_an_approval(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(**lifetime("inactivity"))
    ask(org, pair, NOW + 29 * DAY, aud="https://other.my.salesforce.com")

    assert error(ask(org, pair, NOW + 30 * DAY)) == NOT_APPROVED


@pytest.mark.parametrize("named", ["user_approved", "permission_set_assigned", "certificate"])
def test_an_admins_repair_begins_a_new_approval(make_org: MakeOrg, pair: Pair, named: str) -> None:
    org = make_org(**lifetime())
    later = NOW + 40 * DAY
    assert error(ask(org, pair, later)) == NOT_APPROVED

    org.change({named: getattr(org.settings, named)}, later)

    assert error(ask(org, pair, later)) == "granted"
    assert error(ask(org, pair, later + 29 * DAY)) == "granted"
    assert error(ask(org, pair, later + 30 * DAY)) == NOT_APPROVED


def test_a_change_of_another_setting_does_not_approve_the_user(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(**lifetime())
    later = NOW + 40 * DAY

    org.change({"scopes": ["api", "refresh_token", "id"]}, later)

    assert error(ask(org, pair, later)) == NOT_APPROVED


def test_the_policy_until_revoked_revives_an_expired_approval(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(**lifetime())
    later = NOW + 40 * DAY

    org.change({"refresh_token_policy": "infinite"}, later)

    assert error(ask(org, pair, later)) == "granted"


# Propagation


def test_a_new_app_is_unknown_until_it_has_propagated(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(propagation_seconds=300)

    assert error(ask(org, pair, NOW + 4 * MINUTE)) == "invalid_client_id: client identifier invalid"
    assert error(ask(org, pair, NOW + 5 * MINUTE)) == "granted"


def test_the_approval_of_a_new_app_begins_when_the_app_is_ready(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(propagation_seconds=86_400, **lifetime())

    assert error(ask(org, pair, NOW + 30 * DAY)) == "granted"
    assert error(ask(org, pair, NOW + 31 * DAY)) == NOT_APPROVED


def test_a_change_of_the_app_applies_after_propagation(
    make_org: MakeOrg, pair: Pair, other_pair: Pair
) -> None:
    org = make_org(propagation_seconds=300)
    changed = NOW + DAY
    org.change({"certificate": other_pair.certificate}, changed)

    assert org.settings.certificate == other_pair.certificate
    assert error(ask(org, pair, changed + 4 * MINUTE)) == "granted"
    assert error(ask(org, other_pair, changed + 4 * MINUTE)) == "invalid_grant: invalid assertion"
    assert error(ask(org, other_pair, changed + 5 * MINUTE)) == "granted"
    assert error(ask(org, pair, changed + 5 * MINUTE)) == "invalid_grant: invalid assertion"


def test_a_change_of_the_user_applies_at_once_even_while_the_app_propagates(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(propagation_seconds=300)
    changed = NOW + DAY

    org.change({"permission_set_assigned": False}, changed)
    org.change({"user_active": False}, changed)

    assert error(ask(org, pair, changed)) == "invalid_grant: inactive user"
    org.change({"user_active": True}, changed + MINUTE)
    assert error(ask(org, pair, changed + MINUTE)) == "granted"
    assert error(ask(org, pair, changed + 5 * MINUTE)).startswith("invalid_app_access")


def test_changes_propagate_in_the_order_in_which_they_were_made(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(propagation_seconds=300)
    changed = NOW + DAY

    org.change({"app_blocked": True}, changed)
    org.change({"app_blocked": False, "propagation_seconds": 0}, changed + MINUTE)

    assert error(ask(org, pair, changed + 4 * MINUTE)) == "granted"
    assert error(ask(org, pair, changed + 5 * MINUTE)) == "granted"


def test_replaced_settings_fall_back_to_defaults_but_keep_the_orgs_identity(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(user_active=False, scopes=["id", "refresh_token"])
    before = org.org_id
    kept = {name: getattr(org.settings, name) for name in ("consumer_key", "username", "certificate")}

    org.replace(kept, NOW)

    assert error(ask(org, pair)) == "granted"
    assert org.settings.scopes == ("api", "refresh_token")
    assert org.org_id == before


def test_an_invalid_change_of_settings_has_no_effect(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()

    with pytest.raises(SettingsError):
        org.change({"user_active": False, "scopes": 7}, NOW)

    assert error(ask(org, pair)) == "granted"


# Sessions


def test_logins_return_the_same_token_during_a_session(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(session_seconds=3600)

    first, again, later = (token_of(ask(org, pair, NOW + m * MINUTE)) for m in (0, 59, 60))

    assert first == again
    assert later != first


def test_a_rest_call_extends_the_session_and_an_exchange_does_not(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(session_seconds=3600)
    token = token_of(ask(org, pair))

    assert get(org, RESOURCES, token, NOW + 50 * MINUTE).status == 200
    assert token_of(ask(org, pair, NOW + 100 * MINUTE)) == token
    assert get(org, RESOURCES, token, NOW + 111 * MINUTE).status == 401


def test_jwt_format_tokens_have_no_session_and_expire(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(jwt_access_tokens=True, session_seconds=3600)

    answer = ask(org, pair)
    token = token_of(answer)

    assert token.startswith("eyJ")
    assert token.count(".") == 2
    assert said(answer)["token_format"] == "jwt"
    assert get(org, RESOURCES, token, NOW + 59 * MINUTE).status == 200
    assert get(org, RESOURCES, token, NOW + 60 * MINUTE).status == 401
    assert get(org, RESOURCES, token[:-2] + "AA").status == 401


# Login rate and history


def test_the_login_rate_counts_a_rolling_hour(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(login_rate_per_hour=3)

    answers = [error(ask(org, pair, NOW + m * MINUTE)) for m in (0, 20, 40, 59, 60, 61)]

    exceeded = "invalid_grant: login rate exceeded"
    assert answers == ["granted"] * 3 + [exceeded, "granted", exceeded]


def test_a_login_refused_for_missing_approval_counts_towards_the_rate(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(login_rate_per_hour=2, user_approved=False)

    answers = [error(ask(org, pair)) for _ in range(3)]

    assert answers == [NOT_APPROVED, NOT_APPROVED, "invalid_grant: login rate exceeded"]


def test_a_changed_login_rate_applies_to_the_current_hour(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()
    for _ in range(3):
        ask(org, pair)

    org.change({"login_rate_per_hour": 3}, NOW)

    assert error(ask(org, pair)) == "invalid_grant: login rate exceeded"


def test_the_login_history_is_more_specific_than_the_answer(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()
    ask(org, pair)
    for at, change in enumerate(
        [{"user_active": False}, {"user_active": True, "ip_allowed": False}, {"ip_allowed": True}], start=1
    ):
        org.change(change, NOW)
        ask(org, pair, NOW + at * HOUR)
    ask(org, pair, NOW + 4 * HOUR, sub="nobody@acme.com")

    assert [(row.time, row.username, row.status) for row in org.logins] == [
        (NOW, "integration@acme.com", "Success"),
        (NOW + HOUR, "integration@acme.com", "User is inactive"),
        (NOW + 2 * HOUR, "integration@acme.com", "Restricted IP"),
        (NOW + 3 * HOUR, "integration@acme.com", "Success"),
        (NOW + 4 * HOUR, "nobody@acme.com", "Failed: Username Unknown"),
    ]


def test_beyond_the_login_rate_only_the_first_failure_is_recorded(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(login_rate_per_hour=1)

    for _ in range(5):
        ask(org, pair)

    assert [row.status for row in org.logins] == ["Success", "Login rate exceeded"]


# Sandbox refresh


def refreshed(org: Org, **values: Any) -> None:
    org.refresh(Refresh.read(values), NOW + DAY)


def test_a_refresh_adds_a_username_suffix_and_changes_the_org_id(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(org_type="sandbox")
    org_id, user_id = org.org_id, org.user_id()

    refreshed(org, username_suffix="dev", loses=[])

    assert error(ask(org, pair, NOW + DAY)) == "invalid_grant: invalid user"
    assert error(ask(org, pair, NOW + DAY, sub="integration@acme.com.dev")) == "granted"
    assert org.org_id != org_id
    assert org.user_id() == user_id


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("consumer_key", "invalid_client_id: client identifier invalid"),
        ("certificate", "invalid_client: invalid client credentials"),
        ("app", "app_not_found: External client app is not installed in this org"),
    ],
)
def test_a_refresh_can_lose_the_apps_settings(
    make_org: MakeOrg, pair: Pair, loss: str, expected: str
) -> None:
    org = make_org(org_type="sandbox")

    refreshed(org, username_suffix="", loses=[loss])

    assert error(ask(org, pair, NOW + DAY)) == expected


def test_a_refresh_ends_the_sessions(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(org_type="sandbox", session_seconds=7 * 86_400)
    token = token_of(ask(org, pair))

    refreshed(org, username_suffix="", loses=[])

    assert get(org, RESOURCES, token, NOW + DAY).status == 401


def test_a_second_refresh_adds_no_second_suffix(make_org: MakeOrg) -> None:
    org = make_org(org_type="sandbox")

    refreshed(org, username_suffix="dev")
    refreshed(org, username_suffix="dev")

    assert org.settings.username == "integration@acme.com.dev"


def test_a_sandboxs_identity_is_on_the_test_server(make_org: MakeOrg, pair: Pair) -> None:
    answer = ask(make_org(org_type="sandbox"), pair)

    assert said(answer)["id"].startswith("https://test.salesforce.com/id/00D")
    assert said(answer)["instance_url"] == BASE
