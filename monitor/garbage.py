"""Python's garbage collector, kept from looking at the whole fleet again and again.

What is remembered of ten thousand connections is two hundred thousand objects. One look at all of them stops
everything for a tenth of a second, would come every few seconds, and finds next to nothing: what is no longer
needed goes by its reference count.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

OLDEST = 2
"""The generation whose collection is a full one (gc.collect)."""

SOON = 3
"""Collections of a generation until one of the next; by default ten. So a full one looks at what some hundred
checks left, for a few milliseconds, and not at what ten thousand did."""

ALL_EVERY = 1000
"""Full collections until one that looks at everything: some hours. A cycle that was in use at a collection
and was given up later waits for it; so what is kept in vain is bounded."""


@contextmanager
def survivors_frozen() -> Iterator[None]:
    """While this lasts, a full collection looks only at what has come since the one before it.

    Begins with one, so it belongs after the configuration is loaded and before anybody waits for an answer.
    """
    numbers = count(1)

    def freeze(phase: str, info: dict[str, int]) -> None:
        if info["generation"] != OLDEST:
            return
        if phase == "stop":
            gc.freeze()
        elif next(numbers) % ALL_EVERY == 0:
            gc.unfreeze()

    thresholds = gc.get_threshold()
    gc.set_threshold(thresholds[0], SOON, SOON)
    gc.callbacks.append(freeze)
    gc.collect()
    gc.collect()  # the first one's survivors would count against the need for the next full one
    try:
        yield
    finally:
        gc.callbacks.remove(freeze)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
