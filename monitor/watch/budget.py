"""How many logins each username has left: 3,600 an hour belong to production, a share of them to us."""

from array import array
from datetime import UTC, datetime
from typing import Protocol

HOUR_SECONDS = 3600.0


class Budget(Protocol):
    """How many logins of each username are left."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login. Gives None where there was one, else the moment at which to ask again."""


class LoginBudget:
    """At most so many logins of one username in any hour, counted in memory."""

    def __init__(self, per_hour: int) -> None:
        self.per_hour = per_hour
        self._logins: dict[str, array[float]] = {}
        """Unix times; an array of them is a quarter of the size of a list, for thousands of usernames."""

    def take(self, username: str, now: datetime) -> datetime | None:
        """Take one login. Gives None where there was one, else the moment at which there is one again."""
        logins = self._logins.setdefault(username.lower(), array("d"))  # as Salesforce compares them
        second = now.timestamp()
        while logins and second - logins[0] >= HOUR_SECONDS:
            logins.pop(0)
        if len(logins) >= self.per_hour:
            return datetime.fromtimestamp(logins[0] + HOUR_SECONDS, UTC)
        logins.append(second)
        return None
