"""Judges each step of the setup guide by what an audit read: right, wrong, not readable, or never visible.

A wrong step is a finding even while the connection works. Nothing is guessed: unreadable items are reported,
with the permission that would show them.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from typing import NamedTuple

from monitor.core.causes import Cause, Severity
from monitor.core.connection import Connection
from monitor.core.finding import Certainty
from monitor.core.history import History
from monitor.core.inside import Facts
from monitor.core.outcome import ApiUsage, Exchange, Granted, Outcome
from monitor.core.policy import Policy
from monitor.core.reads import OBJECT, QUERIES, Permission, Read, Row, text, time_in
from monitor.core.status import ConnectionStatus
from monitor.core.verdict.approval import Forecast, Grounds
from monitor.core.verdict.evidence import span
from monitor.core.verdict.meaning import API_SCOPES
from monitor.core.verdict.surroundings import changes_in, copying, production
from monitor.core.verdict.texts import of_text
from monitor.core.wording import minute

LAST_WAY_IN = timedelta(days=7)
"""How long before the user's last access to the app ends it is critical: a change by ticket takes a week."""

ORG_ENDS = timedelta(days=30)
"""How long before the org expires it is a finding: trial and scratch orgs last at most 30 days."""

ALLOCATION_SHORT = 0.9
"""Use of the daily API allocation above which it is a finding: the last tenth goes quickly, and then every
call is refused. Our choice; no source."""

SHOWN = 3
"""Most names, groups or changes in one sentence; nobody reads more."""


class Ruling(StrEnum):
    """The judgement of a step."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_READABLE = "not_readable"
    """The org did not show it."""
    CANNOT_BE_SEEN = "cannot_be_seen"
    """Not visible in any org, with any permission."""


@dataclass(frozen=True, slots=True)
class Step:
    """One requirement of the guide, and whether it is met."""

    guide: str
    """The number of the guide's step; empty if not in the guide."""
    what: str
    ruling: Ruling
    said: str
    """One or two sentences."""
    permission: str = ""
    """The permission that would make it readable, if known."""
    cause: Cause | None = None
    """The cause of a wrong step."""
    severity: Severity = Severity.WARNING
    certainty: Certainty = Certainty.CERTAIN

    @property
    def stops_logins(self) -> bool:
        """Whether it is certainly wrong, and prevents all logins."""
        return (self.ruling, self.severity, self.certainty) == (
            Ruling.WRONG,
            Severity.CRITICAL,
            Certainty.CERTAIN,
        )


@dataclass(frozen=True)
class Seen:
    """The input for judging the steps."""

    facts: Facts
    connection: Connection
    outcome: Outcome | None
    """The last grant or refusal; None before the first."""
    usage: ApiUsage | None
    ends: datetime | None
    """When the approval ends according to the policy that was read; None without an end."""
    now: datetime

    @property
    def policy(self) -> Policy | None:
        """The app's policies; None if not shown."""
        return self.facts.policy

    @property
    def granted(self) -> Granted | None:
        """The grant; None after a refusal."""
        return self.outcome if isinstance(self.outcome, Granted) else None

    @cached_property
    def live(self) -> tuple[Row, ...] | None:
        """The user's current permission set assignments; None if not shown."""
        rows = self.facts.rows.get(Read.ASSIGNMENTS)
        return None if rows is None else tuple(row for row in rows if self._holds(row))

    def _holds(self, row: Row) -> bool:
        ends = time_in(row, "ExpirationDate")
        return (
            row.get("IsActive") is not False
            and row.get("IsRevoked") is not True
            and (not ends or ends > self.now)
        )


class _Said(NamedTuple):
    ruling: Ruling
    text: str
    cause: Cause | None = None
    severity: Severity = Severity.WARNING
    certainty: Certainty = Certainty.CERTAIN
    permission: str = ""


def _right(said: str) -> _Said:
    return _Said(Ruling.RIGHT, said)


def _wrong(
    cause: Cause, said: str, severity: Severity = Severity.WARNING, certainty: Certainty = Certainty.CERTAIN
) -> _Said:
    return _Said(Ruling.WRONG, said, cause, severity, certainty)


@dataclass(frozen=True, slots=True)
class Point:
    """A row of the table: a requirement, what to read for it, and how to judge that."""

    guide: str
    what: str
    judge: Callable[[Seen], _Said | None]
    """Gives None if what it needs was not shown."""
    reads: tuple[Read, ...] = ()
    concerns: Callable[[Seen], bool] = lambda _: True
    """Whether it is a question in this org at all."""


def seen_of(
    connection: Connection,
    history: History,
    foreseen: Forecast | None,
    now: datetime,
    exchange: Exchange | None = None,
) -> Seen | None:
    """The input from a connection's last audit, with the outcome of the last exchange, or of a newer one.

    None if there was no audit or audits are off.
    """
    if not connection.audit or history.audit is None:
        return None
    last = exchange or history.last_verdict
    usage = (exchange and exchange.usage) or history.usage
    ends = foreseen.at if foreseen and foreseen.grounds is Grounds.READ else None
    return Seen(history.audit, connection, last.outcome if last else None, usage, ends, now)


def steps_of(status: ConnectionStatus, now: datetime) -> tuple[Step, ...]:
    """The steps according to a connection's last audit; empty without one."""
    seen = seen_of(status.connection, status.history, status.forecast, now)
    return steps(seen) if seen else ()


def steps(seen: Seen) -> tuple[Step, ...]:
    """All steps of the guide, followed by those that it leaves out."""
    return tuple(_step(point, seen) for point in POINTS if point.concerns(seen))


def wrong_steps(seen: Seen) -> tuple[Step, ...]:
    """Those that are wrong: a check asks for no others."""
    said = ((point, point.judge(seen)) for point in POINTS if point.concerns(seen))
    return tuple(_judged(point, its) for point, its in said if its and its.ruling is Ruling.WRONG)


def _judged(point: Point, said: _Said) -> Step:
    ruling, text, cause, severity, certainty, permission = said
    return Step(point.guide, point.what, ruling, text, permission, cause, severity, certainty)


def _step(point: Point, seen: Seen) -> Step:
    if said := point.judge(seen):
        return _judged(point, said)
    facts, why, permission = seen.facts, "It was not read.", ""
    if not point.reads and seen.granted is None:
        why = "Only a successful login proves this, and the last one was refused."
    if unread := [read for read in point.reads if read in facts.unread]:
        read = next((read for read in unread if _permission(read, facts)), unread[0])
        permission = _permission(read, facts)
        who = "the observer" if facts.observer else "the user"
        wanting = facts.lacks(read)
        lacking = f"{who} lacks {wanting}" if wanting else "the org did not show it"
        reason = facts.unread[read].removeprefix("not read: ") or lacking
        why = f"{QUERIES[read].of} was not read: {reason}."
    return Step(point.guide, point.what, Ruling.NOT_READABLE, why, permission)


def _permission(read: Read, facts: Facts) -> str:
    """The permissions that would show what was not read; empty if the reason is another, or unknown."""
    if read not in facts.unread or not (facts.lacks(read) or _refused_as_unknown(facts.unread[read])):
        return ""
    query = QUERIES[read]
    return " and ".join((*query.needs, *((query.of_others,) if facts.observer and query.of_others else ())))


def _refused_as_unknown(reason: str) -> bool:
    """Whether the org says that the object or field doesn't exist, as it also does if a permission is
    missing.
    """
    return reason.startswith(("INVALID_TYPE", "INVALID_FIELD", "INSUFFICIENT_ACCESS"))


# Proved by a grant


def _proven(what: str) -> Callable[[Seen], _Said | None]:
    def judge(seen: Seen) -> _Said | None:
        return _right(f"A token was granted, which proves {what}.") if seen.granted else None

    return judge


def _format(seen: Seen) -> _Said | None:
    if seen.granted is None:
        return None
    if seen.granted.token_format == "jwt":  # noqa: S105 - a format, not a secret
        return _wrong(
            Cause.JWT_ACCESS_TOKEN,
            "The token is a JWT: the Bulk and Metadata APIs refuse it.",
            Severity.CRITICAL,
        )
    return _right("The token is opaque, as it should be.")


def _scopes(seen: Seen) -> _Said | None:
    named = seen.granted.scopes if seen.granted else None
    row = seen.facts.first(Read.SCOPES)
    has_api = bool(named and named & API_SCOPES) or bool(row and row.get("OauthScopesAPI"))
    refresh = {"refresh_token", "offline_access"}
    has_refresh = bool(named and named & refresh) or bool(
        row and (row.get("OauthScopesREFRESH_TOKEN") or row.get("OauthScopesOFFLINE_ACCESS"))
    )
    if has_api and has_refresh:
        return _right("The app has api and refresh_token.")
    if row is None:
        return None
    lacking = " and ".join(
        name for name, has in (("api", has_api), ("refresh_token", has_refresh)) if not has
    )
    return _wrong(Cause.SCOPE_MISSING, f"The app's Selected OAuth Scopes lack {lacking}.")


def _enabled(seen: Seen) -> _Said | None:
    row = seen.facts.first(Read.ENABLED)
    if row and (
        row.get("IsEnabled") is False
        or text(row, "OauthPluginStatus").lower() in {"disabled", "notinstalled"}
    ):
        return _wrong(Cause.APP_BLOCKED, "The app, or OAuth in it, is disabled.", Severity.CRITICAL)
    if row:
        return _right("The app and its OAuth settings are enabled.")
    return _proven("that the app is enabled")(seen)


# Policies


def _refresh_policy(seen: Seen) -> _Said | None:
    policy = seen.policy
    if policy is None:
        return None
    if not policy.refresh:
        said = f"its value is “{policy.unrecognised}”" if policy.unrecognised else "the org shows no period"
        return _Said(Ruling.NOT_READABLE, f"The policy is not understood: {said}.")
    if not policy.ageing:
        return _right("Refresh token is valid until revoked.")
    changed = f" The policy was {policy.changed}." if policy.changed else ""
    date = f" This approval will end on {minute(seen.ends)}." if seen.ends else ""
    said = (
        f"The app's Refresh Token Policy {policy.ageing}. It should be Refresh token is valid until"
        f" revoked.{date}{changed}"
    )
    if policy.permitted == "self":
        return _wrong(Cause.REFRESH_POLICY_WRONG, said)
    return _wrong(Cause.REFRESH_POLICY_WRONG, f"{said} {CONTESTED}", certainty=Certainty.POSSIBLE)


CONTESTED = (
    "The setup guide (step 4) says that this also ends the logins of pre-authorised users, but Salesforce's"
    " CLI guide tells the same users to let refresh tokens expire after 90 days or less."
)


def _addresses(seen: Seen) -> _Said | None:
    policy, ranges = seen.policy, seen.facts.rows.get(Read.PROFILE)
    if ranges:
        outside = [one for one in _known_addresses(seen.facts) if not _within(one, ranges)]
        allowed = ", ".join(
            f"{text(row, 'startAddress')} to {text(row, 'endAddress')}" for row in ranges[:SHOWN]
        )
        if outside:
            places = "; ".join(outside[:SHOWN])
            said = f"The Login IP Ranges of the user's profile only allow {allowed}. Outside them: {places}."
            return _wrong(Cause.IP_RESTRICTED, said)
        return _right(f"The profile's Login IP Ranges ({allowed}) include every address seen.")
    if policy and policy.ip == "enforced":
        said = (
            "IP Relaxation is not Relax IP restrictions, which the setup guide (step 4) requires."
            " Salesforce's help says that this flow always enforces restrictions; if so, only the profile's"
            f" Login IP Ranges matter{', and it has none' if ranges == () else ''}."
        )
        return _wrong(
            Cause.IP_RESTRICTED, said, Severity.INFO if ranges == () else Severity.WARNING, Certainty.POSSIBLE
        )
    if policy and policy.ip == "relaxed":
        none = "; the profile has no Login IP Ranges" if ranges == () else ""
        return _right(f"IP Relaxation is Relax IP restrictions{none}.")
    return None


def _known_addresses(facts: Facts) -> Iterator[str]:
    yield from dict.fromkeys(one.address for one in facts.logins if one.address)


def _within(address: str, ranges: tuple[Row, ...]) -> bool:
    """Whether an address is in one of the ranges. Unreadable ranges count as including it."""
    try:
        place = ip_address(address)
        return any(
            begin.version == place.version == end.version and int(begin) <= int(place) <= int(end)
            for begin, end in (
                (ip_address(text(row, "startAddress")), ip_address(text(row, "endAddress"))) for row in ranges
            )
        )
    except ValueError:
        return True


def _session_level(seen: Seen) -> _Said | None:
    policy = seen.policy
    if policy is None or policy.high_assurance is None:
        return None
    if policy.high_assurance:
        said = "The app requires a High Assurance session, which a login by this flow never has"
        action = text(seen.facts.first(Read.POLICY), "PolicyAction")
        said += f" (PolicyAction: {action})." if action else "."
        if not seen.granted:
            return _wrong(Cause.SESSION_LEVEL_REQUIRED, said, Severity.CRITICAL)
        said += " Logins are still granted, but they or some calls may be refused soon."
        return _wrong(Cause.SESSION_LEVEL_REQUIRED, said, certainty=Certainty.POSSIBLE)
    return _right("The app does not require a High Assurance session.")


# The user and permissions


def _user(seen: Seen) -> _Said | None:
    user = seen.facts.first(Read.USER)
    active = user.get("IsActive") if user else None
    if active is False and not seen.granted:
        return _wrong(Cause.USER_INACTIVE, "The user is not active.", Severity.CRITICAL)
    if user is None and Read.USER in seen.facts.rows and not seen.granted:
        return _no_user(seen)
    access = seen.facts.first(Read.ACCESS)
    api = access.get("PermissionsApiEnabled") if access and not seen.facts.observer else None
    if api is None and seen.live:
        api = any(row.get("PermissionSet.PermissionsApiEnabled") is True for row in seen.live)
    # The org has answered a REST call made with the user's token.
    called = seen.granted and (not seen.facts.observer or Read.LOGINS in seen.facts.rows)
    if api is False and not called:
        return _wrong(Cause.API_DISABLED, "No permission set of the user has API Enabled.", Severity.CRITICAL)
    if seen.granted or active:
        return _right("The user is active" + (", and has API Enabled." if api else "."))
    return None


def _no_user(seen: Seen) -> _Said:
    if seen.facts.has(Permission.MANAGE_USERS):
        said = "The org has no user with the configured username."
        return _wrong(Cause.USERNAME_CHANGED, said, Severity.CRITICAL)
    said = "The org does not show the observer this user: without Manage Users, sharing rules may hide it."
    return _Said(Ruling.NOT_READABLE, said, permission=Permission.MANAGE_USERS)


def _ends_of_assignments(seen: Seen) -> _Said | None:
    if seen.live is None:
        return None
    ending = sorted(
        (ends, text(row, "PermissionSet.Name"))
        for row in seen.live
        if (ends := time_in(row, "ExpirationDate"))
    )
    if not ending:
        return _right("None of the user's permission set assignments expires.")
    sets = "; ".join(
        f"“{name}” on {minute(ends)}, in {span(ends - seen.now)}" for ends, name in ending[:SHOWN]
    )
    lost = {name for _, name in ending}
    carriers = {
        text(row, "PermissionSet.Name")
        for row in seen.live
        if row.get("PermissionSet.PermissionsApiEnabled") is True
    }
    api = " The user then loses API Enabled." if carriers and carriers <= lost else ""
    return _wrong(
        Cause.PERMISSION_SET_EXPIRING,
        f"Permission set assignments of the user expire: {sets}.{api}",
        _by_end(ending[0][0], seen) if api else Severity.WARNING,
    )


def _by_end(end: datetime, seen: Seen) -> Severity:
    return Severity.CRITICAL if end - seen.now <= LAST_WAY_IN else Severity.WARNING


def _objects(seen: Seen) -> _Said | None:
    rows = seen.facts.rows.get(Read.OBJECTS)
    if rows is None:
        return None
    if not rows:
        return _Said(Ruling.NOT_READABLE, "The org shows none of the declared objects.")
    shown = {text(row, OBJECT).casefold(): row for row in rows}
    lacking = []
    for name, needs in seen.connection.objects:
        row = shown.get(name.casefold())
        if row is None:
            return _Said(Ruling.NOT_READABLE, f"{name} was declared after the last audit.")
        fields = {"read": ("IsReadable",), "write": ("IsCreatable", "IsEditable")}
        missing = [need for need in needs if not all(row.get(field) is True for field in fields[need])]
        if "IsReadable" not in row:
            lacking.append(f"the org shows no object {name}: it is misspelled, or the user has no access")
        elif missing:
            lacking.append(f"the user may not {' or '.join(missing)} {name}")
    names = ", ".join(name for name, _ in seen.connection.objects[:SHOWN])
    more = ", …" if len(seen.connection.objects) > SHOWN else ""
    if not lacking:
        return _right(f"The user has access to {names}{more}, as declared.")
    return _wrong(Cause.OBJECT_ACCESS_MISSING, _capital("; ".join(lacking[:SHOWN])) + ".")


def _capital(said: str) -> str:
    return said[:1].upper() + said[1:]


def _permitted(seen: Seen) -> _Said | None:
    policy = seen.policy
    if policy is None or not policy.permitted:
        return None
    if policy.permitted == "admin":
        return _right("Admin approved users are pre-authorized.")
    said = (
        "Permitted Users is not Admin approved users are pre-authorized: the user approved the app. That"
        " approval can be revoked, and a sixth one replaces it."
    )
    return _wrong(Cause.USER_NOT_ADMIN_APPROVED, said)


def _association(seen: Seen) -> _Said | None:
    if seen.policy and seen.policy.permitted == "self":
        return _right("Not needed: users authorise themselves.")
    rows = seen.facts.rows.get(Read.ASSOCIATION)
    if rows is None or seen.live is None:
        return None
    carriers = {text(row, "ParentId"): text(row, "Parent.Name") for row in rows}
    ways = [row for row in seen.live if text(row, "PermissionSetId") in carriers]
    if not ways:
        return _no_way(list(carriers.values()), seen)
    held = {text(row, "PermissionSet.Name"): time_in(row, "ExpirationDate") for row in ways}
    lasting = next((name for name, end in held.items() if end is None), None)
    if lasting is not None:
        return _right(f"The app selects “{lasting}”, and the user has it without an expiry date.")
    if _in_groups(seen):
        return _Said(Ruling.NOT_READABLE, _GROUPS)
    last, name = max((end, name) for name, end in held.items() if end)
    left = span(last - seen.now)
    said = f"The user's last permission set for the app, “{name}”, expires on {minute(last)}, in {left}."
    return _wrong(Cause.PERMISSION_SET_EXPIRING, said, _by_end(last, seen))


_GROUPS = (
    "The user has permission set groups, and the org does not show whether a set in one of them gives access"
    " to the app."
)


def _in_groups(seen: Seen) -> bool:
    """Whether the user has permission sets through a group, which are assigned by the group's own id."""
    return any(text(row, "PermissionSetGroupId") for row in seen.live or ())


def _no_way(names: list[str], seen: Seen) -> _Said:
    """No set that the app selects appears to be assigned; a grant proves that there is another way."""
    if not seen.policy or seen.policy.permitted != "admin":
        said = (
            "It is unknown whether the app needs one: its Permitted Users setting was not shown or not"
            " understood."
        )
        permission = _permission(Read.APP, seen.facts) or _permission(Read.POLICY, seen.facts)
        return _Said(Ruling.NOT_READABLE, said, permission=permission)
    if _in_groups(seen):
        return _Said(Ruling.NOT_READABLE, _GROUPS)
    if not seen.live:
        said = "The org shows no permission set assignment of the user, not even the profile's own."
        return _Said(Ruling.NOT_READABLE, said)
    shown = ", ".join(f"“{name}”" for name in names[:SHOWN])
    said = (
        f"The user has none of the permission sets that the app selects ({shown})."
        if names
        else "No permission set is selected in the app's policies."
    )
    if not seen.granted:
        return _wrong(Cause.USER_NOT_ADMIN_APPROVED, said, Severity.CRITICAL)
    said += " Logins are still granted: in some other way, or until the change takes effect."
    return _wrong(Cause.USER_NOT_ADMIN_APPROVED, said, certainty=Certainty.POSSIBLE)


# Beyond the guide


def _org(seen: Seen) -> _Said | None:
    row = seen.facts.first(Read.ORG)
    if row is None:
        return None
    ends = time_in(row, "TrialExpirationDate")
    if ends is None or ends - seen.now > ORG_ENDS:
        return _right(f"The org expires on {minute(ends)}." if ends else "The org has no expiry date.")
    said = f"The org is a trial or scratch org that expires on {minute(ends)}, in {span(ends - seen.now)}."
    return _wrong(Cause.ORG_EXPIRING, said, _by_end(ends, seen))


def _production(seen: Seen) -> _Said | None:
    found = production(seen.facts)
    if found is None:
        if seen.facts.logins and seen.facts.address:
            return _right("No other client logs in as this user, or only from our address.")
        return None
    was = f"last logged in on {minute(found.granted)}" if found.granted else "was not seen to log in"
    if found.last and found.since and seen.granted:
        said = (
            f"Your integration {was}; at least {found.refused} of its logins were refused since"
            f" {minute(found.since)}"
            f" ({found.last.status}, from {found.last.address}) while our check is granted."
        )
        return _wrong(Cause.PRODUCTION_REFUSED, said, Severity.CRITICAL)
    return _right(f"Your integration {was}, as of {minute(seen.facts.at)}.") if found.granted else None


def _sandboxes(seen: Seen) -> _Said | None:
    rows = seen.facts.rows.get(Read.SANDBOXES)
    if rows is None:
        return None
    copied = [said for row in rows if (said := copying(row, seen.facts.at))]
    return _right(" ".join(copied[:SHOWN]) or "No sandbox is being refreshed.")


def _allocation(seen: Seen) -> _Said | None:
    usage = seen.usage
    if usage is None or not usage.allowed:
        return None
    said = f"{usage.used:,} of the org's {usage.allowed:,} daily API calls are used."
    if usage.used < usage.allowed * ALLOCATION_SHORT:
        return _right(said)
    spent = usage.used >= usage.allowed
    return _wrong(Cause.API_ALLOCATION_SHORT, said, Severity.CRITICAL if spent else Severity.WARNING)


def _pkce(seen: Seen) -> _Said | None:
    return _Said(
        Ruling.CANNOT_BE_SEEN,
        "Salesforce's APIs do not show it. Look under Security on the app's Settings tab; this flow does not"
        " use it.",
    )


def _sees_sandboxes(seen: Seen) -> bool:
    """Whether the org may have sandboxes, and is read by someone who may see them."""
    org = seen.facts.first(Read.ORG)
    watched = bool(seen.facts.observer) or seen.facts.has(Permission.MANAGE_USERS) is True
    return watched and org is not None and org.get("IsSandbox") is False


SELECTED_SETS = "Selected Permission Sets"

_ECA_POLICY = (Read.APP, Read.POLICY, Read.CLASSIC)

POINTS = (
    Point("1", "Private key and certificate", _proven("that key and certificate match")),
    Point("2", "JWT Bearer Flow", _proven("that the flow is enabled")),
    Point("2", "OAuth scopes", _scopes, (Read.APP, Read.SCOPES)),
    Point("2", "Proof Key for Code Exchange", _pkce),
    Point("2", "Access token format", _format),
    Point("2", "App enabled", _enabled, (Read.APP, Read.ENABLED)),
    Point("3", "Consumer Key", _proven("that the Consumer Key is right")),
    Point("4", "Refresh Token Policy", _refresh_policy, _ECA_POLICY),
    Point("4", "IP restrictions", _addresses, (Read.POLICY, Read.PROFILE, Read.CLASSIC)),
    Point("4", "Session level", _session_level, _ECA_POLICY),
    Point("5", "Integration user", _user, (Read.USER, Read.ASSIGNMENTS)),
    Point("5", "Permission set assignments", _ends_of_assignments, (Read.ASSIGNMENTS,)),
    Point("5", "Object access", _objects, (Read.OBJECTS,), lambda seen: bool(seen.connection.objects)),
    Point("6", "Permitted Users", _permitted, _ECA_POLICY),
    Point("6", SELECTED_SETS, _association, (Read.ASSOCIATION, Read.ASSIGNMENTS)),
    Point("7", "Subdomain and audience", _proven("that address and audience are right")),
    Point("", "Org expiry", _org, (Read.ORG,)),
    Point("", "Production's logins", _production, (Read.LOGINS,)),
    Point("", "API allocation", _allocation),
    Point("", "Sandbox refreshes", _sandboxes, (Read.SANDBOXES,), _sees_sandboxes),
)
"""The guide's steps as a table, in order."""


# A refusal


def explained(seen: Seen, possible: Collection[Cause]) -> Cause | None:
    """The cause that the org itself gives for a refusal, if any.

    1. Login History's status of our own login, if the answer can mean that.
    2. A step that is certainly wrong and stops logins, if the answer can mean that.
    3. Otherwise that status: the caller must know whether it belongs to this answer.

    If the user has the app's permission set and the policy has ended the approval, "not approved" means that.
    """
    found = {step.what: step for step in steps(seen)}
    wrong = {step.cause for step in found.values() if step.stops_logins}
    aged_out = found[SELECTED_SETS].ruling is Ruling.RIGHT and _aged_out(seen)
    if aged_out:
        wrong.add(Cause.APPROVAL_DECAYED)
    meant = of_text(seen.facts.status) if seen.facts.status and seen.facts.status != "Success" else None
    said = meant.cause if meant and meant.certainty is Certainty.CERTAIN else None
    if said is Cause.USER_NOT_ADMIN_APPROVED and aged_out:
        said = None
    if said in possible:
        return said
    return next((cause for cause in possible if cause in wrong), said)


def _aged_out(seen: Seen) -> bool:
    """Whether the approval has ended according to the policy that was read."""
    policy = seen.policy
    at_once = policy is not None and policy.refresh == "immediately"
    return at_once or (seen.ends is not None and seen.ends <= seen.now)


def known_before(seen: Seen, granted: datetime | None) -> Iterator[str]:
    """Evidence from the last audit for a refusal: what was wrong, and what changed in Setup.

    A change before the last grant is too old, unless it was still spreading then.
    """
    since = granted and granted - seen.connection.settle
    by = f" (read by {seen.facts.observer})" if seen.facts.observer else ""
    if seen.facts.status and seen.facts.status != "Success":
        yield (
            f'Login History has this status for our login on {minute(seen.facts.at)}: "{seen.facts.status}".'
        )
    for step in wrong_steps(seen)[:SHOWN]:
        yield f"The audit on {minute(seen.facts.at)}{by} found: {step.said}"
    for row in seen.facts.rows.get(Read.ASSIGNMENTS, ()):
        ended = time_in(row, "ExpirationDate")
        if ended and ended <= seen.now:
            name = text(row, "PermissionSet.Name")
            yield f'The assignment of the permission set "{name}" expired on {minute(ended)}.'
    changes = [change for change in changes_in(seen.facts) if since is None or change[0] > since]
    for at, changed in changes[:SHOWN]:
        yield f"Setup Audit Trail, {minute(at)}: {changed}."
