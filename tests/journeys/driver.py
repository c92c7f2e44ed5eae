"""Simulates months of connections in seconds: real exchanges with a simulator whose clock is advanced.

A journey goes from check to check like the daemon: each check gives the time of the next. The clock is
stopped during a check, as an assertion is only valid for three minutes.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import httpx

from monitor.config import load
from monitor.core.causes import Cause
from monitor.core.connection import Connection, Pair, Source, login_url_of
from monitor.core.finding import Finding, State
from monitor.core.history import Event, History
from monitor.core.status import ConnectionStatus
from monitor.salesforce.transport import Limits, rust_transport
from monitor.simulator.server import Simulator, running
from monitor.store import Store
from monitor.watch.clock import Clock
from monitor.watch.schedule import ManualSchedule
from monitor.watch.watch import Watch
from tests.journeys.keys import PairFiles, pair_files
from tests.journeys.wires import Weather, Wires
from tests.making import NOW

HALF_A_DAY = timedelta(hours=12)
"""The default interval; journeys in which minutes matter set a shorter one."""

BUDGET_PER_HOUR = 60


class TimeTold(Clock):
    """A clock that only the test advances."""

    def __init__(self, begin: datetime) -> None:
        super().__init__()
        self._moment = begin

    def machine(self) -> datetime:
        return self._moment

    def steady(self) -> float:
        return self._moment.timestamp()

    def advance(self, by: timedelta) -> None:
        assert by >= timedelta(0)
        self._moment += by


class Journey:
    """A fleet, its orgs, and the way through their time."""

    def __init__(self, folder: Path, simulator: str, clock: TimeTold, *, budget: int) -> None:
        self.clock = clock
        self._folder = folder
        self._simulator = simulator
        config = folder / "bearerwatch.yaml"
        config.write_text(f"login_budget_per_hour: {budget}\nconnections: []\n")
        self._settings = load(config, {})
        self.control = httpx.AsyncClient(base_url=simulator, trust_env=False)
        self._connections: dict[str, Connection] = {}
        self._clock_is_fast = timedelta(0)
        self._weather: dict[str, Weather] = {}
        self.travellers: dict[str, Traveller] = {}
        self._start()

    def _start(self) -> None:
        """What a process does that starts."""
        self.store = Store.open(self._settings.database)
        self._shown = _Shown(self)
        self._appointments = ManualSchedule()
        self.watch = Watch(
            self._settings,
            clock=self._shown,
            memory=self.store,
            scheduler=self._appointments,
            transport=self._wires,
        )

    def _wires(self, limits: Limits, ca_file: Path | None) -> httpx.AsyncBaseTransport:
        wires = Wires(rust_transport(limits, ca_file, {}), self._simulator)
        wires.weather = self._weather
        return wires

    async def close(self) -> None:
        await self._stop()
        await self.control.aclose()

    async def _stop(self) -> None:
        await self.watch.aclose()
        assert self.store.close(), self.store.problem

    async def restart(self, *, down_for: timedelta = timedelta(0)) -> None:
        """The process ends, and another one takes over from what the store has."""
        await self._stop()
        self.clock.advance(down_for)
        self._start()
        self._configure()

    def our_time(self) -> datetime:
        """What the monitor's own clock shows: the orgs' time, unless it goes wrong."""
        return self.clock.now() + self._clock_is_fast

    def its_time(self) -> datetime:
        """What the monitor takes for the time, by its own clock and the orgs' answers."""
        return self._shown.now()

    def our_clock_goes_wrong(self, by: timedelta) -> None:
        """From now on the monitor's own clock is fast by this much; slow where it is negative."""
        self._clock_is_fast = by

    # Who takes part

    async def enter(
        self,
        name: str,
        *,
        org: Mapping[str, object] | None = None,
        subdomain: str | None = None,
        files: PairFiles | None = None,
        uploaded: PairFiles | None = None,
        **options: Any,
    ) -> "Traveller":
        """Add a connection, and its org if missing; everything is right except for the given options.

        `files`: the connection's pair. `uploaded`: the app's pair, if different.
        """
        subdomain = subdomain or name
        files = files or pair_files()
        options = {
            "audience": login_url_of(subdomain),
            "consumer_key": f"3MVG9{name}",
            "username": f"integration@{name}.example",
            "interval": HALF_A_DAY,
            **options,
        }
        connection = Connection(
            name=name,
            login_url=login_url_of(subdomain),
            current=Pair(
                Source("file", str(self._folder / f"{name}.pem")),
                Source("file", str(self._folder / f"{name}-cert.pem")),
            ),
            **options,
        )
        traveller = self.travellers[name] = Traveller(self, connection, subdomain)
        traveller.write(files)
        if (await self.control.get(f"/_orgs/{subdomain}")).status_code == httpx.codes.NOT_FOUND:
            right = {
                "consumer_key": connection.consumer_key,
                "username": connection.username,
                "certificate": (uploaded or files).certificate.decode(),
            }
            made = await self.control.put(f"/_orgs/{subdomain}", json={**right, **(org or {})})
            assert made.status_code == httpx.codes.CREATED, made.text
        self.configure(connection)
        return traveller

    def configure(self, connection: Connection) -> None:
        """A new or changed connection is reloaded into the fleet."""
        self._connections[connection.name] = connection
        self._configure()

    def _configure(self) -> None:
        connections = tuple(self._connections.values())
        self.watch.configure(self._settings.model_copy(update={"connections": connections}))

    # How time passes

    async def at(self, **since_the_beginning: float) -> None:
        """Let time pass until so long after the beginning, with every check on the way."""
        await self._until(NOW + timedelta(**since_the_beginning))

    async def after(self, **from_now: float) -> None:
        """Let so much time pass, with every check on the way."""
        await self._until(self.clock.now() + timedelta(**from_now))

    async def _until(self, end: datetime) -> None:
        assert end >= self.clock.now(), "time does not go back"
        appointments = self._appointments.due
        while due := min(((at, name) for name, at in appointments.items()), default=None):
            at, name = due
            if at - (self.its_time() - self.clock.now()) > end:
                break
            self.clock.advance(max(timedelta(0), at - self.its_time()))
            after = await self.watch.check(name)
            assert after is not None, f"{name} has no next appointment"
            assert after > self.its_time(), f"{name} would be looked at without an end"
            appointments[name] = after
            status = self.watch.status(name)
            assert Cause.MONITOR_FAULT not in status.history.failures_by_cause, status.findings
        self.clock.advance(end - self.clock.now())

    def weather(self, weather: Weather | None, *hosts: str) -> None:
        """Let it be so on the way to these hosts, by these methods, or to all; None lets it be fine."""
        for host in hosts or ("",):
            if weather is None:
                self._weather.pop(host, None)
            else:
                self._weather[host] = weather


class _Shown(Clock):
    """The clock on the monitor's wall."""

    def __init__(self, journey: Journey) -> None:
        super().__init__()
        self._journey = journey

    def machine(self) -> datetime:
        return self._journey.our_time()

    def steady(self) -> float:
        return self._journey.clock.steady()


class Traveller:
    """One connection on its journey, and the org that it leads to."""

    def __init__(self, journey: Journey, connection: Connection, subdomain: str) -> None:
        self.journey = journey
        self.connection = connection
        self.subdomain = subdomain
        self.next_pair = 0

    # What happens to it

    async def org(self, **settings: object) -> Self:
        """An admin changes something in the org."""
        done = await self.journey.control.patch(f"/_orgs/{self.subdomain}", json=settings)
        assert done.status_code == httpx.codes.OK, done.text
        return self

    async def approve(self) -> Self:
        """An admin reassigns the permission set, which makes a new approval."""
        return await self.org(permission_set_assigned=True)

    async def upload(self, pair: PairFiles) -> Self:
        """An admin uploads another certificate to the app."""
        return await self.org(certificate=pair.certificate.decode())

    async def refresh(self, **options: object) -> Self:
        """The sandbox is refreshed."""
        done = await self.journey.control.post(f"/_orgs/{self.subdomain}/refresh", json=options)
        assert done.status_code == httpx.codes.OK, done.text
        return self

    async def reconfigure(self, **options: Any) -> Self:
        """The operator changes the connection's configuration, and the daemon reloads it."""
        self.connection = replace(self.connection, **options)
        self.journey.configure(self.connection)
        return self

    async def replace_key(self, files: PairFiles) -> Self:
        """The operator puts other files where the old ones were, and the daemon notices."""
        self.write(files)
        self.journey.watch.look_at_changed_keys()
        return self

    async def open_key_file(self) -> None:
        """The operator lets everybody on the machine read the key, and the daemon notices."""
        Path(self.connection.current.private_key.place).chmod(0o644)
        self.journey.watch.look_at_changed_keys()

    async def prepare(self, files: PairFiles) -> Self:
        """The operator configures a pair to rotate to."""
        self.next_pair += 1
        key, certificate = (
            Source("file", self.connection.current.private_key.place.removesuffix(".pem") + ending)
            for ending in (f"-{self.next_pair}.pem", f"-{self.next_pair}-cert.pem")
        )
        self.write(files, Pair(key, certificate))
        return await self.reconfigure(next=Pair(key, certificate))

    async def make_current(self) -> Self:
        """The operator lets the next pair be the current one."""
        return await self.reconfigure(current=self.connection.next, next=None)

    def write(self, files: PairFiles, pair: Pair | None = None) -> None:
        pair = pair or self.connection.current
        assert pair.certificate is not None
        for place, content in (
            (pair.private_key.place, files.private_key),
            (pair.certificate.place, files.certificate),
        ):
            # Put in place as a whole, as deployments do.
            fresh = Path(f"{place}.new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(content)
            fresh.rename(place)

    # What is known of it

    @property
    def status(self) -> ConnectionStatus:
        """As a reader of the Snapshot sees it."""
        return self.journey.watch.status(self.connection.name)

    @property
    def history(self) -> History:
        return self.status.history

    @property
    def state(self) -> State:
        return self.status.state

    @property
    def causes(self) -> list[Cause]:
        """The current findings, the cause of the state first."""
        return [finding.cause for finding in self.status.findings]

    @property
    def alternatives(self) -> list[Cause]:
        return [alternative.cause for alternative in self.history.alternatives]

    def finding(self, cause: Cause) -> Finding:
        """The current finding of a cause."""
        (found,) = (finding for finding in self.status.findings if finding.cause is cause)
        return found

    def events(self) -> list[Event]:
        """What the store has written down, oldest first."""
        self.journey.store.flush()
        return [event for _, event in reversed(self.journey.store.events(self.connection.name, 1000))]

    async def logins(self) -> list[tuple[timedelta, str]]:
        """The org's login history: times since the start of the journey, and statuses.

        It shows what actually reached the org.
        """
        answer = await self.journey.control.get(f"/_orgs/{self.subdomain}/logins")
        return [(datetime.fromisoformat(row["time"]) - NOW, row["status"]) for row in answer.json()]


def gaps(moments: Iterable[timedelta]) -> list[timedelta]:
    """How long it was from each of these moments to the next."""
    listed = list(moments)
    return [later - earlier for earlier, later in pairwise(listed)]


@asynccontextmanager
async def setting_out(folder: Path, *, budget: int = BUDGET_PER_HOUR) -> AsyncIterator[Journey]:
    """A journey that begins at NOW, in its folder."""
    clock = TimeTold(NOW)
    with running(Simulator(clock=clock.now)) as url:
        journey = Journey(folder, url, clock, budget=budget)
        try:
            yield journey
        finally:
            await journey.close()
