"""Builds the manual page from the commands' help: `python -m deploy.man.build_man`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup

from monitor.commands.cli import app
from monitor.commands.cli.exits import Exit

PAGE = Path(__file__).with_name("bearerwatch.1")


def page() -> str:
    """The manual page, as roff."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    lines = [
        '.TH BEARERWATCH 1 "" bearerwatch "User commands"',
        ".SH NAME",
        "bearerwatch \\- watch Salesforce OAuth 2.0 JWT Bearer credentials",
        ".SH SYNOPSIS",
        ".B bearerwatch\n.I COMMAND\n[OPTIONS] [ARGUMENTS]",
        ".SH DESCRIPTION",
        _text(root.help or ""),
        ".SH COMMANDS",
        *_commands(root, "bearerwatch"),
        ".SH EXIT STATUS",
        *(f".TP\n.B {code}\n{code.name.lower().replace('_', ' ')}" for code in Exit),
    ]
    return "\n".join(lines) + "\n"


def _commands(group: TyperGroup, before: str) -> Iterator[str]:
    for name, command in group.commands.items():
        path = f"{before} {name}"
        if isinstance(command, TyperGroup):
            yield from _commands(command, path)
        if not isinstance(command, TyperGroup) or command.invoke_without_command:
            assert isinstance(command, TyperCommand | TyperGroup)
            yield f".SS {path}\n{_text(command.help or '')}"
            context = command.make_context(path, [], resilient_parsing=True)
            for parameter in command.params:
                if record := parameter.get_help_record(context):
                    option, meaning = record
                    yield f".TP\n.B {_escaped(option)}\n{_text(meaning)}"


def _text(markdown: str) -> str:
    """Help as paragraphs, lists and bold text, escaped for roff."""
    plain = markdown.replace("`", "").replace("\f", "")
    parts = []
    for part in filter(str.strip, plain.split("\n\n")):
        if part.lstrip().startswith("- "):
            items = re.split(r"^\s*- ", part.strip(), flags=re.MULTILINE)
            parts += [f".IP \\(bu 2\n{_line(item)}" for item in items if item]
        else:
            parts.append(f".PP\n{_line(part)}")
    return "\n".join(parts).removeprefix(".PP\n")


def _line(part: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"\\fB\1\\fR", _escaped(" ".join(part.split())))


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
