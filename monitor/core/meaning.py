"""What an answer or a fault means by itself, before the past is asked.

Texts are matched after `_plain` made them alike: lower case, `'` for `’`, a space for each underscore and run
of blanks. The first rule that fits decides, so what is said precisely stands before what is said in general.
Rules follow documented texts, Salesforce's names for a refused login (`LoginHistory`), and their likely
rewordings.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from monitor.core.answer import HTML_PAGE, REDIRECT
from monitor.core.catalogue import CATALOGUE, Kind
from monitor.core.causes import Cause
from monitor.core.connection import ALLOWED_HOSTS, ALLOWED_SUFFIXES, Connection, is_generic
from monitor.core.finding import Certainty
from monitor.core.outcome import AfterLogin, FaultKind, Granted, NotSent, Refused, Unreachable


@dataclass(frozen=True, slots=True)
class Meaning:
    """A cause, how sure it is, and which others would answer alike, most likely first."""

    cause: Cause
    certainty: Certainty
    others: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern that is searched for in a text, and what it means."""

    pattern: re.Pattern[str]
    meaning: Meaning


def _rules(*rows: tuple[Cause, Certainty, tuple[Cause, ...], tuple[str, ...]]) -> tuple[Rule, ...]:
    return tuple(
        Rule(re.compile("|".join(patterns)), Meaning(cause, certainty, others))
        for cause, certainty, others, patterns in rows
    )


_APPROVALS = (Cause.USER_NOT_ADMIN_APPROVED, Cause.SCOPE_MISSING, Cause.USERNAME_CHANGED)

TEXTS = _rules(
    (
        Cause.LOGIN_RATE_EXCEEDED,
        Certainty.CERTAIN,
        (),
        (
            r"login rate",
            r"rate (limit )?exceeded",
            r"(number of|too many) log.?ins?",
            r"log.?ins? (limit )?exceeded",
            r"exceeded .{0,30}log.?ins?\b",
            r"request limit exceeded",
        ),
    ),
    (
        Cause.SALESFORCE_UNAVAILABLE,
        Certainty.CERTAIN,
        (),
        (
            r"retry your request",
            r"\bmaintenance\b",
            r"(temporarily|currently|server|service|system) (is )?(temporarily |currently )?unavailable",
            r"internal (server )?error",
            r"being migrated",
            r"data not available",
        ),
    ),
    (
        Cause.REQUEST_MALFORMED,
        Certainty.CERTAIN,
        (),
        (
            r"scope parameter",
            r"missing .{0,40}param",
            r"param\w* .{0,20}missing",
            r"(jti|assertion|jwt)\b.{0,20}(already (been )?used|replay)",
        ),
    ),
    (
        Cause.AUDIENCE_INVALID,
        Certainty.CERTAIN,
        (),
        (r"\baudience\b", r"\baud\b"),
    ),
    (
        Cause.AUDIENCE_INVALID,
        Certainty.LIKELY,
        (Cause.APP_NOT_FOUND,),
        (r"not supported on this domain", r"must (use|log.?in).{0,30}my domain"),
    ),
    (
        Cause.SCOPE_MISSING,
        Certainty.LIKELY,
        (Cause.CONSUMER_NOT_APPROVED, Cause.USER_NOT_ADMIN_APPROVED),
        (
            r"refresh token scope",
            r"(no|invalid|insufficient|missing).{0,20} scopes?\b",
            r"scopes? .{0,20}(required|missing|not (granted|allowed|enabled|assigned|defined))",
        ),
    ),
    (
        Cause.ASSERTION_INVALID,
        Certainty.LIKELY,
        (Cause.CERTIFICATE_EXPIRED, Cause.CERTIFICATE_NOT_YET_VALID),
        (r"certificat\w* .{0,20}(expired|not yet valid)", r"expired certificat"),
    ),
    (
        Cause.CONSUMER_NOT_APPROVED,
        Certainty.LIKELY,
        _APPROVALS,
        (
            r"refresh token.{0,30}(expired|revoked|invalid)",
            r"(expired|revoked|invalid).{0,20}refresh token",
            r"token (was |has been |is )?revoked",
            r"approval .{0,20}(expired|revoked|aged)",
        ),
    ),
    (
        Cause.CLOCK_SKEWED,
        Certainty.LIKELY,
        (Cause.REQUEST_MALFORMED,),
        (
            r"expired authorization code",
            r"authorization code.{0,10} expired",
            r"(assertion|jwt|token|exp|expiration)\b.{0,30} (expired|in the (past|future)|too (old|far))",
            r"expired (assertion|jwt|token)",
            r"not yet valid",
            r"\b(exp|iat|nbf)\b",
            r"\bclock\b",
        ),
    ),
    (
        Cause.IP_RESTRICTED,
        Certainty.CERTAIN,
        (),
        (
            r"\bip (address )?(is |was )?(restrict|not allowed|denied|blocked)",
            r"\bip (address|range)",
            r"restricted (ip|time|domain|hours)",
            r"login (hours|ip|from .{0,20}not allowed)",
            r"outside .{0,30}(hours|range)",
        ),
    ),
    (
        Cause.API_DISABLED,
        Certainty.CERTAIN,
        (),
        (
            r"\bapi\b.{0,40}(disabled|not enabled|not allowed)",
            r"(disabled|not enabled) .{0,30}\bapi\b",
        ),
    ),
    (
        Cause.ORG_INACTIVE,
        Certainty.CERTAIN,
        (),
        (
            (
                r"\b(org|organi[sz]ation|company|tenant)\b.{0,40}"
                r"(inactive|locked|closed|suspended|expired|disabled|deleted|not active)"
            ),
            r"(inactive|locked|suspended|closed|expired|deleted) (org|organi[sz]ation|company|tenant)\b",
            r"\btrial\b.{0,40}(expired|ended|over)",
        ),
    ),
    (
        Cause.USER_INACTIVE,
        Certainty.CERTAIN,
        (),
        (
            (
                r"\b(user|account|login)\b.{0,30}"
                r"(\binactive|frozen|locked|deactivated|disabled|suspended|not active|isn't active)"
            ),
            r"(inactive|frozen|deactivated|locked|disabled|suspended) (user|account)",
            r"password lockout",
            r"locked out",
        ),
    ),
    (
        Cause.APP_BLOCKED,
        Certainty.CERTAIN,
        (Cause.APP_NOT_FOUND, Cause.USER_NOT_ADMIN_APPROVED),
        (
            r"\b(app|application|consumer)\b.{0,20}(blocked|disabled|not enabled|not active|uninstalled)",
            r"(blocked|disabled|uninstalled) (\w+ )?(app|application|consumer)\b",
            r"blocked by",
            r"app must be installed",
        ),
    ),
    (
        Cause.APP_NOT_FOUND,
        Certainty.LIKELY,
        (Cause.AUDIENCE_INVALID, Cause.CONSUMER_KEY_UNKNOWN, Cause.APP_BLOCKED),
        (
            r"\b(app|application)\b.{0,40}(not|n't) (been |be )?(installed|found|exist|available|present)",
            r"no such app",
        ),
    ),
    (
        Cause.USER_NOT_ADMIN_APPROVED,
        Certainty.CERTAIN,
        (Cause.CONSUMER_NOT_APPROVED,),
        (
            r"\badmin\w*.?approv",
            r"approved by .{0,20}admin",
            r"not approved (for|to) access",
            r"\bapp access\b",
            r"not pre.?authori",
        ),
    ),
    (
        Cause.CONSUMER_NOT_APPROVED,
        Certainty.LIKELY,
        _APPROVALS,
        (
            (
                r"(n't|not|never)( yet| been| be|)* (approved?|authori[sz]ed?|consent\w*).{0,20}"
                r"(consumer|app|client|application)\b"
            ),
            r"\b(consumer|app|client|application)\b.{0,20}(n't|not|never) .{0,10}approved",
            r"(approval|consent)\b.{0,20}(required|missing|not found|error)",
            r"\bno .{0,20}(approval|consent)\b",
            r"\bmust (first )?(approve|authori[sz]e)\b",
        ),
    ),
    (
        Cause.USERNAME_CHANGED,
        Certainty.LIKELY,
        (Cause.USER_INACTIVE, Cause.CONSUMER_NOT_APPROVED),
        (
            r"(invalid|unknown|wrong|no such) (user|username|subject|sub|prn)\b",
            r"\bno user\b.{0,20}(found|exist|match|with|named)",
            (
                r"\b(user|username|subject|sub|prn)\b.{0,60}"
                r"(not found|unknown|invalid|(not|n't) (exist|be found)|not recogni[sz]ed)"
            ),
        ),
    ),
    (
        Cause.CONSUMER_KEY_UNKNOWN,
        Certainty.CERTAIN,
        (Cause.APP_NOT_FOUND,),
        (
            r"invalid client id",
            r"client identifier",
            r"\b(consumer|client)( key| id)?\b.{0,20}(unknown|deleted|not found|(not|n't) exist)",
            r"(invalid|unknown|wrong|deleted|no such) (consumer|issuer|client (id|key))",
            r"unknown client",
            r"\b(consumer key|issuer)\b.{0,20}invalid",
        ),
    ),
    (
        Cause.FLOW_DISABLED,
        Certainty.LIKELY,
        (Cause.REQUEST_MALFORMED, Cause.CLIENT_INVALID),
        (
            r"unsupported grant type",
            r"grant type.{0,20} (not|n't)\b",
            r"\bflow\b.{0,20}(not|n't|disabled|blocked)",
            r"jwt bearer.{0,20}(not|n't|disabled)",
            r"oauth.{0,20}(disabled|not enabled)",
            r"unauthorized client",
            r"no client credentials user",
        ),
    ),
    (
        Cause.CLIENT_INVALID,
        Certainty.LIKELY,
        (Cause.ASSERTION_INVALID, Cause.KEY_CERTIFICATE_MISMATCH),
        (
            r"invalid client\b",
            r"client (authentication|credentials)",
            r"\bno certificate",
            r"certificate .{0,20}(missing|not found|not set|not configured|not uploaded)",
        ),
    ),
    (
        Cause.ASSERTION_INVALID,
        Certainty.LIKELY,
        (
            Cause.KEY_CERTIFICATE_MISMATCH,
            Cause.FLOW_DISABLED,
            Cause.CLIENT_INVALID,
            Cause.USERNAME_CHANGED,
        ),
        (
            r"(invalid|bad|malformed) (assertion|jwt|signature)",
            r"\b(assertion|jwt|signature)\b.{0,30}(invalid|not valid|malformed|fail|mismatch|not verif)",
        ),
    ),
    (
        Cause.NOT_AUTHORIZED,
        Certainty.LIKELY,
        (Cause.IP_RESTRICTED, Cause.API_DISABLED, Cause.USER_NOT_ADMIN_APPROVED),
        (
            r"not authori[sz]ed",
            r"unauthori[sz]ed",
            r"(access|login|permission) (is |was )?(denied|refused)",
            r"not (permitted|allowed)",
            r"insufficient",
            r"\btxn security",
            r"transaction security",
            r"high assurance",
            r"session (security )?level",
            r"api.only user",
        ),
    ),
    (
        Cause.REQUEST_MALFORMED,
        Certainty.LIKELY,
        (),
        (r"invalid request", r"malformed", r"unsupported (content|media|response)"),
    ),
    (
        Cause.CONSUMER_NOT_APPROVED,
        Certainty.POSSIBLE,
        (
            Cause.USER_NOT_ADMIN_APPROVED,
            Cause.USERNAME_CHANGED,
            Cause.ASSERTION_INVALID,
            Cause.AUDIENCE_INVALID,
            Cause.IP_RESTRICTED,
        ),
        (r"^invalid grant: *$", r"invalid grant: (authentication failure|invalid grant)$"),
    ),
    (
        Cause.SALESFORCE_UNAVAILABLE,
        Certainty.LIKELY,
        (),
        (r"unknown error", r"unexpected error", r"server error", r"unavailable", r"try again", r"time.?out"),
    ),
)
"""What the text of a refusal means: `error: description`, as `_plain` has it."""

_DECIDING_CODES = {
    "invalid app access": Cause.USER_NOT_ADMIN_APPROVED,
    "invalid client id": Cause.CONSUMER_KEY_UNKNOWN,
    "app not found": Cause.APP_NOT_FOUND,
    "oauth app blocked": Cause.APP_BLOCKED,
    "inactive user": Cause.USER_INACTIVE,
    "inactive org": Cause.ORG_INACTIVE,
}
"""Codes that say all there is to say. Their texts may hold names, and an app may be called `Time Clock`."""

UNRECOGNISED = Meaning(Cause.UNRECOGNISED, Certainty.POSSIBLE)

_TRANSIENT = Meaning(Cause.SALESFORCE_UNAVAILABLE, Certainty.LIKELY, (Cause.NETWORK_UNREACHABLE,))
_IN_BETWEEN = Meaning(Cause.NETWORK_UNREACHABLE, Certainty.LIKELY, (Cause.SALESFORCE_UNAVAILABLE,))
_MAYBE_IN_BETWEEN = Meaning(Cause.NETWORK_UNREACHABLE, Certainty.POSSIBLE, (Cause.SALESFORCE_UNAVAILABLE,))
_MOVED = Meaning(Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY, (Cause.SALESFORCE_UNAVAILABLE,))
_GONE = Meaning(Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY, (Cause.NETWORK_UNREACHABLE,))

_THROTTLED = Meaning(
    Cause.LOGIN_RATE_EXCEEDED, Certainty.POSSIBLE, (Cause.SALESFORCE_UNAVAILABLE, Cause.NETWORK_UNREACHABLE)
)
"""HTTP 429 by itself: none was ever seen from the token endpoint, so it may as well be a proxy's."""

_STRANGERS = re.compile(
    r"captive|hot.?spot|wi-?fi|\bproxy|squid|firewall|zscaler|forti(net|gate|guard)|palo alto|blue.?coat"
    r"|forcepoint|websense|netskope|umbrella|sophos|barracuda|checkpoint|(web|content|url) filter"
    r"|internet access|(guest|network) (access|login|portal|authentication)|acceptable use"
    r"|blocked by|page blocked|requested url could not be retrieved|cache administrator"
)
"""Words by which a page shows that it comes from something between us and Salesforce."""

_NO_SUCH_ORG = re.compile(r"url no longer exists|no such (org|host|domain)|unknown (host|domain)")

_NO_SUCH_NAME = re.compile(
    r"errno -(2|5)\b|eai noname|eai nodata|nxdomain|enotfound|name or service not known|name does not resolve"
    r"|no address associated|nodename nor servname|no such host|non-?existent domain|could not resolve host"
    r"|name not resolved|couldn't resolve host|errno 11001|no usable address"
)
"""The resolver answered that there is no such name; any other trouble of it is not the name's fault."""

_BAD_KEYS = (
    (Cause.KEY_NOT_RSA, re.compile(r"not an? rsa|elliptic|\becd?sa\b|\bed25519\b|unsupported key")),
    (Cause.KEY_TOO_SHORT, re.compile(r"\b\d{2,4}.bits?\b|too short")),
    (Cause.KEY_CERTIFICATE_MISMATCH, re.compile(r"\bkey\b.{0,40}(not|n't|mis).{0,10}(match|pair)|mismatch")),
    (
        Cause.KEY_UNREADABLE,
        re.compile(
            r"\bkey\b.{0,60}(unreadable|missing|encrypted|damaged)"
            r"|\bkey\b.{0,60}(not|n't) (be )?(read|found|load|pars|deserial|permit)"
            r"|base64|\bpem\b|passphrase|no such file|permission denied|deserialize|no usable private key"
        ),
    ),
)
"""Why nothing was sent, as a recorded message tells it; a running monitor knows it from the key itself."""

_BAD_ADDRESS = re.compile(r"allowed hosts|usable url|invalid url")


def of_refusal(refused: Refused, connection: Connection) -> Meaning:
    """What an answer means that is no grant. The first of these that fits:

    1. A proxy that wants a password or a portal that wants a login say so by their status.
    2. A server error is transient, whatever it says: no source has a refusal with such a status.
    3. A redirect says by its target whose it is.
    4. An error text means what the table says; unknown ones are `unrecognised`.
    5. Whatever else is no OAuth answer: a page, a broken or an empty body.
    """
    strangers = bool(_STRANGERS.search(_plain(f"{refused.description} {refused.excerpt}")))
    if refused.status in {407, 511}:
        return Meaning(Cause.NETWORK_UNREACHABLE, Certainty.CERTAIN)
    if refused.status >= 500:
        return _IN_BETWEEN if strangers else _TRANSIENT
    if 300 <= refused.status < 400:
        return _of_redirect(refused.excerpt, connection)
    text = _error_text(refused)
    if text is None:
        return _of_foreign_body(refused, strangers=strangers)
    found = of_text(text)
    if found is None and refused.status == 429:
        return _THROTTLED
    return found or UNRECOGNISED


def of_text(text: str) -> Meaning | None:
    """What an error text (`error: description`) means; None where no rule knows it."""
    plain = _plain(text)
    if decided := _DECIDING_CODES.get(plain.partition(":")[0]):
        return next(rule.meaning for rule in TEXTS if rule.meaning.cause is decided)
    return next((rule.meaning for rule in TEXTS if rule.pattern.search(plain)), None)


def of_fault(fault: Unreachable, connection: Connection) -> Meaning:
    """What it means that no answer came. No fault says anything of a credential."""
    text = _plain(fault.message)
    match fault.kind:
        case FaultKind.DNS if _NO_SUCH_NAME.search(text) and not is_generic(connection.login_url):
            return _GONE
        case FaultKind.DNS | FaultKind.CONNECT:
            return Meaning(Cause.NETWORK_UNREACHABLE, Certainty.CERTAIN)
        case FaultKind.TLS:
            return Meaning(Cause.TLS_UNTRUSTED, Certainty.CERTAIN, tuple(_of_tls(text)))
        case FaultKind.TIMEOUT | FaultKind.PROTOCOL:
            return _IN_BETWEEN if _STRANGERS.search(text) else _TRANSIENT
        case FaultKind.POOL:
            return Meaning(Cause.MONITOR_FAULT, Certainty.CERTAIN)


def of_not_sent(not_sent: NotSent) -> Meaning:
    """What it means that nothing was sent, where the key itself is not known to be at fault."""
    text = _plain(not_sent.message)
    for cause, pattern in _BAD_KEYS:
        if pattern.search(text):
            return Meaning(cause, Certainty.LIKELY)
    if _BAD_ADDRESS.search(text):
        return Meaning(Cause.SUBDOMAIN_UNKNOWN, Certainty.LIKELY)
    return Meaning(Cause.MONITOR_FAULT, Certainty.CERTAIN)


_SPENT_ALLOCATION = re.compile(r"request limit exceeded|totalrequests limit|limit exceeded")
_JWT_NOT_TAKEN = re.compile(r"invalid jwt format|invalid auth header")
_NOT_FOR_REST = re.compile(r"not valid for use with the (rest )?api")
_DEAD_SESSION = re.compile(r"invalid session|bad oauth token|missing oauth token|session expired")
_WRONG_ORG = re.compile(r"wrong.?org")

_SPEAKS_OF_THE_GRANT = frozenset({400, 401, 403})
"""The statuses with which a first call can be refused for what the token is; others are about the call."""


def of_after_login(after: AfterLogin, granted: Granted) -> Meaning | None:
    """What a refused first call means; None where it says nothing against the credential.

    A spent daily allocation, a maintenance window or a proxy's page leave the credential healthy.
    """
    text = _plain(f"{after.error}: {after.message}")
    if after.status not in _SPEAKS_OF_THE_GRANT or not after.error or _SPENT_ALLOCATION.search(text):
        return None
    scopes_suffice = granted.scopes is None or bool(granted.scopes & API_SCOPES)
    is_jwt = granted.token_format == "jwt"  # noqa: S105 - a format, no secret
    if _JWT_NOT_TAKEN.search(text) or (is_jwt and _DEAD_SESSION.search(text)):
        return Meaning(Cause.JWT_ACCESS_TOKEN, Certainty.LIKELY)
    if _NOT_FOR_REST.search(text) or (not scopes_suffice and _DEAD_SESSION.search(text)):
        return Meaning(Cause.SCOPE_MISSING, Certainty.LIKELY, (Cause.API_DISABLED,))
    if _WRONG_ORG.search(text):
        return Meaning(Cause.IDENTITY_CHANGED, Certainty.POSSIBLE)
    found = of_text(text)
    if found and CATALOGUE[found.cause].stops_calls:
        return Meaning(found.cause, Certainty.CERTAIN)
    if found and CATALOGUE[found.cause].kind is Kind.SALESFORCE:
        return None
    others = (Cause.IP_RESTRICTED, Cause.API_DISABLED, Cause.SCOPE_MISSING)
    return Meaning(Cause.UNRECOGNISED, Certainty.POSSIBLE, others)


API_SCOPES = frozenset({"api", "full"})
"""Scopes with which a token may call the REST API; `full` includes `api`."""


def _plain(text: str) -> str:
    """The text as the tables expect it."""
    return " ".join(re.sub("[’‘ʼ`´]", "'", text).replace("_", " ").lower().split())


def _error_text(refused: Refused) -> str | None:
    """The refusal's own words; None where a body is no answer of the token endpoint's.

    A text without a code counts at status 400 (or 429) only: others than the token endpoint use the rest.
    """
    if refused.error:
        return f"{refused.error}: {refused.description}"
    if refused.status not in {400, 429}:
        return None
    if refused.description:
        return refused.description
    broken = refused.excerpt.startswith(("{", "[", "<", HTML_PAGE))
    return None if broken or not refused.excerpt or not of_text(refused.excerpt) else refused.excerpt


def _of_foreign_body(refused: Refused, *, strangers: bool) -> Meaning:
    if strangers:
        return _IN_BETWEEN
    if refused.status == 429:
        return _THROTTLED
    if _NO_SUCH_ORG.search(_plain(refused.excerpt)):
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
    if re.search(r"expired|not yet valid", text):
        yield Cause.CLOCK_SKEWED
    if re.search(r"hostname|host name|name mismatch|not valid for", text):
        yield Cause.SUBDOMAIN_UNKNOWN
    yield Cause.NETWORK_UNREACHABLE
