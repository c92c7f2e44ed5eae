"""Salesforce clients that nobody here wrote log in to the simulator, as they are."""

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
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceRefusedRequest

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
    # Its message is of no use: in the version at hand, a template that nobody filled in.
    with pytest.raises(SalesforceAuthenticationFailed) as caught:
        simple(session, pair, domain, instance_url=host)

    assert caught.value.code == code


def test_simple_salesforce_understands_a_refused_call(session: requests.Session, pair: Pair) -> None:
    client = simple(session, pair, "no-api.my")

    with pytest.raises(SalesforceRefusedRequest, match="API_CURRENTLY_DISABLED"):
        client.query("SELECT Id FROM User")


def jsforce(login_url: str, assertion: str) -> dict[str, Any]:
    if not JSFORCE.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("jsforce is not installed: npm ci")
    ran = subprocess.run(
        ["node", str(HERE / "jsforce_login.cjs"), login_url, assertion],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


@pytest.mark.real("node")
def test_jsforce_logs_in_and_queries(running_simulator: Running, pair: Pair) -> None:
    simulator, url = running_simulator
    base = f"{url}/acme"

    said = jsforce(base, signed(pair, simulator.now(), aud=base))

    org = simulator.org("acme")
    assert said["instance"] == base
    assert (said["user"]["organizationId"], said["user"]["id"]) == (org.org_id, org.user_id())
    assert said["records"][0]["Username"] == USERNAME
    assert said["usage"]["limit"] == 15_000


@pytest.mark.real("node")
def test_jsforce_understands_a_refusal(running_simulator: Running, pair: Pair) -> None:
    simulator, url = running_simulator
    base = f"{url}/unapproved"

    said = jsforce(base, signed(pair, simulator.now(), aud=base))

    assert said == {
        "error": "invalid_app_access",
        "message": "user is not admin approved to access this app",
    }
