"""The rules and routes to deploy: of one mind with the product, and proved by Prometheus' own tools."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.config import load
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible
from monitor.core.wording import with_last, with_name
from monitor.rules import rules
from tests.deploy.alert_cases import (
    DEPLOY,
    RULES,
    TESTS,
    alert_of,
    cases,
    connections,
    constant,
    finding,
    numbered,
    written,
)

ROOT = DEPLOY.parent
EXAMPLE = ROOT / "config.example.yaml"
ALERTMANAGER = DEPLOY / "alertmanager/alertmanager.yml"

CASES = list(cases())

CONNECTION = "{{ $labels.connection }}"
APP = '{{ with $labels.app }} "{{ . }}"{{ end }}'


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def deployed() -> list[dict[str, Any]]:
    """Every alerting rule of the file, in its order."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


NAMES = sorted({rule["alert"] for rule in deployed()})


def test_the_deployed_rules_match_the_example_configuration() -> None:
    assert RULES.read_text() == rules(load(EXAMPLE, {})), (
        f"Write it again: {Path(sys.executable).parent}/bearerwatch rules --config {EXAMPLE} > {RULES}"
    )


def test_every_cause_and_every_daemon_problem_has_an_alert() -> None:
    assert {alert_of(cause) for cause in CATALOGUE} <= set(NAMES)


@pytest.mark.real("promtool")
def test_prometheus_accepts_rules_and_configuration() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    run("promtool", "check", "config", "--lint=all", "--lint-fatal", DEPLOY / "prometheus/prometheus.yml")


def test_the_rules_file_is_short() -> None:
    text = RULES.read_text()
    expressions = {rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}

    assert len(text.splitlines()) <= 700
    assert max(map(len, expressions)) <= 250
    assert not [expression for expression in expressions if "\n" in expression or "ALERTS" in expression]


DOWN = {"BearerwatchAbsent", "BearerwatchDown"}


@pytest.mark.parametrize("rule", deployed(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_links_only_to_what_is_up(rule: dict[str, Any]) -> None:
    said, name = rule["annotations"], rule["alert"]

    links = {"runbook_url", "dashboard_url", "status_url"}
    assert set(said) - {"note"} == {"summary", "description"} | ({"dashboard_url"} if name in DOWN else links)
    assert " NAME" not in said["description"], "a command that lacks the connection's name"


@pytest.mark.parametrize("cause", CATALOGUE)
def test_the_alert_of_a_cause_says_who_must_act_and_each_step(cause: Cause) -> None:
    (rule,) = (rule for rule in deployed() if rule["alert"] == alert_of(cause))
    said = rule["annotations"]["description"]

    assert "\nWho must act: " in said
    assert [line for line in said.splitlines() if re.match(r"[0-9]+\. ", line)] == [
        f"{number}. {step}"
        for number, step in enumerate(with_name(with_last(CATALOGUE[cause]), CONNECTION, APP), 1)
    ]
    assert "Evidence: http" in said


@pytest.mark.parametrize("cause", CATALOGUE)
def test_an_alert_ends_with_how_a_repair_is_seen_at_once_unless_nothing_can_be_repaired(cause: Cause) -> None:
    (rule,) = (rule for rule in deployed() if rule["alert"] == alert_of(cause))
    asks = (
        "check again now: `bearerwatch recheck {{ $labels.connection }}`"
        in rule["annotations"]["description"]
    )

    assert asks == (CATALOGUE[cause].responsible is not Responsible.SALESFORCE)


def test_a_summary_reads_correctly_for_a_single_connection() -> None:
    plural = {
        rule["alert"] for rule in deployed() if re.search(r"\$value }} \w", rule["annotations"]["summary"])
    }

    assert plural == {
        "BearerwatchManyConnectionsAffected",
        "BearerwatchManyConnectionsUnreachable",
        "BearerwatchReplicasDiffer",
    }, "those that are never about one"


def test_the_alerts_page_lists_every_alert_that_has_no_cause() -> None:
    told = re.findall(r"^\| (Bearerwatch\w+) \|", (ROOT / "docs/alerts.md").read_text(), re.MULTILINE)

    assert sorted(told) == [name for name in NAMES if name not in {alert_of(cause) for cause in CATALOGUE}]


# The cases


def test_the_deployed_rule_tests_are_up_to_date() -> None:
    assert TESTS.read_text() == written(), f"Write it again: {sys.executable} -m tests.deploy.alert_cases"


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    fires = [
        case.name for case in CASES if any(name == each.name for at in case.firing.values() for each in at)
    ]
    spared = [case.name for case in CASES if name in case.spares]

    assert fires
    assert spared


@pytest.mark.parametrize("case", [case for case in CASES if case.spares], ids=lambda case: case.name)
def test_each_case_names_existing_alerts(case: Any) -> None:
    assert set(case.spares) <= set(NAMES)


@pytest.mark.real("promtool")
def test_in_each_case_exactly_the_expected_alerts_fire() -> None:
    run("promtool", "test", "rules", TESTS)


# Whom they reach


@pytest.mark.real("amtool")
def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.real("amtool")
@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        ("org-admins-urgent", "alertname=BearerwatchApprovalDecayed responsible=org_admin severity=critical"),
        ("org-admins", "alertname=BearerwatchApprovalExpiring responsible=org_admin severity=warning"),
        ("operators-urgent", "alertname=BearerwatchAudienceInvalid responsible=operator severity=critical"),
        ("operators-urgent", "alertname=BearerwatchAbsent responsible=operator severity=critical"),
        ("operators", "alertname=BearerwatchCertificateExpiring responsible=operator severity=warning"),
        ("operators", "alertname=BearerwatchSalesforceUnavailable responsible=salesforce severity=warning"),
        (
            "operators-urgent",
            "alertname=BearerwatchManyConnectionsAffected responsible=operator severity=critical",
        ),
        (
            "operators",
            "alertname=BearerwatchManyConnectionsUnreachable responsible=operator severity=warning",
        ),
        ("record", "alertname=BearerwatchPropagationPending responsible=salesforce severity=info"),
    ],
)
def test_an_alert_is_routed_to_the_responsible(receiver: str, labels: str) -> None:
    file = f"--config.file={ALERTMANAGER}"

    assert run("amtool", "config", "routes", "test", file, *labels.split()) == f"{receiver}\n"


@pytest.mark.real("promtool")
@pytest.mark.parametrize(("count", "explained"), [(8, numbered(8)), (9, ["org-06", "org-07", "org-08"])])
def test_among_many_alerts_with_one_cause_only_the_three_newest_have_the_steps(
    count: int, explained: list[str], tmp_path: Path
) -> None:
    series = connections(*numbered(100))
    for number, name in enumerate(numbered(count)):
        series |= finding(name, Cause.ORG_INACTIVE, constant(1), since=number)
    asked = "count by (connection) (connection:bearerwatch_connection_finding:explained)"
    expected = [{"labels": f'{{connection="{name}"}}', "value": 1} for name in explained]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": asked, "eval_time": "5m", "exp_samples": expected}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))

    run("promtool", "test", "rules", tmp_path / "test.yml")
