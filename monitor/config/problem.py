"""Configuration errors: one Problem each, and ConfigError with all of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from monitor.core.problem import OperatorError

REPORTED = 50
"""Most problems in a report; others are counted. A template's error repeats in thousands of connections."""

SHOWN = 60
"""Characters of a value that a message repeats: enough to find it."""

WORD = 40
"""A word this long in a long text may be part of a key."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One error: where it is, what is wrong, and how to fix it."""

    file: str
    """As named by the operator, or as matched by a pattern."""
    line: int | None
    """Counted from 1; None if the problem is the file itself."""
    path: str
    """Such as `connections[3] "acme".audience`; empty if the problem is the whole file."""
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(OperatorError):
    """The configuration can't be used. Has all problems, in order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:REPORTED]]
        if len(self.problems) > REPORTED:
            lines.append(f"… and {len(self.problems) - REPORTED:,} more problems.")
        super().__init__("\n".join(lines))


def quoted(value: object) -> str:
    """A value for use in a message: short, on one line, and never a key.

    Text with PEM armour, or long text with long words, may be a misplaced private key, and is not shown.
    """
    if not isinstance(value, str):
        return "a list" if isinstance(value, list) else "a mapping"
    if "-----" in value or (len(value) > SHOWN and any(len(word) > WORD for word in value.split())):
        return f"a string of {len(value):,} characters"
    shown = "".join(character if character.isprintable() else "·" for character in value)
    return f'"{shown}"' if len(shown) <= SHOWN else f'"{shown[:SHOWN]}…"'
