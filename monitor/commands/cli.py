"""The `bearerwatch` command: parses the command line, calls the implementation, sets the exit code.

Operator errors are messages on stderr with exit code 2, never tracebacks.

Slow imports (configuration, network, database, pages) are inside the commands that need them: otherwise a
runbook, a completion or `--help` would take three times as long.
"""

import asyncio
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.console import Console

from monitor import __version__
from monitor.commands import terminal
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import State
from monitor.core.problem import OperatorError
from monitor.core.status import ConnectionStatus, worst_first
from monitor.keys import keygen
from monitor.watch.clock import Clock
from monitor.web.words import exact

if TYPE_CHECKING:
    from monitor.config import Settings


class Exit(IntEnum):
    """Exit codes."""

    FINE = 0
    FAILING = 1
    MISTAKE = 2
    NO_VERDICT = 3


BYTES_READ = 300_000
"""Bytes read of an input to explain: more than the longest that is accepted, in any encoding."""

app = typer.Typer(
    name="bearerwatch",
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
config_app = typer.Typer(no_args_is_help=True, help="Check a configuration, or print its JSON Schema.")
app.add_typer(config_app, name="config")
alerts_app = typer.Typer()
app.add_typer(alerts_app, name="alerts", invoke_without_command=True)
database_app = typer.Typer(no_args_is_help=True, help="Copy a database to PostgreSQL.")
app.add_typer(database_app, name="database")

LogFormat = Literal["logfmt", "json"]  # duplicates monitor.daemon.logs, whose import is slow

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def _complete_connection(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion of connection names, if the configuration is known from an option or the
    environment.
    """
    path = context.params.get("config") or os.environ.get("BEARERWATCH_CONFIG") or _usual()
    try:
        connections = _settings(Path(path)).connections
    except OperatorError:
        return []
    return [each.name for each in connections if each.name.startswith(incomplete)]


def _complete_cause(incomplete: str) -> list[tuple[str, str]]:
    """Shell completion of causes, with titles."""
    return [(str(cause), CATALOGUE[cause].title) for cause in Cause if cause.startswith(incomplete)]


USUAL_PLACES = (Path("bearerwatch.yaml"), Path("/etc/bearerwatch/bearerwatch.yaml"))
USUAL = " or ".join(map(str, USUAL_PLACES))

NO_EXTERNAL_URL = (
    "web.external_url is not set: alerts and notifications have no links to pages and runbooks. Set it to"
    " the address at which people open the pages."
)


def _usual() -> Path:
    """The configuration's default location."""
    return next((place for place in USUAL_PLACES if place.exists()), USUAL_PLACES[0])


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        help="The configuration file.",
        envvar="BEARERWATCH_CONFIG",
        default_factory=_usual,
        show_default=USUAL,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]


def main() -> None:
    """Run the command."""
    app(prog_name="bearerwatch")


@contextmanager
def operators_mistakes(code: Exit = Exit.MISTAKE) -> Iterator[None]:
    """Print an OperatorError on stderr and exit with this code."""
    try:
        yield
    except OperatorError as mistake:
        errors.print(str(mistake), markup=False)
        raise typer.Exit(code) from None


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


def say(text: str) -> None:
    """Print a message on stderr."""
    errors.print(text, markup=False)


def _settings(config: Path) -> "Settings":
    """Load a configuration. Raises OperatorError."""
    from monitor.config import load

    if config == USUAL_PLACES[0] and not config.exists():
        raise OperatorError(f"No configuration found. Use --config FILE, or create {USUAL}.")
    return load(config, os.environ)


def _log_errors_alone() -> None:
    """Log only errors: the command prints the rest itself."""
    from monitor.daemon import logs

    logs.configure(level="error")


def _choice(*words: str, help: str, name: str | None = None) -> Any:  # noqa: A002 - the option's name
    """An option with a few allowed words. For others, typer itself would only print "Value error"."""

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


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"bearerwatch {__version__}")
        raise typer.Exit


@app.command()
def run(
    config: ConfigOption,
    log_format: Annotated[
        LogFormat,
        _choice(*get_args(LogFormat), help="Log format: logfmt for people, json for machines."),
    ] = "logfmt",
    log_level: Annotated[
        str, _choice("debug", "info", "warning", "error", help="Lowest level that is logged.")
    ] = "info",
) -> None:
    """Run the daemon until SIGTERM. SIGHUP reloads the configuration.

    It logs changes and failures to stderr. Healthy checks are not logged.

    **Examples**

    - `bearerwatch run --config bearerwatch.yaml`
    - `bearerwatch run --config bearerwatch.yaml --log-format json --log-level warning`

    **Exit code** at start: 2 errors in the configuration, 3 the database is unusable or in use by another
    daemon; a retry may help. At the end: 3 not everything could be written to the database.
    """
    from monitor.daemon import logs
    from monitor.daemon.daemon import Daemon
    from monitor.store import Store

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # would end the process until the daemon handles it
    with operators_mistakes():
        settings = _settings(config)
    logs.configure(
        format=log_format, level=log_level
    )  # a damaged database is logged before there is a daemon
    with operators_mistakes(Exit.NO_VERDICT):  # the database may be available soon
        store = Store.open(settings.database, alone=True)
    with operators_mistakes():
        daemon = Daemon(config, settings, clock=Clock(), store=store)
    own = daemon.watch.own
    logs.configure(
        format=log_format,
        level=log_level,
        count=own.count_log_message,
        dropped=own.log_messages_dropped.inc,
    )
    with (
        operators_mistakes(),
        port_taken(str(settings.listen), f"Choose another address under `listen` in {config}."),
    ):
        written = asyncio.run(daemon.run())
    if not written:
        raise typer.Exit(Exit.NO_VERDICT)


@app.command()
def check(
    config: ConfigOption,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Connections to check. Default: all.", autocompletion=_complete_connection),
    ] = None,
    as_json: JsonOption = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only connections that are not healthy.")
    ] = False,
    fail_on: Annotated[
        str,
        _choice("failing", "critical", "warning", help="Exit with 1 for findings of this severity or worse."),
    ] = "failing",
) -> None:
    """Check connections now: one line each, or full details for those you name.

    It uses the history in the daemon's database, and writes nothing to it.

    **Examples**

    - `bearerwatch check -c bearerwatch.yaml`: all, worst first
    - `bearerwatch check acme-production -c bearerwatch.yaml`: the diagnosis of one
    - `bearerwatch check --quiet -c bearerwatch.yaml`: silent while all are healthy, for cron
    - `bearerwatch check --json -c bearerwatch.yaml | jq '.[] | select(.state == "failing")'`

    **Exit code**: 0 all healthy or degraded, 1 any failing (or, by `--fail-on`, with a critical finding,
    or at least a warning), 2 an error in the configuration, 3 no verdict.
    """
    from monitor.commands.check import as_json as status_as_json
    from monitor.commands.check import check_once

    _log_errors_alone()
    with operators_mistakes():
        settings = _settings(config)
        chosen = _chosen(settings, names or [])
        clock = Clock()
        with terminal.progress(chosen, now=clock.now, shown=not (as_json or quiet)) as done:
            statuses = asyncio.run(check_once(settings, chosen, clock=clock, done=done))
    if as_json:
        print(json.dumps([status_as_json(status) for status in statuses], indent=2))
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
            what = f" It next checks it at {exact(datetime.fromisoformat(soon))}." if soon else ""
            if its["state"] == status.state:
                if quiet:
                    continue
            elif its["state"] != State.PAUSED:
                try:
                    daemon.recheck([status.name])
                    what = " It has been asked to check now."
                except NoAnswerError as refused:
                    what += f" It cannot check it now: {refused}"
            say(f"\nThe running daemon shows {status.name} as {its['state']}.{what}")


def _chosen(settings: "Settings", names: list[str]) -> list[Connection]:
    """The named connections, or all that are not paused."""
    by_name = {connection.name: connection for connection in settings.connections}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise OperatorError("\n".join(terminal.unknown_name("connection", name, by_name) for name in unknown))
    if names:
        return [by_name[name] for name in dict.fromkeys(names)]
    return [connection for connection in settings.connections if not connection.paused]


def exit_code(statuses: list[ConnectionStatus], fail_on: str) -> Exit:
    """The exit code for a round of checks: the worst one."""
    states = {status.state for status in statuses}
    counts = {"failing": set[str](), "critical": {"critical"}, "warning": {"critical", "warning"}}[fail_on]
    if State.FAILING in states or any(found.severity in counts for one in statuses for found in one.findings):
        return Exit.FAILING
    return Exit.NO_VERDICT if states & {State.UNKNOWN, State.SETTLING} else Exit.FINE


@app.command("recheck")
def recheck(
    config: ConfigOption,
    names: Annotated[
        list[str] | None, typer.Argument(help="Connections.", autocompletion=_complete_connection)
    ] = None,
    cause: Annotated[
        list[str] | None,
        typer.Option(help="All connections with this cause.", autocompletion=_complete_cause),
    ] = None,
    url: Annotated[str, typer.Option(help="URL of the daemon's pages. Default: as configured.")] = "",
    user: Annotated[
        str, typer.Option(help="User name for the pages; password in BEARERWATCH_PASSWORD.")
    ] = "",
) -> None:
    """Make the running daemon check connections now, so that page and alerts clear after a repair.

    Exit code: 0 all healthy or degraded, 1 any failing, 2 the daemon cannot be reached, 3 no verdict yet.

    Example: `bearerwatch recheck acme-production`
    """
    from monitor.commands.running import Running, rechecked

    _log_errors_alone()
    with operators_mistakes():
        settings = _settings(config)
        chosen = [one.name for one in _chosen(settings, names)] if names else []
        causes = [str(_cause(one)) for one in cause or []]
        if not (chosen or causes):
            raise OperatorError("Name one or more connections, or a cause: --cause CODE.")
        with Running(settings, url, user) as daemon:
            found, put_off, missing = rechecked(daemon, chosen, causes, terminal.show_rechecked)
    states = {one["state"] for one in found.values()}
    for name, until in put_off.items():
        say(f"Not checked: {name}. No login is left in its budget until {until}.")
    if missing:
        say(f"Not checked within a minute: {', '.join(missing)}. See the daemon's page and log.")
    if not (found or put_off or missing):
        say(f"Nothing to check: no connection has {' or '.join(causes)}.")
    if "failing" in states:
        raise typer.Exit(Exit.FAILING)
    raise typer.Exit(Exit.NO_VERDICT if missing or put_off or states & {"unknown", "settling"} else Exit.FINE)


@app.command("audit")
def audit_connection(
    name: Annotated[str, typer.Argument(help="The connection.", autocompletion=_complete_connection)],
    config: ConfigOption,
    as_json: JsonOption = False,
) -> None:
    """Check each step of the setup guide in the org: right, wrong, or not readable.

    One login, then at most eight REST calls; an observer logs in as well. It stores nothing.

    Example: `bearerwatch audit acme-production --config bearerwatch.yaml`

    **Exit code**: 0 no step is wrong, 1 one is, or the login failed, 2 an error in the configuration,
    3 no verdict.
    """
    from monitor.commands.audit import as_json as audit_as_json
    from monitor.commands.audit import as_text, audit_once
    from monitor.core.verdict.audit import Ruling, steps_of

    _log_errors_alone()
    clock = Clock()
    with operators_mistakes():
        settings = _settings(config)
        (connection,) = _chosen(settings, [name])
        status = asyncio.run(audit_once(settings, connection, clock=clock))
    now = clock.now()
    if as_json:
        print(json.dumps(audit_as_json(status, now), indent=2))
    else:
        print("\n".join(as_text(status, now)))
    wrong = any(step.ruling is Ruling.WRONG for step in steps_of(status, now))
    raise typer.Exit(Exit.FAILING if wrong else exit_code([status], "failing"))


@app.command("preflight")
def try_before(
    config: ConfigOption,
    name: Annotated[
        str | None,
        typer.Argument(
            help="A configured connection. Default: use the options.", autocompletion=_complete_connection
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

    _log_errors_alone()
    clock, key = Clock(), {"file": private_key}
    with operators_mistakes():
        if name is not None:
            settings = _settings(config)
            key = {"file": "FILE"}
        else:
            given = {
                "subdomain": subdomain,
                "consumer-key": consumer_key,
                "username": username,
                "private-key": private_key,
            }
            if missing := [f"--{option}" for option, value in given.items() if not value]:
                raise OperatorError(f"Missing: {', '.join(missing)}. Or name a configured connection.")
            place = {"file": str(Path(private_key).resolve())}
            if private_key == "-":
                os.environ[PREFLIGHT_KEY] = _text("-")
                place, key = {"env": PREFLIGHT_KEY}, {"file": "FILE"}
            settings = preflight.settings_of(
                {
                    "subdomain": subdomain,
                    "consumer_key": consumer_key,
                    "username": username,
                    "app": app_name,
                    "private_key": place,
                }
            )
        (connection,) = _chosen(settings, [name or "preflight"])
        found = asyncio.run(
            preflight.preflight(
                settings, connection, clock=clock, tell=lambda tried: None if as_json else say(tried.line())
            )
        )
    now = clock.now()
    if as_json:
        print(json.dumps(preflight.as_json(found, key, now), indent=2))
    else:
        print("\n".join(preflight.as_text(found, key, now)))
    raise typer.Exit(exit_code([found.status], "failing"))


PREFLIGHT_KEY = "BEARERWATCH_PREFLIGHT_KEY"
"""Variable for a key from stdin, only in this process's memory."""


@app.command("discover")
def find_pair(
    name: Annotated[str, typer.Argument(help="The connection.")],
    config: ConfigOption,
    every: Annotated[bool, typer.Option("--all", help="Continue after the first grant.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the endpoint and audience that an org accepts: tries each sensible pair once.

    Deprecated, and removed in the next version: use `bearerwatch preflight NAME`. Each attempt is a login of
    the user. Exit code: 0 one is granted, 1 all are refused, 2 an error in the configuration, 3 no verdict.

    Example: `bearerwatch discover acme-production --config bearerwatch.yaml`
    """
    from monitor.commands.discover import as_json as discovered_as_json
    from monitor.commands.discover import as_text as discovered
    from monitor.commands.discover import discover

    _log_errors_alone()
    with operators_mistakes():
        settings = _settings(config)
        (connection,) = _chosen(settings, [name])
        found = discover(
            settings,
            connection,
            clock=Clock(),
            every=every,
            tell=lambda tried: None if as_json else say(tried.line()),
        )
        tried = asyncio.run(found)
    if as_json:
        print(json.dumps(discovered_as_json(connection, tried), indent=2))
    else:
        print("\n".join(discovered(connection, tried)))
    if any(each.granted for each in tried):
        raise typer.Exit(Exit.FINE)
    failing = any(each.verdict.state is State.FAILING for each in tried)
    raise typer.Exit(Exit.FAILING if failing else Exit.NO_VERDICT)


@alerts_app.callback()
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
    from monitor.commands.alerts import active_alerts
    from monitor.commands.alerts import as_json as alert_as_json

    _log_errors_alone()
    now = datetime.now(UTC)
    with operators_mistakes():
        settings = _settings(config)
        found = active_alerts(settings, now)
    if as_json:
        print(json.dumps([alert_as_json(one) for one in found], indent=2))
        return
    terminal.show_alerts(found, now=now)
    sinks = f"{len(settings.sinks)} sink{' is' if len(settings.sinks) == 1 else 's are'} configured"
    say(f"{len(found):,} alert{'' if len(found) == 1 else 's'}; {sinks}.")


@alerts_app.command("test")
def send_drill(
    cause: Annotated[str, typer.Option(help="The cause to send a test alert for.")],
    config: ConfigOption,
    to: Annotated[str | None, typer.Option(help="The sink. Default: all that accept this cause.")] = None,
) -> None:
    """Send a test alert, marked as such, to check that notifications arrive.

    Exit code: 0 every sink accepted it, 2 one did not, or an error in the configuration.

    Example: `bearerwatch alerts test --cause approval_decayed --config bearerwatch.yaml`
    """
    from monitor.commands.alerts import drills, for_drill

    _log_errors_alone()
    with operators_mistakes():
        settings, chosen = _settings(config), _cause(cause)
        sinks = for_drill(settings, chosen, to)
        if not settings.sinks:
            raise OperatorError(f"{config} has no sinks: add one under notify.")
        if to is not None and not sinks:
            raise OperatorError(terminal.unknown_name("sink", to, [sink.name for sink in settings.sinks]))
        if not sinks:
            raise OperatorError(f"No sink accepts {chosen}: none matches its severity and who must act.")

        async def send() -> list[str]:
            refused = []
            async for name, problem in drills(settings, chosen, sinks, datetime.now(UTC)):
                say(f"{name}: {problem or 'accepted the test alert.'}")
                refused += [name] if problem else []
            return refused

        if asyncio.run(send()):
            raise typer.Exit(Exit.MISTAKE)


@config_app.command("check")
def config_check(
    file: Annotated[
        Path, typer.Argument(help="The configuration file.", default_factory=_usual, show_default=USUAL)
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Also exit with 2 for warnings.")] = False,
) -> None:
    """Report every error in a configuration, with line and fix, and check the keys it names.

    Exit code: 0 no error, 2 an error; with `--strict` a warning counts as one.

    Example: `bearerwatch config check bearerwatch.yaml`
    """
    from monitor.commands.keys import key_problems

    with operators_mistakes():
        settings = _settings(file)
    pairs = sum(1 + (connection.next is not None) for connection in settings.connections)
    with terminal.bar("Reading keys", pairs) as read:
        unusable = asyncio.run(key_problems(settings, os.environ, read))
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


def _many(count: int, what: str) -> str:
    return f"{f'{count:,}' if count else 'no'} {what}{'' if count == 1 else 's'}"


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration, for editors.

    Example: `bearerwatch config schema > bearerwatch.schema.json`
    """
    from monitor.config import schema

    print(json.dumps(schema(), indent=2))


@database_app.command("move")
def database_move(
    source: Annotated[Path, typer.Option("--from", help="The SQLite file. Stop its daemon first.")],
    to: Annotated[
        str, typer.Option(help="postgresql://USER@HOST/DATABASE, with no bearerwatch data in it yet.")
    ],
) -> None:
    """Copy a SQLite database into PostgreSQL. The file is not changed.

    Example: `bearerwatch database move --from bearerwatch.db --to postgresql://monitor@db/bearerwatch`
    """
    from monitor.store import move

    with operators_mistakes():
        moved = move(source, to)
    print(f"Moved {moved:,} {'history' if moved == 1 else 'histories'}, with events and exchanges.")


@app.command("explain")
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

    with operators_mistakes():
        diagnosis = explaining.explain(_text(file), datetime.now(UTC))
    if as_json:
        print(json.dumps(explaining.as_json(diagnosis), indent=2))
    else:
        print(*explaining.lines(diagnosis), sep="\n")


def _text(file: str) -> str:
    """The text of a file, or of stdin for `-`."""
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as stream:
            raw = stream.read(BYTES_READ)  # bounded: a device may never end
    except OSError as problem:
        raise OperatorError(f"{file} cannot be read: {problem.strerror}.") from None
    return raw.decode("utf-8", errors="replace")


@app.command()
def causes(
    code: Annotated[
        str | None,
        typer.Argument(help="A cause. Default: list all.", autocompletion=_complete_cause),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the causes, or print the runbook of one.

    **Examples**

    - `bearerwatch causes`: all, one line each
    - `bearerwatch causes approval_decayed`: what it is, how to tell, what to do
    - `bearerwatch causes --json`
    """
    from monitor.web.runbooks import as_json as cause_as_json
    from monitor.web.runbooks import cause_page

    with operators_mistakes():
        chosen = [_cause(code)] if code else list(Cause)
    if as_json:
        told = [cause_as_json(cause) for cause in chosen]
        print(json.dumps(told[0] if code else told, indent=2))
    elif code:
        terminal.show_text(cause_page(chosen[0]))
    else:
        terminal.show_catalogue()


def _cause(code: str) -> Cause:
    try:
        return Cause(code.replace("-", "_"))  # also accepts the names of the demo's connections
    except ValueError:
        raise OperatorError(terminal.unknown_name("cause", code, [str(cause) for cause in Cause])) from None


@app.command("rules")
def print_rules(config: ConfigOption) -> None:
    """Print Prometheus alert rules for this configuration.

    Example: `bearerwatch rules --config bearerwatch.yaml > alerts.yml`
    """
    from monitor.rules import rules

    with operators_mistakes():
        settings = _settings(config)
    if not settings.web.external_url:
        say(NO_EXTERNAL_URL)
    print(rules(settings), end="")


@app.command("report")
def report_month(
    config: ConfigOption,
    month: Annotated[str, typer.Option(help="The month, e.g. 2026-11, in UTC.")],
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Only connections with this label: key=value, or a key."),
    ] = None,
    layout: Annotated[
        str, _choice("md", "csv", name="--format", help="md: a table to read; csv: for spreadsheets.")
    ] = "md",
) -> None:
    """Report the availability of connections in a month, from the database.

    Example: `bearerwatch report --month 2026-11 --label customer=acme --format csv`
    """
    from monitor.commands.report import as_csv, as_markdown, report

    with operators_mistakes():
        lines = report(_settings(config), month, labels or [], datetime.now(UTC))
    print(
        as_csv(lines) if layout == "csv" else as_markdown(lines, month), end="" if layout == "csv" else "\n"
    )


@app.command("keygen")
def make_keys(
    out: Annotated[Path, typer.Option(help="Directory for the two files; created if missing.")],
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long the certificate is valid.")] = 3650,
    bits: Annotated[int, typer.Option(help="2048, 3072 or 4096.")] = 2048,
    name: Annotated[str, typer.Option(help="The certificate's common name.")] = keygen.COMMON_NAME,
) -> None:
    """Create a private key and a certificate, as step 1 of the setup guide does with openssl.

    It never overwrites files. Example: `bearerwatch keygen --out keys`
    """
    with operators_mistakes():
        pair = keygen.generate(out, days=days, bits=bits, common_name=name, now=datetime.now(UTC))
    errors.print(f"Private key (keep it secret):      {pair.key_path}", markup=False)
    errors.print(f"Certificate (upload to Salesforce): {pair.certificate_path}", markup=False)
    errors.print(f"The key as one line, for the integration: base64 -w 0 {pair.key_path}", markup=False)


@app.command("rotate")
def rotate_key(
    name: Annotated[str, typer.Argument(help="The connection.")],
    config: ConfigOption,
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Write the next pair into the configuration, and keep a backup of the file."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the new pair. Default: that of the current key.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long its certificate is valid.")] = 3650,
    bits: Annotated[int, typer.Option(help="2048, 3072 or 4096.")] = 2048,
) -> None:
    """Rotate a key step by step: creates the next pair, waits for its upload, and says when to switch.

    You can stop it at any time and continue later. Exit code: 0 the next key is accepted, 1 neither key is,
    2 an error, 3 not accepted yet.

    Example: `bearerwatch rotate acme-production --config bearerwatch.yaml`
    """
    from monitor.commands.rotate import AGAIN, Options, rotate

    _log_errors_alone()
    try:
        with operators_mistakes():
            settings = _settings(config)
            (connection,) = _chosen(settings, [name])
            look = rotate(
                settings,
                connection,
                Options(out, days, bits),
                write=write,
                clock=Clock(),
                say=say,
                ask=_ask,
            )
    except KeyboardInterrupt:
        say(f"\nStopped. {AGAIN}")
        raise typer.Exit(Exit.NO_VERDICT) from None
    if look is None or look.accepted:
        raise typer.Exit(Exit.FINE)
    raise typer.Exit(Exit.FAILING if look.current is False else Exit.NO_VERDICT)


def _ask(question: str) -> bool:
    """Ask a yes/no question on stderr; anything but yes on stdin means no."""
    say(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


@app.command("simulate")
def simulate(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Create an org for each connection of this file.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 for a free one.")] = 8899,
    host: Annotated[str, typer.Option(help="Address. Default: loopback.")] = "127.0.0.1",
    speed: Annotated[
        float, typer.Option(min=0, help="Simulated seconds per second: 86400 is a day per second.")
    ] = 1,
) -> None:
    """Run the simulator: orgs that answer as Salesforce does, with a control API.

    Example: `bearerwatch simulate --config config.example.yaml`
    """
    from monitor.commands import demo

    with operators_mistakes(), port_taken(f"{host}:{port}", "Choose another with --host or --port."):
        settings = _settings(config) if config else None
        demo.simulate(settings, host=host, port=port, speed=speed, say=say)


@app.command("demo")
def run_demo(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port of the status page.")] = 9877,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Run the simulated weeks as fast as possible.")
    ] = False,
) -> None:
    """Run simulator and daemon together, weeks in a minute.

    Needs no configuration and no Salesforce, and leaves no files behind.
    """
    from monitor.commands import demo

    _log_errors_alone()
    with operators_mistakes(), port_taken(f"127.0.0.1:{port}", "Choose another port with --port."):
        demo.demo(port=port, at_once=at_once, say=say)
