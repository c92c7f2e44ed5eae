"""What the database holds: `database move` and `report`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitor.commands.cli.arguments import ConfigOption, choice, settings_of
from monitor.core.problem import OperatorError


def database_move(
    source: Annotated[Path, typer.Option("--from", help="The SQLite file. Stop its daemon first.")],
    to: Annotated[
        str, typer.Option(help="postgresql://USER@HOST/DATABASE, with no bearerwatch data in it yet.")
    ],
) -> None:
    """Copy a SQLite database into PostgreSQL. The file is kept; if its tables are older, they are upgraded.

    Example: `bearerwatch database move --from bearerwatch.db --to postgresql://monitor@db/bearerwatch`
    """
    from monitor.config.words import database_server
    from monitor.store import move

    try:
        database_server(to)
    except ValueError as problem:
        raise OperatorError(f"--to {problem}") from None
    moved = move(source, to)
    print(f"Moved {moved:,} {'history' if moved == 1 else 'histories'}, with events and exchanges.")


def report_month(
    config: ConfigOption,
    month: Annotated[str, typer.Option(help="The month, e.g. 2026-11, in UTC.")],
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Only connections with this label: key=value, or a key."),
    ] = None,
    layout: Annotated[
        str, choice("md", "csv", name="--format", help="md: a table to read; csv: for spreadsheets.")
    ] = "md",
) -> None:
    """Report the availability of connections in a month, from the database.

    Example: `bearerwatch report --month 2026-11 --label customer=acme --format csv`
    """
    from monitor.commands.report import as_csv, as_markdown, report

    lines = report(settings_of(config), month, labels or [], datetime.now(UTC))
    print(
        as_csv(lines) if layout == "csv" else as_markdown(lines, month), end="" if layout == "csv" else "\n"
    )
