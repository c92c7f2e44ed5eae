"""Some of many orgs accept each connection and never answer: how regular the logins of the others stay.

python -m tests.end_to_end.hanging [MINUTES]
"""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx

from tests.end_to_end.processes import Running, daemon, simulator, until
from tests.end_to_end.test_daemon import connection, write

GRACE = timedelta(seconds=30)
"""What 99 of 100 gaps between logins may be longer than the interval."""


@contextmanager
def silence() -> Iterator[str]:
    """The address of a server that accepts what the kernel accepts for it, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def gaps(folder: Path, count: int, interval_seconds: int, seconds: float, more: str = "") -> list[timedelta]:
    """The gaps between the logins of the orgs that answer, where three of ten never do."""
    subprocess.run(
        "openssl req -x509 -sha256 -nodes -days 3650 -newkey rsa:2048 -subj /CN=hanging"
        " -keyout private-key.pem -out cert.pem",
        cwd=folder, check=True, shell=True, capture_output=True,
    )  # fmt: skip
    with simulator(folder) as orgs, silence() as silent:
        names = [f"org-{number:04}" for number in range(count)]
        made = [connection(orgs, folder, name) for name in names]
        well = [name for number, name in enumerate(names) if number % 10 >= 3]
        made = [
            text if name in well else text.replace(str(orgs.base_url).rstrip("/"), silent)
            for name, text in zip(names, made, strict=True)
        ]
        config = write(folder, *made, more=more)
        config.write_text(config.read_text().replace("interval: 10s", f"interval: {interval_seconds}s"))
        with daemon(config) as running:
            # Until each was checked once, nothing is known to hang, and each may hold a slot.
            until(lambda: _checked(running) == count, "the first checks", 900, pause=1)
            began = max(_logins(orgs, name)[-1] for name in well)
            end = time.monotonic() + seconds
            until(lambda: time.monotonic() > end, "time to pass", seconds + 60, pause=1)
            logins = [_logins(orgs, name) for name in well]
            now = max(each[-1] for each in logins)
            found = [pair for each in logins for pair in pairwise(each) if pair[0] >= began]
            # A gap that goes on counts once it is longer than it should be.
            late = [(each[-1], now) for each in logins if (now - each[-1]).total_seconds() > interval_seconds]
            return [later - earlier for earlier, later in found + late]


def _checked(running: Running) -> int:
    """How many connections have been checked."""
    exchanges = "bearerwatch_connection_exchanges_total"
    return len({labels for (name, labels), value in running.samples().items() if name == exchanges and value})


def _logins(orgs: httpx.Client, name: str) -> list[datetime]:
    return sorted(datetime.fromisoformat(row["time"]) for row in orgs.get(f"/_orgs/{name}/logins").json())


def main(minutes: float) -> bool:
    """2,000 connections with the defaults; whether the others keep their schedule."""
    with tempfile.TemporaryDirectory() as folder:
        found = sorted(gaps(Path(folder), 2_000, 300, minutes * 60))
    shares = {share: found[min(len(found) - 1, int(len(found) * share))] for share in (0.5, 0.9, 0.99, 1)}
    said = ", ".join(f"{share:.0%} ≤ {gap.total_seconds():.0f} s" for share, gap in shares.items())
    sys.stdout.write(f"{len(found)} gaps of 1,400 connections beside 600 that hang: {said}\n")
    return shares[0.99] <= timedelta(minutes=5) + GRACE


if __name__ == "__main__":
    sys.exit(not main(float(sys.argv[1]) if len(sys.argv) > 1 else 20))
