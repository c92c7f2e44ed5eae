"""When to check next: interval, confirm, settle, back off, retry, throttle.

A pure function of the history. This module decides the time; the schedule keeps to it.
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
"""When to confirm a first refusal: a problem of a single node is over sooner."""

BACK_OFF = (timedelta(minutes=15), timedelta(minutes=30), timedelta(minutes=60))
"""After a confirmed refusal. Repeated refusals can get the source address blocked for valid logins too
(Salesforce knowledge article 000212767), and nothing changes until a person acts."""

SETTLE_STEPS = (timedelta(minutes=2), timedelta(minutes=5), timedelta(minutes=10))
"""After a change: the setup guide's 2 to 10 minutes of propagation (step 2), counted from the change."""

RETRY = (timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2))
"""After a fault without a verdict (network, maintenance, a broken answer), or a host name that was not found:
other connections soon show whether DNS works."""

THROTTLED = timedelta(minutes=15)
"""After `login rate exceeded`: the limit covers a rolling hour, and each attempt counts
(Salesforce knowledge article 000381578)."""

ASKED_TO_WAIT_AT_MOST = timedelta(hours=1)
"""The longest `Retry-After` that is respected: an outage announced for a day may be over sooner."""

MANY_REFUSALS = 100
"""With more refused connections than this at one address, all of them slow down. 100 at the longest back-off
are one refused login in 36 seconds."""

SLOWED_TO_AT_MOST = timedelta(hours=6)
"""However many are refused, each is checked four times a day, so that a repair is noticed on the same working
day."""

FIRST_LOOKS_PER_SECOND = 20.0
"""Rate of first checks: a hundred connections within seconds, without a burst of signatures."""

TOO_NEAR = 0.25
"""Share of an interval. Two checks closer together say no more than one, and each costs a login."""

SOONER = timedelta(seconds=1)
"""A check this much earlier than planned counts as requested: due times shared by replicas are more
precise."""

UNSEEN_INTERVALS = 3
UNSEEN_GRACE = timedelta(minutes=1)
"""After UNSEEN_INTERVALS plus this, no queue, retry or slow answer explains why there was no check."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def phase(name: str) -> float:
    """A connection's position within its interval, from 0 to 1. Derived from its name, so it is constant."""
    # Not crc32, which clusters names that differ in a number (one fifth held 140 of 1,000, not 200).
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def regular(connection: Connection, now: datetime) -> datetime:
    """The next regular check, by interval and phase. One that is TOO_NEAR, after a late check, is skipped."""
    # In timedeltas, which are exact: floats of this size would sometimes give `now` itself.
    interval = connection.interval
    begin = EPOCH + interval * phase(connection.name)
    return begin + ((now - begin + interval * TOO_NEAR) // interval + 1) * interval


def next_exchange(connection: Connection, history: History, now: datetime, *, refused: int = 0) -> datetime:
    """When to check the connection next. The first rule that applies decides:

    1. Login rate exceeded: not before THROTTLED.
    2. Settling: at each of SETTLE_STEPS after the change, then at the end of the settle time.
    3. Refused: confirm once, then back off; slower still with many `refused` connections at our address.
    4. A fault without a verdict, or no answer: retry soon, then at the interval; never before `Retry-After`,
       and not soon after HTTP 429.
    5. Otherwise: the regular check.

    No step is shorter than the operator's interval, except for confirming, settling and retrying, which are
    limited in number.
    """
    turn = regular(connection, now)
    cause = history.findings[0].cause if history.findings else None
    if cause is Cause.LOGIN_RATE_EXCEEDED and history.state is State.FAILING:
        return max(turn, now + THROTTLED)
    if history.state is State.SETTLING and history.changed_at <= now:  # else the clock was wrong
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


def is_early(connection: Connection, history: History, due: datetime | None) -> bool:
    """Whether a check at `due` is earlier than planned: requested, or it follows another one's recovery.

    Derived from the due time, as another replica may have received the request.
    """
    last = history.last_exchange
    if last is None or due is None:
        return False
    return due + SOONER < next_exchange(connection, history, last.at)


def outdated(connection: Connection, history: History, planned: datetime | None) -> timedelta:
    """How long after the last check its result becomes outdated.

    Healthy connections are never left alone for longer, failing ones may be, on purpose.
    """
    usual = UNSEEN_INTERVALS * connection.interval
    well = history.state in {State.HEALTHY, State.DEGRADED}
    if planned and history.last_exchange and not well:
        usual = max(usual, min(planned - history.last_exchange.at, SLOWED_TO_AT_MOST))
    return usual + UNSEEN_GRACE


def first_looks(known: Iterable[tuple[Connection, History]], now: datetime) -> dict[str, datetime]:
    """When connections are first checked after a start or reload.

    1. Connections checked before keep their next check if it is in the future: a restart costs no logins.
    2. The others follow in the order of their phases, at FIRST_LOOKS_PER_SECOND or as fast as their intervals
       require: a small fleet is checked within seconds, a large one within its interval.
    """
    looks: dict[str, datetime] = {}
    due: list[Connection] = []
    for connection, history in known:
        last = history.last_exchange
        # A last check in the future doesn't count: the clock was wrong.
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
