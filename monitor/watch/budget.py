"""The login budget of a check, and where it records its result.

Production and the monitor share Salesforce's 3,600 logins per hour and user.
"""

from array import array
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from monitor.core import rotation
from monitor.core.history import Event, History
from monitor.salesforce.probe import TakeLogin
from monitor.watch.clock import Clock

HOUR_SECONDS = 3600.0

Keep = Callable[[str, History, tuple[Event, ...]], None]
"""Records a connection's history and new events. Must not block or raise."""


class Ledger(Protocol):
    """Where a check takes logins from and records its result."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login. Gives None on success, otherwise when to try again."""

    async def take_next_key(self, username: str) -> TakeLogin | None:
        """A function that takes the login for a next key when it is signed; None if the budget is used up."""

    async def take_observer(self, username: str) -> TakeLogin:
        """A function that takes an observer's login, which comes with another connection's check."""

    def keep(self, name: str, history: History, events: tuple[Event, ...]) -> None:
        """Record a connection's history and new events. Must not block or raise."""


class LoginBudget:
    """Limits the logins per username in any rolling hour, by the steady clock. In memory."""

    def __init__(self, per_hour: int, clock: Clock | None = None) -> None:
        self.per_hour = per_hour
        self._clock = clock or Clock()
        self._logins: dict[str, array[float]] = {}
        """Login times by username. Arrays take a quarter of a list's memory."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login. Gives None on success, otherwise when one is available, by the clock of `now`: at
        most an hour later.
        """
        if not self.left(username):
            return now + self.free_in(username)
        second = self._clock.steady() + (now - self._clock.machine()).total_seconds()
        self._logins[username.lower()].append(second)
        return None

    def left(self, username: str) -> int:
        """Logins available now."""
        logins, second = self._logins.setdefault(username.lower(), array("d")), self._clock.steady()
        while logins and second - logins[0] >= HOUR_SECONDS:
            logins.pop(0)
        return max(0, self.per_hour - len(logins))

    def free_in(self, username: str) -> timedelta:
        """Time until a login is available."""
        if self.left(username):
            return timedelta(0)
        return timedelta(
            seconds=min(HOUR_SECONDS, self._logins[username.lower()][0] + HOUR_SECONDS - self._clock.steady())
        )


class OwnLedger(LoginBudget):
    """The ledger of a process that does not share its budget."""

    def __init__(self, per_hour: int, keep: Keep, clock: Clock | None = None) -> None:
        super().__init__(per_hour, clock)
        self._next_keys = LoginBudget(rotation.LOGINS_PER_HOUR, clock)
        self.keep = keep

    async def take_next_key(self, username: str) -> TakeLogin | None:
        """A function that takes the login for a next key when it is signed."""
        return partial(self._next_keys.take, username)

    async def take_observer(self, username: str) -> TakeLogin:
        """A function that takes an observer's login when it is signed."""
        return partial(self.take, username)
