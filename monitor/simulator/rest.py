"""What an org answers beside its token endpoint: versions, resources, userinfo and queries.

Sources: Salesforce's REST API guide, and error answers *observed* in public threads.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from monitor.simulator import login
from monitor.simulator.org import TOKEN_PATH, Answer, Org, Request

OLDEST_VERSION = 31
NEWEST_VERSION = 68
"""Versions 21 to 30 are retired (REST API guide); 68 is Winter '27, current in autumn 2026."""

API_CALLS_A_DAY = 15_000
"""The allocation of a Developer Edition org (API limits sheet)."""

_IDENTITY_SCOPES = frozenset({"id", "openid", "profile", "email", "api", "full", "web"})
_REST_SCOPES = frozenset({"api", "full", "web"})

_SESSION_INVALID = (401, "INVALID_SESSION_ID", "Session expired or invalid")
_NOT_FOR_REST = (401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")
_API_DISABLED = (403, "API_CURRENTLY_DISABLED", "API is currently disabled for this user")
_NOT_FOUND = (404, "NOT_FOUND", "The requested resource does not exist")
_GET_ONLY = (405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed. Allowed are GET,HEAD")


def answer(org: Org, request: Request, now: datetime) -> Answer:
    """What the org answers to any request."""
    if request.path == TOKEN_PATH:
        return login.token(org, request, now)
    if gone := org.unavailable(request, now):
        return gone
    for pattern, handler in _PATHS:
        if found := pattern.fullmatch(request.path):
            if request.method not in {"GET", "HEAD"}:
                return _error(org, now, *_GET_ONLY)
            return handler(org, request, now, *found.groups())
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
    if refused := _rest_refusal(org, request, now, version):
        return refused
    at = f"{urlsplit(request.base).path}/services/data/v{version}.0"
    listed = {
        name: f"{at}/{name}" for name in ("tooling", "query", "queryAll", "search", "sobjects", "limits")
    }
    return _counted(org, now, 200, listed | {"identity": org.identity_url})


def _query(org: Org, request: Request, now: datetime, version: str) -> Answer:
    """`SELECT fields FROM object [WHERE field = 'text' AND …] [LIMIT n]`, on what the user may read."""
    if refused := _rest_refusal(org, request, now, version):
        return refused
    soql = parse_qs(request.query).get("q", [""])[0]
    found = _SOQL.fullmatch(soql)
    if found is None:
        text = f"unexpected token: '{soql.split(maxsplit=1)[0] if soql.split() else '<EOF>'}'"
        return _counted_error(org, now, 400, "MALFORMED_QUERY", text)
    kind = next((name for name in _OBJECTS if name.lower() == found["object"].lower()), "")
    if not kind or (kind in _NEEDS_VIEW_SETUP and not org.in_force(now).view_setup):
        text = f"sObject type '{found['object']}' is not supported."
        return _counted_error(org, now, 400, "INVALID_TYPE", text)
    fields = [name.strip() for name in found["fields"].split(",")]
    conditions = _CONDITION.findall(found["where"] or "")
    base = f"{urlsplit(request.base).path}/services/data/v{version}.0/sobjects/{kind}"
    records = []
    for row in _OBJECTS[kind](org, now):
        by_name = {name.lower(): (name, value) for name, value in row.items()}
        for name in (*fields, *(field for field, _, _ in conditions)):
            if name.lower() not in by_name:
                text = f"No such column '{name}' on entity '{kind}'."
                return _counted_error(org, now, 400, "INVALID_FIELD", text)
        if all(_holds(by_name[field.lower()][1], *rest) for field, *rest in conditions):
            attributes = {"type": kind, "url": f"{base}/{row['Id']}"}
            records.append({"attributes": attributes} | _selected(by_name[name.lower()] for name in fields))
    del records[int(found["limit"] or 2000) :]
    return _counted(org, now, 200, {"totalSize": len(records), "done": True, "records": records})


def _selected(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Fields of a record; one of a parent's (`PermissionSet.Label`) stands within the parent."""
    record: dict[str, object] = {}
    for name, value in fields:
        parent, _, of_parent = name.partition(".")
        record[parent] = {"attributes": {"type": parent}, of_parent: value} if of_parent else value
    return record


_SOQL = re.compile(
    r"\s*select\s+(?P<fields>[\w.]+(?:\s*,\s*[\w.]+)*)\s+from\s+(?P<object>\w+)"
    r"(?:\s+where\s+(?P<where>[\w.]+\s*!?=\s*(?:'[^']*'|null)(?:\s+and\s+[\w.]+\s*!?=\s*(?:'[^']*'|null))*))?"
    r"(?:\s+limit\s+(?P<limit>\d{1,6}))?\s*",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"([\w.]+)\s*(!?=)\s*('[^']*'|null)", re.IGNORECASE)


def _holds(value: object, operator: str, wanted: str) -> bool:
    """Whether a field's value is what a condition asks for."""
    same = value is None if wanted.lower() == "null" else value == wanted[1:-1]
    return same is (operator == "=")


def _organization(org: Org, now: datetime) -> Iterable[dict[str, object]]:
    yield {"Id": org.org_id, "Name": org.name, "IsSandbox": org.settings.org_type == "sandbox"}


def _user(org: Org, now: datetime) -> Iterable[dict[str, object]]:
    settings = org.in_force(now)
    yield {"Id": org.user_id, "Username": settings.username, "IsActive": settings.user_active}


def _login_history(org: Org, now: datetime) -> Iterable[dict[str, object]]:
    for number, row in enumerate(reversed(org.logins)):
        yield {
            "Id": f"0Ya{number:012}AAA",
            "UserId": org.user_id,
            "LoginTime": row.time.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "LoginType": "Remote Access 2.0",
            "Status": row.status,
            "SourceIp": "127.0.0.1",
            "Application": "Integration",
        }


def _assignments(org: Org, now: datetime) -> Iterable[dict[str, object]]:
    settings = org.in_force(now)
    ends = org.permission_set_ends(settings)
    if org.has_permission_set(settings, now):
        yield {
            "Id": "0Pa000000000001AAA",
            "AssigneeId": org.user_id,
            "PermissionSet.Label": "Integration User Permission Set",
            "ExpirationDate": ends.strftime("%Y-%m-%dT%H:%M:%S.000+0000") if ends else None,
        }


_OBJECTS: dict[str, Callable[[Org, datetime], Iterable[dict[str, object]]]] = {
    "Organization": _organization,
    "User": _user,
    "LoginHistory": _login_history,
    "PermissionSetAssignment": _assignments,
}

_NEEDS_VIEW_SETUP = frozenset({"PermissionSetAssignment"})
"""Objects that are not there for a user without View Setup and Configuration (object reference)."""


def _userinfo(org: Org, request: Request, now: datetime) -> Answer:
    """The OpenID Connect facts on the user. Its refusals are plain text (*observed*)."""
    if not request.authorization:
        return org.reply(now, 403, b"Missing_OAuth_Token", "text/html;charset=UTF-8")
    settings = org.in_force(now)
    if not org.admits(request.authorization, now) or _IDENTITY_SCOPES.isdisjoint(settings.scopes):
        return org.reply(now, 403, b"Bad_OAuth_Token", "text/html;charset=UTF-8")
    facts = {
        "sub": org.identity_url,
        "user_id": org.user_id,
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
    (re.compile(r"/services/data/v(\d+)\.0/query/?"), _query),
    (re.compile(r"/services/data/?"), _versions),
    (re.compile(r"/services/oauth2/userinfo"), _userinfo),
)


def _rest_refusal(org: Org, request: Request, now: datetime, version: str) -> Answer | None:
    """Why the REST API does not serve this request; None where it does."""
    settings = org.in_force(now)
    if not org.admits(request.authorization, now):
        return _error(org, now, *_SESSION_INVALID)
    if _REST_SCOPES.isdisjoint(settings.scopes) or settings.api_access_control:
        return _error(org, now, *_NOT_FOR_REST)
    if not settings.api_enabled:
        return _error(org, now, *_API_DISABLED)
    if not OLDEST_VERSION <= int(version[:4]) <= NEWEST_VERSION:
        return _error(org, now, *_NOT_FOUND)
    return None


def _reply(
    org: Org, now: datetime, status: int, value: object, more: tuple[tuple[str, str], ...] = ()
) -> Answer:
    return org.reply(now, status, json.dumps(value, separators=(",", ":")).encode(), more=more)


def _counted(org: Org, now: datetime, status: int, value: object) -> Answer:
    """An answer that used up a part of the day's allocation, and says so."""
    usage = f"api-usage={org.api_usage(now)}/{API_CALLS_A_DAY}"
    return _reply(org, now, status, value, (("Sforce-Limit-Info", usage),))


def _error(org: Org, now: datetime, status: int, code: str, message: str) -> Answer:
    return _reply(org, now, status, [{"message": message, "errorCode": code}])


def _counted_error(org: Org, now: datetime, status: int, code: str, message: str) -> Answer:
    return _counted(org, now, status, [{"message": message, "errorCode": code}])
