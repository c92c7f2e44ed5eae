"""An alert as a value, and the moment that it is derived from.

The labels are its identity; its texts are made when somebody is told of it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from monitor.core import maintenance
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import Connection
from monitor.core.finding import Finding
from monitor.core.holds import Holds
from monitor.core.status import ConnectionStatus, Snapshot
from monitor.core.wording import Links


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator decides about alerts."""

    holds: Holds
    links: Links


@dataclass(frozen=True)
class Alert:
    """Something that a person should be told, whether or not it is told now. Its mappings never change."""

    labels: Mapping[str, str]
    """Its identity, with `alertname`: the labels that the rule for Prometheus gives it."""
    texts: Callable[[], Mapping[str, str]] = field(compare=False, repr=False)
    """Makes the annotations: most alerts of a moment are not told of in it."""
    since: datetime
    """Since when that holds which it tells of."""
    concerns: tuple[Connection, ...]
    lingers: timedelta = timedelta(0)
    """Its end is believed after so long: a fault that comes and goes is told of once."""
    group: str = ""
    """Alerts of one group are told in one message."""
    shared: str = ""
    """What the connections of its group share, in words; empty where it stands alone."""
    shared_by: int = 1
    """How many watched connections share that."""
    waits: bool = False
    """A look at others that may have the same is yet to come, and does so soon."""
    stays: bool = False
    """It is no news any more: only those are told of it who were already, for whom it goes on."""
    held_back: str = field(default="", compare=False)
    """Why nobody is told of it now; empty where nothing speaks against it."""

    @property
    def name(self) -> str:
        """The alert's name."""
        return self.labels["alertname"]

    @cached_property
    def annotations(self) -> Mapping[str, str]:
        """What it says: summary, description, links."""
        return self.texts()

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same labels, as long as nobody changes them."""
        return fingerprint(self.labels)


def fingerprint(labels: Mapping[str, str]) -> str:
    """A short word for an alert's labels: 16 hexadecimal digits, as Alertmanager's are."""
    text = "\n".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


class Topic(NamedTuple):
    """What findings have in common that are told of alike."""

    cause: Cause
    severity: Severity
    responsible: Responsible

    @property
    def labels(self) -> dict[str, str]:
        """The labels that say so."""
        return {name: str(value) for name, value in self._asdict().items()}


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding of a connection."""

    status: ConnectionStatus
    finding: Finding


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
        return f"maintenance until {written(end)}" if end else ""

    def after_maintenance(self, connection: Connection, span: timedelta) -> str:
        """When there was maintenance of all or of this connection within that time, in words."""
        windows = self.snapshot.daemon.maintenance + connection.maintenance
        end = maintenance.ended(windows, self.now)
        return f"maintenance until {written(end)} counts yet" if end and not self.lasted(end, span) else ""

    @cached_property
    def _maintenance_end(self) -> Callable[[Connection | None], datetime | None]:
        return self.snapshot.maintenance()


def lasted(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether it has been so for that long. What began ahead of the clock, which was set back, has."""
    return since > now or now - since >= span


def written(moment: datetime) -> str:
    """A moment as alerts write it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
