"""A full garbage collection looks at what is new, and now and then at everything."""

import gc
import weakref

from monitor.garbage import ALL_EVERY, survivors_frozen


class Knot:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_survived_a_full_collection_is_not_looked_at_by_the_next() -> None:
    with survivors_frozen():
        kept = Knot()
        gc.collect()

        assert not any(one is kept for one in gc.get_objects())


def test_a_cycle_that_was_in_use_at_a_collection_and_was_given_up_later_is_freed_all_the_same() -> None:
    with survivors_frozen():
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


def test_afterwards_the_collector_is_as_it_was() -> None:
    before = gc.get_threshold(), len(gc.callbacks)

    with survivors_frozen():
        within = gc.get_threshold(), len(gc.callbacks)

    assert within != before
    assert (gc.get_threshold(), len(gc.callbacks)) == before
    assert gc.get_freeze_count() == 0
