"""A guided rotation: the next pair, what to do with it, and a look now and then until the org takes it.

Where a rotation stands is read from what is there (the files, the configuration, what the org answers), so it
may be stopped at any point and started again.
"""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from monitor import keygen
from monitor.check import LoginBudget
from monitor.clock import Clock
from monitor.config import ConfigError, Settings, load
from monitor.config.editing import EditError, with_next, with_next_current
from monitor.core import history, rotation
from monitor.core.assertion import sign
from monitor.core.connection import Connection, Pair, Source
from monitor.core.credential import Credential
from monitor.core.diagnosis import diagnose
from monitor.core.evidence import UNKNOWN_PAST
from monitor.core.finding import Diagnosis
from monitor.core.history import STAGES, History, Stage
from monitor.core.outcome import Exchange, Granted, NotSent
from monitor.exchange import Exchanger, Limits
from monitor.secret_sources import Keyring, describe

PACE = timedelta(minutes=1)
"""Between two looks at first: a certificate takes 2 to 10 minutes to spread (setup guide, step 2)."""

AT_FIRST = timedelta(minutes=20)

LATER_PACE = timedelta(minutes=5)
"""After that: most likely nobody has uploaded it yet, and each look is a refused login."""

LONGEST = timedelta(hours=2)
"""After that somebody goes on another day: it takes up where it stopped."""

TICK_SECONDS = 0.25
"""How often it is seen whether the next look is due, or somebody wants to stop."""

FRESH = timedelta(days=1)
"""A current certificate that is younger was just rotated to: to run the command again begins no other one."""

NUMBERED = re.compile(r"(.+)-(\d{1,3})")
"""The name of a key that came by a rotation, without its ending."""

Say = Callable[[str], None]


class RotateError(Exception):
    """The rotation can't begin or go on; the message says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the person wants of a pair that is to be made."""

    out: Path | None = None
    days: int = 3650
    bits: int = 2048


@dataclass(frozen=True, slots=True)
class Look:
    """What one look came to."""

    at: datetime
    stage: Stage
    verdict: Diagnosis
    """On the next key."""
    current: bool | None
    """Whether the current key is accepted; None where that is not known."""

    @property
    def accepted(self) -> bool:
        """Whether the integration should use the next key."""
        return self.stage in {Stage.ACCEPTED, Stage.CURRENT_REFUSED}

    def told(self) -> str:
        """One line for a person."""
        if self.accepted:
            return "The next key is accepted."
        if self.verdict.cause in rotation.REFUSED_SIGNATURES:
            return "The next key is not accepted yet."
        if self.verdict.cause is None:
            return "The next key is accepted here and there: its certificate is spreading."
        said = self.verdict.findings[0].evidence[:1]
        return " ".join(("No word on the next key:", self.verdict.cause, *said))


# The pair


def next_pair(connection: Connection, out: Path | None) -> Pair:
    """The configured pair to rotate to, else the files for it: beside the current ones, or in `out`.

    `acme.pem` is followed by `acme-2.pem`, that by `acme-3.pem`. Raises RotateError.
    """
    if connection.next:
        return connection.next
    source = connection.current.private_key
    if source.kind != "file" and out is None:
        raise RotateError(
            f"The current key is {describe(source)}, so there is no directory to put the next one beside it:"
            " name one with --out."
        )
    current = Path(source.place if source.kind == "file" else connection.name)
    ours = NUMBERED.fullmatch(current.stem)
    stem, number = (ours[1], int(ours[2])) if ours else (current.stem, 1)
    place = (out.absolute() if out else current.parent) / f"{stem}-{number + 1}"
    return Pair(Source("file", f"{place}.pem"), Source("file", f"{place}-cert.pem"))


def make(connection: Connection, pair: Pair, options: Options, now: datetime) -> list[Path]:
    """Makes what is missing of the pair, and gives what was made. Raises RotateError and KeygenError."""
    if pair.private_key.kind != "file" or (pair.certificate and pair.certificate.kind != "file"):
        return []
    key = Path(pair.private_key.place)
    certificate = Path(pair.certificate.place) if pair.certificate else None
    if key.exists():
        return []
    if not key.parent.is_dir():
        raise RotateError(f"There is no directory {key.parent}: make it, or name another one with --out.")
    if certificate is None or certificate.exists():
        missing = (
            "has no certificate" if certificate is None else f"has the certificate {certificate} already"
        )
        raise RotateError(
            f"{key} does not exist, and the next pair {missing}: correct next in the configuration."
        )
    keygen.generate(
        key.parent,
        now=now,
        days=options.days,
        bits=options.bits,
        key_name=key.name,
        certificate_name=os.path.relpath(certificate, key.parent),
    )
    _own_as(connection.current.private_key, key, certificate)
    return [key, certificate]


def complete(pair: Pair, credential: Credential, options: Options, now: datetime) -> list[Path]:
    """Makes the certificate of a key whose making was interrupted before it. Raises KeygenError."""
    certificate = (
        Path(pair.certificate.place) if pair.certificate and pair.certificate.kind == "file" else None
    )
    if certificate is None or certificate.exists() or credential.key is None:
        return []
    keygen.certify(credential.key, certificate, now=now, days=options.days)
    return [certificate]


def _own_as(current: Source, *made: Path) -> None:
    """What root makes belongs to whom the current key belongs to, so that the daemon can read it."""
    if os.geteuid() != 0 or current.kind != "file" or not Path(current.place).exists():
        return
    owner = Path(current.place).stat()
    for path in made:
        os.chown(path, owner.st_uid, owner.st_gid)


# The configuration


def write_next(settings: Settings, name: str, pair: Pair, now: datetime) -> tuple[Path, Path]:
    """Writes the pair to rotate to into the configuration. Gives file and copy. Raises RotateError."""
    assert pair.certificate is not None
    places = (pair.private_key.place, pair.certificate.place)

    def edit(raw: bytes, folder: Path) -> bytes | None:
        key, certificate = places
        return with_next(raw, name, private_key=key, certificate=certificate, folder=str(folder))

    return _edit(settings, edit, now)


def write_current(settings: Settings, name: str, now: datetime) -> tuple[Path, Path]:
    """Makes the next pair the current one in the configuration. As above."""
    return _edit(settings, lambda raw, _: with_next_current(raw, name), now)


def lines(pair: Pair, *, following: bool) -> list[str]:
    """What to write into the configuration by hand: as the pair to rotate to, or as the current one."""
    sources = {"private_key": pair.private_key, "certificate": pair.certificate}
    options = [f"{key}: {{{each.kind}: {each.place}}}" for key, each in sources.items() if each]
    return ["next:", *(f"  {line}" for line in options)] if following else options


def _edit(
    settings: Settings, edit: Callable[[bytes, Path], bytes | None], now: datetime
) -> tuple[Path, Path]:
    for path in settings.files:
        try:
            made = edit(path.read_bytes(), path.parent)
        except EditError as problem:
            raise RotateError(f"{path} is not changed ({problem}): change it by hand.") from None
        if made is None:
            continue
        try:
            kept = _replace(path.resolve(), made, now)
        except OSError as problem:
            raise RotateError(f"{path} can't be written ({problem.strerror}): change it by hand.") from None
        try:
            load(settings.files[0], os.environ)
        except ConfigError as problem:
            kept.replace(path.resolve())
            raise RotateError(f"{path} is as it was, for this would be wrong:\n{problem}") from None
        return path, kept
    raise RotateError("The connection is in none of the files any more: start again.")


def _replace(path: Path, content: bytes, now: datetime) -> Path:
    """Puts the content in the file's place as a whole, and a copy beside it. Gives the copy.

    Both names begin with a dot: patterns of `connections_from` don't find them.
    """
    kept = path.with_name(f".{path.name}.before-{now:%Y%m%dT%H%M%SZ}")
    fresh = path.with_name(f".{path.name}.new")
    for place in (kept, fresh):
        shutil.copy2(path, place)
        if os.geteuid() == 0:
            os.chown(place, path.stat().st_uid, path.stat().st_gid)
    fresh.write_bytes(content)
    fresh.replace(path)
    return kept


# The look


class Watcher:
    """Looks at the next key of one connection, and at the current one where that tells more."""

    def __init__(self, connection: Connection, exchanger: Exchanger, clock: Clock, per_hour: int) -> None:
        self._connection = connection
        self._exchanger = exchanger
        self._clock = clock
        self._budget = LoginBudget(per_hour)
        self._history = history.begin(connection, clock.now())

    async def until_accepted(
        self,
        current: Credential,
        following: Credential,
        *,
        tell: Callable[[Look, datetime], None],
        stop: asyncio.Event,
    ) -> Look:
        """Look until the next key is accepted, it was long enough, or somebody stops. Gives the last look.

        `tell` is told of each look, and when the next one is.
        """
        stopping = asyncio.create_task(stop.wait())
        began = self._turn(self._clock.now())
        look = await self._look(current, following)
        while not (look.accepted or stop.is_set() or look.at - began >= LONGEST):
            due = self._turn(look.at + (PACE if look.at - began < AT_FIRST else LATER_PACE))
            tell(look, due)
            while self._clock.now() < due and not stop.is_set():  # by the clock that a rehearsal puts ahead
                await asyncio.wait([stopping], timeout=TICK_SECONDS)
            if not stop.is_set():
                look = await self._look(current, following)
        stopping.cancel()
        return look

    def _turn(self, at: datetime) -> datetime:
        """Take a login at this moment, or at the first one after it at which the budget has one."""
        while later := self._budget.take(self._connection.username, at):
            at = later
        return at

    async def _look(self, current: Credential, following: Credential) -> Look:
        connection, now = self._connection, self._clock.now()
        self._history = rotation.seen(self._history, connection, current.facts, following.facts, now)
        tried = await self._exchange(following)
        known = self._history.last_verdict is not None
        wanted = isinstance(tried.outcome, Granted) or not known
        left = wanted and self._budget.take(connection.username, now) is None
        asked = await self._exchange(current) if left else None
        advanced = rotation.advanced(
            self._history, connection, asked.outcome if asked else None, tried.outcome, now
        )
        if asked and rotation.proven(asked.outcome, connection) is not None:
            advanced = replace(advanced, last_verdict=asked)
        self._history = advanced
        assert advanced.rotation is not None
        return Look(now, advanced.rotation.stage, self._verdict(tried, following), self._taken(advanced))

    def _taken(self, known: History) -> bool | None:
        last = known.last_verdict
        return None if last is None else rotation.proven(last.outcome, self._connection)

    def _verdict(self, tried: Exchange, following: Credential) -> Diagnosis:
        unknown = history.begin(self._connection, UNKNOWN_PAST)
        return diagnose(tried, following.facts, self._connection, unknown, tried.at)

    async def _exchange(self, credential: Credential) -> Exchange:
        now = self._clock.now()
        if credential.key is None:
            return Exchange(now, NotSent("No usable private key."))
        return await self._exchanger.exchange(
            self._connection, partial(sign, self._connection, credential.key), after_login=False
        )


# The guide


def rotate(
    settings: Settings,
    connection: Connection,
    options: Options,
    *,
    write: bool,
    clock: Clock,
    say: Say,
    ask: Callable[[str], bool],
) -> Look | None:
    """Lead a person through the rotation of one connection, as far as it goes today.

    Gives the last look; None where there is nothing to rotate. Raises RotateError and KeygenError.
    """
    pair = next_pair(connection, options.out)
    rotating = replace(connection, next=pair)
    look = asyncio.run(_watched(settings, connection, rotating, options, write=write, clock=clock, say=say))
    if look is None:
        return None
    if not look.accepted:
        say(f"Stopped: the next key is not accepted yet. {AGAIN}")
        return look
    key = pair.private_key
    say(f"\n4. {STAGES[look.stage]}")
    if key.kind == "file":
        say(f"   The integration takes the new private key as one line: base64 -w 0 {key.place}")
    if look.current:
        say("   The current key is accepted still, but an app holds one certificate: don't wait.")
    if not write:
        say("\n5. When the integration uses it, make it the current one here as well. In the configuration:")
        for line in lines(pair, following=False):
            say(f"     {line}")
        say("   and take next out; or run this command again with --write.")
    elif ask("\n5. Does the integration use the next key now, so that it becomes the current one here?"):
        say(
            "   Done: {} has it; as it was before: {}".format(
                *write_current(settings, connection.name, clock.now())
            )
        )
    else:
        say(f"   Nothing is changed. {AGAIN}")
    return look


AGAIN = "Nothing is lost: run the same command again to go on from here."


async def _watched(
    settings: Settings,
    connection: Connection,
    rotating: Connection,
    options: Options,
    *,
    write: bool,
    clock: Clock,
    say: Say,
) -> Look | None:
    """The way from the pair to the last look; None where there is nothing to rotate."""
    pair, now = rotating.next, clock.now()
    assert pair is not None
    keyring = Keyring(os.environ)
    exchanger = Exchanger(
        limits=Limits(in_flight=1),
        ca_file=settings.ca_file,
        allowed_hosts=settings.allowed_hosts,
        clock=clock.now,
    )
    try:
        current = await keyring.load(connection.current)
        if _is_done(connection, pair, current, now):
            say("The current pair was made within a day: there is nothing to rotate.")
            say("To rotate all the same, make a pair (bearerwatch keygen) and name it under next.")
            return None
        made = make(connection, pair, options, now)
        following = await keyring.load(pair)
        if more := complete(pair, following, options, now):
            made += more
            following = await keyring.load(pair)
        _refuse_unusable(pair, current, following)
        say(f"1. The next pair {'is made' if made else 'is there'}:")
        say(f"     private key, to keep secret:  {_shown(pair.private_key)}")
        say(f"     certificate, to upload:       {_shown(pair.certificate)}")
        if connection.next:
            say("   The configuration names it under next.")
        elif write:
            said = write_next(settings, connection.name, pair, now)
            say("   {} names it under next now; as it was before: {}".format(*said))
        else:
            say("   For the daemon to watch it too, the configuration must name it (--write does that):")
            for line in lines(pair, following=True):
                say(f"     {line}")
        say(f"\n2. An admin of {connection.host} uploads the certificate (setup guide, step 2). For 2 to 10")
        say("   minutes either key may be refused then: best at a time when a pause does least harm.")
        say("     - In Setup, open External Client App Manager, select the app, and open the Settings tab.")
        say(f"     - Under Flow Enablement, upload {_shown(pair.certificate)} in place of the one there.")
        say("     - See that Enable JWT Bearer Flow is still checked, and click Save.")
        say("\n3. Watching until the org accepts it (Ctrl-C stops; it can be taken up again at any time):")
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        watcher = Watcher(rotating, exchanger, clock, settings.login_budget_per_hour)

        def tell(look: Look, due: datetime) -> None:
            say(f"   {look.at:%H:%M:%S}  {look.told()} Next look at {due:%H:%M:%S} UTC.")

        look = await watcher.until_accepted(current, following, tell=tell, stop=stop)
        if look.accepted:
            say(f"   {look.at:%H:%M:%S}  {look.told()}")
        return look
    finally:
        await exchanger.aclose()
        keyring.close()


def _is_done(connection: Connection, pair: Pair, current: Credential, now: datetime) -> bool:
    """Whether the current pair is that of a rotation that was just finished, and no other one has begun."""
    certificate = current.facts.certificate
    fresh = certificate is not None and now - certificate.not_before < FRESH
    ours = NUMBERED.fullmatch(Path(connection.current.private_key.place).stem)
    return bool(fresh and ours and not connection.next and not Path(pair.private_key.place).exists())


def _refuse_unusable(pair: Pair, current: Credential, following: Credential) -> None:
    problems = [problem.detail for problem in following.facts.problems]
    if following.key is None or following.facts.pairs is False:
        raise RotateError("\n".join(["The next pair can't be used:", *problems]))
    if current.facts.key and following.facts.key and current.facts.key == following.facts.key:
        raise RotateError(
            f"{_shown(pair.private_key)} is the current key, and no other one: put another pair in its place,"
            " or take next out of the configuration."
        )


def _shown(source: Source | None) -> str:
    if source is None:
        return "the one of that key"
    return source.place if source.kind == "file" else describe(source)
