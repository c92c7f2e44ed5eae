"""A third of 5,000 connections refused at once, as a person hears of it: real Prometheus and Alertmanager.

The page is the daemon's own, of statuses made by hand; the rules and routes are those of deploy/, a minute of
theirs passing in three seconds.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from monitor.core.causes import Cause
from monitor.core.status import ConnectionStatus
from monitor.watch.own_metrics import OwnMetrics
from monitor.web.metrics import MetricsPage
from tests.core.fleets import ill, snapshot, well
from tests.deploy.alert_cases import DEPLOY
from tests.end_to_end.collector import collector
from tests.end_to_end.processes import component, free_port, until
from tests.end_to_end.test_alert_chain import faster, routes
from tests.http_server import Quiet, serving

COUNT, BACKGROUND, HIT = 5_000, 40, 1_600
INTERVAL_SECONDS = 300
"""Of the connections. Only hold times pass faster here, which is half a minute of an event's."""

PATIENCE_SECONDS = 240.0


@dataclass
class Fleet:
    """What the daemon would show now."""

    hit_since: datetime | None = None

    def statuses(self, now: datetime) -> Iterator[ConnectionStatus]:
        for number in range(COUNT):
            status = well(f"customer-{number:04}", now)
            if number < BACKGROUND:
                status = ill(status, Cause.ORG_INACTIVE, now - timedelta(days=30), now)
            elif self.hit_since and number < BACKGROUND + HIT:
                status = ill(status, Cause.CONSUMER_NOT_APPROVED, self.hit_since, now)
            yield status

    def page(self) -> bytes:
        now = datetime.now(UTC)
        pieces, _ = MetricsPage(OwnMetrics()).render(snapshot(*self.statuses(now), at=now))
        return b"".join(pieces)


@pytest.mark.real("prometheus", "prometheus-alertmanager")
def test_a_third_of_5000_connections_refused_at_once_is_one_notification(tmp_path: Path) -> None:
    fleet, prometheus, alertmanager = Fleet(), free_port(), free_port()
    (tmp_path / "alerts.yml").write_text(faster((DEPLOY / "prometheus/alerts.yml").read_text()))

    class Page(Quiet):
        def answer(self) -> None:
            self.say(200, fleet.page(), Content_Type="text/plain; version=0.0.4")

    with serving(Page) as page, collector() as told:
        scraping: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        scraping["global"] = {"scrape_interval": "5s", "evaluation_interval": "5s"}
        scraping["scrape_configs"][0]["static_configs"][0]["targets"] = [urlsplit(page).netloc]
        scraping["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
            f"127.0.0.1:{alertmanager}"
        ]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scraping))
        routed = routes(told.url)
        for receiver in routed["receivers"]:
            receiver["webhook_configs"][0]["max_alerts"] = 20
        (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(routed))

        def suppressed() -> int:
            url = f"http://127.0.0.1:{alertmanager}/api/v2/alerts"
            filters = {"filter": 'alertname="BearerwatchConsumerNotApproved"', "active": "false"}
            return len(httpx.get(url, params=filters, trust_env=False, timeout=30).json())

        def names(status: str) -> list[str]:
            return [each["groupLabels"]["alertname"] for each in told.messages if each["status"] == status]

        with (
            component(
                *(tmp_path, "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=am"),
                *(f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address="),
                ready=f"http://127.0.0.1:{alertmanager}/-/ready",
            ),
            component(
                *(tmp_path, "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"),
                f"--web.listen-address=127.0.0.1:{prometheus}",
                ready=f"http://127.0.0.1:{prometheus}/-/ready",
            ),
        ):
            until(lambda: names("firing"), "what has long been so to be told", PATIENCE_SECONDS)
            assert set(names("firing")) == {"BearerwatchOrgInactive"}

            fleet.hit_since = datetime.now(UTC)
            many = "BearerwatchManyConnectionsAffected"
            until(lambda: many in names("firing"), "the event to be told", PATIENCE_SECONDS)
            heard_after = datetime.now(UTC) - fleet.hit_since
            until(lambda: suppressed() == HIT, "the single alerts to be held back", PATIENCE_SECONDS)

            fleet.hit_since = None
            until(lambda: many in names("resolved"), "its end to be told", PATIENCE_SECONDS)

    assert heard_after < timedelta(seconds=2 * INTERVAL_SECONDS)
    assert sorted(set(names("firing"))) == [many, "BearerwatchOrgInactive"]
    (event,) = (
        each for each in told.messages if each["status"] == "firing" and many in str(each["groupLabels"])
    )
    assert f"`consumer_not_approved` began for {HIT} connections" in str(event["commonAnnotations"])
    assert max(len(json.dumps(each)) for each in told.messages) < 30_000
