"""The geometry of charts: a strip of days, the fleet's bar, a timeline of approvals.

Templates turn it into SVG. The only texts here are dates from `words`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from types import SimpleNamespace

from monitor.core.cadence import EPOCH
from monitor.core.finding import State
from monitor.core.history import History
from monitor.core.status import WORST_FIRST
from monitor.core.verdict.approval import Forecast
from monitor.store import EXCHANGES_KEPT, DayCounts, PastExchange, Verdict
from monitor.web.words import seconds

STRIP_DAYS = 30
"""Days in a strip: a month shows weekly patterns, and is the shortest usual approval lifetime."""

DAY_WIDTH = 4
"""In units of the strip: 3 for the day, 1 for the gap."""

STRIP_HEIGHT = 20
DURATIONS_HEIGHT = 40
_MIDDLE, _UP, _DOWN = 11, 10, 8
_LEAST = 3
"""Least height, so that a single refusal among hundreds of grants is visible."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A connection's last days: grants above a line, refusals below it.

    So position distinguishes them as well as colour. A day without a verdict is a dot on the line, one
    without a check a gap.
    """

    granted: str
    refused: str
    no_verdict: str
    """SVG paths."""
    words: str
    """A text alternative."""
    first: date
    last: date

    width: int = STRIP_DAYS * DAY_WIDTH - 1
    height: int = STRIP_HEIGHT


def first_day(today: date) -> date:
    """The first day of a strip ending today."""
    return today - timedelta(days=STRIP_DAYS - 1)


def strip(counted: Sequence[DayCounts], today: date) -> Strip:
    """The strip ending today."""
    first = first_day(today)
    granted, refused, no_verdict = [], [], []
    for day in counted:
        place = (day.day - first).days
        if not 0 <= place < STRIP_DAYS:
            continue
        x, verdicts = place * DAY_WIDTH, day.granted + day.refused
        if day.granted:
            height = max(_LEAST, round(_UP * day.granted / verdicts))
            granted.append(f"M{x} {_MIDDLE}h3v-{height}h-3z")
        if day.refused:
            height = max(_LEAST, round(_DOWN * day.refused / verdicts))
            refused.append(f"M{x} {_MIDDLE + 1}h3v{height}h-3z")
        if day.no_verdict and not verdicts:
            no_verdict.append(f"M{x} {_MIDDLE - 1}h3v3h-3z")
    words = [
        f"{len(days)} {'day' if len(days) == 1 else 'days'} {what}"
        for days, what in (
            (granted, "with grants"),
            (refused, "with refusals"),
            (no_verdict, "without a verdict"),
        )
        if days
    ]
    return Strip(
        "".join(granted),
        "".join(refused),
        "".join(no_verdict),
        f"Last {STRIP_DAYS} days: {', '.join(words) or 'no checks'}",
        first,
        today,
    )


def durations(exchanges: Sequence[PastExchange]) -> SimpleNamespace | None:
    """Durations of the last exchanges as bars, newest on the right; None without measurements."""
    took = [past.duration_seconds for past in exchanges if past.duration_seconds is not None]
    if not took or not max(took):
        return None
    paths: dict[bool, list[str]] = {True: [], False: []}
    for place, past in enumerate(exchanges):
        if past.duration_seconds is not None:
            x = (EXCHANGES_KEPT - 1 - place) * DAY_WIDTH
            height = max(1, round(DURATIONS_HEIGHT * past.duration_seconds / max(took)))
            paths[past.verdict is Verdict.GRANTED].append(f"M{x} {DURATIONS_HEIGHT}h3v-{height}h-3z")
    said = f"median {seconds(median(took))}, slowest {seconds(max(took))}"
    words = f"Last {len(took)} exchanges: {said}" if len(took) > 1 else f"Last exchange: {seconds(took[0])}"
    return SimpleNamespace(
        granted="".join(paths[True]),
        others="".join(paths[False]),
        words=words,
        width=EXCHANGES_KEPT * DAY_WIDTH - 1,
        height=DURATIONS_HEIGHT,
    )


_LEAST_SHARE = 1.0
"""In percent: a few among thousands remain visible."""


def shares(counts: Mapping[State, int]) -> list[tuple[State, float, float]]:
    """The fleet's bar: the start and width of each state's part in percent, worst first."""
    total = sum(counts.values())
    present = [(state, counts[state]) for state in WORST_FIRST if counts[state]]
    raw = [max(_LEAST_SHARE, 100 * count / total) for _, count in present]
    scale = 100 / sum(raw) if raw else 1
    found, x = [], 0.0
    for (state, _), width in zip(present, raw, strict=True):
        found.append((state, round(x, 3), round(width * scale, 3)))
        x += width * scale
    return found


_TICKS_AT_MOST = 6
_STEPS = tuple(
    timedelta(hours=hours) for hours in (1, 6, 24, 72, 168, 720, 2160, 4320, 8766, 43830, 175320, 876600)
)
_DAY = timedelta(days=1)
_ROOM = 0.02
"""Margin at both ends, as a share of the width."""


def timeline(history: History, forecast: Forecast | None, now: datetime) -> SimpleNamespace | None:
    """Approvals from the first known one to the forecast end of the current one; None without any.

    Its `epochs` are `ended`, `current`, or `forecast`: the rest of the current one. Its `ticks` are dates on
    the axis. All places are in percent of the width, as is `now`.
    """
    stretches = [("ended", epoch.since, epoch.until) for epoch in history.approvals]
    if history.approval_since:
        stretches.append(("current", history.approval_since, max(now, history.approval_since)))
        if forecast and forecast.at > now:
            stretches.append(("forecast", now, forecast.at))
    if not stretches:
        return None
    start = min(since for _, since, _ in stretches)
    end = max(now, *(until for _, _, until in stretches))
    length = max(end - start, timedelta(hours=1))
    start, length = start - length * _ROOM, length * (1 + 2 * _ROOM)

    def place(moment: datetime) -> float:
        return round(100 * ((moment - start) / length), 3)

    epochs = [
        SimpleNamespace(
            kind=kind, x=place(since), width=round(place(until) - place(since), 3), since=since, until=until
        )
        for kind, since, until in stretches
    ]
    return SimpleNamespace(epochs=epochs, ticks=_ticks(start, length), now=place(now))


def _ticks(start: datetime, length: timedelta) -> list[tuple[float, str]]:
    step = next((step for step in _STEPS if length / step <= _TICKS_AT_MOST), _STEPS[-1])
    text = "%H:%M" if step < _DAY else "%-d %b" if step < 90 * _DAY else "%b %Y"
    at = EPOCH + ((start - EPOCH) // step + 1) * step
    found = []
    while at < start + length:
        found.append((round(100 * ((at - start) / length), 3), at.strftime(text)))
        at += step
    return found
