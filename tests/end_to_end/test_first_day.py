"""docs/first-day.md, walked by a shell: each of its commands, in its order."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.processes import free_port

PAGE = Path(__file__).parents[2] / "docs" / "first-day.md"


def test_the_tutorials_commands_watch_break_and_repair_a_connection(tmp_path: Path) -> None:
    """Only the installation is left out: the suite runs in what it would make."""
    install, *walk = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "--require-hashes" in install
    script = "set -euo pipefail -o monitor\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(
        walk
    )
    for port in ("8899", "8898", "9877"):
        script = script.replace(port, str(free_port()))
    script = script.replace("interval: 1m", f"interval: 1m\nlisten: 127.0.0.1:{_port_of_pages(script)}")
    (tmp_path / "walk.sh").write_text(script)

    done = subprocess.run(
        ["bash", "walk.sh"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    for line in (
        "bearerwatch.yaml: 1 connection, no errors, no warnings.",
        "healthy acme",
        "failing acme: The user is deactivated, frozen or locked",
        "firing The user is deactivated, frozen or locked: acme",
        "resolved The user is deactivated, frozen or locked: acme",
    ):
        assert any(one.startswith(line) for one in said), (line, said)


def _port_of_pages(script: str) -> str:
    (port,) = re.findall(r'external_url: "http://127\.0\.0\.1:(\d+)"', script)
    return str(port)
