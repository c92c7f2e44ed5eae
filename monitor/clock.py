"""The time that the daemon goes by: the wall clock, which a demo or a rehearsal may put ahead."""

from datetime import UTC, datetime, timedelta


class Clock:
    """The wall clock, and how far it was put ahead. The daemon never does that to itself."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return datetime.now(UTC) + self._ahead

    def wall(self, moment: datetime) -> datetime:
        """When the wall clock shows the moment that this clock calls `moment`."""
        return moment - self._ahead

    def advance(self, by: timedelta) -> None:
        """Put the clock ahead."""
        self._ahead += by
