"""The outcome of one exchange: granted, refused, unreachable, not sent.

The core learns nothing else from the network. These values never contain a token, assertion or key.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Granted:
    """The org issued an access token. Keeps facts about the token, never the token."""

    token_format: Literal["opaque", "jwt"]
    scopes: frozenset[str] | None
    """The scopes in the answer; None if it has none."""
    instance_url: str | None
    org_id: str | None
    """18 or 15 characters, from the answer's identity URL; None if that is missing or malformed."""
    user_id: str | None
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
    """Our connection pool was exhausted."""


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
    error: str
    """The REST `errorCode`; empty on success."""
    message: str


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
    """None without a call or an answer to it: that says nothing about the credential."""
    duration_seconds: float | None = None
    """From the start of connecting to the end of the answer; None if nothing was sent."""
    clock_offset_seconds: float | None = None
    """The server's `Date` minus our clock: positive if ours is slow. None without a `Date`."""
    usage: ApiUsage | None = None
    """None without a REST call, or if its answer did not say."""

    @property
    def hung(self) -> bool:
        """Whether it failed only after a long wait: the next one may take as long."""
        return isinstance(self.outcome, Unreachable) and (self.duration_seconds or 0) >= HUNG_SECONDS
