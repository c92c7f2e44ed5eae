"""Checks that are made sooner than planned: because somebody asks, or because another one was put right."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from monitor.core.cadence import FIRST_LOOKS_PER_SECOND
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.status import Asked, ConnectionStatus

APART = timedelta(seconds=3)
"""Between two checks of one connection that somebody asks for: a button that is pressed twice is one wish."""

GENTLY = timedelta(seconds=1)
"""Between two logins of those that share a cause with one that was put right: most of them may not be, and
refusals can get our address blocked (knowledge article 000212767)."""

ONE_WAVE = timedelta(minutes=10)
"""For so long after one of a cause was put right, another of the same cause brings no further checks."""

WORKS = frozenset({State.HEALTHY, State.DEGRADED})

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def asked(
    wanted: Iterable[ConnectionStatus],
    now: datetime,
    *,
    left: Callable[[str], int],
    free_at: Callable[[str], datetime],
) -> Asked:
    """When those are checked that somebody asks for, in this order, as far as their users have logins left.

    `left` gives how many, and `free_at` when there is one again. What is paused is left out.
    """
    turns: dict[str, datetime] = {}
    put_off: dict[str, datetime] = {}
    taken: Counter[str] = Counter()
    for status in wanted:
        user = status.connection.username.lower()
        if status.connection.paused:
            continue
        if taken[user] >= left(user):
            put_off[status.name] = free_at(user)
            continue
        taken[user] += 1
        last = status.history.last_exchange
        turn = now + len(turns) * timedelta(seconds=1 / FIRST_LOOKS_PER_SECOND)
        # A last check that lies ahead tells nothing: the clock was wrong then.
        turns[status.name] = max(turn, last.at + APART) if last and last.at <= now else turn
    return Asked(turns, put_off)


class Waves:
    """Which others are worth a look when one was put right."""

    def __init__(self) -> None:
        self._until: dict[Cause, datetime] = {}

    def after(
        self,
        before: ConnectionStatus,
        after: ConnectionStatus,
        fleet: Iterable[ConnectionStatus],
        now: datetime,
    ) -> dict[str, datetime]:
        """When to look at the failing ones with the same cause, app or user, each sooner than planned.

        Empty where nothing was put right, and where the cause had its wave lately: each that is found well in
        one would begin another.
        """
        if before.state is not State.FAILING or after.state not in WORKS or not before.findings:
            return {}
        cause, one = before.findings[0].cause, before.connection
        if now < self._until.get(cause, _LONG_AGO):
            return {}
        others = [
            status
            for status in fleet
            if status.state is State.FAILING
            and status.name != before.name
            and (
                (status.findings[:1] and status.findings[0].cause is cause)
                or status.connection.consumer_key == one.consumer_key
                or status.connection.username.lower() == one.username.lower()
            )
        ]
        turns = {status.name: now + place * GENTLY for place, status in enumerate(others, 1)}
        self._until[cause] = now + max(ONE_WAVE, len(others) * GENTLY)
        planned = {status.name: status.next_exchange for status in others}
        return {name: turn for name, turn in turns.items() if turn < (planned[name] or turn)}
