"""The systemd unit: that systemd accepts it, how well it is locked in, and that the daemon lives in there."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from monitor.simulator.server import Simulator, Tls, running
from tests.certificates import authority, for_loopback
from tests.end_to_end.processes import until
from tests.simulator.asking import CONSUMER_KEY, USERNAME

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "bearerwatch.service"
CONFINED = Path(__file__).parent / "confined.py"
BEARERWATCH = Path(sys.executable).with_name("bearerwatch")

MOST_EXPOSED = 15
"""Of the exposure that systemd-analyze computes, in tenths."""

PATIENCE_SECONDS = 120.0

needs_mdwe = pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 3),
    reason="PR_SET_MDWE came with Linux 6.3",
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, with a command that exists on this machine."""
    text = UNIT.read_text(encoding="utf-8")
    path = tmp_path / UNIT.name
    path.write_text(text.replace("/opt/bearerwatch/bin/bearerwatch", "/bin/true"), encoding="utf-8")
    return path


@pytest.mark.real("systemd-analyze")
def test_systemd_accepts_the_unit_without_complaints(installed: Path) -> None:
    verdict = subprocess.run(
        ["systemd-analyze", "verify", str(installed)], capture_output=True, check=False, text=True
    )

    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


@pytest.mark.real("systemd-analyze")
def test_the_units_exposure_level_is_at_most_1_5(installed: Path) -> None:
    command = ["systemd-analyze", "--no-pager", "security", "--offline=true", f"--threshold={MOST_EXPOSED}"]

    verdict = subprocess.run([*command, str(installed)], capture_output=True, check=False, text=True)

    assert verdict.returncode == 0, verdict.stdout


@pytest.mark.real("systemd-analyze")
def test_systemd_reports_a_misspelt_option(installed: Path) -> None:
    installed.write_text(installed.read_text(encoding="utf-8").replace("Type=notify", "Type=notifies"))

    verdict = subprocess.run(
        ["systemd-analyze", "verify", str(installed)], capture_output=True, check=False, text=True
    )

    assert "Failed to parse service type" in verdict.stderr


@pytest.mark.real("systemd-analyze")
@needs_mdwe
def test_the_test_sandbox_enforces_what_the_unit_forbids(tmp_path: Path) -> None:
    """Else that one would prove nothing."""
    script = tmp_path / "try.py"
    script.write_text(
        "import json, mmap, os, socket\n"
        "def tried(act):\n"
        "    try: act()\n"
        "    except OSError as error: return error.strerror\n"
        "    return 'done'\n"
        "print(json.dumps({\n"
        "    'executable': tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),\n"
        "    'netlink': tried(lambda: socket.socket(socket.AF_NETLINK)),\n"
        "    'chown': tried(lambda: os.chown('/tmp', 0, 0)),\n"
        "    'inet': tried(lambda: socket.socket(socket.AF_INET)),\n"
        "}))\n"
    )

    output = subprocess.run(
        [sys.executable, str(CONFINED), str(UNIT), sys.executable, str(script)],
        capture_output=True,
        check=True,
        text=True,
    ).stdout

    assert json.loads(output) == {
        "executable": "Permission denied",
        "netlink": "Operation not permitted",
        "chown": "Operation not permitted",
        "inet": "done",
    }


@contextmanager
def confined_daemon(directory: Path, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, str(CONFINED), str(UNIT), str(BEARERWATCH), "run", "--config", str(config)],
            stderr=log,
        )
        try:
            yield daemon
        finally:
            daemon.kill()
            daemon.wait()


def until_checked(url: str, daemon: subprocess.Popen[bytes]) -> str:
    """The state of the only connection, as soon as it has one."""

    def state() -> str | None:
        assert daemon.poll() is None
        try:
            found = str(httpx.get(url, trust_env=False).json()["connections"][0]["state"])
        except httpx.TransportError:
            return None
        return None if found == "unknown" else found

    return until(state, "the first check", PATIENCE_SECONDS)


@pytest.mark.real("systemd-analyze")
@needs_mdwe
def test_the_daemon_works_within_the_units_restrictions(tmp_path: Path) -> None:
    by = authority()
    by.write(tmp_path, "ca")
    certificate, key = for_loopback(by).write(tmp_path, "org")
    subprocess.run([BEARERWATCH, "keygen", "--out", tmp_path], check=True, capture_output=True)
    private_key, public = tmp_path / "private-key.pem", tmp_path / "cert.pem"
    simulator = Simulator()
    simulator.put(
        "acme",
        {
            "consumer_key": CONSUMER_KEY,
            "username": USERNAME,
            "certificate": public.read_text(encoding="utf-8"),
        },
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "bearerwatch.yaml"

    with running(simulator, tls=Tls(certificate, key)) as url:
        config.write_text(
            f"listen: 127.0.0.1:{port}\nca_file: ca.crt\nconnections:\n- name: acme\n"
            f"  login_url: {url.replace('127.0.0.1', 'localhost')}/acme\n  consumer_key: {CONSUMER_KEY}\n"
            f"  username: {USERNAME}\n  private_key: {{file: {private_key}}}\n"
            f"  certificate: {{file: {public}}}\n",
            encoding="utf-8",
        )
        with confined_daemon(tmp_path, config) as daemon:
            state = until_checked(f"http://127.0.0.1:{port}/api/status", daemon)
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
            daemon.send_signal(signal.SIGTERM)
            left = daemon.wait(PATIENCE_SECONDS)

    assert state == "healthy"
    assert 'bearerwatch_connection_up{connection="acme"} 1' in metrics
    assert "process_start_time_seconds" in metrics
    assert left == 0
    assert (tmp_path / "bearerwatch.db").stat().st_size > 0
