"""The time that the daemon goes by: the machine's, put right where the orgs show that it is wrong."""

import time
from datetime import UTC, datetime, timedelta

from monitor.core.verdict.evidence import CLOCK_OFF

AGREEING = 3
"""Answers in a row that must name the same other time before it is believed: one odd `Date` is a proxy's or a
broken server's, and two may come through the same proxy."""


def steady() -> float:
    """Seconds that go on in a suspended machine, and that no setting of a clock moves."""
    kind = time.CLOCK_BOOTTIME if hasattr(time, "CLOCK_BOOTTIME") else time.CLOCK_MONOTONIC
    return time.clock_gettime(kind)


class Clock:
    """The machine's clock and what the orgs say of it; a demo overrides `machine` and `steady`.

    The time that orgs have confirmed is kept as its distance from the steady clock. So a wall clock that is
    set wrongly is known to be wrong at once, before any other answer comes.
    """

    def __init__(self) -> None:
        self._confirmed: float | None = None
        """The true time less the steady clock, in seconds; None before an org has confirmed any."""
        self._doubts: list[float] = []
        """The same by the last answers that contradicted it."""

    def machine(self) -> datetime:
        """The machine's wall clock, aware, in UTC: assertions are signed by it, as production's are."""
        return datetime.now(UTC)

    def steady(self) -> float:
        """Seconds that no setting of the wall clock moves."""
        return steady()

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return self.machine() + self.correction()

    @property
    def is_confirmed(self) -> bool:
        """Whether any org has said what time it is."""
        return self._confirmed is not None

    def correction(self) -> timedelta:
        """The true time less the machine's, where orgs agree that this one is wrong; else nothing."""
        if self._confirmed is None:
            return timedelta(0)
        off = timedelta(seconds=self._confirmed + self.steady() - self.machine().timestamp())
        return off if abs(off) >= CLOCK_OFF else timedelta(0)

    def heard(self, offset_seconds: float) -> None:
        """An org's clock differs by so much from the machine's.

        1. Where it does not, the machine is right, whatever was said before.
        2. Where it says what others have confirmed, the machine is wrong, and `now` is not.
        3. Else it is alone, until AGREEING answers in a row say the same.
        """
        machine = self.machine().timestamp() - self.steady()
        said, off = machine + offset_seconds, CLOCK_OFF.total_seconds()
        if abs(offset_seconds) < off:
            self._confirmed, self._doubts = machine, []
        elif self._confirmed is not None and abs(said - self._confirmed) < off:
            self._doubts = []
        else:
            self._doubts = [*(doubt for doubt in self._doubts if abs(doubt - said) < off), said]
            if len(self._doubts) >= AGREEING:
                self._confirmed, self._doubts = said, []


class SharedClock(Clock):
    """Goes by a server's clock in place of the machine's, so that all who share it have one time."""

    def __init__(self, own: Clock) -> None:
        super().__init__()
        self.own = own
        self._ahead = timedelta(0)

    def machine(self) -> datetime:
        """The server's clock; the machine's own until the server was asked."""
        return self.own.machine() + self._ahead

    def steady(self) -> float:
        """Seconds that no setting of the wall clock moves."""
        return self.own.steady()

    def learn(self, server: datetime, asked: datetime) -> None:
        """Go by what the server said was its time, `asked` at a moment of the machine's clock."""
        # It was read between question and answer: where what is known lies in there, it is as good.
        self._ahead = min(max(self._ahead, server - self.own.machine()), server - asked)
