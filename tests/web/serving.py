"""The web application over a fixed Snapshot, in process or on a real socket of this machine."""

import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from monitor.core.status import Asked, Snapshot
from monitor.store import Store
from monitor.web.app import Web
from monitor.web.connections import DeadlineProtocol

METRICS = (b"bearerwatch_connections_configured 1\n" * 100, "text/plain; version=0.0.4; charset=utf-8")


class Stage:
    """What is shown: a test may change it while the application runs."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self.store = store
        self.snapshot = snapshot
        self.problems: tuple[str, ...] = ()
        self.accepted: list[str] = []
        self.exposed = METRICS[0]
        self.ask: Callable[[Collection[str]], Asked] | None = None
        """The function that checks connections now; None if not allowed."""

    def app(self, reload: Callable[[], Awaitable[str | None]] | None = None) -> Starlette:
        """The application over this stage."""
        return Web(
            snapshot=lambda: self.snapshot,
            metrics=self._metrics,
            store=self.store,
            ready=lambda: self.problems,
            reload=reload,
            ask=lambda: self.ask,
        ).app()

    def client(self, reload: Callable[[], Awaitable[str | None]] | None = None) -> httpx.AsyncClient:
        """A client that talks to it without a socket."""
        transport = httpx.ASGITransport(app=self.app(reload), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://monitor")

    def _metrics(self, _: Snapshot, accept: str, pack: Callable[[bytes], bytes]) -> tuple[list[bytes], str]:
        self.accepted.append(accept)
        return [pack(self.exposed)], METRICS[1]


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The address of the application, on a free port of loopback, while the block runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=DeadlineProtocol, lifespan="off", log_config=None, access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
