"""The product without Salesforce: simulated orgs for a configuration (`simulate`), and the whole (`demo`).

The demo simulates a period of STORY: daemon and orgs share a clock that is advanced by half a day at a time,
between checks. Then time continues normally, and the page stays up.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import yaml

from monitor.config import Address, Settings, load
from monitor.config.cautions import named
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import LOOPBACK_HOSTS, Connection, Pair, Source
from monitor.core.finding import State
from monitor.daemon.daemon import Daemon
from monitor.keys import SourceError, keygen
from monitor.keys.sources import read
from monitor.simulator.scenarios import SCENARIOS, Keys, Scenario, Step, make_keys
from monitor.simulator.server import Simulator, is_loopback, running, serve
from monitor.store import Store
from monitor.watch.clock import Clock
from monitor.watch.schedule import ManualSchedule
from monitor.watch.watch import Watch
from monitor.web.connections import listen

STORY = timedelta(days=84)
"""The simulated period: twelve weeks, in three quarters of a minute."""

STRIDE = timedelta(hours=12)
"""How far the clock is advanced at a time."""

INTERVAL = timedelta(hours=9)
"""The demo's check interval. A late check replaces one up to a quarter of an interval later, so the next is
at most 11¼ h away: each stride has one."""

STRIDES_A_SECOND = 4
"""The demo's speed, if the machine keeps up."""

FIRST_LOOKS = timedelta(seconds=10)
"""Checks due this soon after the start run before the simulated period, to show the initial states."""

REAL_TIME_STEP_SECONDS = 0.5
"""How late a check may be in real time."""

LAST = frozenset({Cause.PROPAGATION_PENDING})
"""Causes that last only minutes: they begin at the end of the simulated period."""

WELL = ("acme-production", "globex-production", "initech-sandbox")
"""Healthy connections, to show on the page."""

CUSTOMERS = ("acme", "globex", "initech", "umbrella", "hooli")
TIERS = ("gold", "silver")
"""Labels to filter by, assigned in turn."""

BROKE_DAYS_AGO = {
    Cause.APP_BLOCKED: 2.5,
    Cause.CLIENT_INVALID: 4,
    Cause.IP_RESTRICTED: 6,
    Cause.USER_INACTIVE: 10,
    Cause.FLOW_DISABLED: 13,
    Cause.SALESFORCE_UNAVAILABLE: 16,
    Cause.JWT_ACCESS_TOKEN: 19,
    Cause.API_DISABLED: 24,
    Cause.USER_NOT_ADMIN_APPROVED: 31,
    Cause.ORG_INACTIVE: 45,
    Cause.SCOPE_MISSING: 60,
}
"""Days before the end at which a healthy org becomes the scenario's, for causes that may follow success:
recent faults next to old ones, as in any fleet. Other causes are present from the first day."""

APPROVAL_LIVES = timedelta(days=27)
APPROVED_EVERY = timedelta(days=28)
"""The approval decays three times, and is repaired twice: so its lifetime is learnt and the last decay is
forecast. At the end of the period, the last decay is some hours old."""

Say = Callable[[str], None]


def simulate(settings: Settings | None, *, host: str, port: int, speed: float, say: Say) -> None:
    """Serve orgs until a signal: one for each configured connection that points to this address."""
    simulator = Simulator(speed=speed)
    elsewhere = []
    for connection in settings.connections if settings else ():
        address = urlsplit(connection.login_url)
        if address.hostname in LOOPBACK_HOSTS and address.port == port:
            name = address.path.strip("/")
            simulator.put(name, _org_of(connection))
            say(f"Created org {name} for connection {connection.name}.")
        else:
            elsewhere.append(connection.name)
    if elsewhere:
        say(f"No org for {named(elsewhere)}: login_url is not http://127.0.0.1:{port}/NAME.")
    if not is_loopback(host):
        say(f"Warning: anyone who can reach {host} can read and change the orgs; there is no password.")
    asyncio.run(serve(simulator, host=host, port=port, ready=lambda url: say(f"The simulator is at {url}")))


def _org_of(connection: Connection) -> dict[str, object]:
    """An org that grants the connection's requests. Creates missing keys."""
    certificates = [_certificate_of(pair) for pair in connection.pairs]
    return {
        "consumer_key": connection.consumer_key,
        "username": connection.username,
        "certificate": certificates[0],
    }


def _certificate_of(pair: Pair) -> str | None:
    """The certificate to upload to the org, by default that beside the key. Creates missing files."""
    key = Path(pair.private_key.place)
    source = pair.certificate or Source("file", str(key.with_name(f"{key.stem}-cert.pem")))
    if pair.private_key.kind == "file" and not key.exists():
        with suppress(OSError):  # creating the key reports the error
            key.parent.mkdir(parents=True, exist_ok=True)
        keygen.generate(
            key.parent, now=datetime.now(UTC), key_name=key.name, certificate_name=Path(source.place).name
        )
    try:
        return read(source, {}).decode()
    except (SourceError, UnicodeDecodeError):
        return None


def _roles() -> Iterable[Scenario]:
    """The demo's connections: org, keys and steps."""
    for name in WELL:
        org_type = "sandbox" if name.endswith("-sandbox") else "production"
        labels = {"customer": name.partition("-")[0], "tier": TIERS[0]}
        yield Scenario(None, {"org_type": org_type}, {"labels": labels}, called=name)
    for turn, scenario in enumerate(SCENARIOS):
        org, steps = _story(scenario)
        labels = {"customer": CUSTOMERS[turn % len(CUSTOMERS)], "tier": TIERS[turn % len(TIERS)]}
        yield replace(scenario, org=org, steps=steps, connection={"labels": labels, **scenario.connection})


def _story(scenario: Scenario) -> tuple[Mapping[str, object], tuple[Step, ...]]:
    """A scenario's initial org, and the steps that bring about its cause by the end of the period."""
    org = scenario.org
    if scenario.cause == Cause.APPROVAL_DECAYED:
        mended = {"permission_set_assigned": True}
        steps = tuple(Step(APPROVED_EVERY * turn, "patch", mended) for turn in (1, 2))
        return {**org, "refresh_token_validity_seconds": int(APPROVAL_LIVES.total_seconds())}, steps
    if scenario.cause and (days := BROKE_DAYS_AGO.get(Cause(scenario.cause))):
        return {}, (Step(STORY - timedelta(days=days), "patch", org),)
    late = STORY - scenario.stands_after - timedelta(days=2)
    return org, tuple(Step(late + step.after, step.does, step.values) for step in scenario.steps)


class StoryClock(Clock):
    """The wall clock plus the simulated time."""

    ahead = timedelta(0)

    def machine(self) -> datetime:
        """The simulated time."""
        return super().machine() + self.ahead

    def steady(self) -> float:
        """The same in seconds."""
        return super().steady() + self.ahead.total_seconds()


@dataclass
class _Demo:
    """Simulator and daemon together, in a temporary folder."""

    folder: Path
    url: str
    """Of the simulator."""
    clock: StoryClock
    port: int
    at_once: bool
    say: Say
    connections: list[dict[str, object]] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    appointments: ManualSchedule = field(default_factory=ManualSchedule)
    in_real_time: bool = False

    async def run(self) -> None:
        """Run the simulated period, then continue in real time until a signal."""
        listen(Address("127.0.0.1", self.port)).close()  # report a port in use first
        roles = list(_roles())
        self.say(f"{len(roles)} connections to simulated orgs: one for each cause, and a few healthy ones.")
        last = [role for role in roles if role.cause in LAST]
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as orgs:
            for role in roles:
                if role not in last:
                    await self._enter(role, orgs)
            config = self._write_configuration()
            settings = load(config, {})
            store = await asyncio.to_thread(Store.open, settings.database)
            daemon = Daemon(config, settings, clock=self.clock, store=store, scheduler=self.appointments)
            living = asyncio.create_task(daemon.run())
            telling = asyncio.create_task(self._tell(daemon, roles, last, orgs))
            await asyncio.wait([living, telling], return_when=asyncio.FIRST_COMPLETED)
            if not living.done():
                telling.result()
            telling.cancel()
            await living

    async def _enter(self, role: Scenario, orgs: httpx.AsyncClient) -> None:
        """Create the role's org and key files, and add its connection to the configuration."""
        dated = role.keys in {Keys.EXPIRING, Keys.EXPIRED, Keys.NOT_YET_VALID}
        began = self.clock.now() - self.clock.ahead
        files = make_keys(role.keys, began + STORY if dated else began)
        key, certificate = self.folder / f"{role.name}.pem", self.folder / f"{role.name}-cert.pem"
        key.touch(mode=0o600)
        key.write_bytes(files.private_key)
        certificate.write_bytes(files.certificate)
        (await orgs.put(f"/_orgs/{role.name}", json=role.settings(files))).raise_for_status()
        pair = {"private_key": {"file": str(key)}, "certificate": {"file": str(certificate)}}
        self.connections.append({"name": role.name, **role.options(self.url), **pair})

    def _write_configuration(self) -> Path:
        hosts = {str(urlsplit(str(options["login_url"])).hostname) for options in self.connections}
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "database": str(self.folder / "bearerwatch.db"),
            "interval": f"{INTERVAL // timedelta(hours=1)}h",
            "allowed_hosts": sorted(hosts - LOOPBACK_HOSTS),
            "connections": self.connections,
        }
        config = self.folder / "bearerwatch.yaml"
        config.write_text(yaml.safe_dump(settings, sort_keys=False))
        return config

    async def _tell(
        self, daemon: Daemon, roles: list[Scenario], last: list[Scenario], orgs: httpx.AsyncClient
    ) -> None:
        page = f"http://127.0.0.1:{self.port}"
        await daemon.listening.wait()
        self.say(
            f"\n  Status page   {page}/"
            f"\n  JSON          {page}/api/status"
            f"\n  Metrics       {page}/metrics"
            f"\n\n{STORY // timedelta(weeks=1)} weeks pass"
            + ("" if self.at_once else f" in {STORY / STRIDE / STRIDES_A_SECOND:.0f} seconds")
            + ". Ctrl-C ends the demo and removes its files.\n"
        )
        steps = sorted(
            ((step.after, role.name, step) for role in roles for step in role.steps), key=lambda due: due[:2]
        )
        passed = timedelta(0)
        await self._check_due(daemon.watch, self.clock.now() + FIRST_LOOKS)
        while passed < STORY:
            breath = asyncio.create_task(asyncio.sleep(0 if self.at_once else 1 / STRIDES_A_SECOND))
            # Only while no check is running: an assertion in flight would expire.
            self.clock.ahead += STRIDE
            passed += STRIDE
            await self._check_due(daemon.watch, self.clock.now())
            while steps and steps[0][0] <= passed:
                _, name, step = steps.pop(0)
                method, path = {"patch": ("PATCH", ""), "refresh": ("POST", "/refresh")}[step.does]
                done = await orgs.request(method, f"/_orgs/{name}{path}", json=dict(step.values))
                done.raise_for_status()
            self._narrate(daemon, passed)
            await breath
        for role in last:
            await self._enter(role, orgs)
        self._write_configuration()
        await daemon.reload()
        self.say(
            "\nThe simulated weeks are over; the clock now runs in real time. Where to look first:\n"
            f"\n  {page}/connections/approval-decayed   an approval that ages out every four weeks"
            f"\n  {page}/?responsible=operator          what the operator has to fix"
        )
        self.in_real_time = True
        while True:
            await self._check_due(daemon.watch, self.clock.now())
            await asyncio.sleep(REAL_TIME_STEP_SECONDS)

    async def _check_due(self, watch: Watch, moment: datetime) -> None:
        """Run the checks due by then, with the configured concurrency."""

        async def look(name: str) -> None:
            due = appointments.pop(name)
            if self.in_real_time:  # before, checks are late by part of a stride
                watch.own.schedule_delay.observe(max(0.0, (self.clock.now() - due).total_seconds()))
            if following := await watch.check(name):
                appointments[name] = min(following, appointments.get(name, following))

        appointments = self.appointments.due
        await asyncio.gather(*(look(name) for name, due in list(appointments.items()) if due <= moment))

    def _narrate(self, daemon: Daemon, passed: timedelta) -> None:
        for status in daemon.watch.snapshot().connections:
            before = self.states.get(status.name)
            if before and before is not status.state and State.UNKNOWN not in {before, status.state}:
                why = CATALOGUE[status.findings[0].cause].title if status.findings else "Healthy"
                self.say(f"day {passed.days:2}  {status.name:23} {status.state:9} {why}")
            self.states[status.name] = status.state


def demo(*, port: int, at_once: bool, say: Say) -> None:
    """Run the demo until a signal; `at_once`: simulate as fast as possible."""
    clock = StoryClock()
    with (
        tempfile.TemporaryDirectory(prefix="bearerwatch-demo-") as folder,
        running(Simulator(clock=clock.now)) as url,
    ):
        asyncio.run(_Demo(Path(folder), url, clock, port, at_once, say).run())
    say("\nThe demo is over.")
