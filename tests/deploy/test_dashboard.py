"""The Grafana dashboard: of one mind with its builder, and each query of it finds something in Prometheus."""

import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.build_dashboard import FILE, built
from tests.deploy.alert_cases import DEPLOY
from tests.end_to_end.processes import component, free_port, started, until

GRAFANA = DEPLOY / "grafana"
BOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {one["name"]: one for one in BOARD["templating"]["list"]}

ALL = {"job": ".*", "connection": ".*", "label": "customer", "value": ".*"}
"""The variables as they are at first, but for the label: one of the operator's own."""


def queries() -> dict[str, str]:
    """Every query of the panels, under a name for it."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
    }


def filled(query: str, **chosen: str) -> str:
    return re.sub(r"\$(\w+)", lambda name: (ALL | chosen)[name[1]], query)


def test_the_deployed_dashboard_is_up_to_date() -> None:
    assert FILE.read_text() == built(), f"Write it again: {sys.executable} deploy/grafana/build_dashboard.py"


def test_the_dashboard_is_valid_for_grafana_and_has_the_uid_that_alerts_link_to() -> None:
    example = yaml.safe_load((DEPLOY.parent / "config.example.yaml").read_text())

    assert Dashboard.from_json(BOARD).title == "bearerwatch"
    assert example["alerts"]["dashboard_url"].endswith(f"/d/{BOARD['uid']}")
    assert "connection" in VARIABLES


def test_each_panel_has_a_description_and_uses_the_selected_source() -> None:
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in PANELS)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_panels_do_not_overlap() -> None:
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in BOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_grafana_is_provisioned_with_what_the_compose_file_mounts() -> None:
    services = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/bearerwatch.yaml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/bearerwatch.yaml").read_text())[
        "providers"
    ]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])

    assert source["type"] == VARIABLES["datasource"]["query"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert Path(mounted["../grafana/dashboard.json"]).parent == Path(provider["options"]["path"])
    assert mounted["../grafana/provisioning"] == "/etc/grafana/provisioning"


# With a real Prometheus


@contextmanager
def scraped_demo(folder: Path) -> Iterator[httpx.Client]:
    """A client of a Prometheus that scrapes the demo while its weeks pass."""
    port, prometheus = free_port(), free_port()
    scraping: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    scraping |= {"global": {"scrape_interval": "1s"}, "rule_files": [], "alerting": {}}
    scraping["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(scraping))
    url = f"http://127.0.0.1:{prometheus}"
    with (
        started(["demo", "--port", str(port)], f"http://127.0.0.1:{port}", folder / "demo.log"),
        component(
            *(folder, "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"),
            f"--web.listen-address=127.0.0.1:{prometheus}",
            ready=f"{url}/-/ready",
        ),
        httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=10) as client,
    ):
        yield client


def found(prometheus: httpx.Client, query: str) -> list[dict[str, Any]]:
    """A query's samples, without NaN."""
    answer = prometheus.get("/query", params={"query": query}).json()
    assert answer["status"] == "success", answer
    return [one for one in answer["data"]["result"] if not math.isnan(float(one["value"][1]))]


@pytest.mark.real("prometheus")
def test_every_query_has_results_in_the_demo_only_for_what_is_selected(tmp_path: Path) -> None:
    with scraped_demo(tmp_path) as prometheus:
        for name, query in queries().items():
            until(lambda query=query: found(prometheus, filled(query)), f"{name}: {query}")  # type: ignore[misc]

        # The variables: label_values(SERIES, LABEL), or the names of all labels.
        for name, variable in VARIABLES.items():
            if variable["type"] == "query":
                series, label = re.fullmatch(
                    r"label_(?:values|names)\((.+?)(?:, ([$\w]+))?\)", filled(variable["query"])
                ).groups()  # type: ignore[union-attr]
                offered = found(prometheus, series)
                assert offered, name
                assert label is None or all(label in one["metric"] for one in offered), name
        infos = [one["metric"] for one in found(prometheus, "bearerwatch_connection_info")]
        assert {name for name in infos[0] if re.match(VARIABLES["label"]["regex"], name)} == {
            "host",
            "org_type",
            "customer",
            "tier",
        }

        of_acme = {info["connection"] for info in infos if info["customer"] == "acme"}
        assert 1 < len(of_acme) < len(infos)
        for name, query in queries().items():
            if "$connection" in query:
                assert chosen(prometheus, query, connection="app-blocked") <= {"app-blocked"}, name
                assert chosen(prometheus, query, value="acme") <= of_acme, name


def chosen(prometheus: httpx.Client, query: str, **variables: str) -> set[str]:
    """The connections of which a query gives something, where that is of single ones."""
    samples = found(prometheus, filled(query, **variables))
    return {one["metric"]["connection"] for one in samples if "connection" in one["metric"]}
