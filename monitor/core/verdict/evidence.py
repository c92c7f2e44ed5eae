"""The facts behind a verdict, and the sentences that explain it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection, OrgType, is_generic
from monitor.core.history import STAGES, UNKNOWN_PAST, Change, History, Stage
from monitor.core.inside import Facts
from monitor.core.keys.credential import CredentialFacts
from monitor.core.outcome import NO_STATUS, Exchange, Granted, NotSent, Refused, Unreachable
from monitor.core.verdict import approval
from monitor.core.verdict.answer import NOT_SHOWN
from monitor.core.verdict.approval import Forecast
from monitor.core.verdict.vocabulary import is_salesforces
from monitor.core.wording import minute

FLEET_SHARE = 0.5
"""If more than this share of orgs stops with the same fault, it is shared. Orgs of different customers have
little in common except us: half of them failing alike within minutes is not a coincidence, while maintenance
of one instance affects fewer. Our choice; no source."""

ENOUGH_WITNESSES = 5
"""Fewer orgs prove nothing: two of three may fail by coincidence."""

CLOCK_OFF = timedelta(seconds=60)
"""Offset from the server's `Date` that is a finding: a third of the assertion's lifetime of 180 seconds. The
header has whole seconds and network delay adds some, so smaller offsets prove nothing."""

ASSUMED_LIFETIME = timedelta(days=365)
"""Assumed lifetime if only the certificate's end is declared: the shorter of Salesforce's own two (one year
at 2048 bits, two at 4096), so that the warning does not come years ahead."""

NAME_MAY_RETURN = timedelta(minutes=30)
"""How long NXDOMAIN for a name that used to resolve is not a verdict, if other connections can't confirm that
DNS works: most resolver outages are over by then. Our choice; no source."""


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What the orgs checked since a fault began say about whether it is shared."""

    everybodys: bool
    """Whether so many failed in the same way that the fault is shared, not the org's own."""
    sentence: str
    """How many of how many failed in the same way; empty if only this one did."""

    @classmethod
    def counted(cls, alike: int, asked: int, since: datetime) -> "Witnesses | None":
        """From `alike` of `asked` orgs, including this one; None below ENOUGH_WITNESSES.

        The first few orgs checked may all fail by chance, so the share must exceed FLEET_SHARE by two
        standard deviations: 5 of 5, 12 of 16, 60 of 100. So the verdict does not change while more of
        the fleet is checked.
        """
        if asked < ENOUGH_WITNESSES:
            return None
        deviation = sqrt(asked * FLEET_SHARE * (1 - FLEET_SHARE))
        said = f"{alike:,} of the {asked:,} orgs checked since {minute(since)} failed in the same way"
        return cls(alike >= asked * FLEET_SHARE + 2 * deviation, said if alike > 1 else "")

    @classmethod
    def of_share(cls, share: float) -> "Witnesses":
        """From a share counted elsewhere."""
        return cls(share >= FLEET_SHARE, f"{share:.0%} of the fleet failed in the same way" if share else "")


@dataclass(frozen=True, slots=True)
class Known:
    """All facts behind a verdict."""

    exchange: Exchange
    credential: CredentialFacts
    connection: Connection
    history: History
    now: datetime
    witnesses: Witnesses | None
    forecast: Forecast | None
    production: Facts | None = None
    """The last audit of the production org, if this is a sandbox of it."""

    @property
    def offset(self) -> timedelta | None:
        """The server's clock minus ours, if measured."""
        seconds = self.exchange.clock_offset_seconds
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def clock_is_off(self) -> bool:
        """Whether the clock offset is a finding."""
        return self.offset is not None and abs(self.offset) >= CLOCK_OFF

    @property
    def last_success(self) -> datetime | None:
        """The last known grant."""
        return self.history.last_success or self.history.first_success

    @property
    def worked_unchanged(self) -> bool:
        """Whether it was granted since the last change on our side."""
        return self.last_success is not None and self.history.changed_at <= self.last_success

    @property
    def worked_since(self) -> datetime | None:
        """The start of the last approval, if known; otherwise the first grant."""
        since, last = self.history.approval_since or self.history.first_success, self.last_success
        ended = self.history.approvals[-1] if self.history.approvals else None
        return ended.since if ended and last and ended.since <= last <= ended.until else since

    @property
    def worked_for(self) -> timedelta:
        """From `worked_since` to the last grant."""
        since, last = self.worked_since, self.last_success
        return last - since if since and last else timedelta(0)

    def has_lasted(self, cause: Cause, span: timedelta) -> bool:
        """Whether all checks for this long have found this cause."""
        since = next((found.since for found in self.history.findings if found.cause is cause), self.now)
        return self.now - since >= span

    @property
    def settling(self) -> bool:
        """Whether the last change on our side may still be propagating."""
        return timedelta(0) <= self.now - self.history.changed_at < self.connection.settle

    @property
    def fleet_fails(self) -> bool:
        """Whether so many others failed in the same way that the fault is shared."""
        return self.witnesses is not None and self.witnesses.everybodys

    def is_everybodys(self, cause: Cause) -> bool:
        """Whether the cause is shared, as many orgs have it at once."""
        return self.fleet_fails and CATALOGUE[cause].shared_fault

    @property
    def name_may_return(self) -> bool:
        """Whether a name that used to resolve has been missing only for a short time, perhaps due to DNS."""
        since = self.history.failing_since or self.now
        return (
            isinstance(self.exchange.outcome, Unreachable)
            and self.witnesses is None
            and self.last_success is not None
            and self.now - since < NAME_MAY_RETURN
        )

    @property
    def is_sandbox(self) -> bool:
        """Whether the host name is a sandbox's."""
        return self.connection.org_type is OrgType.SANDBOX

    @property
    def certificate_span(self) -> tuple[datetime, datetime] | None:
        """The certificate's validity, read or declared; None if unknown."""
        if self.credential.certificate:
            return self.credential.certificate.not_before, self.credential.certificate.not_after
        end = self.connection.certificate_not_after
        # Only the end is declared, and a certificate in use is already valid.
        return None if end is None else (min(self.now, end - ASSUMED_LIFETIME), end)

    @property
    def certificate_ended(self) -> bool:
        """Whether the certificate has expired."""
        return self.certificate_span is not None and self.certificate_span[1] <= self.now

    @property
    def says_nothing(self) -> bool:
        """Whether the refusal is a bare `invalid_grant`, which any fault of an assertion can cause."""
        outcome = self.exchange.outcome
        return isinstance(outcome, Refused) and not outcome.description

    def has_problem(self, cause: Cause) -> bool:
        """Whether our key or certificate has this problem."""
        return any(problem.cause is cause for problem in self.credential.problems)


def evidence_for(cause: Cause, known: Known) -> list[str]:
    """Evidence for a cause: the answer, history, our own facts, the fleet."""
    evidence = [_what_came(known)]
    if known.history.superseded and CATALOGUE[cause].refuses_signature:
        evidence.insert(0, STAGES[Stage.CURRENT_REFUSED])
    if cause is Cause.PROPAGATION_PENDING:
        evidence.append(_change(known))
    elif isinstance(known.exchange.outcome, Refused) and not CATALOGUE[cause].no_verdict:
        evidence += _past(known)
    if context := _CONTEXT.get(cause):
        evidence += context(known)
    if known.witnesses and known.witnesses.sentence:
        whose = ": the fault is not in this org" if known.is_everybodys(cause) else ""
        evidence.append(f"{known.witnesses.sentence}{whose}.")
    return evidence


_HOW_TO_SEE = (
    " Its body has the reason: make the client print it (axios: `error.response.data`; requests:"
    " `e.response.text`), or look up the login's status in Setup > Login History."
)


def _what_came(known: Known) -> str:
    match known.exchange.outcome:
        case Refused(status=429, error=error, description=said) if not is_salesforces(error, said):
            return (
                "The answer was HTTP 429, but not in Salesforce's words: it may come from a proxy or"
                " gateway. Salesforce refuses with HTTP 400 and `login rate exceeded`."
            )
        case Refused(excerpt=excerpt, status=status) if excerpt == NOT_SHOWN:
            shown = f"HTTP {status}" if status else "that no token was granted"
            return f"The text only shows {shown}, not the answer itself.{_HOW_TO_SEE if status < 500 else ''}"
        case Refused(error="", description="", excerpt="", status=status):
            return f"The answer was HTTP {status} with an empty body."
        case Refused(error="", description="", excerpt=excerpt, status=status):
            return f'The answer was HTTP {status}, but not in the format of the token endpoint: "{excerpt}".'
        case Refused(error=error, description=description, status=status):
            with_status = "" if status == NO_STATUS else f" HTTP {status}"
            another = "The answer was" if with_status else "The text says"
            who = "Salesforce answered" if is_salesforces(error, description) else another
            return f"{who}{with_status}: {quoted(error, description)}."
        case Unreachable(kind=kind, message=message):
            return f'No answer ({kind}): "{message}".'
        case NotSent(message=message):
            return f'Nothing was sent: "{message}".'
        case Granted():
            return "A token was granted."


def _past(known: Known) -> Iterator[str]:
    history, last = known.history, known.last_success
    if last is None:
        if history.first_seen > UNKNOWN_PAST:
            yield f"It has never worked since the first check on {minute(history.first_seen)}."
        else:
            yield "No successful login is known."
        return
    since = known.worked_since or last
    until = f" until {minute(last)} ({span(last - since)})" if last > since else ""
    yield f"It worked {'from' if until else 'on'} {minute(since)}{until}."
    if not known.worked_unchanged:
        yield f"{_CHANGED[history.changed]} on {minute(history.changed_at)}, after it last worked."
    elif history.changed_at > UNKNOWN_PAST:
        yield f"Nothing has changed on our side since {minute(history.changed_at)}."
    if lived := approval.lifetimes(history.approvals):
        days = ", ".join(f"{lifetime:.1f}" for lifetime in lived[-3:])
        yield f"Earlier approvals of this connection lasted {days} days."


_CHANGED = {
    Change.FIRST_SEEN: "It was first checked",
    Change.CONFIGURATION: "Its configuration changed",
    Change.KEY: "Our private key changed",
}


def _change(known: Known) -> str:
    what, at = _CHANGED[known.history.changed], known.history.changed_at
    settled = minute(at + known.connection.settle)
    return f"{what} {span(known.now - at)} ago; a change may still be propagating until {settled}."


def clock_evidence(known: Known) -> Iterator[str]:
    """How our clock compares with the server's."""
    if known.offset is None:
        yield "The answer had no Date header, so our clock could not be compared."
        return
    seconds = known.offset.total_seconds()
    if known.clock_is_off:
        wrong = "slow" if seconds > 0 else "fast"
        yield f"Our clock is {span(abs(known.offset))} {wrong}, according to the answer's Date header."
    else:
        right = (
            f"According to the answer's Date header, our clock is right to within {abs(seconds):.0f} seconds"
        )
        yield f"{right}: something else makes assertions expire."


def _addresses(known: Known) -> Iterator[str]:
    connection = known.connection
    if not connection.host:
        return
    yield f"The assertion was sent to {connection.login_url} with the audience {connection.audience}."
    if is_generic(connection.login_url) or is_generic(connection.audience):
        yield (
            "One or both are generic, but External Client Apps exist only at their org's own My Domain"
            " address (observed since Spring '26)."
        )
    elif connection.login_url != connection.audience:
        yield "The two differ. An org also accepts its own address as the audience."


def _configured_address(known: Known) -> Iterator[str]:
    if known.connection.login_url:
        yield f"The configured address is {known.connection.login_url}."
    if known.last_success:
        yield f"It last granted a token on {minute(known.last_success)}."


def _pairing(known: Known) -> Iterator[str]:
    certificate = known.credential.certificate
    if known.credential.pairs is None:
        yield "No certificate is configured here, so it is unknown whether key and certificate match."
    elif known.credential.pairs and certificate:
        serial = f" (serial number {certificate.serial})" if certificate.serial else ""
        yield f"Our key and certificate{serial} match, so the app probably has a different certificate."
    if known.history.changed is Change.KEY and known.last_success and not known.worked_unchanged:
        yield "The app may still have the certificate of the previous key."


def _problems(known: Known) -> Iterator[str]:
    yield from (problem.detail for problem in known.credential.problems)


def _refreshed(known: Known) -> Iterator[str]:
    if known.is_sandbox and known.last_success:
        yield "The host is a sandbox: a refresh changes the suffix of usernames and may reset apps."


def _username(known: Known) -> Iterator[str]:
    if known.connection.username:
        yield f"The configured username is {known.connection.username}."
    yield from _refreshed(known)


def _declared(known: Known) -> Iterator[str]:
    policy = known.connection.approval
    if policy is not None:
        days = f" ({policy.days:g} days)" if policy.days else ""
        yield f"The declared refresh token policy is {policy.policy}{days}."
    yield from _refreshed(known)


_CONTEXT: dict[Cause, Callable[[Known], Iterable[str]]] = {
    Cause.APPROVAL_DECAYED: _declared,
    Cause.CONSUMER_NOT_APPROVED: _declared,
    Cause.AUDIENCE_INVALID: _addresses,
    Cause.APP_NOT_FOUND: lambda known: (*_addresses(known), *_refreshed(known)),
    Cause.CONSUMER_KEY_UNKNOWN: _refreshed,
    Cause.SUBDOMAIN_UNKNOWN: _configured_address,
    Cause.ASSERTION_INVALID: _pairing,
    Cause.CLIENT_INVALID: _pairing,
    Cause.KEY_CERTIFICATE_MISMATCH: _problems,
    Cause.KEY_TOO_SHORT: _problems,
    Cause.KEY_NOT_RSA: _problems,
    Cause.CLOCK_SKEWED: clock_evidence,
    Cause.USERNAME_CHANGED: _username,
}


def quoted(error: str, description: str) -> str:
    """Code and text of an error, quoted."""
    return f'"{error}: {description}"' if error and description else f'"{error or description}"'


def span(length: timedelta) -> str:
    """A duration in a readable unit."""
    seconds = length.total_seconds()
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
