"""How an answer goes over the wire, and the faults of networks and servers that no framework would make.

A fault works on the connection itself, which ASGI does not show: `TransportProtocol` hands it through.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.simulator.org import Answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

AnsweredFault = Callable[[Answer, Message, Receive, Send], Awaitable[None]]
"""A fault of the way back: the org has done its part."""

UnansweredFault = Callable[[Message, Receive, Send], Awaitable[None]]
"""A fault in which the org is never asked."""

SLOW_SECONDS = 3.0
"""Over which `slow` spreads an answer unless told otherwise: long for an answer, short for a timeout."""

SLOW_STEPS = 30

HUGE_BYTES = 64 * 1024 * 1024
"""Where `huge` ends at last. An answer of Salesforce's has 1 to 2 KiB."""

GARBAGE = b"SSH-2.0-OpenSSH_9.6\r\n\x00\x01\x02\xff\xfe not HTTP at all\r\n\r\n"

_STATE_KEY = "transport"


class TransportProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, whose requests know their connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Lay the transport into the state that each request's scope is given."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _STATE_KEY: transport}


def _transport(scope: Message) -> asyncio.Transport:
    transport = scope.get("state", {}).get(_STATE_KEY)
    if transport is None:
        raise RuntimeError("this fault needs a real connection: serve the app by monitor.simulator.server")
    assert isinstance(transport, asyncio.Transport)
    return transport


async def whole(answer: Answer, scope: Message, receive: Receive, send: Send) -> None:
    """The answer as it should be."""
    await send(_start(answer))
    await send({"type": "http.response.body", "body": answer.body})


async def slow(seconds: float, answer: Answer, scope: Message, receive: Receive, send: Send) -> None:
    """The whole answer, drop by drop."""
    step = max(1, -(-len(answer.body) // SLOW_STEPS))
    await send(_start(answer))
    for at in range(0, len(answer.body), step):
        await send({"type": "http.response.body", "body": answer.body[at : at + step], "more_body": True})
        await asyncio.sleep(seconds / SLOW_STEPS)
    await send({"type": "http.response.body", "body": b""})


async def truncated(answer: Answer, scope: Message, receive: Receive, send: Send) -> None:
    """The first half of the answer, and then the end of the connection."""
    transport = _transport(scope)
    head = [f"HTTP/1.1 {answer.status} \r\n", *(f"{name}: {value}\r\n" for name, value in answer.headers)]
    head.append(f"Content-Length: {len(answer.body)}\r\n\r\n")
    transport.write("".join(head).encode("latin-1") + answer.body[: len(answer.body) // 2])
    transport.close()
    await _gone(receive)


async def reset(scope: Message, receive: Receive, send: Send) -> None:
    """The connection breaks with RST in place of FIN."""
    transport = _transport(scope)
    peer = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _gone(receive)


async def hang(scope: Message, receive: Receive, send: Send) -> None:
    """No answer, for as long as the client waits."""
    await _gone(receive)


async def garbage(scope: Message, receive: Receive, send: Send) -> None:
    """Bytes that are no HTTP."""
    transport = _transport(scope)
    transport.write(GARBAGE)
    transport.close()
    await _gone(receive)


async def huge(scope: Message, receive: Receive, send: Send) -> None:
    """JSON that goes on and on; it ends early when the client has gone."""
    gone = asyncio.create_task(_gone(receive))
    headers = [(b"Content-Type", b"application/json;charset=UTF-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"access_token":"', "more_body": True})
    piece = b"x" * 65_536
    for _ in range(HUGE_BYTES // len(piece)):
        if gone.done():
            return
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    gone.cancel()
    await send({"type": "http.response.body", "body": b'"}'})


async def _gone(receive: Receive) -> None:
    """Returns when the connection is no more, so that the server sees nothing left to answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(answer: Answer) -> Message:
    # As Salesforce spells them: lower case would be ASGI's custom, but h11 passes the spelling on.
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"Content-Length", str(len(answer.body)).encode()))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


UNANSWERED: Mapping[str | None, UnansweredFault] = {
    "reset": reset,
    "hang": hang,
    "garbage": garbage,
    "huge": huge,
}
"""By the value of the org's setting."""
