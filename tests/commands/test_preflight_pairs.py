"""Which address and audience an org wants, found by real logins to the simulator."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from monitor.commands.preflight import Preflight, configuration, pairs, preflight, settings_of
from monitor.core.causes import Cause
from monitor.core.connection import GENERIC_LOGIN, GENERIC_TEST
from monitor.core.outcome import Granted
from monitor.core.status import ConnectionStatus
from monitor.salesforce.transport import Limits, rust_transport
from monitor.simulator.server import Simulator, running
from monitor.watch.clock import Clock
from tests.journeys.keys import pair_files
from tests.journeys.wires import Weather, Wires, no_such_name
from tests.making import ACME, connection

MY_DOMAIN = ACME.login_url
SANDBOX = "https://acme--dev.sandbox.my.salesforce.com"


class Org:
    """An org of the simulator, at its own address and at the login servers, and what is asked of it."""

    def __init__(self, simulator: Simulator, url: str, key: Path) -> None:
        self.simulator = simulator
        self.url = url
        self.key = key
        self.pauses: list[float] = []
        self.weather: dict[str, Weather] = {}

    def is_so(self, **settings: object) -> None:
        right = {
            "consumer_key": ACME.consumer_key,
            "username": ACME.username,
            "certificate": pair_files().certificate.decode(),
        }
        self.simulator.put("acme", {**right, **settings})

    async def tried(self, audience: str = MY_DOMAIN, *, logins: int = 60) -> Preflight:
        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)

        def transport(limits: Limits, ca_file: object) -> httpx.AsyncBaseTransport:
            wires = Wires(rust_transport(limits, None, {}), self.url)
            wires.weather = self.weather
            return wires

        settings = settings_of("acme", ACME.consumer_key, ACME.username, {"file": str(self.key)}, "")
        return await preflight(
            settings.model_copy(update={"login_budget_per_hour": logins}),
            replace(settings.connections[0], audience=audience),
            clock=Clock(),
            pause=pause,
            transport=transport,
        )


@pytest.fixture
def org(tmp_path: Path) -> Iterator[Org]:
    key = tmp_path / "private-key.pem"
    key.touch(mode=0o600)
    key.write_bytes(pair_files().private_key)
    simulator = Simulator()
    with running(simulator) as url:
        yield Org(simulator, url, key)


def causes(found: Preflight) -> list[Cause | None]:
    return [each.verdict.cause for each in found.tried]


def asked(found: Preflight) -> list[tuple[str, str]]:
    return [(each.connection.login_url, each.connection.audience) for each in found.tried]


def is_granted(status: ConnectionStatus) -> bool:
    last = status.history.last_exchange
    return last is not None and isinstance(last.outcome, Granted)


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


async def test_it_stops_at_the_first_grant_and_pauses_between_pairs(org: Org) -> None:
    org.is_so(accepted_audiences="my_domain")

    found = await org.tried(GENERIC_LOGIN)

    assert causes(found) == [Cause.APP_NOT_FOUND, None]
    assert found.status is found.tried[-1]
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
async def test_it_finds_what_an_org_accepts(
    org: Org, accepts: str, configured: str, lines: dict[str, str]
) -> None:
    org.is_so(accepted_audiences=accepts)

    found = await org.tried(configured)

    assert [is_granted(each) for each in found.tried] == [each is found.tried[-1] for each in found.tried]
    assert is_granted(found.status)
    assert found.status.history.audit
    assert lines.items() <= configuration(found.status.connection).items()


async def test_it_stops_at_an_answer_that_shows_that_the_pair_is_right(org: Org) -> None:
    org.is_so(accepted_audiences="my_domain", permission_set_assigned=False)

    found = await org.tried(GENERIC_LOGIN)

    assert causes(found) == [Cause.APP_NOT_FOUND, Cause.USER_NOT_ADMIN_APPROVED]
    assert found.status is found.tried[-1]


@pytest.mark.parametrize("wrong", [{"login_rate_per_hour": 0}, {"permission_set_assigned": False}])
async def test_no_other_pair_is_tried_if_the_first_is_right(org: Org, wrong: dict[str, object]) -> None:
    org.is_so(**wrong)

    found = await org.tried()

    assert found.tried == ()
    assert found.status.findings


async def test_it_stays_within_the_login_budget(org: Org) -> None:
    org.is_so(consumer_key="3MVG9another")

    found = await org.tried(logins=2)

    assert causes(found) == [Cause.CONSUMER_KEY_UNKNOWN] * 2
    assert found.status is found.tried[0]


async def test_an_unresponsive_address_is_not_tried_again(org: Org) -> None:
    """The org answers the first try, and then no more."""
    org.is_so(consumer_key="3MVG9another")

    async def last_answer(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
        org.weather["acme.my.salesforce.com"] = no_such_name
        return await Wires(inner, org.url).handle_async_request(request)

    org.weather["acme.my.salesforce.com"] = last_answer

    found = await org.tried(GENERIC_TEST)

    assert asked(found) == [
        (MY_DOMAIN, GENERIC_TEST),
        (MY_DOMAIN, MY_DOMAIN),
        (GENERIC_LOGIN, GENERIC_LOGIN),
        (GENERIC_TEST, GENERIC_TEST),
    ]


@pytest.mark.parametrize(
    ("status", "answer", "then"),
    [
        (429, {}, [Cause.LOGIN_RATE_EXCEEDED]),
        (400, {"error_description": "login rate exceeded"}, [Cause.LOGIN_RATE_EXCEEDED]),
        (400, {"error": "new_code"}, [Cause.UNRECOGNISED] * 2 + [Cause.SALESFORCE_UNAVAILABLE] * 2),
    ],
)
async def test_a_pair_is_not_right_if_its_answer_does_not_say_so(
    org: Org, status: int, answer: dict[str, str], then: list[Cause]
) -> None:
    """Nor is another tried while the login rate is full."""
    org.is_so(consumer_key="3MVG9another", accepted_audiences="my_domain")
    logins = 0

    async def from_the_second_on(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
        nonlocal logins
        logins += 1
        if logins == 1:
            return await Wires(inner, org.url).handle_async_request(request)
        return httpx.Response(status, json=answer)

    org.weather["acme.my.salesforce.com"] = from_the_second_on

    found = await org.tried(GENERIC_TEST)

    assert causes(found)[1:] == then
    assert found.status is found.tried[0]


async def test_a_key_that_cannot_sign_is_reported_at_once(org: Org) -> None:
    org.is_so()
    org.key.write_text("It is not PEM.")

    found = await org.tried()

    assert (found.status.verdict.cause, found.tried) == (Cause.KEY_UNREADABLE, ())
    assert org.pauses == []
