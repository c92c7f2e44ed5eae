"""Checks brought forward: on request, after a key has changed, or after another connection has recovered."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta

from monitor.core.cadence import FIRST_LOOKS_PER_SECOND
from monitor.core.finding import State
from monitor.core.status import Asked, ConnectionStatus
from monitor.watch.budget import LoginBudget

BETWEEN_REQUESTS = timedelta(seconds=3)
"""Between two requested checks of a connection: a double click is one request."""

BETWEEN_LOGINS = timedelta(seconds=1)
"""Between logins of connections that share a cause with one that recovered: most of them may still fail, and
refusals can get our address blocked (knowledge article 000212767)."""

BETWEEN_KEY_CHECKS = timedelta(seconds=0.2)
"""Between checks after changes of keys: the 300 connections that share one log in within a minute."""

AT_MOST_EVERY = timedelta(hours=1)
"""How often a connection is checked because others recovered. Otherwise each recovery among a thousand
connections of an app would retry all that still fail, which their back-off should prevent."""

WORKS = frozenset({State.HEALTHY, State.DEGRADED})

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def asked(wanted: Iterable[ConnectionStatus], now: datetime, budgets: Collection[LoginBudget]) -> Asked:
    """When to check the requested connections, in this order, within their users' login budgets.

    Paused connections are skipped.
    """
    turns: dict[str, datetime] = {}
    put_off: dict[str, datetime] = {}
    taken: Counter[str] = Counter()
    for status in wanted:
        user = status.connection.username.lower()
        if status.connection.paused:
            continue
        last = status.history.last_exchange
        turn = now + len(turns) * timedelta(seconds=1 / FIRST_LOOKS_PER_SECOND)
        # A last check in the future doesn't count: the clock was wrong.
        turn = max(turn, last.at + BETWEEN_REQUESTS) if last and last.at <= now else turn
        turn = min(turn, status.next_exchange or turn)  # a request never delays a check
        if needs_login(status, turn, now):
            if taken[user] >= min(budget.left(user) for budget in budgets):
                put_off[status.name] = now + max(budget.free_in(user) for budget in budgets)
                continue
            taken[user] += 1
        turns[status.name] = turn
    return Asked(turns, put_off)


def needs_login(status: ConnectionStatus, turn: datetime, now: datetime) -> bool:
    """Whether a check at `turn` is additional, and not the one that is planned for then."""
    return turn <= now or turn != status.next_exchange


class KeyChecks:
    """Decides when to check connections whose key or certificate has changed, all at a common rate."""

    def __init__(self) -> None:
        self.waiting: dict[str, datetime] = {}
        """When those that were not checked since are checked. The owner removes them."""
        self._last = _LONG_AGO

    def after(self, changed: Iterable[ConnectionStatus], now: datetime) -> dict[str, datetime]:
        """When to check these: each sooner than planned, the first at once.

        So are those that are due: their checks may have begun with the old key, and are then made again.
        """
        turns: dict[str, datetime] = {}
        for status in changed:
            if status.next_exchange is None:
                continue
            planned = min(status.next_exchange, self.waiting.get(status.name, status.next_exchange))
            turn = max(now, self._last + BETWEEN_KEY_CHECKS)
            if planned <= now:
                turns[status.name] = now
            elif turn < planned:
                turns[status.name] = self._last = turn
        self.waiting |= turns
        return turns


class RecoveryChecks:
    """Decides which other connections to check after a recovery, all at a common rate."""

    def __init__(self) -> None:
        self._tried: dict[str, datetime] = {}
        self._last = _LONG_AGO

    def after(
        self,
        before: ConnectionStatus,
        after: ConnectionStatus,
        fleet: Callable[[], Iterable[ConnectionStatus]],
        now: datetime,
    ) -> dict[str, datetime]:
        """When to check the failing connections with the same cause, app or user; each sooner than planned.

        Empty if nothing has recovered: then the fleet, which may have thousands, is not looked at.
        """
        if before.state is not State.FAILING or after.state not in WORKS or not before.findings:
            return {}
        cause, one = before.findings[0].cause, before.connection
        self._tried = {name: at for name, at in self._tried.items() if now - at < AT_MOST_EVERY}
        turns: dict[str, datetime] = {}
        for status in fleet():
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
            turn = max(now, self._last) + BETWEEN_LOGINS
            if turn < (status.next_exchange or turn):
                turns[status.name] = self._last = turn
                self._tried[status.name] = now
        return turns
