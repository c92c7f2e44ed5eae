"""From a refusing org to the notified person: simulator, daemon, Prometheus, Alertmanager, webhook.

All are real processes. Rules come from `bearerwatch rules` and routes from deploy/, with a minute sped up to
three seconds. The real durations are tested with promtool.
"""

import re
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
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
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible, Severity
from monitor.simulator.scenarios import SCENARIOS, Keys, Scenario, make_keys
from tests.deploy.alert_cases import DEPLOY, alert_of
from tests.end_to_end.collector import Collector, collector
from tests.end_to_end.processes import component, daemon, free_port, simulator, until
from tests.http_server import Quiet, serving

FASTER = 20
"""A `for` of a minute takes three seconds."""

RESENT_SECONDS = 30
"""How often Prometheus sends an alert. What it sends before it knows of Alertmanager, five seconds after its
start, is lost; and an alert that isn't sent again for four times as long has ended for Alertmanager."""

PATIENCE_SECONDS = 180.0
"""From an org to a person, on a machine that is busy with other tests."""


class Told(NamedTuple):
    """A notification, and who gets it."""

    receiver: str
    alert: str
    connection: str
    cause: str
    severity: str
    responsible: str


RECEIVERS = {
    (Responsible.ORG_ADMIN, Severity.CRITICAL): "org-admins-urgent",
    (Responsible.ORG_ADMIN, Severity.WARNING): "org-admins",
    (Responsible.OPERATOR, Severity.CRITICAL): "operators-urgent",
    (Responsible.OPERATOR, Severity.WARNING): "operators",
    (Responsible.SALESFORCE, Severity.WARNING): "operators",
    (Responsible.SALESFORCE, Severity.INFO): "record",
}

BY_EVIDENCE: dict[Cause, tuple[Responsible, Severity]] = {
    Cause.APP_NOT_FOUND: (Responsible.ORG_ADMIN, Severity.CRITICAL),
    Cause.APPROVAL_EXPIRING: (Responsible.ORG_ADMIN, Severity.CRITICAL),
    Cause.CERTIFICATE_EXPIRING: (Responsible.OPERATOR, Severity.CRITICAL),
    Cause.KEY_TOO_SHORT: (Responsible.OPERATOR, Severity.WARNING),
    Cause.SCOPE_MISSING: (Responsible.ORG_ADMIN, Severity.CRITICAL),
    Cause.SESSION_LEVEL_REQUIRED: (Responsible.ORG_ADMIN, Severity.WARNING),
}
"""Who must act, and how badly, where the evidence here makes it another than the catalogue's row."""


def expected(connection: str) -> Told:
    """What is told of a connection that is named after its cause."""
    cause = Cause(connection.replace("-", "_"))
    entry = CATALOGUE[cause]
    responsible, severity = BY_EVIDENCE.get(cause, (entry.responsible, entry.severity))
    return Told(RECEIVERS[responsible, severity], alert_of(cause), connection, cause, severity, responsible)


def heard(told: Collector, status: str) -> list[Told]:
    """All notifications with this status so far, by receiver, including duplicates."""
    return sorted(
        Told(
            receiver,
            labels["alertname"],
            *(labels.get(name, "") for name in ("connection", "cause", "severity", "responsible")),
        )
        for receiver, alert in told.notifications
        if alert["status"] == status
        for labels in [alert["labels"]]
    )


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
    config: Path
    prometheus: str
    alertmanager: str

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Start Prometheus once there is a daemon to scrape, as otherwise the daemon would be reported as
        absent."""
        with component(
            *(self.config.parent, "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"),
            f"--rules.alert.resend-delay={RESENT_SECONDS}s",
            f"--web.listen-address={urlsplit(self.prometheus).netloc}",
            ready=f"{self.prometheus}/-/ready",
        ):
            yield

    @contextmanager
    def notified(self) -> Iterator[None]:
        """With Alertmanager."""
        with component(
            *(self.config.parent, "prometheus-alertmanager", "--config.file=alertmanager.yml"),
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

    def look(self, *kinds: Keys) -> None:
        """Let the daemon look at every connection with such keys now, as it does when a key file changes."""
        for kind in kinds or [Keys.RIGHT]:
            (self.config.parent / f"{kind}.pem").touch()

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

    def wait_for(self, status: str, expected: Iterable[Told]) -> None:
        told = f"to be told, {status}: {sorted(expected)}"
        until(lambda: set(expected) <= set(heard(self.told, status)), told, PATIENCE_SECONDS)

    def wait_for_grants(self, names: Iterable[str]) -> None:
        """Until each of these connections works, as Prometheus has it."""
        listed = [*names]
        works = f'sum(bearerwatch_connection_up{{connection=~"{"|".join(listed)}"}})'
        until(lambda: self.scraped(f"{works} == {len(listed)}"), "all to work")

    def scraped(self, query: str) -> bool:
        """Whether the query gives something in Prometheus."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query}, trust_env=False)
        return bool(answer.json()["data"]["result"])


BREAKS: dict[str, dict[str, object]] = {
    "user-not-admin-approved": {"permission_set_assigned": False},
    "approval-decayed": {"user_approved": False},
    "ip-restricted": {"ip_allowed": False},
    "flow-disabled": {"flow_enabled": False},
    "user-inactive": {"user_active": False},
    "jwt-access-token": {"jwt_access_tokens": True},
    "clock-skewed": {"clock_offset_seconds": 3600},
    "salesforce-unavailable": {"maintenance": True},
    "app-not-found": {"permission_set_assigned": False, "left_out": "app_not_found"},
    "consumer-key-unknown": {"consumer_key": "3MVG9_rotated"},
    "client-invalid": {"certificate": None},
    "not-authorized": {"ip_allowed": False, "ip_refusal": "not_authorized"},
    "api-disabled": {"api_enabled": False},
    "username-changed": {"username": "renamed@acme.example"},
    "org-inactive": {"org_active": False},
    "scope-missing": {"scopes": ["id", "refresh_token"]},
    "audience-invalid": {"accepted_audiences": "generic"},
}
"""Connections, named after their causes, with what breaks the org."""

DAY_SECONDS = 86_400
NEARLY_OVER = datetime.now(UTC) - timedelta(days=28)
"""Such an approval of 30 days ends in one to two days, whatever the time of day."""

OBSERVED: dict[str, object] = {"permissions": ["ViewSetup", "ExternalClientAppViewer"]}
"""What the user must see of the org for an audit to find what the setup has wrong."""

PLAYED = {
    scenario.name: scenario
    for scenario in (
        *SCENARIOS,
        Scenario(
            Cause.APPROVAL_EXPIRING,
            # Approvals last 30 days here, and this one is 28 days old.
            connection={"approval": {"policy": "lifetime", "days": 30, "granted": f"{NEARLY_OVER:%Y-%m-%d}"}},
        ),
        Scenario(
            Cause.KEY_FILE_EXPOSED,
            # Anyone on the machine can read the key.
            connection={"private_key": {"file": "exposed.pem"}},
        ),
        Scenario(
            Cause.REFRESH_POLICY_WRONG,
            # Approvals last ten years.
            org={
                **OBSERVED,
                "refresh_token_policy": "lifetime",
                "refresh_token_validity_seconds": 3650 * DAY_SECONDS,
            },
        ),
        Scenario(
            Cause.SESSION_LEVEL_REQUIRED,
            # The app's policy wants High Assurance.
            org={**OBSERVED, "session_level": "HIGH_ASSURANCE"},
        ),
        Scenario(Cause.ORG_EXPIRING, org={"trial_seconds": 20 * DAY_SECONDS}),
        Scenario(
            Cause.PRODUCTION_REFUSED,
            # The Login IP Ranges hold our address, but not the integration's, which logged in an hour ago.
            org={
                "login_ip_ranges": ["127.0.0.1-127.0.0.1"],
                "production": {"address": "198.51.100.7"},
                "clock_offset_seconds": -5400,
            },
        ),
        Scenario(
            Cause.API_ALLOCATION_SHORT,
            # Others make most of the day's calls.
            org={"api_calls_a_day": 15_000, "api_calls_by_others": 14_000},
        ),
    )
}
"""Every scenario of the simulator, and how causes come about that it has none for, by name."""

ELSEWHERE: dict[str, tuple[int, dict[str, str], str]] = {
    "subdomain-unknown": (301, {"Location": "https://acme--renamed.my.salesforce.com/"}, ""),
    "request-malformed": (400, {}, '{"error": "invalid_request", "error_description": "malformed"}'),
    "unrecognised": (400, {}, '{"error": "invalid_grant", "error_description": "quantum entanglement lost"}'),
    "first-call-unanswered": (200, {}, '{"access_token": "00D!AQ", "scope": "api", "token_type": "Bearer"}'),
}
"""Answers to a login that no org of the simulator gives: status, headers and body, by connection. Any other
request is answered with an error."""

STANDING = (
    "approval-expiring", "refresh-policy-wrong", "key-certificate-mismatch", "session-level-required",
    "propagation-pending", "key-unreadable", "key-not-rsa", "key-too-short", "key-file-exposed",
    "certificate-expiring", "certificate-expired", "certificate-not-yet-valid", "subdomain-unknown",
    "permission-set-expiring", "object-access-missing", "app-blocked", "org-expiring", "production-refused",
    "identity-changed", "login-rate-exceeded", "api-allocation-short", "request-malformed",
    "network-unreachable", "tls-untrusted", "first-call-unanswered", "unrecognised",
)  # fmt: skip
"""Connections, named after the causes that they have from the start."""

RESTARTED = ("consumer-not-approved", "assertion-invalid")
"""The same for causes that are reported only outside the settle time."""

NOT_SHOWN = {
    Cause.MONITOR_FAULT: "A bug, or a machine so short that it may not answer Prometheus either.",
    Cause.SANDBOX_REFRESHING: "Hosts must have the names of a production org and its sandbox.",
}
"""Causes that nothing real produces here, and why."""


REPAIRED, STAY, OUTLAST = (sorted(map(expected, names)) for names in (BREAKS, STANDING, RESTARTED))
FLEET = [f"fleet-{number}" for number in range(10)]
"""More than a quarter of all."""

MANY = Told(
    "operators-urgent", "BearerwatchManyConnectionsAffected", "", "app_blocked", "critical", "operator"
)
"""The operator finds out first what they share."""
ABSENT = Told("operators-urgent", "BearerwatchAbsent", "", "", "critical", "operator")


def works(name: str, org: dict[str, object] | None = None, **options: object) -> Scenario:
    """A connection with which all is well, but for what is said here."""
    return Scenario(None, org=org or {}, connection=options, called=name)


BROKEN_LATER = (
    *(works(name) for name in BREAKS if name != "approval-decayed"),
    works("approval-decayed", {"permitted_users": "self_authorized"}),
)


@contextmanager
def elsewhere(cert: Path, key: Path) -> Iterator[tuple[str, str]]:
    """The addresses of two servers that are not orgs: one gives the answers above, one has an untrusted
    certificate."""

    class Server(Quiet):
        def answer(self) -> None:
            status, headers, body = ELSEWHERE[self.path.split("/")[1]]
            self.body()
            if self.command == "POST":
                self.say(status, body.encode(), **headers)
            else:
                self.say(501)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    with serving(Server) as plain, serving(Server, tls=context) as untrusted:
        yield plain, untrusted


@contextmanager
def chain(folder: Path, scenarios: Iterable[Scenario], settle: str = "0s") -> Iterator[Chain]:
    """All of it, made ready for these orgs and connections."""
    port, prometheus, alertmanager = free_port(), free_port(), free_port()
    files = {}
    for kind in Keys:
        files[kind] = made = make_keys(kind, datetime.now(UTC))
        (folder / f"{kind}-cert.pem").write_bytes(made.certificate)
        (folder / f"{kind}.pem").write_bytes(made.private_key)
        (folder / f"{kind}.pem").chmod(0o600)
    (folder / "exposed.pem").write_bytes(files[Keys.RIGHT].private_key)
    (folder / "exposed.pem").chmod(0o644)
    key, certificate = folder / f"{Keys.RIGHT}.pem", folder / f"{Keys.RIGHT}-cert.pem"
    with (
        simulator(folder) as orgs,
        collector() as told,
        elsewhere(certificate, key) as (answers, untrusted),
    ):
        listed = []
        for scenario in scenarios:
            name, kind = scenario.name, scenario.keys
            assert orgs.put(f"/_orgs/{name}", json=scenario.settings(files[kind])).is_success
            own: dict[str, object] = {
                "name": name,
                "private_key": {"file": f"{kind}.pem"},
                "certificate": {"file": f"{kind}-cert.pem"},
            }
            own |= scenario.options(str(orgs.base_url).rstrip("/"))
            own |= {"login_url": f"{answers}/{name}"} if name in ELSEWHERE else {}
            own |= {"login_url": untrusted} if name == "tls-untrusted" else {}
            listed.append(own)
        config = {
            "listen": f"127.0.0.1:{port}",
            "interval": "10s",
            "settle": settle,
            "login_budget_per_hour": 3600,
            "alerts": {"transient_for": "5m"},
            "web": {"external_url": f"http://127.0.0.1:{port}"},
            "connections": listed,
        }
        file = folder / "bearerwatch.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        rules = subprocess.run(
            [sys.executable, "-m", "monitor", "rules", "--config", file],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        (folder / "alerts.yml").write_text(faster(rules))
        scraping: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        # A scrape may take as long as its interval: where several fail in a row, the daemon counts as absent.
        scraping["global"] = {"scrape_interval": "2s", "evaluation_interval": "1s"}
        scraping["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
        scraping["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
            f"127.0.0.1:{alertmanager}"
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(scraping))
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(routes(told.url)))
        yield Chain(orgs, told, file, f"http://127.0.0.1:{prometheus}", f"http://127.0.0.1:{alertmanager}")


def test_every_cause_is_shown_but_those_that_nothing_real_produces() -> None:
    shown = [each.cause for each in (*REPAIRED, *STAY, *OUTLAST)]

    assert sorted([*shown, *NOT_SHOWN]) == sorted(Cause)


@pytest.mark.real("prometheus", "prometheus-alertmanager")
def test_what_breaks_is_told_once_to_whoever_must_act_and_ends_when_repaired_and_many_are_told_as_one(
    tmp_path: Path,
) -> None:
    # The fleet is looked at together, when its key file is touched, and at no time in between: so it is many
    # at once. Looked at in turn, on a busy machine, the first of them was told of alone.
    others = [works(name, interval="20h") for name in FLEET]
    others += [works("healthy"), works("blip"), works("paused", {"app_blocked": True}, paused=True)]
    with (
        chain(tmp_path, (*BROKEN_LATER, *others)) as all_of_it,
        all_of_it.notified(),
        daemon(all_of_it.config) as running,
        all_of_it.watched(),
    ):
        all_of_it.wait_for_grants([*BREAKS, *FLEET, "healthy", "blip"])

        # Failures that last, and one that passes.
        before = {name: all_of_it.change(name, **broken) for name, broken in BREAKS.items()}
        all_of_it.change("blip", fault="error_500")
        all_of_it.look()
        blip = 'bearerwatch_connection_finding{connection="blip"}'
        until(lambda: all_of_it.scraped(blip), "the passing failure")
        all_of_it.change("blip", fault=None)
        all_of_it.look()
        all_of_it.wait_for("firing", REPAIRED)
        said = texts(all_of_it.told, "approval-decayed")["description"]
        assert f"{running.url}/connections/approval-decayed" in said
        assert "set Refresh Token Policy to Refresh token is valid until revoked" in said

        for name, settings in before.items():
            all_of_it.change(name, **settings)
        all_of_it.look()
        all_of_it.wait_for("resolved", REPAIRED)
        until(lambda: not all_of_it.firing(), "nothing to fire any more")

        # Many at once are told of as one.
        for name in FLEET:
            all_of_it.change(name, app_blocked=True)
        all_of_it.look()
        all_of_it.wait_for("firing", [MANY])
        single = {("BearerwatchAppBlocked", name) for name in FLEET}
        until(lambda: all_of_it.held_back() == single, "the single alerts to be held back")
        for name in FLEET:
            all_of_it.change(name, app_blocked=False)
        all_of_it.look()
        all_of_it.wait_for("resolved", [MANY])

        # Nobody is left who could tell.
        running.kill()
        all_of_it.wait_for("firing", [ABSENT])

        with daemon(all_of_it.config):
            all_of_it.wait_for("resolved", [ABSENT])

    assert heard(all_of_it.told, "firing") == sorted([*REPAIRED, MANY, ABSENT])


@pytest.mark.real("prometheus", "prometheus-alertmanager")
def test_what_is_wrong_from_the_start_is_told_once_to_whoever_must_act(tmp_path: Path) -> None:
    scenarios = [*(PLAYED.get(name, works(name)) for name in STANDING), works("healthy")]
    with chain(tmp_path, scenarios, settle="10m") as all_of_it:
        all_of_it.change("production-refused", clock_offset_seconds=0)
        with all_of_it.notified(), daemon(all_of_it.config), all_of_it.watched():
            all_of_it.wait_for_grants(["healthy", "identity-changed"])
            (refresh,) = PLAYED["identity-changed"].steps
            assert all_of_it.orgs.post("/_orgs/identity-changed/refresh", json=refresh.values).is_success
            all_of_it.wait_for("firing", STAY)

    assert heard(all_of_it.told, "firing") == STAY
    assert not heard(all_of_it.told, "resolved")


@pytest.mark.real("prometheus", "prometheus-alertmanager")
def test_restarts_of_daemon_prometheus_or_alertmanager_neither_end_nor_repeat_alerts(
    tmp_path: Path,
) -> None:
    firing = {(each.alert, each.connection) for each in OUTLAST}
    with chain(tmp_path, [*(PLAYED[name] for name in RESTARTED), works("healthy")]) as all_of_it:
        config, told = all_of_it.config, all_of_it.told
        with all_of_it.notified():
            with all_of_it.watched():
                with daemon(config):
                    all_of_it.wait_for("firing", OUTLAST)
                with daemon(config):
                    all_of_it.wait_for_grants(["healthy"])
            with daemon(config), all_of_it.watched():
                until(lambda: firing <= all_of_it.firing(), "Prometheus to have them again", PATIENCE_SECONDS)
        with daemon(config), all_of_it.notified(), all_of_it.watched():
            until(lambda: firing <= all_of_it.known(), "Alertmanager to have them again", PATIENCE_SECONDS)
            assert (heard(told, "firing"), heard(told, "resolved")) == (OUTLAST, [])

            all_of_it.change("consumer-not-approved", user_approved=True)
            right = (tmp_path / f"{Keys.OTHER_UPLOADED}-cert.pem").read_text()
            all_of_it.change("assertion-invalid", certificate=right)
            all_of_it.look(Keys.RIGHT, Keys.OTHER_UPLOADED)
            all_of_it.wait_for("resolved", OUTLAST)
            assert (heard(told, "firing"), heard(told, "resolved")) == (OUTLAST, OUTLAST)
