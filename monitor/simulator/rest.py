"""An org's REST API, from Salesforce's guide and error answers *observed* in public threads."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from monitor.simulator import login, records, soql
from monitor.simulator.org import Answer, Org, Request
from monitor.simulator.soql import QueryError

TOKEN_PATH = "/services/oauth2/token"  # noqa: S105 - a path

OLDEST_VERSION = 31
NEWEST_VERSION = 68
"""Versions 21 to 30 are retired (REST API guide); 68 is Winter '27, current in autumn 2026."""

FEWEST_ROWS, MOST_ROWS = 200, 2000

_IDENTITY_SCOPES = frozenset({"id", "openid", "profile", "email", "api", "full", "web"})
_REST_SCOPES = frozenset({"api", "full", "web"})

_SESSION_INVALID = (401, "INVALID_SESSION_ID", "Session expired or invalid")
_NOT_FOR_REST = (401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")
_API_DISABLED = (403, "API_CURRENTLY_DISABLED", "API is currently disabled for this user")
_LIMIT_EXCEEDED = (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
_NOT_FOUND = (404, "NOT_FOUND", "The requested resource does not exist")
_GET_ONLY = (405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed. Allowed are GET,HEAD")

_MAINTENANCE_PAGE = (
    b"<html><head><title>Data Not Available</title></head>"
    b"<body><h1>Data Not Available</h1><p>The data you were trying to access could not be found.</p>"
    b"</body></html>"
)
_ERROR_PAGE = (
    b"<html><head><title>Error</title></head><body>An internal server error has occurred</body></html>"
)


class _RefusedError(Exception):
    """The REST API refuses a request, with status, code and text."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A GET request to an org."""

    org: Org
    request: Request
    now: datetime
    version: str = ""
    tooling: str = ""
    """`tooling/` if the path has it."""
    name: str = ""

    @property
    def at(self) -> str:
        return f"{urlsplit(self.request.base).path}/services/data/v{self.version}.0/{self.tooling}"

    def view(self) -> records.View:
        """The org as the caller sees it. Raises _RefusedError."""
        org, now = self.org, self.now
        settings = org.reader(self.request.authorization, now)
        if settings is None:
            raise _RefusedError(*_SESSION_INVALID)
        if _REST_SCOPES.isdisjoint(settings.scopes) or settings.api_access_control:
            raise _RefusedError(*_NOT_FOR_REST)
        if not org.may_use_api(settings, now):
            raise _RefusedError(*_API_DISABLED)
        if not OLDEST_VERSION <= int(self.version[:4]) <= NEWEST_VERSION:
            raise _RefusedError(*_NOT_FOUND)
        if org.api_usage(now, calls=0) >= org.settings.api_calls_a_day:
            raise _RefusedError(*_LIMIT_EXCEEDED)
        return records.View(org, settings, now, "tooling" if self.tooling else "query")

    def counted(self, value: object, status: int = 200) -> Answer:
        """An answer that counts towards the daily allocation, with the header that says so."""
        usage = f"api-usage={self.org.api_usage(self.now)}/{self.org.settings.api_calls_a_day}"
        return self.org.reply(self.now, status, value, (("Sforce-Limit-Info", usage),))


def answer(org: Org, request: Request, now: datetime) -> Answer:
    """The org's answer to any request."""
    org.let_production_log_in(now)
    at_login = request.path == TOKEN_PATH
    if org.settings.maintenance:
        # The login server's status for this page is not recorded: 200 is the harder case. The REST API
        # answers 503.
        return org.reply(now, 200 if at_login else 503, _MAINTENANCE_PAGE)
    if org.settings.fault == "error_500":
        return org.reply(now, 500, _ERROR_PAGE)
    if at_login:
        return login.token(org, request, now)
    for pattern, handler in _PATHS:
        if found := pattern.fullmatch(request.path):
            if request.method not in {"GET", "HEAD"}:
                return _error(org, now, *_GET_ONLY)
            call = _Call(org, request, now, **found.groupdict(""))
            try:
                return handler(call)
            except _RefusedError as refused:
                return _error(org, now, *refused.args)
            except QueryError as wrong:
                return call.counted([{"message": wrong.text, "errorCode": wrong.code}], 400)
    return _error(org, now, *_NOT_FOUND)


def _versions(call: _Call) -> Answer:
    """All versions, oldest first. "You don't need authentication" (REST API guide)."""
    base = urlsplit(call.request.base).path
    listed = [
        {"label": _label(number), "url": f"{base}/services/data/v{number}.0", "version": f"{number}.0"}
        for number in range(OLDEST_VERSION, NEWEST_VERSION + 1)
    ]
    return call.org.reply(call.now, 200, listed)


def _label(version: int) -> str:
    """The release's name: three a year, and 31 was Summer '14."""
    nth = version - OLDEST_VERSION
    return f"{('Summer', 'Winter', 'Spring')[nth % 3]} '{14 + (nth + 2) // 3}"


def _resources(call: _Call) -> Answer:
    reader = call.view().reader
    listed = {
        name: f"{call.at}{name}" for name in ("tooling", "query", "queryAll", "search", "sobjects", "limits")
    }
    return call.counted(listed | {"identity": call.org.identity_url(reader)})


def _query(call: _Call) -> Answer:
    """A query's first page, or with `columns=true`, as the CLI sends, only its columns."""
    asked = parse_qs(call.request.query)
    view = call.view()
    query = records.parsed(view, asked.get("q", [""])[0])
    if asked.get("columns") != ["true"]:
        return _page(call, view, query, 0)
    found = records.answer(view, query)
    return call.counted({"columnMetadata": _columns(found.fields), "entityName": found.entity})


def _more(call: _Call) -> Answer:
    """A later page. The locator holds query and offset, so the org need not remember them."""
    view = call.view()
    text, _, start = call.name.removeprefix("01g").rpartition("-")
    try:
        query, first = records.parsed(view, urlsafe_b64decode(text + "===").decode()), int(start)
    except ValueError:
        raise QueryError("INVALID_QUERY_LOCATOR", "invalid query locator") from None
    return _page(call, view, query, first)


def _page(call: _Call, view: records.View, query: soql.Query, start: int) -> Answer:
    found = records.answer(view, query)
    end = start + _batch(call.request)
    page = [_record(found, *row, call.at) for row in found.rows[start:end]]
    said: dict[str, object] = {"totalSize": len(found.rows), "done": end >= len(found.rows), "records": page}
    if end < len(found.rows):
        locator = urlsafe_b64encode(query.text.encode()).decode().rstrip("=")
        said["nextRecordsUrl"] = f"{call.at}query/01g{locator}-{end}"
    return call.counted(said)


def _batch(request: Request) -> int:
    """The page size: `Sforce-Query-Options: batchSize=200`, from 200 to 2,000 (REST API guide)."""
    asked = re.search(r"batchSize=(\d{1,6})", request.query_options)
    return min(max(int(asked[1]), FEWEST_ROWS), MOST_ROWS) if asked else MOST_ROWS


def _record(found: records.Found, key: str, values: tuple[object, ...], at: str) -> dict[str, object]:
    """A record as JSON; a parent's field (`PermissionSet.License.Name`) is nested in the parent."""
    attributes = {"type": found.entity, "url": f"{at}sobjects/{found.entity}/{key}"}
    record: dict[str, Any] = {"attributes": attributes}
    for path, value in zip(found.fields, values, strict=True):
        *parents, name = path.split(".")
        within = record
        for parent in parents:
            within = within.setdefault(parent, {"attributes": {"type": _TYPES.get(parent, parent)}})
        within[name] = value.strftime("%Y-%m-%dT%H:%M:%S.000+0000") if isinstance(value, datetime) else value
    return record


_TYPES = {
    "Parent": "PermissionSet",
    "License": "PermissionSetLicense",
    "CreatedBy": "User",
    "LastModifiedBy": "User",
}
"""A relation's object, if its name differs."""


def _columns(paths: Iterable[str]) -> list[dict[str, object]]:
    within: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        within.setdefault(name, []).extend([rest] if rest else [])
    return [
        {"columnName": name, "displayName": name, "aggregate": False, "joinColumns": _columns(joined)}
        for name, joined in within.items()
    ]


def _describe(call: _Call) -> Answer:
    """An object's fields, and what the user may do with its records; 404 if the user can't see it."""
    view = call.view()
    kind = records.readable(view, call.name)
    known = {one.lower(): one for one in view.reader.objects}.get(call.name.lower())
    if kind is None and known is None:
        raise _RefusedError(*_NOT_FOUND)
    allowed = ("read",) if known is None else view.reader.objects[known]
    listed = ("Id", "Name") if kind is None else records.fields(view, kind).values()
    described = {
        "name": kind or known,
        "queryable": "read" in allowed,
        "retrieveable": "read" in allowed,
        **dict.fromkeys(("createable", "updateable", "deletable"), "write" in allowed),
        "fields": [{"name": field} for field in listed if "." not in field],
    }
    return call.counted(described)


def _limits(call: _Call) -> Answer:
    """The org's allocations. The text of a refusal is not recorded."""
    if "ViewSetup" not in call.view().reader.permissions:
        raise _RefusedError(403, "FORBIDDEN", "You do not have access to the limits of this org")
    most = call.org.settings.api_calls_a_day
    left = max(most - call.org.api_usage(call.now, calls=0) - 1, 0)
    return call.counted({"DailyApiRequests": {"Max": most, "Remaining": left}})


def _userinfo(call: _Call) -> Answer:
    """The user's OpenID Connect claims. Refusals are plain text (*observed*)."""
    org, request, now = call.org, call.request, call.now
    if not request.authorization:
        return org.reply(now, 403, b"Missing_OAuth_Token")
    settings = org.reader(request.authorization, now)
    if settings is None or _IDENTITY_SCOPES.isdisjoint(settings.scopes):
        return org.reply(now, 403, b"Bad_OAuth_Token")
    facts = {
        "sub": org.identity_url(settings),
        "user_id": org.user_id(settings),
        "organization_id": org.org_id,
        "preferred_username": settings.username,
        "nickname": settings.username.partition("@")[0],
        "name": "Integration User",
        "email": settings.username,
        "email_verified": True,
        "user_type": "STANDARD",
        "active": True,
        "urls": {"rest": f"{request.base}/services/data/v{{version}}/"},
    }
    return org.reply(now, 200, facts)


_DATA = r"/services/data/v(?P<version>\d+)\.0"
_PATHS: tuple[tuple[re.Pattern[str], Callable[[_Call], Answer]], ...] = (
    (re.compile(f"{_DATA}/?"), _resources),
    (re.compile(f"{_DATA}/(?P<tooling>tooling/)?query/?"), _query),
    (re.compile(rf"{_DATA}/(?P<tooling>tooling/)?query/(?P<name>01g[\w-]+)"), _more),
    (re.compile(rf"{_DATA}/(?P<tooling>tooling/)?sobjects/(?P<name>\w+)/describe/?"), _describe),
    (re.compile(f"{_DATA}/limits/?"), _limits),
    (re.compile(r"/services/data/?"), _versions),
    (re.compile(r"/services/oauth2/userinfo"), _userinfo),
)


def _error(org: Org, now: datetime, status: int, code: str, message: str) -> Answer:
    return org.reply(now, status, [{"message": message, "errorCode": code}])
