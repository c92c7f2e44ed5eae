"""The unwritten changes of one connection, bounded however long the disk fails."""

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
"""Exchanges kept per connection, for its page. Day counts cover the time before."""

EVENTS_KEPT = {True: 200, False: 50}
"""Most events kept per connection, by whether they are failures, however fast it flaps."""

CONFIRMED_WITHIN_SECONDS = 3600.0
"""Our clock is confirmed if an org's clock is at most this far from it. Old data is deleted only by a
confirmed clock."""


class Verdict(StrEnum):
    """What one exchange says about the credential. Its place is its code, so only append."""

    GRANTED = "granted"
    REFUSED = "refused"
    NO_VERDICT = "no_verdict"
    """No answer, an answer that says nothing about it (a maintenance page), or nothing was sent."""

    @property
    def code(self) -> int:
        """Its code in the database."""
        return VERDICTS.index(self)


VERDICTS = tuple(Verdict)


@dataclass(frozen=True, slots=True)
class PastExchange:
    """One exchange of the past."""

    at: datetime
    verdict: Verdict
    cause: Cause | None
    """Why it or its API call failed. None if neither did, or if only a newer version knows the cause."""
    status: int | None
    """The HTTP status of the token endpoint's answer; None without an answer."""
    duration_seconds: float | None
    """Stored with millisecond precision."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One replica's right to write one result of a connection, and when it is due next."""

    epoch: int
    job: int
    """The job that holds the connection."""
    seconds: float
    """From `made` until the connection is due again."""
    by: str
    """The replica."""
    made: float = field(default_factory=time.monotonic)
    written: "Future[bool | None]" = field(default_factory=Future, compare=False)
    """True: written. False: the lease had ended. None: can never be written."""

    def seconds_left(self) -> float:
        """Time from now until the connection is due again."""
        return max(0.0, self.seconds - (time.monotonic() - self.made))

    def end(self, *, written: bool | None) -> None:
        """Set the result; only the first call counts."""
        with suppress(InvalidStateError):
            self.written.set_result(written)


@dataclass(slots=True)
class Waiting:
    """The unwritten changes of one connection."""

    history: History
    exchanges: dict[int, PastExchange] = field(default_factory=dict)
    """By slot of the ring buffer."""
    days: dict[int, list[int]] = field(default_factory=dict)
    """By day since 1970: counts in the order of VERDICTS."""
    events: list[Event] = field(default_factory=list)
    lease: Lease | None = None
    """None if only one daemon writes."""
    restored: bool = False
    """Whether this rewrites a replaced database: rows that others wrote there stay."""
    today: int = 0
    """The last day, since 1970, that an org's clock confirmed; 0 if none did."""

    def count(self, history: History, exchange: Exchange) -> None:
        """Add the history's exchange. One that was not sent counts for its day but gets no slot."""
        outcome = exchange.outcome
        granted = isinstance(outcome, Granted)
        spoke = history.last_verdict is not None and history.last_verdict.at == exchange.at
        verdict = Verdict.GRANTED if granted else Verdict.REFUSED if spoke else Verdict.NO_VERDICT
        day = milliseconds(exchange.at) // MS_A_DAY
        self.days.setdefault(day, [0, 0, 0])[verdict.code] += 1
        offset = exchange.clock_offset_seconds
        if offset is not None and abs(offset) <= CONFIRMED_WITHIN_SECONDS:
            self.today = max(self.today, day)
        if isinstance(outcome, NotSent):
            return
        failed = not granted or (exchange.after_login is not None and not exchange.after_login.proves)
        self.exchanges[history.exchanges % EXCHANGES_KEPT] = PastExchange(
            exchange.at,
            verdict,
            history.findings[0].cause if failed and history.findings else None,
            200 if granted else outcome.status if isinstance(outcome, Refused) else None,
            exchange.duration_seconds,
        )

    def add_events(self, events: Iterable[Event]) -> None:
        """Add events, dropping the oldest beyond what the database keeps."""
        self.events.extend(events)
        for failure, kept in EVENTS_KEPT.items():
            places = [place for place, event in enumerate(self.events) if event.failure is failure]
            for place in reversed(places[:-kept]):
                del self.events[place]

    def followed_by(self, newer: "Waiting") -> "Waiting":
        """Merge with newer changes, after these could not be written."""
        if self.lease and newer.lease:
            self.lease.end(written=False)
        days = dict(self.days)
        for day, counts in newer.days.items():
            days[day] = [a + b for a, b in zip(days.get(day, [0, 0, 0]), counts, strict=True)]
        both = Waiting(
            newer.history,
            self.exchanges | newer.exchanges,
            days,
            list(self.events),
            newer.lease or self.lease,
            today=max(self.today, newer.today),
        )
        both.add_events(newer.events)
        return both


MS_A_DAY = 86_400_000


def milliseconds(at: datetime) -> int:
    """A time as milliseconds since 1970."""
    return (at - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(at_ms: int) -> datetime:
    """The inverse of `milliseconds`."""
    return EPOCH + timedelta(milliseconds=at_ms)


def day_number(day: date) -> int:
    """A UTC day as days since 1970."""
    return (day - EPOCH.date()).days


def date_of(day: int) -> date:
    """The inverse of `day_number`."""
    return EPOCH.date() + timedelta(days=day)
