"""Approvals, their lifetimes, and the forecast of when the current one may end.

"Any other setting causes that approval to age out" (setup guide, step 4). Contested for apps whose users are
pre-authorised by an admin: for these, Salesforce's CLI guide recommends an expiry of 90 days or less.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from statistics import median
from typing import Literal

from monitor.core.connection import Connection
from monitor.core.history import Approval, History
from monitor.core.inside import Facts, Read, Row, text, time_in

LEAD_SHARE = 1 / 6
"""The last part of a lifetime, in which the forecast is a finding: 5 days of a month, 15 of 90 days. Enough
for a change by ticket, without warning half of the time."""

CRITICAL = timedelta(days=2)
"""When the forecast becomes critical: time to reach an admin on the next working day in most weeks."""

SHORTEST_LIFETIME = timedelta(days=1)
"""Approvals that ended sooner suggest an admin at work rather than a policy. Policies in hours are possible,
but a forecast of hours comes too late to act on."""


class Grounds(StrEnum):
    """The source of a forecast."""

    READ = "read"
    """The refresh token policy read by an audit."""
    DECLARED = "declared"
    """The refresh token policy declared in the configuration."""
    LEARNT = "learnt"
    """Lifetimes of this connection's earlier approvals."""
    SIBLINGS = "siblings"
    """Lifetimes of other connections' approvals with the same consumer key."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The app's policies, as read by an audit. Unknown values are left empty, never guessed."""

    permitted: Literal["admin", "self", ""]
    """Whether an admin pre-approves users, or they authorise themselves."""
    refresh: Literal["until_revoked", "immediately", "lifetime", "inactivity", ""]
    period: int = 0
    unit: Literal["hours", "days", "months", ""] = ""
    """Empty for a classic app, for which the org does not show the unit."""
    ip: Literal["relaxed", "enforced", ""] = ""
    high_assurance: bool | None = None
    unrecognised: str = ""
    """The refresh token policy in the org's words, if we don't know them."""
    changed: str = ""
    """Who last changed the policies, and when; empty if not shown."""

    @property
    def ageing(self) -> str:
        """The policy's effect on an approval, as a phrase; empty if it has none."""
        after = f"after {self.period} {self.unit or 'hours, days or months (the org does not show which)'}"
        return {
            "lifetime": f"ends an approval {after}",
            "inactivity": f"ends an approval {after} without use",
            "immediately": "ends an approval at once",
        }.get(self.refresh, "")

    def end(self, since: datetime) -> datetime | None:
        """When an approval that began (or was used) at `since` ends; None if the policy sets no time."""
        if self.refresh not in {"lifetime", "inactivity"} or not 0 < self.period <= LONGEST_PERIOD:
            return None
        try:
            if self.unit == "months":
                months = since.month - 1 + self.period
                year, month = since.year + months // 12, months % 12 + 1
                return since.replace(year=year, month=month, day=min(since.day, monthrange(year, month)[1]))
            return since + timedelta(**{self.unit: self.period}) if self.unit else None
        except (ValueError, OverflowError):  # beyond year 9999
            return None


LONGEST_PERIOD = 10_000
"""The longest plausible period: 27 years in days; Setup accepts at most 5 digits."""


def policy_of(facts: Facts | None) -> Policy | None:
    """The policies of the app, External Client App or classic; None if not shown."""
    if facts is None:
        return None
    if row := facts.first(Read.POLICY):
        return _of_external_client_app(row)
    row = facts.first(Read.CLASSIC)
    return _of_classic_app(row) if row else None


def _of_external_client_app(row: Row) -> Policy:
    refresh, by = text(row, "RefreshTokenPolicyType"), text(row, "LastModifiedBy.Name")
    at = time_in(row, "LastModifiedDate")
    return Policy(
        permitted=_PERMITTED.get(text(row, "PermittedUsersPolicyType").lower(), ""),
        refresh=_REFRESH.get(refresh.lower(), ""),
        period=_whole(row, "RefreshTokenValidityPeriod"),
        unit=_UNITS.get(text(row, "RefreshTokenValidityUnit").lower(), ""),
        ip=_IP.get(text(row, "IpRelaxationPolicyType").lower().replace("_", ""), ""),
        high_assurance=text(row, "RequiredSessionLevel").upper() == "HIGH_ASSURANCE",
        unrecognised="" if refresh.lower() in _REFRESH else refresh,
        changed=f"last changed on {at:%Y-%m-%d}{by and f' by {by}'}" if at else "",
    )


def _of_classic_app(row: Row) -> Policy:
    period, from_last_use = (
        _whole(row, "RefreshTokenValidityPeriod"),
        row.get("OptionsRefreshTokenValidityMetric"),
    )
    admin, session = row.get("OptionsAllowAdminApprovedUsersOnly"), row.get("OptionsHasSessionLevelPolicy")
    return Policy(
        permitted="" if not isinstance(admin, bool) else "admin" if admin else "self",
        refresh=("inactivity" if from_last_use else "lifetime") if period else "",
        period=period,
        high_assurance=session if isinstance(session, bool) else None,
    )


# Orgs and API versions spell the same values as names or as numbers.
_PERMITTED: dict[str, Literal["admin", "self"]] = {
    "adminapprovedpreauthorized": "admin",
    "allselfauthorized": "self",
}
_REFRESH: dict[str, Literal["until_revoked", "immediately", "lifetime", "inactivity"]] = {
    "infinite": "until_revoked",
    "zero": "immediately",
    "specificlifetime": "lifetime",
    "specificinactivity": "inactivity",
}
_UNITS: dict[str, Literal["hours", "days", "months"]] = {
    "hours": "hours",
    "days": "days",
    "months": "months",
    "0": "days",
    "1": "hours",
    "2": "months",
}
_IP: dict[str, Literal["relaxed", "enforced"]] = {
    "bypass": "relaxed",
    "bypass2factor": "relaxed",
    "enforce": "enforced",
    "enforcerelaxrefresh": "enforced",
}


def _whole(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) and abs(value) <= LONGEST_PERIOD else 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the current approval may end, and why."""

    at: datetime
    grounds: Grounds
    lifetime: timedelta
    reason: str
    """A sentence that explains it."""

    @property
    def warns_from(self) -> datetime:
        """When it becomes a finding: LEAD_SHARE of the lifetime before the end."""
        return self.at - self.lifetime * LEAD_SHARE


def forecast(
    connection: Connection, history: History, siblings: tuple[Approval, ...], now: datetime
) -> Forecast | None:
    """When the approval may end, from the best source available; None if nothing says that it will.

    1. A policy read by an audit, then a declared one. `until_revoked` has no end, `immediately` no
       predictable one.
    2. Otherwise the median lifetime of this connection's earlier approvals, otherwise that of its siblings.
    3. If an approval outlives its forecast by the lead, the source is wrong: no forecast.
    """
    policy, shown = connection.approval, policy_of(history.audit)
    if shown and shown.refresh:
        found = _read(shown, connection, history)
    elif policy is None:
        found = _learnt(history, siblings)
    elif policy.policy in {"lifetime", "inactivity"} and policy.days:
        found = _declared(connection, history, timedelta(days=policy.days))
    else:
        found = None
    if found is None or now > found.at + found.lifetime * LEAD_SHARE:
        return None
    return found


def note(connection: Connection, audit: Facts | None = None) -> str | None:
    """A caveat for inactivity policies: the monitor's own logins may keep the approval alive."""
    shown, declared = policy_of(audit), connection.approval
    if (shown.refresh if shown and shown.refresh else declared and declared.policy) != "inactivity":
        return None
    return (
        "The policy ends approvals that are not used. Each check may count as a use (this is not"
        " documented), so the monitor itself may keep this approval alive, and hide that production no"
        " longer uses it."
    )


def _read(policy: Policy, connection: Connection, history: History) -> Forecast | None:
    """The forecast from a policy read by an audit, counted from the approval's creation or last use."""
    row = _approval_row(connection, history)
    created, used = time_in(row, "CreatedDate"), time_in(row, "LastUsedDate")
    seen, ended = history.approval_since, history.approvals[-1].until if history.approvals else None
    if created is None or (ended and created < ended):
        created = seen  # the org shows nothing, or an earlier approval
    since = (
        created
        if policy.refresh == "lifetime"
        else max(filter(None, (used, history.last_success)), default=None)
    )
    if since is None or seen is None or (at := policy.end(since)) is None:
        return None
    shown = "was first seen" if created is seen else "was given"
    what = shown if policy.refresh == "lifetime" else "was last used"
    reason = f"The app's policy {policy.ageing}; this one {what} on {since:%Y-%m-%d}."
    return Forecast(at, Grounds.READ, at - since, reason)


def _approval_row(connection: Connection, history: History) -> Row | None:
    """The app's newest approval that the org shows: any valid one is enough for a grant."""
    facts = history.audit
    if facts is None:
        return None
    name = connection.app or facts.application
    rows = [row for row in facts.rows.get(Read.TOKENS, ()) if text(row, "AppName") == name]
    return max(rows, key=lambda row: text(row, "CreatedDate"), default=None)


def lifetimes(approvals: tuple[Approval, ...]) -> tuple[timedelta, ...]:
    """The lifetimes that are long enough to reflect a policy."""
    lived = (approval.until - approval.since for approval in approvals)
    return tuple(lifetime for lifetime in lived if lifetime >= SHORTEST_LIFETIME)


def _declared(connection: Connection, history: History, lifetime: timedelta) -> Forecast | None:
    policy = connection.approval
    assert policy is not None
    if policy.policy == "inactivity":
        if history.last_success is None or history.approval_since is None:
            return None
        reason = (
            f"The declared policy ends an approval after {lifetime.days} days without use; the last use seen"
            f" was on {history.last_success:%Y-%m-%d}."
        )
        return Forecast(history.last_success + lifetime, Grounds.DECLARED, lifetime, reason)
    granted = datetime.combine(policy.granted, time(), UTC) if policy.granted else None
    ended_since = history.approvals and (granted is None or history.approvals[-1].until >= granted)
    # The declared day precedes any observed grant, unless an approval ended after it.
    since = history.approval_since if ended_since or granted is None else granted
    if since is None:
        return None
    what = "was given" if since is granted else "was first seen"
    reason = (
        f"The declared policy ends an approval after {lifetime.days} days; this one {what} on"
        f" {since:%Y-%m-%d}."
    )
    return Forecast(since + lifetime, Grounds.DECLARED, lifetime, reason)


def _learnt(history: History, siblings: tuple[Approval, ...]) -> Forecast | None:
    if history.approval_since is None:
        return None
    for grounds, approvals, whose in (
        (Grounds.LEARNT, history.approvals, "of this connection"),
        (Grounds.SIBLINGS, siblings, "of the same app on other connections"),
    ):
        if lived := lifetimes(approvals):
            days = median(lifetime.total_seconds() / 86_400 for lifetime in lived)
            lifetime = timedelta(days=days)
            earlier = "One earlier approval" if len(lived) == 1 else f"{len(lived)} earlier approvals"
            reason = (
                f"{earlier} {whose} lasted {days:.1f} days{' (median)' if len(lived) > 1 else ''};"
                f" this one was first seen on {history.approval_since:%Y-%m-%d}."
            )
            return Forecast(history.approval_since + lifetime, grounds, lifetime, reason)
    return None
