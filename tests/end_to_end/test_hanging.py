"""Some of many orgs accept each connection and never answer: how regular the logins of the others stay."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.processes import Running, daemon, simulator, until
from tests.end_to_end.watching import connection, key_pair, write

INTERVAL_SECONDS = 10
GRACE = timedelta(seconds=30)
"""What a gap between logins may be longer than the interval."""


@pytest.mark.real("openssl")
def test_orgs_that_hang_do_not_delay_the_checks_of_others(tmp_path: Path) -> None:
    """Twelve of forty had held all four slots, and the others waited for a minute and more."""
    found = gaps(tmp_path, 40, 45)

    assert len(found) > 28 * 2
    assert max(found) <= timedelta(seconds=INTERVAL_SECONDS) + GRACE


@contextmanager
def silence() -> Iterator[str]:
    """The address of a server that accepts what the kernel accepts for it, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def gaps(folder: Path, count: int, seconds: float) -> list[timedelta]:
    """The gaps between the logins of the orgs that answer, where three of ten never do."""
    key_pair(folder)
    with simulator(folder) as orgs, silence() as silent:
        names = [f"org-{number:04}" for number in range(count)]
        made = [connection(orgs, folder, name) for name in names]
        well = [name for number, name in enumerate(names) if number % 10 >= 3]
        made = [
            text if name in well else text.replace(str(orgs.base_url).rstrip("/"), silent)
            for name, text in zip(names, made, strict=True)
        ]
        config = write(folder, *made, more="max_in_flight: 4")
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
            late = [(each[-1], now) for each in logins if (now - each[-1]).total_seconds() > INTERVAL_SECONDS]
            return [later - earlier for earlier, later in found + late]


def _checked(running: Running) -> int:
    """How many connections have been checked."""
    exchanges = "bearerwatch_connection_exchanges_total"
    return len({labels for (name, labels), value in running.samples().items() if name == exchanges and value})


def _logins(orgs: httpx.Client, name: str) -> list[datetime]:
    return sorted(datetime.fromisoformat(row["time"]) for row in orgs.get(f"/_orgs/{name}/logins").json())
