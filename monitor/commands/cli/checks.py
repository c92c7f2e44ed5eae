"""The commands that log in to orgs: `check`, `recheck`, `audit` and `preflight`."""

import asyncio
import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.commands import terminal
from monitor.commands.cli.arguments import (
    ConfigOption,
    JsonOption,
    NameArgument,
    cause_of,
    choice,
    chosen_of,
    complete_cause,
    complete_connection,
    settings_of,
    text_of,
)
from monitor.commands.cli.exits import (
    Exit,
    errors,
    exit_code,
    log_errors_alone,
    print_result,
    say,
)
from monitor.core.connection import Source
from monitor.core.finding import State
from monitor.core.problem import OperatorError
from monitor.core.status import ConnectionStatus, worst_first
from monitor.watch.clock import Clock
from monitor.web.words import exact

if TYPE_CHECKING:
    from monitor.config import Settings


def check(
    config: ConfigOption,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Connections to check. Default: all.", autocompletion=complete_connection),
    ] = None,
    as_json: JsonOption = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only connections that are not healthy.")
    ] = False,
    fail_on: Annotated[
        str,
        choice("failing", "critical", "warning", help="Exit with 1 for findings of this severity or worse."),
    ] = "failing",
) -> None:
    """Check connections now: one line each, or full details for those you name.

    It uses the history in the daemon's database, and writes nothing to it.

    **Examples**

    - `bearerwatch check -c bearerwatch.yaml`: all, worst first
    - `bearerwatch check acme-production -c bearerwatch.yaml`: the diagnosis of one
    - `bearerwatch check --quiet -c bearerwatch.yaml`: silent while all are healthy, for cron
    - `bearerwatch check --json -c bearerwatch.yaml | jq '.[] | select(.state == "failing")'`

    **Exit code**: 0 all healthy or degraded, 1 any failing (with `--fail-on`, also any with a finding
    of that severity or worse), 2 an error in the configuration, 3 no verdict.
    """
    from monitor.commands import check as checking

    log_errors_alone()
    settings = settings_of(config)
    chosen, clock = chosen_of(settings, names or []), Clock()
    what = f"Checking {chosen[0].name} at {chosen[0].host}" if len(chosen) == 1 else "Checking"
    with terminal.progress(what, len(chosen), shown=not (as_json or quiet)) as done:
        statuses = asyncio.run(checking.check_once(settings, chosen, clock=clock, done=done))
    if as_json:
        print(json.dumps([checking.as_json(status) for status in statuses], indent=2))
    else:
        terminal.show(statuses, now=clock.now(), quiet=quiet, whole=bool(names))
    if names:
        _tell_daemon(settings, statuses, quiet=quiet)
    if not (as_json or quiet or names):
        errors.print("", terminal.summary(statuses), sep="\n")
        worst = worst_first(statuses)[:1]
        if worst and worst[0].findings:
            say(f"Details of a connection: bearerwatch check {worst[0].name} --config {config}")
    raise typer.Exit(exit_code(statuses, fail_on))


def _tell_daemon(settings: "Settings", statuses: list[ConnectionStatus], *, quiet: bool) -> None:
    """Say when a running daemon checks next; make it check now where it shows another state."""
    from monitor.commands.running import NoAnswerError, Running

    with Running(settings) as daemon:
        try:
            shown = daemon.shown()
        except NoAnswerError:
            return  # not running here, or a different service
        for status in statuses:
            its = shown.get(status.name)
            if its is None or its["host"] != status.connection.host:
                continue
            soon = its["next_exchange"]
            what = f" Its next check is at {exact(datetime.fromisoformat(soon))}." if soon else ""
            if its["state"] == status.state:
                if quiet:
                    continue
            elif its["state"] != State.PAUSED:
                try:
                    daemon.ask(f"/api/connections/{status.name}/check")
                    what = " It was asked to check now."
                except NoAnswerError as refused:
                    what += f" It cannot check it now: {refused}"
            say(f"\nThe running daemon shows {status.name} as {its['state']}.{what}")


def recheck(
    config: ConfigOption,
    names: Annotated[
        list[str] | None, typer.Argument(help="Connections.", autocompletion=complete_connection)
    ] = None,
    cause: Annotated[
        list[str] | None,
        typer.Option(help="All connections with this cause.", autocompletion=complete_cause),
    ] = None,
    url: Annotated[
        str, typer.Option(help="URL of the daemon's pages. Default: from the configuration.")
    ] = "",
    user: Annotated[
        str, typer.Option(help="User name for the pages; password in BEARERWATCH_PASSWORD.")
    ] = "",
) -> None:
    """Make the running daemon check connections now, so that pages and alerts clear after a repair.

    Exit code: 0 all healthy or degraded, 1 any failing, 2 the daemon cannot be reached, 3 no verdict yet.

    Example: `bearerwatch recheck acme-production`
    """
    from monitor.commands.running import Running, rechecked

    log_errors_alone()
    settings = settings_of(config)
    chosen = [one.name for one in chosen_of(settings, names)] if names else []
    causes = [str(cause_of(one)) for one in cause or []]
    if not (chosen or causes):
        raise OperatorError("Name one or more connections, or a cause: --cause CODE.")
    with Running(settings, url, user) as daemon:
        found, refused, missing = rechecked(daemon, chosen, causes, terminal.show_rechecked)
    states = {one["state"] for one in found.values()}
    for name, why in refused.items():
        say(f"Not checked: {name}. {why}")
    if missing:
        say(f"Not checked within a minute: {', '.join(missing)}. See the daemon's page and log.")
    if not (found or refused or missing):
        say(f"Nothing to check: no connection has {' or '.join(causes)}.")
    if "failing" in states:
        raise typer.Exit(Exit.FAILING)
    raise typer.Exit(Exit.NO_VERDICT if missing or refused or states & {"unknown", "settling"} else Exit.FINE)


def audit_connection(
    name: NameArgument,
    config: ConfigOption,
    as_json: JsonOption = False,
) -> None:
    """Check each step of the setup guide in the org: right, wrong, or not readable.

    One login, then at most eight REST calls; an observer logs in as well. It stores nothing.

    Example: `bearerwatch audit acme-production --config bearerwatch.yaml`

    **Exit code**: 0 no step is wrong, 1 one is, or the login failed, 2 an error in the configuration,
    3 no verdict.
    """
    from monitor.commands import audit
    from monitor.core.verdict.audit import steps_of
    from monitor.core.verdict.guide import Ruling

    log_errors_alone()
    clock, settings = Clock(), settings_of(config)
    (connection,) = chosen_of(settings, [name])
    status = asyncio.run(audit.audit_once(settings, connection, clock=clock))
    now = clock.now()
    print_result(audit.as_json(status, now), audit.as_text(status, now), as_json=as_json)
    wrong = any(step.ruling is Ruling.WRONG for step in steps_of(status, now))
    raise typer.Exit(Exit.FAILING if wrong else exit_code([status], "failing"))


def try_before(
    config: ConfigOption,
    name: Annotated[
        str | None,
        typer.Argument(
            help="A configured connection. Default: use the options.", autocompletion=complete_connection
        ),
    ] = None,
    subdomain: Annotated[
        str, typer.Option(help="The org's subdomain (setup guide, step 7) or whole address.")
    ] = "",
    consumer_key: Annotated[str, typer.Option(help="The app's consumer key (step 3).")] = "",
    username: Annotated[str, typer.Option(help="The integration user's username (step 5).")] = "",
    private_key: Annotated[
        str, typer.Option(help="A file with the private key, PEM or base64 of PEM; - is stdin.")
    ] = "",
    app_name: Annotated[str, typer.Option("--app", help="The app's name in the org.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Try a connection before monitoring it: one login, an audit, and the lines to configure.

    If the org refuses the pair of address and audience, it tries the other sensible pairs once each. The
    output never contains the key.

    **Examples**

    - `bearerwatch preflight --subdomain acme --consumer-key 3MVG9… --username integration@acme.com
      --private-key private-key.pem`
    - `bearerwatch preflight acme-production --config bearerwatch.yaml`

    **Exit code**: 0 healthy or degraded, 1 failing, 2 invalid input, 3 no verdict.
    """
    from monitor.commands import preflight
    from monitor.keys import SourceError
    from monitor.keys.sources import read

    log_errors_alone()
    needed = {
        "--subdomain": subdomain,
        "--consumer-key": consumer_key,
        "--username": username,
        "--private-key": private_key,
    }
    given = [option for option, value in {**needed, "--app": app_name}.items() if value]
    missing = [option for option, value in needed.items() if not value]
    if name is not None:
        if given:
            raise OperatorError(
                f"Give a configured connection or options, not both: {name}, {', '.join(given)}."
            )
        settings = settings_of(config)
    elif missing:
        raise OperatorError(f"Missing: {', '.join(missing)}. Or name a configured connection.")
    else:
        key = {"file": str(Path(private_key).absolute())}
        if private_key == "-":
            if not (written := text_of("-")).strip():
                raise OperatorError("There is no private key on stdin.")
            os.environ[preflight.STDIN_KEY] = written
            key = {"env": preflight.STDIN_KEY}
        settings = preflight.settings_of(subdomain, consumer_key, username, key, app_name)
        if private_key != "-":
            try:  # only now: what looks like the key itself was refused, without repeating it
                read(Source("file", key["file"]), {})
            except SourceError as problem:
                raise OperatorError(f"--private-key: {problem}") from None
    (connection,) = chosen_of(settings, [name or preflight.UNCONFIGURED])
    clock = Clock()
    found = asyncio.run(
        preflight.preflight(
            settings,
            connection,
            clock=clock,
            tell=lambda tried: None if as_json else say(preflight.line(tried)),
        )
    )
    now = clock.now()
    print_result(preflight.as_json(found, now), preflight.as_text(found, now), as_json=as_json)
    raise typer.Exit(exit_code([found.status], "failing"))
