"""What is yet to be written of one connection: bounded, however long the disk is away."""

import time
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from monitor.core.cadence import EPOCH
from monitor.core.causes import Cause
from monitor.core.history import Event, History
from monitor.core.outcome import Exchange, Granted, NotSent, Refused

EXCHANGES_KEPT = 50
"""Exchanges kept of each connection: what its page shows; day counts tell of the time before."""

FAILURE_EVENTS_KEPT = 200
SUCCESS_EVENTS_KEPT = 50
"""Events kept of each connection at most, however fast it flaps."""

EVENTS_KEPT = {True: FAILURE_EVENTS_KEPT, False: SUCCESS_EVENTS_KEPT}
"""The same, by whether they are failures."""

RIGHT_SECONDS = 3600.0
"""How far an org's clock may be from ours for the two to be of one day: nothing is deleted by a clock that is
wrong, or that nobody confirms."""


class Verdict(StrEnum):
    """What one exchange said of the credential."""

    GRANTED = "granted"
    REFUSED = "refused"
    NO_VERDICT = "no_verdict"
    """No answer, one that says nothing of the credential (a maintenance page), or nothing was sent."""


VERDICTS = (Verdict.GRANTED, Verdict.REFUSED, Verdict.NO_VERDICT)
"""A verdict's place is its code in the database, so this may only ever grow at its end."""


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """One exchange as the database keeps it."""

    at_ms: int
    verdict: int
    cause: Cause | None
    status: int | None
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Turn:
    """The right of one of several replicas to write of a connection once, and when it is looked at next."""

    epoch: int
    job: int
    """In whose hands the connection was."""
    seconds: float
    """Until it is looked at again, from when this was `made`."""
    by: str
    """The replica."""
    made: float = field(default_factory=time.monotonic)
    written: "Future[bool | None]" = field(default_factory=Future, compare=False)
    """Whether it was written; not where the turn was over. None where it never can be."""

    def seconds_left(self) -> float:
        """How long from now it is until the connection is looked at again."""
        return max(0.0, self.seconds - (time.monotonic() - self.made))

    def end(self, *, written: bool | None) -> None:
        """Say how it ended; the first word holds."""
        with suppress(InvalidStateError):
            self.written.set_result(written)


@dataclass(slots=True)
class Waiting:
    """What is yet to be written of one connection."""

    history: History
    exchanges: dict[int, ExchangeRow] = field(default_factory=dict)
    """By slot of the ring."""
    days: dict[int, list[int]] = field(default_factory=dict)
    """By day since 1970: a count for each verdict, in the order of VERDICTS."""
    events: list[Event] = field(default_factory=list)
    turn: Turn | None = None
    """None where one daemon alone writes."""
    restored: bool = False
    """Whether it is what we know of a database that was replaced: what others wrote there stays."""
    today: int = 0
    """The last day, since 1970, that an org's own clock confirmed; 0 where none did."""

    def count(self, history: History, exchange: Exchange) -> None:
        """Notes an exchange. One that was not sent counts for its day, but has no number and so no slot."""
        outcome = exchange.outcome
        granted = isinstance(outcome, Granted)
        spoke = history.last_verdict is not None and history.last_verdict.at == exchange.at
        verdict = 0 if granted else 1 if spoke else 2
        at_ms = milliseconds(exchange.at)
        day = at_ms // MS_A_DAY
        self.days.setdefault(day, [0, 0, 0])[verdict] += 1
        offset = exchange.clock_offset_seconds
        if offset is not None and abs(offset) <= RIGHT_SECONDS:
            self.today = max(self.today, day)
        if isinstance(outcome, NotSent):
            return
        failed = not granted or (exchange.after_login is not None and exchange.after_login.error != "")
        duration = exchange.duration_seconds
        self.exchanges[history.exchanges % EXCHANGES_KEPT] = ExchangeRow(
            at_ms,
            verdict,
            history.findings[0].cause if failed and history.findings else None,
            200 if granted else outcome.status if isinstance(outcome, Refused) else None,
            None if duration is None else round(duration * 1000),
        )

    def tell(self, events: Iterable[Event]) -> None:
        """Adds events; the oldest beyond what the database keeps go."""
        self.events.extend(events)
        for failure, kept in EVENTS_KEPT.items():
            surplus = sum(event.failure is failure for event in self.events) - kept
            if surplus > 0:
                self.events = _without_first(self.events, surplus, failure=failure)

    def followed_by(self, newer: "Waiting") -> "Waiting":
        """Both together, where the older could not be written."""
        if self.turn and newer.turn:
            self.turn.end(written=False)
        days = dict(self.days)
        for day, counts in newer.days.items():
            days[day] = [a + b for a, b in zip(days.get(day, [0, 0, 0]), counts, strict=True)]
        both = Waiting(
            newer.history,
            self.exchanges | newer.exchanges,
            days,
            list(self.events),
            newer.turn or self.turn,
            today=max(self.today, newer.today),
        )
        both.tell(newer.events)
        return both


def _without_first(events: list[Event], count: int, *, failure: bool) -> list[Event]:
    left: list[Event] = []
    for event in events:
        if event.failure is failure and count > 0:
            count -= 1
        else:
            left.append(event)
    return left


MS_A_DAY = 86_400_000


def milliseconds(at: datetime) -> int:
    """A moment as milliseconds since 1970."""
    return (at - EPOCH) // timedelta(milliseconds=1)


def moment(at_ms: int) -> datetime:
    """The moment of `milliseconds`."""
    return EPOCH + timedelta(milliseconds=at_ms)


def day_number(day: date) -> int:
    """A UTC day as days since 1970."""
    return (day - EPOCH.date()).days


def date_of(day: int) -> date:
    """The UTC day of `day_number`."""
    return EPOCH.date() + timedelta(days=day)
