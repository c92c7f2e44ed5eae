"""The daemon tells a webhook; it is killed at the worst moment, and started again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from monitor import keygen
from monitor.config import load
from monitor.core.causes import Cause
from monitor.core.history import begin
from monitor.core.status import ConnectionStatus
from monitor.store import Store
from tests.core.fleets import ill
from tests.end_to_end.collector import Collector, collector
from tests.end_to_end.processes import daemon, free_port, simulator, until

DAY = timedelta(days=1)


def told_of_one_that_is_refused(folder: Path, orgs: httpx.Client, told: Collector) -> dict[str, Any]:
    """An org that refuses our address, and the options of a daemon that watches it and tells the webhook."""
    pair = keygen.generate(folder, now=datetime.now(UTC))
    identity = {"consumer_key": "3MVG9_acme", "username": "integration@acme.example"}
    org = identity | {"certificate": pair.certificate_path.read_text(), "ip_allowed": False}
    assert orgs.put("/_orgs/acme", json=org).is_success
    acme = {
        "name": "acme",
        "login_url": f"{str(orgs.base_url).rstrip('/')}/acme",
        "private_key": {"file": str(pair.key_path)},
        **identity,
    }
    return {
        "notify": {"sinks": [{"name": "hook", "type": "webhook", "url": told.url}]},
        "connections": [acme],
    }


def remembered(config: Path) -> None:
    """The database as the daemon left it: the connection was refused an hour ago, and before."""
    settings, then = load(config, {}), datetime.now(UTC) - DAY / 24
    (connection,) = settings.connections
    status = ConnectionStatus(connection, begin(connection, then - DAY))
    history = ill(status, Cause.IP_RESTRICTED, then - DAY / 2, then).history
    store = Store.open(settings.database)
    store.save("acme", replace(history, consecutive_refusals=5, exchanges=5, failures=5))
    assert store.close()


def test_a_kill_while_a_message_is_on_its_way_doubles_it_once_and_loses_nothing(tmp_path: Path) -> None:
    on_message: list[Callable[[], None]] = []
    with (
        simulator(tmp_path) as orgs,
        collector(lambda: on_message.pop()() if on_message else None) as told,
    ):
        options = {
            "listen": f"127.0.0.1:{free_port()}",
            **told_of_one_that_is_refused(tmp_path, orgs, told),
        }
        config = tmp_path / "bearerwatch.yaml"
        config.write_text(yaml.safe_dump(options, sort_keys=False))
        remembered(config)

        # It is taken, and the daemon is killed before it hears so.
        with daemon(config) as running:
            on_message.append(running.kill)
            until(lambda: told.messages and running.process.poll() is not None, "the message and the kill")
        with daemon(config) as running:
            until(lambda: len(told.messages) == 2, "the same message")
            until(lambda: running.sample("bearerwatch_notifications_total") == 1, "that it is counted")
            assert running.stop() == 0
        first, second = (headers["webhook-id"] for headers in told.headers)
        assert first == second

        # From now on it knows: a restart repeats nothing, and the end is told once.
        with daemon(config) as running:
            until(lambda: running.sample("bearerwatch_connections_configured") == 1, "the metrics")
            config.write_text(yaml.safe_dump(options | {"connections": []}, sort_keys=False))
            until(lambda: len(told.messages) == 3, "the end")
            assert running.stop() == 0
        assert [message["status"] for message in told.messages] == ["firing", "firing", "resolved"]
