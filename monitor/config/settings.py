"""What the daemon runs with: the configuration once it is read, checked and complete."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from monitor.config.web_file import WebConfig
from monitor.config.words import Address
from monitor.core.alert import Terms
from monitor.core.connection import Connection, Source
from monitor.core.holds import Holds
from monitor.core.maintenance import Maintenance
from monitor.core.telling import Route
from monitor.core.wording import Links


@dataclass(frozen=True, slots=True)
class Web:
    """The daemon's own pages."""

    enable_reload: bool = False
    """Whether `POST /-/reload` is served."""
    external_url: str = ""
    """Where people reach the pages; no slash at the end. Empty where the operator names none."""
    config_file: Path | None = None
    """A web configuration file: TLS and users, in the format of Prometheus' exporters."""
    hosts: tuple[str, ...] = ()
    """Further names by which the pages are called."""
    open_health: bool = True
    """Whether the health endpoints answer without a login."""


@dataclass(frozen=True, slots=True)
class Alerts:
    """What alerts link to, carry and wait for."""

    runbook_url: str = ""
    """Where the pages of the causes are; no slash at the end. Empty where the operator names none."""
    dashboard_url: str = ""
    """Where the dashboard is; no slash at the end. Empty where the operator names none."""
    transient_for: timedelta | None = None
    """How long a fault of network or server must last; None leaves it to the interval."""
    labels: tuple[str, ...] = ()
    """Labels of the operator's that alerts carry."""


@dataclass(frozen=True, slots=True)
class Sink:
    """One receiver of notifications. What is secret of it stays at its source until it is needed."""

    name: str
    kind: Literal["alertmanager", "webhook", "apprise"]
    url: str | Source
    """Its address; no slash at the end. A source where the address is a secret."""
    token: Source | None
    secret: Source | None
    repeat: timedelta
    resolved: bool
    """Whether it is told that something has ended."""
    route: Route


@dataclass(frozen=True, slots=True)
class VaultLogin:
    """How we log in to Vault."""

    method: Literal["token", "approle", "kubernetes"]
    secret: Source
    """What proves who we are: a token, the secret id, or the service account's token."""
    role: str = ""
    """The role id, or the role's name; nothing for a token."""
    mount: str = ""
    """Where the method is enabled."""


@dataclass(frozen=True, slots=True)
class Vault:
    """Where keys are that are kept in HashiCorp Vault."""

    address: str
    """Scheme, host and port; no slash at the end."""
    login: VaultLogin
    mount: str
    """Where the key/value store is mounted."""
    namespace: str
    ca_file: Path | None
    reread: timedelta
    """How old a key may be before it is read again."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator may decide, with defaults filled in and paths made absolute."""

    listen: Address
    web: Web
    database: str = field(repr=False)
    """Absolute path of a SQLite file, or the URL of a PostgreSQL database, without its password."""
    replicas: bool
    """Whether several daemons watch together."""
    interval: timedelta
    settle: timedelta
    login_budget_per_hour: int
    """Logins that all checks of one username share."""
    max_in_flight: int
    allowed_hosts: frozenset[str]
    ca_file: Path | None
    vault: Vault | None
    alerts: Alerts
    sinks: tuple[Sink, ...]
    """Who is told; names are unique."""
    maintenance: tuple[Maintenance, ...]
    """When nobody is told anything."""
    connections: tuple[Connection, ...]
    """In the order of the files; names are unique."""

    files: tuple[Path, ...]
    """Every file that was read, the main one first: what to watch for a change."""
    patterns: tuple[str, ...]
    """The absolute patterns of `connections_from`: what to watch for new files."""
    protection: WebConfig = field(repr=False)
    """What the web configuration file says."""
    warnings: tuple[str, ...]
    """What is allowed, but may be meant otherwise: a sentence each, for a person."""

    @property
    def terms(self) -> Terms:
        """What follows from it for alerts: how long things must hold, and what they link to."""
        return Terms(
            Holds.of(
                self.connections,
                interval=self.interval,
                settle=self.settle,
                transient_for=self.alerts.transient_for,
            ),
            Links(
                runbooks=self.alerts.runbook_url,
                dashboard=self.alerts.dashboard_url,
                pages=self.web.external_url,
                labels=self.alerts.labels,
            ),
        )
