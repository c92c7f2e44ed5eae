"""Times, durations and responsible parties in words."""

import math
from datetime import datetime, timedelta

from markupsafe import Markup

from monitor.core.causes import Responsible
from monitor.core.finding import State

WHO = {
    Responsible.ORG_ADMIN: "Salesforce admin",
    Responsible.OPERATOR: "Operator",
    Responsible.SALESFORCE: "Salesforce",
}
"""Who must act, in a word or two; see also `core.wording`."""

ACTS = {
    Responsible.ORG_ADMIN: "Salesforce admin acts",
    Responsible.OPERATOR: "Operator acts",
    Responsible.SALESFORCE: "Wait for Salesforce",
}
"""The same as a short remark."""

WITHOUT_FINDING = {
    State.HEALTHY: "Healthy: token granted",
    State.DEGRADED: "Granted",
    State.SETTLING: "Refused shortly after a change",
    State.FAILING: "Refused",
    State.UNKNOWN: "Not checked yet",
    State.PAUSED: "Not checked: paused in the configuration",
}
"""Explanations of states without a finding."""

_UNITS = (
    ("year", "years", 365.25 * 86_400, 2),
    ("month", "months", 30.4375 * 86_400, 4),
    ("day", "days", 86_400, 2),
    ("h", "h", 3_600, 2),
    ("min", "min", 60, 1),
    ("s", "s", 1, 0),
)
"""Singular, plural, seconds, and the least count: below two of a unit the next smaller one is more precise,
and days suit the last quarter of a certificate's lifetime."""


def span(length: timedelta) -> str:
    """A duration in one suitable unit, without sign: `42 s`, `3 h`, `33 days`."""
    seconds = abs(length.total_seconds())
    for one, many, unit, least in _UNITS:
        if seconds >= least * unit:
            count = int(seconds // unit)
            return f"{count} {one if count == 1 else many}"
    raise AssertionError("the last unit takes all")


def relative(moment: datetime, now: datetime) -> str:
    """A time relative to now: `3 h ago`, `in 33 days`, `now`."""
    if abs(moment - now) < timedelta(seconds=1):
        return "now"
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def exact(moment: datetime) -> str:
    """A readable time, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def when(moment: datetime, now: datetime) -> Markup:
    """A relative time that shows the exact one on hovering; not a macro, as a page of the fleet has 400."""
    iso = f"{moment:%Y-%m-%dT%H:%M:%S}"
    shown = relative(moment, now)
    return Markup(f'<time datetime="{iso}Z" title="{iso.replace("T", " ")} UTC">{shown}</time>')  # noqa: S704 - no text of others


def percent(share: float | None) -> str:
    """An availability, never rounded up to 100 %: `99.98 %`, `100 %`."""
    if share is None:
        return "unknown"
    shown = f"{math.floor(share * 10_000) / 100:.2f}".rstrip("0").rstrip(".")
    return f"{shown} %"


def seconds(duration: float) -> str:
    """A short duration: `214 ms`, `1.8 s`."""
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"
