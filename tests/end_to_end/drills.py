"""Blows to replicas, and what the orgs' login history says of each: `make drills` prints the table.

Three replicas watch a fleet; they are as they were again before the next blow.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from tests.end_to_end.stage import (
    AT_ONCE_SECONDS,
    MAX_IN_FLIGHT,
    Stage,
    healthy,
    in_state,
    passes,
    stage,
    stopped,
    wait,
)

REPLICAS = ("first", "second", "third")
"""The third reaches the database through a proxy."""

AWAY_SECONDS = 20
"""For so long the database is away, and so old a copy is that takes its place."""

CLOCK_OFF_SECONDS = 130
"""A wrong clock is off by so much: a multiple of the interval would hide that turns are counted by it."""

GRACE_SECONDS = 15
"""Later than an interval: a heartbeat that is too old, a tick, a check."""

FLIPPED = 10
"""Orgs that begin to refuse at each blow."""

MONITOR = Path(__file__).parents[2] / "monitor"


@dataclass(frozen=True)
class Found:
    """What one blow did."""

    name: str
    at_once: int
    near: int
    gap: float
    gap_allowed: float
    at_once_allowed: int
    rate: float
    """Logins a second of each connection that is not refused."""
    usual: float
    """The same without a blow."""
    share_allowed: float | None

    @property
    def share(self) -> float:
        """Logins to what is right."""
        return self.rate / self.usual

    @property
    def kept(self) -> bool:
        """Whether it is as it must be."""
        in_share = self.share_allowed is None or abs(self.share - 1) <= self.share_allowed
        return self.at_once <= self.at_once_allowed and self.gap <= self.gap_allowed and in_share

    def __str__(self) -> str:
        share = f"{self.share:5.0%}" + (f" (±{self.share_allowed:.0%})" if self.share_allowed else "")
        return (
            f"| {self.name:<42} | {self.at_once:>3} (≤ {self.at_once_allowed}) | {self.near:>4} |"
            f" {self.gap:5.1f} s (≤ {self.gap_allowed:.0f}) | {share} | {'kept' if self.kept else 'NOT'} |"
        )


HEAD = "| blow | two within a second | nearer than 10 s | longest gap | logins, to what is right | |"


@dataclass
class Drills:
    """Three replicas over a fleet, and the blows."""

    on: Stage
    long: bool

    def __post_init__(self) -> None:
        self._spare = iter(list(self.on.names))
        self._usual = 0.0

    def start(self) -> None:
        for replica in REPLICAS:
            self.on.start(replica, cut_off=replica == "third")
        self.all_well()

    def all_well(self) -> None:
        """Wait until each sees all as it is."""
        well = [name for name in self.on.names if name not in self.on.refusing]
        for running in self.on.running.values():
            wait(lambda running=running: healthy(running, well), f"all healthy at {running.url}", 300)
            wait(
                lambda running=running: self.on.refusing <= in_state(running, "failing"),
                f"all refusals at {running.url}",
                300,
            )

    def drill(
        self,
        name: str,
        blow: Callable[[], None],
        *,
        gap: float = GRACE_SECONDS,
        at_once: int = 0,
        share: float | None = None,
        flips: bool = True,
    ) -> Found:
        """One blow, and what came of it; `gap` is how much longer than an interval is allowed.

        `flips`: orgs begin to refuse as it falls.
        """
        on = self.on
        since = datetime.now(UTC)
        if flips:
            on.refuse([next(self._spare) for _ in range(FLIPPED)])
        blow()
        passes(1.7 * on.interval_seconds)
        self.all_well()
        witness = on.witness(since)
        seconds = (witness.until - since).total_seconds()
        steady = [one for one in on.names if one not in on.refusing]
        rate = (
            sum(since < at <= witness.until for one in steady for at in witness.logins[one])
            / len(steady)
            / seconds
        )
        return Found(
            name,
            len(witness.nearer_than(AT_ONCE_SECONDS)),
            len(witness.nearer_than(10)),
            witness.longest_gap(but=on.refusing),  # a refusal backs off
            on.interval_seconds + gap,
            at_once,
            rate,
            self._usual or rate,
            share,
        )

    def nothing(self) -> None:
        passes(2 * self.on.interval_seconds)

    def kill(self) -> None:
        self.on.kill("first")
        passes(self.on.interval_seconds)
        self.on.start("first")

    def stop(self) -> None:
        with stopped(self.on.running["second"]):
            passes(60 if self.long else 25)

    def stall(self) -> None:
        self.on.proxy.open.clear()
        passes(45 if self.long else 25)
        self.on.proxy.open.set()

    def database_away(self) -> None:
        self.on.server.crash()
        passes(AWAY_SECONDS)
        self.on.server.start()

    def fail_over(self) -> None:
        self.on.server.copy("copy")
        passes(AWAY_SECONDS)
        self.on.server.crash()
        self.on.server.fail_over("copy")

    def can_not_write(self) -> None:
        """One replica loses a right while it works."""
        on = self.on
        on.server.sql("CREATE ROLE weak LOGIN", on.name)
        on.server.sql(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO weak;"
            "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO weak",
            on.name,
        )
        on.stop("second")
        on.start("second", user="weak")
        passes(on.interval_seconds / 2)
        on.server.sql("REVOKE INSERT, UPDATE ON days FROM weak", on.name)
        passes(2 * on.interval_seconds)
        page = on.running["second"].page("/-/ready")
        assert page is not None
        assert page.status_code == 503, page.text
        assert "permission denied" in page.text
        on.stop("second")
        on.start("second")

    def newer_version(self) -> None:
        """A version with one more step comes, replica by replica; the others know an older schema."""
        on, code = self.on, self.on.folder / "newer"
        shutil.copytree(MONITOR, code / "monitor", ignore=shutil.ignore_patterns("__pycache__"))
        schema = code / "monitor" / "store" / "schema.py"
        text = schema.read_text()
        schema.write_text(text.replace("3: _add_audits}", "3: _add_audits, 4: lambda _: None}"))
        assert schema.read_text() != text
        for replica in REPLICAS:
            on.stop(replica)
            on.start(replica, cut_off=replica == "third", code=code)
            passes(on.interval_seconds)
        assert on.sql("SELECT value FROM meta WHERE key = 'schema'") == [("5",)]

    def clock(self, ahead: timedelta) -> None:
        self.on.stop("second")
        self.on.start("second", ahead=ahead, code=self.code)
        passes((4 if self.long else 2) * self.on.interval_seconds)

    @property
    def code(self) -> Path | None:
        newer = self.on.folder / "newer"
        return newer if newer.exists() else None

    def short(self) -> Iterator[Found]:
        """The blows that fit into a test."""
        yield self.drill("kill -9 of one", self.kill)
        yield self.drill("SIGSTOP of one, SIGCONT", self.stop, at_once=MAX_IN_FLIGHT)
        yield self.drill("the way of one to the database stalls", self.stall)
        yield self.drill("PostgreSQL killed, away for 20 s", self.database_away, gap=AWAY_SECONDS + 10)
        yield self.drill("one can't write", self.can_not_write, at_once=MAX_IN_FLIGHT)
        yield self.drill("rolling upgrade with a step of the schema", self.newer_version)

    def all(self) -> Iterator[Found]:
        """Every blow, one after the other, once the first checks have found their places in the interval."""
        passes(1.5 * self.on.interval_seconds)
        quiet = self.drill("none", self.nothing, gap=5, flips=False)
        self._usual = quiet.rate
        yield quiet
        yield self.drill("kill -9 of one", self.kill)
        yield self.drill("SIGSTOP of one, SIGCONT", self.stop, at_once=MAX_IN_FLIGHT)
        yield self.drill("the way of one to the database stalls", self.stall)
        yield self.drill("PostgreSQL killed, away for 20 s", self.database_away, gap=AWAY_SECONDS + 10)
        yield self.drill("failover to a copy 20 s old", self.fail_over, gap=AWAY_SECONDS + 10)
        # Results from when it lost its permission are not written, and checked again at once.
        yield self.drill("one can't write", self.can_not_write, at_once=MAX_IN_FLIGHT)
        for way, seconds in (("ahead", CLOCK_OFF_SECONDS), ("behind", -CLOCK_OFF_SECONDS)):
            blow = partial(self.clock, timedelta(seconds=seconds))
            name = f"one clock {CLOCK_OFF_SECONDS} s {way}"
            yield self.drill(name, blow, gap=5, share=0.02, flips=False)
        self.on.stop("second")
        self.on.start("second")
        self.all_well()
        yield self.drill("rolling upgrade with a step of the schema", self.newer_version)


def main(connections: int = 1_000, interval_seconds: int = 30) -> int:
    """All drills in their long form; 1 where one is not kept."""
    kept = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drills-")))
        on = stack.enter_context(stage(folder, interval_seconds))
        on.make_orgs([f"c{number}" for number in range(connections)])
        drills = Drills(on, long=True)
        drills.start()
        print(f"{connections:,} connections, {interval_seconds} s, {len(REPLICAS)} replicas")
        print(HEAD, "|" + "---|" * 6, sep="\n", flush=True)
        for found in drills.all():
            print(found, flush=True)
            kept &= found.kept
        on.assert_told_once()
        made = sum(len(on.logins(name)) for name in on.names)
        passes(2)
        print(f"{made:,} logins, {sum(on.exchanges_written().values()):,} written; each refusal is one event")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
