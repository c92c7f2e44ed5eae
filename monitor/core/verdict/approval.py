"""Approval epochs, their lifetimes, and the forecast: when the org's approval of a user may end.

"Any other setting causes that approval to age out" (setup guide, step 4). Contested for apps whose users are
pre-authorised by an admin: Salesforce's CLI guide recommends an expiry of 90 days or less for just those.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from statistics import median

from monitor.core.connection import Connection
from monitor.core.history import Approval, History

LEAD_SHARE = 1 / 6
"""The last part of a lifetime in which the forecast is a finding: 5 days of a month, 15 of 90 days.
Enough for a change by ticket; short enough that it does not stand half of the time."""

CRITICAL = timedelta(days=2)
"""The last part of an approval's forecast life: time to reach an admin on the next working day in most weeks,
and less than the warning, which comes a sixth of the lifetime ahead."""

SHORTEST_LIFETIME = timedelta(days=1)
"""Epochs that ended sooner tell of an admin at work, not of a policy: policies are mostly in days or months;
those in hours are possible, but a forecast of hours warns nobody in time."""


class Grounds(StrEnum):
    """What a forecast rests on."""

    DECLARED = "declared"
    """The refresh token policy that the owner wrote into the configuration."""
    LEARNT = "learnt"
    """Lifetimes of this connection's own approvals that ended."""
    SIBLINGS = "siblings"
    """Lifetimes of approvals of other connections with the same consumer key."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the approval that serves now may end, and why that is believed."""

    at: datetime
    grounds: Grounds
    lifetime: timedelta
    reason: str
    """A sentence for a person."""

    @property
    def warns_from(self) -> datetime:
        """From when on it is a finding: LEAD_SHARE of the lifetime before the end."""
        return self.at - self.lifetime * LEAD_SHARE


def forecast(
    connection: Connection, history: History, siblings: tuple[Approval, ...], now: datetime
) -> Forecast | None:
    """When the approval may end, from the best grounds that there are. None where nothing says that it will.

    1. A declared policy decides. `until_revoked` has no end; `immediately` has none that could be foreseen.
    2. Else the median lifetime of this connection's own approvals that ended, else that of its siblings.
    3. An approval that outlived its forecast by the lead proves the grounds wrong: no forecast then.
    """
    policy = connection.approval
    if policy is None:
        found = _learnt(history, siblings)
    elif policy.policy in {"lifetime", "inactivity"} and policy.days:
        found = _declared(connection, history, timedelta(days=policy.days))
    else:
        found = None
    if found is None or now > found.at + found.lifetime * LEAD_SHARE:
        return None
    return found


def note(connection: Connection) -> str | None:
    """What must be said beside a declared policy, as the monitor itself may change what it watches."""
    if connection.approval is None or connection.approval.policy != "inactivity":
        return None
    return (
        "The declared policy ends approvals that are not used. Each check may count as a use (no document"
        " says whether it does), so the monitor itself may keep this approval alive, and hide that production"
        " no longer uses it."
    )


def lifetimes(approvals: tuple[Approval, ...]) -> tuple[timedelta, ...]:
    """The lifetimes among these epochs that can tell of a policy."""
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
            f" is from {history.last_success:%Y-%m-%d}."
        )
        return Forecast(history.last_success + lifetime, Grounds.DECLARED, lifetime, reason)
    granted = datetime.combine(policy.granted, time(), UTC) if policy.granted else None
    ended_since = history.approvals and (granted is None or history.approvals[-1].until >= granted)
    # The declared day is older than any grant that the monitor saw, unless an approval ended after it.
    since = history.approval_since if ended_since or granted is None else granted
    if since is None:
        return None
    reason = (
        f"The declared policy ends an approval after {lifetime.days} days; this one is from {since:%Y-%m-%d}."
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
                f"{earlier} {whose} lived {days:.1f} days{' (median)' if len(lived) > 1 else ''};"
                f" this one was first seen on {history.approval_since:%Y-%m-%d}."
            )
            return Forecast(history.approval_since + lifetime, grounds, lifetime, reason)
    return None
