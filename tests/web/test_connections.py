"""Connections to the pages, on real sockets: idle clients can't take resources from checks."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from monitor.web.connections import LEAVING_AT_MOST, DeadlineProtocol, Listener

ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

ANSWER = (
    {"type": "http.response.start", "status": 200, "headers": []},
    {"type": "http.response.body", "body": b"x", "more_body": True},
    {"type": "http.response.body", "body": b"x"},
)


@contextlib.asynccontextmanager
async def pages(
    app: ASGIApp | None = None, *, size: int = 2, request: float = 10, answer: float = 60, at_most: int = 2
) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """The port of this app, or of a page with this many bytes, and an event for the end of a connection."""
    ended = asyncio.Event()

    class Hasty(DeadlineProtocol):
        request_within = request
        answer_within = answer

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            ended.set()

    async def page(_: Request) -> Response:
        return PlainTextResponse(b"x" * size)

    config = uvicorn.Config(
        app or Starlette(routes=[Route("/", page)]), http=Hasty, lifespan="off", log_config=None, ws="none"
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    with Listener(socket.AF_INET, at_most=at_most) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1], ended
        finally:
            server.should_exit = True
            await running


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side ends it."""
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("said", [b"", ASKED[:-2]], ids=["nothing", "half_a_request"])
async def test_a_client_without_a_request_in_time_is_disconnected(said: bytes) -> None:
    async with pages(request=0.05) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)

        assert await rest(reader) == b""
        writer.close()


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("sent", [None, *range(4)], ids=["at_once", "before", "head", "part", "whole"])
async def test_a_body_that_is_not_http_ends_its_connection_and_leaves_no_traceback(
    sent: int | None, method: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Each such request was a traceback of 60 lines: uvicorn answered it twice."""
    answered, gone = asyncio.Event(), asyncio.Event()

    async def page(_: Scope, __: Receive, send: Send) -> None:
        """Send so much of the answer, and the rest after the body has come."""
        for message in ANSWER[:sent]:
            await send(message)
        answered.set()
        if sent is not None:
            await gone.wait()
            for message in ANSWER[sent:]:
                await send(message)

    async with pages(page) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head, body = method + ASKED[3:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"not a chunk\r\n"
        if sent is None:
            writer.write(head + body)
        else:
            writer.write(head)
            await answered.wait()
            writer.write(body)
        await rest(reader)
        gone.set()
        writer.close()

    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_client_that_does_not_read_the_answer_is_disconnected() -> None:
    size = 64 * 1024**2  # more than both ends of the socket hold
    async with pages(size=size, request=0.1, answer=0.5) as (port, ended):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's own has it
        writer.write(ASKED)
        async with asyncio.timeout(30):
            await ended.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]

        assert len(await rest(reader)) < size
        writer.close()


async def test_one_connection_too_many_replaces_the_oldest_and_is_logged_once() -> None:
    async with pages(at_most=2) as (port, _):
        with capture_logs() as logs:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            closed = [await rest(reader) for reader, _ in held[:3]]
            answers = []
            for reader, writer in held[3:]:
                writer.write(ASKED)
                answers.append(await reader.readline())
        for _, writer in held:
            writer.close()

    assert closed == [b""] * 3
    assert answers == [b"HTTP/1.1 200 OK\r\n"] * 2
    assert [(line["event"], line["most_from"]) for line in logs] == [("connections_full", "127.0.0.1")]


async def test_a_client_that_opens_hundreds_closes_its_own_and_not_those_of_others() -> None:
    async with pages(at_most=8) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        flood = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        writer.write(ASKED)

        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        for _, each in (*flood, (reader, writer)):
            each.close()


def test_a_burst_of_connections_within_one_loop_iteration_is_bounded() -> None:
    with Listener(socket.AF_INET, at_most=10) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(200)]
        accepted = []
        for _ in clients:
            with contextlib.suppress(ConnectionAbortedError):
                accepted.append(listener.accept()[0])
        for each in (*clients, *accepted):
            each.close()

    assert len(accepted) == 10 + LEAVING_AT_MOST
