"""The daemon tells a webhook; it is killed at the worst moment, and started again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import yaml

from monitor.config import load
from monitor.core.causes import Cause
from monitor.core.history import begin
from monitor.core.status import ConnectionStatus
from monitor.keys import keygen
from monitor.store import Store
from tests.core.fleets import ill
from tests.end_to_end.collector import Collector, collector
from tests.end_to_end.processes import Running, daemon, free_port, simulator, until

DAY = timedelta(days=1)


NAMES = ("acme", "globex")


def told_of_those_that_are_refused(folder: Path, orgs: httpx.Client, told: Collector) -> dict[str, Any]:
    """Orgs whose user is inactive, and the options of a daemon that watches them and notifies a webhook."""
    pair = keygen.generate(folder, now=datetime.now(UTC))
    connections = []
    for name in NAMES:
        identity = {"consumer_key": f"3MVG9_{name}", "username": f"integration@{name}.example"}
        org = identity | {"certificate": pair.certificate_path.read_text(), "user_active": False}
        assert orgs.put(f"/_orgs/{name}", json=org).is_success
        url = f"{str(orgs.base_url).rstrip('/')}/{name}"
        key = {"file": str(pair.key_path)}
        connections.append({"name": name, "login_url": url, "private_key": key, **identity})
    return {"notify": {"sinks": [sink("hook", told.url)]}, "connections": connections}


def sink(name: str, url: str) -> dict[str, str]:
    return {"name": name, "type": "webhook", "url": url}


def remembered(config: Path) -> None:
    """The database as the daemon left it: the connections were refused an hour ago, and before."""
    settings, then = load(config, {}), datetime.now(UTC) - DAY / 24
    store = Store.open(settings.database)
    for connection in settings.connections:
        status = ConnectionStatus(connection, begin(connection, then - DAY))
        history = ill(status, Cause.USER_INACTIVE, then - DAY / 2, then).history
        store.save(connection.name, replace(history, consecutive_refusals=5, exchanges=5, failures=5))
    assert store.close()


def test_a_kill_during_a_message_repeats_only_that_one_and_loses_nothing(tmp_path: Path) -> None:
    killed: Queue[Running] = Queue()
    on_message = iter((lambda: None, lambda: killed.get().kill()))
    with (
        simulator(tmp_path) as orgs,
        collector(lambda: next(on_message, lambda: None)()) as told,
        collector() as another,
    ):
        options = {
            "listen": f"127.0.0.1:{free_port()}",
            **told_of_those_that_are_refused(tmp_path, orgs, told),
        }
        config = tmp_path / "bearerwatch.yaml"
        config.write_text(yaml.safe_dump(options, sort_keys=False))
        remembered(config)

        # The second of two messages is taken, and the daemon is killed before it hears so.
        with daemon(config) as running:
            killed.put(running)
            until(lambda: running.process.poll() is not None, "the kill")
        with daemon(config) as running:
            until(lambda: len(told.messages) == 3, "the same message")
            until(lambda: running.sample("bearerwatch_notifications_total") == 1, "that it is counted")
            assert running.stop() == 0
        ids = [headers["webhook-id"] for headers in told.headers]
        assert ids[1] == ids[2] != ids[0]

        # From now on a restart repeats nothing, while a new sink gets everything.
        options["notify"]["sinks"].append(sink("another", another.url))
        config.write_text(yaml.safe_dump(options, sort_keys=False))
        with daemon(config) as running:
            until(lambda: len(another.messages) == 2, "what the new receiver is told")
            assert running.stop() == 0
        assert [message["status"] for message in told.messages] == ["firing"] * 3
        assert {message["commonLabels"]["connection"] for message in another.messages} == set(NAMES)
