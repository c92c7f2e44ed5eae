"""A webhook that records what it receives, in order."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import Quiet, serving


@dataclass
class Collector:
    """What a webhook has received."""

    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each message, in lower case."""

    @property
    def notifications(self) -> list[tuple[str, dict[str, Any]]]:
        """Each received alert, with the receiver's name."""
        return [
            (message["receiver"], alert) for message in list(self.messages) for alert in message["alerts"]
        ]


@contextmanager
def collector(heard: Callable[[], None] = lambda: None) -> Iterator[Collector]:
    """A collector, until the block ends; `heard` is called before it answers a message."""
    found = Collector()

    class Webhook(Quiet):
        def answer(self) -> None:
            found.messages.append(json.loads(self.body()))
            found.headers.append({name.lower(): value for name, value in self.headers.items()})
            heard()
            self.say(200)

    with serving(Webhook) as found.url:
        yield found
