"""The tasks that a worker repeats."""

import asyncio
from contextlib import suppress

from monitor.watch.worker import every


async def test_a_repeated_task_ends_even_if_a_cancellation_is_lost() -> None:
    """As in a wait for a pooled connection: a worker then waited for it forever, and no other began."""
    waiting = asyncio.Event()

    async def loses_it() -> None:
        waiting.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    task = asyncio.create_task(every(0, loses_it))
    await waiting.wait()

    task.cancel()

    ended, _ = await asyncio.wait([task], timeout=5)
    assert ended
