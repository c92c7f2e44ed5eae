"""When an org is audited, and what becomes of an audit that fails."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from monitor.core import history
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.history import History
from monitor.core.inside import Facts
from monitor.core.outcome import ApiUsage, Exchange, Refused
from monitor.core.reads import Read, Row
from monitor.core.verdict.audit import wrong_steps
from monitor.core.verdict.guide import ORG_ENDS, Seen
from monitor.keys.sources import Keyring
from monitor.salesforce.exchange import Exchanger, Login
from monitor.salesforce.org import Get, Reply
from monitor.watch.audit import ASKING_SECONDS, AUDITS_PER_MINUTE, KEPT, Audit, Auditor, Judged
from monitor.watch.budget import OwnLedger
from monitor.watch.clock import Clock
from monitor.watch.own_metrics import OwnMetrics
from tests.making import GRANTED, NOW, connection

ACME, DAY = connection(), timedelta(days=1)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GOOD = Facts(NOW - DAY, rows={Read.ORG: ({"IsSandbox": False},), Read.ACCESS: ({},)})
KNOWN = replace(history.begin(ACME, NOW - 9 * DAY), audit=GOOD)
RECENT = replace(KNOWN, audit=replace(GOOD, at=NOW - DAY / 2))
LEDGER = OwnLedger(60, lambda *_: None)


class Standing(Clock):
    """A clock that only a test moves."""

    seconds = 0.0

    def machine(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def steady(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Standing:
    return Standing()


@pytest.fixture
async def auditor(clock: Standing) -> AsyncIterator[Auditor]:
    exchanger = Exchanger(clock=clock.now)
    yield Auditor(keyring=Keyring({}), exchanger=exchanger, clock=clock, own=OwnMetrics(), audits="when due")
    await exchanger.aclose()


class Answered(Login):
    """A login to an org that answers as `get` does."""

    def __init__(self, exchanger: Exchanger, exchange: Exchange, get: Get) -> None:
        super().__init__(exchanger, exchange)
        self._get = get

    async def get(self, path: str) -> Reply | None:
        return await self._get(path)


async def audited(
    auditor: Auditor, get: Get, known: History, of: Connection = ACME, *, asked: bool = False
) -> Facts | None:
    """What is kept of an audit after a login that was granted."""
    exchange = Exchange(NOW, replace(GRANTED, org_id=None))
    audit = Audit(auditor, of, known, asked=asked)
    await audit.own(Answered(auditor.exchanger, exchange, get))
    return await audit.finished(exchange, LEDGER)


class Answers:
    """An org that answers each GET in the same way, and counts them."""

    def __init__(self, reply: Reply | None, after: Callable[[], None] = lambda: None) -> None:
        self.reply, self.after, self.asked = reply, after, 0

    async def get(self, path: str) -> Reply | None:
        self.asked += 1
        self.after()
        return self.reply


NO_ROWS = Reply(200, json.dumps({"records": []}).encode())
AWAY = Reply(503, b"[]")


async def broken(path: str) -> None:
    raise LookupError(path)


async def test_a_bug_in_an_audit_does_not_affect_the_login_and_is_retried_the_next_day(
    auditor: Auditor,
) -> None:
    with capture_logs() as logged:
        assert await audited(auditor, broken, KNOWN) is None
    assert [line["event"] for line in logged] == ["audit_failed"]
    [calls] = auditor.own.audit_calls.collect()
    assert calls.samples[0].value == 1

    again = Answers(NO_ROWS)
    assert await audited(auditor, again.get, KNOWN) is None
    assert again.asked == 0


async def test_a_requested_audit_runs_even_if_the_fleets_rate_is_used_up(auditor: Auditor) -> None:
    new = replace(KNOWN, audit=None)
    for number in range(AUDITS_PER_MINUTE):
        assert await audited(auditor, Answers(NO_ROWS).get, new, connection(name=f"{number}"))
    assert await audited(auditor, Answers(NO_ROWS).get, new) is None

    assert await audited(auditor, Answers(NO_ROWS).get, RECENT, asked=True)


async def test_a_failed_audit_is_not_repeated_on_request(auditor: Auditor) -> None:
    assert await audited(auditor, Answers(AWAY).get, RECENT, asked=True) is None

    again = Answers(NO_ROWS)
    assert await audited(auditor, again.get, RECENT, asked=True) is None
    assert again.asked == 0


@pytest.mark.parametrize("reply", [None, AWAY], ids=["no answer", "503"])
async def test_an_audit_that_read_less_than_the_last_one_does_not_replace_it(
    auditor: Auditor, clock: Standing, reply: Reply | None
) -> None:
    with capture_logs() as logged:
        assert await audited(auditor, Answers(reply).get, KNOWN) is None
    assert [line["event"] for line in logged] == ["audit_incomplete"]

    soon, tomorrow = Answers(NO_ROWS), Answers(NO_ROWS)
    clock.seconds += 3600
    assert await audited(auditor, soon.get, KNOWN) is None
    assert soon.asked == 0
    clock.seconds += DAY.total_seconds()
    assert await audited(auditor, tomorrow.get, KNOWN) is not None


async def test_an_audit_older_than_a_week_is_dropped(auditor: Auditor) -> None:
    old = replace(KNOWN, audit=replace(GOOD, at=NOW - KEPT - DAY))

    assert await audited(auditor, Answers(AWAY).get, old) is not None


async def test_a_refused_observer_does_not_discard_its_earlier_audit(auditor: Auditor) -> None:
    watched = connection(observer=connection(name="observer"))
    refused = Exchange(NOW, Refused(400, "invalid_grant", "user hasn't approved this consumer", ""))

    assert await audited(auditor, Answers(NO_ROWS).get, KNOWN, watched) is None
    blind = Audit(auditor, replace(watched, name="blind"), replace(KNOWN, audit=None))
    seen = await blind.finished(refused, LEDGER)

    assert seen is not None
    assert "observer" in seen.unread[Read.POLICY]


async def test_an_audit_stops_after_a_time_limit(auditor: Auditor, clock: Standing) -> None:
    def slowly() -> None:
        clock.seconds += ASKING_SECONDS / 2

    slow = Answers(NO_ROWS, slowly)
    found = await audited(auditor, slow.get, replace(KNOWN, audit=None))

    assert slow.asked == 2
    assert found is not None
    assert "no answer" in found.unread.values()


ONE_SET: Row = {
    "PermissionSetId": "0PS000000000001",
    "PermissionSet.Name": "Integration",
    "IsActive": True,
}
WELL = Seen(Facts(NOW, rows={Read.ASSIGNMENTS: (ONE_SET,)}), ACME, GRANTED, None, None, NOW)


@pytest.mark.parametrize(
    "changed",
    [
        replace(WELL, usage=ApiUsage(100, 100)),
        replace(WELL, outcome=replace(GRANTED, token_format="jwt")),
        replace(WELL, facts=replace(WELL.facts, rows={Read.ENABLED: ({"IsEnabled": False},)})),
    ],
    ids=["API calls", "outcome", "audit"],
)
def test_what_becomes_wrong_is_seen_at_once(changed: Seen) -> None:
    judged = Judged()
    assert judged.wrong_steps(WELL) == ()
    assert judged.wrong_steps(replace(WELL, now=NOW + HOUR / 2)) == ()

    assert judged.wrong_steps(changed) == wrong_steps(changed) != ()


def test_what_becomes_wrong_with_time_is_seen_within_the_hour() -> None:
    org: Row = {"TrialExpirationDate": (NOW + ORG_ENDS + HOUR / 4).isoformat(), "IsSandbox": False}
    one = replace(WELL, facts=replace(WELL.facts, rows={Read.ORG: (org,)}))
    judged = Judged()
    assert judged.wrong_steps(one) == ()

    assert judged.wrong_steps(replace(one, now=NOW + HOUR / 2)) == ()  # judged once an hour
    assert [step.cause for step in judged.wrong_steps(replace(one, now=NOW + HOUR))] == [Cause.ORG_EXPIRING]


def test_a_wrong_step_is_judged_once_an_hour() -> None:
    wrong = replace(WELL, usage=ApiUsage(100, 100))
    judged = Judged()
    before = judged.wrong_steps(wrong)

    assert judged.wrong_steps(replace(wrong, now=NOW + HOUR / 2)) is before
    assert judged.wrong_steps(replace(wrong, now=NOW + HOUR)) is not before
    assert judged.wrong_steps(replace(wrong, now=NOW + HOUR)) == before


def test_what_ends_soon_is_judged_at_each_check() -> None:
    org: Row = {"TrialExpirationDate": (NOW + HOUR).isoformat(), "IsSandbox": False}
    one = replace(WELL, facts=replace(WELL.facts, rows={Read.ORG: (org,)}))
    judged = Judged()

    said = [judged.wrong_steps(replace(one, now=NOW + MINUTE * past))[0].said for past in (0, 5)]

    assert said[0] != said[1]
