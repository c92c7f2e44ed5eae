"""Where a check takes its logins from, and where it writes down what it found.

3,600 logins an hour belong to production, a share of them to us.
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
"""Writes a connection's history down, with what happened; must neither wait nor raise."""


class Ledger(Protocol):
    """What a check takes from, and adds to."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login. Gives None where there was one, else the moment at which to ask again."""

    async def take_next_key(self, username: str) -> TakeLogin | None:
        """What takes the login for a try of the next key as it is signed; None where there is none."""

    def keep(self, name: str, history: History, events: tuple[Event, ...]) -> None:
        """Write a connection's history down, with what happened; must neither wait nor raise."""


class LoginBudget:
    """At most so many logins of one username in any hour, whatever the wall clock is set to; in memory."""

    def __init__(self, per_hour: int, clock: Clock | None = None) -> None:
        self.per_hour = per_hour
        self._clock = clock or Clock()
        self._logins: dict[str, array[float]] = {}
        """By the steady clock; an array is a quarter of the size of a list, for thousands of usernames."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login at a moment by the machine's clock. Gives None where there was one, else the moment
        at which there is one again: an hour later at most.
        """
        if not self.left(username):
            return now + self.free_in(username)
        second = self._clock.steady() + (now - self._clock.machine()).total_seconds()
        self._logins[username.lower()].append(second)
        return None

    def left(self, username: str) -> int:
        """How many may be taken now."""
        logins, second = self._logins.setdefault(username.lower(), array("d")), self._clock.steady()
        while logins and second - logins[0] >= HOUR_SECONDS:
            logins.pop(0)
        return max(0, self.per_hour - len(logins))

    def free_in(self, username: str) -> timedelta:
        """How long until there is one to take."""
        if self.left(username):
            return timedelta(0)
        return timedelta(
            seconds=min(HOUR_SECONDS, self._logins[username.lower()][0] + HOUR_SECONDS - self._clock.steady())
        )


class OwnLedger(LoginBudget):
    """The ledger of a process that shares its logins with no other."""

    def __init__(self, per_hour: int, keep: Keep, clock: Clock | None = None) -> None:
        super().__init__(per_hour, clock)
        self._next_keys = LoginBudget(rotation.LOGINS_PER_HOUR, clock)
        self._keep = keep

    async def take_next_key(self, username: str) -> TakeLogin | None:
        """What takes the login for a try of the next key as it is signed."""
        return partial(self._next_keys.take, username)

    def keep(self, name: str, history: History, events: tuple[Event, ...]) -> None:
        """Write a connection's history down, with what happened."""
        self._keep(name, history, events)
