"""Fleets on schedule: are all connections checked on time, and does the event loop stay responsive?

1. One interval: one check per connection, while Prometheus scrapes.
2. All connections due at once, as when a suspended machine wakes up, while health and metrics are requested.
"""

import http.client
import select
import time
from contextlib import closing
from dataclasses import dataclass

from bench.daemon import Lag, Run, StartUp, Watching
from bench.elsewhere import Elsewhere
from bench.figures import Figure, percentile

GOAL_LAG_MS = 100.0
GOAL_LAG_IN_SCRAPE_MS = 50.0
GOAL_HEALTHY_SECONDS = 1.0
GOAL_METRICS_SECONDS = 0.1
GOAL_KIB = 20.0

GOALS_FROM = 10_000
"""Least fleet for the goal of memory per connection: fixed costs are negligible."""

SCRAPE_SECONDS = 5.0
"""Between scrapes; Prometheus' default is 15 or 60."""

ASK_SECONDS = 0.25
"""Between requests for health and metrics while all are due at once."""

PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
    "Accept-Encoding": "gzip",
}
"""Prometheus' request headers."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The daemon's longest response times, in seconds."""

    healthy: float = 0.0
    metrics: float = 0.0


def whole_interval(watching: Elsewhere[Watching], count: int) -> list[Figure]:
    """Run a fleet from its start through one interval."""
    address = watching.call(Watching.address)
    start = watching.call(Watching.take_on)
    watching.ask(Watching.whole_interval)
    answers = _ask_until_done(watching, address, SCRAPE_SECONDS)
    run: Run = watching.answer()
    what = f"{count:,} connections over {run.seconds:.0f} s"
    return [
        *_kept(what, run, start),
        Figure(f"{what}: check after its appointment, median", 1000 * percentile(run.delays, 0.5), "ms"),
        Figure(f"{what}: … 99 %", 1000 * percentile(run.delays, 0.99), "ms"),
        Figure(f"{what}: … worst", 1000 * max(run.delays), "ms"),
        *_lags(f"{what}: event loop late", run.lags, GOAL_LAG_MS),
        *_lags(f"{what}: event loop late while scraped", run.lags_in_scrapes, GOAL_LAG_IN_SCRAPE_MS),
        Figure(f"{what}: /metrics answered within", answers.metrics, "s"),
        Figure(
            f"{what}: memory of a connection",
            (run.kib - start.kib_before) / count,
            "KiB",
            GOAL_KIB if count >= GOALS_FROM else None,
        ),
        Figure(f"{what}: memory in all", run.kib / 1024, "MiB"),
    ]


def all_at_once(watching: Elsewhere[Watching], count: int) -> list[Figure]:
    """Run the same fleet with all checks due at once."""
    address = watching.call(Watching.address)
    watching.call(Watching.suspend)
    watching.ask(Watching.wake_up)
    answers = _ask_until_done(watching, address, ASK_SECONDS)
    run: Run = watching.answer()
    what = f"{count:,} due at once"
    return [
        *_kept(what, run),
        Figure(f"{what}: all checked within", max(run.delays), "s"),
        Figure(f"{what}: /-/healthy answered within", answers.healthy, "s", GOAL_HEALTHY_SECONDS),
        Figure(f"{what}: /metrics answered within", answers.metrics, "s", GOAL_METRICS_SECONDS),
        *_lags(f"{what}: event loop late", run.lags + run.lags_in_scrapes),
    ]


def _kept(what: str, run: Run, start: StartUp | None = None) -> list[Figure]:
    begun = [Figure(f"{what}: start until all have appointments", start.seconds, "s")] if start else []
    return [
        *begun,
        Figure(f"{what}: checks", run.checks),
        Figure(f"{what}: not checked, though due", run.unchecked, goal=0),
        Figure(f"{what}: missed, by the schedule's own count", run.missed, goal=0),
        Figure(f"{what}: falsely failed", run.failed, goal=0),
        Figure(f"{what}: CPU of a check, scrapes included", 1000 * run.cpu_seconds / run.checks, "ms"),
    ]


def _lags(what: str, lags: list[Lag], goal: float | None = None) -> list[Figure]:
    return [
        Figure(f"{what}, worst", 1000 * max((lag.own for lag in lags), default=0), "ms", goal),
        Figure(
            f"{what}, worst, with what others took", 1000 * max((lag.whole for lag in lags), default=0), "ms"
        ),
    ]


def _ask_until_done(watching: Elsewhere[Watching], address: str, pause_seconds: float) -> Answers:
    """Request health and metrics repeatedly until the run is over."""
    worst = Answers()
    while not watching.answered(pause_seconds):
        worst = Answers(
            max(worst.healthy, _seconds(watching, address, "/-/healthy")),
            max(worst.metrics, _seconds(watching, address, "/metrics")),
        )
    return worst


def _seconds(watching: Elsewhere[Watching], address: str, path: str) -> float:
    """The response time; 0 if the run ended meanwhile."""
    began = time.monotonic()
    with closing(http.client.HTTPConnection(address, timeout=60)) as line:
        line.request("GET", path, headers=PROMETHEUS)
        while not select.select([line.sock], [], [], ASK_SECONDS)[0]:
            if watching.answered(0):
                return 0.0
        answer = line.getresponse()
        answer.read()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{path} answered {answer.status}")
    return time.monotonic() - began
