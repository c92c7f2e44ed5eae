"""Recognises Salesforce's codes and sentences in any text, by the tables of `vocabulary.toml`."""

import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files

WORDS = tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8"))

CODE = re.compile(rf"(?<![\w.-])({'|'.join(WORDS['codes'])})(?!\w)", re.IGNORECASE)

OF_WORK = re.compile(rf"(?<![\w.-])(?:{'|'.join(WORDS['of_work'])})(?!\w)")

FOREIGN = re.compile("|".join(WORDS["other_providers"]), re.IGNORECASE)

OTHER_SERVICES = re.compile("|".join(WORDS["other_services"]), re.IGNORECASE)

_SALESFORCES = re.compile("|".join(WORDS["salesforces"]), re.IGNORECASE)
_ASKS_ANOTHER = re.compile("|".join(WORDS["asks_another"]), re.IGNORECASE)
_OF_TERRAFORM = re.compile("|".join(WORDS["of_terraform"]))

SAY_LITTLE = frozenset(WORDS["say_little"])

STATUSES: dict[str, str] = WORDS["statuses"]

_DISTINCTIVE_WORDS = 3
"""A status with this many words is distinctive. Shorter ones, such as `invalid password`, count only in
Salesforce's spelling or by themselves."""


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence of Salesforce's and each Login History status."""
    lowered = text.translate(_LOWER)
    for sentence in dict.fromkeys((*WORDS["sentences"], *STATUSES.values())):
        sought = sentence.lower()
        weak = sentence not in WORDS["sentences"] and len(sentence.split()) < _DISTINCTIVE_WORDS
        start = lowered.find(sought)
        while start >= 0:
            end = start + len(sought)
            before, after = text[start - 1 : start], text[end : end + 1]
            alone = before in _EDGES and after in _EDGES
            if not (before.isalpha() or after.isalpha() or (weak and not alone and text[start].islower())):
                yield start, end
            start = lowered.find(sought, end)


def is_of_another_service(text: str) -> bool:
    """Whether the words next to it are not about Salesforce. A host of Salesforce's says that they are."""
    return OTHER_SERVICES.search(text) is not None and "salesforce.com" not in text.lower()


def is_of_a_call(code: str, text: str) -> bool:
    """Whether an error is one of API calls, which imply a granted login."""
    return code.upper() in WORDS["of_a_call"] or WORDS["sentence_of_a_call"] in text.lower()


def asks_another(text: str) -> bool:
    """Whether it says that another server was asked."""
    return _ASKS_ANOTHER.search(text) is not None and not _SALESFORCES.search(text)


def is_of_terraform(text: str) -> bool:
    """Whether it is a report of Terraform about another provider."""
    return _OF_TERRAFORM.search(text) is not None and not _SALESFORCES.search(text)


def is_salesforces(code: str, text: str) -> bool:
    """Whether an error's code or text is Salesforce's own. Many services share OAuth's codes."""
    return not FOREIGN.search(text) and (
        CODE.fullmatch(code) is not None or next(sentences(text), None) is not None
    )


_EDGES = frozenset("\n,;|\"'<>[](){}=") | {""}
_LOWER = str.maketrans({**{chr(code): chr(code + 32) for code in range(65, 91)}, "\n": " "})
"""Lower-cases without changing positions: `str.lower` makes some texts longer."""
