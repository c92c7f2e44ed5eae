"""When to look next: interval, confirm, settle, back off, retry, throttle.

A pure function of what is remembered. The schedule keeps the appointment; this module decides it.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import State
from monitor.core.history import History
from monitor.core.outcome import Refused, Unreachable

CONFIRM = timedelta(minutes=1)
"""A first refusal is looked at once more before it is believed for long: a blip of one node ends sooner."""

BACK_OFF = (timedelta(minutes=15), timedelta(minutes=30), timedelta(minutes=60))
"""After a confirmed refusal. Repeated refusals can get the source address blocked for good logins as well
(Salesforce knowledge article 000212767), and nothing changes before a person acts."""

SETTLE_STEPS = (timedelta(minutes=2), timedelta(minutes=5), timedelta(minutes=10))
"""After a change: the setup guide's 2 to 10 minutes of propagation (step 2), counted from the change."""

RETRY = (timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2))
"""After a fault that is nobody's verdict (network, maintenance, a broken answer), or a host name that was not
found: soon it is known whether the others' names are found."""

THROTTLED = timedelta(minutes=15)
"""After `login rate exceeded`: the limit counts a rolling hour, and each try counts towards it
(Salesforce knowledge article 000381578)."""

ASKED_TO_WAIT_AT_MOST = timedelta(hours=1)
"""The longest `Retry-After` that is kept to: an outage said to last a day may be over sooner."""

MANY_REFUSALS = 100
"""Connections refused at the same time from one address, from which on all of them slow down: at 100 on the
longest back-off that is one refused login in 36 seconds."""

SLOWED_TO_AT_MOST = timedelta(hours=6)
"""However many are refused, each is looked at four times a day: a fleet that was mended is seen to be well
on the same working day."""

FIRST_LOOKS_PER_SECOND = 20.0
"""How fast a fleet is first looked at: a hundred connections within seconds, without signing in a burst."""

TOO_NEAR = 0.25
"""Of an interval: two looks nearer to each other than that say no more than one, and each costs a login."""

UNSEEN_INTERVALS = 3
UNSEEN_GRACE = timedelta(minutes=1)
"""After so many intervals and this no queue, retry or slow answer explains why nobody looked."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def phase(name: str) -> float:
    """Where in its interval a connection stands, from 0 to 1: from its name, so it never moves."""
    # Not a checksum: crc32 of names that differ in a number clumps them (a fifth held 140 of 1,000, not 200).
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def regular(connection: Connection, now: datetime) -> datetime:
    """The connection's next turn after a look at `now`: its interval, counted from its phase.

    A turn that is TOO_NEAR is left out: a first look, or one that came late, serves for it as well.
    """
    # In timedeltas, which count whole microseconds: floats of this size would now and then give `now` itself.
    interval = connection.interval
    begin = EPOCH + interval * phase(connection.name)
    return begin + ((now - begin + interval * TOO_NEAR) // interval + 1) * interval


def next_exchange(connection: Connection, history: History, now: datetime, *, refused: int = 0) -> datetime:
    """When to look at the connection next. The first rule that fits decides:

    1. Login rate exceeded: not before THROTTLED.
    2. Settling: at each of SETTLE_STEPS after the change, then at the end of the settle time.
    3. Refused: confirm once, then back off; slower still where `refused` connections share our address.
    4. No verdict after a fault, or no answer at all: retry soon, then at the interval; not before the answer
       asked to (`Retry-After`), and not soon after HTTP 429.
    5. Otherwise at the connection's regular turn.

    No step is shorter than the operator's interval would make it, but for confirming, settling and retrying,
    which are bounded in number.
    """
    turn = regular(connection, now)
    cause = history.findings[0].cause if history.findings else None
    if cause is Cause.LOGIN_RATE_EXCEEDED and history.state is State.FAILING:
        return max(turn, now + THROTTLED)
    if history.state is State.SETTLING:
        steps = (*SETTLE_STEPS, connection.settle)
        return min(
            (history.changed_at + step for step in steps if history.changed_at + step > now), default=turn
        )
    if history.state is State.FAILING and history.consecutive_refusals == 1:
        return now + min(CONFIRM, connection.interval)
    if history.state is State.FAILING and history.consecutive_refusals > 1:
        step = BACK_OFF[min(history.consecutive_refusals - 2, len(BACK_OFF) - 1)]
        return max(turn, now + min(SLOWED_TO_AT_MOST, step * max(1.0, refused / MANY_REFUSALS)))
    outcome = history.last_exchange.outcome if history.last_exchange else None
    if isinstance(outcome, Refused) and history.state is State.UNKNOWN and outcome.retry_after_seconds:
        asked = timedelta(seconds=outcome.retry_after_seconds)
        return max(turn, now + min(asked, ASKED_TO_WAIT_AT_MOST))
    if cause is Cause.LOGIN_RATE_EXCEEDED:
        return turn
    unanswered = isinstance(outcome, Unreachable)
    if (history.state is State.UNKNOWN or unanswered) and 0 < history.consecutive_faults <= len(RETRY):
        return min(turn, now + RETRY[history.consecutive_faults - 1])
    return turn


def outdated(connection: Connection, history: History, planned: datetime | None) -> timedelta:
    """How long after the last look what it found tells nothing any more.

    UNSEEN_INTERVALS, whatever was planned, where all seems well. What is known to be wrong may be left alone
    for longer, on purpose.
    """
    usual = UNSEEN_INTERVALS * connection.interval
    well = history.state in {State.HEALTHY, State.DEGRADED}
    if planned and history.last_exchange and not well:
        usual = max(usual, min(planned - history.last_exchange.at, SLOWED_TO_AT_MOST))
    return usual + UNSEEN_GRACE


def first_looks(known: Iterable[tuple[Connection, History]], now: datetime) -> dict[str, datetime]:
    """When connections are first looked at after a start or a reload.

    1. What was looked at before keeps its turn, if that is yet to come: a restart costs no logins.
    2. The others follow in the order of their phases, FIRST_LOOKS_PER_SECOND or as many as their intervals
       need: a small fleet is seen within seconds, a large one within its interval.
    """
    looks: dict[str, datetime] = {}
    due: list[Connection] = []
    for connection, history in known:
        last = history.last_exchange
        # A last look that lies ahead tells nothing: the clock was wrong then.
        counts = last is not None and history.changed_at <= last.at <= now
        turn = next_exchange(connection, history, last.at) if last and counts else now
        if turn > now:
            looks[connection.name] = turn
        else:
            due.append(connection)
    needed = sum(1 / connection.interval.total_seconds() for connection in due)
    gap = timedelta(seconds=1 / max(FIRST_LOOKS_PER_SECOND, needed))
    for place, connection in enumerate(sorted(due, key=lambda connection: phase(connection.name))):
        looks[connection.name] = now + place * gap
    return looks
