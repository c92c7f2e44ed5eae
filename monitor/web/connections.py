"""Limits on open connections to the pages: how many there may be, and how long one may take.

A client that connects and says nothing takes a file descriptor. With none left, no check gets a connection to
Salesforce either, so the pages must not take them all.

uvicorn's `limit_concurrency` does not bound this: it answers requests with 503, but keeps silent connections.
"""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.config.words import Address
from monitor.web.access import Bucket

CONNECTIONS_AT_MOST = 256
"""Connections to the pages at a time: a quarter of the 1,024 files that a process may open unless told
otherwise (systemd.exec, LimitNOFILE=); the others are for checks, the database and files."""

LEAVING_AT_MOST = 64
"""Connections that may be on their way out beside them, within one turn of the event loop."""

REQUEST_WITHIN_SECONDS = 10.0
"""How long a client may take for the head of a request: a slow mobile line needs two."""

ANSWER_WITHIN_SECONDS = 60.0
"""How long a request and its answer may take: Prometheus gives up after 10 seconds, proxies after 60."""

log = structlog.get_logger()


class Listener(socket.socket):
    """A listening socket with room for so many connections.

    One more takes the place of the oldest of the client address that has most. A request and its answer take
    milliseconds, so the oldest is one that holds on; and a client that opens hundreds shuts out itself alone.
    """

    def __init__(self, family: int, *, at_most: int = CONNECTIONS_AT_MOST) -> None:
        # Only if the protocol is named does asyncio set TCP_NODELAY on what is accepted; without that the
        # body of an answer waits 40 ms for the ACK of its headers.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._at_most = at_most
        self._open: list[tuple[str, socket.socket]] = []
        self._leaving: list[tuple[str, socket.socket]] = []
        self._logged = Bucket(1 / 60, 1, time.monotonic)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; if there is no room at all, what says that it is gone already (accept(2))."""
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
            with contextlib.suppress(OSError):  # it is gone already
                oldest[1].shutdown(socket.SHUT_RDWR)  # asyncio, which holds it, then closes it
        return connection, peer


def listen(address: Address) -> Listener:
    """The bound socket of the web pages; an `OSError` says why it can't have the address."""
    listener = Listener(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError:
        listener.close()
        raise
    return listener


class DeadlineProtocol(H11Protocol):
    """HTTP to a client that must ask, and take its answer, in time; uvicorn waits for both forever."""

    request_within: ClassVar[float] = REQUEST_WITHIN_SECONDS
    answer_within: ClassVar[float] = ANSWER_WITHIN_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """The time begins."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.request_within, self._overdue)

    def _overdue(self) -> None:
        """No request has come: end it. Else the answer has the rest of its time."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            self._deadline = self.loop.call_later(
                self.answer_within - self.request_within, self.transport.abort
            )

    def on_response_complete(self) -> None:
        """It begins again with the next request, which uvicorn waits for but a few seconds."""
        self._deadline.cancel()
        self._deadline = self.loop.call_later(self.request_within, self._overdue)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._deadline.cancel()
        super().connection_lost(exc)
