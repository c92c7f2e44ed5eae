"""The options as pydantic models, which the daemon uses directly. The JSON Schema is generated from them.

Add an option here, with the function of `words` that parses it. Editors show its docstring.
Relative paths start at the directory of the file that contains them (`directory` in the context).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema, core_schema

from monitor.config import words
from monitor.core.causes import Responsible, Severity
from monitor.core.connection import (
    ApprovalPolicy,
    Band,
    Connection,
    ExpiryBands,
    Pair,
    Source,
    audience_of,
    login_url_of,
)
from monitor.core.maintenance import Maintenance, Once, Weekly
from monitor.core.telling import Route

SHORTEST_INTERVAL = timedelta(seconds=10)
"""Close to an exchange's time limit: overlapping checks would add nothing."""

LONGEST_INTERVAL = timedelta(days=7)
"""Less often than weekly, users notice first."""

LONGEST_SETTLE = timedelta(hours=24)
"""Refusals stay quiet for this long. The setup guide says 2 to 10 minutes (step 2); no report says a day."""

LONGEST_HOLD = timedelta(hours=24)
"""Faults of network and server stay quiet for this long: everyone notices a day-long outage."""

LOGIN_LIMIT = 3_600
"""Salesforce's limit of logins per user and hour, including production's (knowledge article 000381578)."""

MOST_IN_FLIGHT = 1_000
"""Each exchange takes up to 320 KiB, mostly TLS buffers (measured): 320 MiB at most."""

WEEK = timedelta(days=7)

SHORTEST_REPEAT = timedelta(minutes=5)
LONGEST_REPEAT = timedelta(days=30)
"""Longest time between repeated notifications."""

MOST_LABELS = 20
"""Most labels per connection: all are sent with every scrape."""


def _filled(value: object) -> object:
    if value is None:
        raise ValueError("is empty. Give it a value, or leave the line out.")
    return value


def _listed(value: object) -> object:
    """Treat an empty value as an empty list: its entries may be commented out."""
    return [] if value is None else value


def resolved(value: object, info: ValidationInfo) -> str:
    """A path made absolute, relative to the directory of its file. Links are not resolved, since a rotation
    may swap them.
    """
    directory: str = (info.context or {}).get("directory", "")
    return os.path.normpath(os.path.join(directory, words.path(value)))  # noqa: PTH118 - for speed


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


def _login_url(value: object, info: ValidationInfo) -> str:
    allowed: frozenset[str] = (info.context or {}).get("allowed_hosts", frozenset())
    return words.login_url(value, allowed)


def _default(duration: timedelta) -> Any:
    """A default duration, shown in the schema as the operator would write it."""
    return Field(default=duration, json_schema_extra={"default": words.written_duration(duration)})


_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_DURATION: dict[str, Any] = {
    "type": "string",
    "pattern": "^([0-9]+[smhdw])+$",
    "examples": ["5m", "1h30m", "90d"],
}
_SHARE_OR_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?%|([0-9]+[smhdw])+)$"}
_BAND: dict[str, Any] = {
    "oneOf": [_SHARE_OR_DURATION, {"type": "array", "items": _SHARE_OR_DURATION, "maxItems": 3}]
}

Place = Annotated[Path, BeforeValidator(resolved), WithJsonSchema(_TEXT)]
Url = Annotated[str, BeforeValidator(words.web_url), WithJsonSchema({"type": "string", "format": "uri"})]
Pattern = Annotated[str, BeforeValidator(words.text), WithJsonSchema(_TEXT)]
HostName = Annotated[
    str, BeforeValidator(words.host_name), WithJsonSchema({"type": "string", "format": "hostname"})
]
UtcTime = Annotated[
    datetime | None,
    BeforeValidator(words.utc_time),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]
Flag = Annotated[bool, BeforeValidator(words.flag), WithJsonSchema({"type": "boolean"})]
FORMER = "former"
Former = Annotated[SkipJsonSchema[Flag | None], FORMER]
"""A removed option without effect: accepted with a warning, and offered nowhere."""

Labels = Annotated[
    tuple[tuple[str, str], ...],
    BeforeValidator(words.labels),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MOST_LABELS,
            "propertyNames": {"pattern": f"^{words.LABEL.pattern}$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }
    ),
    Field(max_length=MOST_LABELS),
]
MOST_OBJECTS = 50
"""The URL of an audit's query holds their names."""
Objects = Annotated[
    tuple[tuple[str, tuple[str, ...]], ...],
    BeforeValidator(words.objects),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MOST_OBJECTS,
            "propertyNames": {"pattern": f"^{words.OBJECT.pattern}$"},
            "additionalProperties": {"type": "array", "items": {"enum": [*words.ACCESS]}},
        }
    ),
    Field(max_length=MOST_OBJECTS),
]
Repeat = Annotated[
    timedelta,
    BeforeValidator(
        words.duration_between(
            SHORTEST_REPEAT, LONGEST_REPEAT, "more often is noise, less often is forgotten."
        )
    ),
    WithJsonSchema(_DURATION),
]
Interval = Annotated[
    timedelta,
    BeforeValidator(
        words.duration_between(
            SHORTEST_INTERVAL,
            LONGEST_INTERVAL,
            "an exchange takes seconds, and within a week users notice a failure first.",
        )
    ),
    WithJsonSchema(_DURATION),
]
OwnInterval = Annotated[Interval | None, BeforeValidator(_filled), WithJsonSchema(_DURATION)]
Settle = Annotated[
    timedelta,
    BeforeValidator(
        words.duration_between(
            timedelta(0), LONGEST_SETTLE, "Salesforce takes 2 to 10 minutes (setup guide, step 2)."
        )
    ),
    WithJsonSchema(_DURATION),
]
ExpiryBand = Annotated[Band | None, BeforeValidator(words.band), WithJsonSchema(_BAND)]


class Options(BaseModel):
    """What every block of options shares: an unknown key is an error, and docstrings describe the options."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True
    )

    removed: ClassVar[Mapping[str, str]] = {}
    """Removed or misplaced options, each with its message."""


@dataclass(frozen=True, slots=True)
class Written:
    """Annotates a type: parsed from a block of options, then converted."""

    options: type[Options]
    meant: Callable[[Any], object]

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.meant, handler.generate_schema(self.options))


class SourceOptions(Options):
    """Where a secret is stored: one source."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})
    removed: ClassVar[Mapping[str, str]] = {
        "directory": "is no longer an option. Write the file: {file: DIRECTORY/tls.key}, or tls.crt.",
        "name": "is no longer an option. Write the file with its directory: {file: DIRECTORY/NAME}.",
    }

    file: Annotated[str | None, BeforeValidator(resolved), WithJsonSchema(_TEXT)] = None
    """A path; a relative one starts at the directory of this file."""
    env: Annotated[str | None, BeforeValidator(words.variable), WithJsonSchema(_TEXT)] = None
    """The name of an environment variable."""
    credential: Annotated[str | None, BeforeValidator(words.credential), WithJsonSchema(_TEXT)] = None
    """The name of a systemd credential."""

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, value: object) -> object:
        """Reject anything but one place. Never repeats the value, which may be the key."""
        if value is None:
            raise ValueError("is empty. Write e.g. {file: keys/acme.pem}.")
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - pydantic takes ValueError
                "must say where it is stored: {file: PATH}, {env: NAME} or {credential: NAME}."
            )
        if not value:
            raise ValueError("is empty. Write e.g. {file: keys/acme.pem}.")
        known = [key for key in value if key in cls.model_fields and key != "field"]
        if len(known) > 1:
            raise ValueError(f"names {len(known)} sources ({', '.join(known)}). Keep one.")
        if "field" in value and "vault" not in value:
            raise ValueError("has field without vault. Write e.g. {vault: PATH, field: NAME}.")
        return value

    def source(self) -> Source:
        """As a Source."""
        if self.file is not None:
            return Source("file", self.file)
        if self.env is not None:
            return Source("env", self.env)
        return Source("credential", self.credential or "")


class KeyOptions(SourceOptions):
    """Where a key or certificate is stored: one source, with PEM or base64 of PEM (setup guide, step 1)."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 2})

    vault: Annotated[str | None, BeforeValidator(words.vault_path), WithJsonSchema(_TEXT)] = None
    """The path of a secret in HashiCorp Vault, below `vault.mount`."""
    field: Annotated[str | None, BeforeValidator(words.text), WithJsonSchema(_TEXT)] = None
    """Its field. Default: `private_key` or `certificate`."""

    def private_key(self) -> Source:
        """As a private key's Source."""
        return self._with_field("private_key")

    def certificate(self) -> Source:
        """As a certificate's Source."""
        return self._with_field("certificate")

    def _with_field(self, usual: str) -> Source:
        return Source("vault", self.vault, self.field or usual) if self.vault else self.source()


SecretPlace = Annotated[Source, Written(SourceOptions, SourceOptions.source)]
PrivateKey = Annotated[Source, Written(KeyOptions, KeyOptions.private_key)]
Certificate = Annotated[Source, Written(KeyOptions, KeyOptions.certificate)]


SERVICE_ACCOUNT = Source("file", "/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Kubernetes' default path of a pod's service account token."""


class VaultLoginOptions(Options):
    """How to log in to Vault."""

    method: Annotated[
        Literal["token", "approle", "kubernetes"],
        BeforeValidator(words.one_of("token", "approle", "kubernetes")),
    ]
    """`token`, `approle`, or `kubernetes`."""
    secret: SecretPlace | None = None
    """The token, or AppRole's secret id. For `kubernetes`, the service account's token if it is not in the
    usual place."""
    role: Annotated[str, BeforeValidator(words.text), WithJsonSchema(_TEXT)] = ""
    """AppRole's role id, or the role's name for `kubernetes`."""
    mount: Annotated[str, BeforeValidator(words.vault_path), WithJsonSchema(_TEXT)] = ""
    """Where the method is enabled. Default: the method's name."""

    @property
    def proof(self) -> Source:
        """Our credentials: the token, the secret id, or the service account's token."""
        return self.secret or SERVICE_ACCOUNT

    @property
    def mounted_at(self) -> str:
        """The method's mount path."""
        return self.mount or self.method

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.method != "kubernetes" and self.secret is None:
            raise ValueError(
                f"has no secret, but {self.method} needs one. Write e.g. secret: {{file: PATH}}."
            )
        if (self.method == "token") == bool(self.role):
            raise ValueError(
                "has role, which a token does not need. Remove it."
                if self.role
                else f"has no role, but {self.method} needs one."
            )
        return self


class VaultOptions(Options):
    """HashiCorp Vault, for keys stored there in a version 2 key/value store."""

    address: Annotated[
        str, BeforeValidator(words.vault_address), WithJsonSchema({"type": "string", "format": "uri"})
    ]
    """E.g. https://vault.example.com:8200. Plain http only on this machine, e.g. for Vault Agent."""
    login: VaultLoginOptions
    """How to log in."""
    mount: Annotated[str, BeforeValidator(words.vault_path), WithJsonSchema(_TEXT)] = "secret"
    """Where the key/value store is mounted."""
    namespace: Annotated[str, BeforeValidator(words.vault_path), WithJsonSchema(_TEXT)] = ""
    """A namespace of Vault Enterprise."""
    ca_file: Place | None = None
    """The CA of Vault's own certificate, in PEM, if the system does not trust it."""
    reread: Interval = _default(timedelta(minutes=15))
    """How often keys are read again: a rotation in Vault is noticed within that time."""


class MaintenanceOptions(Options):
    """A time without alerts: once (`start`, `end`) or every week (`weekly`, `lasts`)."""

    start: UtcTime = None
    """When it begins."""
    end: UtcTime = None
    """When it ends."""
    weekly: Annotated[
        words.WeekTime | None,
        BeforeValidator(words.week_time),
        WithJsonSchema({"type": "string", "examples": ["sat 22:00"]}),
    ] = None
    """The weekday and time at which it begins."""
    lasts: Annotated[
        Annotated[
            timedelta,
            BeforeValidator(
                words.duration_between(timedelta(minutes=1), WEEK, "a longer one would never end.")
            ),
        ]
        | None,
        BeforeValidator(_filled),
        WithJsonSchema(_DURATION),
    ] = None
    """For how long."""
    zone: Annotated[str, BeforeValidator(words.zone), WithJsonSchema(_TEXT)] = "UTC"
    """Its time zone, e.g. Europe/Berlin."""

    @model_validator(mode="after")
    def _once_or_weekly(self) -> Self:
        once, weekly = (self.start, self.end), (self.weekly, self.lasts)
        if (None in once) == (None in weekly) or (any(once) and any(weekly)):
            raise ValueError("needs either start and end, or weekly and lasts.")
        if self.start and self.end and self.start >= self.end:
            raise ValueError("ends before it starts. Put the earlier time under start.")
        return self

    def times(self) -> Maintenance:
        """As a Maintenance."""
        if self.start and self.end:
            return Once(self.start, self.end)
        assert self.weekly is not None
        assert self.lasts is not None
        return Weekly(self.weekly.weekday, self.weekly.at, self.lasts, self.zone)


Maintenances = Annotated[
    tuple[Annotated[Maintenance, Written(MaintenanceOptions, MaintenanceOptions.times)], ...],
    BeforeValidator(_listed),
]


class PairOptions(Options):
    """A private key and, if available, its certificate."""

    private_key: PrivateKey
    """The key that signs (setup guide, step 1)."""
    certificate: Certificate | None = None
    """The certificate uploaded to the app, to monitor its expiry and whether it matches the key."""

    def pair(self) -> Pair:
        """As a Pair."""
        return Pair(self.private_key, self.certificate)


NextPair = Annotated[Pair, Written(PairOptions, PairOptions.pair)]


class ExpiryOptions(Options):
    """When the end of a certificate becomes a finding: a time before the end, a share of its lifetime, or
    a list of a share with its least and greatest time.
    """

    warning: ExpiryBand = None
    """Default: [25%, 0s, 60d]."""
    critical: ExpiryBand = None
    """Default: [5%, 7d, 14d]."""


class ApprovalOptions(Options):
    """The app's refresh token policy, if known (setup guide, step 4)."""

    policy: Annotated[
        Literal["until_revoked", "lifetime", "inactivity", "immediately"],
        BeforeValidator(words.one_of("until_revoked", "lifetime", "inactivity", "immediately")),
    ]
    """`until_revoked`: "valid until revoked". `lifetime`: "expire after". `inactivity`: "expire if not used
    for". `immediately`: "immediately expire"."""
    days: Annotated[
        float | None,
        BeforeValidator(words.days),
        WithJsonSchema({"type": "number", "exclusiveMinimum": 0}),
    ] = None
    """How many days, for `lifetime` and `inactivity`."""
    granted: Annotated[
        date | None, BeforeValidator(words.day), WithJsonSchema({"type": "string", "format": "date"})
    ] = None
    """The day of the approval, if known. Default: the first successful login."""

    @model_validator(mode="after")
    def _days_where_needed(self) -> Self:
        timed = self.policy in {"lifetime", "inactivity"}
        if timed and self.days is None:
            raise ValueError(f'needs days for the policy "{self.policy}". Write e.g. days: 90.')
        if not timed and self.days is not None:
            raise ValueError(f'has days, but the policy "{self.policy}" does not use it. Remove days.')
        return self

    def stated(self) -> ApprovalPolicy:
        """As an ApprovalPolicy."""
        return ApprovalPolicy(self.policy, self.days, self.granted)


Policy = Annotated[ApprovalPolicy, Written(ApprovalOptions, ApprovalOptions.stated)]


class ConnectionOptions(Options):
    """One app (consumer key), user and org."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["subdomain"]}, {"required": ["login_url"]}]}
    )
    removed: ClassVar[Mapping[str, str]] = {
        "settle": "is no longer an option of a connection. Set it for all, at the top of the main file.",
    }

    name: Annotated[
        str,
        BeforeValidator(words.connection_name),
        WithJsonSchema({"type": "string", "pattern": f"^{words.NAME.pattern}$"}),
    ]
    """A unique name; the label in every metric."""
    subdomain: Annotated[str | None, BeforeValidator(words.subdomain), WithJsonSchema(_TEXT)] = None
    """The part of the org's host before .my.salesforce.com (setup guide, step 7). Or `login_url`."""
    login_url: Annotated[
        str | None, BeforeValidator(_login_url), WithJsonSchema({"type": "string", "format": "uri"})
    ] = None
    """The whole login address, for other kinds of host. Or `subdomain`."""
    audience: Annotated[str, BeforeValidator(words.audience), WithJsonSchema(_TEXT)] = "my_domain"
    """The assertion's audience: `my_domain` (the org's own address, as External Client Apps require),
    `login` (https://login.salesforce.com), `test` (https://test.salesforce.com), or a URL."""
    consumer_key: Annotated[str, BeforeValidator(words.consumer_key), WithJsonSchema(_TEXT)]
    """The app's consumer key (setup guide, step 3)."""
    app: Annotated[str, BeforeValidator(words.app_name), WithJsonSchema(_TEXT)] = ""
    """The app's name in the org, for instructions to admins."""
    username: Annotated[
        str, BeforeValidator(words.username), WithJsonSchema({"type": "string", "pattern": "@"})
    ]
    """The integration user's username (setup guide, step 5)."""
    private_key: PrivateKey
    """The key that signs (setup guide, step 1)."""
    certificate: Certificate | None = None
    """The certificate uploaded to the app, to monitor its expiry and whether it matches the key."""
    certificate_not_after: UtcTime = None
    """The certificate's expiry date, if the certificate itself is not available."""
    next: Annotated[NextPair | None, BeforeValidator(_filled)] = None
    """The pair to rotate to."""
    interval: OwnInterval = None
    """Time between checks of this connection, instead of the general interval."""
    certificate_expiry: Annotated[ExpiryOptions | None, BeforeValidator(_filled)] = None
    """Bands for this connection's certificate, instead of the general ones."""
    approval: Annotated[Policy | None, BeforeValidator(_filled)] = None
    """The refresh token policy, if known, to forecast the approval's end."""
    after_login: Flag = True
    """Whether a REST call now and then proves that the token works."""
    audit: Annotated[
        Literal["daily", "off"],
        BeforeValidator(words.one_of("daily", "off")),
    ] = "daily"
    """Whether to check the steps of the setup guide in the org every day, in at most eight calls. What
    they show depends on the user's permissions; none is required."""
    observer: Annotated[str, BeforeValidator(words.connection_name), WithJsonSchema(_TEXT)] = ""
    """Another connection to the same org whose user may see more: audits use its token, even while this
    connection is refused."""
    objects: Objects = Field(default=(), json_schema_extra={"default": {}})
    """Objects that the integration needs, with `read`, `write` or both: audits check the access."""
    read_permission_sets: Former = None
    paused: Flag = False
    """Not checked, but still shown."""
    maintenance: Maintenances = ()
    """Times without alerts about this connection, in addition to the general ones. Checks continue."""
    labels: Labels = Field(default=(), json_schema_extra={"default": {}})
    """Your own labels, on `bearerwatch_connection_info`."""

    def connection(self, general: "GeneralOptions", expiry: ExpiryBands) -> Connection:
        """As a Connection, with general options for what it does not set."""
        login_url = self.login_url or login_url_of(self.subdomain or "")
        return Connection(
            name=self.name,
            login_url=login_url,
            audience=audience_of(self.audience, login_url),
            consumer_key=self.consumer_key,
            username=self.username,
            app=self.app,
            username_in_alerts=general.alerts.usernames,
            current=Pair(self.private_key, self.certificate),
            next=self.next,
            certificate_not_after=self.certificate_not_after,
            interval=self.interval or general.interval,
            settle=general.settle,
            expiry=expiry,
            approval=self.approval,
            after_login=self.after_login,
            audit=self.audit == "daily",
            objects=self.objects,
            paused=self.paused,
            maintenance=self.maintenance,
            labels=self.labels,
        )


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
    hosts: Annotated[tuple[HostName, ...], BeforeValidator(_listed)] = ()
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
        Annotated[
            timedelta,
            BeforeValidator(
                words.duration_between(
                    timedelta(0), LONGEST_HOLD, "an outage of more than a day is not transient."
                )
            ),
        ]
        | None,
        BeforeValidator(_filled),
        WithJsonSchema(_DURATION),
    ] = None
    """How long a network or server fault must last before an alert. Default: three intervals, at most 1h."""
    labels: Annotated[
        tuple[str, ...],
        BeforeValidator(words.label_names),
        WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": f"^{words.LABEL.pattern}$"}}),
    ] = Field(default=(), json_schema_extra={"default": []})
    """The connections' labels that alerts carry, besides the host, for routing."""


@dataclass(frozen=True, slots=True)
class Sink:
    """One receiver of notifications. Its secrets stay at their source until needed."""

    name: str
    kind: Literal["alertmanager", "webhook", "apprise"]
    url: str | Source
    """Its address, without a final slash; a Source if the address is secret."""
    token: Source | None
    secret: Source | None
    repeat: timedelta
    resolved: bool
    """Whether it gets a message when a problem ends."""
    route: Route


_RESPONSIBLE, _SEVERITY = [each.value for each in Responsible], [each.value for each in Severity]
_Responsible = Annotated[
    str, BeforeValidator(words.one_of(*_RESPONSIBLE)), WithJsonSchema({"enum": _RESPONSIBLE})
]
_Severity = Annotated[str, BeforeValidator(words.one_of(*_SEVERITY)), WithJsonSchema({"enum": _SEVERITY})]


class SinkOptions(Options):
    """One receiver of notifications. `responsible`, `severity` and `labels` limit what it gets."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["url"]}, {"required": ["url_from"]}]}
    )

    name: Annotated[
        str,
        BeforeValidator(words.connection_name),
        WithJsonSchema({"type": "string", "pattern": f"^{words.NAME.pattern}$"}),
    ]
    """A unique name, under which the database remembers what was sent."""
    type: Annotated[
        Literal["alertmanager", "webhook", "apprise"],
        BeforeValidator(words.one_of("alertmanager", "webhook", "apprise")),
    ]
    """`alertmanager`: its API. `webhook`: JSON as sent by Alertmanager's webhooks. `apprise`: a
    notification service with an Apprise URL; needs bearerwatch[notify]."""
    url: Annotated[
        str | None, BeforeValidator(words.sink_url), WithJsonSchema({"type": "string", "format": "uri"})
    ] = None
    """Its address; for an Alertmanager without /api. Or `url_from`."""
    url_from: SecretPlace | None = None
    """Where the address is stored, if it contains a secret, as those of chat services and Apprise do."""
    token: SecretPlace | None = None
    """Where the token for `Authorization: Bearer` is stored."""
    secret: SecretPlace | None = None
    """Where the key that signs a webhook's messages is stored (Standard Webhooks, HMAC-SHA256)."""
    repeat: Annotated[Repeat | None, BeforeValidator(_filled), WithJsonSchema(_DURATION)] = None
    """Time between repeated messages to this receiver, instead of the general one. An Alertmanager has its
    own."""
    resolved: Flag = True
    """Whether it gets a message when a problem ends."""
    responsible: Annotated[tuple[_Responsible, ...], BeforeValidator(_listed)] = ()
    """Only problems that these must fix. Default: all."""
    severity: Annotated[tuple[_Severity, ...], BeforeValidator(_listed)] = ()
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

    def sink(self, repeat: timedelta) -> Sink:
        """As a Sink, with the general `repeat` if it sets none."""
        return Sink(
            name=self.name,
            kind=self.type,
            url=self.url or self.url_from or "",
            token=self.token,
            secret=self.secret,
            repeat=self.repeat or repeat,
            resolved=self.resolved,
            route=Route(self.responsible, self.severity, self.labels),
        )


class NotifyOptions(Options):
    """Notifications, for use without Prometheus or in addition to its Alertmanager."""

    repeat: Repeat = _default(timedelta(hours=4))
    """Time between repeated messages about an ongoing problem."""
    sinks: Annotated[tuple[SinkOptions, ...], BeforeValidator(_listed)] = ()
    """The receivers. Without one, nothing is sent."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f'has more than one sink named "{twice}". Give each its own name.')
        return self


class GeneralOptions(Options):
    """Everything except the list of connections."""

    listen: Annotated[words.Address, BeforeValidator(words.address), WithJsonSchema(_TEXT)] = Field(
        default=words.Address("127.0.0.1", 9877), json_schema_extra={"default": "127.0.0.1:9877"}
    )
    """Host and port of the daemon's own pages and metrics."""
    web: Annotated[WebOptions, BeforeValidator(_filled)] = WebOptions()
    """The daemon's own pages."""
    database: Annotated[str, BeforeValidator(_database), WithJsonSchema(_TEXT)] = Field(
        default="bearerwatch.db", validate_default=True, repr=False
    )
    """Path of a SQLite file, or `postgresql://USER@HOST/DATABASE`, its password in PGPASSWORD or
    PGPASSFILE.
    """
    replicas: Former = None
    interval: Interval = _default(timedelta(minutes=5))
    """Time between checks of a connection."""
    settle: Settle = _default(timedelta(minutes=10))
    """How long after a change a refusal may be due to the change still spreading (setup guide, step 2)."""
    login_budget_per_hour: Annotated[
        int,
        BeforeValidator(
            words.whole(
                1,
                LOGIN_LIMIT,
                f"Salesforce allows a user {LOGIN_LIMIT:,} logins an hour, including production's.",
            )
        ),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": LOGIN_LIMIT}),
    ] = 60
    """Logins an hour that all checks of a username share. The rest of Salesforce's 3,600 is for
    production."""
    max_in_flight: Annotated[
        int,
        BeforeValidator(words.whole(1, MOST_IN_FLIGHT, "each exchange in progress uses up to 320 KiB.")),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_IN_FLIGHT}),
    ] = 64
    """Exchanges in progress at the same time."""
    allowed_hosts: Annotated[frozenset[HostName], BeforeValidator(_listed)] = frozenset()
    """Hosts that assertions may be sent to, besides Salesforce's and loopback."""
    ca_file: Place | None = None
    """Certificate authorities in PEM, besides the system's, e.g. of a TLS-inspecting proxy."""
    vault: Annotated[VaultOptions | None, BeforeValidator(_filled)] = None
    """HashiCorp Vault, for keys stored there."""
    certificate_expiry: Annotated[ExpiryOptions, BeforeValidator(_filled)] = ExpiryOptions()
    """When the end of a certificate becomes a finding."""
    alerts: Annotated[AlertOptions, BeforeValidator(_filled)] = AlertOptions()
    """Links, labels and delays of alerts."""
    notify: Annotated[NotifyOptions, BeforeValidator(_filled)] = NotifyOptions()
    """Notifications, besides Prometheus."""
    maintenance: Maintenances = ()
    """Times without new alerts, from `notify` or the Prometheus rules. Checks and metrics continue."""
    connections_from: Annotated[tuple[Pattern, ...], BeforeValidator(_listed)] = ()
    """Patterns of files with more connections, as a list or under the key `connections`."""


class ConfigurationOptions(GeneralOptions):
    """A bearerwatch configuration."""

    connections: Annotated[tuple[ConnectionOptions, ...], BeforeValidator(_listed)] = ()
    """The connections to monitor."""
