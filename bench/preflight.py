"""How long `bearerwatch preflight` takes to reach its verdict, compared with a start that does nothing.

From the command line to the last line: one login, an audit with all its calls, and the verdict. The org
answers at once; a real one adds ten round trips.
"""

import subprocess
import sys
import time

import httpx

from bench.figures import Figure, median_ratio
from bench.material import Material, consumer_key_of, username_of
from bench.server import SHOWING
from monitor.simulator.server import Simulator, running

GOAL_RATIO = 4.0
"""Two seconds, where the program starts in half of one."""


def figures(material: Material, rounds: int) -> list[Figure]:
    """Wall time of both, in turns."""
    with running(Simulator()) as url:
        settings = {
            "consumer_key": consumer_key_of(0),
            "username": username_of(0),
            "certificate": material.certificate(0).read_text(),
            "permissions": SHOWING["permissions"],
        }
        httpx.put(f"{url}/_orgs/acme", json=settings, trust_env=False).raise_for_status()
        inputs = ("--consumer-key", consumer_key_of(0), "--username", username_of(0))
        preflight = (
            "preflight",
            "--subdomain",
            f"{url}/acme",
            *inputs,
            "--private-key",
            str(material.key(0)),
        )
        start, verdict = [], []
        for _ in range(rounds):
            start.append(_seconds("--version"))
            verdict.append(_seconds(*preflight))
    ratio = median_ratio(verdict, start)
    return [Figure("preflight from its start to the verdict / start of the program", ratio, goal=GOAL_RATIO)]


def _seconds(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "monitor", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began
