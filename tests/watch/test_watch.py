"""The watch: what it knows from the start, and what it says of the first checks."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from monitor.config import Settings, load
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.history import begin
from monitor.core.outcome import NotSent, Outcome
from monitor.core.status import ReplicasStatus
from monitor.keys import keygen
from monitor.store import Store
from monitor.watch.clock import Clock
from monitor.watch.schedule import ManualSchedule
from monitor.watch.soon import BETWEEN_KEY_CHECKS
from monitor.watch.watch import LAG_SECONDS, Watch
from tests.making import GRANTED, diagnosis, exchange, remember

NAMES = ("acme", "globex", "initech")
TOKEN = {"access_token": "00Dxx!secret", "scope": "api refresh_token", "token_type": "Bearer"}
REFUSAL = {"error": "invalid_grant", "error_description": "ip restricted"}


@pytest.fixture(name="settings")
def of_three(tmp_path: Path) -> Settings:
    keygen.generate(tmp_path, now=datetime.now(UTC))
    listed = "".join(
        f"""
  - name: {name}
    subdomain: {name}
    consumer_key: 3MVG9_{name}
    username: integration@{name}.example
    private_key: {{file: private-key.pem}}
    certificate: {{file: cert.pem}}
    after_login: false"""
        for name in NAMES
    )
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(f"interval: 1h\nconnections:{listed}\n")
    return load(file, {})


@pytest.fixture(name="store")
async def remembering(settings: Settings) -> AsyncIterator[Store]:
    store = Store.open(settings.database)
    yield store
    store.close()


def watch(settings: Settings, store: Store) -> Watch:
    answers = httpx.MockTransport(lambda _: httpx.Response(200, json=TOKEN))
    return Watch(
        settings, clock=Clock(), memory=store, scheduler=ManualSchedule(), transport=lambda *_: answers
    )


def replace_key(directory: Path) -> None:
    keygen.generate(directory / "new", now=datetime.now(UTC))
    for file in ("private-key.pem", "cert.pem"):
        (directory / "new" / file).replace(directory / file)


async def test_after_a_restart_certificates_are_read_before_the_first_checks(
    settings: Settings, store: Store
) -> None:
    asked = datetime.now(UTC) - timedelta(minutes=1)
    for connection in settings.connections:
        known = begin(connection, asked - timedelta(days=1))
        known = remember(known, exchange(GRANTED, asked), diagnosis(State.HEALTHY, at=asked))
        store.save(connection.name, known)
    restarted = watch(settings, store)
    restarted.configure(settings)
    assert restarted.status("acme").certificate_end is None

    await restarted.read_keys()

    for name in NAMES:
        status = restarted.status(name)
        assert status.certificate_end
        assert status.credential.pairs
        assert status.history.exchanges == 1
    await restarted.aclose()


@pytest.mark.parametrize(("outcome", "key"), [(GRANTED, "another"), (NotSent("No usable private key."), "")])
async def test_a_key_repaired_or_replaced_before_a_restart_is_checked_at_once(
    settings: Settings, store: Store, outcome: Outcome, key: str
) -> None:
    """Page and alert had stayed red for up to an hour, beside a key that was shown as right."""
    asked = datetime.now(UTC) - timedelta(minutes=1)
    before = replace(begin(settings.connections[0], asked), key_fingerprint=key)
    verdict = diagnosis(State.FAILING, Cause.KEY_UNREADABLE, at=asked)
    store.save("acme", remember(before, exchange(outcome, asked), verdict))
    restarted = watch(settings, store)
    restarted.configure(settings)
    planned = restarted.status("acme").next_exchange
    assert planned
    assert planned > datetime.now(UTC)

    await restarted.read_keys()

    now = restarted.status("acme").next_exchange
    assert now
    assert now <= datetime.now(UTC)
    await restarted.aclose()


async def test_healthy_first_checks_are_logged_as_one_line(settings: Settings, store: Store) -> None:
    started = watch(settings, store)
    started.configure(settings)

    with capture_logs() as logged:
        for name in NAMES:
            await started.check(name)

    told = [line for line in logged if line["log_level"] != "debug"]
    assert [line["event"] for line in told] == ["first_checks_made"]
    assert told[0]["connections"] == 3
    await started.aclose()


class Shared(ManualSchedule):
    """In the place of replicas; a check has been due for so long."""

    def __init__(self, overdue_seconds: float, *, reachable: bool = True) -> None:
        super().__init__()
        self._status = ReplicasStatus(2, 1, 1, True, reachable, overdue_seconds)

    @property
    def status(self) -> ReplicasStatus:
        return self._status


@pytest.mark.parametrize(
    ("replicas", "lag"),
    [
        (Shared(LAG_SECONDS), False),
        (Shared(LAG_SECONDS + 1), True),
        (Shared(LAG_SECONDS + 1, reachable=False), False),
    ],
)
async def test_overdue_work_of_all_replicas_is_reported(
    settings: Settings, store: Store, replicas: Shared, lag: bool
) -> None:
    shared = Watch(settings, clock=Clock(), memory=store, scheduler=replicas)

    said = shared.problems()

    await shared.aclose()
    assert said == (("Checks are late: one has been due for 61 s.",) if lag else ())


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ("    interval: 10m\n    labels: {team: crm}\n", True),
        ("    audience: login\n", False),
        ("    paused: true\n", False),
    ],
    ids=["the interval and labels", "what is sent", "paused"],
)
async def test_a_reload_during_a_check_keeps_its_result_unless_what_is_sent_has_changed(
    settings: Settings, store: Store, tmp_path: Path, change: str, counts: bool
) -> None:
    """It was dropped, and the org got another login three seconds later."""
    file, scheduler = tmp_path / "bearerwatch.yaml", ManualSchedule()
    file.write_text(f"{file.read_text()}{change}")
    changed = load(file, {})

    def answer(_: httpx.Request) -> httpx.Response:
        if watching.status("initech").connection in settings.connections:
            watching.configure(changed)
        return httpx.Response(200, json=TOKEN)

    watching = Watch(
        settings,
        clock=Clock(),
        memory=store,
        scheduler=scheduler,
        transport=lambda *_: httpx.MockTransport(answer),
    )
    watching.configure(settings)
    planned = scheduler.due["initech"]

    following = await watching.check("initech")

    await watching.aclose()
    status = watching.status("initech")
    assert status.connection == changed.connections[2]
    assert status.history.exchanges == store.histories()["initech"].exchanges == counts
    assert (scheduler.due.get("initech") == planned) is counts
    if counts:
        assert following == status.next_exchange
        assert following
        assert following < datetime.now(UTC) + timedelta(minutes=13), "by the new interval"


async def test_a_changed_key_file_triggers_checks_of_all_connections_that_share_it(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    scheduler = ManualSchedule()
    answers = httpx.MockTransport(lambda _: httpx.Response(200, json=TOKEN))
    watching = Watch(settings, clock=Clock(), memory=store, scheduler=scheduler, transport=lambda *_: answers)
    watching.configure(settings)
    for name in NAMES:
        await watching.check(name)

    replace_key(tmp_path)
    await watching.check("acme")  # by its own schedule, before the change is noticed
    planned = dict(scheduler.due)
    watching.look_at_changed_keys()

    assert {name for name in NAMES if scheduler.due[name] != planned[name]} == {"globex", "initech"}
    assert scheduler.due["initech"] - scheduler.due["globex"] == BETWEEN_KEY_CHECKS
    woken = dict(scheduler.due)
    config = tmp_path / "bearerwatch.yaml"
    config.write_text(config.read_text().replace("interval: 1h", "interval: 2h"))
    watching.configure(load(config, {}))
    assert {scheduler.due[name] for name in ("globex", "initech")} == {woken["globex"], woken["initech"]}
    await watching.aclose()


async def test_a_key_that_changes_during_a_check_is_tried_as_soon_as_that_is_over(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    """The check goes on with the key that it has read."""
    asked = datetime.now(UTC) - timedelta(minutes=1)
    known = remember(
        begin(settings.connections[0], asked), exchange(GRANTED, asked), diagnosis(State.HEALTHY)
    )
    store.save("acme", known)
    scheduler = ManualSchedule()

    def answer(_: httpx.Request) -> httpx.Response:
        replace_key(tmp_path)
        watching.look_at_changed_keys()
        return httpx.Response(200, json=TOKEN)

    answers = httpx.MockTransport(answer)
    watching = Watch(settings, clock=Clock(), memory=store, scheduler=scheduler, transport=lambda *_: answers)
    watching.configure(settings)
    await watching.read_keys()
    begun = watching.ask(["acme"]).turns["acme"]

    following = await watching.check("acme")

    await watching.aclose()
    assert following
    assert begun < scheduler.due["acme"] < datetime.now(UTC) < following


async def test_a_recovery_does_not_delay_the_checks_after_a_change_of_a_key(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    """Those that recover together would be checked one a second, and not five."""
    scheduler, replaced = ManualSchedule(), False

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=TOKEN) if replaced else httpx.Response(400, json=REFUSAL)

    answers = httpx.MockTransport(answer)
    watching = Watch(settings, clock=Clock(), memory=store, scheduler=scheduler, transport=lambda *_: answers)
    watching.configure(settings)
    for name in NAMES:
        await watching.check(name)
    replace_key(tmp_path)
    replaced = True
    watching.look_at_changed_keys()
    woken = dict(scheduler.due)

    await watching.check("acme")

    await watching.aclose()
    assert {name: str(watching.status(name).state) for name in NAMES} == {
        "acme": "healthy",
        "globex": "failing",
        "initech": "failing",
    }
    assert scheduler.due == woken
