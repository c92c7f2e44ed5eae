"""What `bearerwatch recheck` takes for the result of a check."""

from collections.abc import Iterable
from typing import Any

from monitor.commands.running import Running, Shown, rechecked

BEFORE: dict[str, Any] = {"findings": [], "exchanges": 5, "last_exchange": "2026-11-23T12:00:00Z"}


class Showing(Running):
    """A daemon that shows these states of one connection, one after the other."""

    def __init__(self, *states: Shown, put_off: dict[str, str] | None = None) -> None:
        self._states, self._put_off = iter(states), put_off or {}

    def shown(self) -> dict[str, Shown]:
        return {"acme": next(self._states)}

    def recheck(self, names: Iterable[str], causes: Iterable[str] = ()) -> dict[str, str]:
        return self._put_off


def test_a_check_that_could_send_nothing_is_a_result() -> None:
    unsent = BEFORE | {"last_exchange": "2026-11-23T12:05:00Z"}

    assert rechecked(Showing(BEFORE, BEFORE, unsent), ["acme"], [], lambda _: None) == ({"acme": unsent}, {})


def test_a_check_within_the_same_second_is_a_result() -> None:
    refused = BEFORE | {"exchanges": 6}

    assert rechecked(Showing(BEFORE, refused), ["acme"], [], lambda _: None) == ({"acme": refused}, {})


def test_a_check_that_is_put_off_is_not_waited_for() -> None:
    put_off = {"acme": "2026-11-23T12:40:00Z"}

    assert rechecked(Showing(BEFORE, put_off=put_off), ["acme"], [], lambda _: None) == ({}, put_off)
