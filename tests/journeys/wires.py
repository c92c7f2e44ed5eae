"""The way to the orgs, and the weather on it.

Each My Domain name leads to the simulator, so that journeys have hosts as production has them: their org
types and the list of allowed hosts count. What bad weather brings is raised and answered where a socket
would.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import httpx

Weather = Callable[[httpx.AsyncBaseTransport, httpx.Request], Awaitable[httpx.Response]]
"""What becomes of a request instead of its way to the simulator."""

NOBODY_LISTENS: Final = "http://127.0.0.1:9"
"""The discard port: on a machine of today nothing is behind it."""


class Wires(httpx.AsyncBaseTransport):
    """A real transport, over which every host name is the simulator's."""

    def __init__(self, inner: httpx.AsyncBaseTransport, simulator: str) -> None:
        self._inner = inner
        self._simulator = simulator
        self.weather: dict[str, Weather] = {}
        """By host, or by method (logins POST, calls after them GET); under "" that of all others."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        of = (request.url.host, request.method, "")
        weather = next((self.weather[each] for each in of if each in self.weather), None)
        if weather:
            return await weather(self._inner, request)
        return await self._inner.handle_async_request(_led_to(self._simulator, request))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _led_to(server: str, request: httpx.Request) -> httpx.Request:
    """The same request at another server, which takes it for one over TLS to the host that was meant."""
    headers = request.headers.copy()
    headers["host"] = request.url.host
    headers["x-forwarded-proto"] = "https"
    url = server + request.url.raw_path.decode()
    return httpx.Request(request.method, url, headers=headers, content=request.read())


async def nobody_listens(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """The connection is refused, really."""
    return await inner.handle_async_request(_led_to(NOBODY_LISTENS, request))


async def no_such_name(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """A resolver that denies every name, as one does that has lost its own way out."""
    raise httpx.ConnectError("[Errno -2] Name or service not known")


async def no_resolver(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """The resolver does not answer."""
    raise httpx.ConnectError("[Errno -3] Temporary failure in name resolution")


async def no_answer(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Connected, but without an answer."""
    raise httpx.ReadTimeout("")


async def untrusted(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """An intermediary presents its own certificate."""
    raise httpx.ConnectError(
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in chain"
    )


async def portal(inner: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """A captive portal that answers everything with 200 and its terms."""
    page = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Accept our terms.</body></html>"
    return httpx.Response(200, headers={"Content-Type": "text/html"}, content=page)
