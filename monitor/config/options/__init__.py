"""The options as pydantic models, which the daemon uses directly. The JSON Schema is generated from them.

Add an option here, or in the module of its block, with the function of `words` that parses it. Editors show
its docstring. Relative paths start at the directory of the file that contains them (`directory` in the
context).
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, ValidationInfo

from monitor.config import words
from monitor.config.options.connections import ConnectionOptions, ExpiryOptions, Maintenances
from monitor.config.options.sinks import NotifyOptions
from monitor.config.options.sources import VaultOptions
from monitor.config.options.values import (
    Authorities,
    Flag,
    HostName,
    Interval,
    LabelName,
    Options,
    Parsed,
    Place,
    Settle,
    Url,
    between,
    default_duration,
    filled,
    listed,
    resolved,
    up_to,
)

LONGEST_HOLD = timedelta(hours=24)
"""Faults of network and server stay quiet for this long: everyone notices a day-long outage."""

LOGIN_LIMIT = 3_600
"""Salesforce's limit of logins per user and hour, including production's (knowledge article 000381578)."""

MOST_IN_FLIGHT = 1_000
"""Each exchange takes up to 320 KiB, mostly TLS buffers (measured): 320 MiB at most."""


def _database(value: object, info: ValidationInfo) -> str:
    """The absolute path of a SQLite file, or the URL of a PostgreSQL database without a password."""
    place = words.path(value).removeprefix("sqlite:///")
    if place.startswith("postgresql://"):
        return words.database_server(place)
    if "://" in place:
        raise ValueError(
            "must be the path of a SQLite file, sqlite:///PATH, or postgresql://USER@HOST/DATABASE."
        )
    if "?" in place:
        raise ValueError("has parameters (after ?), which are not supported here.")
    if place == ":memory:":
        raise ValueError("must be a file. An in-memory database would be lost on restart.")
    path = resolved(place, info)
    if Path(path).is_dir():
        raise ValueError("is a directory. Use a file in it.")
    return path


class WebOptions(Options):
    """The daemon's own pages."""

    enable_reload: Flag = False
    """Whether `POST /-/reload` reloads the configuration. Anyone who can reach the address may call it."""
    enable_checks: Flag = False
    """Whether anyone who can reach the pages may start checks. Always allowed with users or client
    certificates, and on loopback without another name (`external_url`, `hosts`)."""
    external_url: Url = ""
    """Where people reach the pages, for links in messages. Default: the address in `listen`."""
    config_file: Place | None = None
    """TLS and users for the pages: a web configuration file as for Prometheus exporters."""
    hosts: Annotated[tuple[HostName, ...], BeforeValidator(listed)] = ()
    """Further host names of the pages, besides localhost, external_url's host and the machine's name."""
    open_health: Flag = True
    """Whether `/-/healthy` and `/-/ready` answer without a login."""


class AlertOptions(Options):
    """Links, labels and delays of alerts."""

    runbook_url: Url = ""
    """Where `docs/causes` is published, if not on the daemon's own `/causes`: `/CAUSE.md` is appended."""
    dashboard_url: Url = ""
    """The address of the Grafana dashboard: `?var-connection=NAME` is appended."""
    usernames: Flag = False
    """Whether `bearerwatch_connection_info`, and with it alerts, include usernames."""
    transient_for: Annotated[
        timedelta | None,
        between(timedelta(0), LONGEST_HOLD, "an outage of more than a day is not transient."),
    ] = None
    """How long a network or server fault must last before an alert. Default: three intervals, at most 1h."""
    labels: Annotated[tuple[LabelName, ...], BeforeValidator(listed)] = ()
    """The connections' labels that alerts carry, besides the host, for routing."""


class GeneralOptions(Options):
    """Everything except the list of connections."""

    former: ClassVar[Mapping[str, str]] = {
        "replicas": "daemons with the same PostgreSQL database share the work"
    }

    listen: Annotated[words.Address, Parsed(words.address)] = Field(
        default=words.Address("127.0.0.1", 9877), json_schema_extra={"default": "127.0.0.1:9877"}
    )
    """Host and port of the daemon's own pages and metrics."""
    web: Annotated[WebOptions, BeforeValidator(filled)] = WebOptions()
    """The daemon's own pages."""
    database: Annotated[str, Parsed(_database)] = Field(
        default="bearerwatch.db", validate_default=True, repr=False
    )
    """Path of a SQLite file, or `postgresql://USER@HOST/DATABASE`, its password in PGPASSWORD or
    PGPASSFILE.
    """
    interval: Interval = default_duration(timedelta(minutes=5))
    """Time between checks of a connection."""
    settle: Settle = default_duration(timedelta(minutes=10))
    """How long after a change a refusal may be due to the change still spreading (setup guide, step 2)."""
    login_budget_per_hour: Annotated[
        int,
        up_to(
            LOGIN_LIMIT, f"Salesforce allows a user {LOGIN_LIMIT:,} logins an hour, including production's."
        ),
    ] = 60
    """Logins an hour that all checks of a username share. The rest of Salesforce's 3,600 is for
    production."""
    max_in_flight: Annotated[int, up_to(MOST_IN_FLIGHT, "each exchange in progress uses up to 320 KiB.")] = 64
    """Exchanges in progress at the same time."""
    allowed_hosts: Annotated[frozenset[HostName], BeforeValidator(listed)] = frozenset()
    """Hosts that assertions may be sent to, besides Salesforce's and loopback."""
    ca_file: Authorities | None = None
    """Certificate authorities in PEM, besides the system's, e.g. of a TLS-inspecting proxy."""
    vault: Annotated[VaultOptions | None, BeforeValidator(filled)] = None
    """HashiCorp Vault, for keys stored there."""
    certificate_expiry: Annotated[ExpiryOptions, BeforeValidator(filled)] = ExpiryOptions()
    """When the end of a certificate becomes a finding."""
    alerts: Annotated[AlertOptions, BeforeValidator(filled)] = AlertOptions()
    """Links, labels and delays of alerts."""
    notify: Annotated[NotifyOptions, BeforeValidator(filled)] = NotifyOptions()
    """Notifications, besides Prometheus."""
    maintenance: Maintenances = ()
    """Times without new alerts, from `notify` or the Prometheus rules. Checks and metrics continue."""
    connections_from: Annotated[tuple[Annotated[str, Parsed(words.text)], ...], BeforeValidator(listed)] = ()
    """Patterns of files with more connections, as a list or under the key `connections`."""


class ConfigurationOptions(GeneralOptions):
    """A bearerwatch configuration."""

    connections: Annotated[tuple[ConnectionOptions, ...], BeforeValidator(listed)] = ()
    """The connections to monitor."""
