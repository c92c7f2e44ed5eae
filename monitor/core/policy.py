"""The app's policies, as an audit reads them or as they are declared, and when they end an approval."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from monitor.core.reads import Row, text, time_in


@dataclass(frozen=True, slots=True)
class Policy:
    """The app's policies, as read by an audit or declared. Unknown values are left empty, never guessed."""

    permitted: Literal["admin", "self", ""]
    """Whether an admin pre-approves users, or they authorise themselves."""
    refresh: Literal["until_revoked", "immediately", "lifetime", "inactivity", ""]
    period: float = 0
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
        after = f"after {self.period:g} {self.unit or 'hours, days or months (the org does not show which)'}"
        return {
            "lifetime": f"ends an approval {after}",
            "inactivity": f"ends an approval {after} without use",
            "immediately": "ends an approval at once",
        }.get(self.refresh, "")

    def end(self, since: datetime) -> datetime | None:
        """When an approval that began (or was used) at `since` ends; None without a plausible time."""
        if self.refresh not in {"lifetime", "inactivity"} or not 0 < self.period <= LONGEST_PERIOD:
            return None
        try:
            if self.unit == "months":
                months = since.month - 1 + int(self.period)
                year, month = since.year + months // 12, months % 12 + 1
                at = since.replace(year=year, month=month, day=min(since.day, monthrange(year, month)[1]))
            elif self.unit:
                at = since + timedelta(**{self.unit: self.period})
            else:
                return None
        except (ValueError, OverflowError):  # beyond year 9999
            return None
        return at if at.year <= LAST_YEAR else None


LONGEST_PERIOD = 36_500
"""The longest plausible period: a century in days, as in the configuration; Setup accepts 5 digits."""

LAST_YEAR = 2300
"""The last plausible one for an end, a century after the last that is believed of a beginning. Pages can draw
that; close to the year 9999 they can't."""


def of_external_client_app(row: Row) -> Policy:
    """The policies of an External Client App."""
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


def of_classic_app(row: Row) -> Policy:
    """The policies of a classic connected app."""
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
