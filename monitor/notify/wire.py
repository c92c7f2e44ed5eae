"""One POST to a sink: bounded in time and size, without redirects, and without secrets in errors.

The transport is passed in. It has the timeouts, and is separate from that of the checks, so that a hanging
sink does not affect them.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx

from monitor.config import SinkOptions
from monitor.core.connection import Source
from monitor.core.keys.secret import Secret
from monitor.keys import SourceError
from monitor.keys.sources import read
from monitor.salesforce.transport import Limits

NOTIFYING = Limits(
    connect=timedelta(seconds=5), answer=timedelta(seconds=10), whole=timedelta(seconds=15), in_flight=16
)
"""Timeouts for sinks: shorter than a stop, and far longer than any sink needs."""

THREADS = 2
"""For Apprise, which blocks: separate ones, so that nothing else waits."""

MAX_ANSWER_BYTES = 64 * 1024
"""Longest answer to read. Sinks answer with a few words; the status is sufficient."""


class Undelivered(Exception):  # noqa: N818 - not an error of ours
    """A sink has not accepted a message. The text is one sentence, without the sink's URL."""


class Wire:
    """Posts to sinks. Use it in one event loop; it closes the transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport, environment: Mapping[str, str]) -> None:
        self._transport = transport
        self._environment = environment
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="apprise")

    async def aclose(self) -> None:
        """Close the transport, without waiting for its threads."""
        await self._transport.aclose()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def secret(self, source: str | Source) -> Secret:
        """A source's content, read each time, so that changes apply at once. A text is used as is."""
        if isinstance(source, str):
            return Secret(source)
        try:
            return Secret((await asyncio.to_thread(read, source, self._environment)).strip())
        except SourceError as error:
            raise Undelivered(str(error)) from None

    async def post(
        self, sink: SinkOptions, body: bytes, *, path: str = "", headers: Mapping[str, str] = {}
    ) -> bytes:
        """Post JSON. Gives up to MAX_ANSWER_BYTES of the answer. Raises Undelivered unless successful."""
        url = await self.secret(sink.address)
        token = await self.secret(sink.token) if sink.token else None
        try:
            bearer = {"Authorization": f"Bearer {token.text()}"} if token else {}
            address = url.text().rstrip("/") + path if path else url.text()
            request = httpx.Request("POST", address, content=body, headers={**_HEADERS, **headers, **bearer})
            usable = request.url.scheme in {"http", "https"} and bool(request.url.host)
        except (httpx.InvalidURL, ValueError):
            usable = False
        if not usable:
            raise Undelivered("Its address or token cannot be used: check the configured source.")
        try:
            status, answer = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - of any class; the text may quote the URL
            raise Undelivered(_why(error)) from None
        if httpx.codes.is_redirect(status):
            raise Undelivered(f"It redirects (status {status}): configure the address it redirects to.")
        if not httpx.codes.is_success(status):
            raise Undelivered(f"Rejected: status {status}.")
        return answer

    async def _answer(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._transport.handle_async_request(request)
        body = bytearray()
        try:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    break
        finally:
            await response.aclose()
        return response.status_code, bytes(body[:MAX_ANSWER_BYTES])


_HEADERS = {
    "Accept-Encoding": "identity",
    "Connection": "close",
    "Content-Type": "application/json",
    "User-Agent": "bearerwatch",
}


def _why(error: Exception) -> str:
    kind = type(error).__name__
    if "Timeout" in kind:
        return "No answer in time."
    if isinstance(error, httpx.ConnectError):
        return "Connection failed or was closed."
    return f"No usable answer ({kind})."
