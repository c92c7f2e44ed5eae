"""A real Alertmanager: it gets alerts, keeps them while they hold, and hears of their end."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.core.causes import Cause
from monitor.core.maintenance import Once
from tests.core.fleets import ill, well
from tests.end_to_end.processes import component, free_port, until
from tests.notify.world import World, receiver, takes, world
from tests.salesforce.wire import http, says

DEPLOYED = Path(__file__).parents[2] / "deploy" / "alertmanager" / "alertmanager.yml"
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.real("prometheus-alertmanager")


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """An Alertmanager without receivers that inhibits like deploy/'s; yields its address."""
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(DEPLOYED.read_text())
    address = f"127.0.0.1:{free_port()}"
    with component(
        *(folder, "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=data"),
        *(f"--web.listen-address={address}", "--cluster.listen-address="),
        ready=f"http://{address}/-/ready",
    ):
        yield f"http://{address}"


def alerts(url: str) -> list[dict[str, Any]]:
    """What it holds for firing."""
    found: list[dict[str, Any]] = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
    return found


def connections(url: str) -> set[str]:
    return {alert["labels"].get("connection", alert["labels"]["alertname"]) for alert in alerts(url)}


def sink(url: str) -> dict[str, object]:
    return {"name": "am", "type": "alertmanager", "url": url}


def broken(here: World, name: str) -> None:
    here.fleet.append(ill(well(name, here.now), Cause.API_DISABLED, here.now - HOUR, here.now))


async def test_alertmanager_gets_complete_alerts_and_their_end(
    tmp_path: Path,
) -> None:
    with alertmanager(tmp_path / "am") as url:
        async with world(tmp_path, sink(url)) as here:
            here.now, here.fleet = datetime.now(UTC), []
            broken(here, "acme")
            broken(here, "other")
            await here.look()

            assert connections(url) == {"acme", "other"}
            alert = next(alert for alert in alerts(url) if alert["labels"]["connection"] == "acme")
            assert alert["labels"]["alertname"] == "BearerwatchApiDisabled"
            assert alert["labels"]["responsible"] == "org_admin"
            assert "What to do (setup guide, step 5):" in alert["annotations"]["description"]
            assert (
                datetime.fromisoformat(alert["startsAt"])
                == here.now.replace(microsecond=here.now.microsecond // 1000 * 1000) - HOUR
            )

            here.fleet = [well("acme", here.now), here.fleet[1]]
            here.now = datetime.now(UTC)
            await here.look()

            until(lambda: connections(url) == {"other"}, "the end of the alert")


async def test_an_alertmanager_that_lost_its_alerts_gets_them_within_a_minute(tmp_path: Path) -> None:
    with alertmanager(tmp_path / "am") as url, alertmanager(tmp_path / "fresh") as fresh:
        async with world(tmp_path, sink(url)) as here:
            here.now, here.fleet = datetime.now(UTC), []
            broken(here, "acme")
            await here.look()
            await here.look(timedelta(seconds=30))
            assert here.tries == [True], "not so soon"

            await here.look(timedelta(seconds=30))
            assert here.tries == [True, True]

        async with world(tmp_path, sink(fresh)) as here:
            here.now, here.fleet = datetime.now(UTC), []
            broken(here, "acme")
            await here.look()

            assert connections(fresh) == {"acme"}, "also after a restart of ours"


async def test_the_end_of_an_alert_is_pushed_when_alertmanager_is_back(tmp_path: Path) -> None:
    async with receiver() as (way, server, url), world(tmp_path, sink(url)) as here:
        await here.look()
        here.fleet, way.reply = [well("acme")], says(http(503, ""))
        await here.look(timedelta(minutes=1))
        way.reply = takes
        await here.look(timedelta(minutes=1))

        assert here.tries == [True, False, True]
        (ended,) = json.loads(server.visits[-1].body)
        assert ended["labels"]["connection"] == "acme"
        assert ended["endsAt"] == here.now.isoformat()


async def test_during_maintenance_neither_ends_nor_new_failures_are_sent(tmp_path: Path) -> None:
    with alertmanager(tmp_path / "am") as url:
        async with world(tmp_path, sink(url)) as here:
            here.now, here.fleet = datetime.now(UTC), []
            broken(here, "before")
            await here.look()
            window = Once(here.now - HOUR, here.now + HOUR)
            broken(here, "new")
            here.fleet = [
                replace(one, connection=replace(one.connection, maintenance=(window,))) for one in here.fleet
            ]
            await here.look(timedelta(minutes=1))

            assert connections(url) == {"before"}
