"""The time that the daemon goes by."""

from datetime import UTC, datetime


class Clock:
    """The wall clock; a demo or a rehearsal passes in its own."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return datetime.now(UTC)
