"""What an org answers to the queries of an audit."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from monitor.core.reads import QUERIES, Read
from monitor.simulator.org import Org, Request
from monitor.simulator.rest import answer
from tests.making import NOW
from tests.simulator.asking import BASE, Pair, ask, form, get, post, said, signed, token_of
from tests.simulator.conftest import MakeOrg
from tests.simulator.guide import OBSERVES, STEPS, Step

DATA = "/services/data/v62.0"
EVERYTHING = ["ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers"]
POLICY = (
    "SELECT PermittedUsersPolicyType, RefreshTokenPolicyType, RefreshTokenValidityPeriod,"
    " RefreshTokenValidityUnit, IpRelaxationPolicyType, RequiredSessionLevel FROM ExtlClntAppOauthPlcyCnfg"
)
DAY = 86_400


def read(org: Org, token: str, soql: str, *, tooling: bool = False, at: Any = NOW) -> list[dict[str, Any]]:
    """The records that a query finds, without their attributes."""
    path = f"{DATA}/{'tooling/' if tooling else ''}query"
    found = get(org, path, token, at, query=urlencode({"q": soql}))
    assert found.status == 200, found.body
    return [
        {name: value for name, value in row.items() if name != "attributes"} for row in said(found)["records"]
    ]


def refused(org: Org, token: str, soql: str, *, tooling: bool = False) -> tuple[str, str]:
    """Code and text of the answer to a query that fails."""
    path = f"{DATA}/{'tooling/' if tooling else ''}query"
    found = get(org, path, token, query=urlencode({"q": soql}))
    assert found.status == 400
    return said(found)[0]["errorCode"], said(found)[0]["message"]


@pytest.mark.parametrize(
    ("settings", "period", "unit", "kind"),
    [
        ({}, None, None, "Infinite"),
        ({"refresh_token_policy": "zero"}, None, None, "Zero"),
        (
            {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * DAY},
            30,
            "Days",
            "SpecificLifetime",
        ),
        (
            {"refresh_token_policy": "inactivity", "refresh_token_validity_seconds": 36 * 3600},
            36,
            "Hours",
            "SpecificInactivity",
        ),
        (
            {
                "refresh_token_policy": "lifetime",
                "refresh_token_validity_seconds": 30 * DAY,
                "enumerations": "numbers",
            },
            30,
            "0",
            "SpecificLifetime",
        ),
    ],
)
def test_the_refresh_token_policy_can_be_read_in_both_spellings(
    make_org: MakeOrg, pair: Pair, settings: dict[str, Any], period: int | None, unit: str | None, kind: str
) -> None:
    org = make_org(permissions=EVERYTHING, **settings)
    # What the policy forbids at once it forbids our own login too, so an observer reads it.
    watched = observed(org, pair)

    (row,) = read(org, watched, POLICY)

    assert (row["RefreshTokenPolicyType"], row["RefreshTokenValidityPeriod"]) == (kind, period)
    assert row["RefreshTokenValidityUnit"] == unit
    assert row["PermittedUsersPolicyType"] == "AdminApprovedPreAuthorized"


def observed(org: Org, pair: Pair, permissions: Sequence[str] = OBSERVES) -> str:
    """The token of an observer, of whom the org learns here."""
    own = {"consumer_key": "3MVG9observer", "username": "observer@acme.com", "certificate": pair.certificate}
    org.change({"observer": own | {"permissions": permissions}}, NOW)
    return token_of(ask(org, pair, iss="3MVG9observer", sub="observer@acme.com"))


def test_an_observer_reads_while_the_integration_is_refused(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(user_active=False)
    assert said(ask(org, pair))["error_description"] == "inactive user"

    token = observed(org, pair)

    users = read(org, token, "SELECT Username, IsActive FROM User ORDER BY Username")
    assert users == [
        {"Username": "integration@acme.com", "IsActive": False},
        {"Username": "observer@acme.com", "IsActive": True},
    ]
    rows = read(org, token, "SELECT UserId, Status, Application FROM LoginHistory ORDER BY LoginTime, Id")
    assert {(row["UserId"], row["Status"]) for row in rows} == {
        (org.user_id(), "User is inactive"),
        (org.user_id(org.settings.of("3MVG9observer")), "Success"),
    }


def test_an_observers_key_does_not_work_for_the_integrations_user(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()
    observed(org, pair)

    assert said(ask(org, pair, iss="3MVG9observer"))["error_description"] == "invalid user"


def test_a_user_without_permissions_reads_only_its_own_rows(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()
    observed(org, pair)
    token = token_of(ask(org, pair))

    assert read(org, token, "SELECT Username FROM User") == [{"Username": "integration@acme.com"}]
    assert {row["UserId"] for row in read(org, token, "SELECT UserId FROM LoginHistory")} == {org.user_id()}
    assert [row["AppName"] for row in read(org, token, "SELECT AppName FROM OauthToken")] == ["Integration"]
    assert read(
        org, token, "SELECT PermissionsApiEnabled, PermissionsViewSetup FROM UserPermissionAccess"
    ) == [{"PermissionsApiEnabled": True, "PermissionsViewSetup": False}]
    for entity in (
        "PermissionSetAssignment",
        "PermissionSet",
        "SetupEntityAccess",
        "SetupAuditTrail",
        "ConnectedApplication",
        "ExternalClientApplication",
        "ExtlClntAppOauthPlcyCnfg",
        "ExtlClntAppOauthSettings",
        "ExtlClntAppPlcyCnfg",
        "UserLogin",
    ):
        assert refused(org, token, f"SELECT Id FROM {entity}")[0] == "INVALID_TYPE"


@pytest.mark.parametrize(
    ("permissions", "entity", "tooling"),
    [
        (["ViewSetup"], "SetupAuditTrail", False),
        (["ViewSetup"], "ExtlClntAppOauthPlcyCnfg", False),
        (["ExternalClientAppViewer"], "ExtlClntAppOauthPlcyCnfg", False),
        (["ViewSetup"], "SandboxProcess", True),
        (EVERYTHING, "SandboxProcess", False),
        (EVERYTHING, "LoginHistory", True),
        (EVERYTHING, "ExtlClntAppGlobalOauthSettings", True),
    ],
)
def test_an_object_needs_its_permissions_and_its_resource(
    make_org: MakeOrg, pair: Pair, permissions: list[str], entity: str, tooling: bool
) -> None:
    org = make_org(permissions=permissions)
    token = token_of(ask(org, pair))

    code, text = refused(org, token, f"SELECT Id FROM {entity}", tooling=tooling)

    assert (code, f"sObject type '{entity}' is not supported." in text) == ("INVALID_TYPE", True)


@pytest.mark.parametrize(("where", "elsewhere"), [("query", True), ("tooling", False)])
def test_a_setting_decides_which_resource_has_external_client_app_objects(
    make_org: MakeOrg, pair: Pair, where: str, elsewhere: bool
) -> None:
    org = make_org(permissions=EVERYTHING, app_objects_on=where)
    token = token_of(ask(org, pair))

    assert read(org, token, POLICY, tooling=not elsewhere)
    assert refused(org, token, POLICY, tooling=elsewhere)[0] == "INVALID_TYPE"


def test_hidden_fields_cannot_be_read(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(
        permissions=EVERYTHING,
        unreadable=["User.IsActive", "UserLogin"],
        without_rows=["OauthToken"],
        enumerations="unknown",
    )
    token = token_of(ask(org, pair))

    assert refused(org, token, "SELECT IsActive FROM User")[0] == "INVALID_FIELD"
    assert refused(org, token, "SELECT IsFrozen FROM UserLogin")[0] == "INVALID_TYPE"
    assert read(org, token, "SELECT AppName FROM OauthToken") == []
    assert read(org, token, POLICY)[0]["RefreshTokenPolicyType"] == "Unheard"


def test_the_error_points_to_the_invalid_field(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()

    code, text = refused(org, token_of(ask(org, pair)), "SELECT Id, Nonsense FROM User")

    assert code == "INVALID_FIELD"
    assert text.startswith(
        "\nSELECT Id, Nonsense FROM User\n           ^\nERROR at Row:1:Column:12\n"
        "No such column 'Nonsense' on entity 'User'."
    )


def test_login_history_can_be_filtered_only_by_time_and_user(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()
    ask(org, pair, NOW - timedelta(days=2))
    token = token_of(ask(org, pair))
    since = "SELECT LoginTime FROM LoginHistory WHERE LoginTime > 2026-11-22T12:00:00Z AND UserId = '{}'"

    assert read(org, token, since.format(org.user_id())) == [{"LoginTime": "2026-11-23T12:00:00.000+0000"}]
    assert refused(org, token, "SELECT Id FROM LoginHistory WHERE Status = 'Success'")[0] == "INVALID_FIELD"
    assert refused(org, token, "SELECT Id FROM LoginHistory WHERE LoginTime > '2026'")[0] == "INVALID_FIELD"


def test_production_logs_in_from_elsewhere_and_uses_the_approval(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(
        refresh_token_policy="inactivity",
        refresh_token_validity_seconds=DAY,
        production={"address": "198.51.100.7", "every_seconds": 3600},
    )
    later = NOW + timedelta(days=3)

    token = token_of(answer(org, posted(pair, later), later))

    rows = read(org, token, "SELECT Status, SourceIp FROM LoginHistory ORDER BY LoginTime DESC", at=later)
    assert len(rows) == 73
    assert rows[1] == {"Status": "Success", "SourceIp": "198.51.100.7"}
    assert {row["SourceIp"] for row in rows} == {"198.51.100.7", "127.0.0.1"}


def posted(pair: Pair, at: Any) -> Request:
    return post(form(signed(pair, at)))


def test_production_is_refused_outside_the_profiles_ranges_while_we_are_granted(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(login_ip_ranges=["127.0.0.0-127.0.0.255"], permissions=EVERYTHING, production={})
    later = NOW + timedelta(hours=2)

    token = token_of(answer(org, posted(pair, later), later))

    rows = read(org, token, "SELECT Status, SourceIp FROM LoginHistory", at=later)
    assert [row["Status"] for row in rows] == ["Success", "Restricted IP", "Restricted IP"]
    profile = "SELECT Name, Metadata FROM Profile WHERE Name LIKE 'Minimum Access%'"
    (row,) = read(org, token, profile, tooling=True, at=later)
    assert row["Metadata"]["loginIpRanges"] == [
        {"description": None, "startAddress": "127.0.0.0", "endAddress": "127.0.0.255"}
    ]


def test_we_are_refused_outside_the_profiles_ranges(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(login_ip_ranges=["192.0.2.0-192.0.2.255"])

    assert said(ask(org, pair))["error_description"] == "ip restricted"


def test_metadata_can_be_read_only_for_one_profile_at_a_time(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(permissions=EVERYTHING)
    token = token_of(ask(org, pair))

    assert refused(org, token, "SELECT Metadata FROM Profile", tooling=True)[0] == "MALFORMED_QUERY"
    assert (
        refused(org, token, "SELECT Id FROM Profile WHERE Metadata = 'x'", tooling=True)[0] == "INVALID_FIELD"
    )
    assert refused(org, token, "SELECT Metadata FROM Profile LIMIT 1")[0] == "INVALID_FIELD"


def test_permission_sets_show_who_can_use_the_app(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(
        permissions=EVERYTHING, api_enabled_by="permission_set", permission_set_lifetime_seconds=30 * DAY
    )
    token = token_of(ask(org, pair))

    (app,) = read(org, token, "SELECT Id, MasterLabel FROM ExternalClientApplication")
    carrying = (
        "SELECT PermissionSet.Name, PermissionSet.License.Name, PermissionSet.PermissionsApiEnabled,"
        " ExpirationDate FROM PermissionSetAssignment"
        f" WHERE AssigneeId = '{org.user_id()}' AND IsActive = true AND PermissionSetId"
        f" IN (SELECT ParentId FROM SetupEntityAccess WHERE SetupEntityId = '{app['Id']}')"
    )

    (row,) = read(org, token, carrying)

    assert row["ExpirationDate"] == "2026-12-23T12:00:00.000+0000"
    assert row["PermissionSet"]["Name"] == "Integration_User_Permission_Set"
    assert row["PermissionSet"]["License"]["Name"] == "Salesforce API Integration"
    assert row["PermissionSet"]["PermissionsApiEnabled"] is True


@pytest.mark.parametrize(
    ("half", "selected", "assigned"),
    [("permission_set_selected", 0, 2), ("permission_set_assigned", 1, 1)],
)
def test_the_two_reasons_for_not_admin_approved_are_distinguished(
    make_org: MakeOrg, pair: Pair, half: str, selected: int, assigned: int
) -> None:
    org = make_org(**{half: False})

    assert said(ask(org, pair))["error"] == "invalid_app_access"

    token = observed(org, pair)
    assert len(read(org, token, "SELECT ParentId FROM SetupEntityAccess")) == selected
    assert len(read(org, token, "SELECT Id FROM PermissionSetAssignment")) == assigned


def test_api_enabled_ends_with_the_permission_set_that_carries_it(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(
        api_enabled_by="permission_set",
        permission_set_lifetime_seconds=DAY,
        permitted_users="self_authorized",
    )
    later = NOW + timedelta(days=2)
    token = token_of(ask(org, pair, later))

    assert said(get(org, f"{DATA}/", token, later))[0]["errorCode"] == "API_CURRENTLY_DISABLED"


def test_a_change_is_in_the_audit_trail_before_it_is_in_force(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(permissions=EVERYTHING, propagation_seconds=600)
    later = NOW + timedelta(days=1)
    token = token_of(ask(org, pair, later))

    org.change({"app_blocked": True}, later)

    assert read(org, token, "SELECT IsEnabled FROM ExtlClntAppPlcyCnfg", at=later) == [{"IsEnabled": False}]
    (row,) = read(org, token, "SELECT Display, CreatedDate, CreatedBy.Name FROM SetupAuditTrail", at=later)
    assert row["Display"] == "Changed app blocked of Integration from False to True"
    assert row["CreatedDate"] == "2026-11-24T12:00:00.000+0000"
    assert token_of(ask(org, pair, later + timedelta(minutes=1)))


def test_a_classic_app_has_its_policy_in_the_connected_application(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(
        permissions=EVERYTHING,
        app_kind="connected_app",
        refresh_token_policy="inactivity",
        refresh_token_validity_seconds=90 * DAY,
    )
    token = token_of(ask(org, pair))

    assert read(org, token, "SELECT Id FROM ExternalClientApplication") == []
    assert read(
        org,
        token,
        "SELECT RefreshTokenValidityPeriod, OptionsRefreshTokenValidityMetric FROM ConnectedApplication",
    ) == [{"RefreshTokenValidityPeriod": 90, "OptionsRefreshTokenValidityMetric": True}]


def test_an_expired_trial_closes_the_org(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(trial_seconds=30 * DAY)
    token = token_of(ask(org, pair))

    assert read(org, token, "SELECT TrialExpirationDate FROM Organization") == [
        {"TrialExpirationDate": "2026-12-23T12:00:00.000+0000"}
    ]
    assert said(ask(org, pair, NOW + timedelta(days=30)))["error_description"] == "inactive organization"


def test_the_observer_sees_that_a_user_is_frozen(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(user_frozen=True)
    ask(org, pair)

    token = observed(org, pair)

    assert read(org, token, "SELECT IsFrozen FROM UserLogin") == [{"IsFrozen": True}]
    assert "User is frozen" in {row["Status"] for row in read(org, token, "SELECT Status FROM LoginHistory")}


@pytest.mark.parametrize(
    ("objects", "allowed"),
    [
        ({"Account": ["read", "write"]}, (True, True, True)),
        ({"Account": ["read"]}, (True, False, False)),
    ],
)
def test_describing_an_object_shows_the_users_permissions(
    make_org: MakeOrg, pair: Pair, objects: dict[str, list[str]], allowed: tuple[bool, bool, bool]
) -> None:
    org = make_org(objects=objects)
    token = token_of(ask(org, pair))

    described = said(get(org, f"{DATA}/sobjects/account/describe", token))

    assert tuple(described[name] for name in ("queryable", "createable", "updateable")) == allowed
    assert get(org, f"{DATA}/sobjects/Contact/describe", token).status == 404


def test_limits_need_view_setup(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(permissions=["ViewSetup"], api_calls_a_day=1000, api_calls_by_others=900)
    token = token_of(ask(org, pair))

    found = get(org, f"{DATA}/limits", token)

    assert said(found)["DailyApiRequests"] == {"Max": 1000, "Remaining": 99}
    assert dict(found.headers)["Sforce-Limit-Info"] == "api-usage=901/1000"
    org.change({"permissions": []}, NOW)
    assert get(org, f"{DATA}/limits", token).status == 403


def test_every_call_is_refused_once_the_allocation_is_used_up(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(api_calls_by_others=15_000)

    found = get(org, f"{DATA}/", token_of(ask(org, pair)))

    assert (found.status, said(found)[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("options", "pages"), [("batchSize=200", [200, 200, 100]), ("batchSize=7", [200, 200, 100]), ("", [500])]
)
def test_many_rows_come_in_pages(make_org: MakeOrg, pair: Pair, options: str, pages: list[int]) -> None:
    org = make_org(login_rate_per_hour=1000, production={"every_seconds": 60})
    later = NOW + timedelta(days=1)
    token = token_of(answer(org, posted(pair, later), later))
    query = urlencode({"q": "SELECT Id FROM LoginHistory"})

    path, seen, counts = f"{DATA}/query", [], []
    while path:
        request = Request("GET", path, BASE, query, authorization=f"Bearer {token}", query_options=options)
        found = said(answer(org, request, later))
        seen += [row["Id"] for row in found["records"]]
        counts.append(len(found["records"]))
        path, query = found.get("nextRecordsUrl", ""), ""
        assert found["done"] is not bool(path)

    assert (counts, len(set(seen)), found["totalSize"]) == (pages, 500, 500)


def first(org: Org, token: str, step: Step) -> Any:
    """The first field of the first row; its error where the query is refused."""
    soql = step.query.format(user=org.user_id())
    path = f"{DATA}/{'tooling/' if step.tooling else ''}query"
    found = get(org, path, token, query=urlencode({"q": soql}))
    if found.status != 200:
        return said(found)[0]["errorCode"]
    field = soql.split()[1]
    value: Any = next(iter(said(found)["records"]), None)
    for name in field.split("."):
        value = value and value[name]
    return value


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_each_step_of_the_guide_can_be_right_wrong_and_unreadable(
    make_org: MakeOrg, pair: Pair, step: Step
) -> None:
    right, wrong, hidden = make_org(), make_org(**step.wrong), make_org(**step.wrong | step.unreadable)
    for org in (right, wrong, hidden):
        ask(org, pair)

    assert first(right, observed(right, pair), step) == step.right
    assert first(wrong, observed(wrong, pair), step) == step.seen
    assert first(hidden, observed(hidden, pair), step) in UNREADABLE
    if step.without is not None:
        assert first(wrong, observed(wrong, pair, step.without), step) in UNREADABLE


UNREADABLE = {"INVALID_TYPE", "INVALID_FIELD", None}


@pytest.mark.parametrize("asked", QUERIES)
def test_an_org_answers_each_query_of_an_audit(make_org: MakeOrg, pair: Pair, asked: Read) -> None:
    query = QUERIES[asked]
    org = make_org(permissions=EVERYTHING)
    token = token_of(ask(org, pair))
    values: dict[str, str | tuple[str, ...]] = {
        name: name for name in ("user", "username", "app", "label", "profile")
    }

    soql = query.filled(values | {"since": "2026-11-01T00:00:00Z", "objects": ("Account",)})
    answers = [
        get(org, f"{DATA}/{resource}query", token, query=urlencode({"q": soql}))
        for resource in ("", "tooling/")
    ]

    assert 200 in {answer.status for answer in answers}, [answer.body for answer in answers]
