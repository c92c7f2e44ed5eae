"""What an org answers beside its token endpoint: versions, resources, userinfo, queries, limits.

Sources: Salesforce's REST API guide, and error answers *observed* in public threads.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from monitor.simulator import login, records
from monitor.simulator.org import TOKEN_PATH, Answer, Org, Request
from monitor.simulator.settings import OrgSettings
from monitor.simulator.soql import QueryError

OLDEST_VERSION = 31
NEWEST_VERSION = 68
"""Versions 21 to 30 are retired (REST API guide); 68 is Winter '27, current in autumn 2026."""

FEWEST_ROWS, MOST_ROWS = 200, 2000
"""Of a page that a query is answered with."""

_IDENTITY_SCOPES = frozenset({"id", "openid", "profile", "email", "api", "full", "web"})
_REST_SCOPES = frozenset({"api", "full", "web"})

_SESSION_INVALID = (401, "INVALID_SESSION_ID", "Session expired or invalid")
_NOT_FOR_REST = (401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")
_API_DISABLED = (403, "API_CURRENTLY_DISABLED", "API is currently disabled for this user")
_LIMIT_EXCEEDED = (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
_NOT_FOUND = (404, "NOT_FOUND", "The requested resource does not exist")
_GET_ONLY = (405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed. Allowed are GET,HEAD")


class _RefusedError(Exception):
    """The REST API does not serve a request: status, code and text."""


def answer(org: Org, request: Request, now: datetime) -> Answer:
    """What the org answers to any request."""
    org.let_production_log_in(now)
    if request.path == TOKEN_PATH:
        return login.token(org, request, now)
    if gone := org.unavailable(request, now):
        return gone
    for pattern, handler in _PATHS:
        if found := pattern.fullmatch(request.path):
            if request.method not in {"GET", "HEAD"}:
                return _error(org, now, *_GET_ONLY)
            try:
                return handler(org, request, now, *found.groups())
            except _RefusedError as refused:
                return _error(org, now, *refused.args)
            except QueryError as wrong:
                return _counted_error(org, now, 400, wrong.code, wrong.text)
    return _error(org, now, *_NOT_FOUND)


def _versions(org: Org, request: Request, now: datetime) -> Answer:
    """All versions, newest last; "You don't need authentication" (REST API guide)."""
    base = urlsplit(request.base).path
    listed = [
        {"label": _label(number), "url": f"{base}/services/data/v{number}.0", "version": f"{number}.0"}
        for number in range(OLDEST_VERSION, NEWEST_VERSION + 1)
    ]
    return _reply(org, now, 200, listed)


def _label(version: int) -> str:
    """The release's name: three a year, and 31 was Summer '14."""
    nth = version - OLDEST_VERSION
    return f"{('Summer', 'Winter', 'Spring')[nth % 3]} '{14 + (nth + 2) // 3}"


def _resources(org: Org, request: Request, now: datetime, version: str) -> Answer:
    reader = _reader(org, request, now, version)
    at = f"{urlsplit(request.base).path}/services/data/v{version}.0"
    listed = {
        name: f"{at}/{name}" for name in ("tooling", "query", "queryAll", "search", "sobjects", "limits")
    }
    return _counted(org, now, 200, listed | {"identity": org.identity_url(reader)})


def _query(org: Org, request: Request, now: datetime, version: str, tooling: str | None) -> Answer:
    """The first page of what a query finds."""
    soql = parse_qs(request.query).get("q", [""])[0]
    return _page(org, request, now, version, tooling, soql, 0)


def _more(
    org: Org, request: Request, now: datetime, version: str, tooling: str | None, locator: str
) -> Answer:
    """A later page: the locator holds the query and where to go on, as the org remembers neither."""
    soql, start = _read_locator(locator)
    return _page(org, request, now, version, tooling, soql, start)


def _page(
    org: Org, request: Request, now: datetime, version: str, tooling: str | None, soql: str, start: int
) -> Answer:
    reader = _reader(org, request, now, version)
    kind, rows = records.answer(org, reader, soql, "tooling" if tooling else "query", now)
    at = f"{urlsplit(request.base).path}/services/data/v{version}.0/{tooling or ''}"
    end = start + _batch(request)
    page = [_record(kind, row, f"{at}sobjects/{kind}/{key}") for key, row in rows[start:end]]
    found: dict[str, object] = {"totalSize": len(rows), "done": end >= len(rows), "records": page}
    if end < len(rows):
        found["nextRecordsUrl"] = f"{at}query/{_locator(soql, end)}"
    return _counted(org, now, 200, found)


def _batch(request: Request) -> int:
    """Rows of a page: `Sforce-Query-Options: batchSize=200`, from 200 to 2,000 (REST API guide)."""
    asked = re.search(r"batchSize=(\d{1,6})", request.query_options)
    return min(max(int(asked[1]), FEWEST_ROWS), MOST_ROWS) if asked else MOST_ROWS


def _locator(soql: str, start: int) -> str:
    return f"01g{urlsafe_b64encode(soql.encode()).decode().rstrip('=')}-{start}"


def _read_locator(locator: str) -> tuple[str, int]:
    text, _, start = locator.removeprefix("01g").rpartition("-")
    try:
        return urlsafe_b64decode(text + "===").decode(), int(start)
    except ValueError:
        return "", 0


def _record(kind: str, row: records.Row, url: str) -> dict[str, object]:
    """A record as JSON; a parent's field (`PermissionSet.License.Name`) is within the parent."""
    record: dict[str, Any] = {"attributes": {"type": kind, "url": url}}
    for path, value in row.items():
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
"""What a relation leads to, where it has not the name of its object."""


def _describe(
    org: Org, request: Request, now: datetime, version: str, tooling: str | None, name: str
) -> Answer:
    """What the user may do with an object's records, and its fields; not there where it may not see them."""
    reader = _reader(org, request, now, version)
    kind = records.readable(org, reader, name, "tooling" if tooling else "query")
    known = {one.lower(): one for one in reader.objects}.get(name.lower())
    if kind is None and known is None:
        return _counted_error(org, now, *_NOT_FOUND)
    allowed = ("read",) if known is None else reader.objects[known]
    listed = ("Id", "Name") if kind is None else records.fields(org, kind).values()
    described = {
        "name": kind or known,
        "queryable": "read" in allowed,
        "retrieveable": "read" in allowed,
        **dict.fromkeys(("createable", "updateable", "deletable"), "write" in allowed),
        "fields": [{"name": field} for field in listed if "." not in field],
    }
    return _counted(org, now, 200, described)


def _limits(org: Org, request: Request, now: datetime, version: str) -> Answer:
    """The org's allocations. The words of its refusal are not recorded."""
    reader = _reader(org, request, now, version)
    if "ViewSetup" not in reader.permissions:
        return _counted_error(org, now, 403, "FORBIDDEN", "You do not have access to the limits of this org")
    most = org.settings.api_calls_a_day
    left = max(most - org.api_usage(now, calls=0) - 1, 0)
    return _counted(org, now, 200, {"DailyApiRequests": {"Max": most, "Remaining": left}})


def _userinfo(org: Org, request: Request, now: datetime) -> Answer:
    """The OpenID Connect facts on the user. Its refusals are plain text (*observed*)."""
    if not request.authorization:
        return org.reply(now, 403, b"Missing_OAuth_Token", "text/html;charset=UTF-8")
    settings = org.reader(request.authorization, now)
    if settings is None or _IDENTITY_SCOPES.isdisjoint(settings.scopes):
        return org.reply(now, 403, b"Bad_OAuth_Token", "text/html;charset=UTF-8")
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
    return _reply(org, now, 200, facts)


_PATHS: tuple[tuple[re.Pattern[str], Callable[..., Answer]], ...] = (
    (re.compile(r"/services/data/v(\d+)\.0/?"), _resources),
    (re.compile(r"/services/data/v(\d+)\.0/(tooling/)?query/?"), _query),
    (re.compile(r"/services/data/v(\d+)\.0/(tooling/)?query/(01g[\w-]+)"), _more),
    (re.compile(r"/services/data/v(\d+)\.0/(tooling/)?sobjects/(\w+)/describe/?"), _describe),
    (re.compile(r"/services/data/v(\d+)\.0/limits/?"), _limits),
    (re.compile(r"/services/data/?"), _versions),
    (re.compile(r"/services/oauth2/userinfo"), _userinfo),
)


def _reader(org: Org, request: Request, now: datetime, version: str) -> OrgSettings:
    """The settings of whoever asks; raises where the REST API does not serve this request."""
    settings = org.reader(request.authorization, now)
    if settings is None:
        raise _RefusedError(*_SESSION_INVALID)
    if _REST_SCOPES.isdisjoint(settings.scopes) or settings.api_access_control:
        raise _RefusedError(*_NOT_FOR_REST)
    if not org.may_use_api(settings, now):
        raise _RefusedError(*_API_DISABLED)
    if not OLDEST_VERSION <= int(version[:4]) <= NEWEST_VERSION:
        raise _RefusedError(*_NOT_FOUND)
    if org.api_usage(now, calls=0) >= org.settings.api_calls_a_day:
        raise _RefusedError(*_LIMIT_EXCEEDED)
    return settings


def _reply(
    org: Org, now: datetime, status: int, value: object, more: tuple[tuple[str, str], ...] = ()
) -> Answer:
    return org.reply(now, status, json.dumps(value, separators=(",", ":")).encode(), more=more)


def _counted(org: Org, now: datetime, status: int, value: object) -> Answer:
    """An answer that used up a part of the day's allocation, and says so."""
    usage = f"api-usage={org.api_usage(now)}/{org.settings.api_calls_a_day}"
    return _reply(org, now, status, value, (("Sforce-Limit-Info", usage),))


def _error(org: Org, now: datetime, status: int, code: str, message: str) -> Answer:
    return _reply(org, now, status, [{"message": message, "errorCode": code}])


def _counted_error(org: Org, now: datetime, status: int, code: str, message: str) -> Answer:
    return _counted(org, now, status, [{"message": message, "errorCode": code}])
