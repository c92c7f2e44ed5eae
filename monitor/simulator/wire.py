"""Sends answers, and simulates faults by acting on the transport, which ASGI does not expose."""

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
"""A fault in sending: the org has processed the request."""

UnansweredFault = Callable[[Message, Receive, Send], Awaitable[None]]
"""A fault in which the org never sees the request."""

SLOW_SECONDS = 3.0
"""How long `slow` takes for an answer by default: long for an answer, short for a timeout."""

SLOW_STEPS = 30

HUGE_BYTES = 64 * 1024 * 1024
"""The size of `huge`. Salesforce's answers have 1 to 2 KiB."""

GARBAGE = b"SSH-2.0-OpenSSH_9.6\r\n\x00\x01\x02\xff\xfe not HTTP at all\r\n\r\n"

_STATE_KEY = "transport"


class TransportProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which lets requests see their transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Put the transport into the state that each request's scope gets."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _STATE_KEY: transport}


def _transport(scope: Message) -> asyncio.Transport:
    transport = scope.get("state", {}).get(_STATE_KEY)
    if transport is None:
        raise RuntimeError("this fault needs a real connection: serve the app by monitor.simulator.server")
    assert isinstance(transport, asyncio.Transport)
    return transport


async def whole(answer: Answer, scope: Message, receive: Receive, send: Send) -> None:
    """The complete answer."""
    await send(_start(answer))
    await send({"type": "http.response.body", "body": answer.body})


async def slow(seconds: float, answer: Answer, scope: Message, receive: Receive, send: Send) -> None:
    """The complete answer, in small pieces over `seconds`."""
    step = max(1, -(-len(answer.body) // SLOW_STEPS))
    await send(_start(answer))
    for at in range(0, len(answer.body), step):
        await send({"type": "http.response.body", "body": answer.body[at : at + step], "more_body": True})
        await asyncio.sleep(seconds / SLOW_STEPS)
    await send({"type": "http.response.body", "body": b""})


async def truncated(answer: Answer, scope: Message, receive: Receive, send: Send) -> None:
    """The first half of the answer; then the connection closes."""
    transport = _transport(scope)
    head = [f"HTTP/1.1 {answer.status} \r\n", *(f"{name}: {value}\r\n" for name, value in answer.headers)]
    head.append(f"Content-Length: {len(answer.body)}\r\n\r\n")
    transport.write("".join(head).encode("latin-1") + answer.body[: len(answer.body) // 2])
    transport.close()
    await _gone(receive)


async def reset(scope: Message, receive: Receive, send: Send) -> None:
    """The connection ends with RST instead of FIN."""
    transport = _transport(scope)
    peer = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _gone(receive)


async def hang(scope: Message, receive: Receive, send: Send) -> None:
    """No answer, as long as the client waits."""
    await _gone(receive)


async def garbage(scope: Message, receive: Receive, send: Send) -> None:
    """Bytes that are not HTTP."""
    transport = _transport(scope)
    transport.write(GARBAGE)
    transport.close()
    await _gone(receive)


async def huge(scope: Message, receive: Receive, send: Send) -> None:
    """JSON of HUGE_BYTES; stops early when the client disconnects."""
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
    """Wait for the disconnect, so that the server sees nothing left to answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(answer: Answer) -> Message:
    # Salesforce's spelling: ASGI expects lower case, but h11 passes other spellings on.
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"Content-Length", str(len(answer.body)).encode()))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


UNANSWERED: Mapping[str | None, UnansweredFault] = {
    "reset": reset,
    "hang": hang,
    "garbage": garbage,
    "huge": huge,
}
