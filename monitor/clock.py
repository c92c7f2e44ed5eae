"""The time that the daemon goes by: the wall clock, or the demo's, in which weeks pass in a minute."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock that runs `speed` times as fast as the wall clock, from the moment that it is made."""

    speed: float = 1.0
    begun: float = field(default_factory=time.time)

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        elapsed = time.time() - self.begun
        return datetime.fromtimestamp(self.begun + elapsed * self.speed, UTC)

    def wall(self, moment: datetime) -> datetime:
        """When the wall clock will show the moment that this clock calls `moment`."""
        return datetime.now(UTC) + (moment - self.now()) / self.speed
