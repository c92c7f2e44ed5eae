"""Reads an audit's facts with the token of a fresh exchange.

Only REST GETs, at most CALLS of them, with bounded answers. What the org does not show is recorded with the
reason. Objects that the standard API does not know are tried once with the Tooling API.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import urlencode

from monitor.core.inside import Facts, summed
from monitor.core.reads import (
    OBJECT,
    QUERIES,
    Permission,
    Query,
    Read,
    Row,
    Rows,
    Value,
    text,
    time_in,
)
from monitor.core.verdict.answer import CODE_LIMIT, harmless, read_after_login

REST_PATH = "/services/data/v62.0/"
"""The list of REST resources: the cheapest call that requires "API Enabled" and a suitable scope."""

LARGEST_ANSWER = 256 * 1024
"""500 rows of Login History have about 170 KiB. Larger answers, such as some profiles, are not read."""

CALLS = 8
"""Most GETs per audit: each counts against the org's API allocation, shared with production; the smallest is
15,000 a day (API limits sheet)."""

LARGEST_NUMBER = 1e15
"""Larger than any number that is read, and exact as a float."""

OUR_LOGIN_WITHIN = timedelta(seconds=90)
"""How far our login's row in Login History may be from our exchange: network delay and clock offset."""

Get = Callable[[str], Awaitable["Reply | None"]]
"""One GET of a path of the org, with the token; None without an answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    body: bytes = field(repr=False)
    """May contain a token after a login, so this one must not leave `exchange`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    waited_seconds: float = field(default=0.0, compare=False)
    """From the start to the headers."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of an audit, and what is known about it beforehand."""

    username: str
    app: str
    """The configured app name; may be empty."""
    user_id: str
    """Empty before the first grant."""
    exchanged: datetime
    """The connection's last login attempt, by the org's clock."""
    granted: bool
    scopes: frozenset[str] | None = None
    changes_since: datetime | None = None
    """Read changes in Setup since then; None: don't."""
    objects: tuple[str, ...] = ()


async def read(
    get: Get, subject: Subject, facts: Facts, *, own_alone: bool = False, calls: int = CALLS
) -> Facts:
    """The facts, completed with what this token shows. `own_alone`: only what observers can't see."""
    session = _Session(get, subject, facts, calls)
    for one, query in QUERIES.items():
        if one not in facts.rows and (query.own or not own_alone) and _is_wanted(one, session.facts, subject):
            await session.read(one, query)
    return session.facts


def lasting(last: Facts) -> Rows:
    """The app's id, while it leads to policies, and an org that does not expire: not read again."""
    kept: Rows = {}
    if last.first(Read.POLICY) or last.first(Read.CLASSIC):
        kept[Read.APP] = last.rows.get(Read.APP, ())
    if (row := last.first(Read.ORG)) and not row.get("TrialExpirationDate"):
        kept[Read.ORG] = (row,)
    return kept


def _is_wanted(one: Read, facts: Facts, subject: Subject) -> bool:
    match one:
        case Read.USER:
            return bool(facts.observer) and not (subject.user_id and facts.has(Permission.MANAGE_USERS))
        case Read.ORG:
            return subject.granted
        case Read.SANDBOXES:
            org = facts.first(Read.ORG)
            return org is not None and org.get("IsSandbox") is False
        case Read.OBJECTS:
            return subject.granted and bool(subject.objects)
        case Read.ENABLED:
            return not subject.granted
        case Read.CLASSIC:
            return Read.POLICY not in facts.rows
        case Read.ASSOCIATION:
            return facts.policy is None or facts.policy.permitted != "self"
        case Read.TRAIL:
            return subject.changes_since is not None
        case Read.TOKENS:
            return not facts.observer and (facts.policy is None or facts.policy.refresh != "until_revoked")
        case Read.SCOPES:
            return subject.scopes is None or "refresh_token" not in subject.scopes
        case _:
            return True


class _Session:
    """One audit's calls with one token."""

    def __init__(self, get: Get, subject: Subject, facts: Facts, calls: int) -> None:
        self._get, self._subject, self._left = get, subject, calls
        self._tooling = False
        self._over = ""
        """Why no more calls are made; empty while they are."""
        self.facts = facts

    async def read(self, one: Read, query: Query) -> None:
        """Read one item, if possible."""
        if self._over or self.facts.lacks(one):
            return self._unread(one, self._over)
        try:
            soql = query.filled(_values(self._subject, self.facts))
        except KeyError as unknown:
            return self._unread(one, _UNKNOWN[str(unknown).strip("'")])
        rest = ("tooling/",) if query.tooling or (self._tooling and _is_of_apps(query)) else ("", "tooling/")
        reason = ""
        for surface in rest:
            if not self._left:
                return self._unread(one, f"not read: an audit makes at most {CALLS} calls")
            self._left -= 1
            self.facts = replace(self.facts, calls=self.facts.calls + 1)
            reply = await self._get(f"{REST_PATH}{surface}query?{urlencode({'q': soql})}")
            if reply is None:
                self._over = "no answer"  # the next one may take as long
                return self._unread(one, self._over)
            if reply.status == 200:
                self._tooling = self._tooling or (_is_of_apps(query) and bool(surface))
                return self._keep(one, query, reply.body)
            refused = read_after_login(reply.status, reply.body)
            reason = f"{refused.error}: {refused.message}" if refused.error else refused.message
            if refused.error != "INVALID_TYPE":
                # Without API Enabled, or after the session has ended, all other calls fail too.
                self._over = reason if reply.status in {401, 403} else ""
                break
        return self._unread(one, reason)

    def _unread(self, one: Read, why: str) -> None:
        self.facts = replace(self.facts, unread={**self.facts.unread, one: why})

    def _keep(self, one: Read, query: Query, body: bytes) -> None:
        rows = rows_in(body, query)
        if rows is None:
            return self._unread(one, "the answer could not be read")
        if one is Read.LOGINS:
            self.facts = _with_logins(self.facts, rows, self._subject)
            rows = ()
        if one is Read.APP:
            wanted = (self._subject.app or self.facts.application).casefold()
            rows = tuple(
                row
                for row in rows
                if wanted in {text(row, "MasterLabel").casefold(), text(row, "DeveloperName").casefold()}
            )[:1]
        if one is Read.OBJECTS and rows:
            named = {text(row, OBJECT).casefold() for row in rows}
            rows += tuple({OBJECT: name} for name in self._subject.objects if name.casefold() not in named)
        self.facts = replace(self.facts, rows={**self.facts.rows, one: rows})
        return None


def _is_of_apps(query: Query) -> bool:
    return Permission.VIEW_APPS in query.needs


_UNKNOWN = {
    "user": "not read: the user's id is known only after a login",
    "label": "not read: the app's name is unknown; set the connection's option `app`",
    "app": "not read: the app was not found",
    "profile": "not read: the user's profile is unknown",
    "since": "not read",
}


def _values(subject: Subject, facts: Facts) -> Mapping[str, str | tuple[str, ...]]:
    """Known values for the placeholders in queries."""
    app = facts.first(Read.APP) or facts.first(Read.CLASSIC)
    user, since = facts.first(Read.USER), subject.changes_since
    of_sets = (text(row, "PermissionSet.ProfileId") for row in facts.rows.get(Read.ASSIGNMENTS, ()))
    profile = next(filter(None, of_sets), "")
    known: dict[str, str | tuple[str, ...]] = {
        "user": subject.user_id or text(user, "Id"),
        "username": subject.username,
        "app": text(app, "Id"),
        "label": subject.app or facts.application,
        "profile": profile or text(user, "ProfileId"),
        "objects": subject.objects,
        "since": f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if since else "",
    }
    return {name: value for name, value in known.items() if value}


def _with_logins(facts: Facts, rows: tuple[Row, ...], subject: Subject) -> Facts:
    """The facts with the user's logins, and the one nearest to our exchange as ours."""
    timed = [(at, row) for row in rows if (at := time_in(row, "LoginTime"))]
    near = [
        (away, row)
        for at, row in timed
        if (away := abs(at - subject.exchanged)) <= OUR_LOGIN_WITHIN
        and (text(row, "Status").lower() == "success") == subject.granted
        and (not subject.app or text(row, "Application") == subject.app)
    ]
    several = len({text(row, "Application") for _, row in near}) > 1  # then ours can't be identified
    ours = min(near, key=lambda one: one[0])[1] if near and not several else None
    return replace(
        facts,
        logins=summed(timed),
        application=text(ours, "Application"),
        address=text(ours, "SourceIp"),
        status=text(ours, "Status"),
    )


def rows_in(body: bytes, query: Query) -> tuple[Row, ...] | None:
    """The rows of an answer with only the query's fields; None if it isn't a result."""
    names = query.fields
    try:
        records = json.loads(body)["records"]
        if query.unfold:
            records = _at(records[0], query.unfold[0]) if records else []
        bounded = (records or ())[: query.most]
        return tuple({name: _value(_at(record, name)) for name in names} for record in bounded)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _at(record: object, path: str) -> object:
    """The value at a dotted path."""
    if isinstance(record, dict) and path in record:  # most have no dot
        return record[path]
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _value(value: object) -> Value:
    if isinstance(value, str):  # most are
        return _shown(value)
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int | float) and abs(value) < LARGEST_NUMBER else None


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{8,16}(?:Z|[+-]\d{4})")
"""Rows of Login History differ in little else, and there are 500 of them: no secret looks like this."""


@lru_cache(maxsize=1024)
def _shown(value: str) -> str:
    """A text as it may be kept. Remembered, as rows have the same ones again and again."""
    return value if _MOMENT.fullmatch(value) else harmless(value, 2 * CODE_LIMIT)
