"""What an audit asks an org, how often, and what it keeps of the answers."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from monitor.core.inside import Facts
from monitor.core.reads import QUERIES, Permission, Read
from monitor.salesforce.org import CALLS, LARGEST_ANSWER, Get, Reply, Subject, read, rows_in
from monitor.simulator.org import Org
from tests.making import NOW, SECRET_FIELDS
from tests.simulator.asking import USERNAME, Pair, ask, token_of
from tests.simulator.asking import get as asked
from tests.simulator.conftest import MakeOrg, make_org, pair

__all__ = ["make_org", "pair"]

EVERYTHING = ["ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers"]
DAY = 86_400
SUBJECT = Subject(USERNAME, "", "", NOW, granted=True, scopes=frozenset({"api", "refresh_token"}))


class Asked:
    """An org's REST API with a token, and the paths that were asked."""

    def __init__(self, org: Org, token: str, at: datetime = NOW) -> None:
        self.org, self.token, self.at = org, token, at
        self.paths: list[str] = []

    async def get(self, path: str) -> Reply | None:
        self.paths.append(path)
        parts = urlsplit(path)
        found = asked(self.org, parts.path, self.token, self.at, query=parts.query)
        return Reply(found.status, found.body)

    @property
    def objects(self) -> list[str]:
        return [parse_qs(urlsplit(path).query)["q"][0].split(" FROM ")[1].split()[0] for path in self.paths]


def own(org: Org, pair: Pair) -> Asked:
    """With the token of the org's integration user, which has just logged in."""
    return Asked(org, token_of(ask(org, pair)))


def observer(org: Org, pair: Pair) -> Asked:
    watcher = {
        "consumer_key": "3MVG9observer",
        "username": "observer@acme.com",
        "certificate": pair.certificate,
    }
    org.change({"observer": watcher}, NOW)
    return Asked(org, token_of(ask(org, pair, iss="3MVG9observer", sub="observer@acme.com")))


def subject(org: Org, **different: Any) -> Subject:
    return replace(SUBJECT, user_id=org.user_id(), **different)


async def test_without_permissions_only_own_rows_are_read_and_no_call_is_wasted(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(production={})
    asked = own(org, pair)

    facts = await read(asked.get, subject(org), Facts(NOW))

    assert asked.objects == ["UserPermissionAccess", "LoginHistory", "Organization", "OauthToken"]
    assert facts.lacks(Read.ASSIGNMENTS) is Permission.VIEW_SETUP
    assert facts.unread[Read.POLICY] == ""
    assert (facts.application, facts.status) == ("Integration", "Success")
    assert facts.rows[Read.TOKENS][0]["AppName"] == "Integration"


async def test_with_permissions_a_first_audit_reads_every_step_in_eight_calls(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(permissions=EVERYTHING, login_ip_ranges=["127.0.0.0-127.0.0.255"])
    asked = own(org, pair)

    facts = await read(asked.get, subject(org), Facts(NOW))

    assert len(asked.paths) == facts.calls == CALLS
    assert facts.rows[Read.POLICY][0]["RefreshTokenPolicyType"] == "Infinite"
    assert facts.rows[Read.ASSOCIATION][0]["Parent.Name"] == "Integration_User_Permission_Set"
    assert facts.rows[Read.PROFILE] == ({"startAddress": "127.0.0.0", "endAddress": "127.0.0.255"},)
    assert set(facts.unread) == {Read.SANDBOXES}


async def test_no_audit_makes_more_than_eight_calls_and_omissions_are_reported(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(
        permissions=EVERYTHING,
        refresh_token_policy="lifetime",
        refresh_token_validity_seconds=30 * DAY,
        app_objects_on="tooling",
    )
    asked = own(org, pair)

    facts = await read(asked.get, subject(org), Facts(NOW))

    assert len(asked.paths) == facts.calls == CALLS
    assert facts.rows[Read.POLICY][0]["RefreshTokenValidityPeriod"] == 30
    assert facts.unread[Read.PROFILE] == "not read: an audit makes at most 8 calls"


async def test_objects_unknown_to_the_standard_api_are_read_through_the_tooling_api(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org(permissions=EVERYTHING, app_objects_on="tooling")
    asked = own(org, pair)

    await read(asked.get, subject(org), Facts(NOW))

    surfaces = [
        path.split("?")[0].split("v62.0/")[1]
        for path, of in zip(asked.paths, asked.objects, strict=True)
        if of.startswith("Ext")
    ]
    assert surfaces == ["query", "tooling/query", "tooling/query"]


async def test_a_classic_connected_app_is_found_by_its_name(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(
        permissions=EVERYTHING,
        app_kind="connected_app",
        refresh_token_policy="inactivity",
        refresh_token_validity_seconds=30 * DAY,
    )

    facts = await read(own(org, pair).get, subject(org), Facts(NOW))

    assert facts.rows[Read.CLASSIC][0]["RefreshTokenValidityPeriod"] == 30
    assert facts.rows[Read.ASSOCIATION][0]["Parent.Name"] == "Integration_User_Permission_Set"
    assert facts.unread[Read.POLICY] == "not read: the app was not found"


async def test_an_observer_reads_what_a_refused_user_may_not(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(user_active=False)
    ask(org, pair)
    asked = observer(org, pair)
    refused = subject(org, granted=False, scopes=None, changes_since=NOW - timedelta(days=1))

    facts = await read(asked.get, refused, Facts(NOW, observer="observer"))

    assert len(asked.paths) == CALLS
    assert facts.status == "User is inactive"
    assert facts.rows[Read.ENABLED][0]["IsEnabled"] is True
    assert Read.TRAIL in facts.rows
    assert Read.TOKENS not in facts.rows


async def test_with_an_observer_the_users_own_token_reads_only_what_others_cannot(
    make_org: MakeOrg, pair: Pair
) -> None:
    org = make_org()
    begun = own(org, pair)

    first = await read(begun.get, subject(org), Facts(NOW, observer="observer"), own_alone=True)
    watching = observer(org, pair)
    facts = await read(watching.get, subject(org), first, calls=CALLS - first.calls)

    assert begun.objects == ["LoginHistory"]
    assert "LoginHistory" not in watching.objects
    assert facts.calls == len(begun.paths) + len(watching.paths) <= CALLS
    assert facts.rows[Read.POLICY]


async def test_after_a_refused_api_call_no_more_are_made(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(api_enabled=False)
    asked = own(org, pair)

    facts = await read(asked.get, subject(org), Facts(NOW))

    assert len(asked.paths) == 1
    assert facts.unread[Read.ACCESS].startswith("API_CURRENTLY_DISABLED")


async def test_after_an_unanswered_call_no_more_are_made() -> None:
    asked = []

    async def get(path: str) -> Reply | None:
        asked.append(path)
        return None

    facts = await read(get, SUBJECT, Facts(NOW))

    assert len(asked) == 1
    assert set(facts.unread.values()) == {"no answer"}


async def test_an_unknown_field_does_not_prevent_other_queries(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(
        permissions=EVERYTHING, unreadable=["UserPermissionAccess.PermissionsExternalClientAppViewer"]
    )

    facts = await read(own(org, pair).get, subject(org), Facts(NOW))

    assert facts.unread[Read.ACCESS].startswith("INVALID_FIELD")
    assert facts.rows[Read.POLICY]


async def test_no_query_contains_secrets_or_token_fields(make_org: MakeOrg, pair: Pair) -> None:
    org = make_org(permissions=EVERYTHING)
    asked = own(org, pair)

    await read(asked.get, subject(org, scopes=None), Facts(NOW))

    assert not [path for path in asked.paths for field in SECRET_FIELDS if field in path]
    assert not [path for path in asked.paths if asked.token in path]


def answering(body: bytes) -> Get:
    async def get(_path: str) -> Reply | None:
        return Reply(200, body)

    return get


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"records": null}',
        b'{"records": 7}',
        b'{"records": [7, null, "x"]}',
        b'{"records": [{"Profile": 7, "PermissionsViewSetup": {"a": []}, "LoginTime": 1e999}]}',
        b"[" * 100_000,
        json.dumps({"records": [{"PermissionsViewSetup": 10**300}]}).encode(),
    ],
)
async def test_a_nonsensical_answer_is_ignored(body: bytes) -> None:
    facts = await read(answering(body), replace(SUBJECT, user_id="005"), Facts(NOW))

    assert 3 < facts.calls <= CALLS
    assert facts.has(Permission.VIEW_SETUP) is None
    assert not [value for rows in facts.rows.values() for row in rows for value in row.values() if value]


async def test_text_from_an_org_is_sanitized(make_org: MakeOrg) -> None:
    row = {"IsSandbox": "\x1b[2J" + "x" * 999, "TrialExpirationDate": "00D000000000001!AQ0A"}

    facts = await read(answering(json.dumps({"records": [row]}).encode()), SUBJECT, Facts(NOW))

    (kept,) = facts.rows[Read.ORG]
    assert "\x1b" not in str(kept["IsSandbox"])
    assert len(str(kept["IsSandbox"])) < 200
    assert "AQ0A" not in str(kept["TrialExpirationDate"])


def test_an_audits_answers_have_a_larger_limit_than_a_logins() -> None:
    assert 500 * 350 < LARGEST_ANSWER < 1_000_000


def test_no_more_rows_are_kept_than_requested() -> None:
    body = json.dumps({"records": [{"IsSandbox": True}] * 5_000}).encode()

    kept = {read: len(rows_in(body, QUERIES[read]) or ()) for read in (Read.ORG, Read.ASSIGNMENTS)}
    assert kept == {Read.ORG: 1, Read.ASSIGNMENTS: 200}


def test_all_ip_ranges_of_a_profile_are_kept() -> None:
    ranges = [{"startAddress": f"192.0.{third}.0", "endAddress": f"192.0.{third}.255"} for third in (2, 3)]
    body = json.dumps({"records": [{"Metadata": {"loginIpRanges": ranges}}]}).encode()

    assert rows_in(body, QUERIES[Read.PROFILE]) == tuple(ranges)
