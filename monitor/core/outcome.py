"""The outcome of one exchange: all that the core learns from the network, without token or key."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Granted:
    """The org issued an access token. Keeps facts about the token, never the token."""

    token_format: Literal["opaque", "jwt"]
    scopes: frozenset[str] | None = None
    instance_url: str | None = None
    org_id: str | None = None
    """18 or 15 characters, from the answer's identity URL; None if that is missing or malformed."""
    user_id: str | None = None
    of_site: bool = False
    """Whether the user belongs to an Experience Cloud site. Needed only for the API call after the grant."""


NO_STATUS = 0
"""The HTTP status if it is unknown: a pasted text may contain only the error text."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Any HTTP answer other than a grant: an OAuth error, a maintenance page, a broken body."""

    status: int
    error: str
    """The OAuth `error` or REST `errorCode`; may be empty."""
    description: str
    """The `error_description` or REST `message`, bounded and sanitized; may be empty."""
    excerpt: str
    """The start of a body that is not an OAuth error, bounded and sanitized."""
    retry_after_seconds: float | None = None


class FaultKind(StrEnum):
    """Why there was no answer."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    """Connected, but no complete answer in time."""
    PROTOCOL = "protocol"
    """The connection broke, or the answer was not HTTP or too large."""
    POOL = "pool"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer came."""

    kind: FaultKind
    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing was sent: the key can't sign (see the credential's facts), or we failed."""

    message: str


Outcome = Granted | Refused | Unreachable | NotSent


@dataclass(frozen=True, slots=True)
class AfterLogin:
    """The first REST call with the granted token."""

    status: int
    """NO_STATUS without an answer."""
    error: str
    """The REST `errorCode`; empty if the answer has none."""
    message: str
    """The answer's text, or why there was none; empty on success."""

    @property
    def proves(self) -> bool:
        """Whether it proves that the token is accepted."""
        return 200 <= self.status < 300 and not self.message

    @property
    def missed(self) -> bool:
        """Whether it says nothing about the token: no answer, a server error, a proxy's page."""
        return not self.proves and not (self.error and self.status in _SPEAK_OF_THE_TOKEN)

    @property
    def problem(self) -> str:
        """Why it does not prove that; empty if it does."""
        if self.proves:
            return ""
        code = " ".join(filter(None, (f"HTTP {self.status}" if self.status else "", self.error)))
        return ": ".join(filter(None, (code, self.message)))


_SPEAK_OF_THE_TOKEN = frozenset({400, 401, 403})
"""Statuses of refusals that concern the token; others concern the call."""


@dataclass(frozen=True, slots=True)
class ApiUsage:
    """The org's use of its daily API allocation, from a REST answer's header."""

    used: int
    allowed: int


HUNG_SECONDS = 5.0
"""Most answers arrive within a second; refused connections fail at once."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One signed assertion posted to the token endpoint, and its outcome."""

    at: datetime
    outcome: Outcome
    after_login: AfterLogin | None = None
    duration_seconds: float | None = None
    """From the start of connecting to the end of the answer; None if nothing was sent."""
    clock_offset_seconds: float | None = None
    """The server's `Date` minus our clock: positive if ours is slow. None without a `Date`."""
    usage: ApiUsage | None = None

    @property
    def granted(self) -> Granted | None:
        """The grant, if it was granted."""
        return self.outcome if isinstance(self.outcome, Granted) else None

    @property
    def hung(self) -> bool:
        """Whether the login failed only after a long wait, or the call after it got no answer."""
        if self.after_login is not None:
            return self.after_login.status == NO_STATUS
        return isinstance(self.outcome, Unreachable) and (self.duration_seconds or 0) >= HUNG_SECONDS
