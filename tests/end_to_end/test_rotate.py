"""A guided rotation at a terminal: interrupted, continued, and told when to switch.

The org and the command share a clock that the test advances, so ten minutes pass in seconds.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import jwt
import pytest

from monitor.keys import keygen
from tests.end_to_end.processes import FAKETIME, PATIENCE_SECONDS, simulator, until, without_proxies

MINUTE = 60
WINDOW = 600
"""Seconds in which the certificate spreads."""

CONFIG = """\
# Everything of acme's
connections:
  - name: acme
    login_url: {url}/acme    # no real org
    consumer_key: 3MVG9acme
    username: integration@acme.example
    private_key: {{file: keys/acme.pem}}    # step 1
    certificate: {{file: keys/acme-cert.pem}}

    # who pays
    labels: {{customer: acme}}
"""


class World:
    """The org, its clock, the command, and production."""

    def __init__(self, folder: Path, orgs: httpx.Client) -> None:
        self.folder = folder
        self.orgs = orgs
        self.passed = 0.0
        self.refused: list[float] = []
        self.production = folder / "keys" / "acme.pem"
        self.log = folder / "rotate.log"
        self.commands: list[subprocess.Popen[bytes]] = []
        (folder / "clock").write_text("+0s")
        (folder / "keys").mkdir()
        keygen.generate(
            folder / "keys", now=datetime.now(UTC), key_name="acme.pem", certificate_name="acme-cert.pem"
        )
        org = {
            "consumer_key": "3MVG9acme",
            "username": "integration@acme.example",
            "certificate": (folder / "keys" / "acme-cert.pem").read_text(),
        }
        orgs.put("/_orgs/acme", json=org).raise_for_status()
        self.config = folder / "bearerwatch.yaml"
        self.config.write_text(CONFIG.format(url=str(orgs.base_url).rstrip("/")))

    def start(self) -> subprocess.Popen[bytes]:
        """The command, which lives by the clock of this world."""
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            command = subprocess.Popen(
                [sys.executable, "-m", "monitor", "rotate", "acme", "--write", "--config", str(self.config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={
                    **without_proxies(),
                    "LD_PRELOAD": str(FAKETIME),
                    "FAKETIME_TIMESTAMP_FILE": str(self.folder / "clock"),
                    "FAKETIME_NO_CACHE": "1",
                    "DONT_FAKE_MONOTONIC": "1",
                },
            )
        self.commands.append(command)
        return command

    def end(self, command: subprocess.Popen[bytes], answer: bytes = b"") -> int:
        """Its exit code, after this answer to its question."""
        try:
            command.communicate(answer, timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            command.kill()
            command.communicate()
        return command.returncode

    def said(self) -> str:
        return self.log.read_text()

    def looks(self) -> int:
        """How often the command has looked since it was started."""
        return self.said().count("Next try at") + self.said().count("The next key is accepted.\n")

    def pass_seconds(self, seconds: float) -> None:
        self.orgs.post("/_clock", json={"advance_seconds": seconds}).raise_for_status()
        self.passed += seconds
        (self.folder / "clock").write_text(f"+{self.passed}s")

    def minute(self) -> None:
        """A minute passes: the command looks, and production logs in."""
        seen = self.looks()
        self.pass_seconds(MINUTE)
        until(lambda: self.looks() > seen, "the next look")
        self.log_in()

    def log_in(self) -> None:
        """Production logs in with the key that the command said to use."""
        if "switch the integration" in self.said():
            self.production = self.folder / "keys" / "acme-2.pem"
        now = datetime.now(UTC) + timedelta(seconds=self.passed)
        claims = {
            "iss": "3MVG9acme",
            "sub": "integration@acme.example",
            "aud": "https://login.salesforce.com",
            "exp": int((now + timedelta(minutes=2)).timestamp()),
        }
        assertion = jwt.encode(claims, self.production.read_text(), algorithm="RS256")
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        if self.orgs.post("/acme/services/oauth2/token", data=form).status_code != httpx.codes.OK:
            self.refused.append(self.passed)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with simulator(tmp_path) as orgs:
        made = World(tmp_path, orgs)
        yield made
        for command in made.commands:
            if command.poll() is None:
                command.kill()
                made.end(command)


@pytest.mark.real("faketime")
def test_a_guided_rotation_refuses_production_only_during_the_switch(world: World, chance: Random) -> None:
    spread = chance.uniform(1, WINDOW)
    before = chance.randint(1, 4)
    stopped_at = chance.randrange(before)
    command = world.start()
    until(lambda: world.looks() == 1, "the first look")

    for minute in range(before):
        world.minute()
        if minute == stopped_at:
            command.send_signal(signal.SIGINT)
            assert world.end(command) == 3, world.said()
            assert "Run the same command again" in world.said()
            command = world.start()
            until(lambda: world.looks() == 1, "the first look after it was started again")
            assert "1. The next pair already exists" in world.said()

    upload = world.passed
    certificate = (world.folder / "keys" / "acme-2-cert.pem").read_text()
    change = {"propagation_seconds": spread, "certificate": certificate}
    world.orgs.patch("/_orgs/acme", json=change).raise_for_status()
    while "switch the integration" not in world.said():
        assert world.passed <= upload + WINDOW + 2 * MINUTE, world.said()
        world.minute()
    for _ in range(3):
        world.pass_seconds(MINUTE)
        world.log_in()

    in_window = [upload <= at <= upload + spread + 2 * MINUTE for at in world.refused]
    assert all(in_window), (world.refused, world.said())
    assert b"next:" in world.config.read_bytes()
    assert world.end(command, b"y\n") == 0, world.said()
    assert "Traceback" not in world.said()
    assert "PRIVATE KEY" not in world.said()
    written = CONFIG.format(url=str(world.orgs.base_url).rstrip("/"))
    assert world.config.read_text() == written.replace("acme.pem", "acme-2.pem").replace(
        "acme-cert.pem", "acme-2-cert.pem"
    )
    assert (world.folder / "keys" / "acme-2.pem").stat().st_mode & 0o777 == 0o600
    copies = sorted(world.folder.glob(".bearerwatch.yaml.before-*"))
    assert copies[0].read_text() == written

    again = world.start()
    assert world.end(again) == 0, world.said()
    assert "nothing to rotate" in world.said()
