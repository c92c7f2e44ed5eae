"""Maps the text of a refusal to a cause.

Texts are normalised by `plain` first: lower case, `'` for `’`, one space for underscores and runs of blanks.
The first matching rule decides, so specific rules precede general ones. Rules cover documented texts,
Salesforce's statuses for refused logins (`login_history`), and likely rewordings.
"""

import re
from dataclasses import dataclass

from monitor.core.causes import Cause
from monitor.core.finding import Certainty
from monitor.core.verdict.login_history import STATUSES
from monitor.core.verdict.vocabulary import FOREIGN


@dataclass(frozen=True, slots=True)
class Meaning:
    """A cause, its certainty, and other causes with the same answer, most likely first."""

    cause: Cause
    certainty: Certainty
    others: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern to search for in a text, and its meaning."""

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
        Cause.APP_BLOCKED,
        Certainty.CERTAIN,
        (Cause.APP_NOT_FOUND, Cause.USER_NOT_ADMIN_APPROVED),
        (r"api access control",),
    ),
    (
        Cause.LOGIN_RATE_EXCEEDED,
        Certainty.CERTAIN,
        (),
        (
            r"login rate",
            r"rate (limit )?exceeded",
            r"(number of|too many) log.?ins?",
            r"log.?ins? (limit )?exceeded",
            r"exceeded .{0,30}log.?ins?\b|access token limit exceeded",
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
            r"already being processed",
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
            r"(jti|assertion|jwt)\b.{0,20}already (been )?used",
            r"\breplay|invalid nonce",
            r"must use http post|only post allowed|invalid http method|insecure channel",
            r"unexpected param|version not supported|callback url",
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
        (
            r"not supported on this domain",
            r"must (use|log.?in).{0,30}my domain",
            r"restricted domain",
            r"recipient mismatch|invalid site url",
        ),
    ),
    (
        Cause.JWT_ACCESS_TOKEN,
        Certainty.LIKELY,
        (Cause.SCOPE_MISSING,),
        (r"too many scopes",),
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
            r"token (was |has been |is )?(expired or )?revoked",
            r"token validity",
            r"(invalid|expired) token$",
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
            r"expired (assertion|jwt|token)\b",
            r"not yet valid",
            r"\b(exp|iat|nbf)\b",
            r"invalid timestamp",
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
            r"restricted (ip|time|country|hours)",
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
                r"\b(inactive|locked|closed|suspended|expired|disabled|deleted|not active)"
            ),
            r"(inactive|locked|suspended|closed|expired|deleted) (org|organi[sz]ation|company|tenant)\b",
            r"\btrial\b.{0,40}(expired|ended|over)",
        ),
    ),
    (
        # SOAP answers this to any failed login; the user need not be locked.
        Cause.USER_INACTIVE,
        Certainty.POSSIBLE,
        (Cause.USERNAME_CHANGED, Cause.NOT_AUTHORIZED, Cause.IP_RESTRICTED),
        (r"\bor user locked out", r"invalid username, password"),
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
            r"\b(app|application|consumer)\b(?!\.).{0,20}(blocked|disabled|not (enabled|active)|uninstalled)",
            r"(blocked|disabled|uninstalled) (\w+ )?(app|application|consumer)\b",
            r"blocked by .{0,20}admin",
            r"app must be installed",
            r"\bpackage\b.{0,40}(not installed|out of date)",
        ),
    ),
    (
        Cause.APP_BLOCKED,
        Certainty.LIKELY,
        (Cause.USER_NOT_ADMIN_APPROVED, Cause.CONSUMER_NOT_APPROVED),
        (r"approval error generic",),
    ),
    (
        Cause.APP_NOT_FOUND,
        Certainty.LIKELY,
        (
            Cause.AUDIENCE_INVALID,
            Cause.USER_NOT_ADMIN_APPROVED,
            Cause.CONSUMER_KEY_UNKNOWN,
            Cause.APP_BLOCKED,
        ),
        (
            r"\b(app|application)\b.{0,40}(not|n't) (been |be )?(installed|found|exist|available|present)",
            r"no such app",
            r"cross.?org",
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
            r"\buser (hasn't|has not) approved",
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
                r"\b(user|username|subject|sub|prn)\b(?!:\S).{0,60}"
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
            r"\b(consumer key|issuer)\b.{0,20}(invalid|mismatch)",
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
            r"perm disabled",
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
        # Other login flows, and what they require.
        Cause.NOT_AUTHORIZED,
        Certainty.POSSIBLE,
        (Cause.USERNAME_CHANGED, Cause.USER_INACTIVE, Cause.IP_RESTRICTED),
        (
            r"authentication fail|mutual authentication",
            r"invalid (login|password|credentials)|login invalid|security token",
            r"(two|multi|second).?factor|\bmfa\b",
            r"(challenge|activation|verification|lightning login) (is )?(required|issued|pending)",
            r"\b(portal|site)\b.{0,20}(disabled|inactive|offline|access)|profile association",
        ),
    ),
    (
        Cause.REQUEST_MALFORMED,
        Certainty.LIKELY,
        (),
        (r"invalid request", r"malformed(?! (query|id|search)\b)", r"unsupported (content|media|response)"),
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
        (r"^invalid grant: *(invalid grant)?$",),
    ),
    (
        Cause.SALESFORCE_UNAVAILABLE,
        Certainty.LIKELY,
        (),
        (r"unknown error", r"unexpected error", r"server error", r"unavailable", r"try again", r"time.?out"),
    ),
)
"""Rules for `error: description`, as normalised by `_plain`."""

_DECIDING_CODES = {
    "invalid app access": Cause.USER_NOT_ADMIN_APPROVED,
    "invalid client id": Cause.CONSUMER_KEY_UNKNOWN,
    "app not found": Cause.APP_NOT_FOUND,
    "oauth app blocked": Cause.APP_BLOCKED,
    "inactive user": Cause.USER_INACTIVE,
    "inactive org": Cause.ORG_INACTIVE,
}
"""Codes that are sufficient. Their texts may contain names, and an app may be called `Time Clock`."""


def of_text(text: str) -> Meaning | None:
    """What an error text (`error: description`) means; None if no rule matches."""
    if FOREIGN.search(text):
        return None
    spoken = plain(text)
    code, _, description = spoken.partition(":")
    if decided := _DECIDING_CODES.get(code):
        meant = (rule.meaning for rule in TEXTS if rule.meaning.cause is decided)
        return min(meant, key=lambda meaning: list(Certainty).index(meaning.certainty))
    if status := _EVENTS.get(code):
        spoken = f"{status}{description}"
    return next((rule.meaning for rule in TEXTS if rule.pattern.search(spoken)), None)


def plain(text: str) -> str:
    """The text normalised for the rules."""
    return " ".join(re.sub("[’‘ʼ`´]", "'", text).replace("_", " ").lower().split())


_EVENTS = {plain(code): plain(status) for code, status in STATUSES.items()} | {
    "login during restricted domain": "restricted ip"  # the SOAP API's name for it
}
