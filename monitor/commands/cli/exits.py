"""How commands end and print: exit codes, messages on stderr, JSON or text on stdout."""

import errno
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer
from rich.console import Console

from monitor.commands import terminal
from monitor.core.finding import State
from monitor.core.problem import OperatorError
from monitor.core.status import ConnectionStatus


class Exit(IntEnum):
    """Exit codes."""

    FINE = 0
    FAILING = 1
    MISTAKE = 2
    NO_VERDICT = 3


errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a message on stderr."""
    errors.print(text, markup=False)


def print_result(document: object, lines: Iterable[terminal.Line], *, as_json: bool) -> None:
    """Print a result as JSON or as text."""
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        terminal.show_lines(lines)


@contextmanager
def operators_mistakes(code: Exit = Exit.MISTAKE) -> Iterator[None]:
    """Print an OperatorError, or what this user may not read, on stderr and exit with this code."""
    try:
        yield
    except OperatorError as mistake:
        said = str(mistake)
    except PermissionError as refused:
        if refused.filename is None:
            raise
        said = (
            f"{refused.filename} is not accessible to this user (uid {os.geteuid()}): give it permission, for"
            " the directories too, or run the command as the user that runs the daemon."
        )
    else:
        return
    errors.print(said, markup=False)
    raise typer.Exit(code)


@contextmanager
def port_taken(address: str, remedy: str) -> Iterator[None]:
    """Print an error if a listening address is not available."""
    try:
        yield
    except OSError as problem:
        if problem.errno in {socket.EAI_NONAME, socket.EAI_AGAIN}:
            reason = "The host is unknown"
        elif problem.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}:
            reason = os.strerror(problem.errno)
        else:
            raise
        raise OperatorError(f"Cannot listen on {address}: {reason}. {remedy}") from None


def log_errors_alone() -> None:
    """Log only errors: the command prints the rest itself."""
    from monitor.daemon import logs

    logs.configure(level="error")


def exit_code(statuses: list[ConnectionStatus], fail_on: str) -> Exit:
    """The exit code for a round of checks: the worst one."""
    states = {status.state for status in statuses}
    counts = {"failing": set[str](), "critical": {"critical"}, "warning": {"critical", "warning"}}[fail_on]
    if State.FAILING in states or any(found.severity in counts for one in statuses for found in one.findings):
        return Exit.FAILING
    return Exit.NO_VERDICT if states & {State.UNKNOWN, State.SETTLING} else Exit.FINE
