"""The pages' connections: nobody who holds on to them takes what checks need, on real sockets."""

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
from structlog.testing import capture_logs

from monitor.web.connections import Impatient, Listener

ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.asynccontextmanager
async def pages(
    *, size: int = 2, within: float = 60, at_most: int = 2
) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """The port of a page with so many bytes, and what says that a connection to it has ended."""
    ended = asyncio.Event()

    class Hasty(Impatient):
        within_seconds = within

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            ended.set()

    async def page(_: Request) -> Response:
        return PlainTextResponse(b"x" * size)

    config = uvicorn.Config(
        Starlette(routes=[Route("/", page)]), http=Hasty, lifespan="off", log_config=None, ws="none"
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
async def test_who_does_not_ask_in_time_is_let_go(said: bytes) -> None:
    async with pages(within=0.05) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)

        assert await rest(reader) == b""
        writer.close()


async def test_who_does_not_take_the_answer_is_let_go() -> None:
    size = 64 * 1024**2  # more than both ends of the socket hold
    async with pages(size=size, within=0.5) as (port, ended):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's own has it
        writer.write(ASKED)
        async with asyncio.timeout(30):
            await ended.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]

        assert len(await rest(reader)) < size
        writer.close()


async def test_one_connection_too_many_is_turned_away_and_said_once_until_there_is_room() -> None:
    async with pages(at_most=2) as (port, _):
        with capture_logs() as logs:
            first, second, *others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            turned_away = [await rest(reader) for reader, _ in others]
            first[1].write(ASKED)
            answer = await first[0].readline()
        for _, writer in (first, second, *others):
            writer.close()
        answered_again = b""
        async with asyncio.timeout(30):
            while not answered_again:  # until it has seen that they went
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(ASKED)
                with contextlib.suppress(ConnectionError):
                    answered_again = await reader.readline()
                writer.close()

    assert turned_away == [b""] * 3
    assert answer == answered_again == b"HTTP/1.1 200 OK\r\n"
    assert [line["event"] for line in logs] == ["connection_turned_away"]
