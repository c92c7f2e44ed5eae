"""Faults drawn at random, blow after blow, on one daemon: `make soak`, for an hour, says what was lost.

The witness is the orgs' own login history: each login must be an exchange that the daemon remembers, and none
may be missing. After each blow the daemon is as it was, or the soak ends.
"""

import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx

from monitor.store.damage import AGAIN_SECONDS
from tests.end_to_end.processes import Running, daemon, simulator, until
from tests.end_to_end.watching import connection, key_pair, write

CONNECTIONS = 10
INTERVAL_SECONDS = 10
HOUR_SECONDS = 3600.0
GRACE_SECONDS = 45.0
"""Later than an interval and a blow: a start of Python on a busy machine, and a round of first looks."""

LOST_BY_A_KILL = 1
"""Exchanges of a connection that a kill may cost: those of its last second."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

AHEAD = timedelta(seconds=1)
"""The clock of a process that was started ahead can be set while it runs."""

ANSWERED_SECONDS = 0.3
"""Within this the daemon has taken note of what an org has answered."""


@dataclass(frozen=True)
class Found:
    """What one blow did."""

    name: str
    seconds: float
    lost: int
    """Logins that the daemon does not remember."""
    gap: float
    """The longest time without a login of a connection, in seconds."""
    allowed: int
    gap_allowed: float

    @property
    def kept(self) -> bool:
        """Whether no more was lost than guaranteed."""
        return self.lost <= self.allowed and self.gap <= self.gap_allowed

    def __str__(self) -> str:
        return (
            f"| {self.name:<34} | {self.seconds:5.0f} s | {self.lost} (≤ {self.allowed}) |"
            f" {self.gap:5.1f} s (≤ {self.gap_allowed:.0f}) | {'kept' if self.kept else 'NOT'} |"
        )


HEAD = "| blow | took | exchanges lost | longest gap between logins | |\n|---|---|---|---|---|"


class Soak:
    """A daemon over a few orgs, and what may happen to it."""

    def __init__(self, folder: Path, orgs: httpx.Client) -> None:
        self._folder = folder
        self._orgs = orgs
        self._names = [f"soaked-{number}" for number in range(CONNECTIONS)]
        self._database = folder / "bearerwatch.db"
        self._config = self._configured()
        self._right = self._config.read_text()
        self._stack = ExitStack()
        self.running = self._started()
        self._well()
        _, self._lost_before = until(self._counted, "a moment without a login")
        self._approved = self._approvals()

    def _configured(self) -> Path:
        key_pair(self._folder)
        (self._folder / "connections.d").mkdir()
        made = [connection(self._orgs, self._folder, name) for name in self._names]
        return write(self._folder, *made, more="connections_from: [connections.d/*.yaml]")

    def _started(self) -> Running:
        return self._stack.enter_context(daemon(self._config, ahead=AHEAD))

    def close(self) -> None:
        """End the daemon."""
        self._stack.close()

    # The blows

    def kill(self) -> None:
        self.running.kill()
        self._stack.close()
        self.running = self._started()

    def restart(self) -> None:
        assert self.running.stop() == 0
        self._stack.close()
        self.running = self._started()

    def stand_still(self) -> None:
        self.running.process.send_signal(signal.SIGSTOP)
        self._pass(15)
        self.running.process.send_signal(signal.SIGCONT)

    def lock(self) -> None:
        with closing(sqlite3.connect(self._database)) as other:
            other.execute("BEGIN IMMEDIATE")
            until(lambda: self._not_ready(), "the lock to be said")
            self._pass(10)

    def delete_the_database(self) -> None:
        self._database.unlink()

    def empty_the_database(self) -> None:
        self._damaged(self._database)

    def empty_its_log(self) -> None:
        self._damaged(Path(f"{self._database}-wal"))

    def _damaged(self, file: Path) -> None:
        """Empty a file, and wait until that is noticed."""
        before = self._sample("bearerwatch_store_damaged_total")
        os.truncate(file, 0)
        until(
            lambda: self._sample("bearerwatch_store_damaged_total") > before,
            "the damage to be said", AGAIN_SECONDS + 60,
        )  # fmt: skip

    def break_the_configuration(self) -> None:
        self._config.write_text("connections: [")
        until(lambda: self._reload_failed(), "the error to be said")
        self._pass(INTERVAL_SECONDS)
        self._config.write_text(self._right)

    def links_in_a_circle(self) -> None:
        circle = self._folder / "connections.d" / "circle.yaml"
        circle.symlink_to(circle)
        until(lambda: self._reload_failed(), "the circle to be said")
        circle.unlink()

    def a_pipe_among_the_files(self) -> None:
        pipe = self._folder / "connections.d" / "pipe.yaml"
        os.mkfifo(pipe)
        until(lambda: self._reload_failed(), "the pipe to be said")
        pipe.unlink()

    def clock_weeks_ahead(self) -> None:
        self.running.set_clock(timedelta(days=40))
        self._pass(2 * INTERVAL_SECONDS)
        self.running.set_clock(AHEAD)

    def clock_hours_behind(self) -> None:
        self.running.set_clock(-timedelta(hours=2))
        self._pass(2 * INTERVAL_SECONDS)
        self.running.set_clock(AHEAD)

    def blows(self) -> dict[str, Callable[[], None]]:
        """Every blow by its name."""
        return {
            "kill -9": self.kill,
            "stop and start": self.restart,
            "SIGSTOP for 15 s": self.stand_still,
            "database locked": self.lock,
            "database deleted": self.delete_the_database,
            "database emptied": self.empty_the_database,
            "its log emptied": self.empty_its_log,
            "configuration broken": self.break_the_configuration,
            "links in a circle": self.links_in_a_circle,
            "a pipe among the files": self.a_pipe_among_the_files,
            "clock 40 days ahead": self.clock_weeks_ahead,
            "clock 2 hours behind": self.clock_hours_behind,
        }

    def blow(self, name: str) -> Found:
        """One blow, and what came of it once all is well again."""
        began, since = time.monotonic(), self._orgs_time()
        self.blows()[name]()
        self._pass(INTERVAL_SECONDS)
        self._well()
        seconds = time.monotonic() - began
        logins, lost = until(self._counted, "a moment without a login")
        newly, self._lost_before = lost - self._lost_before, lost
        assert self._approvals() == self._approved, "since when approvals hold was forgotten"
        gap = max(
            (later - earlier).total_seconds()
            for moments in logins.values()
            for earlier, later in pairwise([since, *(at for at in moments if at > since)])
        )
        allowed = CONNECTIONS * LOST_BY_A_KILL if name == "kill -9" else 0
        return Found(
            name, seconds, max(0, newly), gap, allowed, INTERVAL_SECONDS + seconds / 2 + GRACE_SECONDS
        )

    # What is so

    def _pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        until(lambda: time.monotonic() >= end, "time to pass", patience=seconds + 60)

    def _not_ready(self) -> bool:
        page = self.running.page("/-/ready")
        return page is not None and page.status_code == 503

    def _reload_failed(self) -> bool:
        return self._sample("bearerwatch_config_last_reload_successful") == 0

    def _samples(self) -> Samples:
        """Those of /metrics, as soon as the limit of scrapes lets it be read."""
        return until(self.running.samples, "a scrape")

    def _sample(self, name: str) -> float:
        return self._samples()[name, frozenset()]

    def _well(self) -> None:
        """Wait until all are healthy, nothing waits to be written, and the configuration holds."""

        def well() -> bool:
            samples = self._samples()
            found = {(name, *sorted(labels)): value for (name, labels), value in samples.items()}
            healthy = found.get(("bearerwatch_connections", ("state", "healthy")))
            unwritten = found.get(("bearerwatch_store_unwritten_seconds",), 99.0)
            reloaded = found.get(("bearerwatch_config_last_reload_successful",))
            return healthy == CONNECTIONS and unwritten == 0 and reloaded == 1

        until(well, "all to be well again", patience=180)

    def _counted(self) -> tuple[dict[str, list[datetime]], int] | None:
        """The logins, and how many of them are not remembered; None where one was made meanwhile."""
        logins = {name: self._logins(name) for name in self._names}
        self._pass(ANSWERED_SECONDS)
        remembered = sum(
            value
            for (metric, _), value in self._samples().items()
            if metric == "bearerwatch_connection_exchanges_total"
        )
        if logins != {name: self._logins(name) for name in self._names}:
            return None
        return logins, sum(map(len, logins.values())) - int(remembered)

    def _approvals(self) -> Samples:
        since = "bearerwatch_connection_approval_since_timestamp_seconds"
        return {key: value for key, value in self._samples().items() if key[0] == since}

    def _logins(self, name: str) -> list[datetime]:
        rows = self._orgs.get(f"/_orgs/{name}/logins").json()
        return sorted(datetime.fromisoformat(row["time"]) for row in rows)

    def _orgs_time(self) -> datetime:
        return max(at for name in self._names for at in self._logins(name))


@contextmanager
def soaking(folder: Path) -> Iterator[Soak]:
    """A soak test in a folder, with its orgs."""
    with simulator(folder) as orgs:
        soak = Soak(folder, orgs)
        try:
            yield soak
        finally:
            soak.close()


def say(text: str) -> None:
    """Print progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(seconds: float, seed: int) -> bool:
    """Blow after blow for so long. Whether all was kept."""
    drawn, end = random.Random(seed), time.monotonic() + seconds
    say(f"Seed {seed}.\n\n{HEAD}")
    kept = True
    with tempfile.TemporaryDirectory() as folder, soaking(Path(folder)) as soak:
        names = list(soak.blows())
        while time.monotonic() < end:
            found = soak.blow(drawn.choice(names))
            kept &= found.kept
            say(str(found))
    say("\nLost: nothing." if kept else "\nMore was lost than is promised.")
    return kept


if __name__ == "__main__":
    length = float(sys.argv[1]) if len(sys.argv) > 1 else HOUR_SECONDS
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    sys.exit(not main(length, chosen))
