"""Several replicas as processes over one PostgreSQL: whatever befalls them, each check is made once.

The witness is the orgs' login history: it knows nothing of replicas.
"""

import re
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.end_to_end import processes
from tests.end_to_end.processes import Running, daemon, free_port, simulator
from tests.postgres import COMMAND, Postgres, postgres

pytestmark = pytest.mark.real(COMMAND, "openssl")

INTERVAL_SECONDS = 20
CONNECTIONS = 1_000
FLIPPED = 25
"""Orgs that begin to refuse at each blow."""
AT_ONCE_SECONDS = 1.0
"""Two logins so near each other would be one check made twice."""


class Proxy:
    """A way to the database that can be stalled: it still takes connections, and passes nothing on."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.open.wait()
                to.sendall(data)
        # The other direction's end, too: each end is closed once, by whoever is last to read from it.
        with suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        self.open.set()
        self._listener.close()


@dataclass
class Stage:
    """Orgs, a database, and replicas that come and go."""

    folder: Path
    orgs: httpx.Client
    server: Postgres
    proxy: Proxy
    name: str
    """Of the database."""
    running: dict[str, Running] = field(default_factory=dict)
    stacks: dict[str, ExitStack] = field(default_factory=dict)
    refusing: set[str] = field(default_factory=set)

    def config(self, replica: str, names: list[str], *, cut_off: bool = False) -> Path:
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
            f"listen: 127.0.0.1:{free_port()}\nreplicas: true\n"
            f"database: postgresql://monitor@127.0.0.1:{port}/{self.name}\n"
            f"interval: {INTERVAL_SECONDS}s\nlogin_budget_per_hour: 3600\nconnections:{listed}\n"
        )
        return path

    def start(self, replica: str, names: list[str], *, cut_off: bool = False) -> Running:
        stack = self.stacks[replica] = ExitStack()
        config = self.config(replica, names, cut_off=cut_off)
        self.running[replica] = stack.enter_context(daemon(config))
        return self.running[replica]

    def stop(self, replica: str) -> None:
        self.running.pop(replica, None)
        self.stacks.pop(replica).close()

    def make_orgs(self, names: list[str]) -> None:
        certificate = (self.folder / "cert.pem").read_text()
        for name in names:
            org = {
                "consumer_key": f"3MVG9_{name}",
                "username": f"integration@{name}.example",
                "certificate": certificate,
            }
            assert self.orgs.put(f"/_orgs/{name}", json=org).status_code in {200, 201}

    def refuse(self, names: list[str]) -> set[str]:
        """Let these orgs refuse from now on."""
        for name in names:
            self.orgs.patch(f"/_orgs/{name}", json={"user_active": False})
        self.refusing |= set(names)
        return set(names)

    def logins(self, name: str) -> list[datetime]:
        rows = self.orgs.get(f"/_orgs/{name}/logins").json()
        return [datetime.fromisoformat(row["time"]) for row in rows]


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Iterator[Stage]:
    subprocess.run(
        "openssl req -x509 -sha256 -nodes -days 3650 -newkey rsa:2048"
        " -keyout private-key.pem -out cert.pem -subj /CN=salesforce-jwt-integration",
        cwd=tmp_path,
        check=True,
        shell=True,
        capture_output=True,
    )
    with postgres() as server, simulator(tmp_path) as orgs:
        proxy = Proxy(server.port)
        name = server.database().rsplit("/", 1)[1]
        stage = Stage(tmp_path, orgs, server, proxy, name)
        try:
            yield stage
        finally:
            for replica in list(stage.stacks):
                if running := stage.running.get(replica):  # else it was killed
                    running.process.send_signal(signal.SIGCONT)
                stage.stop(replica)
            proxy.close()


def in_state(running: Running, state: str) -> set[str]:
    # By pattern: to parse all of it at each look would be most of what this test costs.
    line = rf'^bearerwatch_connection_state{{connection="([^"]+)",state="{state}"}} 1$'
    return set(re.findall(line, running.text(), re.MULTILINE))


def until(probe: Callable[[], bool], what: str) -> None:
    """Looks twice a second: a page of a thousand connections costs the replicas time that they need."""
    processes.until(probe, what, patience=120, pause=0.5)


def each(replicas: Iterable[Running], probe: Callable[[Running], bool], what: str) -> None:
    for running in replicas:
        until(partial(probe, running), f"{what}, at {running.url}")


def all_healthy(running: Running, names: list[str]) -> bool:
    return in_state(running, "healthy") == set(names)


def sees_refused(running: Running, names: set[str]) -> bool:
    return names <= in_state(running, "failing")


@contextmanager
def stopped(running: Running) -> Iterator[None]:
    """A process that stands still, as on a machine that is suspended."""
    running.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        running.process.send_signal(signal.SIGCONT)


def test_whatever_befalls_replicas_each_check_is_made_once_and_in_time(stage: Stage) -> None:
    names = [f"c{number}" for number in range(CONNECTIONS)]
    spare = iter(names)

    def some() -> list[str]:
        return [next(spare) for _ in range(FLIPPED)]

    stage.make_orgs(names)
    first, second = stage.start("first", names), stage.start("second", names)
    third = stage.start("third", names, cut_off=True)
    each((first, second, third), lambda one: all_healthy(one, names), "every check")
    for running in (first, second, third):
        assert running.sample("bearerwatch_replicas") == 3
        assert running.sample("bearerwatch_connections_scheduled") == CONNECTIONS
    leading = [running.sample("bearerwatch_replica_leads") for running in (first, second, third)]
    assert sorted(leading) == [0, 0, 1]  # type: ignore[type-var] # none is None

    # One dies, and another stands still: the third takes over.
    first.kill()
    stage.running.pop("first")
    with stopped(second):
        refused = stage.refuse(some())
        until(lambda: sees_refused(third, refused), "what the two had to the third")
        assert third.sample("bearerwatch_replicas") == 1
    until(lambda: sees_refused(second, refused), "the one that stood still to hear of it")
    stage.stacks.pop("first").close()
    first = stage.start("first", names)
    until(lambda: sees_refused(first, refused), "the one that was begun anew to know it")

    # One is cut off from the database, which is restarted meanwhile.
    stage.proxy.open.clear()
    refused = stage.refuse(some())
    until(lambda: third.sample("bearerwatch_database_reachable") == 0, "the third to notice")
    page = third.page("/-/ready")
    assert page is not None
    assert page.status_code == 503
    until(lambda: sees_refused(first, refused), "the others to take over")
    stage.server.stop()
    until(lambda: first.sample("bearerwatch_database_reachable") == 0, "the others to notice")
    stage.server.start()
    stage.proxy.open.set()
    refused |= stage.refuse(some())
    each((first, second, third), lambda one: sees_refused(one, refused), "to be back")

    # A new configuration, replica by replica.
    gone, new = names[-10:], [f"new{number}" for number in range(10)]
    stage.make_orgs(new)
    wanted = [*names[:-10], *new]
    for replica in ("first", "second", "third"):
        stage.stop(replica)
        stage.start(replica, wanted, cut_off=replica == "third")
    replicas = tuple(stage.running.values())
    each(replicas, lambda one: set(new) <= in_state(one, "healthy"), "the new connections")
    each(replicas, lambda one: one.sample("bearerwatch_replicas_configurations") == 1, "to agree")
    each(replicas, lambda one: one.sample("bearerwatch_connections_scheduled") == CONNECTIONS, "coverage")
    until(
        lambda: stage.server.sql("SELECT count(*) FROM appointments", stage.name) == [(CONNECTIONS,)],
        "what was removed to have no appointment",
    )

    # The witness.
    end = datetime.now(UTC)
    logins = {name: stage.logins(name) for name in [*names, *new]}
    gaps = {
        name: [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
        for name, times in logins.items()
    }
    at_once = {name: min(each) for name, each in gaps.items() if each and min(each) < AT_ONCE_SECONDS}
    assert at_once == {}
    watched = set(wanted) - stage.refusing
    late = {
        name: max([*gaps[name], (end - logins[name][-1]).total_seconds()])
        for name in watched
        if max([*gaps[name], (end - logins[name][-1]).total_seconds()]) > 2 * INTERVAL_SECONDS
    }
    assert late == {}

    # What was written agrees: each refusal is one event, and no exchange is counted that was not made.
    events = stage.server.sql(
        "SELECT c.name FROM events e JOIN connections c ON c.id = e.connection_id"
        " WHERE e.kind = 'state' AND e.text LIKE '%to failing%'",
        stage.name,
    )
    assert Counter(str(name) for (name,) in events) == Counter(stage.refusing)
    for running in stage.running.values():
        assert running.stop() == 0
    rows = stage.server.sql(
        "SELECT c.name, (h.body::json ->> 'exchanges')::int FROM histories h"
        " JOIN connections c ON c.id = h.connection_id",
        stage.name,
    )
    made = {name: len(stage.logins(name)) for name in logins}
    counts = {str(name): int(str(count)) for name, count in rows}
    assert all(counts[name] <= made[name] for name in made)
    lost = sum(made.values()) - sum(counts.values())
    assert lost <= 2 * 64 + len(gone), "only what was under way in a replica that died or stood still"
