"""Which address and audience an org wants, found by real exchanges with the simulator."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from monitor.commands.discover import Try, options_of, pairs, tries
from monitor.core.causes import Cause
from monitor.core.connection import GENERIC_LOGIN, GENERIC_TEST, Connection
from monitor.core.keys.credential import Credential, CredentialFacts, Problem
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.transport import Limits, rust_transport
from monitor.simulator.server import Simulator, running
from monitor.watch.budget import LoginBudget
from tests.journeys.keys import pair_files
from tests.journeys.wires import Wires, no_such_name
from tests.making import ACME, connection, read_credential

MY_DOMAIN = ACME.login_url
SANDBOX = "https://acme--dev.sandbox.my.salesforce.com"
CREDENTIAL = read_credential(pair_files().private_key, pair_files().certificate)


class Org:
    """An org of the simulator, at its own address and at the login servers, and what is asked of it."""

    def __init__(self, simulator: Simulator, url: str) -> None:
        self.simulator = simulator
        self.url = url
        self.pauses: list[float] = []
        self.silent = False

    def is_so(self, **settings: object) -> None:
        right = {
            "consumer_key": ACME.consumer_key,
            "username": ACME.username,
            "certificate": pair_files().certificate.decode(),
        }
        self.simulator.put("acme", {**right, **settings})

    async def tried(
        self,
        at: Connection,
        *,
        credential: Credential = CREDENTIAL,
        logins: int = 60,
    ) -> list[Try]:
        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)

        async with self._exchanger() as exchanger:
            return await tries(at, credential, exchanger, budget=LoginBudget(logins), pause=pause)

    @asynccontextmanager
    async def _exchanger(self) -> AsyncIterator[Exchanger]:
        def transport(limits: Limits, ca_file: object) -> httpx.AsyncBaseTransport:
            wires = Wires(rust_transport(limits, None, {}), self.url)
            if self.silent:
                wires.weather["acme.my.salesforce.com"] = no_such_name
            return wires

        exchanger = Exchanger(transport=transport)
        try:
            yield exchanger
        finally:
            await exchanger.aclose()


@pytest.fixture
def org() -> Iterator[Org]:
    simulator = Simulator()
    with running(simulator) as url:
        yield Org(simulator, url)


def asked(tried: list[Try]) -> list[tuple[str, str]]:
    return [(each.connection.login_url, each.connection.audience) for each in tried]


def test_pairs_start_with_the_configured_one_then_the_orgs_address() -> None:
    assert pairs(connection(audience=GENERIC_TEST)) == (
        (MY_DOMAIN, GENERIC_TEST),
        (MY_DOMAIN, MY_DOMAIN),
        (MY_DOMAIN, GENERIC_LOGIN),
        (GENERIC_LOGIN, GENERIC_LOGIN),
        (GENERIC_TEST, GENERIC_TEST),
    )


def test_sandboxes_are_first_tried_with_the_sandbox_login_server() -> None:
    assert pairs(connection(login_url=SANDBOX, audience=SANDBOX)) == (
        (SANDBOX, SANDBOX),
        (SANDBOX, GENERIC_TEST),
        (SANDBOX, GENERIC_LOGIN),
        (GENERIC_TEST, GENERIC_TEST),
        (GENERIC_LOGIN, GENERIC_LOGIN),
    )


def test_if_only_a_login_server_is_known_both_are_tried() -> None:
    assert pairs(connection(login_url=GENERIC_LOGIN, audience=GENERIC_LOGIN)) == (
        (GENERIC_LOGIN, GENERIC_LOGIN),
        (GENERIC_TEST, GENERIC_TEST),
    )


@pytest.mark.parametrize("host", ["http://127.0.0.1:8899/acme", "https://mock.example.com"])
def test_other_hosts_are_not_replaced_by_salesforces(host: str) -> None:
    assert {url for url, _ in pairs(connection(login_url=host, audience=host))} == {host}


async def test_discovery_stops_at_the_first_grant_and_pauses_between_tries(org: Org) -> None:
    org.is_so(accepted_audiences="my_domain")
    at = connection(audience=GENERIC_LOGIN)

    tried = await org.tried(at)

    assert [each.verdict.cause for each in tried] == [Cause.APP_NOT_FOUND, None]
    assert options_of(tried[-1].connection) == {"subdomain": "acme", "audience": "my_domain"}
    assert len(org.pauses) == 1
    assert [row.status for row in org.simulator.org("acme").logins][-1] == "Success"


@pytest.mark.parametrize(
    ("accepts", "configured", "lines"),
    [
        ("generic", MY_DOMAIN, {"subdomain": "acme", "audience": "login"}),
        ("my_domain", GENERIC_TEST, {"subdomain": "acme", "audience": "my_domain"}),
        ("any", GENERIC_TEST, {"subdomain": "acme", "audience": "my_domain"}),
        ("any", GENERIC_LOGIN, {"subdomain": "acme", "audience": "login"}),
    ],
)
async def test_discovery_finds_what_an_org_accepts(
    org: Org, accepts: str, configured: str, lines: dict[str, str]
) -> None:
    org.is_so(accepted_audiences=accepts)
    at = connection(audience=configured)

    tried = await org.tried(at)

    assert [bool(each.granted) for each in tried] == [False] * (len(tried) - 1) + [True]
    assert options_of(tried[-1].connection) == lines


async def test_discovery_stops_at_a_cause_that_no_other_pair_would_fix(org: Org) -> None:
    org.is_so(login_rate_per_hour=0)

    tried = await org.tried(ACME)

    assert [each.verdict.cause for each in tried] == [Cause.LOGIN_RATE_EXCEEDED]


async def test_discovery_stays_within_the_login_budget(org: Org) -> None:
    org.is_so(user_active=False)

    assert len(await org.tried(ACME, logins=2)) == 2


async def test_an_unresponsive_address_is_not_tried_again(org: Org) -> None:
    org.is_so()
    org.silent = True

    tried = await org.tried(ACME)

    assert asked(tried) == [
        (MY_DOMAIN, MY_DOMAIN),
        (GENERIC_LOGIN, GENERIC_LOGIN),
        (GENERIC_TEST, GENERIC_TEST),
    ]


async def test_a_key_that_cannot_sign_is_reported_at_once(org: Org) -> None:
    unreadable = Credential(CredentialFacts(problems=(Problem(Cause.KEY_UNREADABLE, "It is not PEM."),)))

    tried = await org.tried(ACME, credential=unreadable)

    assert [each.verdict.cause for each in tried] == [Cause.KEY_UNREADABLE]
    assert org.pauses == []
