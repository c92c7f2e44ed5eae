"""Posts an assertion to a token endpoint and returns an Outcome. The only module that talks to orgs.

For every exchange:

* The assertion is in the body, sent to an allowed host over verified TLS; plain HTTP only to loopback.
* No cookies, redirects or connection reuse: every probe sees what a new client sees, and nothing leaks
  between orgs.
* HTTP/1.1, at most 64 KiB of answer, and a fixed total timeout, however slowly data trickles in.
* At most `Limits.in_flight` exchanges at once. The assertion is signed after queueing, so that it does not
  age.
* Failures of network and server are values, whose text contains neither assertion nor token.
"""

import asyncio
import re
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import httpx
import structlog

from monitor.core.connection import Connection, is_loopback, may_receive_assertions
from monitor.core.outcome import (
    NO_STATUS,
    AfterLogin,
    ApiUsage,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Refused,
    Unreachable,
)
from monitor.core.verdict.answer import http_date, read_after_login, read_answer, token_in
from monitor.salesforce.org import LARGEST_ANSWER, REST_PATH, Reply
from monitor.salesforce.transport import (
    FAULTS,
    LIMITS,
    Head,
    Limits,
    TransportFactory,
    decoded,
    fault,
    request,
    rust_transport,
    unreachable,
)

log = structlog.get_logger()

MAX_ANSWER_BYTES = 64 * 1024
"""Longest answer to read. Answers have 1 to 2 KiB, a maintenance page about 10 KiB (*observed*)."""

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FORM = f"grant_type={quote(GRANT_TYPE)}&assertion="

DATE_ROUNDING_SECONDS = 0.5
"""`Date` is truncated to whole seconds, so on average the server's clock is half a second ahead of it."""


CLOCK_SET = timedelta(seconds=2)
"""The wall clock was set during an exchange if it moved by this much more than the steady clock: NTP slews
less than a millisecond a second."""

Sign = Callable[[datetime], str]
"""Gets the time of sending and returns the assertion (see `core.keys.assertion.sign`)."""


class Exchanger:
    """Performs exchanges, with one transport and TLS configuration for all orgs, and a limit on concurrency.

    Use it in one event loop. On `aclose`, running exchanges end as `NotSent` or `Unreachable`.
    """

    def __init__(
        self,
        *,
        limits: Limits = LIMITS,
        ca_file: Path | None = None,
        allowed_hosts: frozenset[str] = frozenset(),
        transport: TransportFactory = rust_transport,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises OperatorError if `ca_file` can't be used. `clock` gives aware wall-clock times, `steady`
        seconds that no setting of the wall clock moves.
        """
        self._limits = limits
        self.allowed_hosts = allowed_hosts
        """Additional hosts that may receive assertions; a reload may change them."""
        self.now = clock
        """The current time, by the clock used for exchanges."""
        self._steady = steady
        self._transport = transport(limits, ca_file)
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._signing = asyncio.Lock()
        self.in_flight = 0
        """Number of running exchanges, without those waiting."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    @asynccontextmanager
    async def login(self, connection: Connection, sign: Sign) -> AsyncIterator["Login"]:
        """One login: waits for a slot, signs, posts, and reads the answer. The slot is free after the block.

        `clock_offset_seconds` is the answer's `Date`, plus half a second for rounding, minus our clock when
        the headers arrived: exact to half a second plus network delay. Raises whatever `sign` raises.
        """
        async with self._slots:
            self.in_flight += 1
            try:
                yield await self._login(connection, sign)
            finally:
                self.in_flight -= 1

    async def _login(self, connection: Connection, sign: Sign) -> "Login":
        if not self.may_receive(connection.login_url):
            refused = NotSent("the login URL's host is not allowed to receive assertions")
            return Login(self, Exchange(self.now(), refused))
        async with self._signing:
            at, signed = self.now(), self._steady()
            form = _FORM + quote(sign(at))
            await asyncio.sleep(0)  # one signature per iteration of the loop, so that it isn't blocked
        started = time.perf_counter()
        answer = await self.ask(
            "POST", connection.token_endpoint, form, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        duration = time.perf_counter() - started
        set_by = self.now() - at - timedelta(seconds=self._steady() - signed)
        if abs(set_by) > CLOCK_SET:  # otherwise the org's `Date` would be compared with the clock before that
            at += set_by
        if isinstance(answer, NotSent):
            return Login(self, Exchange(at, answer))
        if isinstance(answer, Unreachable):
            return Login(self, Exchange(at, answer, duration_seconds=duration))
        outcome = _read(answer)
        offset = clock_offset(answer.headers.get("date"), at + timedelta(seconds=answer.waited_seconds))
        exchange = Exchange(at, outcome, duration_seconds=duration, clock_offset_seconds=offset)
        if not isinstance(outcome, Granted):
            return Login(self, exchange)
        return Login(self, exchange, _instance(outcome, connection), answer.body)

    def may_receive(self, url: str) -> bool:
        """Whether the address is on the allow list, and all parsers agree on its host."""
        return bool(_PLAIN_URL.fullmatch(url)) and may_receive_assertions(url, self.allowed_hosts)

    async def ask(
        self, method: str, url: str, form: str, headers: dict[str, str], most: int = MAX_ANSWER_BYTES
    ) -> Reply | Unreachable | NotSent:
        """One request: its answer, or why there is none."""
        try:
            sending = request(self._transport, method, url, _HEADERS | headers, form.encode())
        except ValueError:
            return NotSent("the address is not a usable URL")
        try:
            return await self._receive(sending, most)
        except tuple(FAULTS) as error:
            # The libraries' frames form a reference cycle with the error, which would keep the assertion in
            # memory until the next garbage collection.
            outcome = fault(error)
            traceback.clear_frames(error.__traceback__)
            return outcome

    async def _receive(self, sending: AbstractAsyncContextManager[Head], most: int) -> Reply | Unreachable:
        """Read the complete answer, within the limits."""
        started = time.perf_counter()
        deadline = started + self._limits.whole.total_seconds()
        raw = bytearray()
        async with sending as head:
            waited = time.perf_counter() - started
            while (piece := await head.read()) is not None:
                raw += piece
                if len(raw) > most:
                    too_large = f"more than {most // 1024} KiB, with status {head.status}"
                    return unreachable(FaultKind.PROTOCOL, too_large)
                # Checked between pieces, as httpcore's pool does not survive a cancellation.
                if time.perf_counter() > deadline:
                    return unreachable(FaultKind.TIMEOUT, f"{len(raw)} bytes received")
        try:
            body = decoded(bytes(raw), head.headers.get("content-encoding", ""), most)
        except ValueError as error:
            return unreachable(FaultKind.PROTOCOL, f"{error}, with status {head.status}")
        return Reply(head.status, body, head.headers, waited)


_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "bearerwatch",
}

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""A token that can be put into a header. Anything else would raise an error that quotes it."""

_USAGE = re.compile(r"api-usage=(\d{1,9})/(\d{1,9})")

_PLAIN_URL = re.compile(r"https?://[!-?A-\[\]-~]+", re.IGNORECASE)
"""ASCII without blanks, `@` and backslash, for which parsers disagree on where the host begins."""


def _read(answer: Reply) -> Granted | Refused | Unreachable:
    """Parse an answer. If our parser fails, the answer is unusable, but the login was made."""
    try:
        return read_answer(answer.status, answer.headers, answer.body)
    except Exception as bug:
        log.exception("answer_not_read", status=answer.status)
        detail = f"HTTP {answer.status}, which the monitor could not read ({type(bug).__name__})"
        return unreachable(FaultKind.PROTOCOL, detail)


def _instance(granted: Granted, connection: Connection) -> str:
    """The org's API base URL: the login URL (which may have a path) if the grant has the same origin. Empty
    if a remote org names this machine, to prevent requests to it.
    """
    named = granted.instance_url
    url = named if named and not f"{connection.login_url}/".startswith(f"{named}/") else connection.login_url
    return "" if is_loopback(url) and not is_loopback(connection.login_url) else url.rstrip("/")


class Login:
    """A login, and the REST API of the org that granted it. Keeps the token private."""

    def __init__(
        self, exchanger: Exchanger, exchange: Exchange, instance: str = "", answer: bytes = b""
    ) -> None:
        """`instance`: the API base URL; `answer`: the body with the token. Both empty without a grant."""
        self.exchange = exchange
        """The outcome, and what calls since then have shown."""
        self._exchanger, self._instance, self._answer = exchanger, instance, answer

    @cached_property
    def _token(self) -> str:
        """Empty without a grant. Most logins are followed by no call, and never need it."""
        return token_in(self._answer)

    @property
    def granted(self) -> Granted | None:
        """The grant, if there is one and the org takes its token."""
        call = self.exchange.after_login
        return self.exchange.granted if call is None or call.proves else None

    async def get(self, path: str) -> Reply | None:
        """One GET with the token; None if it was not made or not answered."""
        reply = await self._reply(path)
        return reply if isinstance(reply, Reply) else None

    async def first_call(self) -> None:
        """The first call with the token, if there is one."""
        if not self.granted:
            return
        called = await self._reply(REST_PATH)
        if isinstance(called, Reply):
            try:
                called = read_after_login(called.status, called.body)
            except Exception as bug:  # as in _read
                log.exception("answer_not_read", status=called.status)
                called = AfterLogin(called.status, "", f"not readable by the monitor ({type(bug).__name__})")
        self.exchange = replace(self.exchange, after_login=called)

    async def _reply(self, path: str) -> Reply | AfterLogin:
        """The answer, or why there is none."""
        url, headers = self._instance + path, {"Authorization": f"Bearer {self._token}"}
        if not _TOKEN.fullmatch(self._token):
            return AfterLogin(NO_STATUS, "", "not made: the token is not valid in a header")
        if not self._exchanger.may_receive(url):
            return AfterLogin(NO_STATUS, "", "not made: the org's API address is not an allowed host")
        answer = await self._exchanger.ask("GET", url, "", headers, most=LARGEST_ANSWER)
        if not isinstance(answer, Reply):
            return AfterLogin(NO_STATUS, "", answer.message)
        if httpx.codes.is_redirect(answer.status):
            return AfterLogin(answer.status, "", "a redirect, which is not followed")
        if used := _USAGE.search(answer.headers.get("sforce-limit-info", "")):
            usage = ApiUsage(int(used[1]), int(used[2]))
            self.exchange = replace(self.exchange, usage=usage)
        return answer


def clock_offset(date: str | None, now: datetime) -> float | None:
    """A `Date` header minus our clock, in seconds; None without a valid date."""
    server = http_date(date or "")
    return (server - now).total_seconds() + DATE_ROUNDING_SECONDS if server else None
