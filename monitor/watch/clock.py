"""The daemon's clock: the machine's, corrected if the orgs show that it is wrong."""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from monitor.core.outcome import Exchange
from monitor.core.verdict.evidence import CLOCK_OFF

AGREEING = 3
"""Consecutive answers that must agree on another time before we believe it: one wrong `Date` is a broken
server or proxy, and two may share the same proxy."""


def steady() -> float:
    """Seconds that include suspension and are not affected by setting the clock."""
    kind = time.CLOCK_BOOTTIME if hasattr(time, "CLOCK_BOOTTIME") else time.CLOCK_MONOTONIC
    return time.clock_gettime(kind)


class Clock:
    """The machine's clock, and what the orgs say about it; the demo overrides `machine` and `steady`.

    Confirmed time is kept as an offset from the steady clock. So if the wall clock is set wrongly, that is
    known at once, before another answer.
    """

    def __init__(self) -> None:
        self._confirmed: float | None = None
        """True time minus steady clock, in seconds; None before an org has confirmed the time."""
        self._doubts: list[float] = []
        """The same according to the last answers that contradicted it."""

    def machine(self) -> datetime:
        """The machine's wall clock in UTC, used for signing, as in production."""
        return datetime.now(UTC)

    def steady(self) -> float:
        """Seconds that no setting of the wall clock moves."""
        return steady()

    def now(self) -> datetime:
        """The current time in UTC, corrected."""
        return self.machine() + self.correction()

    def correction(self) -> timedelta:
        """True time minus the machine's, if orgs agree that it is wrong; otherwise zero."""
        if self._confirmed is None:
            return timedelta(0)
        off = timedelta(seconds=self._confirmed + self.steady() - self.machine().timestamp())
        return off if abs(off) >= CLOCK_OFF else timedelta(0)

    def heard(self, offset_seconds: float) -> None:
        """Take an org's clock offset into account.

        1. No offset: the machine is right, regardless of earlier answers.
        2. It agrees with the confirmed time: the machine is wrong, and `now` stays corrected.
        3. Otherwise it is ignored until AGREEING consecutive answers say the same.
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

    def confirmed(self, exchange: Exchange) -> tuple[Exchange, datetime]:
        """The exchange with times by the orgs' clocks, after hearing its own, and the time for judging dates.

        A single `Date` with a grant that contradicts all others is dropped. While no org has confirmed our
        clock, this one's `Date` is used only for judging dates, so that no wrong time is remembered.
        """
        offset = exchange.clock_offset_seconds
        if offset is not None:
            self.heard(offset)
        if correction := self.correction():
            at, seconds = exchange.at + correction, correction.total_seconds()
            return replace(exchange, at=at, clock_offset_seconds=seconds), at
        if offset is None or abs(offset) < CLOCK_OFF.total_seconds():
            return exchange, exchange.at
        if self._confirmed is None:
            with suppress(OverflowError):  # a `Date` close to year 9999
                return exchange, exchange.at + timedelta(seconds=offset)
        return replace(exchange, clock_offset_seconds=None if exchange.granted else offset), exchange.at


class SharedClock(Clock):
    """Uses a server's clock instead of the machine's, so that all replicas have the same time."""

    def __init__(self, own: Clock) -> None:
        super().__init__()
        self.own = own
        self._ahead = timedelta(0)

    def machine(self) -> datetime:
        """The server's clock; the machine's until the server was first asked."""
        return self.own.machine() + self._ahead

    def steady(self) -> float:
        """Seconds that are not affected by setting the clock."""
        return self.own.steady()

    def learn(self, server: datetime, asked: datetime) -> None:
        """Use the server's time `server`, which was requested at `asked` by the machine's clock."""
        # The server read its clock between request and answer; keep the known offset if it is in that range.
        self._ahead = min(max(self._ahead, server - self.own.machine()), server - asked)
