"""CPU of a large fleet's status page."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from bench.figures import Figure
from bench.scrape import snapshot, status
from monitor.store import Store
from monitor.web.app import Web

GOAL_MS = 30.0
"""Of one core: an open page refreshes regularly, in the same process as the checks."""

GOAL_FROM = 10_000
"""Least number of connections for the goal."""


def figures(count: int, rounds: int) -> list[Figure]:
    """The cost of one answer: the unfiltered page, and the same as JSON."""
    with tempfile.TemporaryDirectory() as name:
        return asyncio.run(_figures(Path(name), count, rounds))


async def _figures(place: Path, count: int, rounds: int) -> list[Figure]:
    fleet = snapshot(tuple(status(number) for number in range(count)))
    store = Store.open(place / "pages.db")
    app = Web(lambda: fleet, lambda _, accept, pack: ([], accept), store, ready=lambda: ()).app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        found = [
            Figure(f"{what} of {count:,}: CPU of one answer", await _cpu_ms(client, path, rounds), "ms", goal)
            for what, path, goal in (
                ("status page", "/", GOAL_MS if count >= GOAL_FROM else None),
                ("/api/status", "/api/status", None),
            )
        ]
    store.close()
    return found


async def _cpu_ms(client: httpx.AsyncClient, path: str, rounds: int) -> float:
    """The median, without the first answer, which compiles the template."""
    costs = []
    for _ in range(rounds + 1):
        before = time.process_time()
        answer = await client.get(path)
        costs.append(1000 * (time.process_time() - before))
        answer.raise_for_status()
    return statistics.median(costs[1:])
