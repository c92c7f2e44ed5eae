"""A check whose connection is taken out of the configuration before its answer comes."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
from structlog.testing import capture_logs

from monitor import keygen
from monitor.check import Checker, LoginBudget
from monitor.clock import Clock
from monitor.core.connection import Pair, Source
from monitor.exchange import Exchanger
from monitor.fleet import Fleet
from monitor.metrics import OwnMetrics
from monitor.secret_sources import Keyring
from tests.making import connection


async def test_what_is_gone_when_its_answer_comes_is_no_fault_of_ours(tmp_path: Path) -> None:
    """Found by renaming a connection while the resolver was slow: the log held a traceback."""
    pair = keygen.generate(tmp_path, now=datetime.now(UTC))
    clock, fleet, kept = Clock(), Fleet({}), list[str]()
    fleet.configure([connection(current=Pair(Source("file", str(pair.key_path))))], clock.now())

    def refuse(_: httpx.Request) -> httpx.Response:
        fleet.configure([], clock.now())
        return httpx.Response(400, json={"error": "invalid_grant"})

    checker = Checker(
        fleet,
        keyring=Keyring({}),
        exchanger=Exchanger(transport=lambda *_: httpx.MockTransport(refuse), clock=clock.now),
        keep=lambda name, *_: kept.append(name),
        clock=clock,
        budget=LoginBudget(60),
        own=OwnMetrics(),
    )

    with capture_logs() as logged:
        following = await checker.check("acme")

    assert (following, kept, logged) == (None, [], [])
    assert "acme" not in fleet
