"""Finds the answer or fault in pasted text: log lines, tickets, dumps, terminal output.

1. `_attempts` finds the refusals: Salesforce's codes and sentences, in any format and order.
2. `_deciding` picks the one that counts.
3. `_READERS` are tried in turn: a grant, a refusal, a bad key, a fault, a status.

Every step scans the text a fixed number of times, so the cost is linear.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from itertools import takewhile

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import is_generic
from monitor.core.outcome import NO_STATUS, FaultKind, Granted, NotSent, Outcome, Refused, Unreachable
from monitor.core.verdict.answer import (
    CODE_LIMIT,
    HTML_PAGE,
    NOT_SHOWN,
    READ_LIMIT,
    TEXT_LIMIT,
    harmless,
    read_answer,
)
from monitor.core.verdict.meaning import API_SCOPES
from monitor.core.verdict.unwrap import unwrapped
from monitor.core.verdict.vocabulary import (
    CODE,
    FAULT_ORDER,
    FOREIGN,
    NO_SUCH_NAME,
    OF_WORK,
    SAY_LITTLE,
    WORDS,
    Meaning,
    any_of,
    is_elsewhere,
    is_of_another_service,
    is_unmistakable,
    kind_of,
    of_key,
    of_text,
    plain,
    sentences,
)

VALUE_LIMIT = 400
"""Characters examined of a labelled value; the longest known description has 70."""

ADJACENT = 80
"""Most characters between a code and its `message`: the label, quotes, perhaps a name."""

AT_MOST = 200
"""Most codes, labels and sentences examined, counted from the end."""

LEVEL_WITHIN = 200
"""Characters at the start of a line that are searched for its level."""

_BESIDE = re.compile(r"([\"'\])}( :=,|–—-]{0,8})([^\W\d_][^\n]{0,400})")
_STRONG_LABELS = r"error[_ -]?description|error[_ -]?message|error[_ -]?msg|faultstring|exceptionmessage"
_LABEL_NEXT = re.compile(
    rf"(?:{_STRONG_LABELS})\b|[^\W\d]{{1,40}}(?: \w{{1,20}}){{0,2}}[\"'\]]{{0,2}} ?(?:=>|=|[:>](?![\w/]))"
)
_END_OF_TEXT = re.compile(
    r"[\"\]}<|]|\s[{\[(]|'(?!\w)|[,;] ?\w{1,40} ?[=:]|\)(?=[);,. ]{0,4}$|[;,])", re.MULTILINE
)
"""Where the text after a code ends on its line."""

_LABELLED = re.compile(
    rf"(?<![^\W_])(?:((?<!=)(?:{_STRONG_LABELS}))"
    rf"|message|msg|detail|reason|description)[\"'\]]{{0,2}} ?(?:=>|[:=>]) ?"
    rf"(?:[A-Z]\w{{2,9}}\()?(?:\"([^\"]{{1,{VALUE_LIMIT}}})|'((?:[^'\n]|'(?=\w)){{1,{VALUE_LIMIT}}})"
    rf"|([^\"'\s{{\[][^\n}}&<]{{0,{VALUE_LIMIT}}}))",
    re.IGNORECASE,
)
"""A description under one of its usual names, in JSON, Python, Node, PHP, YAML, XML or form syntax."""

_OTHER_CODED = re.compile(
    r"(?<![\w.:])([a-z]{1,30}(?:_[a-z]{1,30}){1,8}|[A-Z]{1,30}(?:_[A-Z]{1,30}){1,8}|AADSTS\d{1,9}):"
    r"\s([^\W\d_][^\n]{1,400})"
)

_OTHER_ANSWER = re.compile(
    r"\berror[\"'\]]{0,2} ?(?:=>|[:=]) ?[\"']?([a-z]{1,30}(?:_[a-z]{1,30}){0,8})[\"']?[,;& \n]{1,3}"
    r"[\"'\[]?error_description[\"'\]]{0,2} ?(?:=>|[:=]) ?[\"']?([^\"&\n}]{1,400})"
)

_PHRASES: dict[str, int] = WORDS["phrases"]

_REASON = (
    rf"(?:[ :(-]{{1,3}}(?:{'|'.join(_PHRASES).replace(' ', '[ _]')}|client error|server error"
    r"|gateway time-out|not acceptable|proxy authentication required|unsupported media type)){1,2}"
)
_STATUS = re.compile(
    r"(?:\b(?:HTTP(?:/[\d.]{1,3})?|(?:(?:http|response)[ _-]?)?(?:status(?:[ _]?code)?|code)|response"
    r"|bad ?request)|error)[\"'\] :=>(]{1,5}([1-5]\d\d)\b"
    rf"(?:{_REASON})?|\b([1-5]\d\d){_REASON}"
    r"|\b(?:failed|failure|returned|got|answered|received)(?: with)?(?: an?)?[ :=(]{1,3}([45]\d\d)"
    r"(?=[).,;:\"'<]|$)",
    re.IGNORECASE | re.MULTILINE,
)

_PHRASE = re.compile(
    rf"(?:^|[:>(-]) ?({'|'.join(_PHRASES)})(?=[.)\"']{{0,2}}$| -)", re.IGNORECASE | re.MULTILINE
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
"""The Salesforce CLI's note of the pair (audience, login URL) that was refused: it tries several."""

_LIST = re.compile(r"errors encountered", re.IGNORECASE)
"""The Salesforce CLI's heading above the refusals of all pairs; the first is for the given pair."""

_NAME_SOUGHT = re.compile(
    r"(?:enotfound|resolve(?: host)?:?|unknownhostexception:|lookup|resolved:)\s['\"]?"
    r"([\w-]{1,63}(?:\.[\w-]{1,63}){1,8})",
    re.IGNORECASE,
)
_SALESFORCES = re.compile(r"(salesforce(-\w+)?|force|site)\.(com|mil)$|\.cn$", re.IGNORECASE)

_SCOPES = re.compile(
    r"\bscopes?[\"']{0,2} ?(?:=>|[:=]) ?[\"'\[(]{0,2}"
    r"((?:[a-z_]{2,40}(?![a-z_]|[\"']{0,2} ?(?:=>|[:=]))[ ,+\"']{0,4}){1,30})"
)
"""A name before a colon is the next key, not a scope."""

_TOKEN = re.compile(r"[\"']access_token[\"']")
_SUCCEEDED = re.compile(
    r"^(?!.*\b(?:not?|never|fail\w*|error|without)\b|.*n't).*"
    r"(\btoken\b.{0,30}\b(?:granted|obtained|acquired|issued|received|refreshed)\b"
    r"|\b(?:log(?:ged)? ?in|authenticat\w+|token (?:request|exchange))\b.{0,30}\b(?:succe\w+|ok)\b"
    r"|\bsuccess\w*\b.{0,30}\b(?:log(?:ged)? ?in|authenticat\w+|token\b))",
    re.IGNORECASE | re.MULTILINE,
)
"""Clients' messages about a successful login."""

_FRAME = re.compile(r"at ([\w.$<>\[\]`+/@-]*\.[\w$<>\[\]`+]+\(|.{0,100}\([^\s()]{1,300}:\d+\)$|\S+:\d+:\d+$)")
"""A line of a stack trace of Java, .NET or Node."""

_ROUTINE = re.compile(
    r"(?:^|[\s\[|(])(?:INFO|DEBUG|TRACE|NOTICE)\b"
    r"|\b[Ll]evel(?:name)?[\"']? ?[=:] ?[\"']?(?:[123]0|(?i:info|debug|trace|notice))\b",
    re.MULTILINE,
)

_MESSAGE = re.compile(r"\W{0,20}(message|msg)\b", re.IGNORECASE)
"""A line with the text of the code on a line near it."""

_TOKEN_CALL = re.compile(r"oauth|token|log.?[io]n|grant", re.IGNORECASE)
_FAILED = re.compile(r"fail|error|refus|reject|denied|unable|could ?n[o']t|cannot", re.IGNORECASE)

_WRAPPED = re.compile(r"(?<=\w)\n(?=['\"/])")
"""A line break within a message, before a path."""

_INNER = re.compile(r"\n| ?---> ?")
"""Where a line or, in .NET, an inner exception begins."""

_COMPLAINT = any_of("complaints")
_LOGIN = any_of("logins")
_NO_TOKEN = any_of("no_token")
_BLOCKED = any_of("block_pages")
_ADVICE = any_of("advice")
_PASSED = re.compile("|".join(WORDS["passed_tests"]))

_PAGE = re.compile(r"<(!doctype|html|head|title|body)\b", re.IGNORECASE)
_TITLE_STATUS = re.compile(r"<(?:title|h1)>\s{0,9}([45]\d\d)\b", re.IGNORECASE)


class _Weight(IntEnum):
    """How informative a refusal is."""

    BARE = 0
    """A code shared by many causes, or a label's unknown text."""
    WORDS = 1
    """A client's known message."""
    CODE = 2
    """A code shared by many causes, with an unknown text."""
    SENTENCE = 3
    """A specific code, or a sentence of Salesforce's without a code."""
    ANSWER = 4


@dataclass(frozen=True, slots=True)
class Paste:
    """What was found in a pasted text."""

    outcome: Outcome
    host: str = ""
    audience: str = ""
    scopes: frozenset[str] | None = None
    """The scopes of the token, if the text has them and they include api or full."""


@dataclass(frozen=True)
class _Attempt:
    """One refusal in the text: a description, a code, or both."""

    start: int
    """Position of the code, or else of the description."""
    end: int
    text: str
    code: str = ""
    is_sentence: bool = False
    """Whether the description is one of Salesforce's own."""
    is_strong: bool = False
    """Whether its label identifies it as an error description."""

    @cached_property
    def meaning(self) -> Meaning | None:
        if self.code:
            return of_text(f"{self.code}: {self.text}")
        return of_text(self.text) if _COMPLAINT.search(self.text) else None

    @cached_property
    def weight(self) -> _Weight:
        if self.is_sentence:
            return _Weight.ANSWER if self.code else _Weight.SENTENCE
        if kind_of(plain(self.text)):
            return _Weight.BARE  # a fault, whatever its heading
        if not self.code:
            return _Weight.WORDS if self.meaning else _Weight.BARE
        if plain(self.code) not in SAY_LITTLE:
            return _Weight.ANSWER if self.text else _Weight.SENTENCE
        if not self.text:
            return _Weight.BARE
        return _Weight.ANSWER if of_text(self.text) else _Weight.CODE


@dataclass(frozen=True)
class _Pasted:
    """An unwrapped text, and what was found in it so far."""

    text: str
    worked: bool = False
    """Whether it also had errors that need a granted login."""

    @cached_property
    def complaints(self) -> list[str]:
        """The lines that report a failure. Last line first: in a traceback, it has the error."""
        return [line for line in _lines(self.text) if _COMPLAINT.search(line)]

    @cached_property
    def statuses(self) -> list[tuple[int, int]]:
        """Position and value of each HTTP status."""
        named = [(found.start(), int(found[found.lastindex or 0])) for found in _STATUS.finditer(self.text)]
        return named or [(found.start(), _PHRASES[found[1].lower()]) for found in _PHRASE.finditer(self.text)]

    @cached_property
    def status(self) -> int:
        return self.statuses[-1][1] if self.statuses else NO_STATUS

    @cached_property
    def dumped(self) -> Refused | None:
        return _dump(self.text)

    @cached_property
    def attempts(self) -> list[_Attempt]:
        return _attempts(self.text)

    @cached_property
    def hosts(self) -> list[tuple[int, str]]:
        """Position and name of each login host."""
        return [(found.start(), found[1].lower()) for found in _HOST.finditer(self.text)]

    def host_at(self, position: int) -> str:
        """The last host before that position, else the first; empty if the text has none."""
        before = (name for at, name in reversed(self.hosts) if at <= position)
        return next(before, self.hosts[0][1] if self.hosts else "")

    @cached_property
    def best(self) -> list[_Attempt]:
        """The most informative refusals. A bare one counts only if it is a code without a description."""
        most = max(((one.weight, bool(one.text)) for one in self.attempts), default=None)
        best = [one for one in self.attempts if (one.weight, bool(one.text)) == most]
        return [one for one in best if one.weight > _Weight.BARE or not one.text]

    @cached_property
    def chosen(self) -> _Attempt | None:
        """The refusal that counts: of the best ones the last, which is current.

        In a list from the Salesforce CLI it is the first: the other pairs are the CLI's guesses, and their
        refusals of the audience were to be expected. So are those of a generic host if the text also has an
        answer of the org's own host.
        """
        best = self.best
        if _LIST.search(self.text) or _TRIED.search(self.text):
            own = [one for one in best if one.meaning and one.meaning.cause is not Cause.AUDIENCE_INVALID]
            return next(iter(own or best), None)
        own = [one for one in best if not is_generic(f"https://{self.host_at(one.start)}")]
        expected = [one for one in best if one.meaning and CATALOGUE[one.meaning.cause].wrong_pair]
        return next((one for one in reversed(best) if not own or one in own or one not in expected), None)

    @cached_property
    def refused_at(self) -> int:
        """Position of the last refusal in Salesforce's words; -1 if none."""
        return max((one.start for one in self.attempts if one.code or one.is_sentence), default=-1)

    def refusal(self, attempt: _Attempt) -> Refused:
        """The refusal as an answer, with the nearest status.

        Refusals have HTTP 400. Another status belongs to something else, as a gateway, and so do the words
        next to it.
        """
        status = min(self.statuses, key=lambda each: abs(each[0] - attempt.start), default=(0, NO_STATUS))[1]
        known = attempt.code or attempt.weight >= _Weight.SENTENCE
        if not known and 400 < status < 500:
            return Refused(status, "", "", harmless(attempt.text))
        its_own = status == 400 or (attempt.code and 400 < status < 500)
        return Refused(
            status if known and its_own else NO_STATUS,
            harmless(attempt.code, CODE_LIMIT),
            harmless(attempt.text),
            "",
        )


def read(text: str) -> Paste | None:
    """Read a pasted text; None if it contains no answer or fault."""
    text = unwrapped(text)
    if is_elsewhere(text):
        return None
    pasted = _about_login(text)
    for reader in _READERS:
        if outcome := reader(pasted):
            return Paste(outcome, *_pair(pasted), _scopes(pasted.text))
    return None


def _about_login(text: str) -> _Pasted:
    """The lines that may be about a login to Salesforce."""
    lines = text.split("\n")
    work = [n for n, line in enumerate(lines) if OF_WORK.search(line) and not CODE.search(line)]
    near = (n + away for n in work for away in (-1, 1, 2) if 0 <= n + away < len(lines))
    others = {*work, *(n for n in near if _MESSAGE.match(lines[n]) and not kind_of(plain(lines[n])))}
    kept = [line for n, line in enumerate(lines) if n not in others and not _is_of_others(line)]
    return _Pasted("\n".join(kept), bool(work))


def _is_of_others(line: str) -> bool:
    """Whether the line is about another service, another request, or a test that passed."""
    if _PASSED.match(line):
        return True
    requested = (
        _is_routine(line) and _STATUS.search(line) and not (_TOKEN_CALL.search(line) or CODE.search(line))
    )
    return bool(requested) or is_of_another_service(line) or (is_elsewhere(line) and not of_key(plain(line)))


def _scopes(text: str) -> frozenset[str] | None:
    for found in _SCOPES.finditer(text):
        scopes = frozenset(re.split(r"\W+", found[1])) - {""}
        if scopes & API_SCOPES:
            return scopes
    return None


def _pair(pasted: _Pasted) -> tuple[str, str]:
    """Host and audience of the request; of the Salesforce CLI's pairs, the org's own."""
    tried = [(login.rstrip("/"), audience.rstrip("/")) for audience, login in _TRIED.findall(pasted.text)]
    for login, audience in tried:
        if (own := _HOST.search(login)) and not is_generic(login):
            return own[1].lower(), audience if login == audience else ""
    return pasted.host_at(pasted.chosen.start if pasted.chosen else 0), ""


# Readers, in order


def _grant(pasted: _Pasted) -> Granted | None:
    """A grant that is not followed by a refusal. The token is not kept."""
    text, found = pasted.text, [*_TOKEN.finditer(pasted.text)]
    if not found or found[-1].start() < pasted.refused_at:
        return None
    at = found[-1].start()
    for start, end in ((text.rfind("{", 0, at), text.find("}", at)), (text.find("{"), text.rfind("}"))):
        body = text[start : end + 1] if start >= 0 else ""
        body = body.replace("'", '"') if found[-1][0].startswith("'") else body
        answer = read_answer(200, {}, body.encode(errors="replace"))
        if isinstance(answer, Granted):
            return answer
    return None


def _recovery(pasted: _Pasted) -> Granted | None:
    """A client's success message after the last refusal: the end of a log is the current state."""
    found = [*_SUCCEEDED.finditer(pasted.text)]
    if pasted.refused_at < 0 or not found or found[-1].start(1) < pasted.refused_at:
        return None
    later = pasted.text[found[-1].end() :].split("\n")
    return None if any(map(kind_of, map(plain, later))) else Granted("opaque")


def _answer(pasted: _Pasted) -> Refused | None:
    """An answer from Salesforce. An intermediary's page may contain its words, but no code."""
    chosen, dumped = pasted.chosen, pasted.dumped
    is_page = dumped is not None and dumped.excerpt.startswith(HTML_PAGE)
    if chosen and chosen.weight >= _Weight.CODE and (chosen.code or not is_page):
        return pasted.refusal(chosen)
    if dumped is None or (not is_page and _STATUS.search(dumped.excerpt)):
        return None  # nothing, or the client's own line
    return dumped if dumped.error or dumped.description or dumped.excerpt else None


def _bad_key(pasted: _Pasted) -> NotSent | None:
    line = next((line for line in pasted.complaints if of_key(plain(line))), "")
    return NotSent(_end(line)) if line else None


def _bare_code(pasted: _Pasted) -> Refused | None:
    return pasted.refusal(pasted.chosen) if pasted.chosen and pasted.chosen.code else None


def _fault(pasted: _Pasted) -> Unreachable | None:
    """The most informative kind of fault, from the last line that has it, if possible with a reason.

    TLS and certificates are also mentioned where all is well.

    Lines before the last HTTP 400 are past: a request got through after them.
    """
    at = pasted.statuses[-1][0] if pasted.status == 400 else 0
    since = _lines(pasted.text[pasted.text.rfind("\n", 0, at) + 1 :])
    kinds = [
        (kind, line)
        for line in since
        if (kind := kind_of(plain(line))) and (kind is not FaultKind.TLS or _COMPLAINT.search(line))
    ]
    if not kinds:
        return None
    kind, line = min(
        kinds,
        key=lambda one: (
            "see inner exception" in one[1],
            FAULT_ORDER.index(one[0]),
            not NO_SUCH_NAME.search(plain(one[1])),
        ),
    )
    sought = _NAME_SOUGHT.search(line)
    if kind is FaultKind.DNS and sought and not _SALESFORCES.search(sought[1]):
        kind = FaultKind.CONNECT  # for example a proxy's name: the org's is not misspelt
    return Unreachable(kind, _end(line))


def _end(line: str) -> str:
    """The line, safe to show; of a long one the end, where the reason is."""
    shown = harmless(line, READ_LIMIT)
    return shown if len(shown) <= TEXT_LIMIT else "…" + shown[1 - TEXT_LIMIT :]


def _block_page(pasted: _Pasted) -> Refused | None:
    """The words of an intermediary's page, without its markup."""
    line = next((line for line in _lines(pasted.text) if _BLOCKED.search(line)), "")
    return Refused(NO_STATUS, "", "", harmless(line)) if line else None


def _words(pasted: _Pasted) -> Refused | None:
    """Known words without a code, or any code before a colon.

    Next to a refusal's status, reason phrases and client settings are ignored.
    """
    if pasted.chosen:
        return pasted.refusal(pasted.chosen)
    refused = 400 <= pasted.status < 500
    for line in pasted.complaints if _LOGIN.search(pasted.text) else ():
        elsewhere = "://" in line and not _HOST.search(line)
        if elsewhere or _is_routine(line) or _ADVICE.match(line):
            continue
        meant = of_text(_PHRASE.sub(" ", _STATUS.sub(" ", line)))
        if meant and not (refused and CATALOGUE[meant.cause].no_verdict):
            return pasted.refusal(_Attempt(0, 0, line))
    other = _OTHER_ANSWER.search(pasted.text) or _OTHER_CODED.search(pasted.text)
    if other and _COMPLAINT.search(other[0]):
        return pasted.refusal(_Attempt(*other.span(), other[2], other[1]))
    return None


def _work(pasted: _Pasted) -> Granted | None:
    """An error that needs a granted login, and none about a login."""
    return Granted("opaque") if pasted.worked else None


def _hidden(pasted: _Pasted) -> Refused | None:
    """A refusal of which the client shows only the status, or which it mistook for a grant."""
    if _NO_TOKEN.search(pasted.text):
        return Refused(pasted.status, "", "", NOT_SHOWN)
    status = pasted.dumped.status if pasted.dumped else pasted.status
    is_cut_off = pasted.text.startswith("{") and not pasted.text.endswith("}")
    is_refusal = pasted.dumped is not None or status >= 400
    return Refused(status, "", "", NOT_SHOWN) if is_refusal and not is_cut_off else None


_READERS: tuple[Callable[[_Pasted], Outcome | None], ...] = (
    _grant,
    _recovery,
    _answer,
    _bad_key,
    _bare_code,
    _fault,
    _block_page,
    _words,
    _work,
    _hidden,
)


def _dump(text: str) -> Refused | None:
    """The last answer in an HTTP dump from curl or a browser, or a bare page."""
    lines = [line.removeprefix("< ") for line in text.split("\n") if not re.match(r"[*>}{] ?(\[|\w|$)", line)]
    starts = [(number, found) for number, line in enumerate(lines) if (found := _STATUS_LINE.match(line))]
    if not starts:
        titled = _TITLE_STATUS.search(text)
        status = int(titled[1]) if titled else 200
        found = _PAGE.search(text)
        if not found or not (titled or _is_shown(text, found.start())):
            return None
        page = read_answer(status, {}, text[found.start() :].encode(errors="replace"))
        return page if isinstance(page, Refused) and page.excerpt.startswith(HTML_PAGE) else None
    number, status_line = starts[-1]
    block = lines[number + 1 :]
    named = list(takewhile(bool, map(_HEADER.match, block)))
    headers = {header[1]: header[2] for header in named if header}
    body = "\n".join(block[len(named) :]).strip()
    answer = read_answer(int(status_line[1]), headers, body.encode(errors="replace"))
    return answer if isinstance(answer, Refused) else None


def _is_shown(text: str, start: int) -> bool:
    """Whether the page at that position is what is reported: it is a document or begins a line, and no line
    before it names a cause that an answer gives.
    """
    begins_line, tag = text[start - 1 : start] in ("", "\n"), text[start : start + 5].lower()
    if not begins_line and tag not in ("<!doc", "<html"):
        return False
    before = text[:start].split("\n")
    meant = (of_text(line) for line in before if _COMPLAINT.search(line))
    return not any(of_key(plain(line)) for line in before) and all(
        found is None or CATALOGUE[found.cause].no_verdict for found in meant
    )


# Refusals within a text


def _attempts(text: str) -> list[_Attempt]:
    """The refusals in the text, in order; the last AT_MOST."""
    spans = sorted(sentences(text))[-AT_MOST:]
    known = [_Attempt(*span, text[slice(*span)].replace("\n", " "), is_sentence=True) for span in spans]
    told = _without_overlaps([*_labelled(text, known), *known])
    codes = list(CODE.finditer(text))[-AT_MOST:]
    found = []
    for number, code in enumerate(codes):
        begin = codes[number - 1].end() if number else 0
        end = codes[number + 1].start() if number + 1 < len(codes) else len(text)
        said = _foreign(text, code.start()) or _beside(code, text, known) or _nearest(told, code, begin, end)
        if said:
            told = [one for one in told if one.end <= said.start or said.end <= one.start]
        found.append(replace(said or _Attempt(0, 0, ""), start=code.start(), code=code[1]))
    about_login = _LOGIN.search(text) or _STATUS.search(text)
    found += [one for one in told if one.is_strong or _counts_alone(text, one, bool(about_login))]
    return sorted(found, key=lambda one: one.start)


def _labelled(text: str, sentences: list[_Attempt]) -> Iterator[_Attempt]:
    for found in list(_LABELLED.finditer(text))[-AT_MOST:]:
        group = next(number for number in (2, 3, 4) if found[number])
        start, end = found.span(group)
        within = [one for one in sentences if start <= one.start < end]
        known = len(within) == 1 and bool(found[1])
        unquoted = _END_OF_TEXT.search(found[4] or "", within[0].end - start if known else 0)
        value = (found[group][: unquoted.start()] if unquoted else found[group]).strip(" ,;[{")
        if value and (known or not (within or CODE.fullmatch(value))):
            yield _Attempt(start, end, value, is_sentence=known, is_strong=bool(found[1]))


def _foreign(text: str, at: int) -> _Attempt | None:
    """The line around that position if it names another provider before it."""
    start = max(text.rfind("\n", 0, at) + 1, at - VALUE_LIMIT)
    if not FOREIGN.search(text, start, at):
        return None
    line = text[start : at + VALUE_LIMIT].partition("\n")[0]
    return _Attempt(start, start + len(line), line)


def _counts_alone(text: str, said: _Attempt, about_login: bool) -> bool:
    """Whether a description without a code reports a failure; a routine line may only mention it."""
    if not _is_routine(text, said.start):
        return said.is_sentence or about_login
    near = text[max(0, said.start - LEVEL_WITHIN) : said.start].rpartition("\n")[2]
    return said.is_sentence and (is_unmistakable(said.text) or _FAILED.search(near) is not None)


def _is_routine(text: str, at: int = 0) -> bool:
    """Whether the line at that position has such a level."""
    start = text.rfind("\n", 0, at) + 1
    return _ROUTINE.search(text[start : start + LEVEL_WITHIN].partition("\n")[0]) is not None


def _lines(text: str) -> list[str]:
    """The lines, last first, without those of a stack: names of functions and files mean nothing."""
    lines = _INNER.split(_WRAPPED.sub(" ", text))
    return [line for line in reversed(lines) if line and not _FRAME.match(line)]


def _without_overlaps(said: list[_Attempt]) -> list[_Attempt]:
    kept: list[_Attempt] = []
    for one in sorted(said, key=lambda one: (one.start, -one.end)):
        if not kept or kept[-1].end <= one.start:
            kept.append(one)
    return kept


def _beside(code: re.Match[str], text: str, sentences: list[_Attempt]) -> _Attempt | None:
    """The text after the code on its line, unless that is the next field."""
    found = _BESIDE.match(text, code.end())
    if not found or _LABEL_NEXT.match(found[2]):
        return None
    stop = _END_OF_TEXT.search(found[2])
    said = (found[2][: stop.start()] if stop else found[2]).strip(" ,;")
    start, end = found.start(2), found.start(2) + len(said)
    known = any(start <= one.start < end for one in sentences)
    marks = found[1].strip()
    if known or (marks and said and not CODE.fullmatch(said)) or (said and of_text(said)):
        return _Attempt(start, end, said, is_sentence=known, is_strong=True)
    return None


def _nearest(told: list[_Attempt], code: re.Match[str], begin: int, end: int) -> _Attempt | None:
    """The nearest description of a code without one on its line, Salesforce's sentences first."""

    def distance(one: _Attempt) -> int:
        return code.start() - one.end if one.end <= code.start() else one.start - code.end()

    around = [one for one in told if begin <= one.start < end]
    fitting = [one for one in around if one.is_sentence or one.is_strong or distance(one) <= ADJACENT]
    return min(fitting, key=lambda one: (not one.is_sentence, not one.is_strong, distance(one)), default=None)
