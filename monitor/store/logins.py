"""The login budget that replicas share, in PostgreSQL: how often each username logged in lately."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, text

MINUTES_AN_HOUR = 60

LOGINS = Table(
    "logins",
    MetaData(),
    Column("username", Text, primary_key=True),
    Column("minute", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
)
"""Logins by the minute since 1970."""

_LOGINS = text(
    "SELECT username, minute, count AS logins FROM logins "
    "WHERE username = ANY(CAST(:usernames AS text[])) AND minute > :since"
)
_COUNT = text(
    "INSERT INTO logins (username, minute, count) "
    "SELECT u.username, :minute, u.count "
    "FROM unnest(CAST(:usernames AS text[]), CAST(:counts AS int[])) AS u (username, count) "
    "ON CONFLICT (username, minute) DO UPDATE SET count = logins.count + excluded.count"
)
_FORGET = text("DELETE FROM logins WHERE minute <= :before")


class Logins:
    """What is left of the budget for a few usernames, within one transaction that writes."""

    def __init__(self, connection: Connection, usernames: Iterable[str], per_hour: int, now_ms: int) -> None:
        self._connection = connection
        self._per_hour = per_hour
        self._minute = _minute(now_ms)
        self._taken: Counter[str] = Counter()
        self._past: dict[str, dict[int, int]] = {}
        of_last_hour = {"usernames": list(usernames), "since": self._minute - MINUTES_AN_HOUR}
        for row in connection.execute(_LOGINS, of_last_hour):
            self._past.setdefault(row.username, {})[row.minute] = row.logins

    def take(self, username: str) -> int | None:
        """Take one login. Gives None where there was one, else the moment (ms) at which there is again."""
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
