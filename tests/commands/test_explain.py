import contextlib
import json
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.commands.explain import INPUT_LIMIT, Unreadable, as_json, explain, lines
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from tests.commands.printed import printed
from tests.core.verdict.test_paste import HARMLESS, HOSTILE

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CORPUS = Path(__file__).parents[1] / "corpus"
KEYS = [
    "state",
    "cause",
    "title",
    "severity",
    "responsible",
    "certainty",
    "evidence",
    "alternatives",
    "remedy",
    "note",
    "guide",
]
WELL = {"answer": {"status": 200, "body": '{"access_token":"00Dxx0000000001!AQ","scope":"api"}'}}


CASES: list[dict[str, Any]] = [
    case
    for file in sorted(CORPUS.glob("*.yaml"))
    for case in yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
]


def told(given_in: object, now: datetime = NOW) -> dict[str, Any]:
    text = given_in if isinstance(given_in, str) else json.dumps(given_in)
    return as_json(explain(text, now))


@pytest.mark.parametrize(
    ("given_in", "expect"),
    [pytest.param(case["in"], case["expect"], id=case["id"]) for case in CASES],
)
def test_a_case_of_the_corpus_gets_the_expected_diagnosis(given_in: object, expect: dict[str, Any]) -> None:
    try:
        found = told(given_in)
    except Unreadable:
        assert expect.get("unreadable_is_right")
        return

    assert found["cause"] in expect["cause"]
    assert found["state"] in expect.get("state", [found["state"]])
    assert found["responsible"] == expect.get("responsible", found["responsible"])
    assert {other["cause"] for other in found["alternatives"]} >= set(expect.get("alternatives", []))
    assert found["cause"] not in expect.get("never", [])


def before_each_line(words: str) -> Callable[[str], str]:
    return lambda text: "\n".join(words + line for line in text.splitlines())


SURROUNDINGS: tuple[Callable[[str], str], ...] = (
    before_each_line("sync_1  | "),
    before_each_line("[pod/sync-6d5f/sync] "),
    before_each_line("Nov 20 03:12:11 host sync[412]: "),
    before_each_line("2026-11-20T03:12:11.4001234Z "),
    before_each_line("> "),
    before_each_line("        "),
    lambda text: text.replace("\n", "\r\n"),
    lambda text: f"{text}\n2026-11-20 03:12:13 INFO [http] GET /healthz 200",
    lambda text: f"Hello,\n\nsince this morning we see this:\n```\n{text}\n```\nAny idea?",
)


@pytest.mark.parametrize("number", range(len(SURROUNDINGS)))
def test_what_surrounds_a_text_does_not_change_its_diagnosis(number: int) -> None:
    """Each case in one of the surroundings."""
    for case in CASES[number :: len(SURROUNDINGS)]:
        if isinstance(case["in"], str):
            surrounded = SURROUNDINGS[number](case["in"])
            test_a_case_of_the_corpus_gets_the_expected_diagnosis(surrounded, case["expect"])


def test_every_case_has_a_unique_name_and_existing_causes() -> None:
    codes = {str(cause) for cause in Cause} | {None}

    assert len({case["id"] for case in CASES}) == len(CASES)
    for case in CASES:
        assert codes.issuperset(case["expect"]["cause"])
        assert codes.issuperset(case["expect"].get("alternatives", []))
        assert codes.issuperset(case["expect"].get("never", []))


def test_the_json_has_the_promised_keys_in_their_order() -> None:
    found = told("invalid_grant: audience is invalid")

    assert list(found) == KEYS
    assert found["title"] == CATALOGUE[Cause.AUDIENCE_INVALID].title
    assert found["remedy"] == list(CATALOGUE[Cause.AUDIENCE_INVALID].remedy)
    assert found["guide"] == "step 7"
    assert list(told("invalid_grant: invalid assertion")["alternatives"][0]) == ["cause", "tell_apart"]
    json.dumps(found)


def test_a_granted_answer_has_no_cause() -> None:
    assert told(WELL) == {
        "state": "healthy",
        "cause": None,
        "title": None,
        "severity": None,
        "responsible": None,
        "certainty": None,
        "evidence": [],
        "alternatives": [],
        "remedy": [],
        "note": None,
        "guide": None,
    }
    assert printed(lines(explain(json.dumps(WELL), NOW))) == [
        "healthy: nothing is wrong with the credential."
    ]


def test_the_text_has_cause_evidence_and_remedy() -> None:
    shown = printed(lines(explain("invalid_grant: ip restricted", NOW)))

    assert shown[0] == "failing: Login is not allowed from this address or at this hour"
    assert '  - Salesforce answered: "invalid_grant: ip restricted".' in shown
    assert any(line.startswith("  1. Look in Setup > Login History") for line in shown)
    assert "Note: where sources disagree" in shown


def test_nulls_count_as_missing() -> None:
    everything: dict[str, Any] = {
        "now": None,
        "fault": None,
        "after_login": None,
        "connection": dict.fromkeys(("login_url", "audience", "username", "consumer_key")),
        "local": dict.fromkeys(
            (
                "key_matches_certificate",
                "key_type",
                "key_bits",
                "certificate_not_after",
                "clock_offset_seconds",
                "failing_share_of_fleet",
            )
        ),
        "history": dict.fromkeys(
            (
                "first_seen",
                "first_success",
                "last_success",
                "consecutive_successes",
                "failing_since",
                "changed_at",
                "org_id",
                "user_id",
                "approval_lifetimes_days",
            )
        ),
    }

    assert told({**WELL, **everything}) == told(WELL)
    assert told({**WELL, "local": None, "history": None, "connection": None, "newer": 1}) == told(WELL)


def test_a_body_can_be_given_as_json() -> None:
    record = {
        "answer": {"status": 400, "body": {"error": "invalid_grant", "error_description": "inactive user"}}
    }

    assert told(record)["cause"] == "user_inactive"


@pytest.mark.parametrize("order", [list, reversed, sorted])
def test_the_order_of_facts_does_not_matter(order: Any) -> None:
    record = {
        "now": "2026-11-23T12:00:00Z",
        "answer": {
            "status": 400,
            "body": '{"error":"invalid_grant","error_description":"invalid assertion"}',
        },
        "local": {"key_matches_certificate": True, "certificate_not_after": "2026-11-20T00:00:00Z"},
        "history": {"last_success": "2026-11-19T00:00:00Z", "first_success": "2026-01-01T00:00:00Z"},
    }
    shuffled = {
        key: {inner: value[inner] for inner in order(list(value))} if isinstance(value, dict) else value
        for key, value in ((key, record[key]) for key in order(list(record)))
    }

    assert told(shuffled) == told(record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The input is empty: paste a JSON record or an error text."),
        (" \n\t", "The input is empty: paste a JSON record or an error text."),
        ("{}", "It is JSON, but contains no known answer"),
        ("[]", "It is JSON, but contains no known answer"),
        ('{"history": {}}', "The record must have either `answer` or `fault`, not both."),
        ('{"answer": null, "fault": null}', "The record must have either `answer` or `fault`, not both."),
        ('{"answer": {"body": ""}}', "The record cannot be read: answer.status: Field required."),
        (
            '{"answer": {"status": "many"}}',
            "The record cannot be read: answer.status: Input should be a valid integer",
        ),
        ('{"answer": 5}', "The record cannot be read: answer: Input should be"),
        (
            '{"fault": {"kind": "weather"}}',
            "The record cannot be read: fault.kind: 'weather' is not one of dns, connect, tls",
        ),
        (
            '{"answer": {"status": 400}, "now": "yesterday"}',
            "The record cannot be read: now: Input should be",
        ),
        (
            '{"answer": {"status": 400}, "now": "0001-01-01T00:00:00Z"}',
            "The record cannot be read: now: Value error, must be between the years 1970 and 9000.",
        ),
        (
            '{"answer": {"status": 400}, "local": {"failing_share_of_fleet": 7}}',
            "The record cannot be read: local.failing_share_of_fleet: Input should be less than or equal",
        ),
        ("the quick brown fox", "The text contains no known answer"),
        ('{"answer": {"status": 400', "The text contains no known answer"),
        ("x" * 65_537, "The input is longer than 65,536 characters: paste a single answer."),
    ],
)
def test_unreadable_input_is_one_clear_message(text: str, message: str) -> None:
    with pytest.raises(Unreadable) as raised:
        explain(text, NOW)

    assert str(raised.value).startswith(message)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Error: getaddrinfo ENOTFOUND acmee.my.salesforce.com", "acmee.my.salesforce.com"),
        (
            "curl: (6) Could not resolve host: acme--dev.sandbox.my.salesforce.com",
            "acme--dev.sandbox.my.salesforce.com",
        ),
    ],
)
def test_the_host_in_a_line_is_in_the_evidence(text: str, host: str) -> None:
    assert any(host in said for said in told(text)["evidence"])


def test_secrets_in_pasted_text_are_not_shown() -> None:
    token = "00Dxx0000000001!AQEAQGxfXyzsecret"
    pasted = [
        f"invalid_grant: invalid assertion eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJzZWNyZXQifQ.c2VjcmV0 {token}",
        json.dumps({"error": "invalid_grant", "error_description": f"odd {token}"}),
        json.dumps({"access_token": token, "scope": "openid"}),
    ]

    for line in pasted:
        shown = "\n".join(printed(lines(explain(line, NOW))))
        assert "secret" not in shown
        assert "c2VjcmV0" not in shown


def test_control_characters_in_pasted_text_do_not_reach_the_terminal() -> None:
    shown = "".join(printed(lines(explain("invalid_grant: \x1b[2J\x1b[31mip restricted\u202e", NOW))))

    assert shown.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "invalid_grant: invalid assertion",
        "invalid_grant: user hasn't approved this consumer",
        "invalid_grant: expired authorization code",
        "app_not_found: External client app is not installed in this org",
    ],
)
def test_a_pasted_text_has_no_evidence_about_a_deployment(text: str) -> None:
    assert told(text)["evidence"] == [f'Salesforce answered: "{text}".']


def test_the_pair_that_the_salesforce_cli_was_given_is_in_the_evidence() -> None:
    own = "https://globex.my.salesforce.com"
    listed = f"Errors encountered:\naudience is invalid  [audience={own} login={own}]"

    assert told(listed)["evidence"][1] == (
        f"The text mentions the host globex.my.salesforce.com and the audience {own}."
    )


def test_a_text_of_another_flow_is_reported_as_such() -> None:
    other = "The text belongs to the username-password flow: does this client use JWT bearer at all?"

    assert other in told("invalid_grant: authentication failure")["evidence"]
    assert other not in told("JwtAuthError: invalid_grant: authentication failure")["evidence"]


def test_a_refused_call_of_a_token_with_scope_api_is_not_about_a_scope() -> None:
    found = explain(
        'granted, scope: "api refresh_token"\n'
        "INVALID_SESSION_ID: This session is not valid for use with the REST API",
        NOW,
    )

    assert found.cause is Cause.APP_BLOCKED
    assert found.findings[0].evidence[1:] == ("The text mentions the scopes api, refresh_token.",)
    assert Cause.SCOPE_MISSING not in {other.cause for other in found.alternatives}


def test_the_field_after_the_scopes_of_an_answer_is_not_a_scope() -> None:
    found = explain(
        '{"access_token": "…", "scope":"api web","instance_url":"https://acme.my.salesforce.com"}\n'
        "INVALID_SESSION_ID: This session is not valid for use with the REST API",
        NOW,
    )

    assert "The text mentions the scopes api, web." in found.findings[0].evidence


def test_a_missing_record_permission_says_nothing_about_the_login() -> None:
    found = explain("INSUFFICIENT_ACCESS_OR_READONLY: insufficient access rights on object id", NOW)

    assert found.cause is Cause.UNRECOGNISED
    assert "A token was granted" in found.findings[0].evidence[0]


def test_an_error_of_another_provider_is_identified_as_such() -> None:
    said = told("invalid_client: AADSTS7000222: The provided client secret keys are expired.")["evidence"]

    words = "invalid_client: AADSTS7000222: The provided client secret keys are expired."
    where = "(Microsoft Entra, Google, DocuSign): check what is logging in there."
    assert said == [
        f'The text says: "{words}".',
        f'The text contains "AADSTS7000222", a term of another provider {where}',
    ]


def test_disagreement_of_sources_comes_last() -> None:
    shown = printed(lines(explain("invalid_grant: ip restricted", NOW)))

    assert shown.index("Note: where sources disagree") == len(shown) - 2


def test_a_gateways_json_fault_is_not_a_record() -> None:
    said = {"error": "invalid_grant", "error_description": "inactive user"}

    assert told({"fault": {"faultstring": "callout failed", "detail": json.dumps(said)}})["cause"] == (
        "user_inactive"
    )


COSTS_AT_MOST = 10
"""How many times as much a text may cost as a harmless log of its length, which grows with the length. The
worst that are known cost twice as much; what grew with the square would cost thousands of times."""


@given(st.lists(st.sampled_from([*HOSTILE, "x", "\n"]), min_size=1, max_size=8).map("".join))
@settings(max_examples=4, deadline=None)
def test_any_64_kilobytes_are_read_nearly_as_fast_as_a_plain_log(piece: str) -> None:
    assert min(cost(piece) for _ in range(2)) < COSTS_AT_MOST * cost_of_a_plain_log()


def cost(of: str) -> float:
    """Seconds of the CPU."""
    text = (of * INPUT_LIMIT)[:INPUT_LIMIT]
    begin = time.process_time()
    with contextlib.suppress(Unreadable):
        explain(text, NOW)
    return time.process_time() - begin


@cache
def cost_of_a_plain_log() -> float:
    return cost(HARMLESS)


def test_a_consumer_key_that_is_not_valid_unicode_is_read_anyway() -> None:
    refusal = {"status": 400, "body": '{"error":"invalid_client_id"}'}

    assert told({"connection": {"consumer_key": "\ud83d"}, "answer": refusal})["cause"]


@pytest.mark.parametrize("piece", ["{{'a':", "{\n", "\x1b[0"])
def test_an_endless_input_is_refused(piece: str) -> None:
    with pytest.raises(Unreadable, match="longer than 65,536 characters"):
        explain(piece * (INPUT_LIMIT // len(piece) + 1), NOW)


def test_pasted_text_causes_no_python_warning() -> None:
    """Found by fuzzing: the warning was printed on the operator's screen. Warnings are recorded here, because
    pytest would turn them into errors, which look like an unreadable text.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(Unreadable):
            explain("{'a': 0x1for 2}", NOW)

    assert said == []
