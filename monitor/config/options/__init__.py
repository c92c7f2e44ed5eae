"""The options as pydantic models, which the daemon uses directly. The JSON Schema is generated from them.

Add an option here, or in the module of its block, with the function of `words` that parses it. Editors show
its docstring. Relative paths start at the directory of the file that contains them (`directory` in the
context).
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from monitor.config import words
from monitor.config.options.connections import ConnectionOptions, ExpiryOptions, Maintenances
from monitor.config.options.sources import SecretPlace, VaultOptions
from monitor.config.options.values import (
    URL,
    Authorities,
    Flag,
    HostName,
    Interval,
    LabelName,
    Labels,
    Name,
    OneOf,
    Options,
    Parsed,
    Place,
    Repeat,
    Settle,
    Url,
    between,
    default_duration,
    resolved,
    up_to,
)
from monitor.core.alerts import Alert
from monitor.core.causes import Responsible, Severity
from monitor.core.connection import Source

LOGIN_LIMIT = 3_600
"""Salesforce's limit of logins per user and hour, including production's (knowledge article 000381578)."""


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
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir() raises where this user may not look
        raise ValueError("is a directory. Use a file in it.")
    return path


_RESPONSIBLE, _SEVERITY = [each.value for each in Responsible], [each.value for each in Severity]
_Responsible = Annotated[str, Parsed(words.one_of(*_RESPONSIBLE), {"enum": _RESPONSIBLE})]
_Severity = Annotated[str, Parsed(words.one_of(*_SEVERITY), {"enum": _SEVERITY})]


class SinkOptions(Options):
    """One receiver of notifications. `responsible`, `severity` and `labels` limit what it gets."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["url"]}, {"required": ["url_from"]}]}
    )

    name: Name
    """A unique name, under which the database remembers what was sent."""
    type: Annotated[Literal["alertmanager", "webhook", "apprise"], OneOf()]
    """`alertmanager`: its API. `webhook`: JSON as sent by Alertmanager's webhooks. `apprise`: a
    notification service with an Apprise URL; needs bearerwatch[notify]."""
    url: Annotated[str | None, Parsed(words.sink_url, URL)] = None
    """Its address; for an Alertmanager without /api. Or `url_from`."""
    url_from: SecretPlace | None = None
    """Where the address is stored, if it contains a secret, as those of chat services and Apprise do."""
    token: SecretPlace | None = None
    """Where the token for `Authorization: Bearer` is stored."""
    secret: SecretPlace | None = None
    """Where the key that signs a webhook's messages is stored (Standard Webhooks, HMAC-SHA256)."""
    repeat: Repeat | None = None
    """Time between repeated messages to this receiver, instead of the global one. An Alertmanager has its
    own."""
    resolved: Flag = True
    """Whether it gets a message when a problem ends."""
    responsible: tuple[_Responsible, ...] = ()
    """Only problems that these must fix. Default: all."""
    severity: tuple[_Severity, ...] = ()
    """Only these severities. Default: all."""
    labels: Labels = Field(default=(), json_schema_extra={"default": {}})
    """Only connections with all of these labels. Default: all."""

    @model_validator(mode="after")
    def _of_its_type(self) -> Self:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("needs either url, or url_from if the address contains a secret.")
        if self.secret and self.type != "webhook":
            raise ValueError("has a secret, but only a webhook's messages are signed. Remove secret.")
        if self.type == "apprise" and (self.url or self.token):
            raise ValueError("is of type apprise, whose address contains its secrets. Use url_from only.")
        return self

    @property
    def address(self) -> str | Source:
        """Its address, without a final slash, or where the address is stored."""
        return self.url or self.url_from or ""

    def takes(self, alert: Alert) -> bool:
        """Whether it gets this alert. Those about the daemon itself have no labels of connections."""
        return (
            (not self.responsible or alert.labels["responsible"] in self.responsible)
            and (not self.severity or alert.labels["severity"] in self.severity)
            and set(self.labels) <= set(alert.concerns.labels if alert.concerns else ())
        )


class NotifyOptions(Options):
    """Notifications, without Prometheus or in addition to its Alertmanager."""

    repeat: Repeat = default_duration(timedelta(hours=4))
    """Time between repeated messages about an ongoing problem."""
    sinks: tuple[SinkOptions, ...] = ()
    """The receivers. Without one, nothing is sent."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f'has more than one sink named "{twice}". Give each its own name.')
        return self


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
    hosts: tuple[HostName, ...] = ()
    """Host names of the pages, in addition to localhost, external_url's host and the machine's name."""
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
        between(timedelta(0), timedelta(hours=24), "an outage of more than a day is not transient."),
    ] = None
    """How long a network or server fault must last before an alert. Default: three intervals, at most 1h."""
    labels: tuple[LabelName, ...] = ()
    """The connections' labels to copy to alerts, in addition to the host, for routing."""


class GeneralOptions(Options):
    """Everything except the list of connections."""

    former: ClassVar[Mapping[str, str]] = {
        "replicas": "daemons with the same PostgreSQL database share the work"
    }

    listen: Annotated[words.Address, Parsed(words.address)] = Field(
        default=words.Address("127.0.0.1", 9877), json_schema_extra={"default": "127.0.0.1:9877"}
    )
    """Host and port of the daemon's own pages and metrics."""
    web: WebOptions = WebOptions()
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
    """How long after a change a refusal may mean that it is still propagating (setup guide, step 2)."""
    login_budget_per_hour: Annotated[
        int,
        up_to(
            LOGIN_LIMIT, f"Salesforce allows a user {LOGIN_LIMIT:,} logins an hour, including production's."
        ),
    ] = 60
    """Logins an hour that all checks of a username share. The rest of Salesforce's 3,600 is for
    production."""
    max_in_flight: Annotated[int, up_to(1_000, "each exchange in progress uses up to 320 KiB.")] = 64
    """Exchanges in progress at the same time."""
    allowed_hosts: frozenset[HostName] = frozenset()
    """Hosts that assertions may be sent to, in addition to Salesforce's and loopback."""
    ca_file: Authorities | None = None
    """CA certificates in PEM, in addition to the system's, e.g. for a TLS-inspecting proxy."""
    vault: VaultOptions | None = None
    """HashiCorp Vault, for keys stored there."""
    certificate_expiry: ExpiryOptions = ExpiryOptions()
    """When the end of a certificate becomes a finding."""
    alerts: AlertOptions = AlertOptions()
    """Links, labels and delays of alerts."""
    notify: NotifyOptions = NotifyOptions()
    """Notifications without Prometheus, or in addition to it."""
    maintenance: Maintenances = ()
    """Times without new alerts, from `notify` or the Prometheus rules. Checks and metrics continue."""
    connections_from: tuple[Annotated[str, Parsed(words.text)], ...] = ()
    """Patterns of files with more connections, as a list or under the key `connections`."""


class ConfigurationOptions(GeneralOptions):
    """A bearerwatch configuration."""

    connections: tuple[ConnectionOptions, ...] = ()
    """The connections to monitor."""
