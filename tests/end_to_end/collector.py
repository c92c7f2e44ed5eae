"""A webhook that records what it receives, in order."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            found.headers.append({name.lower(): value for name, value in self.headers.items()})
            heard()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
