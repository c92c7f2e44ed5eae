"""What an org's token endpoint answers to one request, and in which form."""

from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from monitor.simulator import login
from tests.making import NOW
from tests.simulator.asking import (
    BASE,
    FORM,
    GRANT_TYPE,
    Pair,
    ask,
    claims,
    error,
    form,
    post,
    said,
    signed,
)
from tests.simulator.conftest import MakeOrg

NOT_APPROVED = "invalid_grant: user hasn't approved this consumer"
INVALID = "invalid_grant: invalid assertion"
LOGIN, TEST = "https://login.salesforce.com", "https://test.salesforce.com"


def test_a_grant_has_the_fields_of_the_flow_in_their_order_and_no_others(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org()

    answer = ask(org, pair)

    assert answer.status == 200
    assert list(said(answer)) == ["access_token", "scope", "instance_url", "id", "token_type"]
    assert said(answer)["access_token"].startswith(org.org_id[:15] + "!")
    assert said(answer) | {"access_token": ""} == {
        "access_token": "",
        "scope": "api refresh_token",
        "instance_url": BASE,
        "id": f"https://login.salesforce.com/id/{org.org_id}/{org.user_id()}",
        "token_type": "Bearer",
    }


def test_ids_have_18_characters_and_salesforces_prefixes(make_org: MakeOrg) -> None:
    org = make_org()

    assert (len(org.org_id), org.org_id[:3]) == (18, "00D")
    assert (len(org.user_id()), org.user_id()[:3]) == (18, "005")


def test_a_refusal_has_the_status_the_headers_and_the_bytes_that_were_recorded(
    make_org: MakeOrg, pair: Pair
) -> None:
    answer = ask(make_org(), pair, aud=TEST)

    names = [name for name, _ in answer.headers]
    values = dict(answer.headers)
    assert answer.status == 400
    assert answer.body == b'{"error":"invalid_grant","error_description":"audience is invalid"}'
    assert names == ["Date", "Strict-Transport-Security", "Cache-Control", "Set-Cookie", "Content-Type"]
    assert values["Date"] == "Mon, 23 Nov 2026 12:00:00 GMT"
    assert values["Cache-Control"] == "no-cache,must-revalidate,max-age=0,no-store,private"
    assert values["Set-Cookie"].startswith("BrowserId=")
    assert values["Content-Type"] == "application/json;charset=UTF-8"


@pytest.mark.parametrize(
    ("settings", "wrong", "expected"),
    [
        # What the assertion says
        ({}, {}, "granted"),
        ({}, {"sub": "Integration@ACME.com"}, "granted"),
        ({}, {"sub": None, "prn": "integration@acme.com"}, "granted"),
        ({}, {"sub": "nobody@acme.com", "prn": "integration@acme.com"}, "granted"),
        ({}, {"prn": "nobody@acme.com"}, "invalid_grant: invalid user"),
        ({}, {"sub": "nobody@acme.com"}, "invalid_grant: invalid user"),
        ({}, {"sub": None}, "invalid_grant: invalid user"),
        ({}, {"sub": ""}, "invalid_grant: invalid user"),
        ({}, {"iss": "3MVG9other"}, "invalid_client_id: client identifier invalid"),
        ({}, {"iss": None}, "invalid_client_id: client identifier invalid"),
        ({}, {"exp": str(int(NOW.timestamp()) + 180)}, "granted"),
        ({}, {"exp": NOW.timestamp() + 0.5}, "granted"),
        ({}, {"exp": int(NOW.timestamp()) * 1000}, "granted"),
        ({}, {"exp": 10**400}, "granted"),
        ({}, {"exp": int(NOW.timestamp())}, "invalid_grant: expired authorization code"),
        ({}, {"exp": str(int(NOW.timestamp()) - 1)}, "invalid_grant: expired authorization code"),
        ({}, {"exp": -1}, "invalid_grant: expired authorization code"),
        ({}, {"exp": None}, INVALID),
        ({}, {"exp": True}, INVALID),
        ({}, {"exp": "soon"}, INVALID),
        ({}, {"exp": float("inf")}, INVALID),
        ({}, {"exp": "9" * 301}, INVALID),
        # Audiences
        ({}, {"aud": LOGIN}, "granted"),
        ({}, {"aud": LOGIN + "/"}, "granted"),
        ({}, {"aud": BASE + "/"}, "granted"),
        ({}, {"aud": BASE.replace("https", "http")}, "granted"),
        ({}, {"aud": TEST}, "invalid_grant: audience is invalid"),
        ({}, {"aud": "acme.my.salesforce.com"}, "invalid_grant: audience is invalid"),
        ({}, {"aud": [BASE]}, "invalid_grant: audience is invalid"),
        ({}, {"aud": None}, "invalid_grant: audience is invalid"),
        ({"org_type": "developer"}, {"aud": LOGIN}, "granted"),
        ({"org_type": "sandbox"}, {"aud": TEST}, "granted"),
        ({"org_type": "sandbox"}, {"aud": BASE}, "granted"),
        ({"org_type": "sandbox"}, {"aud": LOGIN}, "invalid_grant: audience is invalid"),
        ({"accepted_audiences": "generic"}, {"aud": LOGIN}, "granted"),
        ({"accepted_audiences": "generic"}, {"aud": BASE}, "invalid_grant: audience is invalid"),
        ({"accepted_audiences": "my_domain"}, {"aud": BASE}, "granted"),
        (
            {"accepted_audiences": "my_domain"},
            {"aud": LOGIN},
            "app_not_found: External client app is not installed in this org",
        ),
        (
            {"accepted_audiences": "my_domain"},
            {"aud": TEST},
            "app_not_found: External client app is not installed in this org",
        ),
        (
            {"accepted_audiences": "my_domain"},
            {"aud": "https://other.my.salesforce.com"},
            "invalid_grant: audience is invalid",
        ),
        # The org, the app and the user
        ({"org_active": False}, {}, "invalid_grant: inactive organization"),
        (
            {"app_present": False},
            {},
            "app_not_found: External client app is not installed in this org",
        ),
        (
            {"permission_set_assigned": False, "left_out": "app_not_found"},
            {},
            "app_not_found: External client app is not installed in this org",
        ),
        ({"app_blocked": True}, {}, "OAUTH_APP_BLOCKED: this app is blocked by admin"),
        ({"flow_enabled": False}, {}, "unsupported_grant_type: grant type not supported"),
        ({"certificate": None}, {}, "invalid_client: invalid client credentials"),
        ({"user_active": False}, {}, "invalid_grant: inactive user"),
        ({"ip_allowed": False}, {}, "invalid_grant: ip restricted"),
        ({"ip_allowed": False, "ip_refusal": "not_authorized"}, {}, "invalid_grant: not authorized"),
        ({"login_rate_per_hour": 0}, {}, "invalid_grant: login rate exceeded"),
        # The right to the app
        (
            {"permission_set_assigned": False},
            {},
            "invalid_app_access: user is not admin approved to access this app",
        ),
        ({"permission_set_assigned": False, "permitted_users": "self_authorized"}, {}, "granted"),
        ({"user_approved": False, "permitted_users": "self_authorized"}, {}, NOT_APPROVED),
        ({"user_approved": False}, {}, NOT_APPROVED),
        ({"user_approved": False, "decays_when_admin_approved": False}, {}, "granted"),
        ({"refresh_token_policy": "zero"}, {}, NOT_APPROVED),
        ({"refresh_token_policy": "zero", "decays_when_admin_approved": False}, {}, "granted"),
        ({"scopes": ["api"]}, {}, NOT_APPROVED),
        ({"scopes": ["refresh_token"]}, {}, NOT_APPROVED),
        ({"scopes": ["api", "offline_access"]}, {}, "granted"),
        ({"api_enabled": False}, {}, "granted"),
        # Faults that look like a refusal
        ({"fault": "retry_your_request"}, {}, "unknown_error: retry your request"),
        ({"fault": "retry_your_request", "org_active": False}, {}, "unknown_error: retry your request"),
    ],
)
def test_each_assertion_gets_its_expected_answer(
    make_org: MakeOrg, pair: Pair, settings: dict[str, Any], wrong: dict[str, Any], expected: str
) -> None:
    answer = ask(make_org(**settings), pair, **wrong)

    assert error(answer) == expected
    assert answer.status == (200 if expected == "granted" else 400)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"org_active": False, "app_present": False}, "invalid_grant: inactive organization"),
        ({"app_blocked": True, "certificate": None}, "OAUTH_APP_BLOCKED: this app is blocked by admin"),
        ({"user_active": False, "permission_set_assigned": False}, "invalid_grant: inactive user"),
        ({"ip_allowed": False, "permission_set_assigned": False}, "invalid_grant: ip restricted"),
    ],
)
def test_an_earlier_check_of_the_org_hides_later_ones(
    make_org: MakeOrg, pair: Pair, settings: dict[str, Any], expected: str
) -> None:
    assert error(ask(make_org(**settings), pair)) == expected


def test_another_key_than_the_certificates_is_an_invalid_assertion(
    make_org: MakeOrg, other_pair: Pair
) -> None:
    assert error(ask(make_org(), other_pair)) == INVALID


def test_a_changed_claim_breaks_the_signature(make_org: MakeOrg, pair: Pair) -> None:
    honest, forged = signed(pair, sub="low@acme.com").split("."), signed(pair).split(".")

    answer = login.token(make_org(), post(form(".".join([honest[0], forged[1], honest[2]]))), NOW)

    assert error(answer) == INVALID


@pytest.mark.parametrize("algorithm", ["RS512", "PS256"])
def test_another_rsa_algorithm_than_rs256_is_an_invalid_assertion(
    make_org: MakeOrg, pair: Pair, algorithm: str
) -> None:
    assertion = jwt.encode(claims(), pair.key, algorithm=algorithm)

    assert error(login.token(make_org(), post(form(assertion)), NOW)) == INVALID


def test_an_elliptic_curve_key_is_an_invalid_assertion(make_org: MakeOrg, elliptic_pair: Pair) -> None:
    assertion = jwt.encode(claims(), elliptic_pair.key, algorithm="ES256")
    org = make_org(certificate=elliptic_pair.certificate)

    assert error(login.token(org, post(form(assertion)), NOW)) == INVALID


def test_an_unsigned_assertion_is_refused(make_org: MakeOrg) -> None:
    assertion = jwt.encode(claims(), "", algorithm="none")

    assert error(login.token(make_org(), post(form(assertion)), NOW)) == INVALID


def test_whether_an_expired_certificate_is_refused_is_a_setting(
    make_org: MakeOrg, expired_pair: Pair
) -> None:
    tolerant = make_org(certificate=expired_pair.certificate)
    strict = make_org(certificate=expired_pair.certificate, expired_certificate_refused=True)

    assert error(ask(tolerant, expired_pair)) == "granted"
    assert error(ask(strict, expired_pair)) == INVALID


@pytest.mark.parametrize(
    "assertion",
    ["", "x", "a.b.c", "....", "eyJhbGciOiJSUzI1NiJ9.e30", "é.é.é", "A" * 10_000, "[" * 50_000],
)
def test_something_that_is_not_a_jwt_is_an_invalid_assertion(make_org: MakeOrg, assertion: str) -> None:
    assert error(login.token(make_org(), post(form(assertion)), NOW)) == INVALID


@pytest.mark.parametrize("payload", [b"[]", b"7", b'"text"', b"null", b"not json", b"[" * 20_000])
def test_claims_that_are_not_an_object_are_an_invalid_assertion(
    make_org: MakeOrg, pair: Pair, payload: bytes
) -> None:
    assertion = jwt.api_jws.encode(payload, pair.key, algorithm="RS256")

    assert error(login.token(make_org(), post(form(assertion)), NOW)) == INVALID


def test_a_scope_parameter_is_refused(make_org: MakeOrg, pair: Pair) -> None:
    answer = login.token(make_org(), post(form(signed(pair), scope="api")), NOW)

    assert error(answer) == "invalid_request: scope parameter not supported"


def test_parameters_in_the_query_string_are_accepted(make_org: MakeOrg, pair: Pair) -> None:
    answer = login.token(make_org(), post(b"", query=form(signed(pair)).decode()), NOW)

    assert error(answer) == "granted"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"grant_type=password&username=u", FORM),
        (b"assertion=x", FORM),
        (b"\xff\xfe\x00", FORM),
        (b"&".join(b"a=%d" % n for n in range(60)), FORM),
        (b'{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}', "application/json"),
        (urlencode({"grant_type": GRANT_TYPE, "assertion": "x"}).encode(), "text/plain"),
        (f"grant_type={GRANT_TYPE} &assertion=x".encode(), FORM),
    ],
)
def test_a_form_of_another_flow_is_an_unsupported_grant_type(
    make_org: MakeOrg, body: bytes, content_type: str
) -> None:
    answer = login.token(make_org(), post(body, content_type=content_type), NOW)

    assert error(answer) == "unsupported_grant_type: grant type not supported"


def test_a_charset_in_the_content_type_is_accepted(make_org: MakeOrg, pair: Pair) -> None:
    request = post(form(signed(pair)), content_type="Application/X-WWW-Form-Urlencoded; charset=UTF-8")

    assert error(login.token(make_org(), request, NOW)) == "granted"


def test_the_token_endpoint_requires_post(make_org: MakeOrg, pair: Pair) -> None:
    answer = login.token(make_org(), post(form(signed(pair)), method="GET"), NOW)

    assert error(answer) == "invalid_request: must use HTTP POST"


def test_an_org_in_maintenance_shows_a_web_page(make_org: MakeOrg, pair: Pair) -> None:
    answer = ask(make_org(maintenance=True), pair)

    assert dict(answer.headers)["Content-Type"].startswith("text/html")
    assert b"Data Not Available" in answer.body


def test_a_server_error_is_a_500(make_org: MakeOrg, pair: Pair) -> None:
    assert ask(make_org(fault="error_500"), pair).status == 500


def test_tokens_assertions_and_bodies_stay_out_of_reprs(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org()
    request = post(form(signed(pair)))
    answer = login.token(org, request, NOW)

    assert "assertion" not in repr(request)
    assert said(answer)["access_token"] not in repr(answer) + repr(org)
