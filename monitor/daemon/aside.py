"""Runs calls that may hang forever (on a network disk) in threads that do not prevent exit."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def aside(call: Callable[[], T]) -> T:
    """Run a call in a daemon thread; gives or raises what it does. (asyncio would wait for its threads.)"""
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # from now on, only the thread ends it

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 # raised where the result is awaited
            answer.set_exception(error)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await asyncio.wrap_future(answer)
