"""A YAML file with blocks of options, and the problems found in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from monitor.config import files, text
from monitor.config.complaints import complaints
from monitor.config.options.values import Options
from monitor.config.problem import Problem
from monitor.config.text import Value

LARGEST_FILE = 64 * 1024 * 1024
"""Largest file, in bytes: about 150,000 connections. More is a wrong path."""

Model = TypeVar("Model", bound=Options)


@dataclass(frozen=True, slots=True)
class Document:
    """A file as read."""

    shown: str
    """As named by the operator, or as matched by a pattern."""
    path: Path
    value: Value
    problems: list[Problem]
    """Those of all files of the configuration."""

    def note(self, path: text.Path, message: str) -> None:
        """Add a problem at a place in the file."""
        line = text.line_of(self.value, path)
        self.problems.append(Problem(self.shown, line, text.shown_path(self.value, path), message))

    def checked(
        self, path: text.Path, model: type[Model], written: object, **context: object
    ) -> Model | None:
        """Validate a block of options; None, after noting its problems, if invalid."""
        try:
            return model.model_validate(written, context={"directory": str(self.path.parent), **context})
        except ValidationError as error:
            for within, message in complaints(error, model):
                self.note((*path, *within), message)
            return None


def read(shown: str, path: Path, problems: list[Problem], *, or_pipe: bool = False) -> Document | None:
    """Read and parse a file; None, after noting the problem, if it can't be read."""
    try:
        value, mistakes = text.read(files.read(path, LARGEST_FILE, or_pipe=or_pipe))
    except files.FileError as error:
        problems.append(Problem(shown, None, "", str(error)))
        return None
    for mistake in mistakes:
        where = text.shown_path(value, mistake.path)
        problems.append(Problem(shown, mistake.line, where, mistake.message))
    return Document(shown, path, value, problems)
