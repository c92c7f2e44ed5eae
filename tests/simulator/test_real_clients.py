"""Unmodified third-party Salesforce clients log in to the simulator."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
)

from monitor.simulator.server import Simulator, running
from tests.simulator.asking import CONSUMER_KEY, USERNAME, Pair, signed

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


AUDIT: Queries = [
    ("SELECT IsSandbox, OrganizationType, TrialExpirationDate, InstanceName FROM Organization", False),
    ("SELECT Username, IsActive, Profile.Name, Profile.UserLicense.Name FROM User ORDER BY Username", False),
    ("SELECT PermissionsApiEnabled, PermissionsExternalClientAppViewer FROM UserPermissionAccess", False),
    ("SELECT LoginTime, Status, SourceIp FROM LoginHistory WHERE LoginTime > 2020-01-01T00:00:00Z", False),
    ("SELECT AppName, CreatedDate, LastUsedDate, UseCount FROM OauthToken", False),
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
    ("SELECT IsEnabled, OauthPluginStatus FROM ExtlClntAppPlcyCnfg", False),
    ("SELECT OauthScopesAPI, OauthScopesREFRESH_TOKEN FROM ExtlClntAppOauthSettings", False),
    (
        (
            "SELECT RefreshTokenPolicyType, RefreshTokenValidityPeriod, LastModifiedBy.Name"
            " FROM ExtlClntAppOauthPlcyCnfg"
        ),
        False,
    ),
    ("SELECT RefreshTokenPolicyType FROM ExtlClntAppOauthPlcyCnfg", True),
    ("SELECT Name, Metadata FROM Profile WHERE Name LIKE 'Minimum%' LIMIT 1", True),
    ("SELECT SandboxName, CopyProgress FROM SandboxProcess", True),
    ("SELECT Action, Display, CreatedBy.Name FROM SetupAuditTrail", False),
    ("SELECT Id FROM ConnectedApplication", False),
    ("SELECT Nonsense FROM User", False),
    ("SELECT Id FROM ExtlClntAppGlobalOauthSettings", False),
    ("SELECT Id FROM User WHERE", False),
]
FAILS = {16: "INVALID_FIELD", 17: "INVALID_TYPE", 18: "MALFORMED_QUERY"}
WITHOUT_ROWS = {15}


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
        by_jsforce = script("jsforce_login.cjs", base, assertion, queries=AUDIT, home=tmp_path)
        token = by_jsforce["accessToken"]
        by_cli = script("sf_query.mjs", base, token, queries=AUDIT, home=tmp_path)
        session.mount("https://", Rerouted(url))
        client = Salesforce(instance="acme.my.salesforce.com", session_id=token, session=session)
        by_simple = [by_simple_salesforce(client, *query) for query in AUDIT]

    assert [bare(one) for one in by_jsforce["read"]] == by_simple == [bare(one) for one in by_cli]
    for number, read in enumerate(by_simple):
        assert read.get("error") == FAILS.get(number), AUDIT[number]
        assert bool(read.get("records")) is (number not in FAILS.keys() | WITHOUT_ROWS), AUDIT[number]
    assert len(by_simple[3]["records"]) > 200


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
