"""Maps the text of a refusal to a cause. `vocabulary.toml` has the rules."""

import re
from dataclasses import dataclass

from monitor.core.causes import Cause
from monitor.core.finding import Certainty
from monitor.core.verdict.vocabulary import FOREIGN, STATUSES, WORDS


@dataclass(frozen=True, slots=True)
class Meaning:
    """A cause, its certainty, and other causes with the same answer, most likely first."""

    cause: Cause
    certainty: Certainty
    others: tuple[Cause, ...] = ()


def _rule(
    patterns: list[str], cause: str, certainty: str, others: tuple[str, ...] = ()
) -> tuple[re.Pattern[str], Meaning]:
    return re.compile("|".join(patterns)), Meaning(
        Cause(cause), Certainty(certainty), tuple(map(Cause, others))
    )


TEXTS = tuple(_rule(**row) for row in WORDS["answers"])
"""What to search for in `error: description`, as normalised by `plain`, and what it means."""

_DECIDING_CODES = {code: Cause(cause) for code, cause in WORDS["deciding_codes"].items()}


def of_text(text: str) -> Meaning | None:
    """What an error text (`error: description`) means; None if no rule matches."""
    if FOREIGN.search(text):
        return None
    spoken = plain(text)
    code, _, description = spoken.partition(":")
    if decided := _DECIDING_CODES.get(code):
        meant = (meaning for _, meaning in TEXTS if meaning.cause is decided)
        return min(meant, key=lambda meaning: list(Certainty).index(meaning.certainty))
    if status := _EVENTS.get(code):
        spoken = f"{status}{description}"
    return next((meaning for pattern, meaning in TEXTS if pattern.search(spoken)), None)


def plain(text: str) -> str:
    """The text normalised for the rules."""
    return " ".join(re.sub("[’‘ʼ`´]", "'", text).replace("_", " ").lower().split())


_EVENTS = {plain(code): plain(status) for code, status in STATUSES.items()} | {
    "login during restricted domain": "restricted ip"  # the SOAP API's name for it
}
