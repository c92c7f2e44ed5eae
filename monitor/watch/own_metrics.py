"""Metrics about the daemon itself, reset when the process restarts."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

# `_created` series double the number of series, and say no more than the process's start time.
disable_created_metrics()  # type: ignore[no-untyped-call] # theirs

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

EXCHANGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: orgs answer in 0.1 to a few seconds; the last bucket is the exchange's timeout."""

DELAY_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0)
"""Seconds: from an idle daemon to one that is late by a whole default interval."""


class OwnMetrics(Collector):
    """Metrics about the daemon itself, reset when the process restarts.

    Values that other parts already count (exchanges in flight, store errors) are read at the scrape.
    """

    def __init__(
        self,
        *,
        in_flight: Callable[[], int] = lambda: 0,
        store_errors: Callable[[], int] = lambda: 0,
        unwritten_seconds: Callable[[], float] = lambda: 0.0,
        damages: Callable[[], int] = lambda: 0,
    ) -> None:
        self._registry = registry = CollectorRegistry()
        self._store_errors = store_errors
        self._damages = damages
        self.exchange_duration = Histogram(
            "bearerwatch_exchange_duration_seconds",
            "How long exchanges took, from the start of the connection to the end of the answer.",
            buckets=EXCHANGE_BUCKETS,
            registry=registry,
        )
        Gauge("bearerwatch_exchanges_in_flight", "Exchanges in progress.", registry=registry).set_function(
            in_flight
        )
        Gauge(
            "bearerwatch_store_unwritten_seconds",
            "How long the oldest result not yet in the database has waited; normally at most a second.",
            registry=registry,
        ).set_function(unwritten_seconds)
        self.schedule_delay = Histogram(
            "bearerwatch_schedule_delay_seconds",
            "How late checks started.",
            buckets=DELAY_BUCKETS,
            registry=registry,
        )
        self.schedule_missed = Counter(
            "bearerwatch_schedule_missed_total", "Due checks that did not happen.", registry=registry
        )
        self.logins_deferred = Counter(
            "bearerwatch_logins_deferred_total",
            "Checks postponed because the login budget of their username was used up.",
            registry=registry,
        )
        self.audit_calls = Counter(
            "bearerwatch_audit_calls_total",
            "API calls that audits made to orgs; each counts towards the org's daily allocation.",
            registry=registry,
        )
        self.notifications = Counter(
            "bearerwatch_notifications_total", "Notifications sent, including failed ones.", registry=registry
        )
        self.notifications_failed = Counter(
            "bearerwatch_notifications_failed_total", "Notifications that failed.", registry=registry
        )
        log_messages = Counter("bearerwatch_log_messages_total", "Log lines.", ["level"], registry=registry)
        self.log_messages_dropped = Counter(
            "bearerwatch_log_messages_dropped_total",
            "Log lines dropped because nothing read them.",
            registry=registry,
        )
        self._log_messages = {level: log_messages.labels(level=level) for level in LOG_LEVELS}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def count_notification(self, arrived: bool) -> None:
        """Count one attempt to notify."""
        self.notifications.inc()
        if not arrived:
            self.notifications_failed.inc()

    def count_log_message(self, level: str) -> None:
        """Count one log line; levels other than LOG_LEVELS count as errors."""
        self._log_messages.get(level, self._log_messages["error"]).inc()

    def collect(self) -> Iterable[Metric]:
        """The metric families, for the library to render."""
        yield CounterMetricFamily(
            "bearerwatch_store_errors", "Failed writes to the database.", value=self._store_errors()
        )
        yield CounterMetricFamily(
            "bearerwatch_store_damaged", "Damaged databases that were moved aside.", value=self._damages()
        )
        yield from self._registry.collect()
