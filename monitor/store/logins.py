"""The login budgets that replicas share, in PostgreSQL: how often each username logged in lately."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, text

MINUTES_AN_HOUR = 60

LOGINS = Table(
    "login_budgets",
    MetaData(),
    Column("budget", Text, primary_key=True),
    Column("username", Text, primary_key=True),
    Column("minute", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
)
"""Logins by the minute since 1970."""

_OF_LAST_HOUR = text(
    "SELECT username, minute, count AS logins FROM login_budgets "
    "WHERE budget = :budget AND username = ANY(CAST(:usernames AS text[])) AND minute > :since"
)
_COUNT = text(
    "INSERT INTO login_budgets (budget, username, minute, count) "
    "SELECT :budget, u.username, :minute, u.count "
    "FROM unnest(CAST(:usernames AS text[]), CAST(:counts AS int[])) AS u (username, count) "
    "ON CONFLICT (budget, username, minute) DO UPDATE SET count = login_budgets.count + excluded.count"
)
_FORGET = text("DELETE FROM login_budgets WHERE minute <= :before")


class Budget(StrEnum):
    """What logins are for; each has a budget of its own."""

    CHECKS = "checks"
    NEXT_KEYS = "next_keys"


class Logins:
    """What is left of a budget for a few usernames, within one transaction that writes."""

    def __init__(
        self, connection: Connection, budget: Budget, usernames: Iterable[str], per_hour: int, now_ms: int
    ) -> None:
        self._connection = connection
        self._budget = budget
        self._per_hour = per_hour
        self._minute = _minute(now_ms)
        self._taken: Counter[str] = Counter()
        self._past: dict[str, dict[int, int]] = {}
        of_last_hour = {
            "budget": budget,
            "usernames": [username.lower() for username in usernames],
            "since": self._minute - MINUTES_AN_HOUR,
        }
        for row in connection.execute(_OF_LAST_HOUR, of_last_hour):
            self._past.setdefault(row.username, {})[row.minute] = row.logins

    def take(self, username: str) -> int | None:
        """Take one login. Gives None where there was one, else the moment (ms) at which there is again."""
        username = username.lower()  # as Salesforce compares them
        past = self._past.get(username, {})
        if sum(past.values()) + self._taken[username] >= self._per_hour:
            return (min(past, default=self._minute) + MINUTES_AN_HOUR) * 60_000
        self._taken[username] += 1
        return None

    def count(self) -> None:
        """Write down what was taken."""
        if self._taken:
            self._connection.execute(
                _COUNT,
                {
                    "budget": self._budget,
                    "minute": self._minute,
                    "usernames": list(self._taken),
                    "counts": list(self._taken.values()),
                },
            )


def forget_logins(connection: Connection, now_ms: int) -> None:
    """Delete those that no budget looks at any more."""
    connection.execute(_FORGET, {"before": _minute(now_ms) - MINUTES_AN_HOUR})


def _minute(at_ms: int) -> int:
    return at_ms // 60_000
