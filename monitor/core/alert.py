"""An alert as a value, and what it is derived from.

The labels are its identity; its texts are built only for a message.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from monitor.core import maintenance
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.holds import Holds
from monitor.core.status import ConnectionStatus, Snapshot
from monitor.core.wording import Links, minute


@dataclass(frozen=True, slots=True)
class Terms:
    """The operator's settings for alerts."""

    holds: Holds
    links: Links


@dataclass(frozen=True)
class Alert:
    """A problem that someone should know about, whether or not notifications are held back."""

    labels: Mapping[str, str]
    """Its identity, including `alertname`: the same labels as from the Prometheus rule."""
    title: str
    """What is wrong, without the connection's name."""
    texts: Callable[[], Mapping[str, str]] = field(compare=False, repr=False)
    """Builds the annotations, lazily: most alerts are not in any message."""
    since: datetime
    concerns: Connection | None = None
    """None: the daemon itself."""
    held_back: str = field(default="", compare=False)
    """Why notifications are held back; empty if they are not."""

    @property
    def name(self) -> str:
        """The alert's name."""
        return self.labels["alertname"]

    @property
    def connection(self) -> str:
        """The connection's name; empty for the daemon itself."""
        return self.labels.get("connection", "")

    @property
    def group(self) -> str:
        """The same for all alerts with the same fix: the same cause in the same app.

        Causes in our network, clock or address, or at Salesforce, are grouped across apps.
        """
        entry = CATALOGUE.get(Cause(self.labels["cause"])) if "cause" in self.labels else None
        if self.concerns is None or (entry and (entry.shared_fault or entry.transient)):
            return self.name
        return f"{self.name} {hashlib.sha256(app_of(self.concerns).encode()).hexdigest()[:12]}"

    @cached_property
    def annotations(self) -> Mapping[str, str]:
        """Summary, description, links."""
        return self.texts()


def fingerprint(alertname: str, connection: str) -> str:
    """A short identifier of an alert that does not change with its other labels."""
    return hashlib.sha256(f"{alertname}\n{connection}".encode()).hexdigest()[:16]


def app_of(connection: Connection) -> str:
    """The app's name, or its consumer key if the name is unknown."""
    return connection.app or connection.consumer_key


@dataclass(frozen=True)
class AlertContext:
    """A Snapshot with the operator's settings for alerts."""

    snapshot: Snapshot
    terms: Terms

    @property
    def now(self) -> datetime:
        """The snapshot's time."""
        return self.snapshot.at

    @cached_property
    def watched(self) -> tuple[ConnectionStatus, ...]:
        """The connections that are not paused."""
        return tuple(status for status in self.snapshot.connections if not status.connection.paused)

    def lasted(self, since: datetime, span: timedelta) -> bool:
        """Whether a condition has lasted for `span`."""
        return lasted(since, span, self.now)

    def maintenance(self, connection: Connection | None = None) -> str:
        """When the current maintenance ends, global or of this connection, in words; empty without one."""
        end = self._maintenance_end(connection)
        return f"maintenance until {minute(end)}" if end else ""

    def after_maintenance(self, connection: Connection, span: timedelta) -> str:
        """When a maintenance, global or of this connection, ended within `span`, in words."""
        windows = self.snapshot.daemon.maintenance + connection.maintenance
        end = maintenance.ended(windows, self.now)
        return f"maintenance until {minute(end)} still counts" if end and not self.lasted(end, span) else ""

    @cached_property
    def _maintenance_end(self) -> Callable[[Connection | None], datetime | None]:
        return self.snapshot.maintenance()


def lasted(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether a condition has lasted for `span`. If it began in the future (the clock was set back), it
    has.
    """
    return since > now or now - since >= span
