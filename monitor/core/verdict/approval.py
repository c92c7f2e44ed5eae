"""Approvals, their lifetimes, and the forecast of when the current one may end.

"Any other setting causes that approval to age out" (setup guide, step 4). Contested for apps whose users are
pre-authorised by an admin: for these, Salesforce's CLI guide recommends an expiry of 90 days or less.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from statistics import median

from monitor.core.connection import Connection
from monitor.core.history import Approval, History
from monitor.core.inside import Facts
from monitor.core.policy import Policy
from monitor.core.reads import time_in

LEAD_SHARE = 1 / 6
"""The last part of a lifetime, in which the forecast is a finding: 5 days of a month, 15 of 90 days. Enough
for a change by ticket, without warning half of the time."""

CRITICAL = timedelta(days=2)
"""When the forecast becomes critical: time to reach an admin on the next working day in most weeks."""

SHORTEST_LIFETIME = timedelta(days=1)
"""Approvals that ended sooner suggest an admin at work rather than a policy. Policies in hours are possible,
but a forecast of hours comes too late to act on."""


class Grounds(StrEnum):
    """The source of a forecast: a policy, read by an audit or declared, or earlier approvals' lifetimes."""

    READ = "read"
    DECLARED = "declared"
    LEARNT = "learnt"
    SIBLINGS = "siblings"
    """Of other connections with the same consumer key."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the current approval may end, and why."""

    at: datetime
    grounds: Grounds
    lifetime: timedelta
    reason: str

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
    declared, audit = connection.approval, history.audit
    shown = audit.policy if audit else None
    if audit and shown and shown.refresh:
        row = audit.approval(connection.app)
        given, used = time_in(row, "CreatedDate"), time_in(row, "LastUsedDate")
        found = _of_policy(shown, Grounds.READ, given, used, history)
    elif declared:
        given = datetime.combine(declared.granted, time(), UTC) if declared.granted else None
        policy = Policy("", declared.policy, declared.days or 0, "days")
        found = _of_policy(policy, Grounds.DECLARED, given, None, history)
    else:
        found = _learnt(history, siblings)
    if found is None or now - found.at > found.lifetime * LEAD_SHARE:
        return None
    return found


def note(connection: Connection, audit: Facts | None = None) -> str | None:
    """A caveat for inactivity policies: the monitor's own logins may keep the approval alive."""
    shown, declared = audit.policy if audit else None, connection.approval
    if (shown.refresh if shown and shown.refresh else declared and declared.policy) != "inactivity":
        return None
    return (
        "The policy ends approvals that are not used. Each check may count as a use (this is not"
        " documented), so the monitor itself may keep this approval alive, and hide that production no"
        " longer uses it."
    )


def _of_policy(
    policy: Policy, grounds: Grounds, given: datetime | None, used: datetime | None, history: History
) -> Forecast | None:
    """The forecast from a policy, counted from the day that the approval was given, or from its last use."""
    seen, ended = history.approval_since, history.approvals[-1].until if history.approvals else None
    if given is None or (ended and given <= ended):
        given = seen  # unknown, or an earlier approval's
    if policy.refresh == "lifetime":
        since, what = given, "was first seen" if given is seen else "was given"
    else:
        since, what = max(filter(None, (used, history.last_success)), default=None), "was last used"
    if since is None or (seen is None and since is not given) or (at := policy.end(since)) is None:
        return None
    whose = "app's" if grounds is Grounds.READ else "declared"
    reason = f"The {whose} policy {policy.ageing}; this one {what} on {since:%Y-%m-%d}."
    return Forecast(at, grounds, at - since, reason)


def lifetimes(approvals: tuple[Approval, ...]) -> tuple[float, ...]:
    """The lifetimes that are long enough to reflect a policy, in days."""
    return tuple(one.days for one in approvals if one.until - one.since >= SHORTEST_LIFETIME)


def _learnt(history: History, siblings: tuple[Approval, ...]) -> Forecast | None:
    if history.approval_since is None:
        return None
    for grounds, approvals, whose in (
        (Grounds.LEARNT, history.approvals, "of this connection"),
        (Grounds.SIBLINGS, siblings, "of the same app on other connections"),
    ):
        if lived := lifetimes(approvals):
            days = median(lived)
            earlier = "One earlier approval" if len(lived) == 1 else f"{len(lived)} earlier approvals"
            reason = (
                f"{earlier} {whose} lasted {days:.1f} days{' (median)' if len(lived) > 1 else ''};"
                f" this one was first seen on {history.approval_since:%Y-%m-%d}."
            )
            lifetime = timedelta(days=days)
            return Forecast(history.approval_since + lifetime, grounds, lifetime, reason)
    return None
