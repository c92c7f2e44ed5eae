"""Alert rules follow the configuration that they are made for."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.config import load
from monitor.rules import rules

CONNECTION = """
  - name: acme
    subdomain: acme
    consumer_key: 3MVG9_acme
    username: integration@acme.com
    private_key: {file: acme.pem}
"""


def made(folder: Path, more: str = "", options: str = "") -> str:
    config = folder / "bearerwatch.yaml"
    config.write_text(f"{more}\nconnections:{CONNECTION}{options}")
    return rules(load(config, {}))


def of(text: str, name: str) -> dict[str, Any]:
    """The first rule of that name."""
    found = [
        rule
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if name in {rule.get("alert"), rule.get("record")}
    ]
    return dict(found[0])


@pytest.mark.real("promtool")
@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[1] / "configs/valid").glob("*.yaml")), ids=str
)
def test_prometheus_accepts_the_rules_of_every_configuration(file: Path, tmp_path: Path) -> None:
    written = tmp_path / "rules.yml"
    written.write_text(rules(load(file, {})))

    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", written],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("interval", "transient"), [("1m", "3m"), ("5m", "15m"), ("20m", "1h"), ("1d", "1h")]
)
def test_a_fault_must_last_three_intervals_or_at_most_an_hour(
    tmp_path: Path, interval: str, transient: str
) -> None:
    text = made(tmp_path, f"interval: {interval}")

    assert of(text, "BearerwatchNetworkUnreachable")["for"] == transient


def test_the_hold_time_of_faults_is_configurable(tmp_path: Path) -> None:
    text = made(tmp_path, "alerts: {transient_for: 7m}")

    assert of(text, "BearerwatchNetworkUnreachable")["for"] == "7m"
    assert of(text, "BearerwatchApprovalDecayed")["for"] == "2m"


def test_alerts_wait_for_the_settle_time(tmp_path: Path) -> None:
    text = made(tmp_path, "settle: 20m")

    assert of(text, "BearerwatchPropagationPending")["for"] == "21m"


def test_alerts_have_only_the_configured_links(tmp_path: Path) -> None:
    bare = of(made(tmp_path), "BearerwatchApprovalDecayed")["annotations"]
    linked = of(
        made(
            tmp_path,
            "web: {external_url: https://bw.example.com}\n"
            "alerts: {runbook_url: https://docs.example.com/causes, dashboard_url: https://grafana.example.com/d/bw}",
        ),
        "BearerwatchApprovalDecayed",
    )["annotations"]

    assert not [name for name in bare if name.endswith("_url")]
    assert "Evidence: `bearerwatch check {{ $labels.connection }} --config FILE`" in bare["description"]
    assert linked["runbook_url"] == "https://docs.example.com/causes/approval_decayed.md"
    assert (
        linked["dashboard_url"] == "https://grafana.example.com/d/bw?var-connection={{ $labels.connection }}"
    )
    assert linked["status_url"] == "https://bw.example.com/connections/{{ $labels.connection }}"


def test_alerts_have_the_configured_labels(tmp_path: Path) -> None:
    text = made(tmp_path, "alerts: {labels: [tier, customer]}")

    assert "host, tier, customer)" in of(text, "connection:bearerwatch_connection_finding:labelled")["expr"]


def test_alerts_name_app_and_user_only_if_configured(tmp_path: Path) -> None:
    silent = of(made(tmp_path), "BearerwatchApprovalDecayed")["annotations"]["description"]
    text = made(tmp_path, "alerts: {usernames: true}", "    app: Billing\n")
    named = of(text, "BearerwatchApprovalDecayed")["annotations"]["description"]

    assert "$labels.app" not in silent
    assert "$labels.username" not in silent
    assert "host, app, username)" in of(text, "connection:bearerwatch_connection_info:first")["expr"]
    assert '{{ with $labels.app }}, for the app "{{ . }}"{{ end }}' in named
    assert "{{ with $labels.username }}, for the user {{ . }}{{ end }}" in named
    assert 'select the app{{ with $labels.app }} "{{ . }}"{{ end }}, and' in named
