"""The steps of the setup guide as a table, and how to judge each by what an audit read.

Nothing is guessed: what the org did not show is not readable, with the permission that would show it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property, partial
from ipaddress import ip_address

from monitor.core.causes import Cause, Severity
from monitor.core.connection import Connection
from monitor.core.finding import Certainty
from monitor.core.inside import Facts
from monitor.core.outcome import ApiUsage, Granted, Outcome
from monitor.core.reads import OBJECT, Permission, Read, Row, text, time_in
from monitor.core.verdict.evidence import span
from monitor.core.verdict.meaning import API_SCOPES
from monitor.core.wording import minute

LAST_WAY_IN = timedelta(days=7)
"""How long before the user's last access to the app ends it is critical: a change by ticket takes a week."""

ORG_ENDS = timedelta(days=30)
"""How long before the org expires it is a finding: trial and scratch orgs last at most 30 days."""

ALLOCATION_SHORT = 0.9
"""Use of the daily API allocation above which it is a finding: the last tenth goes quickly, and then every
call is refused. Our choice; no source."""

GUIDES_LICENCE = "Salesforce API Integration"
"""Of the permission set, by the guide's step 5. Sources disagree on whether such a set can contain an app."""

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

    ruling: Ruling
    said: str
    """One or two sentences."""
    cause: Cause | None = None
    """The cause of a wrong step."""
    severity: Severity = Severity.WARNING
    certainty: Certainty = Certainty.CERTAIN
    permission: str = ""
    """The permission that would make it readable, if known."""
    dated: bool = False
    """Whether the text says how soon something ends, and so changes with time."""
    guide: str = ""
    """The number of the guide's step; empty if not in the guide."""
    what: str = ""

    @property
    def stops_logins(self) -> bool:
        """Whether it is certainly wrong, and prevents all logins."""
        stops = self.severity is Severity.CRITICAL and self.certainty is Certainty.CERTAIN
        return self.ruling is Ruling.WRONG and stops


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
    def granted(self) -> Granted | None:
        """The grant; None after a refusal."""
        return self.outcome if isinstance(self.outcome, Granted) else None

    @cached_property
    def live(self) -> tuple[Row, ...] | None:
        """The user's current permission set assignments; None if not shown."""
        rows = self.facts.rows.get(Read.ASSIGNMENTS)
        if rows is None:
            return None
        valid = [row for row in rows if row.get("IsActive") is not False and row.get("IsRevoked") is not True]
        return tuple(row for row in valid if not (end := time_in(row, "ExpirationDate")) or end > self.now)


@dataclass(frozen=True, slots=True)
class Point:
    """A row of the table: a requirement, what to read for it, and how to judge that."""

    guide: str
    what: str
    judge: Callable[[Seen], Step | None]
    """Gives None if what it needs was not shown."""
    reads: tuple[Read, ...] = ()
    concerns: Callable[[Seen], bool] = lambda _: True
    """Whether it is a question in this org at all."""


def _right(said: str) -> Step:
    return Step(Ruling.RIGHT, said)


def _wrong(
    cause: Cause, said: str, severity: Severity = Severity.WARNING, certainty: Certainty = Certainty.CERTAIN
) -> Step:
    return Step(Ruling.WRONG, said, cause, severity, certainty)


def _ends(cause: Cause, said: str, end: datetime, seen: Seen, *, last_way: bool = True) -> Step:
    """Wrong because something ends, which is critical soon before the user's last access ends."""
    soon = last_way and end - seen.now <= LAST_WAY_IN
    return Step(Ruling.WRONG, said, cause, Severity.CRITICAL if soon else Severity.WARNING, dated=True)


def _stops_logins(cause: Cause, said: str, seen: Seen, still: str) -> Step:
    """Wrong so that no login should be granted: only possibly, if one still is."""
    if seen.granted:
        return _wrong(cause, f"{said} Logins are still granted{still}.", certainty=Certainty.POSSIBLE)
    return _wrong(cause, said, Severity.CRITICAL)


def _hidden(said: str, permission: str = "") -> Step:
    return Step(Ruling.NOT_READABLE, said, permission=permission)


# Proved by a grant


def _proven(what: str, seen: Seen) -> Step | None:
    return _right(f"A token was granted, which proves {what}.") if seen.granted else None


def _format(seen: Seen) -> Step | None:
    if seen.granted is None:
        return None
    if seen.granted.token_format == "jwt":  # noqa: S105 - a format, not a secret
        said = "The token is a JWT: the Bulk and Metadata APIs refuse it."
        return _wrong(Cause.JWT_ACCESS_TOKEN, said, Severity.CRITICAL)
    return _right("The token is opaque, as it should be.")


def _scopes(seen: Seen) -> Step | None:
    named = seen.granted.scopes if seen.granted else None
    row = seen.facts.first(Read.SCOPES)
    lacking = [
        name
        for name, scopes, fields in (
            ("api", API_SCOPES, ("OauthScopesAPI",)),
            ("refresh_token", _REFRESH_SCOPES, ("OauthScopesREFRESH_TOKEN", "OauthScopesOFFLINE_ACCESS")),
        )
        if not (named and named & scopes) and not (row and any(row.get(field) for field in fields))
    ]
    if not lacking:
        return _right("The app has api and refresh_token.")
    if row is None:
        return None
    return _wrong(Cause.SCOPE_MISSING, f"The app's Selected OAuth Scopes lack {' and '.join(lacking)}.")


_REFRESH_SCOPES = frozenset({"refresh_token", "offline_access"})


def _enabled(seen: Seen) -> Step | None:
    row = seen.facts.first(Read.ENABLED)
    if row and (
        row.get("IsEnabled") is False
        or text(row, "OauthPluginStatus").lower() in {"disabled", "notinstalled"}
    ):
        return _wrong(Cause.APP_BLOCKED, "The app, or OAuth in it, is disabled.", Severity.CRITICAL)
    if row:
        return _right("The app and its OAuth settings are enabled.")
    return _proven("that the app is enabled", seen)


# Policies


def _refresh_policy(seen: Seen) -> Step | None:
    policy = seen.facts.policy
    if policy is None:
        return None
    if not policy.refresh:
        said = f"its value is “{policy.unrecognised}”" if policy.unrecognised else "the org shows no period"
        return _hidden(f"The policy is not understood: {said}.")
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


def _addresses(seen: Seen) -> Step | None:
    policy, ranges = seen.facts.policy, seen.facts.rows.get(Read.PROFILE)
    if ranges:
        known = dict.fromkeys(one.address for one in seen.facts.logins if one.address)
        outside = [address for address in known if not _within(address, ranges)]
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
        its = "has no Login IP Ranges" if ranges == () else "may have Login IP Ranges, which were not read"
        return _right(f"IP Relaxation is Relax IP restrictions; the profile {its}.")
    return None


def _within(address: str, ranges: tuple[Row, ...]) -> bool:
    """Whether an address is in one of the ranges. Unreadable ranges count as including it."""
    try:
        place = ip_address(address)
        bounds = [[ip_address(text(row, end)) for end in ("startAddress", "endAddress")] for row in ranges]
    except ValueError:
        return True
    return any(
        begin.version == place.version == end.version and int(begin) <= int(place) <= int(end)
        for begin, end in bounds
    )


def _session_level(seen: Seen) -> Step | None:
    policy = seen.facts.policy
    if policy is None or policy.high_assurance is None:
        return None
    if policy.high_assurance:
        said = "The app requires a High Assurance session, which a login by this flow never has"
        action = text(seen.facts.first(Read.POLICY), "PolicyAction")
        said += f" (PolicyAction: {action})." if action else "."
        still = ", but they or some calls may be refused soon"
        return _stops_logins(Cause.SESSION_LEVEL_REQUIRED, said, seen, still)
    return _right("The app does not require a High Assurance session.")


# The user and permissions


def _user(seen: Seen) -> Step | None:
    user = seen.facts.first(Read.USER)
    active = user.get("IsActive") if user else None
    if active is False and not seen.granted:
        return _wrong(Cause.USER_INACTIVE, "The user is not active.", Severity.CRITICAL)
    if user is None and Read.USER in seen.facts.rows and not seen.granted:
        if seen.facts.has(Permission.MANAGE_USERS):
            said = "The org has no user with the configured username."
            return _wrong(Cause.USERNAME_CHANGED, said, Severity.CRITICAL)
        said = (
            "The org does not show the observer this user: without Manage Users, sharing rules may hide it."
        )
        return _hidden(said, Permission.MANAGE_USERS)
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


def _ends_of_assignments(seen: Seen) -> Step | None:
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
    said = f"Permission set assignments of the user expire: {sets}.{api}"
    return _ends(Cause.PERMISSION_SET_EXPIRING, said, ending[0][0], seen, last_way=bool(api))


def _objects(seen: Seen) -> Step | None:
    rows = seen.facts.rows.get(Read.OBJECTS)
    if rows is None:
        return None
    if not rows:
        return _hidden("The org shows none of the declared objects.")
    shown = {text(row, OBJECT).casefold(): row for row in rows}
    lacking = []
    for name, needs in seen.connection.objects:
        row = shown.get(name.casefold())
        if row is None:
            return _hidden(f"{name} was declared after the last audit.")
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
    said = "; ".join(lacking[:SHOWN])
    return _wrong(Cause.OBJECT_ACCESS_MISSING, f"{said[0].upper()}{said[1:]}.")


def _permitted(seen: Seen) -> Step | None:
    policy = seen.facts.policy
    if policy is None:
        return None
    if not policy.permitted:
        return _hidden("The policy was not shown or not understood.")
    if policy.permitted == "admin":
        return _right("Admin approved users are pre-authorized.")
    said = (
        "Permitted Users is not Admin approved users are pre-authorized: the user approved the app. That"
        " approval can be revoked, and a sixth one replaces it."
    )
    return _wrong(Cause.USER_NOT_ADMIN_APPROVED, said)


def _association(seen: Seen) -> Step | None:
    if seen.facts.policy and seen.facts.policy.permitted == "self":
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
        return _hidden(_GROUPS)
    last, name = max((end, name) for name, end in held.items() if end)
    left = span(last - seen.now)
    said = f"The user's last permission set for the app, “{name}”, expires on {minute(last)}, in {left}."
    return _ends(Cause.PERMISSION_SET_EXPIRING, said, last, seen)


_GROUPS = (
    "The user has permission set groups, and the org does not show whether a set in one of them gives access"
    " to the app."
)


def _in_groups(seen: Seen) -> bool:
    """Whether the user has permission sets through a group, which are assigned by the group's own id."""
    return any(text(row, "PermissionSetGroupId") for row in seen.live or ())


def _no_way(names: list[str], seen: Seen) -> Step:
    """No set that the app selects appears to be assigned; a grant proves that there is another way."""
    if not seen.facts.policy or seen.facts.policy.permitted != "admin":
        said = (
            "It is unknown whether the app needs one: its Permitted Users setting was not shown or not"
            " understood."
        )
        return _hidden(said, seen.facts.wanting(Read.APP) or seen.facts.wanting(Read.POLICY))
    if _in_groups(seen):
        return _hidden(_GROUPS)
    if not seen.live:
        said = "The org shows no permission set assignment of the user, not even the profile's own."
        return _hidden(said)
    shown = ", ".join(f"“{name}”" for name in names[:SHOWN])
    said = (
        f"The user has none of the permission sets that the app selects ({shown})."
        if names
        else "No permission set is selected in the app's policies."
    )
    licensed = (row for row in seen.live if text(row, "PermissionSet.License.Name") == GUIDES_LICENCE)
    if name := next((text(row, "PermissionSet.Name") for row in licensed), ""):
        said += (
            f" The user's “{name}” has the licence {GUIDES_LICENCE}. The setup guide (steps 5 and 6) selects"
            " such a set, but according to Salesforce's knowledge article 001453686 it cannot contain an app."
        )
    still = ": in some other way, or until the change takes effect"
    return _stops_logins(Cause.USER_NOT_ADMIN_APPROVED, said, seen, still)


# Beyond the guide


def _org(seen: Seen) -> Step | None:
    row = seen.facts.first(Read.ORG)
    if row is None:
        return None
    ends = time_in(row, "TrialExpirationDate")
    if ends is None or ends - seen.now > ORG_ENDS:
        return _right(f"The org expires on {minute(ends)}." if ends else "The org has no expiry date.")
    said = f"The org is a trial or scratch org that expires on {minute(ends)}, in {span(ends - seen.now)}."
    return _ends(Cause.ORG_EXPIRING, said, ends, seen)


def _production(seen: Seen) -> Step | None:
    found = seen.facts.production
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
    said = f"Your integration {was}, as of {minute(seen.facts.at)}."
    return _right(said) if found.granted else _hidden(said)


def _sandboxes(seen: Seen) -> Step | None:
    rows = seen.facts.rows.get(Read.SANDBOXES)
    if rows is None:
        return None
    copied = [said for row in rows if (said := seen.facts.copying(row))]
    return _right(" ".join(copied[:SHOWN]) or "No sandbox is being refreshed.")


def _allocation(seen: Seen) -> Step | None:
    usage = seen.usage
    if usage is None or not usage.allowed:
        return None
    said = f"{usage.used:,} of the org's {usage.allowed:,} daily API calls are used."
    if usage.used < usage.allowed * ALLOCATION_SHORT:
        return _right(said)
    spent = usage.used >= usage.allowed
    return _wrong(Cause.API_ALLOCATION_SHORT, said, Severity.CRITICAL if spent else Severity.WARNING)


def _pkce(seen: Seen) -> Step | None:
    said = (
        "Salesforce's APIs do not show it. Look under Security on the app's Settings tab; this flow does not"
        " use it."
    )
    return Step(Ruling.CANNOT_BE_SEEN, said)


def _sees_sandboxes(seen: Seen) -> bool:
    """Whether the org may have sandboxes, and is read by someone who may see them."""
    org = seen.facts.first(Read.ORG)
    watched = bool(seen.facts.observer) or seen.facts.has(Permission.MANAGE_USERS) is True
    return watched and org is not None and org.get("IsSandbox") is False


SELECTED_SETS = "Selected Permission Sets"

_ECA_POLICY = (Read.APP, Read.POLICY, Read.CLASSIC)

POINTS = (
    Point("1", "Private key and certificate", partial(_proven, "that key and certificate match")),
    Point("2", "JWT Bearer Flow", partial(_proven, "that the flow is enabled")),
    Point("2", "OAuth scopes", _scopes, (Read.APP, Read.SCOPES)),
    Point("2", "Proof Key for Code Exchange", _pkce),
    Point("2", "Access token format", _format),
    Point("2", "App enabled", _enabled, (Read.APP, Read.ENABLED)),
    Point("3", "Consumer Key", partial(_proven, "that the Consumer Key is right")),
    Point("4", "Refresh Token Policy", _refresh_policy, _ECA_POLICY),
    Point("4", "IP restrictions", _addresses, (Read.POLICY, Read.PROFILE, Read.CLASSIC)),
    Point("4", "Session level", _session_level, _ECA_POLICY),
    Point("5", "Integration user", _user, (Read.USER, Read.ASSIGNMENTS)),
    Point("5", "Permission set assignments", _ends_of_assignments, (Read.ASSIGNMENTS,)),
    Point("5", "Object access", _objects, (Read.OBJECTS,), lambda seen: bool(seen.connection.objects)),
    Point("6", "Permitted Users", _permitted, _ECA_POLICY),
    Point("6", SELECTED_SETS, _association, (Read.ASSOCIATION, Read.ASSIGNMENTS)),
    Point("7", "Subdomain and audience", partial(_proven, "that address and audience are right")),
    Point("", "Org expiry", _org, (Read.ORG,)),
    Point("", "Production's logins", _production, (Read.LOGINS,)),
    Point("", "API allocation", _allocation),
    Point("", "Sandbox refreshes", _sandboxes, (Read.SANDBOXES,), _sees_sandboxes),
)
"""The guide's steps as a table, in order."""
