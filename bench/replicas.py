"""Replicas with one PostgreSQL compared with one process with a file: checks per second, and the bottleneck.

Real processes with more due than they can check. Orgs are stubs in the benchmark's process, over plain HTTP
and without verification, so that only the monitor and its database are measured.
"""

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.figures import Figure, percentile
from bench.material import HOST, Material, consumer_key_of, name_of, prepare, username_of
from bench.server import unpin
from monitor.config import load
from monitor.core.finding import State
from monitor.core.history import begin
from monitor.core.outcome import Exchange, Granted
from monitor.store import Store
from tests.end_to_end.processes import Running, daemon, free_port, until
from tests.store.postgres import COMMAND, Postgres, postgres

INTERVAL_SECONDS = 10
"""The shortest interval, for maximum load."""

REPLICAS = (1, 2, 4)

USUAL_INTERVAL_SECONDS = 300

PATIENCE_SECONDS = 180.0
"""Timeout for the first checks, and until none is late."""

CHECKED_BEFORE_SECONDS = 60.0
"""A fleet at the default interval was checked this long before the start, less a second per thousand, as its
start takes longer. So each connection keeps its place in the interval; new ones take one interval for their
first checks, and another to be spread evenly."""

EVENLY = 0.1
"""Measure when the number of checks due in the measured period differs this little from an even share."""

MARGIN_SECONDS = 5.0
"""Ignore checks due this close to the end: their logins may come after it."""

DUE_TO_MADE_GOAL = 1.0 + 2 * EVENLY
"""Checks due to checks made, if none are lost."""

DUE_TO_LOGIN_GOAL_SECONDS = 3.0
"""The 99th percentile of the time from due to login."""

SERVER_GOAL_MS = 0.5
"""PostgreSQL's CPU per check."""

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def measurable() -> bool:
    """Whether PostgreSQL's server is installed, and the system reports CPU times of processes."""
    return shutil.which(COMMAND) is not None and Path("/proc/stat").exists()


@dataclass(frozen=True, slots=True)
class Run:
    """Results of some daemons in one period."""

    checks_a_second: float
    asked_a_second: float
    busiest: float
    """Cores used by the busiest daemon: at most about one, due to the interpreter lock."""
    daemons: float
    """Cores used by all daemons."""
    server: float
    """Cores used by PostgreSQL."""
    machine: float
    """The share of the machine's CPU in use."""
    late: tuple[float, ...]
    """Seconds from due to login for each connection; empty without a server."""

    @property
    def limit(self) -> tuple[str, float]:
        """The bottleneck, and its utilisation."""
        due = self.checks_a_second / self.asked_a_second
        shares = {
            "what was due": due if due <= 1 else 0.0,  # above 1, a backlog is worked off
            "the core of the busiest process": self.busiest,
            "PostgreSQL": self.server,
            "the machine's cores": self.machine,
        }
        return max(shares.items(), key=lambda share: share[1])


def figures(
    place: Path, count: int, seconds: float, usual: Sequence[int], usual_seconds: float
) -> Iterator[Figure]:
    """One process with a file, then replicas at the default interval, then one and more replicas under full
    load; each with a new database.
    """
    unpin()
    place.mkdir()
    material = prepare(place, 1)
    with answering() as orgs, ExitStack() as stack:
        bench = _Bench(material, orgs, count, seconds)
        alone = bench.run(material.place / "alone", 1, f"{material.place}/alone.db")
        yield Figure(f"one process, a file: checks a second of {count:,} in turn", alone.checks_a_second)
        yield from _limit("one process, a file", alone)
        server = stack.enter_context(postgres(durable=True))
        for many in usual:
            at_rest = _Bench(material, orgs, many, usual_seconds, USUAL_INTERVAL_SECONDS)
            run = at_rest.run(material.place / f"usual-{many}", 2, server.database(), server)
            what = f"2 replicas, {many:,} at {USUAL_INTERVAL_SECONDS} s"
            yield Figure(f"{what}: checks a second", run.checks_a_second)
            yield Figure(
                f"{what}: due / made", run.asked_a_second / run.checks_a_second, goal=DUE_TO_MADE_GOAL
            )
            yield Figure(f"{what}: due to login, p50", percentile(run.late, 0.5), "s")
            yield Figure(
                f"{what}: due to login, p99", percentile(run.late, 0.99), "s", goal=DUE_TO_LOGIN_GOAL_SECONDS
            )
            yield Figure(
                f"{what}: PostgreSQL, CPU of a check",
                run.server / run.checks_a_second * 1000,
                "ms",
                goal=SERVER_GOAL_MS if many == max(usual) else None,  # fixed costs dominate small fleets
            )
        for replicas in REPLICAS:
            run = bench.run(material.place / f"replicas-{replicas}", replicas, server.database(), server)
            what = f"{replicas} replica{'s' * (replicas > 1)}"
            yield Figure(f"{what}: checks a second", run.checks_a_second)
            yield Figure(
                f"{what}: … to those of one process with a file", run.checks_a_second / alone.checks_a_second
            )
            yield Figure(
                f"{what}: CPU of a check, database and all, to that with a file",
                _cost(run) / _cost(alone),
            )
            yield Figure(f"{what}: PostgreSQL's share of it", run.server / (run.server + run.daemons))
            yield from _limit(what, run)


def _limit(what: str, run: Run) -> Iterator[Figure]:
    limit, share = run.limit
    yield Figure(f"{what}: nearest to its end, {limit}", share)


def _cost(run: Run) -> float:
    return (run.daemons + run.server) / run.checks_a_second


@dataclass(frozen=True, slots=True)
class _Bench:
    material: Material
    orgs: "Orgs"
    count: int
    seconds: float
    interval_seconds: int = INTERVAL_SECONDS

    def run(self, folder: Path, daemons: int, database: str, server: Postgres | None = None) -> Run:
        """Start the daemons, let them settle, and measure for a while."""
        folder.mkdir()
        with ExitStack() as stack:
            configs = [self._config(folder / f"{number}.yaml", database, server) for number in range(daemons)]
            on_time = server if self.interval_seconds > INTERVAL_SECONDS else None
            if on_time:
                _check_before(configs[0])
            running = [stack.enter_context(daemon(config)) for config in configs]
            first = self.count // (10 if on_time is None else 100)
            enough = self.orgs.answered + max(1, first)
            until(lambda: self.orgs.answered >= enough, "the first checks", PATIENCE_SECONDS)
            name = database.rpartition("/")[2]
            if on_time:  # otherwise more is due than they can do
                with suppress(AssertionError):  # a machine that is too slow: the figures show it
                    until(lambda: self._is_steady(on_time, name), "checks due evenly", PATIENCE_SECONDS)
            return self._watch(running, server, name)

    def _is_steady(self, server: Postgres, name: str) -> bool:
        """Whether all connections are scheduled, none is late, and a usual number is due soon."""
        [row] = server.sql(
            "SELECT count(*), now() - min(due_at) < interval '3 seconds', count(*) FILTER"  # noqa: S608 # a number
            f" (WHERE due_at < now() + interval '{self.seconds} seconds') FROM due",
            name,
        )
        there, on_time, soon = row
        share = self.count * self.seconds / self.interval_seconds
        return there == self.count and on_time is True and abs(int(str(soon)) - share) < EVENLY * share + 10

    def _watch(self, running: list[Running], server: Postgres | None, name: str) -> Run:
        def used() -> tuple[list[float], float, float, float]:
            ours = [_cpu_seconds(one.process.pid) for one in running]
            return ours, _family(server.pid()) if server else 0.0, *_machine()

        due = _due(server, name, self.seconds - MARGIN_SECONDS) if server else {}
        self.orgs.first.clear()
        answered, began = self.orgs.answered, time.monotonic()
        before = used()
        time.sleep(self.seconds)
        until(lambda: self.orgs.answered > answered, "a check", PATIENCE_SECONDS)
        after = used()
        seconds = time.monotonic() - began
        daemons = [(end - start) / seconds for start, end in zip(before[0], after[0], strict=True)]
        return Run(
            checks_a_second=(self.orgs.answered - answered) / seconds,
            asked_a_second=self.count / self.interval_seconds,
            busiest=max(daemons),
            daemons=sum(daemons),
            server=(after[1] - before[1]) / seconds,
            machine=(after[2] - before[2]) / (after[3] - before[3]),
            late=tuple(login - due[name] for name, login in self.orgs.first.items() if name in due),
        )

    def _config(self, path: Path, database: str, server: Postgres | None) -> Path:
        options = {
            "listen": f"{HOST}:{free_port()}",
            "database": database,
            "interval": f"{self.interval_seconds}s",
            "login_budget_per_hour": 3600,
            "connections": [
                {
                    "name": name_of(number),
                    "login_url": f"{self.orgs.url}/{name_of(number)}",
                    "consumer_key": consumer_key_of(number),
                    "username": username_of(number),
                    # One key for all: loading a key costs more than ten checks.
                    "private_key": {"file": str(self.material.key(0))},
                    "after_login": False,
                    "audit": "off",
                }
                for number in range(self.count)
            ],
        }
        lines = (f"{name}: {json.dumps(value).strip(chr(34))}\n" for name, value in options.items())
        path.write_text("".join(lines))
        return path


def _check_before(config: Path) -> None:
    """Store a granted check of each connection, as the fleet was watched before."""
    settings, now = load(config, os.environ), datetime.now(UTC)
    ago = max(0.0, CHECKED_BEFORE_SECONDS - len(settings.connections) / 1_000)
    before = now - timedelta(seconds=ago)
    granted = Exchange(before, Granted("opaque", None, None, None, None), duration_seconds=0.01)
    with closing(Store.open(settings.database)) as store:
        for connection in settings.connections:
            known = begin(connection, before)
            store.save(
                connection.name,
                replace(
                    known,
                    exchanges=1,
                    last_exchange=granted,
                    last_verdict=granted,
                    first_success=before,
                    last_success=before,
                    state=State.HEALTHY,
                ),
            )
        if not store.flush(PATIENCE_SECONDS):
            raise RuntimeError(f"not written: {store.problem}")


def _due(server: Postgres, name: str, within: float) -> dict[str, float]:
    """Connections due within this many seconds, with due times (Unix time)."""
    rows = server.sql(
        "SELECT c.name, extract(epoch FROM d.due_at)::float, extract(epoch FROM now())::float"
        " FROM due d JOIN connections c ON c.id = d.connection_id",
        name,
    )
    dues = ((str(connection), float(str(at)), float(str(now))) for connection, at, now in rows)
    return {connection: at for connection, at, now in dues if now < at < now + within}


# CPU seconds of processes


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    """One process (proc(5): utime, stime)."""
    return sum(map(int, _stat(pid)[11:13])) / TICKS_A_SECOND


def _family(pid: int) -> float:
    """A process and its children, including ended ones (cutime, cstime)."""
    seconds = sum(map(int, _stat(pid)[11:15])) / TICKS_A_SECOND
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            child = int(place.parent.name)
            seconds += _cpu_seconds(child) if int(_stat(child)[1]) == pid else 0.0
        except OSError:  # just ended
            continue
    return seconds


def _machine() -> tuple[float, float]:
    """Used and total CPU time of all cores (user, nice, system, idle, iowait, …)."""
    ticks = [int(part) for part in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - sum(ticks[3:5])) / TICKS_A_SECOND, sum(ticks) / TICKS_A_SECOND


# The orgs


class Orgs:
    """A stub that grants and counts all logins."""

    def __init__(self) -> None:
        self.answered = 0
        self.first: dict[str, float] = {}
        """Each connection's first login, as Unix time."""
        self.url = ""

    async def serve(self, listening: threading.Event, done: asyncio.Event) -> None:
        """Serve until `done` is set."""
        server = await asyncio.get_running_loop().create_server(lambda: _Answer(self), HOST, 0)
        self.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        listening.set()
        await done.wait()
        server.close()


class _Answer(asyncio.Protocol):
    def __init__(self, orgs: Orgs) -> None:
        self._orgs = orgs
        self._received = b""
        body = json.dumps(
            {
                "access_token": "00D000000000001!" + "a" * 96,
                "instance_url": orgs.url,
                "id": f"{orgs.url}/id/00D000000000001EAA/005000000000001AAA",
                "scope": "api refresh_token",
                "token_type": "Bearer",
            }
        )
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
        self._answer = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:") and len(body) >= int(line.split(b":")[1]):
                self._transport.write(self._answer)
                self._transport.close()
                self._orgs.answered += 1
                self._orgs.first.setdefault(head.split(b"/", 2)[1].decode(), time.time())


@contextmanager
def answering() -> Iterator[Orgs]:
    """Serve the orgs in a thread until the block ends."""
    orgs, listening, done, loop = Orgs(), threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(orgs.serve(listening, done),))
    thread.start()
    listening.wait()
    try:
        yield orgs
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
