"""An object in a process of its own, on the monitor's core: nothing else is in its memory or its CPU time."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from bench.server import MONITOR_CORE, pin

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Elsewhere(Generic[T]):
    """Makes the object there, and calls its methods one after the other. What they raise ends the bench."""

    def __init__(self, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_live, args=(theirs, make, args, kwargs), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the waiting for its answer
        self.answer()

    def call(self, method: Callable[Concatenate[T, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method and wait for what it returns."""
        self.ask(method, *args, **kwargs)
        result: R = self.answer()
        return result

    def ask(self, method: Callable[Concatenate[T, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method, and do something else meanwhile; `answer` gives what it returns."""
        self._pipe.send((method, args, kwargs))

    def answered(self, within_seconds: float) -> bool:
        """Whether the answer has come."""
        return self._pipe.poll(within_seconds)

    def answer(self) -> Any:
        """What the method returned, once it has."""
        failed, result = self._pipe.recv()
        if failed:
            raise RuntimeError(f"in the other process:\n{result}")
        return result

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _live(pipe: Pipe, make: Callable[..., object], args: Any, kwargs: Any) -> None:
    pin(MONITOR_CORE)
    try:
        made = make(*args, **kwargs)
        pipe.send((False, None))
        while True:
            method, args, kwargs = pipe.recv()
            pipe.send((False, method(made, *args, **kwargs)))
    except EOFError:
        return
    except Exception:  # noqa: BLE001 - whatever it is, the bench must hear of it
        pipe.send((True, traceback.format_exc()))
