"""What a command prints, line by line, as a pipe gets it."""

from collections.abc import Iterable

from monitor.commands.terminal import Line


def printed(lines: Iterable[Line]) -> list[str]:
    """The lines, each with what stands before it."""
    return [f"{before}{text}" for before, text in lines]
