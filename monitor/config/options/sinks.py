"""The receivers of notifications."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from monitor.config import words
from monitor.config.options.sources import SecretPlace
from monitor.config.options.values import (
    URL,
    Flag,
    Labels,
    Name,
    OneOf,
    Options,
    Parsed,
    Repeat,
    default_duration,
    filled,
    listed,
)
from monitor.core.causes import Responsible, Severity
from monitor.core.connection import Source
from monitor.core.telling import Route

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
    repeat: Annotated[Repeat | None, BeforeValidator(filled)] = None
    """Time between repeated messages to this receiver, instead of the general one. An Alertmanager has its
    own."""
    resolved: Flag = True
    """Whether it gets a message when a problem ends."""
    responsible: Annotated[tuple[_Responsible, ...], BeforeValidator(listed)] = ()
    """Only problems that these must fix. Default: all."""
    severity: Annotated[tuple[_Severity, ...], BeforeValidator(listed)] = ()
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

    @property
    def route(self) -> Route:
        """What it gets."""
        return Route(self.responsible, self.severity, self.labels)


class NotifyOptions(Options):
    """Notifications, for use without Prometheus or in addition to its Alertmanager."""

    repeat: Repeat = default_duration(timedelta(hours=4))
    """Time between repeated messages about an ongoing problem."""
    sinks: Annotated[tuple[SinkOptions, ...], BeforeValidator(listed)] = ()
    """The receivers. Without one, nothing is sent."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f'has more than one sink named "{twice}". Give each its own name.')
        return self
