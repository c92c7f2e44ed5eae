"""`alerts` and `alerts test`."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.commands import terminal
from monitor.commands.cli.arguments import ConfigOption, JsonOption, cause_of, settings_of
from monitor.commands.cli.exits import Exit, log_errors_alone, say
from monitor.core.problem import OperatorError


def show_alerts(
    context: typer.Context,
    config: ConfigOption,
    as_json: JsonOption = False,
) -> None:
    """Show active alerts and where they go, or send a test alert.

    It only reads the daemon's database: it checks and sends nothing.

    **Examples**

    - `bearerwatch alerts --config bearerwatch.yaml`: active alerts
    - `bearerwatch alerts test --cause approval_decayed --config bearerwatch.yaml`: a test alert
    """
    if context.invoked_subcommand:
        return
    from monitor.commands import alerts

    log_errors_alone()
    now, settings = datetime.now(UTC), settings_of(config)
    found = alerts.active_alerts(settings, now)
    if as_json:
        print(json.dumps([alerts.as_json(one) for one in found], indent=2))
        return
    terminal.show_alerts(found, now=now)
    count = len(settings.notify.sinks)
    sinks = f"{count} sink{' is' if count == 1 else 's are'} configured"
    say(f"{len(found):,} alert{'' if len(found) == 1 else 's'}; {sinks}.")


def send_drill(
    cause: Annotated[str, typer.Option(help="The cause to send a test alert for.")],
    config: ConfigOption,
    to: Annotated[str | None, typer.Option(help="The sink. Default: all that accept this cause.")] = None,
) -> None:
    """Send a test alert, marked as such, to check that notifications arrive.

    Exit code: 0 every sink accepted it, 2 one did not, or an error in the configuration.

    Example: `bearerwatch alerts test --cause approval_decayed --config bearerwatch.yaml`
    """
    from monitor.commands.alerts import send_to_all
    from monitor.notify import drill

    log_errors_alone()
    settings, chosen = settings_of(config), cause_of(cause)
    message = drill(chosen, datetime.now(UTC))
    (alert,) = message.alerts
    known = {sink.name: sink for sink in settings.notify.sinks}
    if not known:
        raise OperatorError(f"{config} has no sinks: add one under notify.")
    if to is not None and to not in known:
        raise OperatorError(terminal.unknown_name("sink", to, known))
    accepting = [sink for sink in known.values() if sink.model_copy(update={"labels": ()}).takes(alert)]
    sinks = accepting if to is None else [known[to]]
    if not sinks:
        raise OperatorError(f"No sink accepts {chosen}: none matches its severity and who must act.")
    if not asyncio.run(send_to_all(settings, message, sinks, say)):
        raise typer.Exit(Exit.MISTAKE)
