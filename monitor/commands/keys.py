"""Checks the configured keys and certificates, reading them like the daemon."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from monitor.config import Settings
from monitor.config.cautions import absence
from monitor.core.connection import Pair
from monitor.keys.sources import Keyring


async def key_problems(
    settings: Settings, environment: Mapping[str, str], done: Callable[[], None] = lambda: None
) -> list[str]:
    """A sentence per problem, prefixed by the connections' names. Calls `done` after each pair.

    Skips sources that only the daemon's environment has (variables, systemd credentials): the configuration's
    warnings cover these.
    """
    users: defaultdict[Pair, list[str]] = defaultdict(list)
    for connection in settings.connections:
        for pair in connection.pairs:
            if not any(absence(source, environment) for source in pair.sources):
                users[pair].append(connection.name)
    keyring = Keyring(environment, settings.vault)

    async def read(pair: Pair) -> list[str]:
        credential = await keyring.load(pair)
        done()
        return [f"{', '.join(users[pair])}: {problem.detail}" for problem in credential.facts.problems]

    try:
        found = await asyncio.gather(*map(read, users))
    finally:
        keyring.close()
    return [problem for problems in found for problem in problems]
