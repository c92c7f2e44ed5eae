"""Checks that are made sooner than planned: because somebody asks, or because another one was put right."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from monitor.core.cadence import FIRST_LOOKS_PER_SECOND
from monitor.core.finding import State
from monitor.core.status import Asked, ConnectionStatus

APART = timedelta(seconds=3)
"""Between two checks of one connection that somebody asks for: a button that is pressed twice is one wish."""

GENTLY = timedelta(seconds=1)
"""Between two logins of those that share a cause with one that was put right: most of them may not be, and
refusals can get our address blocked (knowledge article 000212767)."""

ONCE_IN = timedelta(hours=1)
"""A connection is looked at once in this time because others were put right: each of a thousand that share an
app would else try all that still fail, which their longer and longer pauses are to prevent."""

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
        turn = max(turn, last.at + APART) if last and last.at <= now else turn
        turns[status.name] = min(turn, status.next_exchange or turn)  # who asks has nothing checked later
    return Asked(turns, put_off)


class Waves:
    """Which others are worth a look when one was put right. All of them go at one pace."""

    def __init__(self) -> None:
        self._tried: dict[str, datetime] = {}
        self._last = _LONG_AGO

    def after(
        self,
        before: ConnectionStatus,
        after: ConnectionStatus,
        fleet: Iterable[ConnectionStatus],
        now: datetime,
    ) -> dict[str, datetime]:
        """When to look at the failing ones with the same cause, app or user, each sooner than planned.

        Empty where nothing was put right.
        """
        if before.state is not State.FAILING or after.state not in WORKS or not before.findings:
            return {}
        cause, one = before.findings[0].cause, before.connection
        self._tried = {name: at for name, at in self._tried.items() if now - at < ONCE_IN}
        turns: dict[str, datetime] = {}
        for status in fleet:
            alike = (
                (status.findings and status.findings[0].cause is cause)
                or status.connection.consumer_key == one.consumer_key
                or status.connection.username.lower() == one.username.lower()
            )
            if (
                status.state is not State.FAILING
                or not alike
                or (status.name == before.name or status.name in self._tried)
            ):
                continue
            turn = max(now, self._last) + GENTLY
            if turn < (status.next_exchange or turn):
                turns[status.name] = self._last = turn
                self._tried[status.name] = now
        return turns
