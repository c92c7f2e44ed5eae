"""From an org that refuses to the person who is told: simulator, daemon, Prometheus, Alertmanager, webhook.

All of it are real processes. The rules are those that `bearerwatch rules` prints and the routes those of
deploy/, a minute of theirs passing in three seconds. How long the rules wait in truth, promtool proves.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from monitor.config.words import duration
from tests.end_to_end.collector import Collector, collector
from tests.end_to_end.processes import component, daemon, free_port, simulator, until

DEPLOY = Path(__file__).parents[2] / "deploy"

FASTER = 20
"""A `for` of a minute takes three seconds."""

PATIENCE_SECONDS = 180.0
"""From an org to a person, on a machine that is busy with other tests."""


class Told(NamedTuple):
    """What a person is told, and who that is."""

    receiver: str
    alert: str
    connection: str = ""
    cause: str = ""
    severity: str = "critical"
    responsible: str = "operator"


def heard(told: Collector, status: str) -> list[Told]:
    """Everything that was told with this status so far."""
    return [
        Told(
            receiver,
            labels["alertname"],
            *(labels.get(name, "") for name in ("connection", "cause", "severity", "responsible")),
        )
        for receiver, alert in told.notifications
        if alert["status"] == status
        for labels in [alert["labels"]]
    ]


def texts(told: Collector, connection: str) -> dict[str, str]:
    """The annotations of the first alert about a connection."""
    return next(
        dict(alert["annotations"])
        for _, alert in told.notifications
        if alert["labels"].get("connection") == connection
    )


def faster(rules: str) -> str:
    """The rules, whose alerts wait for a part of the time only."""

    def part(wait: re.Match[str]) -> str:
        return f"{wait[1]}{duration(wait[2]) / FASTER / timedelta(milliseconds=1):.0f}ms"

    return re.sub(r"(\b(?:for|keep_firing_for): )(\w+)$", part, rules, flags=re.MULTILINE)


def routes(webhook: str) -> dict[str, Any]:
    """deploy/'s routes and inhibition, with every receiver at the webhook and with little patience."""
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "10s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": webhook, "send_resolved": True}]
    return config


@dataclass
class Chain:
    """All of it at work."""

    orgs: httpx.Client
    told: Collector
    key: Path
    prometheus: str
    alertmanager: str

    @contextmanager
    def watched(self) -> Iterator[None]:
        """With Prometheus, once there is a daemon to scrape: else it would be told to be absent."""
        with component(
            *(self.key.parent, "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"),
            f"--web.listen-address={urlsplit(self.prometheus).netloc}",
            ready=f"{self.prometheus}/-/ready",
        ):
            yield

    @contextmanager
    def notified(self) -> Iterator[None]:
        """With Alertmanager."""
        with component(
            *(self.key.parent, "prometheus-alertmanager", "--config.file=alertmanager.yml"),
            *("--storage.path=am", f"--web.listen-address={urlsplit(self.alertmanager).netloc}"),
            "--cluster.listen-address=",
            ready=f"{self.alertmanager}/-/ready",
        ):
            yield

    def change(self, org: str, **settings: object) -> dict[str, object]:
        """Change an org; gives what these settings were before."""
        before = self.orgs.get(f"/_orgs/{org}").json()
        assert self.orgs.patch(f"/_orgs/{org}", json=settings).is_success
        return {name: before[name] for name in settings}

    def look(self) -> None:
        """Let the daemon look at every connection now, as it does when a key file changes."""
        self.key.touch()

    def firing(self) -> set[tuple[str, str]]:
        """What fires in Prometheus: alert and connection."""
        answer = httpx.get(f"{self.prometheus}/api/v1/alerts", trust_env=False).json()
        return {
            (alert["labels"]["alertname"], alert["labels"].get("connection", ""))
            for alert in answer["data"]["alerts"]
            if alert["state"] == "firing"
        }

    def known(self) -> set[tuple[str, str]]:
        """What Alertmanager has: alert and connection."""
        answer = httpx.get(f"{self.alertmanager}/api/v2/alerts", trust_env=False).json()
        return {(alert["labels"]["alertname"], alert["labels"].get("connection", "")) for alert in answer}

    def held_back(self) -> set[tuple[str, str]]:
        """What Alertmanager keeps to itself: alert and connection."""
        answer = httpx.get(f"{self.alertmanager}/api/v2/alerts", trust_env=False).json()
        return {
            (alert["labels"]["alertname"], alert["labels"].get("connection", ""))
            for alert in answer
            if alert["status"]["state"] == "suppressed"
        }

    def wait_for(self, status: str, expected: set[Told]) -> None:
        told = f"to be told, {status}: {expected}"
        until(lambda: expected <= set(heard(self.told, status)), told, PATIENCE_SECONDS)

    def scraped(self, query: str) -> bool:
        """Whether the query gives something in Prometheus."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query}, trust_env=False)
        return bool(answer.json()["data"]["result"])


ADMINS, OPERATORS = "org-admins-urgent", "operators-urgent"

BREAKS: dict[str, tuple[dict[str, object], Told]] = {
    "user-not-admin-approved": (
        {"permission_set_assigned": False},
        Told(ADMINS, "BearerwatchUserNotAdminApproved", responsible="org_admin"),
    ),
    "approval-decayed": (
        {"user_approved": False},
        Told(ADMINS, "BearerwatchApprovalDecayed", responsible="org_admin"),
    ),
    "ip-restricted": (
        {"ip_allowed": False},
        Told(ADMINS, "BearerwatchIpRestricted", responsible="org_admin"),
    ),
    "flow-disabled": (
        {"flow_enabled": False},
        Told(ADMINS, "BearerwatchFlowDisabled", responsible="org_admin"),
    ),
    "user-inactive": (
        {"user_active": False},
        Told(ADMINS, "BearerwatchUserInactive", responsible="org_admin"),
    ),
    "jwt-access-token": (
        {"jwt_access_tokens": True},
        Told(ADMINS, "BearerwatchJwtAccessToken", responsible="org_admin"),
    ),
    "clock-skewed": (
        {"clock_offset_seconds": 3600},
        Told(OPERATORS, "BearerwatchClockSkewed"),
    ),
    "salesforce-unavailable": (
        {"maintenance": True},
        Told("operators", "BearerwatchSalesforceUnavailable", severity="warning", responsible="salesforce"),
    ),
    "app-not-found": (
        {"permission_set_assigned": False, "left_out": "app_not_found"},
        Told(ADMINS, "BearerwatchAppNotFound", responsible="org_admin"),
    ),
    "consumer-key-unknown": (
        {"consumer_key": "3MVG9_rotated"},
        Told(OPERATORS, "BearerwatchConsumerKeyUnknown"),
    ),
    "client-invalid": (
        {"certificate": None},
        Told(ADMINS, "BearerwatchClientInvalid", responsible="org_admin"),
    ),
    "not-authorized": (
        {"ip_allowed": False, "ip_refusal": "not_authorized"},
        Told(ADMINS, "BearerwatchNotAuthorized", responsible="org_admin"),
    ),
    "api-disabled": (
        {"api_enabled": False},
        Told(ADMINS, "BearerwatchApiDisabled", responsible="org_admin"),
    ),
    "username-changed": ({"username": "renamed@acme.example"}, Told(OPERATORS, "BearerwatchUsernameChanged")),
    "org-inactive": (
        {"org_active": False},
        Told(ADMINS, "BearerwatchOrgInactive", responsible="org_admin"),
    ),
    "audience-invalid": ({"accepted_audiences": "generic"}, Told(OPERATORS, "BearerwatchAudienceInvalid")),
}
"""Connections, each named after its cause, with what breaks the org, and what is told to whom."""

NEARLY_OVER = datetime.now(UTC) - timedelta(days=29)
SOON, PAST = ((datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (3, -3))
STANDING: dict[str, tuple[dict[str, object], dict[str, object], Told]] = {
    "consumer-not-approved": (
        {"permitted_users": "self_authorized", "user_approved": False},
        {},
        Told(ADMINS, "BearerwatchConsumerNotApproved", responsible="org_admin"),
    ),
    "network-unreachable": (
        {},
        {"login_url": "http://127.0.0.1:9"},
        Told("operators", "BearerwatchNetworkUnreachable", severity="warning"),
    ),
    "key-unreadable": (
        {},
        {"private_key": {"file": "garbage.pem"}},
        Told(OPERATORS, "BearerwatchKeyUnreadable"),
    ),
    "key-not-rsa": ({}, {"private_key": {"file": "ec.pem"}}, Told(OPERATORS, "BearerwatchKeyNotRsa")),
    "key-file-exposed": (
        {},
        {"private_key": {"file": "exposed.pem"}},
        Told("operators", "BearerwatchKeyFileExposed", severity="warning"),
    ),
    "certificate-expiring": (
        {},
        {"certificate_not_after": SOON},
        Told(OPERATORS, "BearerwatchCertificateExpiring"),
    ),
    "certificate-expired": (
        {},
        {"certificate_not_after": PAST},
        Told(OPERATORS, "BearerwatchCertificateExpired"),
    ),
    "approval-expiring": (
        {},
        {"approval": {"policy": "lifetime", "days": 30, "granted": f"{NEARLY_OVER:%Y-%m-%d}"}},
        Told(ADMINS, "BearerwatchApprovalExpiring", responsible="org_admin"),
    ),
    "permission-set-expiring": (
        {"permission_set_lifetime_seconds": 864_000, "permissions": ["ViewSetup"]},
        {"read_permission_sets": True},
        Told("org-admins", "BearerwatchPermissionSetExpiring", severity="warning", responsible="org_admin"),
    ),
}
"""Connections that have had their cause from the start: what the org and the configuration are like."""


def _expected(cases: Mapping[str, tuple[Any, ...]]) -> set[Told]:
    return {case[-1]._replace(connection=name, cause=name.replace("-", "_")) for name, case in cases.items()}


EXPECTED, STAY = _expected(BREAKS), _expected(STANDING)
FLEET = [f"fleet-{number}" for number in range(10)]
"""More than a quarter of all."""
BYSTANDERS = ["healthy", "paused", "blip"]

MANY = {Told(OPERATORS, "BearerwatchManyConnectionsAffected", cause="app_blocked")}
"""The operator finds out first what they share."""
ABSENT = Told(OPERATORS, "BearerwatchAbsent")


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    key, port, prometheus, alertmanager = tmp_path / "private-key.pem", free_port(), free_port(), free_port()
    subprocess.run(
        [sys.executable, "-m", "monitor", "keygen", "--out", tmp_path], check=True, capture_output=True
    )
    with simulator(tmp_path) as orgs, collector() as told:
        # The fleet is looked at together, when its key file is touched, and at no time in between: so it is
        # many at once. Looked at in turn, on a busy machine, the first of them was told of alone.
        options: dict[str, dict[str, object]] = {name: {"interval": "20h"} for name in FLEET}
        options |= {"paused": {"paused": True}}
        listed = []
        (tmp_path / "garbage.pem").write_text("no key")
        (tmp_path / "garbage.pem").chmod(0o600)
        (tmp_path / "exposed.pem").write_bytes(key.read_bytes())
        (tmp_path / "exposed.pem").chmod(0o644)
        subprocess.run(
            [
                "openssl",
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
                "ec.pem",
            ],
            check=True,
            capture_output=True,
            cwd=tmp_path,
        )
        options |= {name: own for name, (_, own, _) in STANDING.items()}
        for name in [*BREAKS, *STANDING, *FLEET, *BYSTANDERS]:
            identity: dict[str, object] = {
                "consumer_key": f"3MVG9_{name}",
                "username": f"integration@{name}.example",
            }
            settings = identity | {"certificate": (tmp_path / "cert.pem").read_text()}
            settings |= {"permitted_users": "self_authorized"} if name == "approval-decayed" else {}
            settings |= {"permission_set_assigned": False} if name == "paused" else {}
            settings |= STANDING[name][0] if name in STANDING else {}
            assert orgs.put(f"/_orgs/{name}", json=settings).is_success
            own = {"name": name, "login_url": f"{str(orgs.base_url).rstrip('/')}/{name}"}
            listed.append(own | identity | {"private_key": {"file": str(key)}} | options.get(name, {}))
        config = {
            "listen": f"127.0.0.1:{port}",
            "interval": "10s",
            "settle": "0s",
            "login_budget_per_hour": 3600,
            "alerts": {"transient_for": "5m"},
            "web": {"external_url": f"http://127.0.0.1:{port}"},
            "connections": listed,
        }
        file = tmp_path / "bearerwatch.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        rules = subprocess.run(
            [sys.executable, "-m", "monitor", "rules", "--config", file],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        (tmp_path / "alerts.yml").write_text(faster(rules))
        scraping: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        scraping["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        scraping["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
        scraping["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
            f"127.0.0.1:{alertmanager}"
        ]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scraping))
        (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(routes(told.url)))
        yield Chain(orgs, told, key, f"http://127.0.0.1:{prometheus}", f"http://127.0.0.1:{alertmanager}")


@pytest.mark.real("prometheus", "prometheus-alertmanager")
def test_each_cause_alerts_whoever_must_act_resolves_when_repaired_and_sends_nothing_else(
    chain: Chain, tmp_path: Path
) -> None:
    config = tmp_path / "bearerwatch.yaml"
    with chain.notified(), daemon(config) as running, chain.watched():
        names = [*BREAKS, *FLEET, "healthy", "blip"]
        works = f'sum(bearerwatch_connection_up{{connection=~"{"|".join(names)}"}})'
        until(lambda: chain.scraped(f"{works} == {len(names)}"), "all to work")

        # Failures that last, and one that passes.
        before = {name: chain.change(name, **broken) for name, (broken, _) in BREAKS.items()}
        chain.change("blip", fault="error_500")
        chain.look()
        until(
            lambda: chain.scraped('bearerwatch_connection_finding{connection="blip"}'), "the passing failure"
        )
        chain.change("blip", fault=None)
        chain.look()
        chain.wait_for("firing", EXPECTED | STAY)
        said = texts(chain.told, "approval-decayed")["description"]
        assert f"{running.url}/connections/approval-decayed" in said
        assert "set Refresh Token Policy to Refresh token is valid until revoked" in said

        for name, settings in before.items():
            chain.change(name, **settings)
        chain.look()
        chain.wait_for("resolved", EXPECTED)
        stay = {(told.alert, told.connection) for told in STAY}
        until(lambda: chain.firing() == stay, "nothing else to fire any more")
        firing = heard(chain.told, "firing")
        assert set(firing) == EXPECTED | STAY

        # Many at once are told of as one.
        for name in FLEET:
            chain.change(name, app_blocked=True)
        chain.look()
        chain.wait_for("firing", MANY)
        single = {("BearerwatchAppBlocked", name) for name in FLEET}
        until(lambda: chain.held_back() == single, "the single alerts to be held back")
        for name in FLEET:
            chain.change(name, app_blocked=False)
        chain.look()
        chain.wait_for("resolved", MANY)

        # Nobody is left who could tell.
        running.kill()
        chain.wait_for("firing", {ABSENT})

        with daemon(config):
            chain.wait_for("resolved", {ABSENT})

    assert set(heard(chain.told, "firing")) == {*EXPECTED, *STAY, *MANY, ABSENT}


@pytest.mark.real("prometheus", "prometheus-alertmanager")
def test_a_restart_of_daemon_prometheus_or_alertmanager_neither_ends_an_alert_nor_repeats_it(
    chain: Chain, tmp_path: Path
) -> None:
    config = tmp_path / "bearerwatch.yaml"
    names = ("approval-decayed", "flow-disabled")
    expected = {told for told in EXPECTED if told.connection in names}
    firing = {(told.alert, told.connection) for told in expected}

    def told(status: str) -> list[Told]:
        return sorted(each for each in heard(chain.told, status) if each.connection in names)

    with chain.notified():
        with chain.watched():
            with daemon(config):
                until(
                    lambda: chain.scraped('bearerwatch_connection_up{connection="healthy"} == 1'), "a grant"
                )
                before = {name: chain.change(name, **BREAKS[name][0]) for name in names}
                chain.look()
                chain.wait_for("firing", expected)
            with daemon(config):
                until(
                    lambda: chain.scraped(f'bearerwatch_connection_finding{{connection="{names[0]}"}}'), "it"
                )
        with daemon(config), chain.watched():
            until(lambda: firing <= chain.firing(), "Prometheus to have the alerts again", PATIENCE_SECONDS)
    with daemon(config), chain.watched(), chain.notified():
        until(lambda: firing <= chain.known(), "Alertmanager to have them again", PATIENCE_SECONDS)
        assert (told("firing"), told("resolved")) == (sorted(expected), [])

        for name, settings in before.items():
            chain.change(name, **settings)
        chain.look()
        chain.wait_for("resolved", expected)
        assert (told("firing"), told("resolved")) == (sorted(expected), sorted(expected))
