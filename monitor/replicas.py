"""Appointments that several replicas keep together: the same daemon on many machines, over one PostgreSQL.

It stands in for `schedule`, and has its manners. Once a second it has a word with the database: says that it
lives, takes what is due, hears what the others found. What it took is checked on what is remembered there,
not here; the result is written with the next appointment, unless another replica has taken over meanwhile.

While the database is away, what was taken before goes on for as long as nobody else can have taken it over;
then nothing is checked, and connections whose turn has passed are of unknown state.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from monitor.check import Checker
from monitor.clock import Clock
from monitor.config import Settings
from monitor.core import rotation
from monitor.core.connection import Connection
from monitor.core.history import Event, History, configuration_fingerprint
from monitor.core.status import ReplicasStatus
from monitor.fleet import Fleet
from monitor.metrics import OwnMetrics
from monitor.store import Store, StoreError
from monitor.store.appointments import ALIVE_SECONDS, Appointments, Configured, Heard, Taken, Word
from monitor.store.waiting import Turn, milliseconds

WORD_SECONDS = 1.0
"""Between two words to the database: how late a check may be, and how old what others found."""

BUSY_WORD_SECONDS = 0.05
"""The same while more is due than we could take."""

SURE_SECONDS = ALIVE_SECONDS - 3
"""For so long after a word a check may be begun: its login is at the org before anybody else can have
taken it over. That takes milliseconds, or seconds on a machine that has no time for us."""

RECONCILE_SECONDS = 30.0
"""How often appointments are compared with the configuration."""

UNWATCHED = timedelta(seconds=60)
"""So long after its turn a connection that nobody can look at is of unknown state: longer than a check, and
than it takes another replica to take it over."""

log = structlog.get_logger()


def awake() -> float:
    """Seconds that go on while this process, or the whole machine, is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Replica:
    """Keeps appointments together with others; must be made and used inside a running event loop."""

    def __init__(
        self,
        appointments: Appointments,
        me: str,
        *,
        fleet: Fleet,
        store: Store,
        clock: Clock,
        at_once: int,
        own: OwnMetrics,
        awake: Callable[[], float] = awake,
    ) -> None:
        self._appointments = appointments
        self._me = me
        self._fleet = fleet
        self._store = store
        self._clock = clock
        self._at_once = at_once
        self._own = own
        self._awake = awake
        self._budget_per_hour = 0
        self._configuration = ""
        self._configured: dict[str, Configured] = {}
        self._wanted: dict[str, datetime] = {}
        self._given_back: dict[str, Turn] = {}
        self._due: asyncio.Queue[Taken | None] = asyncio.Queue()
        self._busy: set[str] = set()
        """Taken, and waiting for their check or in it."""
        self._settled: set[str] = set()
        """Checked, and perhaps yet to be written."""
        self._results: dict[str, tuple[History, tuple[Event, ...]] | None] = {}
        """What is found in the checks under way."""
        self._news: dict[str, tuple[History, datetime]] = {}
        self._wake = asyncio.Event()
        self._heard_of = asyncio.Event()
        self._sure_until = 0.0
        self._steady_since: float | None = None
        self._reconciled = 0.0
        self._stopping = False
        self._some_unwatched = False
        self._problem: str | None = None
        self._status: ReplicasStatus | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(1, "appointments")

    @property
    def running(self) -> bool:
        """Whether appointments are kept."""
        return bool(self._tasks) and all(not task.done() for task in self._tasks)

    @property
    def problem(self) -> str | None:
        """Why the last word to the database was in vain; None where it was not."""
        return self._problem

    @property
    def status(self) -> ReplicasStatus | None:
        """What is known of the replicas; None before the first word."""
        return self._status

    @property
    def sure(self) -> bool:
        """Whether nobody else can take over what we hold before a check that begins now is made."""
        return self._awake() < self._sure_until

    @property
    def leads(self) -> bool:
        """Whether this is the one replica that does what must be done once."""
        return self.sure and self._status is not None and self._status.leads

    @property
    def idle(self) -> bool:
        """Whether nothing is due and no check is under way."""
        return not self._busy

    checker: Checker
    """Makes the checks; is to be there before the start."""

    def start(self) -> None:
        """Begin to keep appointments."""
        self._tasks = [
            asyncio.create_task(self._talk()),
            asyncio.create_task(self._follow()),
            *(asyncio.create_task(self._work()) for _ in range(self._at_once)),
        ]

    def at(self, name: str, moment: datetime) -> None:
        """Let the connection be checked at the latest then; by whoever is free."""
        self._wanted[name] = moment
        self._reconciled = 0.0
        self._wake.set()

    def cancel(self, name: str) -> None:
        """Let the connection's appointment go, once no replica wants it."""
        self._wanted.pop(name, None)
        self._reconciled = 0.0

    def keep(self, name: str, history: History, events: tuple[Event, ...]) -> None:
        """Note what a check found; it is written when the check is over.

        Outside of one nothing is noted: what a configuration brings is told by the check that follows, on
        what is remembered then.
        """
        if name in self._results:
            _, before = self._results[name] or (history, ())
            self._results[name] = (history, before + events)

    def take(self, username: str, now: datetime) -> datetime | None:
        """The login budget: a login came with the turn. Gives a later moment where the turn may be over."""
        return None if self.sure else now + timedelta(seconds=ALIVE_SECONDS)

    async def take_next_key(self, username: str, _now: datetime) -> bool:
        """The budget for tries of next keys; while the database is away nobody knows what is left of it."""
        try:
            taken = self.sure and await asyncio.get_running_loop().run_in_executor(
                self._thread, self._appointments.take_next_key, username, rotation.LOGINS_PER_HOUR
            )
        except StoreError:
            return False  # the next word fails, too, and says it
        return taken and self.sure  # the word may have taken long

    async def stop(self, within_seconds: float) -> None:
        """Make no more checks, wait for those under way, but not longer than this; give back what is held."""
        self._stopping = True
        self._wake.set()
        talk, follow, *workers = self._tasks or (None, None)
        while not self._due.empty():
            self._due.get_nowait()
        for _ in workers:
            self._due.put_nowait(None)
        if workers:
            _, late = await asyncio.wait([task for task in workers if task], timeout=within_seconds)
            for worker in late:
                worker.cancel()
        for task in (talk, follow):
            if task:
                task.cancel()
                await asyncio.wait([task])
        self._tasks = []
        if self._problem is None:  # else whoever is there notices in time, and nobody waits for a stop
            await asyncio.to_thread(self._store.flush)
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._appointments.leave)
            except StoreError as error:
                log.warning("replica_not_signed_off", problem=str(error))
        self._thread.shutdown(wait=False)

    # The word with the database

    async def _talk(self) -> None:
        while not self._stopping:
            self._wake.clear()
            full = False
            try:
                full = await self._word()
            except StoreError as error:
                self._away(str(error))
            except Exception:  # the net of this task: there is nobody above it to try again
                log.exception("appointments_failed")
                self._away("The monitor failed to keep its appointments by a fault of its own.")
            self._mark_unwatched()
            if full:
                await asyncio.sleep(BUSY_WORD_SECONDS)
            else:
                try:
                    async with asyncio.timeout(WORD_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _word(self) -> bool:
        """One word. Whether there may be more to take."""
        begun = self._awake()
        self._settled = self._store.unwritten(self._settled)
        room = 0 if self._stopping else max(0, 2 * self._at_once - len(self._busy))
        wanted, self._wanted = self._wanted, {}
        given_back, self._given_back = self._given_back, {}
        reconcile = begun - self._reconciled >= RECONCILE_SECONDS
        steady = self._steady_since is not None and begun - self._steady_since >= ALIVE_SECONDS
        word = Word(
            self._configuration,
            self._configured,
            self._budget_per_hour,
            wanted=wanted,
            sooner=self._status is not None,
            busy=self._busy | self._settled,
            given_back=given_back,
            room=room,
            judges=steady,
            reconcile=reconcile,
        )
        try:
            heard = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._appointments.say, word
            )
        except BaseException:
            self._wanted = wanted | self._wanted
            self._given_back = given_back | self._given_back
            raise
        if reconcile:
            self._reconciled = begun
        if self._steady_since is None:
            self._steady_since = begun
        if self._problem:
            log.info("appointments_recovered")
            await asyncio.to_thread(self._store.flush, 0.0)  # what waited is written without its next turn
        self._problem = None
        if not self.sure:
            self._let_go()
        self._sure_until = begun + SURE_SECONDS
        self._take_in(heard, begun)
        return room > 0 and len(heard.taken) + heard.deferred >= room

    def _take_in(self, heard: Heard, begun: float) -> None:
        before = self._status
        self._status = ReplicasStatus(
            alive=len(heard.alive),
            configurations=heard.configurations,
            scheduled=before.scheduled if before and heard.scheduled is None else heard.scheduled or 0,
            leads=heard.alive[:1] == (self._me,),
            reachable=True,
        )
        self._own.logins_deferred.inc(heard.deferred)
        for name, news in heard.news.items():
            self._store.heard(name, news.history)
            if name in self._fleet and name not in self._busy:
                self._news[name] = (news.history, news.due)
        if self._news:
            self._heard_of.set()
        for taken in heard.taken:
            self._news.pop(taken.name, None)
            self._busy.add(taken.name)
            self._due.put_nowait(taken)

    def _let_go(self) -> None:
        """What waits here for its check may be another's by now; whoever holds it takes it once more."""
        while not (self._stopping or self._due.empty()):
            if taken := self._due.get_nowait():
                self._busy.discard(taken.name)

    def _away(self, problem: str) -> None:
        self._steady_since = None
        if self._status:
            self._status = replace(self._status, reachable=False)
        if problem != self._problem:
            log.error("appointments_failing", problem=problem)
        self._problem = problem

    def _mark_unwatched(self) -> None:
        """While the database is away nobody may look at what has come due; when it is back somebody will."""
        now, sure = self._clock.now(), self.sure
        if sure and not self._some_unwatched:
            return
        self._some_unwatched = not sure
        for status in self._fleet.statuses():
            late = status.next_exchange is not None and now - status.next_exchange > UNWATCHED
            if status.unwatched != (unwatched := late and not sure):
                self._fleet.put(replace(status, unwatched=unwatched))

    # What others found

    async def _follow(self) -> None:
        while True:
            await self._heard_of.wait()
            self._heard_of.clear()
            while self._news:
                name = next(iter(self._news))
                history, due = self._news.pop(name)
                if name in self._fleet and name not in self._busy:
                    try:
                        await self.checker.heard(name, history, due)
                    except Exception:  # the net: what can't be shown of one must not hide the others
                        log.exception("news_failed", connection=name)

    # Checks

    async def _work(self) -> None:
        while (taken := await self._due.get()) is not None:
            try:
                await self._keep_appointment(taken)
            finally:
                self._busy.discard(taken.name)
                if self._due.qsize() <= self._at_once // 2:
                    self._wake.set()

    async def _keep_appointment(self, taken: Taken) -> None:
        name = taken.name
        if not self.sure or name not in self._fleet:
            return  # whoever is alive takes it over; perhaps we
        self._own.schedule_delay.observe(max(0.0, (datetime.now(UTC) - taken.due).total_seconds()))
        self._results[name] = None
        try:
            self.checker.taken_over(name, taken.known, taken.due)
            following = await self.checker.check(name)
        finally:
            result = self._results.pop(name)
        turn = Turn(taken.epoch, milliseconds(following or self._clock.now()), self._me)
        if result is None:
            self._given_back[name] = turn  # it is paused or gone since
        else:
            self._settled.add(name)
            self._store.save(name, *result, turn)

    def configure(self, settings: Settings) -> None:
        """Take on a configuration; must come before its appointments are made."""
        self._configuration = fingerprint(settings)
        # Here, as a word comes up to 20 times a second and 10,000 fingerprints take 25 ms.
        self._configured = {
            connection.name: _configured(connection)
            for connection in settings.connections
            if not connection.paused
        }
        self._budget_per_hour = settings.login_budget_per_hour


def new_name() -> str:
    """A name that no other replica has."""
    return secrets.token_hex(8)


def fingerprint(settings: Settings) -> str:
    """Tells what is watched, and how, from what another replica watches; where each listens is its own."""
    watched = (settings.login_budget_per_hour, settings.connections)
    return hashlib.sha256(repr(watched).encode()).hexdigest()[:16]


def _configured(connection: Connection) -> Configured:
    return Configured(configuration_fingerprint(connection), connection.username)
