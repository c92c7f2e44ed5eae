"""Runs an object in a separate process, so that its memory and CPU time contain nothing else."""

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
    """Creates the object there and calls its methods one at a time. Exceptions end the benchmark."""

    def __init__(self, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_live, args=(theirs, make, args, kwargs), daemon=True)
        self._process.start()
        theirs.close()  # so that we notice when the process ends
        self.answer()

    def call(self, method: Callable[Concatenate[T, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method and wait for its result."""
        self.ask(method, *args, **kwargs)
        result: R = self.answer()
        return result

    def ask(self, method: Callable[Concatenate[T, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method without waiting; `answer` gives its result."""
        self._pipe.send((method, args, kwargs))

    def answered(self, within_seconds: float) -> bool:
        """Whether the result arrives within this time."""
        return self._pipe.poll(within_seconds)

    def answer(self) -> Any:
        """Wait for the result."""
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
    except Exception:  # noqa: BLE001 - reported to the parent
        pipe.send((True, traceback.format_exc()))
