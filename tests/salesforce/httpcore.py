"""httpx's own transport, httpcore, within the same limits: a second witness of how servers behave.

Its timeouts are per read, so header lines that come one by one can hold it for hours; names are resolved on
the event loop's own threads; a request that is cancelled while it connects costs its pool a place for good.
"""

import logging
from pathlib import Path

import httpx

from monitor.salesforce.transport import SPARE_CONNECTIONS, Limits


def httpcore_transport(limits: Limits, ca_file: Path | None = None) -> httpx.AsyncBaseTransport:
    return _Httpcore(limits, ca_file)


class _Httpcore(httpx.AsyncHTTPTransport):
    """With the timeouts that an `httpx.AsyncClient` would attach to each request."""

    def __init__(self, limits: Limits, ca_file: Path | None) -> None:
        logging.getLogger("httpcore").setLevel(logging.INFO)  # at DEBUG it quotes whatever the server said
        context = httpx.create_ssl_context()
        if ca_file:
            context.load_verify_locations(ca_file)
        pool = httpx.Limits(max_connections=limits.in_flight + SPARE_CONNECTIONS, max_keepalive_connections=0)
        super().__init__(verify=context, limits=pool)
        connect, answer, place = (
            each.total_seconds() for each in (limits.connect, limits.answer, limits.pool)
        )
        self._timeout = httpx.Timeout(connect=connect, read=answer, write=answer, pool=place).as_dict()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["timeout"] = self._timeout
        return await super().handle_async_request(request)
