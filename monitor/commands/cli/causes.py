"""The commands that need no configuration: `explain` and `causes`."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.commands import terminal
from monitor.commands.cli.arguments import JsonOption, cause_of, complete_cause, text_of
from monitor.commands.cli.exits import print_result
from monitor.core.causes import Cause


def explain_answer(
    file: Annotated[str, typer.Argument(help="A file with the recorded answer; - is stdin.")] = "-",
    as_json: JsonOption = False,
) -> None:
    """Diagnose a recorded answer without a network: a JSON record, or a line pasted from a log.

    **Examples**

    - `echo "invalid_grant: user hasn't approved this consumer" | bearerwatch explain`
    - `curl -i … | bearerwatch explain`: an answer with its headers
    - `bearerwatch explain answer.json --json`
    """
    from monitor.commands import explain as explaining

    diagnosis = explaining.explain(text_of(file), datetime.now(UTC))
    print_result(explaining.as_json(diagnosis), explaining.lines(diagnosis), as_json=as_json)


def causes(
    code: Annotated[
        str | None,
        typer.Argument(help="A cause. Default: list all.", autocompletion=complete_cause),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the causes, or print the runbook of one.

    **Examples**

    - `bearerwatch causes`: all, one line each
    - `bearerwatch causes approval_decayed`: what it is, how to tell, what to do
    - `bearerwatch causes --json`
    """
    from monitor.web import runbooks

    chosen = [cause_of(code)] if code else list(Cause)
    if as_json:
        told = [runbooks.as_json(cause) for cause in chosen]
        print(json.dumps(told[0] if code else told, indent=2))
    elif code:
        terminal.show_text(runbooks.cause_page(chosen[0]))
    else:
        terminal.show_catalogue()
