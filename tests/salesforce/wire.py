"""The other end of the wire: certificates, a server on loopback, and bytes that no server should send."""

import asyncio
import gzip
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from monitor.core.connection import Connection
from monitor.core.outcome import Exchange
from monitor.salesforce.exchange import Exchanger, Sign
from tests.certificates import LOOPBACK, Issued, authority, signed

TOKEN = "00D000000000001!AQ.SecretOfTheOrg"
GRANT = {
    "access_token": TOKEN,
    "scope": "api refresh_token",
    "instance_url": "https://acme.my.salesforce.com",
    "id": "https://login.salesforce.com/id/00D000000000001AAA/005000000000001AAA",
    "token_type": "Bearer",
}

Reply = Callable[["Visit"], Awaitable[None]]
MakeExchanger = Callable[..., Exchanger]


async def exchanged(
    exchanger: Exchanger, to: Connection, sign: Sign, *, after_login: bool = False
) -> Exchange:
    """A login, and the first call if wanted."""
    async with exchanger.login(to, sign) as login:
        if after_login:
            await login.first_call()
    return login.exchange


@dataclass(frozen=True, slots=True)
class Certificates:
    """A CA, and servers' TLS contexts whose certificates it made well or badly."""

    ca_file: Path
    good: ssl.SSLContext
    wrong_name: ssl.SSLContext
    expired: ssl.SSLContext
    self_signed: ssl.SSLContext


def make_certificates(directory: Path) -> Certificates:
    by = authority("Test CA")
    names = (*LOOPBACK, x509.DNSName("org.test"))

    def context(label: str, issued: Issued) -> ssl.SSLContext:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*issued.write(directory, label))
        return server

    ca_file, _ = by.write(directory, "ca")
    return Certificates(
        ca_file=ca_file,
        good=context("good", signed(by, *names)),
        wrong_name=context("wrong-name", signed(by, x509.DNSName("other.test"))),
        expired=context("expired", signed(by, *names, days=-0.5)),
        self_signed=context("self-signed", signed(None, *names)),
    )


@dataclass(slots=True)
class Visit:
    """One connection that a client made."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str = ""
    body: bytes = b""

    async def read(self) -> None:
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if length := re.search(r"(?i)\ncontent-length: *(\d+)", self.head):
            self.body = await self.reader.readexactly(int(length[1]))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Ends the connection with RST in place of FIN."""
        peer: socket.socket = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass(slots=True)
class Server:
    """A listening server, and who came."""

    port: int
    visits: list[Visit] = field(default_factory=list)


@asynccontextmanager
async def serving(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a free port of loopback; what still runs at the end is cut off."""
    tasks: set[asyncio.Task[None]] = set()
    seen = Server(0)

    async def serve(visit: Visit) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
                await reply(visit)
        finally:
            visit.writer.close()
            with suppress(OSError, ssl.SSLError):
                await visit.writer.wait_closed()

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(reader, writer)
        seen.visits.append(visit)
        task = asyncio.ensure_future(serve(visit))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(came, "127.0.0.1", 0, ssl=tls, backlog=500)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for visit in seen.visits:
            visit.writer.transport.abort()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def http(status: int, body: bytes | str, *headers: str) -> bytes:
    """A well-formed answer."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def granted(**changes: str) -> bytes:
    return http(200, json.dumps(GRANT | changes), "Content-Type: application/json;charset=UTF-8")


def says(data: bytes) -> Reply:
    """Reads the request, then sends these bytes and closes."""

    async def reply(visit: Visit) -> None:
        await visit.read()
        await visit.send(data)

    return reply


def resets(data: bytes) -> Reply:
    """Reads the request, sends these bytes, then resets the connection."""

    async def reply(visit: Visit) -> None:
        await visit.read()
        await visit.send(data)
        visit.reset()

    return reply


def drips(data: bytes, drop: bytes, then: bytes = b"") -> Reply:
    """Reads the request, sends these bytes, then a drop every 50 ms, then the rest: 3 s in all."""

    async def reply(visit: Visit) -> None:
        await visit.read()
        await visit.send(data)
        for _ in range(60):
            await asyncio.sleep(0.05)  # a slow server: each drop comes long before any timeout
            await visit.send(drop)
        await visit.send(then)

    return reply


def floods(data: bytes, wave: bytes) -> Reply:
    """Reads the request, sends these bytes, then waves for as long as the client takes them."""

    async def reply(visit: Visit) -> None:
        await visit.read()
        await visit.send(data)
        while True:
            await visit.send(wave)

    return reply


async def hangs(visit: Visit) -> None:
    """Reads the request and says nothing."""
    await visit.read()
    await asyncio.Event().wait()


async def never_reads(visit: Visit) -> None:
    """Takes the connection and does nothing with it."""
    await asyncio.Event().wait()


async def closes(visit: Visit) -> None:
    """Takes the connection and ends it."""


BOMB = gzip.compress(bytes(32 * 1024 * 1024))
"""32 MiB in 32 KiB."""
