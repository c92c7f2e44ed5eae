"""Arguments and options that several commands share, with their completion, and what they name."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.commands import terminal
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.problem import OperatorError

if TYPE_CHECKING:
    from monitor.config import Settings


USUAL_PLACES = (Path("bearerwatch.yaml"), Path("/etc/bearerwatch/bearerwatch.yaml"))
USUAL = " or ".join(map(str, USUAL_PLACES))


def usual() -> Path:
    """The configuration's default location."""
    return next((place for place in USUAL_PLACES if place.exists()), USUAL_PLACES[0])


def settings_of(config: Path) -> "Settings":
    """Load a configuration. Raises OperatorError."""
    from monitor.config import load

    if config == USUAL_PLACES[0] and not config.exists():
        raise OperatorError(f"No configuration found. Use --config FILE, or create {USUAL}.")
    return load(config, os.environ)


def complete_connection(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion of names, if an option or the environment says which configuration."""
    path = context.params.get("config") or os.environ.get("BEARERWATCH_CONFIG") or usual()
    try:
        connections = settings_of(Path(path)).connections
    except (OperatorError, PermissionError):
        return []
    return [each.name for each in connections if each.name.startswith(incomplete)]


def complete_cause(incomplete: str) -> list[tuple[str, str]]:
    """Shell completion of causes, with titles."""
    return [(str(cause), CATALOGUE[cause].title) for cause in Cause if cause.startswith(incomplete)]


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        help="The configuration file.",
        envvar="BEARERWATCH_CONFIG",
        default_factory=usual,
        show_default=USUAL,
    ),
]
NameArgument = Annotated[str, typer.Argument(help="The connection.", autocompletion=complete_connection)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]


def choice(*words: str, help: str, name: str | None = None) -> Any:  # noqa: A002 - the option's name
    """An option with a few allowed words. For others, typer itself would print "Value error" before them."""

    def read(word: str) -> str:
        if word not in words:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(words)}.")
        return word

    return typer.Option(
        *([name] if name else []),
        parser=read,
        metavar=f"[{'|'.join(words)}]",
        autocompletion=lambda: list(words),
        help=help,
    )


def chosen_of(settings: "Settings", names: list[str]) -> list[Connection]:
    """The named connections, or all that are not paused."""
    by_name = {connection.name: connection for connection in settings.connections}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise OperatorError("\n".join(terminal.unknown_name("connection", name, by_name) for name in unknown))
    if names:
        return [by_name[name] for name in dict.fromkeys(names)]
    return [connection for connection in settings.connections if not connection.paused]


def cause_of(code: str) -> Cause:
    """The cause with this code. Raises OperatorError."""
    try:
        return Cause(code.replace("-", "_"))  # also accepts the names of the demo's connections
    except ValueError:
        raise OperatorError(terminal.unknown_name("cause", code, [str(cause) for cause in Cause])) from None


BYTES_READ = 300_000
"""Bytes read of an input to explain: more than the longest that is accepted, in any encoding."""


def text_of(file: str) -> str:
    """The text of a file, or of stdin for `-`."""
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as stream:
            raw = stream.read(BYTES_READ)  # bounded: a device may never end
    except OSError as problem:
        raise OperatorError(f"{file} cannot be read: {problem.strerror}.") from None
    return raw.decode("utf-8", errors="replace")
