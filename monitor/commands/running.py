"""HTTP client for the running daemon: reads status, requests checks."""

import os
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import httpx

from monitor.config import Address, Settings
from monitor.core.problem import OperatorError
from monitor.core.verdict.answer import harmless

PASSWORD = "BEARERWATCH_PASSWORD"  # noqa: S105 - the name of a variable
"""The environment variable with the password of `--user`."""

ANSWER_SECONDS = 10.0
"""Timeout for the daemon; its largest answer takes one second."""

CHECKED_WITHIN_SECONDS = 60.0
"""How long to wait for checks: longer than a hanging one."""

Shown = Mapping[str, Any]
"""A connection in `/api/status`."""


class NoAnswerError(OperatorError):
    """The daemon can't be reached. The message says why."""


class Running:
    """A configuration's running daemon."""

    def __init__(self, settings: Settings, url: str = "", user: str = "") -> None:
        self._url = (url or _address(settings)).rstrip("/")
        if url and not re.fullmatch(r"https?://[^/@]+(/[^@]*)?", url, re.IGNORECASE):
            raise NoAnswerError(
                "--url must be a plain URL, e.g. http://127.0.0.1:9877. Give the user with --user, and the"
                f" password in {PASSWORD}."
            )
        context = ssl.create_default_context()
        if settings.ca_file:
            context.load_verify_locations(settings.ca_file)
        auth = (user, os.environ.get(PASSWORD, "")) if user else None
        try:
            self._client = httpx.Client(
                base_url=self._url, auth=auth, verify=context, timeout=ANSWER_SECONDS, trust_env=False
            )
        except httpx.InvalidURL as problem:
            raise NoAnswerError(
                f"{self._url} is not a URL ({problem}). Use e.g. http://127.0.0.1:9877."
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def shown(self) -> dict[str, Shown]:
        """All connections by name. Raises NoAnswerError."""
        try:
            connections = self._asked("GET", "/api/status")["connections"]
            return {one["name"]: one for one in connections if one["host"] and one["state"]}
        except (KeyError, TypeError):
            raise self._something_else() from None

    def ask(self, path: str) -> dict[str, str]:
        """Ask for checks. Gives those put off for want of a login, and until when. Raises NoAnswerError."""
        put_off: dict[str, str] = self._asked("POST", path)["put_off_until"]
        return put_off

    def _asked(self, method: str, path: str) -> Any:
        try:
            answer = self._client.request(method, path)
        except (httpx.HTTPError, UnicodeError) as problem:  # the latter of a host that cannot be a name
            reason = harmless(re.sub(r"^\[Errno -?\d+\] ", "", str(problem))) or type(problem).__name__
            raise NoAnswerError(
                f"No daemon answers at {self._url} ({reason}). Is it running there? If it is"
                " elsewhere, use --url."
            ) from None
        if answer.status_code == 401:
            raise NoAnswerError(
                f"{self._url} requires a login: use --user NAME, with the password in {PASSWORD}."
            )
        if answer.is_error:
            try:
                said = answer.json()["error"]
            except (ValueError, KeyError, TypeError):
                is_page = "html" in answer.headers.get("content-type", "")  # of a proxy, or another server
                said = answer.reason_phrase if is_page else answer.text
            raise NoAnswerError(f"{self._url} answers {answer.status_code}: {harmless(str(said))}")
        try:
            return answer.json()
        except ValueError:
            raise self._something_else() from None

    def _something_else(self) -> NoAnswerError:
        return NoAnswerError(f"The server at {self._url} is not bearerwatch.")


def rechecked(
    daemon: Running,
    names: Sequence[str],
    causes: Sequence[str],
    tell: Callable[[Shown], None],
    *,
    within: float = CHECKED_WITHIN_SECONDS,
) -> tuple[dict[str, Shown], dict[str, str], list[str]]:
    """Check connections, and all with one of these causes; wait, and give their new state. Calls `tell` with
    each as it arrives.

    Also gives those that are not checked now, each with a sentence that says why, and those not checked in
    time. Raises NoAnswerError, also if the daemon refuses all for the same reason.
    """
    before = daemon.shown()
    others = [
        name
        for name, one in before.items()
        if name not in names and any(found["cause"] in causes for found in one["findings"])
    ]
    requests = {f"/api/connections/{name}/check": [name] for name in names}
    if causes:
        requests["/api/checks?" + "&".join(f"cause={cause}" for cause in causes)] = others
    put_off, refused, problem = dict[str, str](), dict[str, str](), None
    for path, concerned in requests.items():
        try:
            put_off |= daemon.ask(path)
        except NoAnswerError as why:
            problem = why
            refused |= dict.fromkeys(concerned, str(why))
    wanted = {*names, *others}
    if problem and refused.keys() == wanted and len(set(refused.values())) <= 1:
        raise problem
    late = {name: f"No login is left for checks on request until {until}." for name, until in put_off.items()}
    refused = late | refused
    found: dict[str, Shown] = {}
    until = time.monotonic() + within
    while (waiting := wanted - found.keys() - refused.keys()) and time.monotonic() < until:
        time.sleep(0.5)
        now = daemon.shown()
        for name in waiting & now.keys():
            if name not in before or _checks(now[name]) != _checks(before[name]):
                found[name] = now[name]
                tell(now[name])
    return found, refused, sorted(waiting)


def _checks(one: Shown) -> tuple[Any, Any]:
    """What a check changes; if nothing could be sent, only the time."""
    return one["exchanges"], one["last_exchange"]


def _address(settings: Settings) -> str:
    if settings.protection.tls is not None and settings.web.external_url:
        return settings.web.external_url
    host = settings.listen.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not listened at
    scheme = "https" if settings.protection.tls is not None else "http"
    return f"{scheme}://{Address(host, settings.listen.port)}"
