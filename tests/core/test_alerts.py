"""What is an alert: the same names, labels and times as the rules for Prometheus, and what holds it back."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.core.alerts import Alert, alerts
from monitor.core.catalogue import CATALOGUE, causes_where
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.maintenance import Once
from monitor.core.status import ConnectionStatus
from tests.core.fleets import LONG_AGO, MINUTE, TERMS, ill, snapshot, well
from tests.making import NOW

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
DAY = timedelta(days=1)


def found(*statuses: ConnectionStatus) -> list[Alert]:
    return alerts(snapshot(*statuses), TERMS)


def names(those: list[Alert]) -> list[str]:
    return [alert.labels.get("connection", alert.name) for alert in those]


def free(those: list[Alert]) -> list[str]:
    return names([alert for alert in those if not alert.held_back])


# The same as the rules


@pytest.fixture(name="rules", scope="module")
def _rules() -> dict[str, dict[str, str]]:
    """Each alert of the rules: its time, by severity where that differs."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@pytest.mark.parametrize("cause", Cause)
def test_each_alert_has_the_same_name_as_its_rule(cause: Cause, rules: dict[str, dict[str, str]]) -> None:
    (alert,) = found(ill(well("acme"), cause, LONG_AGO))

    assert alert.name in rules
    assert alert.labels["cause"] == cause
    assert alert.annotations["summary"] == f"{CATALOGUE[cause].title}: acme"


def test_alerts_without_a_cause_match_the_rules(rules: dict[str, dict[str, str]]) -> None:
    silent = replace(
        well("silent"), history=replace(well("silent").history, state=State.UNKNOWN, state_since=LONG_AGO)
    )
    shaky = replace(well("shaky"), history=replace(well("shaky").history, recent=(True, False) * 8))

    told = {alert.name for alert in found(silent, shaky)}

    assert told == {"BearerwatchConnectionUnexplained", "BearerwatchConnectionUnsteady"}
    assert told <= rules.keys()


@pytest.mark.parametrize("checked", [True, False])
def test_a_connection_without_verdict_and_cause_has_its_own_hold_time(checked: bool) -> None:
    def silent(since: datetime) -> ConnectionStatus:
        known = replace(well("silent").history, state=State.UNKNOWN, first_seen=since)
        return replace(well("silent"), history=replace(known, state_since=since if checked else None))

    since = NOW - TERMS.holds.unexplained

    assert found(silent(since))
    assert not found(silent(since + timedelta(seconds=1)))


def test_labels_match_the_rules_and_the_configuration() -> None:
    gold = well("acme", labels=(("customer", "acme"), ("tier", "gold")))
    terms = replace(TERMS, links=replace(TERMS.links, labels=("customer", "region")))

    (alert,) = alerts(snapshot(ill(gold, Cause.API_DISABLED, LONG_AGO)), terms)

    assert alert.labels == {
        "alertname": "BearerwatchApiDisabled",
        "connection": "acme",
        "cause": "api_disabled",
        "severity": "critical",
        "responsible": "org_admin",
        "host": "acme.my.salesforce.com",
        "customer": "acme",
    }


@pytest.mark.parametrize("cause", [cause for cause in Cause if CATALOGUE[cause].guide])
def test_an_alert_is_complete_by_itself(cause: Cause) -> None:
    (alert,) = found(ill(well("acme"), cause, LONG_AGO))

    text = alert.annotations["description"]
    assert f"Evidence of {cause}." in text
    assert f"(setup guide, {CATALOGUE[cause].guide})" in text
    assert "Last granted: 2026-11-23 12:00 UTC.\nNext check: 2026-11-23 12:05 UTC.\n" in text
    assert "Who must act: " in text
    assert "NAME" not in text
    for step in CATALOGUE[cause].remedy:
        assert step.replace("NAME", "acme") in text


@pytest.mark.parametrize("allowed", [True, False])
def test_an_alert_for_the_admin_names_the_app_and_if_allowed_the_user(
    allowed: bool,
) -> None:
    one = well(
        "acme",
        consumer_key="3MVG9acme.and.many.more.letters",
        username="integration@acme.com",
        username_in_alerts=allowed,
    )
    terms = replace(TERMS, links=replace(TERMS.links, labels=("username",) if allowed else ()))
    sick = ill(one, Cause.USER_INACTIVE, LONG_AGO)
    (finding,) = sick.history.findings
    finding = replace(finding, evidence=("The configured username is integration@acme.com.",))
    sick = replace(sick, history=replace(sick.history, findings=(finding,)))

    (alert,) = alerts(snapshot(sick), terms)

    said = alert.annotations["description"]
    assert (
        "a Salesforce admin of the org at acme.my.salesforce.com, for the app with the consumer key" in said
    )
    assert ("3MVG9…etters and the user integration@acme.com" in said) == allowed
    assert ("The configured username is integration@acme.com." in said) == allowed
    assert ("integration@" in f"{said} {alert.labels}") == allowed


def test_an_alert_has_the_apps_name_if_the_rule_has() -> None:
    one = ill(well("acme", app="Acme Sync"), Cause.API_DISABLED, LONG_AGO)
    terms = replace(TERMS, links=replace(TERMS.links, labels=("app",)))

    assert alerts(snapshot(one), terms)[0].labels["app"] == "Acme Sync"


# For how long it must hold


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_becomes_an_alert_exactly_after_its_hold_time(cause: Cause) -> None:
    hold = TERMS.holds.of_cause(cause)

    assert found(ill(well("acme"), cause, NOW - hold))
    assert not found(ill(well("acme"), cause, NOW - hold + timedelta(seconds=1)))


@pytest.mark.parametrize("cause", sorted(causes_where(lambda entry: entry.transient)))
def test_a_fault_of_network_or_server_must_last_for_three_intervals(cause: Cause) -> None:
    assert TERMS.holds.of_cause(cause) == 15 * MINUTE


def test_a_settling_change_is_not_an_alert() -> None:
    assert not found(ill(well("acme"), Cause.PROPAGATION_PENDING, NOW - 10 * MINUTE))


def test_a_paused_connection_is_not_an_alert() -> None:
    assert not found(ill(well("acme", paused=True), Cause.API_DISABLED, LONG_AGO))


@pytest.mark.parametrize(
    ("recent", "unsteady"),
    [
        pytest.param((True, False) * 8, True, id="every second one"),
        pytest.param((True,) * 4 + (False,) * 4 + (True,) * 4 + (False,) * 4, False, id="two stretches"),
        pytest.param((False,) * 16, False, id="all of them"),
        pytest.param((True, True, False) * 5 + (True,), True, id="each third one"),
        pytest.param((True, False) * 3, False, id="three times, and recovered twice"),
        pytest.param((True, False) * 3 + (True,), True, id="three times, and recovered"),
    ],
)
def test_an_unsteady_connection_has_its_own_alert(recent: tuple[bool, ...], unsteady: bool) -> None:
    status = well("acme")

    told = found(replace(status, history=replace(status.history, recent=recent)))

    assert [alert.name for alert in told] == ["BearerwatchConnectionUnsteady"] * unsteady


@pytest.mark.parametrize("of_all", [True, False], ids=["of all", "of the connection"])
@pytest.mark.parametrize(
    ("interval", "counts"),
    [(MINUTE, TERMS.holds.window), (5 * MINUTE, 80 * MINUTE), (60 * MINUTE, 16 * 60 * MINUTE)],
    ids=["shorter than the global one", "the global one", "longer"],
)
def test_failures_during_maintenance_do_not_count_as_unsteady(
    interval: timedelta, counts: timedelta, *, of_all: bool
) -> None:
    def told(ended: timedelta) -> list[str]:
        window = Once(NOW - DAY, NOW - ended)
        status = well("acme", maintenance=() if of_all else (window,), interval=interval)
        status = replace(status, history=replace(status.history, recent=(True, False) * 8))
        return free(list(alerts(snapshot(status, maintenance=[window] if of_all else []), TERMS)))

    assert told(counts - MINUTE) == []
    assert told(counts) == ["acme"]


# What holds back


def test_maintenance_of_one_connection_holds_back_only_its_alerts() -> None:
    window = Once(NOW - MINUTE, NOW + MINUTE)
    told = found(
        ill(well("acme", maintenance=(window,)), Cause.API_DISABLED, LONG_AGO),
        ill(well("other"), Cause.API_DISABLED, LONG_AGO),
    )

    assert free(told) == ["other"]
    assert told[0].held_back == "maintenance until 2026-11-23 12:01 UTC"


def test_global_maintenance_holds_back_all_alerts() -> None:
    broken = [ill(well(f"c{number}"), Cause.ORG_INACTIVE, LONG_AGO) for number in range(5)]

    told = alerts(snapshot(*broken, maintenance=[Once(NOW - MINUTE, NOW + MINUTE)]), TERMS)

    assert len(told) == 5
    assert all(alert.held_back.startswith("maintenance") for alert in told)


# What belongs together


def test_connections_with_the_same_cause_in_the_same_app_are_one_group() -> None:
    app: dict[str, Any] = {"consumer_key": "3MVG9SharedByAllOfThem"}
    first, second = (ill(well(name, **app), Cause.API_DISABLED, LONG_AGO) for name in ("first", "second"))
    of_another_app = ill(well("third"), Cause.API_DISABLED, LONG_AGO)
    for_another_cause = ill(well("fourth", **app), Cause.ORG_INACTIVE, LONG_AGO)

    groups = [alert.group for alert in found(first, second, of_another_app, for_another_cause)]
    named = found(*(ill(well(name, app="CRM sync"), Cause.API_DISABLED, LONG_AGO) for name in ("a", "b")))

    assert named[0].group == named[1].group
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
    assert all(app["consumer_key"] not in group for group in groups)


@pytest.mark.parametrize(
    "cause", [Cause.NETWORK_UNREACHABLE, Cause.SALESFORCE_UNAVAILABLE, Cause.IP_RESTRICTED]
)
def test_causes_unrelated_to_the_app_form_one_group_across_apps(cause: Cause) -> None:
    assert (
        len({alert.group for alert in found(*(ill(well(f"c{n}"), cause, LONG_AGO) for n in range(9)))}) == 1
    )


# What strangers wrote


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<!channel> look", "‹!channel› look"),
        ("<https://evil.example|Log in>", "‹https[:]//evil.example|Log in›"),
        ("[Log in](http://evil.example)", "[Log in] (http[:]//evil.example)"),
        ("<a href=HTTP://evil.example>x</a>", "‹a href=HTTP[:]//evil.example›x‹/a›"),
        ("<@U123> @here x@everyone @acme", "‹@\u200bU123› @\u200bhere x@\u200beveryone @\u200bacme"),
        ("someone@acme.com is 5 < 6 & more", "someone@acme.com is 5 ‹ 6 & more"),
    ],
)
def test_evidence_contains_no_active_link_mention_or_markup(text: str, shown: str) -> None:
    (alert,) = found(ill(well("acme"), Cause.API_DISABLED, LONG_AGO, evidence=(text,)))

    assert shown in alert.annotations["description"]
    assert text not in alert.annotations["description"]
