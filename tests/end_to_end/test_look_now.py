"""A repair shows at once: on the page, in JSON and metrics, and as a notification."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import yaml

from monitor.commands.running import CHECKED_WITHIN_SECONDS
from monitor.watch.soon import BETWEEN_REQUESTS
from monitor.web.words import exact
from tests.end_to_end.collector import Collector, collector
from tests.end_to_end.processes import Running, bearerwatch, daemon, free_port, until
from tests.end_to_end.test_notifications import NAMES, remembered, told_of_those_that_are_refused

WITHIN_SECONDS = 5.0
BUDGET = 60


@dataclass
class Watched:
    """A daemon with two refused and reported connections, which are next checked in an hour."""

    config: Path
    orgs: httpx.Client
    told: Collector
    running: Running

    def post(self, path: str) -> httpx.Response:
        return httpx.post(f"{self.running.url}{path}", trust_env=False)

    def shown(self, name: str) -> dict[str, object]:
        page = self.running.page(f"/api/connections/{name}")
        assert page
        found: dict[str, object] = page.json()["connection"]
        return found

    def put_right(self, *names: str) -> None:
        for name in names:
            assert self.orgs.patch(f"/_orgs/{name}", json={"user_active": True}).is_success

    def logins(self, name: str) -> int:
        return len(self.orgs.get(f"/_orgs/{name}/logins").json())

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return bearerwatch(*arguments, "--config", self.config)


@pytest.fixture(name="watched")
def refused_and_told(orgs: httpx.Client, tmp_path: Path) -> Iterator[Watched]:
    with collector() as told:
        options = {
            "listen": f"127.0.0.1:{free_port()}",
            **told_of_those_that_are_refused(tmp_path, orgs, told),
        }
        config = tmp_path / "bearerwatch.yaml"
        config.write_text(yaml.safe_dump(options, sort_keys=False))
        remembered(config)
        with daemon(config) as running:
            watched = Watched(config, orgs, told, running)
            until(lambda: len(told.messages) == 2, "both to be told")
            until(lambda: all(watched.shown(name)["exchanges"] == 6 for name in NAMES), "a look")
            yield watched


def test_a_repair_shows_everywhere_within_seconds_of_the_request(watched: Watched) -> None:
    assert watched.shown("acme")["state"] == "failing"
    watched.put_right("acme")

    begun = time.monotonic()
    answer = watched.post("/api/connections/acme/check")

    assert answer.status_code == 202
    assert answer.json()["put_off_until"] == {}
    until(lambda: watched.shown("acme")["state"] == "healthy", "JSON")
    page = watched.running.page("/connections/acme")
    assert page
    assert "Healthy" in page.text
    assert watched.running.sample("bearerwatch_connection_up", connection="acme") == 1
    until(lambda: watched.told.messages[-1]["status"] == "resolved", "the notification")
    assert time.monotonic() - begun < WITHIN_SECONDS


def test_a_thousand_requests_stay_within_the_login_budget(watched: Watched) -> None:
    before = watched.logins("acme")
    begun = time.monotonic()
    answers = []
    for number in range(1, 11):  # each address within the pages' own limit on requests
        sender = httpx.HTTPTransport(local_address=f"127.0.0.{number}")
        with httpx.Client(base_url=watched.running.url, transport=sender) as client:
            answers += [client.post("/api/connections/acme/check") for _ in range(100)]

    assert {answer.status_code for answer in answers} <= {202, 429}  # 429 only if it took a minute
    assert all("error" in answer.json() for answer in answers if answer.status_code == 429)
    until(lambda: watched.logins("acme") > before, "a check")
    assert (
        watched.logins("acme") - before <= 1 + (time.monotonic() - begun) / BETWEEN_REQUESTS.total_seconds()
    )
    assert watched.logins("acme") <= BUDGET


def test_the_command_waits_for_the_daemons_result(watched: Watched) -> None:
    watched.put_right("acme")

    done = watched.command("recheck", "--cause", "user_inactive")

    assert sorted(done.stdout.splitlines()) == [
        "failing globex: The user is deactivated, frozen or locked",
        "healthy acme",
    ]
    assert done.returncode == 1
    assert watched.command("recheck").returncode == 2
    nothing = watched.command("recheck", "--cause", "org_inactive")
    assert (nothing.returncode, nothing.stderr) == (0, "Nothing to check: no connection has org_inactive.\n")


def test_a_check_says_what_the_daemon_shows_and_makes_it_check_if_that_differs(watched: Watched) -> None:
    planned = datetime.fromisoformat(str(watched.shown("acme")["next_exchange"]))
    said = f"The running daemon shows acme as failing. Its next check is at {exact(planned)}."
    assert said in watched.command("check", "acme").stderr
    assert not watched.command("check", "acme", "--quiet").stderr
    watched.put_right("acme")

    done = watched.command("check", "acme")

    assert done.returncode == 0
    assert "The running daemon shows acme as failing. It was asked to check now." in done.stderr
    until(lambda: watched.shown("acme")["state"] == "healthy", "the daemon's check")


def test_a_paused_connection_is_neither_asked_for_nor_waited_for(watched: Watched) -> None:
    watched.config.write_text(
        watched.config.read_text().replace("- name: acme", "- paused: true\n  name: acme")
    )
    until(lambda: watched.shown("acme")["state"] == "paused", "the reload")

    done = watched.command("check", "acme")
    assert done.stderr.strip() == "The running daemon shows acme as paused."
    began = time.monotonic()

    done = watched.command("recheck", "acme", "globex")

    assert "Not checked: acme. " in done.stderr
    assert "paused" in done.stderr
    assert "failing globex" in done.stdout
    assert time.monotonic() - began < CHECKED_WITHIN_SECONDS
