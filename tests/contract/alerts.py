"""The alerts: those of the rules as Prometheus fires them, and those of the daemon's own notifications."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import yaml

from monitor.core.alerts import TROUBLES, Terms, alert_of_trouble
from monitor.core.alerts import alerts as alerts_of_connections
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.history import RECENT_KEPT
from monitor.core.status import ConnectionStatus
from monitor.core.wording import Links
from tests.core.fleets import LONG_AGO, TERMS, ill, snapshot, well
from tests.making import NOW

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
LINKED = Terms(TERMS.holds, Links("https://runbooks", "https://dashboard", "https://pages"))
NOT_LISTED = {"alertname", "alertstate", "customer"}
"""What Prometheus itself adds, and the operator's own label of config.example.yaml."""
AT_ONCE = 50
"""Connections with one cause that are enough for an alert about many."""


def alerts() -> str:
    """Name, severities, labels and annotations of each alert, by who sends it."""
    return f"# Prometheus\n{_shipped()}\n# notify\n{_notified()}"


def _line(name: str, severities: set[str], labels: set[str], annotations: set[str]) -> str:
    said = [sorted(words - NOT_LISTED) for words in (severities, labels, annotations)]
    return "{}: {}; labels {}; annotations {}\n".format(name, *map(", ".join, said))


def _shipped() -> str:
    """The labels are those with which the alert fires in alerts.test.yml, as promtool proves there."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    # Rules that differ in nothing but the cause carry the same labels.
    kinds = {name: re.sub(r'cause="\w+"', "", rule["expr"]) for name, rule in rules.items()}
    severities, labels = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for fired in _fired(set(rules)):
        severities[fired["alertname"]].add(fired["severity"])
        labels[kinds[fired["alertname"]]].update(fired)
    return "".join(
        _line(name, severities[name], labels[kinds[name]], set(rule["annotations"]))
        for name, rule in sorted(rules.items())
    )


def _fired(names: set[str]) -> Iterator[dict[str, str]]:
    """The labels of each of these alerts that fires in a test of the rules."""
    text = (PROMETHEUS / "alerts.test.yml").read_text(encoding="utf-8")
    for case in yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["tests"]:
        for looked_at in case.get("promql_expr_test", ()):
            for sample in looked_at["exp_samples"]:
                labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample["labels"]))
                if labels["alertname"] in names:
                    yield labels


def _notified() -> str:
    """Those of a fleet in which everything lasts that there is an alert about."""
    made = [alert_of_trouble(trouble, LONG_AGO, snapshot(), LINKED) for trouble in TROUBLES]
    made += alerts_of_connections(snapshot(*_one_of_each()), LINKED)
    for cause in (Cause.APPROVAL_DECAYED, Cause.NETWORK_UNREACHABLE):
        made += alerts_of_connections(snapshot(*_many(cause)), LINKED)
    return "".join(
        _line(
            name,
            {alert.labels["severity"] for alert in made if alert.name == name},
            {label for alert in made if alert.name == name for label in alert.labels},
            {annotation for alert in made if alert.name == name for annotation in alert.annotations},
        )
        for name in sorted({alert.name for alert in made})
    )


def _one_of_each() -> Iterator[ConnectionStatus]:
    """Each cause, no cause, and failures that come and go."""
    for cause in Cause:
        yield ill(well(cause), cause, LONG_AGO)
    silent, unsteady = well("silent"), well("unsteady")
    yield replace(silent, history=replace(silent.history, state=State.UNKNOWN))
    yield replace(unsteady, history=replace(unsteady.history, recent=(True, False) * (RECENT_KEPT // 2)))


def _many(cause: Cause) -> Iterator[ConnectionStatus]:
    for number in range(AT_ONCE):
        yield ill(well(f"tenant-{number}"), cause, NOW - timedelta(hours=1))
