"""The `bearerwatch` command: its subcommands, in the order of `--help`.

A subcommand parses its arguments, calls the implementation, prints, and sets the exit code. Operator errors
are messages on stderr with exit code 2, never tracebacks.

Slow imports (configuration, network, database, pages) are inside the subcommands that need them: otherwise a
runbook, a completion or `--help` would take three times as long.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from monitor import __version__
from monitor.commands.cli import alerts, causes, checks, configuration, daemon, database, keys, simulation
from monitor.commands.cli.exits import operators_mistakes


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with operators_mistakes():
            return super().invoke(ctx)


app = typer.Typer(
    name="bearerwatch",
    cls=_Commands,
    help="""Monitors Salesforce OAuth 2.0 JWT Bearer credentials and names the cause of each failure.

    **First steps**

    - `bearerwatch demo`: see it at work, without Salesforce
    - `bearerwatch config check bearerwatch.yaml`: check the configuration and keys
    - `bearerwatch check --config bearerwatch.yaml`: check every connection once
    - `bearerwatch run --config bearerwatch.yaml`: run the daemon
    """,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "run": daemon.run,
    "check": checks.check,
    "recheck": checks.recheck,
    "audit": checks.audit_connection,
    "preflight": checks.try_before,
    "explain": causes.explain_answer,
    "causes": causes.causes,
    "rules": configuration.print_rules,
    "report": database.report_month,
    "keygen": keys.make_keys,
    "rotate": keys.rotate_key,
    "simulate": simulation.simulate,
    "demo": simulation.run_demo,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.command("discover", hidden=True, deprecated=True)(checks.try_before)

config_app = typer.Typer(no_args_is_help=True, help="Check a configuration, or print its JSON Schema.")
config_app.command("check")(configuration.config_check)
config_app.command("schema")(configuration.config_schema)
app.add_typer(config_app, name="config")
alerts_app = typer.Typer(callback=alerts.show_alerts, invoke_without_command=True)
alerts_app.command("test")(alerts.send_drill)
app.add_typer(alerts_app, name="alerts")
database_app = typer.Typer(no_args_is_help=True, help="Copy a database to PostgreSQL.")
database_app.command("move")(database.database_move)
app.add_typer(database_app, name="database")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"bearerwatch {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command."""
    app(prog_name="bearerwatch")
