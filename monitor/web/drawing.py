"""The geometry of what is drawn: a strip of days, the fleet's bar, a timeline of approvals. Numbers only.

The templates turn it into SVG; no text of anybody's passes through here but what `words` makes of moments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from monitor.core.cadence import EPOCH
from monitor.core.finding import State
from monitor.core.history import History
from monitor.core.status import WORST_FIRST
from monitor.core.verdict.approval import Forecast
from monitor.store import EXCHANGES_KEPT, DayCounts, PastExchange, Verdict
from monitor.web.words import seconds

STRIP_DAYS = 30
"""Days of a strip: a month shows the weekly rhythm, and is the shortest lifetime usual for approvals."""

DAY_WIDTH = 4
"""Of the strip's units: 3 for the day, 1 for the gap."""

STRIP_HEIGHT = 20
DURATIONS_HEIGHT = 40
_MIDDLE, _UP, _DOWN = 11, 10, 8
_LEAST = 3
"""A single refusal among hundreds of grants must still be seen."""


@dataclass(frozen=True, slots=True)
class Strip:
    """The last days of a connection: grants rise above a line, refusals hang below it.

    So the two are told apart by their place as well as by their colour. A day without a verdict is a dot on
    the line, one without a check a gap in it.
    """

    granted: str
    refused: str
    no_verdict: str
    """SVG paths."""
    words: str
    """The same for those who can't see it."""
    first: date
    last: date

    width: int = STRIP_DAYS * DAY_WIDTH - 1
    height: int = STRIP_HEIGHT


def strip(counted: Sequence[DayCounts], today: date) -> Strip:
    """The strip that ends today."""
    first = today - timedelta(days=STRIP_DAYS - 1)
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


@dataclass(frozen=True, slots=True)
class Durations:
    """What the last exchanges took: a bar each, the newest on the right."""

    granted: str
    others: str
    """SVG paths."""
    slowest: float
    """Seconds of the highest bar."""
    words: str

    width: int = EXCHANGES_KEPT * DAY_WIDTH - 1
    height: int = DURATIONS_HEIGHT


def durations(exchanges: Sequence[PastExchange]) -> Durations | None:
    """The chart; None where nothing was measured."""
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
    return Durations(
        "".join(paths[True]), "".join(paths[False]), max(took), f"Last {len(took)} exchanges: {said}"
    )


@dataclass(frozen=True, slots=True)
class Share:
    """A state's part of the fleet's bar, in per cent of its width."""

    state: State
    x: float
    width: float


_LEAST_SHARE = 1.0


def shares(counts: Mapping[State, int]) -> tuple[Share, ...]:
    """The fleet's bar: a part for each state there is, worst first. A few among thousands are still seen."""
    total = sum(counts.values())
    present = [(state, counts[state]) for state in WORST_FIRST if counts[state]]
    raw = [max(_LEAST_SHARE, 100 * count / total) for _, count in present]
    scale = 100 / sum(raw) if raw else 1
    found, x = [], 0.0
    for (state, _), width in zip(present, raw, strict=True):
        found.append(Share(state, round(x, 3), round(width * scale, 3)))
        x += width * scale
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Epoch:
    """A stretch of the timeline, in per cent of its width."""

    kind: str
    """`ended`, `current`, or `forecast`: what is left of the current one."""
    x: float
    width: float
    days: float
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment on the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Approval epochs from the first that is remembered to the forecast end of the one that serves now."""

    epochs: tuple[Epoch, ...]
    ticks: tuple[Tick, ...]
    now: float
    """Where now is, in per cent."""


_TICKS_AT_MOST = 6
_STEPS = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 72, 168, 720, 2160, 4320, 8766, 43830))
_DAY = timedelta(days=1)
_ROOM = 0.02
"""Of the width, left free at both ends."""


def timeline(history: History, forecast: Forecast | None, now: datetime) -> Timeline | None:
    """The approval epochs of a connection; None where none was ever seen."""
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

    epochs = tuple(
        Epoch(kind, place(since), round(place(until) - place(since), 3), (until - since) / _DAY, since, until)
        for kind, since, until in stretches
    )
    return Timeline(epochs, _ticks(start, length), place(now))


def _ticks(start: datetime, length: timedelta) -> tuple[Tick, ...]:
    step = next((step for step in _STEPS if length / step <= _TICKS_AT_MOST), _STEPS[-1])
    text = "%H:%M" if step < _DAY else "%-d %b" if step < 90 * _DAY else "%b %Y"
    at = EPOCH + ((start - EPOCH) // step + 1) * step
    found = []
    while at < start + length:
        found.append(Tick(round(100 * ((at - start) / length), 3), at.strftime(text)))
        at += step
    return tuple(found)
