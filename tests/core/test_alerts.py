"""What is an alert: the same names, labels and times as the rules for Prometheus, and what holds it back."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.core.alert import Alert
from monitor.core.alerts import alerts
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
    """The alerts of which somebody may be told who was told nothing before."""
    return [alert for alert in alerts(snapshot(*statuses), TERMS) if not alert.stays]


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
def test_each_cause_has_the_name_of_its_rule(cause: Cause, rules: dict[str, dict[str, str]]) -> None:
    (alert,) = found(ill(well("acme"), cause, LONG_AGO))

    assert alert.name in rules
    assert alert.labels["cause"] == cause
    assert alert.annotations["summary"] == f"{CATALOGUE[cause].title}: acme"


def test_the_alerts_that_are_of_no_cause_are_those_of_the_rules(rules: dict[str, dict[str, str]]) -> None:
    silent = replace(
        well("silent"), history=replace(well("silent").history, state=State.UNKNOWN, state_since=LONG_AGO)
    )
    shaky = replace(well("shaky"), history=replace(well("shaky").history, recent=(True, False) * 8))
    many = [ill(well(f"c{number}"), Cause.IP_RESTRICTED, LONG_AGO) for number in range(5)]
    away = [ill(well(f"u{number}"), Cause.NETWORK_UNREACHABLE, LONG_AGO) for number in range(5)]

    told = {alert.name for alert in found(silent, shaky, *many, *away)} - {
        "BearerwatchIpRestricted",
        "BearerwatchNetworkUnreachable",
    }

    assert told == {
        "BearerwatchConnectionUnexplained",
        "BearerwatchConnectionUnsteady",
        "BearerwatchManyConnectionsAffected",
        "BearerwatchManyConnectionsUnreachable",
    }
    assert told <= rules.keys()


def test_the_labels_are_those_of_the_rules_and_the_operators_own_that_are_asked_for() -> None:
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
def test_who_reads_nothing_but_the_alert_knows_what_to_do_where_and_who_must(cause: Cause) -> None:
    (alert,) = found(ill(well("acme"), cause, LONG_AGO))

    text = alert.annotations["description"]
    assert f"Evidence of {cause}." in text
    assert f"(setup guide, {CATALOGUE[cause].guide})" in text
    assert "Who must act: " in text
    assert "NAME" not in text
    for step in CATALOGUE[cause].remedy:
        assert step.replace("NAME", "acme") in text


def test_who_must_act_in_the_org_is_told_for_which_app_and_user() -> None:
    one = well("acme", consumer_key="3MVG9acme.and.many.more.letters", username="integration@acme.com")

    (alert,) = found(ill(one, Cause.USER_INACTIVE, LONG_AGO))

    assert (
        "a Salesforce admin of the org at acme.my.salesforce.com, for the app with the consumer key"
        " 3MVG9…etters and the user integration@acme.com" in alert.annotations["description"]
    )


# For how long it must hold


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_is_an_alert_once_it_has_held_and_not_a_second_sooner(cause: Cause) -> None:
    hold = TERMS.holds.of_cause(cause)

    assert found(ill(well("acme"), cause, NOW - hold))
    assert not found(ill(well("acme"), cause, NOW - hold + timedelta(seconds=1)))


@pytest.mark.parametrize("cause", sorted(causes_where(lambda entry: entry.transient)))
def test_a_fault_of_network_or_server_must_last_for_three_intervals(cause: Cause) -> None:
    assert TERMS.holds.of_cause(cause) == 15 * MINUTE


def test_a_change_that_settles_is_no_alert() -> None:
    assert not found(ill(well("acme"), Cause.PROPAGATION_PENDING, NOW - 10 * MINUTE))


def test_what_is_paused_is_no_alert() -> None:
    assert not found(ill(well("acme", paused=True), Cause.API_DISABLED, LONG_AGO))


@pytest.mark.parametrize(
    ("recent", "unsteady"),
    [
        pytest.param((True, False) * 8, True, id="every second one"),
        pytest.param((True,) * 4 + (False,) * 4 + (True,) * 4 + (False,) * 4, False, id="two stretches"),
        pytest.param((False,) * 16, False, id="all of them, which is no coming and going"),
        pytest.param((True, True, False) * 5 + (True,), False, id="a third"),
        pytest.param((True, False, True, False), False, id="four in all"),
    ],
)
def test_what_fails_again_and_again_is_an_alert_of_its_own(recent: tuple[bool, ...], unsteady: bool) -> None:
    status = well("acme")

    told = found(replace(status, history=replace(status.history, recent=recent)))

    assert [alert.name for alert in told] == ["BearerwatchConnectionUnsteady"] * unsteady


@pytest.mark.parametrize("of_all", [True, False], ids=["of all", "of the connection"])
@pytest.mark.parametrize(
    ("interval", "counts"),
    [(MINUTE, TERMS.holds.window), (5 * MINUTE, 80 * MINUTE), (60 * MINUTE, 16 * 60 * MINUTE)],
    ids=["shorter than the general one", "the general one", "longer"],
)
def test_what_failed_in_a_maintenance_is_no_unsteadiness_for_as_long_as_it_counts(
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


def test_many_at_once_are_one_alert_and_the_single_ones_are_held_back() -> None:
    fleet = [well(f"well{number}") for number in range(15)]
    refused = [ill(well(f"ill{number}"), Cause.ORG_INACTIVE, NOW - 10 * MINUTE) for number in range(5)]

    told = found(*fleet, *refused)

    assert free(told) == ["BearerwatchManyConnectionsAffected"]
    assert told[0].annotations["summary"].endswith("5 of 20 connections at once")
    assert {alert.held_back for alert in told[1:]} == {"told as BearerwatchManyConnectionsAffected"}


@pytest.mark.parametrize("others", [16, 200])
def test_a_few_of_a_fleet_are_told_one_by_one(others: int) -> None:
    fleet = [well(f"well{number}") for number in range(others)]
    refused = [ill(well(f"ill{number}"), Cause.ORG_INACTIVE, NOW - 10 * MINUTE) for number in range(5)]

    assert free(found(*fleet, *refused)) == [f"ill{number}" for number in range(5)]


def test_maintenance_of_one_connection_holds_back_that_one() -> None:
    window = Once(NOW - MINUTE, NOW + MINUTE)
    told = found(
        ill(well("acme", maintenance=(window,)), Cause.API_DISABLED, LONG_AGO),
        ill(well("other"), Cause.API_DISABLED, LONG_AGO),
    )

    assert free(told) == ["other"]
    assert told[0].held_back == "maintenance until 2026-11-23 12:01 UTC"


def test_maintenance_of_all_holds_back_all_also_many_at_once() -> None:
    many = [ill(well(f"c{number}"), Cause.ORG_INACTIVE, LONG_AGO) for number in range(5)]

    told = alerts(snapshot(*many, maintenance=[Once(NOW - MINUTE, NOW + MINUTE)]), TERMS)

    assert len(told) == 6
    assert all(alert.held_back.startswith("maintenance") for alert in told)


def test_connections_in_maintenance_do_not_make_many() -> None:
    window = (Once(NOW - MINUTE, NOW + MINUTE),)
    many = [ill(well(f"c{n}", maintenance=window), Cause.ORG_INACTIVE, LONG_AGO) for n in range(5)]

    assert not free(found(*many))


# What belongs together


@pytest.mark.parametrize(
    ("shared", "called"),
    [
        ({"consumer_key": "3MVG9SharedByAllOfThem"}, "the consumer key 3MVG9…OfThem"),
        ({"username": "integration@acme.com"}, "the user integration@acme.com"),
        ({"login_url": "https://acme.my.salesforce.com"}, "the org acme.my.salesforce.com"),
    ],
)
def test_connections_that_share_an_app_a_user_or_an_org_are_one_group(
    shared: dict[str, Any], called: str
) -> None:
    fleet = [well(f"well{number}") for number in range(20)]
    together = [ill(well(f"ill{number}", **shared), Cause.API_DISABLED, LONG_AGO) for number in range(4)]
    alone = ill(well("alone"), Cause.API_DISABLED, LONG_AGO)

    told = found(*fleet, *together, alone)

    assert len({alert.group for alert in told[:4]}) == 1
    assert {(alert.shared, alert.shared_by) for alert in told[:4]} == {(called, 4)}
    assert told[4].group not in {alert.group for alert in told[:4]}
    assert told[4].shared == ""
    assert all(value not in told[0].group for value in shared.values())


def test_the_generic_host_is_nothing_that_orgs_share() -> None:
    fleet = [well(f"well{number}") for number in range(20)]
    generic: dict[str, Any] = {"login_url": "https://login.salesforce.com"}
    told = found(*fleet, *(ill(well(f"c{n}", **generic), Cause.APP_NOT_FOUND, LONG_AGO) for n in range(2)))

    assert len({alert.group for alert in told}) == 2


def test_an_alert_waits_for_a_look_at_those_that_share_its_app() -> None:
    app: dict[str, Any] = {"consumer_key": "3MVG9Shared"}
    since = NOW - 2 * MINUTE
    first = ill(well("first", **app), Cause.API_DISABLED, since)

    (waiting,) = found(first, well("not yet looked at", NOW - 4 * MINUTE, **app))
    (ready,) = found(first, well("looked at", NOW - MINUTE, **app))
    (alone,) = found(first, well("of another app", NOW - 4 * MINUTE))

    assert (waiting.waits, ready.waits, alone.waits) == (True, False, False)


def test_nobody_is_waited_for_longer_than_five_minutes() -> None:
    app: dict[str, Any] = {"consumer_key": "3MVG9Shared"}
    first = ill(well("first", **app), Cause.API_DISABLED, NOW - 8 * MINUTE)

    (alert,) = found(first, well("slow", NOW - 9 * MINUTE, **app, interval=timedelta(minutes=10)))

    assert not alert.waits


def test_after_a_start_a_look_is_waited_for_that_comes_soon() -> None:
    old = ill(well("acme", LONG_AGO), Cause.API_DISABLED, LONG_AGO, LONG_AGO)
    now = snapshot(replace(old, next_exchange=NOW + MINUTE))
    started = replace(now, daemon=replace(now.daemon, started=NOW))

    (alert,) = alerts(started, TERMS)

    assert alert.waits
