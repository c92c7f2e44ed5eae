"""Several replicas as processes over one PostgreSQL: whatever befalls them, each check is made once.

The witness is the orgs' login history: it knows nothing of replicas.
"""

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from monitor.replicas import UNWATCHED
from monitor.store.appointments import ALIVE_SECONDS
from tests.end_to_end import processes
from tests.end_to_end.processes import Running, daemon, free_port, simulator
from tests.postgres import COMMAND, Postgres, Proxy, postgres

pytestmark = pytest.mark.real(COMMAND, "openssl")

INTERVAL_SECONDS = 20
SHORTEST_INTERVAL_SECONDS = 10
CONNECTIONS = 1_000
FLIPPED = 25
"""Orgs that begin to refuse at each blow."""
AT_ONCE_SECONDS = 1.0
"""Two logins so near each other would be one check made twice."""
ON_THEIR_WAY = 64
"""Logins that a replica had signed as it fell asleep, and that go on as it wakes up: `max_in_flight` at most.
What it has not begun it lets go, which tests/test_replicas.py shows."""
WAKES_UP = "second wakes up"


@dataclass
class Stage:
    """Orgs, a database, and replicas that come and go."""

    folder: Path
    orgs: httpx.Client
    server: Postgres
    proxy: Proxy
    name: str
    """Of the database."""
    interval_seconds: int = INTERVAL_SECONDS
    running: dict[str, Running] = field(default_factory=dict)
    stacks: dict[str, ExitStack] = field(default_factory=dict)
    refusing: set[str] = field(default_factory=set)
    moments: dict[str, datetime] = field(default_factory=dict)
    """When something befell a replica, by what it was."""

    def befell(self, what: str) -> None:
        self.moments[what] = datetime.now(UTC)

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
            f"interval: {self.interval_seconds}s\nlogin_budget_per_hour: 3600\nconnections:{listed}\n"
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

    def refuse(self, names: list[str], **settings: object) -> set[str]:
        """Let these orgs refuse from now on."""
        for name in names:
            self.orgs.patch(f"/_orgs/{name}", json={"user_active": False} | settings)
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


def all_unwatched(running: Running, names: set[str]) -> bool:
    return names <= in_state(running, "unknown")


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


def assert_told_once(stage: Stage) -> None:
    """Each refusal is one event."""
    events = stage.server.sql(
        "SELECT c.name FROM events e JOIN connections c ON c.id = e.connection_id"
        " WHERE e.kind = 'state' AND e.text LIKE '%to failing%'",
        stage.name,
    )
    assert Counter(str(name) for (name,) in events) == Counter(stage.refusing)


def exchanges_written(stage: Stage) -> dict[str, int]:
    """How many exchanges the database counts of each connection."""
    rows = stage.server.sql(
        "SELECT c.name, (h.body::json ->> 'exchanges')::int FROM histories h"
        " JOIN connections c ON c.id = h.connection_id",
        stage.name,
    )
    return {str(name): int(str(count)) for name, count in rows}


def gaps_of(logins: dict[str, list[datetime]]) -> dict[str, list[float]]:
    """Seconds between the logins of each connection."""
    return {
        name: [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
        for name, times in logins.items()
    }


def assert_none_at_once(stage: Stage, logins: dict[str, list[datetime]]) -> None:
    """No check was made twice, but for requests that fell asleep on their way."""
    twice = [
        (name, earlier, later)
        for name, times in logins.items()
        for earlier, later in pairwise(times)
        if (later - earlier).total_seconds() < AT_ONCE_SECONDS
    ]
    woken = stage.moments.get(WAKES_UP)
    on_their_way = [
        (name, earlier, later)
        for name, earlier, later in twice
        if woken and any(abs((at - woken).total_seconds()) < AT_ONCE_SECONDS for at in (earlier, later))
    ]
    assert len(on_their_way) <= ON_THEIR_WAY, (on_their_way, stage.moments)
    assert twice == on_their_way, (twice, stage.moments)


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
    stage.befell("first is killed, second stands still")
    first.kill()
    stage.running.pop("first")
    with stopped(second):
        refused = stage.refuse(some())
        until(lambda: sees_refused(third, refused), "what the two had to the third")
        assert third.sample("bearerwatch_replicas") == 1
    stage.befell(WAKES_UP)
    until(lambda: sees_refused(second, refused), "the one that stood still to hear of it")
    stage.stacks.pop("first").close()
    stage.befell("first begins anew")
    first = stage.start("first", names)
    until(lambda: sees_refused(first, refused), "the one that was begun anew to know it")

    # One is cut off from the database, which is restarted meanwhile.
    stage.befell("third is cut off")
    stage.proxy.open.clear()
    refused = stage.refuse(some())
    until(lambda: third.sample("bearerwatch_database_reachable") == 0, "the third to notice")
    page = third.page("/-/ready")
    assert page is not None
    assert page.status_code == 503
    until(lambda: sees_refused(first, refused), "the others to take over")
    stage.befell("the database goes")
    stage.server.stop()
    until(lambda: first.sample("bearerwatch_database_reachable") == 0, "the others to notice")
    stage.befell("the database comes back, to third too")
    stage.server.start()
    stage.proxy.open.set()
    refused |= stage.refuse(some())
    each((first, second, third), lambda one: sees_refused(one, refused), "to be back")

    # A new configuration, replica by replica.
    gone, new = names[-10:], [f"new{number}" for number in range(10)]
    stage.make_orgs(new)
    wanted = [*names[:-10], *new]
    for replica in ("first", "second", "third"):
        stage.befell(f"{replica} begins anew, with another configuration")
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
    gaps = gaps_of(logins)
    assert_none_at_once(stage, logins)
    watched = set(wanted) - stage.refusing
    late = {
        name: max([*gaps[name], (end - logins[name][-1]).total_seconds()])
        for name in watched
        if max([*gaps[name], (end - logins[name][-1]).total_seconds()]) > 2 * INTERVAL_SECONDS
    }
    assert late == {}

    assert_told_once(stage)
    for running in stage.running.values():
        assert running.stop() == 0
    made = {name: len(stage.logins(name)) for name in logins}
    counts = exchanges_written(stage)
    assert all(counts[name] <= made[name] for name in made)
    lost = sum(made.values()) - sum(counts.values())
    assert lost <= 2 * 64 + len(gone), "only what was under way in a replica that died or stood still"


def test_a_database_that_is_away_for_more_than_a_minute_loses_and_doubles_nothing(stage: Stage) -> None:
    stage.interval_seconds = SHORTEST_INTERVAL_SECONDS
    under_way, *others = names = [f"c{number}" for number in range(30)]
    stage.make_orgs(names)
    replicas = stage.start("first", names), stage.start("second", names)
    each(replicas, lambda one: all_healthy(one, names), "every check")

    # It goes while an answer is on its way: what it says is seen, though it can't be written yet.
    before = len(stage.logins(under_way))
    stage.refuse([under_way], fault="slow")
    processes.until(lambda: len(stage.logins(under_way)) > before, "a check to be under way")
    stage.server.stop()
    gone = datetime.now(UTC)
    until(lambda: any(sees_refused(one, {under_way}) for one in replicas), "the check to end")
    each(replicas, lambda one: one.sample("bearerwatch_database_reachable") == 0, "it to notice")

    # It stays away until nobody knows any more how the connections are.
    refused = stage.refuse(others[:5])
    each(replicas, lambda one: all_unwatched(one, set(others)), "the connections to be unwatched")
    away_seconds = (datetime.now(UTC) - gone).total_seconds()
    for running in replicas:
        ready, page, status = (running.page(path) for path in ("/-/ready", "/", "/api/status"))
        assert ready
        assert page
        assert status
        assert ready.status_code == 503
        problem = status.json()["daemon"]["store_problem"]
        assert "can't be used" in problem
        assert "The database fails; what is new is kept in memory only" in page.text
        states = {one["name"]: one["state"] for one in status.json()["connections"]}
        assert {states[name] for name in others} == {"unknown"}
    held_until = gone + timedelta(seconds=ALIVE_SECONDS)
    logins = {name: stage.logins(name) for name in names}
    assert away_seconds > UNWATCHED.total_seconds()
    assert {name for name in names if logins[name][-1] > held_until} == set(), "nobody knows who else looks"

    # It comes back, and so does all else.
    back = datetime.now(UTC)
    stage.server.start()
    healthy = set(others) - refused
    each(replicas, lambda one: sees_refused(one, refused | {under_way}), "what changed meanwhile")
    each(replicas, lambda one: in_state(one, "healthy") == healthy, "all to be watched again")
    each(replicas, lambda one: one.sample("bearerwatch_database_reachable") == 1, "it to be reachable")

    for running in replicas:
        assert running.stop() == 0
    logins = {name: stage.logins(name) for name in names}
    assert_none_at_once(stage, logins)
    first_again = {name: min(at for at in logins[name] if at > back) for name in healthy}
    interval = timedelta(seconds=SHORTEST_INTERVAL_SECONDS)
    assert {name: at for name, at in first_again.items() if at - back > interval} == {}
    assert exchanges_written(stage) == {name: len(times) for name, times in logins.items()}
    assert_told_once(stage)
