"""An org's REST API."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from monitor.simulator import rest
from monitor.simulator.org import Request
from tests.making import NOW
from tests.simulator.asking import BASE, Pair, ask, get, said, token_of
from tests.simulator.conftest import MakeOrg

RESOURCES = "/services/data/v62.0/"
QUERY = "/services/data/v62.0/query"


def code(answer: Any) -> tuple[int, str]:
    return answer.status, said(answer)[0]["errorCode"]


def test_versions_are_listed_without_a_login(make_org: MakeOrg) -> None:
    listed = said(get(make_org(), "/services/data/"))

    assert listed[0] == {"label": "Summer '14", "url": "/services/data/v31.0", "version": "31.0"}
    assert {"label": "Winter '25", "url": "/services/data/v62.0", "version": "62.0"} in listed


@pytest.mark.parametrize("path", [RESOURCES, RESOURCES.rstrip("/")])
def test_resources_are_listed_with_a_valid_token_and_the_api_usage(
    make_org: MakeOrg, pair: Pair, path: str
) -> None:
    org = make_org()
    token = token_of(ask(org, pair))

    get(org, path, token)
    answer = get(org, path, token)

    assert said(answer)["sobjects"] == "/services/data/v62.0/sobjects"
    assert dict(answer.headers)["Sforce-Limit-Info"] == "api-usage=2/15000"


def test_the_allocation_starts_again_each_day(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(session_seconds=2 * 86_400)
    token = token_of(ask(org, pair))
    get(org, RESOURCES, token)

    answer = get(org, RESOURCES, token, NOW + timedelta(days=1))

    assert dict(answer.headers)["Sforce-Limit-Info"] == "api-usage=1/15000"


@pytest.mark.parametrize(
    ("settings", "token", "expected"),
    [
        ({}, "00Dxx!nonsense", (401, "INVALID_SESSION_ID")),
        ({}, "eyJhbGciOiJIUzI1NiJ9.e30.x", (401, "INVALID_SESSION_ID")),
        ({}, None, (401, "INVALID_SESSION_ID")),
        ({"api_enabled": False}, "right", (403, "API_CURRENTLY_DISABLED")),
        ({"api_access_control": True}, "right", (401, "INVALID_SESSION_ID")),
        ({"scopes": ["id", "refresh_token"]}, "right", (401, "INVALID_SESSION_ID")),
    ],
)
def test_a_forbidden_call_gets_the_rest_apis_error(
    make_org: MakeOrg, pair: Pair, settings: dict[str, Any], token: str | None, expected: tuple[int, str]
) -> None:
    org = make_org(**settings)
    granted = token_of(ask(org, pair))

    answer = get(org, RESOURCES, granted if token == "right" else token)

    assert code(answer) == expected


def test_the_error_for_an_expired_session_is_as_recorded(make_org: MakeOrg) -> None:
    answer = get(make_org(), RESOURCES, "00Dxx!nonsense")

    assert answer.body == b'[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]'


@pytest.mark.parametrize("gone", ["user_active", "org_active"])
def test_a_deactivated_users_session_is_over(make_org: MakeOrg, pair: Pair, gone: str) -> None:
    org = make_org()
    token = token_of(ask(org, pair))

    org.change({gone: False}, NOW)

    assert code(get(org, RESOURCES, token)) == (401, "INVALID_SESSION_ID")


@pytest.mark.parametrize("path", ["/", "/services/data/v30.0/", "/services/data/v999.0/", "/id/x", "/x/y"])
def test_an_unknown_path_is_not_found(make_org: MakeOrg, pair: Pair, path: str) -> None:
    org = make_org()

    assert code(get(org, path, token_of(ask(org, pair)))) == (404, "NOT_FOUND")


def test_only_get_is_allowed(make_org: MakeOrg) -> None:
    answer = rest.answer(make_org(), Request("DELETE", RESOURCES, BASE), NOW)

    assert code(answer) == (405, "METHOD_NOT_ALLOWED")


def test_maintenance_is_a_503_for_the_rest_api(make_org: MakeOrg) -> None:
    assert get(make_org(maintenance=True), RESOURCES).status == 503


def test_userinfo_returns_the_user_of_the_token(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()

    facts = said(get(org, "/services/oauth2/userinfo", token_of(ask(org, pair))))

    assert facts["organization_id"] == org.org_id
    assert facts["user_id"] == org.user_id()
    assert facts["preferred_username"] == "integration@acme.com"


@pytest.mark.parametrize(
    ("token", "text"), [(None, b"Missing_OAuth_Token"), ("00Dxx!nonsense", b"Bad_OAuth_Token")]
)
def test_userinfo_refuses_in_plain_text(make_org: MakeOrg, token: str | None, text: bytes) -> None:
    answer = get(make_org(), "/services/oauth2/userinfo", token)

    assert (answer.status, answer.body) == (403, text)


def test_login_history_can_be_read_newest_first(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()
    ask(org, pair, NOW - timedelta(days=1), aud="https://other.my.salesforce.com")
    token = token_of(ask(org, pair))

    found = said(get(org, QUERY, token, query="q=select+Status,LoginTime+from+LoginHistory+limit+1"))

    assert found["records"][0]["Status"] == "Success"
    assert found["records"][0]["LoginTime"] == "2026-11-23T12:00:00.000+0000"
    assert len(found["records"]) == 1


ENDING = (
    "SELECT PermissionSet.Label, ExpirationDate FROM PermissionSetAssignment"
    " WHERE AssigneeId = '{user}' AND ExpirationDate != null"
)


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        ({"permission_set_lifetime_seconds": 86_400}, ["2026-11-24T12:00:00.000+0000"]),
        ({}, []),
        ({"permission_set_lifetime_seconds": 86_400, "permission_set_assigned": False}, []),
    ],
)
def test_a_user_with_view_setup_sees_when_permission_sets_expire(
    make_org: MakeOrg, pair: Pair, settings: dict[str, object], ends: list[str]
) -> None:
    org = make_org(permissions=["ViewSetup"], permitted_users="self_authorized", **settings)
    token = token_of(ask(org, pair))

    found = said(get(org, QUERY, token, query=urlencode({"q": ENDING.format(user=org.user_id())})))
    of_others = said(get(org, QUERY, token, query=urlencode({"q": ENDING.format(user="005xx")})))

    assert [row["ExpirationDate"] for row in found["records"]] == ends
    assert all(row["PermissionSet"]["Label"] for row in found["records"])
    assert of_others["records"] == []


@pytest.mark.parametrize(
    ("soql", "expected"),
    [
        ("", "MALFORMED_QUERY"),
        ("DELETE+FROM+User", "MALFORMED_QUERY"),
        ("SELECT+Id+FROM+PermissionSetAssignment", "INVALID_TYPE"),
        ("SELECT+Nonsense+FROM+User", "INVALID_FIELD"),
    ],
)
def test_an_invalid_query_says_why(make_org: MakeOrg, pair: Pair, soql: str, expected: str) -> None:
    org = make_org()

    assert code(get(org, QUERY, token_of(ask(org, pair)), query=f"q={soql}")) == (400, expected)
