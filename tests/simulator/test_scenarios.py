"""Each scenario brings its cause about, through the real exchange and the real diagnosis."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from monitor.config.words import objects
from monitor.core.causes import Cause
from monitor.core.connection import ApprovalPolicy, Connection, audience_of
from monitor.core.finding import Diagnosis, State
from monitor.core.history import History, begin
from monitor.core.inside import Facts
from monitor.core.keys.credential import Credential
from monitor.core.verdict.approval import forecast
from monitor.core.verdict.diagnosis import diagnose
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.org import Subject, read
from monitor.salesforce.probe import probe
from monitor.simulator.scenarios import SCENARIOS, Scenario, make_keys
from monitor.simulator.server import Simulator, running
from tests.making import ACME, NOW, connection, read_credential, remember

INVALID_HOST = "no-such-org.my.salesforce.com.invalid"


class Stage:
    """A simulator whose clock only the test advances, and its address."""

    def __init__(self) -> None:
        self.now = NOW
        self.simulator = Simulator(lambda: self.now)
        self.url = ""


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    with running(made.simulator) as url:
        made.url = url
        yield made


def connection_of(scenario: Scenario, url: str) -> Connection:
    options = scenario.options(url)
    login_url = str(options["login_url"])
    approval = ApprovalPolicy("lifetime", 90) if "approval" in options else None
    return connection(
        name=scenario.name,
        login_url=login_url,
        audience=audience_of(str(options["audience"]), login_url),
        consumer_key=options["consumer_key"],
        username=options["username"],
        approval=approval,
        current=ACME.current,
        objects=objects(options.get("objects", ())),
    )


async def checked(
    stage: Stage, at: Connection, credential: Credential, history: History
) -> tuple[Diagnosis, History]:
    """One exchange and audit as the daemon would make them, the verdict, and what is remembered."""
    exchanger = Exchanger(clock=lambda: stage.now, allowed_hosts=frozenset({INVALID_HOST}))
    async with probe(exchanger, at, credential) as login:
        await login.first_call()
        if granted := login.granted:
            moment = login.exchange.at + timedelta(seconds=login.exchange.clock_offset_seconds or 0)
            needed = tuple(name for name, _ in at.objects)
            subject = Subject(at.username, "", granted.user_id or "", moment, granted=True, objects=needed)
            history = replace(history, audit=await read(login.get, subject, Facts(stage.now)))
    exchange = login.exchange
    await exchanger.aclose()
    foreseen = forecast(at, history, (), stage.now)
    verdict = diagnose(exchange, credential.facts, at, history, stage.now, forecast=foreseen)
    return verdict, remember(history, exchange, verdict)


def resolves_nothing() -> bool:
    """Whether this machine can't even learn that a name does not exist."""
    try:
        socket.getaddrinfo(INVALID_HOST, 443)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    return True


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_scenario_brings_its_cause_about(stage: Stage, scenario: Scenario) -> None:
    if scenario.cause == Cause.SUBDOMAIN_UNKNOWN and resolves_nothing():
        pytest.skip("no resolver here says that a name does not exist")
    files = make_keys(scenario.keys, NOW)
    stage.simulator.put(scenario.name, scenario.settings(files))
    at = connection_of(scenario, stage.url)
    credential = read_credential(files.private_key, files.certificate)

    history = begin(at, NOW)
    verdict, history = await checked(stage, at, credential, history)
    if scenario.stands_after > timedelta(days=1):
        assert verdict.state is State.HEALTHY, verdict
    for step in scenario.steps:
        stage.now = NOW + step.after
        _, history = await checked(stage, at, credential, history)
        act = {"patch": stage.simulator.patch, "refresh": stage.simulator.refresh}[step.does]
        act(scenario.name, dict(step.values))
    # As there would be many: a decay needs a last success, and not one of weeks ago.
    stage.now = max(stage.now, NOW + scenario.stands_after - timedelta(days=2))
    _, history = await checked(stage, at, credential, history)
    stage.now = NOW + scenario.stands_after
    verdict, _ = await checked(stage, at, credential, history)

    assert verdict.cause == scenario.cause, verdict


NOT_PLAYED = {
    Cause.KEY_FILE_EXPOSED: "The mode of a file on the monitor's machine; no org sees it.",
    Cause.FIRST_CALL_UNANSWERED: "The simulator serves login and API at one address: both answer or neither.",
    Cause.SANDBOX_REFRESHING: "The hosts need the names of a production org and its sandbox.",
    Cause.REQUEST_MALFORMED: "The exchange never sends a malformed request.",
    Cause.TLS_UNTRUSTED: "The simulator speaks plain HTTP unless given a certificate.",
    Cause.MONITOR_FAULT: "The monitor cannot be made to fail on request.",
    Cause.UNRECOGNISED: "The simulator only gives answers that have been seen.",
}
"""Causes that no simulated org can produce, and why."""


def test_every_cause_has_one_scenario_or_a_reason_why_not() -> None:
    played = [scenario.cause for scenario in SCENARIOS]

    assert len(played) == len(set(played))
    assert set(played) | NOT_PLAYED.keys() == set(Cause)
    assert set(played).isdisjoint(NOT_PLAYED)
