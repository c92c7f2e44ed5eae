"""Python's own settings, so that neither its garbage collector nor another thread holds up the event loop.

1. What is remembered of ten thousand connections is two hundred thousand objects. One look at all of them
   takes a tenth of a second, would come every few seconds, and finds next to nothing: what is no longer
   needed goes by its reference count.
2. The loop lets go of the interpreter at each signature and each packet, some ten times in a check. A thread
   that reads keys or makes a page then keeps it until it is asked for it back.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter while another wants it (sys.setswitchinterval); by default 5 ms."""

OLDEST = 2
"""The generation whose collection is a full one (gc.collect)."""

THRESHOLDS = (200, 3, 3)
"""When a generation is collected (gc.set_threshold); by default (700, 10, 10). Nearly as many objects go as
come, and only the difference counts, so thousands are new when it is large enough. With these a full
collection takes some milliseconds."""

ALL_EVERY = 5000
"""Full collections until one that looks at everything: some hours. A cycle that was in use at a collection
and was given up later waits for it; so what is kept in vain is bounded."""


@contextmanager
def responsive() -> Iterator[None]:
    """While this lasts, a full collection looks only at what is new since the last, and threads take turns
    quickly.

    Begins with a look at everything, so it belongs after the configuration is loaded and before anybody waits
    for an answer.
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
    gc.collect()  # the first one's survivors would count against the need for the next full one
    try:
        yield
    finally:
        gc.callbacks.remove(freeze)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(switch_seconds)
