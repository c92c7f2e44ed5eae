"""Sends answers, and simulates faults by acting on the transport, which ASGI does not expose."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.simulator.org import Answer

AnsweredFault = Callable[[Answer, Scope, Receive, Send], Awaitable[None]]
"""A fault in sending: the org has processed the request."""

SLOW_SECONDS = 3.0
"""How long `slow` takes for an answer by default: long for an answer, short for a timeout."""

SLOW_STEPS = 30

HUGE_BYTES = 64 * 1024 * 1024
"""The size of `huge`. Salesforce's answers have 1 to 2 KiB."""

GARBAGE = b"SSH-2.0-OpenSSH_9.6\r\n\x00\x01\x02\xff\xfe not HTTP at all\r\n\r\n"


class TransportProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which lets requests see their transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Put the transport into the state that each request's scope gets."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["state"]["transport"]
    return transport


async def whole(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """The complete answer."""
    await send(_start(answer))
    await send({"type": "http.response.body", "body": answer.body})


async def slow(seconds: float, answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """The complete answer, in small pieces over `seconds`."""
    step = max(1, -(-len(answer.body) // SLOW_STEPS))
    await send(_start(answer))
    for at in range(0, len(answer.body), step):
        await send({"type": "http.response.body", "body": answer.body[at : at + step], "more_body": True})
        await asyncio.sleep(seconds / SLOW_STEPS)
    await send({"type": "http.response.body", "body": b""})


async def truncated(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """The first half of the answer; then the connection closes."""
    transport = _transport(scope)
    head = [f"HTTP/1.1 {answer.status} \r\n", *(f"{name}: {value}\r\n" for name, value in answer.headers)]
    head.append(f"Content-Length: {len(answer.body)}\r\n\r\n")
    transport.write("".join(head).encode("latin-1") + answer.body[: len(answer.body) // 2])
    transport.close()
    await _gone(receive)


async def reset(scope: Scope, receive: Receive, send: Send) -> None:
    """The connection ends with RST instead of FIN."""
    transport = _transport(scope)
    peer = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _gone(receive)


async def hang(scope: Scope, receive: Receive, send: Send) -> None:
    """No answer, as long as the client waits."""
    await _gone(receive)


async def garbage(scope: Scope, receive: Receive, send: Send) -> None:
    """Bytes that are not HTTP."""
    transport = _transport(scope)
    transport.write(GARBAGE)
    transport.close()
    await _gone(receive)


async def huge(scope: Scope, receive: Receive, send: Send) -> None:
    """JSON of HUGE_BYTES; what follows a disconnect is dropped."""
    headers = [(b"Content-Type", b"application/json;charset=UTF-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"access_token":"', "more_body": True})
    piece = b"x" * 65_536
    for _ in range(HUGE_BYTES // len(piece)):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
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


UNANSWERED: Mapping[str | None, ASGIApp] = {
    "reset": reset,
    "hang": hang,
    "garbage": garbage,
    "huge": huge,
}
"""Faults in which the org never sees the request."""
