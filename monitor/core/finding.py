"""What a diagnosis says: the state, the findings that hold, and the alternatives to the first of them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from monitor.core.causes import Cause, Responsible, Severity


class State(StrEnum):
    """What a connection is. Exactly one holds at a time."""

    HEALTHY = "healthy"
    """Granted, no finding."""
    DEGRADED = "degraded"
    """Granted, but with a finding: a certificate near its end, a JWT-format token, a forecast."""
    SETTLING = "settling"
    """Refused within the settle time of a change (setup guide, step 2: 2 to 10 minutes)."""
    FAILING = "failing"
    """Refused, and a person must act."""
    UNKNOWN = "unknown"
    """No verdict: not checked yet, or the network, the server or the monitor itself failed."""
    PAUSED = "paused"
    """Not checked, by configuration."""


class Certainty(StrEnum):
    """How sure a diagnosis is of its first cause."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause that holds for a connection now, since when, with its evidence."""

    cause: Cause
    severity: Severity
    responsible: Responsible
    certainty: Certainty
    evidence: tuple[str, ...]
    """Sentences for a person, the most telling first; bounded, harmless, nothing secret."""
    since: datetime
    """A diagnosis sets this to its `now`; history keeps the first moment while the cause holds."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another cause that fits the same answer, and what would tell it apart from the first."""

    cause: Cause
    tell_apart: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdict on a connection at one moment."""

    state: State
    findings: tuple[Finding, ...] = ()
    """Everything that holds now: the cause of the state first, then the risks that stand beside it."""
    alternatives: tuple[Alternative, ...] = ()
    """Other causes that the same evidence allows, most likely first."""

    @property
    def cause(self) -> Cause | None:
        """The first finding's cause; None where nothing is wrong."""
        return self.findings[0].cause if self.findings else None
