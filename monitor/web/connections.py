"""Limits the number and duration of connections to the pages.

A silent client occupies a file descriptor. Without free descriptors, checks can't connect to Salesforce
either, so the pages must not use them all.

uvicorn's `limit_concurrency` does not help: it answers requests with 503, but keeps silent connections open.
"""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.config.words import Address
from monitor.web.access import Bucket

CONNECTIONS_AT_MOST = 256
"""Most connections to the pages: a quarter of the default limit of 1,024 files per process (systemd.exec,
LimitNOFILE=); the rest is for checks, the database and files."""

LEAVING_AT_MOST = 64
"""Additional connections that may be closing within one iteration of the event loop."""

REQUEST_WITHIN_SECONDS = 10.0
"""How long a client may take to send a request's head: a slow mobile line needs two seconds."""

ANSWER_WITHIN_SECONDS = 60.0
"""How long request and answer may take: Prometheus gives up after 10 seconds, proxies after 60."""

log = structlog.get_logger()


class Listener(socket.socket):
    """A listening socket that limits its connections.

    One too many replaces the oldest connection of the client address with the most. Requests take
    milliseconds, so the oldest is idle or slow, and a client that opens hundreds only shuts itself out.
    """

    def __init__(self, family: int, *, at_most: int = CONNECTIONS_AT_MOST) -> None:
        # asyncio sets TCP_NODELAY on accepted sockets only if the protocol is named; without that, an
        # answer's body waits 40 ms for the ACK of its headers.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._at_most = at_most
        self._open: list[tuple[str, socket.socket]] = []
        self._leaving: list[tuple[str, socket.socket]] = []
        self._logged = Bucket(1 / 60, 1, time.monotonic)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. If there is no room at all, raises as if it were gone already (accept(2))."""
        connection, peer = super().accept()
        self._open, self._leaving = (
            [each for each in held if each[1].fileno() != -1] for held in (self._open, self._leaving)
        )
        if len(self._leaving) >= LEAVING_AT_MOST:
            connection.close()
            raise ConnectionAbortedError
        self._open.append((peer[0], connection))
        if len(self._open) > self._at_most:
            ((most, _),) = Counter(client for client, _ in self._open).most_common(1)
            oldest = next(each for each in self._open if each[0] == most)
            self._open.remove(oldest)
            self._leaving.append(oldest)
            if not self._logged.take():
                log.warning("connections_full", most_from=most, closed="its oldest")
            with contextlib.suppress(OSError):  # already gone
                oldest[1].shutdown(socket.SHUT_RDWR)  # asyncio then closes it
        return connection, peer


def listen(address: Address) -> Listener:
    """The bound socket of the pages. Raises OSError if the address is not available."""
    listener = Listener(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError:
        listener.close()
        raise
    return listener


class DeadlineProtocol(H11Protocol):
    """HTTP with deadlines for request and answer; uvicorn alone would wait forever."""

    request_within: ClassVar[float] = REQUEST_WITHIN_SECONDS
    answer_within: ClassVar[float] = ANSWER_WITHIN_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Start the deadline for the request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.request_within, self._overdue)

    def _overdue(self) -> None:
        """Close the connection without a request; otherwise extend the deadline to the answer's."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            self._deadline = self.loop.call_later(
                self.answer_within - self.request_within, self.transport.abort
            )

    def on_response_complete(self) -> None:
        """Restart the deadline for the next request, for which uvicorn waits a few seconds."""
        self._deadline.cancel()
        self._deadline = self.loop.call_later(self.request_within, self._overdue)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Reject invalid HTTP, and drop an answer under way: uvicorn fails if it sends both."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        with contextlib.suppress(h11.LocalProtocolError):  # an answer is under way, or HEAD allows no body
            super().send_400_response(msg)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._deadline.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers, as the daemon decides the order of stopping, and without its ten
    wake-ups a second: with 300 connections they cost a tenth as much as the checks.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Stop serving once requests under way are answered."""
        self._ended.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def main_loop(self) -> None:
        """Renew the `Date` header every second, until the end."""
        while not self._ended.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ended.wait()
