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
        raise ValueError("has parameters (after ?), of which none is supported.")
    if place == ":memory:":
        raise ValueError("must be a file. A database in memory is forgotten at a restart.")
    path = resolved(place, info)
    if Path(path).is_dir():
        raise ValueError("is a directory. Name a file in it.")
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
Moment = Annotated[
    datetime | None,
    BeforeValidator(words.moment),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]
Flag = Annotated[bool, BeforeValidator(words.flag), WithJsonSchema({"type": "boolean"})]
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
Repeat = Annotated[
    timedelta,
    BeforeValidator(
        words.duration_between(SHORTEST_REPEAT, LONGEST_REPEAT, "shorter is noise, longer is forgotten.")
    ),
    WithJsonSchema(_DURATION),
]
Interval = Annotated[
    timedelta,
    BeforeValidator(
        words.duration_between(
            SHORTEST_INTERVAL,
            LONGEST_INTERVAL,
            "an exchange takes seconds, and after a week the users have noticed first.",
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
    """Where a secret is kept, in one place."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})
    removed: ClassVar[Mapping[str, str]] = {
        "directory": "is no longer an option. Write the file: {file: DIRECTORY/tls.key}, or tls.crt.",
        "name": "is no longer an option. Write the file with its directory: {file: DIRECTORY/NAME}.",
    }

    file: Annotated[str | None, BeforeValidator(resolved), WithJsonSchema(_TEXT)] = None
    """A path; a relative one starts at the directory of the file in which it is written."""
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
                "must say where it is kept: {file: PATH}, {env: NAME} or {credential: NAME}."
            )
        if not value:
            raise ValueError("names no place. Write e.g. {file: keys/acme.pem}.")
        known = [key for key in value if key in cls.model_fields and key != "field"]
        if len(known) > 1:
            raise ValueError(f"names {len(known)} places ({', '.join(known)}). Keep one.")
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
    """Where a key or certificate is kept, in one place: PEM, or base64 of PEM (setup guide, step 1)."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 2})

    vault: Annotated[str | None, BeforeValidator(words.vault_path), WithJsonSchema(_TEXT)] = None
    """The path of a secret in HashiCorp Vault, within `vault.mount`."""
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
    """The token; or AppRole's secret id. For `kubernetes`, the token of the pod's service account, where it
    does not lie where Kubernetes puts it."""
    role: Annotated[str, BeforeValidator(words.text), WithJsonSchema(_TEXT)] = ""
    """AppRole's role id, or the name of the role for `kubernetes`."""
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
            raise ValueError(f"has no secret, which {self.method} needs. Write e.g. secret: {{file: PATH}}.")
        if (self.method == "token") == bool(self.role):
            raise ValueError(
                "has role, which a token does not need. Leave it out."
                if self.role
                else f"has no role, which {self.method} needs."
            )
        return self


class VaultOptions(Options):
    """HashiCorp Vault, for keys that are kept there: in a key/value store of version 2."""

    address: Annotated[
        str, BeforeValidator(words.vault_address), WithJsonSchema({"type": "string", "format": "uri"})
    ]
    """E.g. https://vault.example.com:8200; plain http on this machine only, as for Vault's agent."""
    login: VaultLoginOptions
    """How to log in."""
    mount: Annotated[str, BeforeValidator(words.vault_path), WithJsonSchema(_TEXT)] = "secret"
    """Where the key/value store is mounted."""
    namespace: Annotated[str, BeforeValidator(words.vault_path), WithJsonSchema(_TEXT)] = ""
    """A namespace of Vault Enterprise."""
    ca_file: Place | None = None
    """The authority of Vault's own certificate, in PEM, where the system does not know it."""
    reread: Interval = _default(timedelta(minutes=15))
    """How old a key may be before it is read again: a rotation in Vault is noticed within that time."""


class MaintenanceOptions(Options):
    """A time in which nobody is told anything: once (`start`, `end`) or every week (`weekly`, `lasts`)."""

    start: Moment = None
    """When it begins."""
    end: Moment = None
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
    """By whose clocks, e.g. Europe/Berlin."""

    @model_validator(mode="after")
    def _once_or_weekly(self) -> Self:
        once, weekly = (self.start, self.end), (self.weekly, self.lasts)
        if (None in once) == (None in weekly) or (any(once) and any(weekly)):
            raise ValueError("needs start and end, or weekly and lasts: one of the two pairs, and whole.")
        if self.start and self.end and self.start >= self.end:
            raise ValueError("ends before it has begun. Write the earlier moment under start.")
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
    """A private key, and its certificate where it is at hand."""

    private_key: PrivateKey
    """The key that signs (setup guide, step 1)."""
    certificate: Certificate | None = None
    """The certificate that was uploaded to the app: its end is watched, and that it fits the key."""

    def pair(self) -> Pair:
        """As a Pair."""
        return Pair(self.private_key, self.certificate)


NextPair = Annotated[Pair, Written(PairOptions, PairOptions.pair)]


class ExpiryOptions(Options):
    """When a certificate's end becomes a finding: a time before its end, a share of its lifetime, or a list
    of a share, the least time and the most.
    """

    warning: ExpiryBand = None
    """Default: [25%, 0s, 60d]."""
    critical: ExpiryBand = None
    """Default: [5%, 7d, 14d]."""


class ApprovalOptions(Options):
    """What the owner knows of the app's refresh token policy (setup guide, step 4)."""

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
    """The day on which the approval was given, where it is known; else the first grant seen stands for it."""

    @model_validator(mode="after")
    def _days_where_needed(self) -> Self:
        timed = self.policy in {"lifetime", "inactivity"}
        if timed and self.days is None:
            raise ValueError(f'needs days for the policy "{self.policy}". Write e.g. days: 90.')
        if not timed and self.days is not None:
            raise ValueError(f'has days, but the policy "{self.policy}" knows none. Leave days out.')
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
        "settle": "is no longer an option of one connection. Write it at the top of the main file, for all.",
    }

    name: Annotated[
        str,
        BeforeValidator(words.connection_name),
        WithJsonSchema({"type": "string", "pattern": f"^{words.NAME.pattern}$"}),
    ]
    """Unique; the label in every metric."""
    subdomain: Annotated[str | None, BeforeValidator(words.subdomain), WithJsonSchema(_TEXT)] = None
    """The part of the org's host before .my.salesforce.com (setup guide, step 7). Or `login_url`."""
    login_url: Annotated[
        str | None, BeforeValidator(_login_url), WithJsonSchema({"type": "string", "format": "uri"})
    ] = None
    """The address to log in at, for hosts of another form. Or `subdomain`."""
    audience: Annotated[str, BeforeValidator(words.audience), WithJsonSchema(_TEXT)] = "my_domain"
    """Whom the assertion is for: `my_domain` (the org's own address, which External Client Apps want),
    `login` (https://login.salesforce.com), `test` (https://test.salesforce.com), or a URL."""
    consumer_key: Annotated[str, BeforeValidator(words.consumer_key), WithJsonSchema(_TEXT)]
    """The app's consumer key (setup guide, step 3)."""
    app: Annotated[str, BeforeValidator(words.app_name), WithJsonSchema(_TEXT)] = ""
    """The app's name in the org. Whatever tells an admin to open the app then names it."""
    username: Annotated[
        str, BeforeValidator(words.username), WithJsonSchema({"type": "string", "pattern": "@"})
    ]
    """The integration user's username (setup guide, step 5)."""
    private_key: PrivateKey
    """The key that signs (setup guide, step 1)."""
    certificate: Certificate | None = None
    """The certificate that was uploaded to the app: its end is watched, and that it fits the key."""
    certificate_not_after: Moment = None
    """The certificate's end, where the certificate itself is not at hand."""
    next: Annotated[NextPair | None, BeforeValidator(_filled)] = None
    """The pair to rotate to."""
    interval: OwnInterval = None
    """Time between two checks of this connection, in place of the general one."""
    certificate_expiry: Annotated[ExpiryOptions | None, BeforeValidator(_filled)] = None
    """Bands of this connection's certificate, in place of the general ones."""
    approval: Annotated[Policy | None, BeforeValidator(_filled)] = None
    """What the owner knows of the refresh token policy: it dates the forecast."""
    after_login: Flag = True
    """One REST call now and then proves that the token is accepted."""
    audit: Annotated[
        Literal["daily", "off"],
        BeforeValidator(words.one_of("daily", "off")),
    ] = "daily"
    """Whether the org is asked each day about the steps of the setup guide, in at most eight calls. What it
    may read depends on the user's permissions, and none is needed."""
    observer: Annotated[str, BeforeValidator(words.connection_name), WithJsonSchema(_TEXT)] = ""
    """The name of another connection to the same org, whose user may see more: its token reads for this one,
    also while this one is refused."""
    read_permission_sets: Flag | None = None
    paused: Flag = False
    """Not checked, but still shown."""
    maintenance: Maintenances = ()
    """When nobody is told of this connection, beside the general times. It is checked all the same."""
    labels: Labels = Field(default=(), json_schema_extra={"default": {}})
    """The operator's own labels, on `bearerwatch_connection_info`."""

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
            paused=self.paused,
            maintenance=self.maintenance,
            labels=self.labels,
        )


class WebOptions(Options):
    """The daemon's own pages."""

    enable_reload: Flag = False
    """Whether `POST /-/reload` reads the configuration again. Anyone who reaches the address may call it."""
    enable_checks: Flag = False
    """Whether anyone who reaches the pages may have connections checked now. Allowed anyway with users or
    client certificates, and on loopback without another name (`external_url`, `hosts`)."""
    external_url: Url = ""
    """Where people reach the pages, for links in messages; where absent, links start at `listen`."""
    config_file: Place | None = None
    """TLS and users of the pages, in a web configuration file as Prometheus' exporters have it."""
    hosts: Annotated[tuple[HostName, ...], BeforeValidator(_listed)] = ()
    """Names by which the pages are called, beside addresses, localhost, external_url's and the machine's."""
    open_health: Flag = True
    """Whether `/-/healthy` and `/-/ready` answer without a login."""


class AlertOptions(Options):
    """What alerts link to, carry and wait for."""

    runbook_url: Url = ""
    """Where the pages of `docs/causes` are, if not at the daemon's own `/causes`: `/CAUSE.md` is added."""
    dashboard_url: Url = ""
    """The address of the Grafana dashboard: `?var-connection=NAME` is added."""
    usernames: Flag = False
    """Whether `bearerwatch_connection_info`, and with it alerts, carry the integration users' names."""
    transient_for: Annotated[
        Annotated[
            timedelta,
            BeforeValidator(
                words.duration_between(
                    timedelta(0), LONGEST_HOLD, "an outage that lasts for a day is not a passing one."
                )
            ),
        ]
        | None,
        BeforeValidator(_filled),
        WithJsonSchema(_DURATION),
    ] = None
    """For how long a fault of network or server must last before it is an alert. Default: three intervals, at
    most 1h."""
    labels: Annotated[
        tuple[str, ...],
        BeforeValidator(words.label_names),
        WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": f"^{words.LABEL.pattern}$"}}),
    ] = Field(default=(), json_schema_extra={"default": []})
    """Which of the connections' own labels alerts carry, beside the host, for routes that go by them."""


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
    """Whether it is told that something has ended."""
    route: Route


_RESPONSIBLE, _SEVERITY = [each.value for each in Responsible], [each.value for each in Severity]
_Responsible = Annotated[
    str, BeforeValidator(words.one_of(*_RESPONSIBLE)), WithJsonSchema({"enum": _RESPONSIBLE})
]
_Severity = Annotated[str, BeforeValidator(words.one_of(*_SEVERITY)), WithJsonSchema({"enum": _SEVERITY})]


class SinkOptions(Options):
    """One receiver of notifications. What it takes is narrowed by `responsible`, `severity` and `labels`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["url"]}, {"required": ["url_from"]}]}
    )

    name: Annotated[
        str,
        BeforeValidator(words.connection_name),
        WithJsonSchema({"type": "string", "pattern": f"^{words.NAME.pattern}$"}),
    ]
    """Unique: what it was told is remembered under it."""
    type: Annotated[
        Literal["alertmanager", "webhook", "apprise"],
        BeforeValidator(words.one_of("alertmanager", "webhook", "apprise")),
    ]
    """`alertmanager`: its API. `webhook`: JSON as Alertmanager's own webhooks send it. `apprise`: a
    notification service, by an Apprise URL; needs the extra bearerwatch[notify]."""
    url: Annotated[
        str | None, BeforeValidator(words.sink_url), WithJsonSchema({"type": "string", "format": "uri"})
    ] = None
    """Its address; of an Alertmanager without /api. Or `url_from`."""
    url_from: SecretPlace | None = None
    """Where an address is kept that holds a secret, as those of chat services and of Apprise do."""
    token: SecretPlace | None = None
    """Where a token is kept that is sent as `Authorization: Bearer`."""
    secret: SecretPlace | None = None
    """Where the key is kept that a webhook's messages are signed with (Standard Webhooks, HMAC-SHA256)."""
    repeat: Annotated[Repeat | None, BeforeValidator(_filled), WithJsonSchema(_DURATION)] = None
    """Time between two messages about the same to this receiver, in place of the general one. An Alertmanager
    repeats by its own."""
    resolved: Flag = True
    """Whether it is told that something has ended."""
    responsible: Annotated[tuple[_Responsible, ...], BeforeValidator(_listed)] = ()
    """Only what these must act on. Default: all."""
    severity: Annotated[tuple[_Severity, ...], BeforeValidator(_listed)] = ()
    """Only what is so severe. Default: all."""
    labels: Labels = Field(default=(), json_schema_extra={"default": {}})
    """Only connections with all of these labels of the operator's. Default: all."""

    @model_validator(mode="after")
    def _of_its_type(self) -> Self:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("needs url, or url_from where the address holds a secret: one of the two.")
        if self.secret and self.type != "webhook":
            raise ValueError("has a secret, but only a webhook's messages are signed. Leave secret out.")
        if self.type == "apprise" and (self.url or self.token):
            raise ValueError("is of type apprise, whose address holds all its secrets. Write url_from alone.")
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
    """Who is told, for those who have no Prometheus, or want more than its Alertmanager."""

    repeat: Repeat = _default(timedelta(hours=4))
    """Time between two messages about the same, while it holds."""
    sinks: Annotated[tuple[SinkOptions, ...], BeforeValidator(_listed)] = ()
    """The receivers. Without one nothing is sent."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f'has more than one sink named "{twice}". Give each a name of its own.')
        return self


class GeneralOptions(Options):
    """Everything but the list of connections."""

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
    replicas: Flag | None = None
    """Gone: daemons that name the same PostgreSQL database watch together."""
    interval: Interval = _default(timedelta(minutes=5))
    """Time between two checks of a connection."""
    settle: Settle = _default(timedelta(minutes=10))
    """For how long after a change a refusal may still be the change on its way (setup guide, step 2)."""
    login_budget_per_hour: Annotated[
        int,
        BeforeValidator(
            words.whole(
                1, LOGIN_LIMIT, f"Salesforce allows a user {LOGIN_LIMIT:,} logins an hour, yours included."
            )
        ),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": LOGIN_LIMIT}),
    ] = 60
    """Logins that all checks of one username share. The rest of Salesforce's 3,600 are production's."""
    max_in_flight: Annotated[
        int,
        BeforeValidator(words.whole(1, MOST_IN_FLIGHT, "each exchange under way holds up to 320 KiB.")),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_IN_FLIGHT}),
    ] = 64
    """Exchanges under way at the same time."""
    allowed_hosts: Annotated[frozenset[HostName], BeforeValidator(_listed)] = frozenset()
    """Hosts that assertions may go to, beside those of Salesforce and loopback."""
    ca_file: Place | None = None
    """Certificate authorities in PEM, beside those of the system, e.g. of a proxy that opens TLS."""
    vault: Annotated[VaultOptions | None, BeforeValidator(_filled)] = None
    """HashiCorp Vault, for keys that are kept there."""
    certificate_expiry: Annotated[ExpiryOptions, BeforeValidator(_filled)] = ExpiryOptions()
    """When a certificate's end becomes a finding."""
    alerts: Annotated[AlertOptions, BeforeValidator(_filled)] = AlertOptions()
    """What alerts link to, carry and wait for."""
    notify: Annotated[NotifyOptions, BeforeValidator(_filled)] = NotifyOptions()
    """Who is told, beside Prometheus."""
    maintenance: Maintenances = ()
    """When nobody is told anything new, by `notify` or the rules for Prometheus. Checks and metrics go on."""
    connections_from: Annotated[tuple[Pattern, ...], BeforeValidator(_listed)] = ()
    """Patterns of files that hold more connections, as a list or under the key `connections`."""


class ConfigurationOptions(GeneralOptions):
    """A bearerwatch configuration."""

    connections: Annotated[tuple[ConnectionOptions, ...], BeforeValidator(_listed)] = ()
    """What is watched."""
