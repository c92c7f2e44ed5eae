"""Finds the endpoint and audience that an org accepts, by trying each sensible pair once, only on request.

Never on a schedule: each attempt counts as a login, and many refusals can get our address blocked for valid
logins too (Salesforce knowledge articles 000381578, 000212767).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from monitor.commands.without_daemon import keys_and_network
from monitor.config import Settings
from monitor.core import history
from monitor.core.catalogue import CATALOGUE, Entry
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
from monitor.core.finding import Diagnosis
from monitor.core.keys.credential import Credential
from monitor.core.outcome import Exchange, Granted
from monitor.core.verdict.diagnosis import diagnose
from monitor.salesforce.exchange import Exchanger
from monitor.salesforce.probe import PutOff, probe
from monitor.watch.budget import LoginBudget
from monitor.watch.clock import Clock

PAUSE_SECONDS = 2.0
"""Between attempts: a handful of refusals in a quarter of a minute, like a person trying by hand."""

Pause = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Try:
    """One pair, its outcome and diagnosis."""

    connection: Connection
    """As configured, but with this pair's address and audience."""
    exchange: Exchange
    verdict: Diagnosis

    @property
    def granted(self) -> Granted | None:
        """The grant, if it was granted."""
        return self.exchange.outcome if isinstance(self.exchange.outcome, Granted) else None

    def as_json(self) -> dict[str, Any]:
        """For `--json`: the pair, and the verdict with the keys of `explain`."""
        first = self.verdict.findings[0] if self.verdict.findings else None
        return {
            "login_url": self.connection.login_url,
            "audience": self.connection.audience,
            "granted": self.granted is not None,
            "org_id": self.granted.org_id if self.granted else None,
            "instance_url": self.granted.instance_url if self.granted else None,
            "state": self.verdict.state.value,
            "cause": first.cause.value if first else None,
            "evidence": list(first.evidence) if first else [],
        }

    def line(self) -> str:
        """One line of text."""
        pair = f"{self.connection.login_url} with the audience {self.connection.audience}"
        if self.granted:
            return f"granted   {pair}"
        first = self.verdict.findings[0]
        said = first.evidence[0] if first.evidence else ""
        return f"{'refused' if self.answered else 'no answer':9} {pair}\n          {first.cause}: {said}"

    @property
    def answered(self) -> bool:
        """Whether an org or login server answered."""
        return not (self.entry and self.entry.unanswered)

    @property
    def entry(self) -> Entry | None:
        """The catalogue's entry for the first cause, if any."""
        return CATALOGUE[self.verdict.cause] if self.verdict.cause else None


def options_of(connection: Connection) -> dict[str, str]:
    """The configuration options for this address and audience."""
    url, audience = connection.login_url, connection.audience
    subdomain = url.removeprefix("https://").removesuffix(".my.salesforce.com")
    where = {"subdomain": subdomain} if login_url_of(subdomain) == url else {"login_url": url}
    choices = {url: "my_domain", GENERIC_TEST: "test", GENERIC_LOGIN: "login"}
    return {**where, "audience": choices.get(audience, audience)}


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


async def tries(
    connection: Connection,
    credential: Credential,
    exchanger: Exchanger,
    *,
    budget: LoginBudget,
    tell: Callable[[Try], None] = lambda tried: None,
    pause: Pause = asyncio.sleep,
) -> list[Try]:
    """Try the pairs in turn until one is granted. Calls `tell` with each.

    Stops early if the login budget is used up, or at a cause that no other pair would fix. An address that
    does not answer is not tried again.
    """
    done: list[Try] = []
    silent: set[str] = set()
    for login_url, audience in pairs(connection):
        if login_url in silent:
            continue
        if done:
            await pause(PAUSE_SECONDS)
        asked = replace(connection, login_url=login_url, audience=audience)
        try:
            take = partial(budget.take, connection.username)
            exchange = await probe(exchanger, asked, credential, take=take)
        except PutOff:
            break
        verdict = diagnose(exchange, credential.facts, asked, history.unknown(asked), exchange.at)
        done.append(tried := Try(asked, exchange, verdict))
        tell(tried)
        if not tried.answered:
            silent.add(login_url)
        if tried.granted or credential.key is None or (tried.entry and tried.entry.hopeless):
            break
    return done


async def discover(
    settings: Settings, connection: Connection, *, clock: Clock, tell: Callable[[Try], None]
) -> list[Try]:
    """Try a connection's pairs with its current key, within the login budget."""
    budget = LoginBudget(settings.login_budget_per_hour, clock)
    async with keys_and_network(settings, clock) as (keyring, exchanger):
        credential = await keyring.load(connection.current)
        return await tries(connection, credential, exchanger, budget=budget, tell=tell)
