"""The `--help` of every command, independent of the terminal: `python -m tests.contract.commands`.

Run as a separate process, because typer decides about colours, width and markup at import.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup

from monitor.commands.cli import app
from monitor.commands.cli.exits import Exit

ROOT = Path(__file__).parents[2]
PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}


def commands() -> str:
    """The help of each command: its options, and what its exit codes mean; first the codes of all."""
    ran = subprocess.run(
        [sys.executable, "-m", __name__],
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | PLAIN,
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    # Boxes depend on the terminal's width; only their content is promised.
    lines = (" ".join(re.sub(r"[╭╮╰╯│─]+", " ", line).split()) for line in ran.stdout.splitlines())
    return "".join(f"\n{line}\n" if line.startswith("$ ") else f"{line}\n" for line in lines if line)


def _paths() -> Iterator[list[str]]:
    yield []
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, command in sorted(root.commands.items()):
        yield [name]
        if isinstance(command, TyperGroup):
            yield from ([name, below] for below in sorted(command.commands))


if __name__ == "__main__":
    for code in Exit:
        sys.stdout.write(f"exit code {code}: {code.name.lower()}\n")
    for path in _paths():
        sys.stdout.write(f"$ bearerwatch {' '.join([*path, '--help'])}\n")
        sys.stdout.flush()
        app([*path, "--help"], prog_name="bearerwatch", standalone_mode=False)
