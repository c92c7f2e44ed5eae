"""Orgs, a PostgreSQL, and replicas as processes that come and go; the orgs' login history is the witness."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx

from tests.end_to_end.processes import Running, daemon, free_port, simulator, until
from tests.end_to_end.watching import key_pair
from tests.store.postgres import Postgres, Proxy, postgres

AT_ONCE_SECONDS = 1.0
"""Two logins so near each other would be one check made twice."""

MAX_IN_FLIGHT = 64
"""Logins that a replica had signed as it fell asleep, and that go on as it wakes up, at most."""


@dataclass
class Stage:
    """Orgs, a database, and replicas that come and go."""

    folder: Path
    orgs: httpx.Client
    server: Postgres
    proxy: Proxy
    name: str
    """Of the database."""
    interval_seconds: int
    names: list[str] = field(default_factory=list)
    running: dict[str, Running] = field(default_factory=dict)
    stacks: dict[str, ExitStack] = field(default_factory=dict)
    refusing: set[str] = field(default_factory=set)

    def sql(self, text: str) -> list[tuple[object, ...]]:
        return self.server.sql(text, self.name)

    def config(
        self, replica: str, names: Sequence[str], *, cut_off: bool = False, user: str = "monitor"
    ) -> Path:
        """The configuration of a replica; where it listens, and by which way it goes, are its own."""
        port = self.proxy.port if cut_off else self.server.port
        listed = "".join(
            f"""
  - name: {name}
    login_url: {str(self.orgs.base_url).rstrip("/")}/{name}
    consumer_key: 3MVG9_{name}
    username: integration@{name}.example
    private_key: {{file: {self.folder}/private-key.pem}}
    after_login: false"""
            for name in names
        )
        path = self.folder / f"{replica}.yaml"
        path.write_text(
            f"listen: 127.0.0.1:{free_port()}\n"
            f"database: postgresql://{user}@127.0.0.1:{port}/{self.name}\n"
            f"interval: {self.interval_seconds}s\nlogin_budget_per_hour: 3600\nconnections:{listed}\n"
        )
        return path

    def start(
        self,
        replica: str,
        names: Sequence[str] | None = None,
        *,
        cut_off: bool = False,
        user: str = "monitor",
        ahead: timedelta = timedelta(0),
        code: Path | None = None,
    ) -> Running:
        config = self.config(replica, self.names if names is None else names, cut_off=cut_off, user=user)
        stack = self.stacks[replica] = ExitStack()
        self.running[replica] = stack.enter_context(daemon(config, ahead=ahead, code=code))
        return self.running[replica]

    def stop(self, replica: str) -> None:
        self.running.pop(replica, None)
        self.stacks.pop(replica).close()

    def kill(self, replica: str) -> None:
        self.running[replica].kill()
        self.stop(replica)

    def make_orgs(self, names: Sequence[str]) -> None:
        certificate = (self.folder / "cert.pem").read_text()
        for name in names:
            org = {
                "consumer_key": f"3MVG9_{name}",
                "username": f"integration@{name}.example",
                "certificate": certificate,
            }
            assert self.orgs.put(f"/_orgs/{name}", json=org).status_code in {200, 201}
        self.names.extend(names)

    def refuse(self, names: Sequence[str], **settings: object) -> set[str]:
        """Let these orgs refuse from now on."""
        for name in names:
            self.orgs.patch(f"/_orgs/{name}", json={"user_active": False} | settings)
        self.refusing |= set(names)
        return set(names)

    def logins(self, name: str) -> list[datetime]:
        rows = self.orgs.get(f"/_orgs/{name}/logins").json()
        return [datetime.fromisoformat(row["time"]) for row in rows]

    def witness(self, since: datetime) -> "Witness":
        """What the orgs say of the logins since then."""
        now = datetime.now(UTC)
        return Witness({name: self.logins(name) for name in self.names}, since, now)

    def assert_told_once(self) -> None:
        """Each refusal is one event."""
        events = self.sql(
            "SELECT c.name FROM events e JOIN connections c ON c.id = e.connection_id"
            " WHERE e.kind = 'state' AND e.text LIKE '%to failing%'"
        )
        assert Counter(str(name) for (name,) in events) == Counter(self.refusing)

    def exchanges_written(self) -> dict[str, int]:
        """How many exchanges the database counts of each connection."""
        rows = self.sql(
            "SELECT c.name, sum(d.granted + d.refused + d.no_verdict) FROM days d"
            " JOIN connections c ON c.id = d.connection_id GROUP BY c.name"
        )
        return {str(name): int(str(count)) for name, count in rows}


@dataclass(frozen=True)
class Witness:
    """The logins of each connection, and the examined period."""

    logins: dict[str, list[datetime]]
    since: datetime
    until: datetime

    def _pairs(self) -> Iterator[tuple[str, datetime, datetime]]:
        for name, times in self.logins.items():
            for earlier, later in pairwise([*sorted(times), self.until]):
                if later > self.since:
                    yield name, earlier, later

    def nearer_than(self, seconds: float) -> list[tuple[str, datetime, datetime]]:
        """Two logins of a connection that are nearer to each other; the end of the time is none."""
        return [
            (name, earlier, later)
            for name, earlier, later in self._pairs()
            if later != self.until and (later - earlier).total_seconds() < seconds
        ]

    def longest_gap(self, but: set[str] = frozenset()) -> float:  # type: ignore[assignment]
        """The longest time without a login, in seconds, of any connection but these."""
        return max(
            (later - earlier).total_seconds() for name, earlier, later in self._pairs() if name not in but
        )

    @property
    def count(self) -> int:
        """Logins in the examined period."""
        return sum(self.since < at <= self.until for times in self.logins.values() for at in times)


@contextmanager
def stage(folder: Path, interval_seconds: int) -> Iterator[Stage]:
    """Everything but orgs and replicas, until the block ends."""
    key_pair(folder)
    with postgres() as server, simulator(folder) as orgs:
        proxy = Proxy(server.port)
        name = server.database().rsplit("/", 1)[1]
        made = Stage(folder, orgs, server, proxy, name, interval_seconds)
        try:
            yield made
        finally:
            for replica in list(made.stacks):
                if running := made.running.get(replica):  # otherwise it was killed
                    running.process.send_signal(signal.SIGCONT)
                made.stop(replica)
            proxy.close()


@contextmanager
def stopped(running: Running) -> Iterator[None]:
    """Suspend a process, as when its machine is suspended."""
    running.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        running.process.send_signal(signal.SIGCONT)


def states(running: Running) -> dict[str, str]:
    """The state of each connection, as a replica shows it."""
    page = running.page("/api/status")
    return {one["name"]: one["state"] for one in page.json()["connections"]} if page else {}


def in_state(running: Running, state: str) -> set[str]:
    return {name for name, one in states(running).items() if one == state}


def healthy(running: Running, names: Sequence[str]) -> bool:
    return set(names) <= in_state(running, "healthy")


def passes(seconds: float) -> None:
    """Let time pass."""
    threading.Event().wait(seconds)


def wait(probe: object, what: str, patience: float = 120) -> None:
    """Looks twice a second: a page of a thousand connections costs the replicas time that they need."""
    until(probe, what, patience=patience, pause=0.5)  # type: ignore[arg-type]
