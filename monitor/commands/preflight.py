"""`bearerwatch preflight`: tries a connection before it is watched.

One login and an audit. If address and audience are refused, tries the other sensible pairs (`discover`).
Works without a configuration, from the inputs of the guide's install form, and prints the lines to configure.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from monitor.commands import audit
from monitor.commands.discover import Try, discover, options_of
from monitor.config import ConfigError, Settings, load
from monitor.core.catalogue import CATALOGUE
from monitor.core.connection import Connection
from monitor.core.finding import State
from monitor.core.problem import OperatorError
from monitor.core.status import ConnectionStatus
from monitor.core.wording import steps as remedy_of
from monitor.watch.clock import Clock
from monitor.web.api import audit_of

STDIN_KEY = "BEARERWATCH_PREFLIGHT_KEY"
"""The variable that holds a key from stdin, only in this process's memory."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """The result."""

    status: ConnectionStatus
    """With the granted pair, if any."""
    tried: tuple[Try, ...] = ()
    """All tried pairs of address and audience, if the first was refused."""


def settings_of(
    subdomain: str, consumer_key: str, username: str, private_key: Mapping[str, str], app: str
) -> Settings:
    """Settings with one connection from these options. Raises OperatorError, worded for the command."""
    connection = {
        "name": "preflight",
        "login_url" if "://" in subdomain else "subdomain": subdomain,
        "consumer_key": consumer_key,
        "username": username,
        "private_key": private_key,
        **({"app": app} if app else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "preflight.yaml"
        written = {"connections": [connection], "database": str(Path(folder) / "none.db")}
        file.write_text(json.dumps(written), encoding="utf-8")  # JSON is YAML
        try:
            return load(file, {})
        except ConfigError as error:
            raise OperatorError(
                "\n".join(_said(each.path, each.message) for each in error.problems)
            ) from None


def _said(path: str, message: str) -> str:
    option = path.rpartition('".')[2].partition(".")[0].replace("_", "-")
    return f"--{'subdomain' if option == 'login-url' else option} {message}"


async def preflight(
    settings: Settings,
    connection: Connection,
    *,
    clock: Clock,
    tell: Callable[[Try], None] = lambda tried: None,
) -> Preflight:
    """Try a connection. Calls `tell` with each pair after the first."""
    status = await audit.audit_once(settings, connection, clock=clock)
    cause = status.findings[0].cause if status.findings else None
    if status.state is not State.FAILING or cause is None or not CATALOGUE[cause].wrong_pair:
        return Preflight(status)
    tried = await discover(settings, connection, clock=clock, tell=tell)
    granted = next((each for each in tried if each.granted), None)
    if granted:
        status = await audit.audit_once(settings, granted.connection, clock=clock)
    return Preflight(status, tuple(tried))


def as_json(found: Preflight, now: datetime) -> dict[str, Any]:
    """For `--json`."""
    status = found.status
    first = status.findings[0] if status.findings else None
    return {
        "state": str(status.state),
        "cause": str(first.cause) if first else None,
        "evidence": list(first.evidence) if first else [],
        "remedy": remedy_of(CATALOGUE[first.cause], status.connection) if first else [],
        "audit": audit_of(status, now),
        "configuration": configuration(status.connection),
        "tried": [each.as_json() for each in found.tried],
    }


def as_text(found: Preflight, now: datetime) -> Iterator[str]:
    """As text: verdict, remedy, steps of the guide, and lines to configure."""
    status = found.status
    if not status.findings:
        yield f"{str(status.state).capitalize()}: a token was granted."
    for finding in status.findings:
        entry = CATALOGUE[finding.cause]
        yield f"{entry.title} ({finding.cause}, {finding.certainty})"
        yield from (f"  {sentence}" for sentence in finding.evidence)
        yield f"What to do{f' (setup guide, {entry.guide})' if entry.guide else ''}:"
        yield from (f"  {n}. {step}" for n, step in enumerate(remedy_of(entry, status.connection), 1))
        yield ""
    if status.history.audit:
        yield from audit.as_text(status, now)
    yield from ("", "To monitor it, add this to the configuration:", "", "connections:")
    lines = yaml.safe_dump(
        [configuration(status.connection)],
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=1_000,
    ).splitlines()
    yield from (f"  {line}" for line in lines)


def configuration(connection: Connection) -> dict[str, Any]:
    """The options to configure, in order."""
    name = connection.name if connection.name != "preflight" else connection.host.partition(".")[0]
    app = {"app": connection.app} if connection.app else {}
    key = connection.current.private_key
    return {
        "name": name,
        **options_of(connection),
        "consumer_key": connection.consumer_key,
        "username": connection.username,
        **app,
        "private_key": {"file": "FILE"} if key.place == STDIN_KEY else key.written(),
    }
