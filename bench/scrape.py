"""What a scrape costs: its CPU as a ratio to joining the same bytes, its memory, and the event loop lag.

Baseline and measurement alternate in one process, and medians are compared, so that a busy machine
affects both.
Run it with `python -m bench.scrape`; it needs no server and no network.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from bench.figures import Figure
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import Connection, Pair, Source
from monitor.core.finding import Certainty, Finding, State
from monitor.core.history import History, Slot
from monitor.core.keys.credential import CertificateFacts, CredentialFacts
from monitor.core.outcome import Exchange, Granted
from monitor.core.status import ConnectionStatus, DaemonStatus, Snapshot
from monitor.watch.own_metrics import OwnMetrics
from monitor.web.metrics import FAMILIES, MetricsPage

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

GOAL_RATIO = 1.3
"""Scrape compared with joining the same bytes, without changes in between."""

GOAL_CHANGED = 2.0
GOAL_FIRST = 20.0
"""The same after some have changed, and for the first scrape after a start."""

GOAL_FROM = 10_000
"""Least number of connections for the goal: below that, the library's few milliseconds for the totals
dominate."""

GOAL_LAG_MS = 10.0
"""The loop's worst lag while a worker thread renders."""

CHANGED_SHARE = 0.05
"""Share of connections that change between scrapes: a scrape each 15 s, a check each 5 minutes."""

ROUNDS = 15
FIRSTS = 5
"""How often each is measured."""


def status(number: int) -> ConnectionStatus:
    """A typical connection: granted, with a certificate, one in ten with a finding."""
    at = NOW - timedelta(milliseconds=number)
    found = Finding(
        Cause.CERTIFICATE_EXPIRING, Severity.WARNING, Responsible.OPERATOR, Certainty.CERTAIN, (), at
    )
    connection = Connection(
        name=f"customer-{number:05}",
        login_url=f"https://customer{number}.my.salesforce.com",
        audience=f"https://customer{number}.my.salesforce.com",
        consumer_key="3MVG9",
        username="integration@example.com",
        current=Pair(Source("file", "key.pem")),
        labels=(("customer", f"customer {number}"), ("tier", "gold")),
    )
    certificate = CertificateFacts(at, at + timedelta(days=365), "0A", "f", "CN=c", "k")
    last = Exchange(
        at, Granted("opaque", None, None, None, None), duration_seconds=0.25, clock_offset_seconds=0.1
    )
    history = History(
        at,
        at,
        exchanges=8_000 + number,
        failures=3,
        failures_by_cause={Cause.SALESFORCE_UNAVAILABLE: 3},
        last_exchange=last,
        last_success=at,
        approval_since=at - timedelta(days=20),
        keys_accepted={Slot.CURRENT: True},
        state=State.HEALTHY if number % 10 else State.DEGRADED,
        findings=() if number % 10 else (found,),
    )
    return ConnectionStatus(
        connection, history, CredentialFacts(certificate=certificate), next_exchange=at + timedelta(minutes=5)
    )


def snapshot(statuses: tuple[ConnectionStatus, ...]) -> Snapshot:
    """The fleet at one time."""
    return Snapshot(NOW, DaemonStatus(NOW, "0", len(statuses), NOW), statuses, {})


def churn(statuses: tuple[ConnectionStatus, ...], turn: int) -> Snapshot:
    """The fleet after granted checks of CHANGED_SHARE of it."""
    step = round(1 / CHANGED_SHARE)
    return snapshot(
        tuple(checked(one) if number % step == turn % step else one for number, one in enumerate(statuses))
    )


def checked(status: ConnectionStatus) -> ConnectionStatus:
    """The connection after one more check like the last one."""
    history, last = status.history, status.history.last_exchange
    assert last
    assert status.next_exchange
    later = timedelta(minutes=5)
    history = replace(
        history,
        exchanges=history.exchanges + 1,
        last_exchange=replace(last, at=last.at + later, duration_seconds=0.26),
        last_success=last.at + later,
        keys_accepted=dict(history.keys_accepted),
    )
    return replace(status, history=history, next_exchange=status.next_exchange + later)


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU time of this thread for `work`, in milliseconds."""
    before = time.thread_time()
    work()
    return (time.thread_time() - before) * 1000


async def worst_lag_ms(work: Callable[[], object]) -> float:
    """The loop's worst lag while a worker thread does `work`."""
    worst, pause = 0.0, 0.002
    running = asyncio.create_task(asyncio.to_thread(work))
    while not running.done():
        before = time.perf_counter()
        await asyncio.sleep(pause)
        worst = max(worst, time.perf_counter() - before - pause)
    return worst * 1000


def figures(count: int, rounds: int = ROUNDS) -> list[Figure]:
    """The cost of a scrape of `count` connections."""
    statuses = tuple(status(number) for number in range(count))
    fleet = snapshot(statuses)
    page = MetricsPage(OwnMetrics())

    firsts = [cpu_ms(lambda: MetricsPage(OwnMetrics()).render(fleet)) for _ in range(FIRSTS)]
    page.render(fleet)
    gc.collect()
    by_connection = [
        [
            b"" if (value := family.value(one)) is None else family.lines(value, one.name)
            for family in FAMILIES
        ]
        for one in statuses
    ]
    pieces = [
        line for column in zip(*by_connection, strict=True) for line in column
    ]  # in the same layout as the page
    rendered = b"".join(page.render(fleet)[0])

    changed = [churn(statuses, turn) for turn in range(rounds)]
    joins: list[float] = []
    scrapes: list[float] = []
    open_metrics: list[float] = []
    churned: list[float] = []
    for some_changed in changed:
        joins.append(cpu_ms(lambda: b"".join(pieces)))
        scrapes.append(cpu_ms(lambda: page.render(fleet)))
        open_metrics.append(cpu_ms(lambda: page.render(fleet, "application/openmetrics-text")))
        churned.append(cpu_ms(partial(page.render, some_changed)))
        page.render(fleet)
    join = statistics.median(joins)
    ratio = statistics.median(scrapes) / join

    lags = [asyncio.run(worst_lag_ms(lambda: page.render(fleet))) for _ in range(5)]
    cold = asyncio.run(worst_lag_ms(lambda: MetricsPage(OwnMetrics()).render(fleet)))

    gc.collect()
    tracemalloc.start()
    kept = MetricsPage(OwnMetrics())
    before = tracemalloc.get_traced_memory()[0]
    kept.render(fleet)
    gc.collect()
    held = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()

    what = f"scrape of {count:,}"
    goal, of_changed, of_first = (
        (GOAL_RATIO, GOAL_CHANGED, GOAL_FIRST) if count >= GOAL_FROM else (None, None, None)
    )
    return [
        Figure(f"{what}: page", len(rendered) / 1e6, "MB"),
        Figure(f"{what}: CPU of joining the same bytes", join, "ms"),
        Figure(f"{what}: CPU, nothing changed / join", ratio, goal=goal),
        Figure(f"{what}: CPU, in OpenMetrics / join", statistics.median(open_metrics) / join, goal=goal),
        Figure(
            f"{what}: CPU, {CHANGED_SHARE:.0%} changed / join",
            statistics.median(churned) / join,
            goal=of_changed,
        ),
        Figure(f"{what}: CPU, the first one / join", statistics.median(firsts) / join, goal=of_first),
        Figure(f"{what}: lines kept of a connection", held / 1024, "KiB"),
        Figure(
            f"{what}: event loop late, idle otherwise (median of 5)",
            statistics.median(lags),
            "ms",
            GOAL_LAG_MS,
        ),
        Figure(f"{what}: event loop late, the first one", cold, "ms"),
    ]


def main() -> int:
    """Measure the requested sizes. Gives 1 if a goal is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--connections", type=int, nargs="+", default=[1_000, 10_000])
    found = [figure for count in arguments.parse_args().connections for figure in figures(count)]
    sys.stdout.writelines(f"{figure}\n" for figure in found)
    return int(any(figure.missed for figure in found))


if __name__ == "__main__":
    sys.exit(main())
