"""What a pasted text tells: the answer or the fault within any log line, ticket, dump or screen around it.

1. `_unwrapped` undoes what carried the text: line ends, HTML, percent signs, JSON within JSON.
2. `_attempts` finds the refusals in it: Salesforce's codes and sentences, in whatever format and order.
3. `_deciding` picks the one that counts; without one, `read` looks for a bad key, then for a fault.

Every step looks at the text a fixed number of times: its cost grows with the length, never with its square.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import cast
from urllib.parse import unquote

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import is_generic
from monitor.core.outcome import NO_STATUS, FaultKind, Granted, NotSent, Outcome, Refused, Unreachable
from monitor.core.verdict.answer import CODE_LIMIT, HTML_PAGE, NOT_SHOWN, harmless, read_answer
from monitor.core.verdict.faults import ORDER, kind_of, of_key
from monitor.core.verdict.login_history import STATUSES
from monitor.core.verdict.texts import Meaning, of_text, plain

ESCAPED_AT_MOST = 4
"""So often is a text unescaped: JSON in a log line of JSON in a message is three deep."""

VALUE_LIMIT = 400
"""Characters of a labelled value that are looked at; the longest description known has 70."""

ADJACENT = 80
"""Characters between a code and a `message` that belongs to it: the label, quotes, perhaps a name between."""

AT_MOST = 200
"""Codes, labels and sentences that are looked at, from the end: a paste is no archive."""

ALMOST_ALWAYS = 400
"""The status of a refusal."""

SERVER_ERROR = 500
"""From this status on it is a server's or gateway's own, and not that of the answer which it passes on."""

_SENTENCES = (
    "user hasn't approved this consumer",
    "user is not admin approved to access this app",
    "audience is invalid",
    "audience validation failed",
    "invalid assertion",
    "invalid client credentials",
    "client identifier invalid",
    "external client app is not installed in this org",
    "expired authorization code",
    "inactive user",
    "inactive organization",
    "ip restricted",
    "login rate exceeded",
    "retry your request",
    "token request is already being processed",
    "grant type not supported",
    "scope parameter not supported",
    "authentication failure",
    "expired access/refresh token",
    "token validity expired",
    "activation secret invalid",
    "no valid scopes defined",
    "too many scopes requested",
    "request not supported on this domain",
    "no client credentials user enabled",
    "app must be installed into org",
    "this app is blocked by admin",
    "user is locked",
    "not approved for access",
    "we are down for maintenance",
    "api is disabled for this user",
    "api is currently disabled for this user",
    "the rest api is not enabled for this organization",
    "this session is not valid for use with the rest api",
    "this session is not valid for use with the api",
    "or user locked out",
    *map(str.lower, STATUSES.values()),
)
"""Salesforce's own sentences: wherever one stands in a paste, it is what Salesforce said."""

_CODE = re.compile(
    r"(?<![\w.-])(invalid_grant|invalid_app_access|invalid_client_id|invalid_client|app_not_found"
    r"|unsupported_grant_type|invalid_request|unknown_error|server_error|temporarily_unavailable"
    r"|inactive_user|inactive_org|rate_limit_exceeded|login_rate_exceeded|unauthorized_client|invalid_scope"
    r"|access_denied|invalid_assertion|oauth_[a-z_]{3,50}|login_(?:error|oauth|saml|org)_[a-z_]{3,50}"
    r"|login_twofactor_req|login_lightning_login|login_during_[a-z_]{3,50}|invalid_login|invalid_session_id"
    r"|request_limit_exceeded|api_currently_disabled|api_disabled_for_org|invalid_jwt_format"
    r"|invalid_auth_header|bad_oauth_token|missing_oauth_token|org_locked|org_in_maintenance|trial_expired"
    r"|password_lockout|txn_security_[a-z_]{3,50}|server_unavailable|insufficient_access[a-z_]{0,50}"
    r"|functionality_temporarily_unavailable|unsupported_api_version)(?!\w)",
    re.IGNORECASE,
)
"""Codes of the token endpoint, of the first call after it, of SOAP and of event logs."""

_BESIDE = re.compile(r"([\"'\])} :=,|–—-]{0,8})([^\W\d_][^\n]{0,400})")
_LABEL_NEXT = re.compile(r"\w{1,40}(?: \w{1,20}){0,2}[\"'\]]{0,2} ?(?:=>|=|[:>](?![\w/]))")
_END_OF_TEXT = re.compile(r"[\"\]}<|]|\s[{\[(]|'(?!\w)")
"""What stands behind a code on its line: its text, unless it is the next label; and where that text ends."""

_STRONG_LABELS = r"error[_ -]?description|error[_ -]?message|error[_ -]?msg|faultstring|exceptionmessage"
_LABELLED = re.compile(
    rf"(?<![^\W_])(?:({_STRONG_LABELS})|message|msg|detail|reason|description)[\"'\]]{{0,2}} ?(?:=>|[:=>]) ?"
    rf"(?:\"([^\"]{{1,{VALUE_LIMIT}}})|'((?:[^'\n]|'(?=\w)){{1,{VALUE_LIMIT}}})"
    rf"|([^\"'\s{{\[][^\n}}&<]{{0,{VALUE_LIMIT}}}))",
    re.IGNORECASE,
)
"""A description under one of its usual names, as JSON, Python, Node, PHP, YAML, XML and forms write them."""

_OTHER_CODED = re.compile(
    r"(?<![\w.])([a-z]{1,30}(?:_[a-z]{1,30}){1,8}|[A-Z]{1,30}(?:_[A-Z]{1,30}){1,8}):\s([^\n]{1,400})"
)
"""A code that is not known, before a colon."""

_REASON = (
    r"[ :(-]{1,3}(?:Bad Request|Unauthorized|Forbidden|Client Error|Server Error|Service Unavailable"
    r"|Internal Server Error|Bad Gateway|Gateway Time-?out|Too Many Requests|Proxy Authentication Required)"
)
_STATUS = re.compile(
    r"\b(?:HTTP(?:/[\d.]{1,3})?|status(?:[ _]?code)?|code|error|response|bad ?request)[\"'\] :=>(]{1,5}"
    r"([1-5]\d\d)\b"
    rf"(?:{_REASON})?|\b([1-5]\d\d){_REASON}",
    re.IGNORECASE,
)

_STATUS_LINE = re.compile(r"HTTP/[\d.]{1,3} (\d{3})\b")
_HEADER = re.compile(r"([A-Za-z][\w-]{0,60}): ?([^\n]*)")

_HOST = re.compile(
    r"(?<![\w.-])((?:[a-z0-9-]{1,63}\.){1,5}"
    r"(?:my\.salesforce\.com|my\.salesforce\.mil|my\.site\.com|sfcrmproducts\.cn)"
    r"|(?:login|test)\.salesforce\.com)\b",
    re.IGNORECASE,
)

_TRIED = re.compile(r"\[audience=(\S{1,200}) login=([^\s\]]{1,200})\]", re.IGNORECASE)
"""How the Salesforce CLI marks the pair of a refusal that speaks of the audience: it tries several pairs."""

_LIST = re.compile(r"errors encountered", re.IGNORECASE)
"""How the Salesforce CLI heads the refusals of all pairs; the first is that of the pair it was given."""

_NAME_SOUGHT = re.compile(
    r"(?:enotfound|resolve(?: host)?:?|unknownhostexception:|lookup|resolved:)\s['\"]?"
    r"([\w-]{1,63}(?:\.[\w-]{1,63}){1,8})",
    re.IGNORECASE,
)
_SALESFORCES = re.compile(r"(salesforce(-\w+)?|force|site)\.(com|mil)$|\.cn$", re.IGNORECASE)

_TITLE_STATUS = re.compile(r"<(?:title|h1)>\s{0,9}([45]\d\d)\b", re.IGNORECASE)

_BACKSLASHED = re.compile(r"(?<!\w)[A-Za-z]:\\[^\s\"']{0,300}|\\(u[0-9a-fA-F]{4}|[\"'\\/nrt])")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_QUERIED = re.compile(r"\berror_description=[^\s&\"']{1,400}")
_TYPOGRAPHIC = str.maketrans(dict.fromkeys("“”„«»", '"') | dict.fromkeys("‘’ʼ‚´`", "'"))
_LOWER = str.maketrans({**{chr(code): chr(code + 32) for code in range(65, 91)}, "\n": " "})
"""For a search that must not move any character: `str.lower` makes some texts longer."""

ANSWER, WORDS, BARE = 2, 1, 0
"""How much a refusal says: an answer of Salesforce, words that may be one, a code that many causes share."""


@dataclass(frozen=True, slots=True)
class Paste:
    """What a pasted text tells."""

    outcome: Outcome
    host: str = ""
    """Of the login host that it names; empty where it names none."""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    """A description within a text."""

    start: int
    end: int
    text: str
    is_sentence: bool
    """Whether it is one of Salesforce's own."""
    is_strong: bool
    """Whether its label says that it describes an error."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One refusal within a text."""

    at: int
    code: str
    said: _Said | None

    @property
    def text(self) -> str:
        return self.said.text if self.said else ""

    @property
    def meaning(self) -> Meaning | None:
        return of_text(f"{self.code}: {self.text}" if self.code else self.text)

    @property
    def weight(self) -> int:
        if self.said and self.said.is_sentence:
            return ANSWER
        if self.said and kind_of(plain(self.text)):
            return BARE  # a fault, under whatever heading
        if self.code:
            return BARE if not self.said and plain(self.code) in _SAY_LITTLE else ANSWER
        return WORDS if self.meaning else BARE


_SAY_LITTLE = frozenset(
    {
        "invalid grant",
        "invalid request",
        "invalid client",
        "unknown error",
        "server error",
        "access denied",
        "unauthorized client",
        "invalid session id",
        "insufficient access",
    }
)
"""Codes that many causes share: a text beside them, or anywhere in the paste, says more."""


def read(text: str) -> Paste | None:
    """What a pasted text tells; None where nothing in it could be an answer or a fault."""
    text = _unwrapped(text)
    host, audience = _pair(text)
    if (grant := _grant(text)) is not None:
        return Paste(grant, host)
    dumped = _dump(text)
    chosen = _deciding(_attempts(text), text)
    is_page = dumped is not None and dumped.excerpt.startswith(HTML_PAGE)
    if chosen and chosen.weight == ANSWER and (chosen.code or not is_page):
        return Paste(_refused(chosen, text), host, audience)  # a page of something between has words, no code
    if dumped and (dumped.error or dumped.description or dumped.excerpt):
        return Paste(dumped, host)
    # The last line of a traceback says it; the lines above say where.
    lines = [line for line in reversed(text.split("\n")) if line]
    if line := next((line for line in lines if of_key(plain(line))), ""):
        return Paste(NotSent(harmless(line)), host)
    if chosen and chosen.code:
        return Paste(_refused(chosen, text), host, audience)
    if fault := _fault(lines):
        return Paste(fault, host)
    chosen = chosen or next(_worded(lines, text), None)
    if chosen:
        return Paste(_refused(chosen, text), host, audience)
    status = dumped.status if dumped else _status(text)
    is_cut_off = text.startswith("{") and not text.endswith("}")
    if is_cut_off or (status < ALMOST_ALWAYS and not dumped):
        return None
    return Paste(Refused(status, "", "", NOT_SHOWN), host, audience)


# The wrapping


def _unwrapped(text: str) -> str:
    """The text without what carried it, one blank in place of several."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_TYPOGRAPHIC)
    for _ in range(ESCAPED_AT_MOST):
        before = text
        text = _BACKSLASHED.sub(_unescaped, text)
        text = html.unescape(text).translate(_TYPOGRAPHIC)
        text = _PERCENT.sub(lambda found: unquote(found[0]), text)
        if text == before:
            break
    text = _QUERIED.sub(lambda found: found[0].replace("+", " "), text)
    return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()


def _unescaped(found: re.Match[str]) -> str:
    what = found[1]
    if what is None:
        return found[0]  # a path of Windows
    if what.startswith("u"):
        return chr(int(what[1:], 16)) if not 0xD800 <= int(what[1:], 16) <= 0xDFFF else "?"
    return {"n": "\n", "r": "\n", "t": " "}.get(what, what)


def _pair(text: str) -> tuple[str, str]:
    """Host and audience that were asked; of the pairs that the Salesforce CLI tried, the org's own."""
    tried = [(login.rstrip("/"), audience.rstrip("/")) for audience, login in _TRIED.findall(text)]
    for login, audience in tried:
        if (own := _HOST.search(login)) and not is_generic(login):
            return own[1].lower(), audience if login == audience else ""
    named = _HOST.search(text)
    return (named[1].lower() if named else ""), ""


# Whole answers


def _grant(text: str) -> Granted | None:
    """The grant that the text holds, if it is one: the token is looked at, and not kept."""
    start = text.find("{")
    if '"access_token"' not in text or start < 0:
        return None
    answer = read_answer(200, {}, text[start : text.rfind("}") + 1].encode(errors="replace"))
    return answer if isinstance(answer, Granted) else None


def _dump(text: str) -> Refused | None:
    """The last answer of a dump of HTTP, as curl and browsers print it, or a page by itself."""
    lines = [line.removeprefix("< ") for line in text.split("\n") if not re.match(r"[*>}{] ?(\[|\w|$)", line)]
    starts = [number for number, line in enumerate(lines) if _STATUS_LINE.match(line)]
    if not starts:
        titled = _TITLE_STATUS.search(text)
        status = int(titled[1]) if titled else 200
        page = read_answer(status, {}, text.encode(errors="replace")) if text.startswith("<") else None
        return page if isinstance(page, Refused) and page.excerpt.startswith(HTML_PAGE) else None
    block = lines[starts[-1] :]
    named = list(takewhile(bool, map(_HEADER.match, block[1:])))
    headers = {header[1]: header[2] for header in named if header}
    # curl goes on in the body's last line, where the body does not end it.
    body = re.sub(r"(?<=[}>])\* (Connection|Closing|shutting) .*", "", "\n".join(block[1 + len(named) :]))
    status = int(cast("re.Match[str]", _STATUS_LINE.match(block[0]))[1])
    answer = read_answer(status, headers, body.strip().encode(errors="replace"))
    return answer if isinstance(answer, Refused) else None


# Refusals within a text


def _attempts(text: str) -> list[_Attempt]:
    """The refusals that the text tells of, in their order; of very many the last."""
    sentences = sorted(_sentences(text), key=lambda one: one.start)[-AT_MOST:]
    told = _without_overlaps([*_labelled(text, sentences), *sentences])
    codes = list(_CODE.finditer(text))[-AT_MOST:]
    found = []
    for number, code in enumerate(codes):
        begin = codes[number - 1].end() if number else 0
        end = codes[number + 1].start() if number + 1 < len(codes) else len(text)
        said = _beside(code, text, sentences) or _nearest(told, code, begin, end)
        if said:
            told = [one for one in told if one.end <= said.start or said.end <= one.start]
        found.append(_Attempt(code.start(), code[1], said))
    found += [_Attempt(one.start, "", one) for one in told]
    return sorted(found, key=lambda one: one.at)


def _sentences(text: str) -> Iterator[_Said]:
    lowered = text.translate(_LOWER)
    for sentence in _SENTENCES:
        start = lowered.find(sentence)
        while start >= 0:
            end = start + len(sentence)
            if not lowered[start - 1 : start].isalpha() and not lowered[end : end + 1].isalpha():
                yield _Said(start, end, text[start:end].replace("\n", " "), is_sentence=True, is_strong=False)
            start = lowered.find(sentence, end)


def _labelled(text: str, sentences: list[_Said]) -> Iterator[_Said]:
    for found in list(_LABELLED.finditer(text))[-AT_MOST:]:
        group = next(number for number in (2, 3, 4) if found[number])
        start, end = found.span(group)
        value = found[group].strip(" ,;")
        within = sum(start <= one.start < end for one in sentences)
        known = within == 1 and bool(found[1])
        if value and (known or not (within or _CODE.fullmatch(value))):
            yield _Said(start, end, value, is_sentence=known, is_strong=bool(found[1]))


def _without_overlaps(said: list[_Said]) -> list[_Said]:
    kept: list[_Said] = []
    for one in sorted(said, key=lambda one: (one.start, -one.end)):
        if not kept or kept[-1].end <= one.start:
            kept.append(one)
    return kept


def _beside(code: re.Match[str], text: str, sentences: list[_Said]) -> _Said | None:
    """What stands behind the code on its own line, unless that is the next field."""
    found = _BESIDE.match(text, code.end())
    if not found or _LABEL_NEXT.match(found[2]):
        return None
    stop = _END_OF_TEXT.search(found[2])
    said = (found[2][: stop.start()] if stop else found[2]).strip(" ,;")
    start, end = found.start(2), found.start(2) + len(said)
    known = any(start <= one.start < end for one in sentences)
    marks = found[1].strip()
    if known or (marks and said and not _CODE.fullmatch(said)) or (said and of_text(said)):
        return _Said(start, end, said, is_sentence=known, is_strong=True)
    return None


def _nearest(told: list[_Said], code: re.Match[str], begin: int, end: int) -> _Said | None:
    """The description that belongs to a code without one behind it: Salesforce's sentence first."""

    def distance(one: _Said) -> int:
        return code.start() - one.end if one.end <= code.start() else one.start - code.end()

    around = [one for one in told if begin <= one.start < end]
    fitting = [one for one in around if one.is_sentence or one.is_strong or distance(one) <= ADJACENT]
    return min(fitting, key=lambda one: (not one.is_sentence, not one.is_strong, distance(one)), default=None)


def _deciding(attempts: list[_Attempt], text: str) -> _Attempt | None:
    """The refusal that counts: the one that says most, and of several the last, which is now.

    In a list of the Salesforce CLI it is the first: the pairs that follow are its own idea, and what they say
    of the audience was to be expected.
    """
    most = max(((one.weight, one.said is not None) for one in attempts), default=None)
    best = [one for one in attempts if (one.weight, one.said is not None) == most]
    best = [one for one in best if one.weight > BARE or (one.code and not one.said)]
    if _LIST.search(text) or _TRIED.search(text):
        own = [one for one in best if one.meaning and one.meaning.cause is not Cause.AUDIENCE_INVALID]
        return next(iter(own or best), None)
    return best[-1] if best else None


def _refused(attempt: _Attempt, text: str) -> Refused:
    """The refusal as an answer. A status that the token endpoint never sends with an error is another's."""
    status = _status(text)
    its_own = status == ALMOST_ALWAYS or (attempt.code and status < SERVER_ERROR)
    return Refused(
        status if its_own else NO_STATUS,
        harmless(attempt.code, CODE_LIMIT),
        harmless(attempt.text),
        "",
    )


def _status(text: str) -> int:
    """The last HTTP status that the text names."""
    found = list(_STATUS.finditer(text))
    return int(found[-1][1] or found[-1][2]) if found else NO_STATUS


def _worded(lines: list[str], text: str) -> Iterator[_Attempt]:
    """Words that mean something without a code; then any code before a colon.

    Beside the status of a refusal, what could be a reason phrase or a setting of the client means nothing.
    """
    refused = ALMOST_ALWAYS <= _status(text) < SERVER_ERROR
    for line in lines:
        meant = of_text(_STATUS.sub(" ", line))
        if meant and not (refused and CATALOGUE[meant.cause].no_verdict):
            yield _Attempt(0, "", _Said(0, 0, line, is_sentence=False, is_strong=False))
    if other := _OTHER_CODED.search(text):
        yield _Attempt(0, other[1], _Said(0, 0, other[2], is_sentence=False, is_strong=False))


# Faults


def _fault(lines: list[str]) -> Unreachable | None:
    """The fault that a line tells of: the kind that says most, in its last line."""
    kinds = [(kind, line) for line in lines if (kind := kind_of(plain(line)))]
    if not kinds:
        return None
    kind, line = min(kinds, key=lambda one: ORDER.index(one[0]))
    sought = _NAME_SOUGHT.search(line)
    if kind is FaultKind.DNS and sought and not _SALESFORCES.search(sought[1]):
        kind = FaultKind.CONNECT  # a proxy's name, say: no org is misspelt
    return Unreachable(kind, harmless(line))
