"""The demo as a newcomer sees it: all promised causes, and the printed timeline."""

import signal
import socket
from pathlib import Path

from monitor.commands.demo import WELL
from monitor.simulator.scenarios import SCENARIOS
from tests.end_to_end.processes import Running, bearerwatch, told_demo, until
from tests.web.reading import read

PROMISED = {scenario.name: scenario.cause for scenario in SCENARIOS}


def causes(demo: Running) -> dict[str, set[str]]:
    """The causes that hold for each connection."""
    answer = demo.page("/api/status")
    assert answer is not None
    return {each["name"]: {f["cause"] for f in each["findings"]} for each in answer.json()["connections"]}


def months(demo: Running) -> set[str]:
    """What the strips of the connections in good order say."""
    answer = demo.page("/")
    assert answer is not None
    rows = [row for name in WELL for row in read(answer.text).all("tr", id=f"c-{name}")]
    assert len(rows) == len(WELL)
    return {str(strip.attributes["aria-label"]) for row in rows for strip in row.all("svg", role="img")}


def test_a_port_in_use_is_the_only_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = bearerwatch("demo", "--port", port)

    remedy = f"Choose another port: bearerwatch demo --port {port + 1}."
    taken = f"Cannot listen on 127.0.0.1:{port}: Address already in use. {remedy}\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", taken)


def test_the_demo_shows_every_cause_that_has_a_scenario(tmp_path: Path) -> None:
    with told_demo(tmp_path) as demo:

        def all_stand() -> bool:
            found = causes(demo)
            return all(cause in found.get(name, set()) for name, cause in PROMISED.items())

        until(all_stand, "every cause to stand")
        decayed = demo.page("/api/connections/approval-decayed")
        assert decayed is not None
        assert len(decayed.json()["connection"]["approvals"]) == 3
        until(lambda: months(demo) == {"Last 30 days: 30 days with grants"}, "a month without a gap")
        assert demo.stop(signal.SIGINT) == 0
        said = demo.log.read_text()

    assert "approval-decayed        failing   The approval has aged out" in said
    assert said.endswith("The demo is over.\n")
    assert "Traceback" not in said
