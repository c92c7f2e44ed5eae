"""What an answer or fault means by itself, without history."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from monitor.core.catalogue import CATALOGUE, Kind
from monitor.core.causes import Cause
from monitor.core.connection import ALLOWED_HOSTS, ALLOWED_SUFFIXES, Connection, is_generic
from monitor.core.finding import Certainty
from monitor.core.outcome import NO_STATUS, AfterLogin, FaultKind, Granted, NotSent, Refused, Unreachable
from monitor.core.verdict.answer import HTML_PAGE, NOT_SHOWN, REDIRECT
from monitor.core.verdict.vocabulary import (
    BROKEN_OFF,
    NO_SUCH_NAME,
    NOT_TLS,
    WORDS,
    Meaning,
    is_salesforces,
    of_key,
    of_text,
    plain,
)

UNRECOGNISED = Meaning(Cause.UNRECOGNISED, Certainty.POSSIBLE)

_TRANSIENT = Meaning(Cause.SALESFORCE_UNAVAILABLE, Certainty.LIKELY, (Cause.NETWORK_UNREACHABLE,))
_IN_BETWEEN = Meaning(Cause.NETWORK_UNREACHABLE, Certainty.LIKELY, (Cause.SALESFORCE_UNAVAILABLE,))
_MAYBE_IN_BETWEEN = Meaning(Cause.NETWORK_UNREACHABLE, Certainty.POSSIBLE, (Cause.SALESFORCE_UNAVAILABLE,))
_MOVED = Meaning(Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY, (Cause.SALESFORCE_UNAVAILABLE,))

_HIDDEN = Meaning(
    Cause.UNRECOGNISED,
    Certainty.POSSIBLE,
    (Cause.CONSUMER_NOT_APPROVED, Cause.USER_NOT_ADMIN_APPROVED, Cause.ASSERTION_INVALID),
)
"""A refusal of which a client shows only the status: nearly all refusals have the same one."""

THROTTLED = Meaning(
    Cause.LOGIN_RATE_EXCEEDED, Certainty.POSSIBLE, (Cause.SALESFORCE_UNAVAILABLE, Cause.NETWORK_UNREACHABLE)
)
"""HTTP 429 without a known text: never observed from the token endpoint, so it may come from a proxy, and is
not a verdict until it lasts."""

_STRANGERS = re.compile("|".join([*WORDS["block_pages"], *WORDS["intermediaries"]]))

_NO_SUCH_ORG = re.compile(r"url no longer exists|no such (org|host|domain)|unknown (host|domain)")

_OF_TRUST = re.compile(
    r"^(?!.*(remote error|\balert\b))"
    r".*(\bcert|certif|issuer|authority|trust|self.?signed|pkix|x509|altname|\bca\b)"
)
"""Other TLS errors are about versions and ciphers, and may come from a proxy. An alert is what the other side
complains of, who may be the client of a server's log."""

_BAD_ADDRESS = re.compile(r"allowed hosts|usable url|invalid url")


def of_refusal(refused: Refused, connection: Connection) -> Meaning:
    """What an answer other than a grant means. The first rule that applies decides:

    1. A status for which a proxy wants a password, or a portal a login.
    2. A server error is transient, whatever its text: no documented refusal has such a status.
    3. A redirect's target shows who sent it.
    4. An error text is looked up in the table, unless an intermediary wrote it; unknown texts are
          `unrecognised`. Without a code or sentence of Salesforce's, the meaning is never certain.
    5. Anything else is not an OAuth answer: a page, a broken or empty body.
    """
    strangers = bool(_STRANGERS.search(plain(f"{refused.description} {refused.excerpt}")))
    if refused.status in {407, 511}:
        return Meaning(Cause.NETWORK_UNREACHABLE, Certainty.CERTAIN)
    if refused.status >= 500:
        return _IN_BETWEEN if strangers else _TRANSIENT
    if 300 <= refused.status < 400:
        return _of_redirect(refused.excerpt, connection)
    text = _error_text(refused)
    if text is None or (strangers and refused.status in {401, 403, 451}):
        return _of_foreign_body(refused, strangers=strangers)
    found = of_text(text)
    if found is None:
        return THROTTLED if refused.status == 429 else UNRECOGNISED
    known = refused.error and is_salesforces(refused.error, refused.description)
    if found.certainty is Certainty.CERTAIN and not known:
        return replace(found, certainty=Certainty.LIKELY)
    return found


def of_fault(fault: Unreachable, connection: Connection) -> Meaning:
    """What a missing answer means. Never concerns the credential."""
    text = plain(fault.message)
    match fault.kind:
        case FaultKind.DNS if NO_SUCH_NAME.search(text) and not is_generic(connection.login_url):
            return Meaning(Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY, (Cause.NETWORK_UNREACHABLE,))
        case FaultKind.DNS | FaultKind.CONNECT:
            return Meaning(Cause.NETWORK_UNREACHABLE, Certainty.CERTAIN)
        case FaultKind.TLS if NOT_TLS.search(text):
            return Meaning(Cause.NETWORK_UNREACHABLE, Certainty.LIKELY, (Cause.TLS_UNTRUSTED,))
        case FaultKind.TLS if BROKEN_OFF.search(text):
            return _IN_BETWEEN
        case FaultKind.TLS:
            certainty = Certainty.CERTAIN if _OF_TRUST.search(text) else Certainty.LIKELY
            return Meaning(Cause.TLS_UNTRUSTED, certainty, tuple(_of_tls(text)))
        case FaultKind.TIMEOUT | FaultKind.PROTOCOL:
            return _IN_BETWEEN if _STRANGERS.search(text) else _TRANSIENT
        case FaultKind.POOL:
            return Meaning(Cause.MONITOR_FAULT, Certainty.CERTAIN)


_UNREADABLE = "this version cannot read its history"
"""Then follow names of our own fields, such as `key_fingerprint`, which are not about the key."""


def of_not_sent(not_sent: NotSent) -> Meaning:
    """Why nothing was sent, if the key has no known problem."""
    text = plain(not_sent.message)
    if (cause := of_key(text)) and not text.startswith(_UNREADABLE):
        return Meaning(cause, Certainty.LIKELY)
    if _BAD_ADDRESS.search(text):
        return Meaning(Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY)
    return Meaning(Cause.MONITOR_FAULT, Certainty.CERTAIN)


_SPENT_ALLOCATION = re.compile(r"request limit exceeded|totalrequests limit|limit exceeded")
_JWT_NOT_TAKEN = re.compile(r"invalid jwt format|invalid auth header")
_NOT_FOR_REST = re.compile(r"not valid for use with the (rest )?api")
_API_OFF = re.compile(r"\bapi\b.{0,40}(disabled|not enabled)")
_DEAD_SESSION = re.compile(r"invalid ?session|bad oauth token|missing oauth token|session expired")
_SESSION_LEVEL = re.compile(r"high assurance|session (security )?level|multi.?factor")
_WRONG_ORG = re.compile(r"wrong.?org")

_NOT_FOR_CALLS = Meaning(
    Cause.APP_BLOCKED, Certainty.POSSIBLE, (Cause.NOT_AUTHORIZED, Cause.IP_RESTRICTED, Cause.API_DISABLED)
)
_NO_SCOPE_PERHAPS = Meaning(
    Cause.SCOPE_MISSING, Certainty.POSSIBLE, (Cause.APP_BLOCKED, *_NOT_FOR_CALLS.others)
)
"""If the grant does not list its scopes."""
_CALL_REFUSED = Meaning(
    Cause.UNRECOGNISED, Certainty.POSSIBLE, (Cause.IP_RESTRICTED, Cause.APP_BLOCKED, Cause.API_DISABLED)
)


def of_after_login(after: AfterLogin, granted: Granted) -> Meaning | None:
    """What a refused API call means; None if it says nothing about the credential, as a spent allocation."""
    text = plain(f"{after.error}: {after.message}")
    if after.proves or after.missed or _SPENT_ALLOCATION.search(text):
        return None
    scopes_suffice = granted.scopes is None or bool(granted.scopes & API_SCOPES)
    is_jwt = granted.token_format == "jwt"  # noqa: S105 - a format, no secret
    if _JWT_NOT_TAKEN.search(text) or (is_jwt and _DEAD_SESSION.search(text)):
        return Meaning(Cause.JWT_ACCESS_TOKEN, Certainty.LIKELY)
    if not scopes_suffice and (_NOT_FOR_REST.search(text) or _DEAD_SESSION.search(text)):
        return Meaning(Cause.SCOPE_MISSING, Certainty.LIKELY, (Cause.API_DISABLED,))
    if granted.of_site and (_NOT_FOR_REST.search(text) or _API_OFF.search(text)):
        return Meaning(Cause.NOT_AUTHORIZED, Certainty.LIKELY, (Cause.API_DISABLED, Cause.APP_BLOCKED))
    if _NOT_FOR_REST.search(text):
        return _NOT_FOR_CALLS if granted.scopes else _NO_SCOPE_PERHAPS
    if _SESSION_LEVEL.search(text):
        return Meaning(Cause.NOT_AUTHORIZED, Certainty.LIKELY, (Cause.APP_BLOCKED,))
    if _WRONG_ORG.search(text):
        return Meaning(Cause.IDENTITY_CHANGED, Certainty.POSSIBLE)
    return _of_call(text)


def _of_call(text: str) -> Meaning | None:
    """What the text of a refused call means if it does not concern the session."""
    found = of_text(text)
    if found and CATALOGUE[found.cause].stops_calls and found.cause is not Cause.NOT_AUTHORIZED:
        return Meaning(found.cause, Certainty.CERTAIN)
    if found and CATALOGUE[found.cause].kind is Kind.SALESFORCE:
        return None
    return _CALL_REFUSED


API_SCOPES = frozenset({"api", "full"})
"""Scopes that allow REST calls; `full` includes `api`."""


def _error_text(refused: Refused) -> str | None:
    """The refusal's text; None if the body is not an answer of the token endpoint.

    Without a code, an answer's text counts only if it is Salesforce's.
    """
    if refused.error:
        return f"{refused.error}: {refused.description}"
    if refused.status == NO_STATUS:
        return refused.description or None
    said = refused.description or refused.excerpt
    is_page = refused.excerpt.startswith(("{", "[", "<", HTML_PAGE))
    return said if refused.status in {400, 429} and not is_page and is_salesforces("", said) else None


def _of_foreign_body(refused: Refused, *, strangers: bool) -> Meaning:
    if strangers:
        return _IN_BETWEEN
    if refused.status == 429:
        return THROTTLED
    if refused.status == 405:
        # A host that redirects logins (`lightning.force.com`, `http:`) turns a POST into a GET.
        return Meaning(Cause.REQUEST_MALFORMED, Certainty.LIKELY, (Cause.SUBDOMAIN_UNKNOWN,))
    if refused.excerpt == NOT_SHOWN:
        return _HIDDEN
    if _NO_SUCH_ORG.search(plain(refused.excerpt)):
        return _MOVED
    return _MAYBE_IN_BETWEEN if refused.status in {401, 403, 451} else _TRANSIENT


def _of_redirect(excerpt: str, connection: Connection) -> Meaning:
    target = excerpt.removeprefix(REDIRECT).split(" ")[0]
    try:
        host = urlsplit(target).hostname or ""
    except ValueError:
        host = ""
    if target.startswith("/") and not host:
        host = connection.host
    if not host:
        return _MAYBE_IN_BETWEEN
    if host == connection.host or host in ALLOWED_HOSTS:
        return Meaning(Cause.SALESFORCE_UNAVAILABLE, Certainty.POSSIBLE, (Cause.SUBDOMAIN_UNKNOWN,))
    if host.endswith(ALLOWED_SUFFIXES):
        return _MOVED
    return _TRANSIENT if host.endswith((".salesforce.com", ".force.com")) else _IN_BETWEEN


def _of_tls(text: str) -> Iterator[Cause]:
    if re.search(r"expired|not yet valid|nottimevalid", text):
        yield Cause.CLOCK_SKEWED
    if re.search(r"hostname|host name|name mismatch|not valid for", text):
        yield Cause.SUBDOMAIN_UNKNOWN
    yield Cause.NETWORK_UNREACHABLE
