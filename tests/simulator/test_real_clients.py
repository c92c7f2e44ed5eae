"""Unmodified third-party Salesforce clients log in to the simulator."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
)

from monitor.core.inside import Facts
from monitor.core.reads import QUERIES, Read
from monitor.salesforce.org import Reply, Subject
from monitor.salesforce.org import read as audit
from monitor.simulator.server import Simulator, running
from tests.simulator.asking import CONSUMER_KEY, USERNAME, Pair, ask, get, signed, token_of

HERE = Path(__file__).parent
JSFORCE = HERE.parents[1] / "node_modules" / "jsforce"

ORGS: dict[str, dict[str, object]] = {
    "acme": {},
    "eca": {"accepted_audiences": "my_domain"},
    "acme--dev.sandbox": {"org_type": "sandbox"},
    "unapproved": {"permission_set_assigned": False},
    "no-api": {"api_enabled": False},
}

Running = tuple[Simulator, str]


@pytest.fixture(scope="module")
def running_simulator(pair: Pair) -> Iterator[Running]:
    """On the wall clock: these clients sign with it."""
    simulator = Simulator()
    right = {"consumer_key": CONSUMER_KEY, "username": USERNAME, "certificate": pair.certificate}
    for name, different in ORGS.items():
        simulator.put(name, {**right, **different})
    with running(simulator) as url:
        yield simulator, url


class Rerouted(HTTPAdapter):
    """Sends what is meant for Salesforce's hosts to the simulator, and names the host as before."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        assert request.url is not None
        host, _, path = request.url.removeprefix("https://").partition("/")
        request.headers["Host"] = host
        request.url = f"{self._url}/{path}"
        return super().send(request, **{**options, "proxies": {}})


@pytest.fixture
def session(running_simulator: Running) -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.mount("https://", Rerouted(running_simulator[1]))
        yield made


def simple(session: requests.Session, pair: Pair, domain: str, **options: Any) -> Any:
    return Salesforce(
        username=USERNAME,
        consumer_key=CONSUMER_KEY,
        privatekey=pair.pem,
        domain=domain,
        session=session,
        **options,
    )


@pytest.mark.parametrize("domain", ["acme.my", "eca.my", "acme--dev.sandbox.my"])
def test_simple_salesforce_logs_in_with_my_domain_and_queries(
    session: requests.Session, pair: Pair, domain: str
) -> None:
    client = simple(session, pair, domain)

    found = client.query("SELECT Id, Username FROM User")

    assert client.sf_instance == f"{domain}.salesforce.com"
    assert found["records"][0]["Username"] == USERNAME
    assert client.api_usage["api-usage"].total == 15_000


@pytest.mark.parametrize(("domain", "host"), [("login", "acme.my"), ("test", "acme--dev.sandbox.my")])
def test_simple_salesforce_logs_in_with_the_generic_audience(
    session: requests.Session, pair: Pair, domain: str, host: str
) -> None:
    client = simple(session, pair, domain, instance_url=host)

    assert client.session_id.startswith("00D")


@pytest.mark.parametrize(
    ("domain", "host", "code"),
    [
        ("unapproved.my", None, "invalid_app_access"),
        ("test", "acme.my", "invalid_grant"),
        ("login", "eca.my", "app_not_found"),
    ],
)
def test_simple_salesforce_understands_a_refusal(
    session: requests.Session, pair: Pair, domain: str, host: str | None, code: str
) -> None:
    # Its message is useless: in this version, an unfilled template.
    with pytest.raises(SalesforceAuthenticationFailed) as caught:
        simple(session, pair, domain, instance_url=host)

    assert caught.value.code == code


def test_simple_salesforce_understands_a_refused_call(session: requests.Session, pair: Pair) -> None:
    client = simple(session, pair, "no-api.my")

    with pytest.raises(SalesforceRefusedRequest, match="API_CURRENTLY_DISABLED"):
        client.query("SELECT Id FROM User")


Queries = list[tuple[str, bool]]
"""SOQL, and whether by Tooling."""


def script(name: str, *arguments: str, queries: Queries, home: Path) -> Any:
    """What the last line says that a script of Node prints; `home` keeps it off its user's settings."""
    if not JSFORCE.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("jsforce is not installed: npm ci")
    ran = subprocess.run(
        ["node", str(HERE / name), *arguments],
        input=json.dumps(queries),
        env={"PATH": os.environ["PATH"], "HOME": str(home), **SF_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(ran.stdout.splitlines()[-1])


SF_ENVIRONMENT = {"SF_DISABLE_TELEMETRY": "true", "SF_DISABLE_LOG_FILE": "true", "SF_ORG_API_VERSION": "62.0"}


@pytest.mark.real("node")
def test_jsforce_logs_in_and_queries(running_simulator: Running, pair: Pair, tmp_path: Path) -> None:
    simulator, url = running_simulator
    base = f"{url}/acme"
    assertion = signed(pair, simulator.now(), aud=base)
    users = [("SELECT Id, Username FROM User", False)]

    said = script("jsforce_login.cjs", base, assertion, queries=users, home=tmp_path)

    org = simulator.org("acme")
    assert said["instance"] == base
    assert (said["user"]["organizationId"], said["user"]["id"]) == (org.org_id, org.user_id())
    assert said["read"][0]["records"][0]["Username"] == USERNAME
    assert said["usage"]["limit"] == 15_000


@pytest.mark.real("node")
def test_jsforce_understands_a_refusal(running_simulator: Running, pair: Pair, tmp_path: Path) -> None:
    simulator, url = running_simulator
    base = f"{url}/unapproved"

    assertion = signed(pair, simulator.now(), aud=base)
    said = script("jsforce_login.cjs", base, assertion, queries=[], home=tmp_path)

    assert said == {
        "error": "invalid_app_access",
        "message": "user is not admin approved to access this app",
    }


OTHER: Queries = [
    ("SELECT LoginTime, Status, SourceIp FROM LoginHistory WHERE LoginTime > 2020-01-01T00:00:00Z", False),
    ("SELECT Username, IsActive, Profile.Name, Profile.UserLicense.Name FROM User ORDER BY Username", False),
    ("SELECT IsFrozen FROM UserLogin", False),
    (
        (
            "SELECT PermissionSet.Name, PermissionSet.License.Name, ExpirationDate"
            " FROM PermissionSetAssignment WHERE IsActive = true ORDER BY PermissionSet.Name DESC"
        ),
        False,
    ),
    (
        (
            "SELECT Parent.Name FROM SetupEntityAccess"
            " WHERE SetupEntityId IN (SELECT Id FROM ExternalClientApplication)"
        ),
        False,
    ),
    ("SELECT RefreshTokenPolicyType FROM ExtlClntAppOauthPlcyCnfg", True),
    ("SELECT Name, Metadata FROM Profile WHERE Name LIKE 'Minimum%' LIMIT 1", True),
]
"""What no audit asks like this."""

WITHOUT_ROWS: dict[tuple[str, bool], str | None] = {
    ("SELECT Id FROM ConnectedApplication", False): None,
    ("SELECT Nonsense FROM User", False): "INVALID_FIELD",
    ("SELECT Id FROM ExtlClntAppGlobalOauthSettings", False): "INVALID_TYPE",
    ("SELECT Id FROM User WHERE", False): "MALFORMED_QUERY",
}
"""Queries without rows, and the error if there is one."""


def queries_of_audits(simulator: Simulator, pair: Pair) -> Queries:
    """What audits of the org ask, after a grant and after a refusal."""
    org, now, asked = simulator.org("acme"), simulator.now(), Queries()
    token = token_of(ask(org, pair, now))

    async def answer(path: str) -> Reply | None:
        parts = urlsplit(path)
        asked.append((parse_qs(parts.query)["q"][0], "/tooling/" in parts.path))
        found = get(org, parts.path, token, now, query=parts.query)
        return Reply(found.status, found.body)

    for granted in (True, False):
        about = Subject(USERNAME, "Integration", org.user_id() if granted else "", now, granted=granted)
        about = replace(about, changes_since=now - timedelta(days=1), objects=("Account", "Lead"))
        facts = Facts(now, observer="" if granted else "observer")
        asyncio.run(audit(answer, about, facts, calls=len(QUERIES)))
    return list(dict.fromkeys(asked))


@pytest.mark.real("node")
def test_all_clients_read_the_same_rows(pair: Pair, tmp_path: Path) -> None:
    simulator = Simulator()
    settings = {
        "consumer_key": CONSUMER_KEY,
        "username": USERNAME,
        "certificate": pair.certificate,
        "permissions": ["ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers"],
        "production": {"every_seconds": 60},
        "sandbox_copy": {},
        "refresh_token_policy": "lifetime",
        "refresh_token_validity_seconds": 30 * 86_400,
    }
    simulator.put("acme", settings)
    simulator.patch("acme", {"login_ip_ranges": ["127.0.0.1-127.0.0.1"]})
    simulator.advance(5 * 3600)
    simulator.patch("acme", {"production": None})
    with running(simulator) as url, requests.Session() as session:
        base = f"{url}/acme"
        assertion = signed(pair, simulator.now(), aud=base)
        ours = queries_of_audits(simulator, pair)
        queries = [*OTHER, *WITHOUT_ROWS, *ours]
        by_jsforce = script("jsforce_login.cjs", base, assertion, queries=queries, home=tmp_path)
        token = by_jsforce["accessToken"]
        by_cli = script("sf_query.mjs", base, token, queries=queries, home=tmp_path)
        session.mount("https://", Rerouted(url))
        client = Salesforce(instance="acme.my.salesforce.com", session_id=token, session=session)
        by_simple = [by_simple_salesforce(client, *query) for query in queries]

    assert [bare(one) for one in by_jsforce["read"]] == by_simple == [bare(one) for one in by_cli]
    for query, read in zip(queries, by_simple, strict=True):
        assert read.get("error") == WITHOUT_ROWS.get(query), query
        assert bool(read.get("records")) is (query not in WITHOUT_ROWS), query
    assert len(by_simple[0]["records"]) > 200
    of_classic_apps = QUERIES[Read.CLASSIC].of  # this org's app is an External Client App
    assert {soql.split(" FROM ")[1].split()[0] for soql, _ in ours} == {
        query.of for query in QUERIES.values()
    } - {of_classic_apps}


def by_simple_salesforce(client: Any, soql: str, tooling: bool) -> Any:
    try:
        if tooling:
            return bare(client.toolingexecute("query", params={"q": soql}))
        pages = client.query_all_iter(soql, headers={"Sforce-Query-Options": "batchSize=200"})
        return bare({"records": list(pages)})
    except SalesforceMalformedRequest as error:
        content: Any = error.content
        return {"error": content[0]["errorCode"]}


def bare(read: Any) -> Any:
    """Records or the error, without the attributes, whose addresses depend on how the org was reached."""
    if isinstance(read, list):
        return [bare(one) for one in read]
    if not isinstance(read, dict):
        return read
    return {
        name: bare(value) for name, value in read.items() if name not in {"attributes", "totalSize", "done"}
    }
