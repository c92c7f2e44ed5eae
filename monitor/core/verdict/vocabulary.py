"""What words of Salesforce and of its clients mean, by the rules of `vocabulary.toml`."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from monitor.core.causes import Cause
from monitor.core.finding import Certainty
from monitor.core.outcome import FaultKind

WORDS = tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8"))


def any_of(name: str) -> re.Pattern[str]:
    """The patterns of that name, as one."""
    return re.compile("|".join(WORDS[name]), re.IGNORECASE)


CODE = re.compile(rf"(?<![\w.-])({'|'.join(WORDS['codes'])})(?!\w)", re.IGNORECASE)
OF_WORK = re.compile(rf"(?<![\w.-])(?:{'|'.join(WORDS['of_work'])})(?!\w)")
FOREIGN = any_of("other_providers")
NO_SUCH_NAME = any_of("no_such_name")
NOT_TLS = any_of("not_tls")
BROKEN_OFF = any_of("broken_off")
SETTING = any_of("settings")
SAY_LITTLE = frozenset(WORDS["say_little"])
STATUSES: dict[str, str] = WORDS["statuses"]

_UNMISTAKABLE_WORDS = 4
"""A sentence with this many words is never another service's. A shorter one, such as `inactive user`, may be:
next to such a service's name it is."""

_EDGES = frozenset("\n,;|\"'<>[](){}=") | {""}
_LOWER = str.maketrans({**{chr(code): chr(code + 32) for code in range(65, 91)}, "\n": " "})
"""Lower-cases without changing positions: `str.lower` makes some texts longer."""


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence of Salesforce's and each Login History status.

    Others also say `invalid password`: a status counts only in Salesforce's spelling or by itself.
    """
    lowered = text.translate(_LOWER)
    for sentence in dict.fromkeys((*WORDS["sentences"], *STATUSES.values())):
        sought = sentence.lower()
        is_status = sentence not in WORDS["sentences"]
        start = lowered.find(sought)
        while start >= 0:
            end = start + len(sought)
            before, after = text[start - 1 : start], text[end : end + 1]
            alone = before in _EDGES and after in _EDGES
            foreign = is_status and not alone and text[start:end] != sentence
            if not (before.isalpha() or after.isalpha() or foreign):
                yield start, end
            start = lowered.find(sought, end)


def is_unmistakable(sentence: str) -> bool:
    """Whether such a sentence is only ever Salesforce's."""
    return len(sentence.split()) >= _UNMISTAKABLE_WORDS


# Whose words they are

_OTHER_SERVICES = any_of("other_services")
_SALESFORCES = any_of("salesforces")
_ELSEWHERE = any_of("elsewhere")
_ANY_SERVERS = frozenset(WORDS["any_servers"])
_NAMED = re.compile(r"salesforce\.com|\bsalesforce[ /_-](log.?[io]n|o?auth|jwt|private)", re.IGNORECASE)
"""Salesforce itself. Packages, tables and folders have that word in their names, too."""


def is_of_another_service(text: str) -> bool:
    """Whether the words next to it are not about Salesforce.

    Its login, a long sentence or one of its own codes tells otherwise, and so do two weaker signs together: a
    code, a sentence, a word of Salesforce's.
    """
    if not _OTHER_SERVICES.search(text) or _NAMED.search(text):
        return False
    told = [text[start:end] for start, end in sentences(text)]
    signs = [CODE.search(text), told, _SALESFORCES.search(text)]
    own = any(map(is_unmistakable, told)) or _has_code(text, other_than=SAY_LITTLE | {"invalid client id"})
    return not own and sum(map(bool, signs)) < 2


def is_elsewhere(text: str) -> bool:
    """Whether a whole text is about another server that was asked, without a word of Salesforce's."""
    if not _ELSEWHERE.search(text) or _SALESFORCES.search(text):
        return False
    told = {text[start:end].lower() for start, end in sentences(text)}
    return told <= _ANY_SERVERS and not _has_code(text, other_than=SAY_LITTLE)


def _has_code(text: str, other_than: frozenset[str]) -> bool:
    return any(plain(code[1]) not in other_than for code in CODE.finditer(text))


def is_of_a_call(code: str, text: str) -> bool:
    """Whether an error is one of API calls, which imply a granted login."""
    return code.upper() in WORDS["of_a_call"] or WORDS["sentence_of_a_call"] in text.lower()


def is_salesforces(code: str, text: str) -> bool:
    """Whether an error's code or text is Salesforce's own. Many services share OAuth's codes."""
    return not FOREIGN.search(text) and (
        CODE.fullmatch(code) is not None or next(sentences(text), None) is not None
    )


# What they mean


@dataclass(frozen=True, slots=True)
class Meaning:
    """A cause, its certainty, and other causes with the same answer, most likely first."""

    cause: Cause
    certainty: Certainty
    others: tuple[Cause, ...] = ()


def plain(text: str) -> str:
    """The text normalised for the rules."""
    return " ".join(re.sub("[’‘ʼ`´]", "'", text).replace("_", " ").lower().split())


TEXTS = tuple(
    (
        re.compile("|".join(row["patterns"])),
        Meaning(Cause(row["cause"]), Certainty(row["certainty"]), tuple(map(Cause, row.get("others", ())))),
    )
    for row in WORDS["answers"]
)
"""What to search for in `error: description`, as normalised by `plain`, and what it means."""

_DECIDING_CODES = {code: Cause(cause) for code, cause in WORDS["deciding_codes"].items()}

_EVENTS = {plain(code): plain(status) for code, status in STATUSES.items()} | {
    "login during restricted domain": "restricted ip"  # the SOAP API's name for it
}

_KEYS = [(Cause(row["cause"]), re.compile("|".join(row["patterns"]))) for row in WORDS["keys"]]
_FAULTS = [(FaultKind(row["kind"]), re.compile("|".join(row["patterns"]))) for row in WORDS["faults"]]

FAULT_ORDER = tuple(reversed(dict.fromkeys(kind for kind, _ in reversed(_FAULTS))))
"""The kinds of faults, most informative first."""

_TRUSTED_LISTS = re.compile(r"\bca\b|candidate authority|trust.?store|cacert|ca.?bundle|ca.?file|\bssl cert")
"""Files of trusted authorities: if one can't be read, our key is not at fault."""

_OTHER_KEYS = any_of("other_keys")
_SLOW_WORK = any_of("slow_work")


def of_text(text: str) -> Meaning | None:
    """What an error text (`error: description`) means; None if no rule matches."""
    if FOREIGN.search(text):
        return None
    spoken = plain(SETTING.sub(" ", text))
    code, _, description = spoken.partition(":")
    if decided := _DECIDING_CODES.get(code):
        meant = (meaning for _, meaning in TEXTS if meaning.cause is decided)
        return min(meant, key=lambda meaning: list(Certainty).index(meaning.certainty))
    if status := _EVENTS.get(code):
        spoken = f"{status}{description}"
    return next((meaning for pattern, meaning in TEXTS if pattern.search(spoken)), None)


def of_key(text: str) -> Cause | None:
    """The key problem in a text made `plain`, if any."""
    if _TRUSTED_LISTS.search(text):
        return None
    text = _OTHER_KEYS.sub(" ", text)
    return next((cause for cause, pattern in _KEYS if pattern.search(text)), None)


def kind_of(text: str) -> FaultKind | None:
    """The fault before an answer in a client's message made `plain`, if any."""
    text = _SLOW_WORK.sub(" ", SETTING.sub(" ", text))
    return next((kind for kind, pattern in _FAULTS if pattern.search(text)), None)
