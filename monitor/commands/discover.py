"""Finds the endpoint and audience that an org accepts, by trying each sensible pair once, only on request.

Never on a schedule: each attempt counts as a login, and many refusals can get our address blocked for valid
logins too (Salesforce knowledge articles 000381578, 000212767).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
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
    every: bool = False,
    pause: Pause = asyncio.sleep,
) -> AsyncGenerator[Try, None]:
    """Try the pairs in turn until one is granted, or all if `every`.

    Stops early if the login budget is used up, or at a cause that no other pair would fix. An address that
    does not answer is not tried again.
    """
    silent: set[str] = set()
    for index, (login_url, audience) in enumerate(pairs(connection)):
        if login_url in silent:
            continue
        if index:
            await pause(PAUSE_SECONDS)
        asked = replace(connection, login_url=login_url, audience=audience)
        try:
            take = partial(budget.take, connection.username)
            exchange = await probe(exchanger, asked, credential, take=take)
        except PutOff:
            return
        verdict = diagnose(exchange, credential.facts, asked, history.unknown(asked), exchange.at)
        yield (tried := Try(asked, exchange, verdict))
        if not tried.answered:
            silent.add(login_url)
        hopeless = credential.key is None or bool(tried.entry and tried.entry.hopeless)
        if not every if tried.granted else hopeless:
            return


async def discover(
    settings: Settings,
    connection: Connection,
    *,
    clock: Clock,
    every: bool = False,
    tell: Callable[[Try], None] = lambda tried: None,
) -> list[Try]:
    """Try a connection's pairs, calling `tell` with each result."""
    budget = LoginBudget(settings.login_budget_per_hour, clock)
    tried: list[Try] = []
    async with keys_and_network(settings, clock) as (keyring, exchanger):
        credential = await keyring.load(connection.current)
        coming = tries(connection, credential, exchanger, budget=budget, every=every)
        async with aclosing(coming):
            async for each in coming:
                tried.append(each)
                tell(each)
    return tried


def as_json(connection: Connection, tried: list[Try]) -> dict[str, Any]:
    """For `--json`: the lines to configure (or None), and all tried pairs."""
    found = next((each for each in tried if each.granted), None)
    return {
        "connection": connection.name,
        "configuration": options_of(found.connection) if found else None,
        "left_out": len(pairs(connection)) - len(tried),
        "tried": [each.as_json() for each in tried],
    }


def as_text(connection: Connection, tried: list[Try]) -> Iterator[str]:
    """As text: the lines to configure, or what to do if nothing was granted."""
    left_out = len(pairs(connection)) - len(tried)
    if any(each.granted for each in tried):
        yield from _text_of_grants(connection, [each for each in tried if each.granted])
        if left_out:
            yield f"{left_out} more were not tried; --all tries them too."
    elif tried:
        yield from _text_of_none(connection, tried, left_out)


def _text_of_grants(connection: Connection, granted: list[Try]) -> Iterator[str]:
    for index, each in enumerate(granted):
        grant = each.granted
        assert grant
        if index:
            yield "Also granted:"
        else:
            right = each.connection == connection
            yield "The configured pair works:" if right else "Add this to the configuration:"
        yield from _options(each)
        if grant.org_id:
            yield f"The grant is for org {grant.org_id}, user {grant.user_id}."
        if is_generic(each.connection.login_url) and grant.instance_url:
            yield (
                f"The org's own address is {grant.instance_url}: External Client Apps are only found there,"
                " so use it as soon as it is granted."
            )


def _text_of_none(connection: Connection, tried: list[Try], left_out: int) -> Iterator[str]:
    answered = [each for each in tried if each.answered]
    furthest = next((each for each in answered if not (each.entry and each.entry.wrong_pair)), tried[0])
    cause = furthest.verdict.findings[0].cause
    if answered:
        yield (
            "No pair was granted, so address and audience are not the only problem. The pair that got"
            " furthest is"
        )
    else:
        yield "No answer was conclusive. Tried"
    yield from _options(furthest)
    yield f"with {cause}: {CATALOGUE[cause].title}."
    yield f"`bearerwatch causes {cause}` says what to do."
    if is_generic(connection.login_url):
        yield "The org's own address is unknown: configure its `subdomain`, and run this again."
    if answered and left_out:
        yield (
            f"{left_out} more were not tried: they could not have helped, or would have exceeded the login"
            " budget."
        )
    if answered:
        yield "If the app was created or changed within the last 10 minutes, wait and try again."


def _options(tried: Try) -> Iterator[str]:
    yield from ("", *(f"    {option}: {value}" for option, value in options_of(tried.connection).items()), "")
