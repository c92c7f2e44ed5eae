"""The options of one connection, and the blocks in it."""

from collections.abc import Mapping
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from monitor.config import words
from monitor.config.options.sources import Certificate, PrivateKey
from monitor.config.options.values import (
    URL,
    ExpiryBand,
    Flag,
    Interval,
    Labels,
    Name,
    Objects,
    OneOf,
    Options,
    Parsed,
    UtcTime,
    Written,
    between,
)
from monitor.core.connection import ApprovalPolicy, Connection, ExpiryBands, Pair, audience_of, login_url_of
from monitor.core.maintenance import Maintenance, Once, Weekly

if TYPE_CHECKING:
    from monitor.config.options import GeneralOptions

WEEK = timedelta(days=7)


def _login_url(value: object, info: ValidationInfo) -> str:
    allowed: frozenset[str] = (info.context or {}).get("allowed_hosts", frozenset())
    return words.login_url(value, allowed)


class MaintenanceOptions(Options):
    """A time without alerts: once (`start`, `end`) or every week (`weekly`, `lasts`)."""

    start: UtcTime = None
    """When it begins."""
    end: UtcTime = None
    """When it ends."""
    weekly: Annotated[
        tuple[int, time] | None, Parsed(words.week_time, {"type": "string", "examples": ["sat 22:00"]})
    ] = None
    """The weekday and time at which it begins."""
    lasts: Annotated[
        timedelta | None, between(timedelta(minutes=1), WEEK, "a longer one would never end.")
    ] = None
    """For how long."""
    zone: Annotated[str, Parsed(words.zone)] = "UTC"
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
        assert self.weekly
        assert self.lasts
        return Weekly(*self.weekly, self.lasts, self.zone)


Maintenances = tuple[Annotated[Maintenance, Written(MaintenanceOptions, MaintenanceOptions.times)], ...]


class PairOptions(Options):
    """A private key and, if available, its certificate."""

    private_key: PrivateKey
    """The key that signs (setup guide, step 1)."""
    certificate: Certificate | None = None
    """The certificate uploaded to the app, to monitor its expiry and whether it matches the key."""


NextPair = Annotated[Pair, Written(PairOptions, lambda pair: Pair(pair.private_key, pair.certificate))]


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

    policy: Annotated[Literal["until_revoked", "lifetime", "inactivity", "immediately"], OneOf()]
    """`until_revoked`: "valid until revoked". `lifetime`: "expire after". `inactivity`: "expire if not used
    for". `immediately`: "immediately expire"."""
    days: Annotated[float | None, Parsed(words.days, {"type": "number", "exclusiveMinimum": 0})] = None
    """How many days, for `lifetime` and `inactivity`."""
    granted: Annotated[date | None, Parsed(words.day, {"type": "string", "format": "date"})] = None
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

    former: ClassVar[Mapping[str, str]] = {"read_permission_sets": "an audit reads them every day"}

    name: Name
    """A unique name; the label in every metric."""
    subdomain: Annotated[str | None, Parsed(words.subdomain)] = None
    """The part of the org's host before .my.salesforce.com (setup guide, step 7). Or `login_url`."""
    login_url: Annotated[str | None, Parsed(_login_url, URL)] = None
    """The whole login address, for other kinds of host. Or `subdomain`."""
    audience: Annotated[str, Parsed(words.audience)] = "my_domain"
    """The assertion's audience: `my_domain` (the org's own address, as External Client Apps require),
    `login` (https://login.salesforce.com), `test` (https://test.salesforce.com), or a URL."""
    consumer_key: Annotated[str, Parsed(words.consumer_key)]
    """The app's consumer key (setup guide, step 3)."""
    app: Annotated[str, Parsed(words.app_name)] = ""
    """The app's name in the org, for instructions to admins."""
    username: Annotated[str, Parsed(words.username, {"type": "string", "pattern": "@"})]
    """The integration user's username (setup guide, step 5)."""
    private_key: PrivateKey
    """The key that signs (setup guide, step 1)."""
    certificate: Certificate | None = None
    """The certificate uploaded to the app, to monitor its expiry and whether it matches the key."""
    certificate_not_after: UtcTime = None
    """The certificate's expiry date, if the certificate itself is not available."""
    next: NextPair | None = None
    """The pair to rotate to."""
    interval: Interval | None = None
    """Time between checks of this connection, instead of the global interval."""
    certificate_expiry: ExpiryOptions | None = None
    """Bands for this connection's certificate, instead of the global ones."""
    approval: Policy | None = None
    """The refresh token policy, if known, to forecast the approval's end."""
    after_login: Flag = True
    """Whether a REST call now and then proves that the token works."""
    audit: Annotated[Literal["daily", "off"], OneOf()] = "daily"
    """Whether to check the steps of the setup guide in the org every day, in at most eight calls. What
    they show depends on the user's permissions; none is required."""
    observer: Annotated[str, Parsed(words.connection_name)] = ""
    """Another connection to the same org whose user may see more: audits use its token, even while this
    connection is refused."""
    objects: Objects = Field(default=(), json_schema_extra={"default": {}})
    """Objects that the integration needs, with `read`, `write` or both: audits check the access."""
    paused: Flag = False
    """Not checked, but still shown."""
    maintenance: Maintenances = ()
    """Times without alerts about this connection, in addition to the global ones. Checks continue."""
    labels: Labels = Field(default=(), json_schema_extra={"default": {}})
    """Your own labels, on `bearerwatch_connection_info`."""

    def connection(self, general: "GeneralOptions", expiry: ExpiryBands) -> Connection:
        """As a Connection, with the global options for what it does not set."""
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
