"""The interpreter's settings while the daemon runs: collect only new objects, switch threads quickly."""

import gc
import sys
import weakref

from monitor.daemon.interpreter import ALL_EVERY, responsive


class Knot:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


def test_objects_that_survive_a_full_collection_are_frozen() -> None:
    with responsive():
        kept = Knot()
        gc.collect()

        assert not any(one is kept for one in gc.get_objects())


def test_a_cycle_that_was_frozen_while_in_use_is_freed_later() -> None:
    with responsive():
        kept = Knot()
        gone = weakref.ref(kept)
        gc.collect()
        del kept
        gc.collect()
        still_there = gone() is not None
        for _ in range(ALL_EVERY):
            gc.collect()

    assert still_there
    assert gone() is None


def settings() -> tuple[object, ...]:
    return gc.get_threshold(), len(gc.callbacks), sys.getswitchinterval()


def test_the_interpreters_settings_are_restored() -> None:
    before = settings()

    with responsive():
        within = settings()

    assert all(is_now != was for is_now, was in zip(within, before, strict=True))
    assert settings() == before
    assert gc.get_freeze_count() == 0
