"""What a configuration says: `config check`, `config schema` and `rules`."""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.commands import terminal
from monitor.commands.cli.arguments import USUAL, ConfigOption, settings_of, usual
from monitor.commands.cli.exits import Exit, say
from monitor.core.connection import Pair

if TYPE_CHECKING:
    from monitor.config import Settings

NO_EXTERNAL_URL = (
    "web.external_url is not set: alerts and notifications have no links to pages and runbooks. Set it to"
    " the address at which people open the pages."
)


def config_check(
    file: Annotated[
        Path, typer.Argument(help="The configuration file.", default_factory=usual, show_default=USUAL)
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Also exit with 2 for warnings.")] = False,
) -> None:
    """Report every error in a configuration, with line and fix, and check the keys it names.

    Exit code: 0 no error, 2 an error; with `--strict` a warning counts as one.

    Example: `bearerwatch config check bearerwatch.yaml`
    """
    settings = settings_of(file)
    pairs = sum(len(connection.pairs) for connection in settings.connections)
    with terminal.progress("Reading keys", pairs) as read:
        unusable = asyncio.run(_key_problems(settings, read))
    linkless = () if settings.web.external_url else (NO_EXTERNAL_URL,)
    warnings = [*settings.warnings, *unusable, *linkless]
    for warning in warnings:
        say(f"{file}: {warning}")
    print(
        f"{file}: {_many(len(settings.connections), 'connection')}, no errors,"
        f" {_many(len(warnings), 'warning')}."
    )
    if strict and warnings:
        raise typer.Exit(Exit.MISTAKE)


async def _key_problems(settings: "Settings", done: Callable[[], None]) -> list[str]:
    """A sentence per problem, prefixed by the connections' names. Calls `done` after each pair.

    Skips sources that only the daemon's environment has (variables, systemd credentials): the configuration's
    warnings cover these.
    """
    from monitor.config.cautions import absence
    from monitor.keys.sources import Keyring

    users: defaultdict[Pair, list[str]] = defaultdict(list)
    for connection in settings.connections:
        for pair in connection.pairs:
            if not any(absence(source, os.environ) for source in pair.sources):
                users[pair].append(connection.name)
    keyring = Keyring(os.environ, settings.vault)

    async def read(pair: Pair) -> list[str]:
        credential = await keyring.load(pair)
        done()
        return [f"{', '.join(users[pair])}: {problem.detail}" for problem in credential.facts.problems]

    try:
        found = await asyncio.gather(*map(read, users))
    finally:
        keyring.close()
    return [problem for problems in found for problem in problems]


def _many(count: int, what: str) -> str:
    return f"{f'{count:,}' if count else 'no'} {what}{'' if count == 1 else 's'}"


def config_schema() -> None:
    """Print the JSON Schema of the configuration, for editors.

    Example: `bearerwatch config schema > bearerwatch.schema.json`
    """
    from monitor.config import schema

    print(json.dumps(schema(), indent=2))


def print_rules(config: ConfigOption) -> None:
    """Print Prometheus alert rules for this configuration.

    Example: `bearerwatch rules --config bearerwatch.yaml > alerts.yml`
    """
    from monitor.rules import rules

    settings = settings_of(config)
    if not settings.web.external_url:
        say(NO_EXTERNAL_URL)
    print(rules(settings), end="")
