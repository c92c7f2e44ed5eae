"""Alerts about the daemon itself match the Prometheus rules."""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.core.alerts import TROUBLES, Alert, Trouble, alert_of_trouble
from monitor.core.maintenance import Once
from monitor.core.status import ConnectionStatus, Snapshot
from tests.core.fleets import LONG_AGO, MINUTE, TERMS, snapshot, well
from tests.making import NOW

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"


def found(shown: Snapshot) -> list[Alert]:
    return [alert_of_trouble(trouble, LONG_AGO, shown, TERMS) for trouble in troubles(shown)]


def troubles(shown: Snapshot) -> list[Trouble]:
    return [trouble for trouble in TROUBLES if trouble.is_there(shown, TERMS.holds)]


def overdue(by: timedelta, *names: str, **of_connection: Any) -> Iterable[ConnectionStatus]:
    return (replace(well(name, **of_connection), next_exchange=NOW - by) for name in names)


def troubled() -> Snapshot:
    """All of it at once."""
    shown = snapshot(*overdue(TERMS.holds.late + MINUTE, "acme", "globex"), well("on time"))
    daemon = replace(shown.daemon, configured=0, reload_problem="line 3", store_problem="The disk is full.")
    return replace(shown, daemon=daemon)


def test_every_alert_has_the_name_labels_and_hold_time_of_its_rule() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}

    told = {alert.name: alert for alert in found(troubled())}

    assert told.keys() == {
        "BearerwatchChecksLate",
        "BearerwatchWatchesNothing",
        "BearerwatchReloadFailed",
        "BearerwatchStoreFailing",
    }
    holds = {trouble.name: trouble.hold for trouble in troubles(troubled())}
    for name, alert in told.items():
        own = {"alertname": name, "instance": "monitor.example.com"}
        assert alert.labels == rules[name]["labels"] | own
        assert f"{holds[name] / MINUTE:.0f}m" == rules[name]["for"]
        summary = rules[name]["annotations"]["summary"]
        summary = summary.replace("{{ $labels.instance }}", "monitor.example.com")
        assert alert.annotations["summary"] == summary.replace("{{ $value }}", "2")


def test_the_notifications_page_lists_each_alert_with_its_times() -> None:
    page = (RULES.parents[2] / "docs" / "notifications.md").read_text()
    said = {name: int(minutes) for name, minutes in re.findall(r"^\| (Bear\w+) \| (\d+) minute", page, re.M)}

    assert said == {trouble.name: trouble.hold / MINUTE for trouble in troubles(troubled())}


def test_late_checks_are_counted_and_named() -> None:
    (alert,) = found(snapshot(*overdue(TERMS.holds.late + MINUTE, "acme", "globex"), well("on time")))

    assert alert.annotations["summary"] == "Connections not checked on time: 2"
    assert "\nAmong them: acme, globex.\n" in alert.annotations["description"]


def test_an_active_connection_without_a_due_time_is_late() -> None:
    left_out = [
        replace(well(name, paused=name == "paused"), next_exchange=None) for name in ("acme", "paused")
    ]

    (alert,) = found(snapshot(*left_out, well("on time")))

    assert alert.name == "BearerwatchChecksLate"
    assert "\nAmong them: acme.\n" in alert.annotations["description"]


def test_a_connection_not_checked_for_long_is_late_even_if_scheduled() -> None:
    put_off = replace(well("acme"), unwatched=True, next_exchange=NOW + timedelta(days=40))

    (alert,) = found(snapshot(put_off, well("on time")))

    assert alert.name == "BearerwatchChecksLate"


@pytest.mark.parametrize(
    "statuses",
    [
        pytest.param(list(overdue(TERMS.holds.late, "acme")), id="overdue, and not late yet"),
        pytest.param(list(overdue(timedelta(days=1), "acme", paused=True)), id="paused"),
    ],
)
def test_queued_and_paused_connections_are_not_late(statuses: list[ConnectionStatus]) -> None:
    assert not found(snapshot(*statuses))


def test_without_problems_there_is_no_alert() -> None:
    assert not found(snapshot(well("acme")))


def test_global_maintenance_holds_back_alerts_about_the_daemon() -> None:
    window = Once(NOW - MINUTE, NOW + MINUTE)
    shown = troubled()

    told = found(replace(shown, daemon=replace(shown.daemon, maintenance=(window,))))

    assert {alert.held_back for alert in told} == {"maintenance until 2026-11-23 12:01 UTC"}
