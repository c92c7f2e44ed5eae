"""What one exchange came to: granted, refused, unreachable, not sent.

This is all that the network may tell the core. None of these values holds a token, an assertion or a key.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Granted:
    """The org issued an access token. Only facts about the token are kept, never the token."""

    token_format: Literal["opaque", "jwt"]
    scopes: frozenset[str] | None
    """The scopes that the answer names; None where it names none."""
    instance_url: str | None
    org_id: str | None
    """18 or 15 characters, from the answer's identity URL; None where that is missing or odd."""
    user_id: str | None
    of_site: bool = False
    """The user is one of an Experience Cloud site. Only the call right after the grant needs it."""


NO_STATUS = 0
"""In place of an HTTP status that is not known: a pasted text may hold the answer's words alone."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An HTTP answer that is no grant: an OAuth error, but also a maintenance page or a broken body."""

    status: int
    error: str
    """The OAuth `error` or REST `errorCode`; empty where the body names none."""
    description: str
    """The `error_description` or REST `message`, bounded and made harmless; empty where there is none."""
    excerpt: str
    """The start of the body where it is not an OAuth error, bounded and made harmless."""
    retry_after_seconds: float | None = None


class FaultKind(StrEnum):
    """Why there was no answer."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    """No or only part of an answer in time, after a connection stood."""
    PROTOCOL = "protocol"
    """The connection broke, or what came was not HTTP, or it was larger than an answer can be."""
    POOL = "pool"
    """Our own connection pool was exhausted: our fault, never the credential's."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer came."""

    kind: FaultKind
    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing was sent: the key cannot sign (its problem stands in the credential's facts), or we failed."""

    message: str


Outcome = Granted | Refused | Unreachable | NotSent


@dataclass(frozen=True, slots=True)
class AfterLogin:
    """What the first REST call with the granted token came to."""

    status: int
    error: str
    """The REST `errorCode`; empty where the call succeeded."""
    message: str


@dataclass(frozen=True, slots=True)
class ApiUsage:
    """How much of the org's daily API allocation is used, as each REST answer says."""

    used: int
    allowed: int


HUNG_SECONDS = 5.0
"""Most answers come within one; what is refused or cut off comes at once."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One signed assertion posted to the token endpoint, and what came of it."""

    at: datetime
    outcome: Outcome
    after_login: AfterLogin | None = None
    """None where no such call was made, or where it got no answer: it never speaks against the credential."""
    duration_seconds: float | None = None
    """From the start of the connection to the end of the answer; None where nothing was sent."""
    clock_offset_seconds: float | None = None
    """The server's `Date` minus our clock: positive where our clock is slow. None without a `Date`."""
    usage: ApiUsage | None = None
    """None where no REST call was made, or its answer did not say."""

    @property
    def hung(self) -> bool:
        """Whether no answer came, and that only after long: the next one may be no quicker."""
        return isinstance(self.outcome, Unreachable) and (self.duration_seconds or 0) >= HUNG_SECONDS
