"""`run`."""

import asyncio
import signal
from typing import Annotated

import typer

from monitor.commands.cli.arguments import ConfigOption, choice, settings_of
from monitor.commands.cli.exits import Exit, operators_mistakes, port_taken
from monitor.watch.clock import Clock


def run(
    config: ConfigOption,
    log_format: Annotated[
        str, choice("logfmt", "json", help="Log format: logfmt for people, json for machines.")
    ] = "logfmt",
    log_level: Annotated[
        str, choice("debug", "info", "warning", "error", help="Lowest level that is logged.")
    ] = "info",
) -> None:
    """Run the daemon until SIGTERM. SIGHUP reloads the configuration.

    It logs changes and failures to stderr. Healthy checks are not logged.

    **Examples**

    - `bearerwatch run --config bearerwatch.yaml`
    - `bearerwatch run --config bearerwatch.yaml --log-format json --log-level warning`

    **Exit code** at startup: 2 errors in the configuration, 3 the database is unusable or in use by another
    daemon; a retry may help. At shutdown: 3 not everything could be written to the database.
    """
    from monitor.daemon import logs
    from monitor.daemon.daemon import Daemon
    from monitor.store import Store

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # would end the process until the daemon handles it
    settings = settings_of(config)
    logs.configure(format=log_format, level=log_level)  # opening the database may log damage
    with operators_mistakes(Exit.NO_VERDICT):  # the database may be available soon
        store = Store.open(settings.database, alone=True)
    daemon = Daemon(config, settings, clock=Clock(), store=store)
    own = daemon.watch.own
    logs.configure(
        format=log_format,
        level=log_level,
        count=own.count_log_message,
        dropped=own.log_messages_dropped.inc,
    )
    with port_taken(str(settings.listen), f"Choose another address under `listen` in {config}."):
        written = asyncio.run(daemon.run())
    if not written:
        raise typer.Exit(Exit.NO_VERDICT)
