"""A diagnosis: state, current findings, and alternatives to the first finding."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from monitor.core.causes import Cause, Responsible, Severity


class State(StrEnum):
    """The state of a connection."""

    HEALTHY = "healthy"
    """Granted, no finding."""
    DEGRADED = "degraded"
    """Granted, but with a finding: an expiring certificate, a JWT-format token, a forecast."""
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
    """A cause that currently applies to a connection, with evidence."""

    cause: Cause
    severity: Severity
    responsible: Responsible
    certainty: Certainty
    evidence: tuple[str, ...]
    """Sentences, most important first; bounded and harmless to show."""
    since: datetime
    """A diagnosis sets this to its `now`; the history keeps the first value while the cause lasts."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another cause that fits the same answer, and how to distinguish it from the first."""

    cause: Cause
    tell_apart: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdict on a connection."""

    state: State
    findings: tuple[Finding, ...] = ()
    """First the cause of the state, then other risks."""
    alternatives: tuple[Alternative, ...] = ()
    """Most likely first."""

    @property
    def cause(self) -> Cause | None:
        """The first finding's cause; None if nothing is wrong."""
        return self.findings[0].cause if self.findings else None
