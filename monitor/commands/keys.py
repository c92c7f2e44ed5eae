"""What is wrong with the keys and certificates that a configuration names, read as the daemon reads them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from monitor.config import Settings
from monitor.core.connection import Pair
from monitor.keys.sources import CREDENTIALS_DIRECTORY, Keyring


async def key_problems(
    settings: Settings, environment: Mapping[str, str], done: Callable[[], None] = lambda: None
) -> list[str]:
    """A sentence for each problem, after the names of its connections; `done` is called for each pair read.

    What only the daemon's own environment would have (variables, systemd's credentials) is left out where it
    is not there: the configuration's warnings say so, once for all.
    """
    users: defaultdict[Pair, list[str]] = defaultdict(list)
    for connection in settings.connections:
        for pair in (connection.current, connection.next):
            if pair and _can_be_there(pair, environment):
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


def _can_be_there(pair: Pair, environment: Mapping[str, str]) -> bool:
    for source in filter(None, (pair.private_key, pair.certificate)):
        variable = {"env": source.place, "credential": CREDENTIALS_DIRECTORY}.get(source.kind)
        if variable and not environment.get(variable):
            return False
    return True
