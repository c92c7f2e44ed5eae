"""`bearerwatch preflight`: tries a connection before it is watched.

One login and an audit. If address and audience are refused, tries the other sensible pairs, once each.
Works without a configuration, from the inputs of the guide's install form, and prints the lines to configure.
"""

import asyncio
import json
import tempfile
import textwrap
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from monitor.commands import audit
from monitor.commands.check import check_once
from monitor.commands.explain import as_json as diagnosis_as_json
from monitor.commands.terminal import Line, verbatim, verdict
from monitor.config import ConfigError, Settings, load
from monitor.core.catalogue import CATALOGUE, Kind
from monitor.core.causes import Cause
from monitor.core.connection import (
    ALLOWED_HOSTS,
    ALLOWED_SUFFIXES,
    GENERIC_LOGIN,
    GENERIC_TEST,
    Connection,
    OrgType,
    is_generic,
    login_url_of,
)
from monitor.core.finding import State
from monitor.core.outcome import Granted
from monitor.core.problem import OperatorError
from monitor.core.status import ConnectionStatus
from monitor.core.wording import steps as remedy_of
from monitor.salesforce.transport import TransportFactory, rust_transport
from monitor.watch.clock import Clock
from monitor.web.api import audit_of

STDIN_KEY = "BEARERWATCH_PREFLIGHT_KEY"
"""The variable that holds a key from stdin, only in this process's memory."""

UNCONFIGURED = "preflight"
"""The name of a connection that only options describe."""

PAUSE_SECONDS = 2.0
"""Between pairs: a handful of refusals in a quarter of a minute, like a person trying by hand."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """The result."""

    status: ConnectionStatus
    """With the first pair that an answer showed to be right, otherwise as given."""
    tried: tuple[ConnectionStatus, ...] = ()
    """With each tried pair of address and audience, if the first was refused."""


def settings_of(
    subdomain: str, consumer_key: str, username: str, private_key: Mapping[str, str], app: str
) -> Settings:
    """Settings with one connection from these options. Raises OperatorError, worded for the command."""
    connection = {
        "name": UNCONFIGURED,
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


def pairs(connection: Connection) -> tuple[tuple[str, str], ...]:
    """The sensible pairs of address and audience, most likely first.

    1. As configured.
    2. The configured address with itself as audience, which all kinds of apps accept; then with the login
       server for the org's type, which Government Cloud and some older apps require; then with the other
       login server, in case the type was inferred wrongly.
    3. The login servers with themselves. Not production's with sandboxes' or vice versa, nor a login server
       with an org's address: no grant has been reported for these.
    """
    url = connection.login_url
    servers = [GENERIC_LOGIN, GENERIC_TEST]
    if connection.org_type in {OrgType.SANDBOX, OrgType.SCRATCH}:
        servers.reverse()
    sensible = [(url, connection.audience)]
    if not is_generic(url):
        sensible += [(url, audience) for audience in (url, *servers)]
    if connection.host in ALLOWED_HOSTS or connection.host.endswith(ALLOWED_SUFFIXES):
        # For other hosts (a simulator, an allowed host), Salesforce's login servers are unrelated.
        sensible += [(server, server) for server in servers]
    return tuple(dict.fromkeys(sensible))


async def preflight(
    settings: Settings,
    connection: Connection,
    *,
    clock: Clock,
    tell: Callable[[ConnectionStatus], None] = lambda tried: None,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    transport: TransportFactory = rust_transport,
) -> Preflight:
    """Try a connection. If its pair of address and audience may be wrong, also tries others, until an answer
    shows that the pair is right. Then calls `tell` with each.

    Each pair is a login, and many refusals can get our address blocked for valid logins too (Salesforce
    knowledge articles 000381578, 000212767): so never on a schedule, within the login budget, and no further
    if the fault is not the connection's, such as a full login rate. An address that does not answer is not
    tried again.
    """
    check = partial(check_once, settings, clock=clock, audits="always", transport=transport)
    (first,) = await check([connection])
    if first.state is not State.FAILING or not _may_be_wrong_pair(first):
        return Preflight(first)
    tell(first)
    tried, silent = [first], set[str]()
    for login_url, audience in pairs(connection)[1 : settings.login_budget_per_hour]:
        if login_url in silent:
            continue
        await pause(PAUSE_SECONDS)
        asked = replace(connection, login_url=login_url, audience=audience, observer=None)
        (status,) = await check([asked], remember=False)  # its history is of another address
        tell(status)
        tried.append(status)
        if _shows_right_pair(status):
            return Preflight(status, tuple(tried))
        if not _answered(status):
            silent.add(login_url)
        elif not _is_of_connection(status):
            break
    return Preflight(first, tuple(tried))


def _may_be_wrong_pair(status: ConnectionStatus) -> bool:
    cause = status.verdict.cause
    return cause is not None and CATALOGUE[cause].wrong_pair


def _is_of_connection(status: ConnectionStatus) -> bool:
    cause = status.verdict.cause
    return cause is not None and CATALOGUE[cause].kind is Kind.CREDENTIAL


def _shows_right_pair(status: ConnectionStatus) -> bool:
    """Whether it was granted, or refused for a reason for which the org must know the app."""
    if _grant(status):
        return True
    known = status.verdict.cause is not Cause.UNRECOGNISED
    return known and _is_of_connection(status) and not _may_be_wrong_pair(status)


def _answered(status: ConnectionStatus) -> bool:
    """Whether an org or login server answered."""
    cause = status.verdict.cause
    return cause is None or not CATALOGUE[cause].unanswered


def _grant(status: ConnectionStatus) -> Granted | None:
    last = status.history.last_exchange
    return last.granted if last else None


def line(tried: ConnectionStatus) -> str:
    """A tried pair and its outcome, with the reason on a second line if it was not granted."""
    pair = f"{tried.connection.login_url} with the audience {tried.connection.audience}"
    if _grant(tried):
        return f"granted   {pair}"
    first = tried.findings[0]
    said = first.evidence[0] if first.evidence else ""
    return f"{'refused' if _answered(tried) else 'no answer':9} {pair}\n          {first.cause}: {said}"


def as_json(found: Preflight, now: datetime) -> dict[str, Any]:
    """For `--json`."""
    status, cause = found.status, found.status.verdict.cause
    return {
        **_verdict_as_json(status),
        "remedy": remedy_of(CATALOGUE[cause], status.connection) if cause else [],
        "audit": audit_of(status, now),
        "configuration": configuration(status.connection),
        "tried": [_tried_as_json(each) for each in found.tried],
    }


def _tried_as_json(tried: ConnectionStatus) -> dict[str, Any]:
    grant = _grant(tried)
    return {
        "login_url": tried.connection.login_url,
        "audience": tried.connection.audience,
        "granted": grant is not None,
        "org_id": grant.org_id if grant else None,
        "instance_url": grant.instance_url if grant else None,
        **_verdict_as_json(tried),
    }


def _verdict_as_json(status: ConnectionStatus) -> dict[str, Any]:
    """What `explain` tells first about a verdict."""
    whole = diagnosis_as_json(status.verdict)
    return {key: whole[key] for key in ("state", "cause", "evidence")}


def as_text(found: Preflight, now: datetime) -> Iterator[Line]:
    """As text: verdict, steps of the guide, and lines to configure: all, or those to change."""
    status, cause = found.status, found.status.verdict.cause
    if cause:
        yield "", f"{status.state}: {CATALOGUE[cause].title}"
        yield from verdict(status.verdict, remedy_of(CATALOGUE[cause], status.connection))
    else:
        yield "", f"{str(status.state).capitalize()}: a token was granted."
    if status.history.audit:
        yield "", ""
        yield from audit.as_text(status, now)
    options, name = configuration(status.connection), status.connection.name
    if name == UNCONFIGURED:
        yield from (("", ""), ("", "To monitor it, add this to the configuration:"), ("", ""))
        entry = yaml.safe_dump(
            [options], sort_keys=False, allow_unicode=True, default_flow_style=None, width=1_000
        )
        yield from verbatim("connections:\n" + textwrap.indent(entry, "  "))
    elif found.tried and status is not found.tried[0]:
        yield from (("", ""), ("", f"In the configuration, replace the address and audience of {name} by:"))
        pair = {
            option: options[option] for option in ("subdomain", "login_url", "audience") if option in options
        }
        yield "", ""
        yield from verbatim(textwrap.indent(yaml.safe_dump(pair, sort_keys=False), "    "))


def configuration(connection: Connection) -> dict[str, Any]:
    """The options to configure, in order."""
    name = connection.name if connection.name != UNCONFIGURED else connection.host.partition(".")[0]
    url, audience = connection.login_url, connection.audience
    subdomain = url.removeprefix("https://").removesuffix(".my.salesforce.com")
    choices = {url: "my_domain", GENERIC_TEST: "test", GENERIC_LOGIN: "login"}
    app = {"app": connection.app} if connection.app else {}
    key = connection.current.private_key
    return {
        "name": name,
        **({"subdomain": subdomain} if login_url_of(subdomain) == url else {"login_url": url}),
        "audience": choices.get(audience, audience),
        "consumer_key": connection.consumer_key,
        "username": connection.username,
        **app,
        "private_key": {"file": "FILE"} if key.place == STDIN_KEY else key.written(),
    }
