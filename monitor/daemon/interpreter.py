"""Tunes Python so that neither garbage collection nor other threads hold up the event loop.

1. The histories of ten thousand connections are two hundred thousand objects. A full collection of them takes
   0.1 s, would run every few seconds, and would find almost nothing: reference counts free nearly everything.
2. The loop releases the interpreter lock at each signature and packet, about ten times per check. A thread
   that reads keys or renders a page then keeps it for a whole switch interval.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter lock while another waits (sys.setswitchinterval); default 5 ms."""

OLDEST = 2
"""The generation whose collection is a full one (gc.collect)."""

THRESHOLDS = (200, 3, 3)
"""When generations are collected (gc.set_threshold); default (700, 10, 10). Only the excess of allocations
over deallocations counts, so thousands of objects are new when it is reached. With these values a full
collection takes a few milliseconds."""

ALL_EVERY = 5000
"""After this many full collections, some hours, one includes frozen objects. It frees cycles that were frozen
while still in use, which bounds the leak."""


@contextmanager
def responsive() -> Iterator[None]:
    """While active, full collections examine only new objects, and threads switch quickly.

    Begins with a complete collection, so enter it after loading the configuration and before serving.
    """
    numbers = count(1)

    def freeze(phase: str, info: dict[str, int]) -> None:
        if info["generation"] != OLDEST:
            return
        if phase == "stop":
            gc.freeze()
        elif next(numbers) % ALL_EVERY == 0:
            gc.unfreeze()

    thresholds, switch_seconds = gc.get_threshold(), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(freeze)
    gc.collect()
    gc.collect()  # otherwise survivors of the first would delay the next full collection
    try:
        yield
    finally:
        gc.callbacks.remove(freeze)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(switch_seconds)
