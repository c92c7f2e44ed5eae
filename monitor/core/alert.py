"""An alert as a value, and the moment that it is derived from.

The labels are its identity; its texts are made when somebody is notified of it.
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
    """What the operator decides about alerts."""

    holds: Holds
    links: Links


@dataclass(frozen=True)
class Alert:
    """Something that a person should know, whether or not anybody is notified now."""

    labels: Mapping[str, str]
    """Its identity, with `alertname`: the labels that the rule for Prometheus gives it."""
    title: str
    """What is wrong, without the connection's name."""
    texts: Callable[[], Mapping[str, str]] = field(compare=False, repr=False)
    """Makes the annotations: most alerts of a moment are in no message."""
    since: datetime
    concerns: Connection | None = None
    """None: the daemon itself."""
    held_back: str = field(default="", compare=False)
    """Why nobody is notified now; empty where nothing speaks against it."""

    @property
    def name(self) -> str:
        """The alert's name."""
        return self.labels["alertname"]

    @property
    def connection(self) -> str:
        """The connection's name; empty where it is the daemon itself."""
        return self.labels.get("connection", "")

    @property
    def group(self) -> str:
        """The same for all alerts with one thing to fix: the same cause in the same app.

        What has its cause in our network, clock or address, or in Salesforce, has nothing to do with the app.
        """
        entry = CATALOGUE.get(Cause(self.labels["cause"])) if "cause" in self.labels else None
        if self.concerns is None or (entry and (entry.shared_fault or entry.transient)):
            return self.name
        return f"{self.name} {hashlib.sha256(app_of(self.concerns).encode()).hexdigest()[:12]}"

    @cached_property
    def annotations(self) -> Mapping[str, str]:
        """What it says: summary, description, links."""
        return self.texts()


def fingerprint(alertname: str, connection: str) -> str:
    """A short word for an alert, the same for as long as it holds, whatever its other labels become."""
    return hashlib.sha256(f"{alertname}\n{connection}".encode()).hexdigest()[:16]


def app_of(connection: Connection) -> str:
    """What stands for the app that a connection logs in to: its name, else the consumer key."""
    return connection.app or connection.consumer_key


@dataclass(frozen=True)
class Moment:
    """A Snapshot under the operator's terms."""

    snapshot: Snapshot
    terms: Terms

    @property
    def now(self) -> datetime:
        """When it is."""
        return self.snapshot.at

    @cached_property
    def watched(self) -> tuple[ConnectionStatus, ...]:
        """The connections that are not paused."""
        return tuple(status for status in self.snapshot.connections if not status.connection.paused)

    def lasted(self, since: datetime, span: timedelta) -> bool:
        """Whether it has been so for that long."""
        return lasted(since, span, self.now)

    def maintenance(self, connection: Connection | None = None) -> str:
        """Until when there is maintenance, of all or of this connection, in words; empty if there is none."""
        end = self._maintenance_end(connection)
        return f"maintenance until {minute(end)}" if end else ""

    def after_maintenance(self, connection: Connection, span: timedelta) -> str:
        """When there was maintenance of all or of this connection within that time, in words."""
        windows = self.snapshot.daemon.maintenance + connection.maintenance
        end = maintenance.ended(windows, self.now)
        return f"maintenance until {minute(end)} counts yet" if end and not self.lasted(end, span) else ""

    @cached_property
    def _maintenance_end(self) -> Callable[[Connection | None], datetime | None]:
        return self.snapshot.maintenance()


def lasted(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether it has been so for that long. What began ahead of the clock, which was set back, has."""
    return since > now or now - since >= span
