"""Who holds on to the pages: how many may be connected at once, and for how long without an answer.

Whoever opens connections and says nothing takes a file descriptor each. Where none is left, no check gets a
connection to Salesforce either: the pages must not cost the daemon what it is there for.
"""

import asyncio
import socket
import time
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.config.words import Address
from monitor.web.access import Bucket

CONNECTIONS_AT_MOST = 256
"""Connections to the pages at a time: a quarter of the 1,024 files that a process may open unless told
otherwise (systemd.exec, LimitNOFILE=); the others are for checks, the database and files."""

ANSWER_WITHIN_SECONDS = 60.0
"""How long a connection may take for a request and its answer, from the first byte to the last: Prometheus
gives up after 10 seconds, proxies after 60."""

log = structlog.get_logger()


class Listener(socket.socket):
    """A listening socket that turns away whoever comes while too many are connected."""

    def __init__(self, family: int, *, at_most: int = CONNECTIONS_AT_MOST) -> None:
        # Only where the protocol is named does asyncio set TCP_NODELAY on what is accepted; without that the
        # body of an answer waits 40 ms for the ACK of its headers.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._at_most = at_most
        self._connected: list[socket.socket] = []
        self._told = Bucket(1 / 60, 1, time.monotonic)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; for one too many, what says that it has gone already (accept(2))."""
        connection, peer = super().accept()
        self._connected = [each for each in self._connected if each.fileno() != -1]
        if len(self._connected) >= self._at_most:
            connection.close()
            if not self._told.take():
                log.warning("connection_turned_away", connected=self._at_most, client=peer[0])
            raise ConnectionAbortedError
        self._connected.append(connection)
        return connection, peer


def listen(address: Address) -> Listener:
    """The bound socket of the web pages; an `OSError` says why the address can't be had."""
    listener = Listener(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError:
        listener.close()
        raise
    return listener


class Impatient(H11Protocol):
    """HTTP to a client that has to ask, and to take its answer, in time; uvicorn waits for both for ever."""

    within_seconds: ClassVar[float] = ANSWER_WITHIN_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """The time begins."""
        super().connection_made(transport)
        self._end = self.loop.call_later(self.within_seconds, transport.abort)

    def on_response_complete(self) -> None:
        """It begins anew with the next request, which uvicorn waits for but a few seconds."""
        self._end.cancel()
        self._end = self.loop.call_later(self.within_seconds, self.transport.abort)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._end.cancel()
        super().connection_lost(exc)
