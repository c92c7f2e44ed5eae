"""What is wrong in a configuration: one Problem a mistake, and the ConfigError that carries all of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from monitor.core.problem import OperatorError

REPORTED = 50
"""Problems that a report prints. A template that is wrong once is wrong in each of thousands of connections,
and nobody reads further; the number of the others is printed."""

SHOWN = 60
"""Characters of an operator's value that a message repeats: enough to find it again."""

WORD = 40
"""Characters of a word in a long text, from which on it may be a line of a key rather than language."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of the operator's: where it stands, what is wrong, what would be right."""

    file: str
    """As the operator named it, or as its pattern found it."""
    line: int | None
    """Counted from 1; None where the problem is the file itself."""
    path: str
    """`connections[3] "acme".audience`; empty where the problem is the whole file."""
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(OperatorError):
    """A configuration that cannot be used, with every problem found in it, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.report())

    def report(self) -> str:
        """One line a problem, for a person."""
        lines = [str(problem) for problem in self.problems[:REPORTED]]
        if len(self.problems) > REPORTED:
            lines.append(f"… and {len(self.problems) - REPORTED:,} more problems.")
        return "\n".join(lines)


def quoted(value: object) -> str:
    """An operator's value as a message may repeat it: short, on one line, and never a key.

    Whatever has PEM armour in it, or is a long text with long words, may be a private key in the wrong place.
    """
    if not isinstance(value, str):
        return "a list" if isinstance(value, list) else "a mapping"
    if "-----" in value or (len(value) > SHOWN and any(len(word) > WORD for word in value.split())):
        return f"a text of {len(value):,} characters"
    shown = "".join(character if character.isprintable() else "·" for character in value)
    return f'"{shown}"' if len(shown) <= SHOWN else f'"{shown[:SHOWN]}…"'
