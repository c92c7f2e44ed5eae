"""An org's settings, as read from JSON, and which of them take time to propagate.

Sources: Salesforce's help and references, the setup guide, and what was *observed* in public threads. Where
they disagree, a setting decides.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Annotated, Literal, Self

from cryptography import x509
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

CERTIFICATE_LIMIT_BYTES = 4096
"""The largest certificate that can be uploaded (help on connected apps)."""

LONGEST_SECONDS = 100 * 365 * 86_400
"""A hundred years. More is a typo, and would overflow a date."""


class SettingsError(ValueError):
    """Invalid settings; `problems` lists all of them."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _is_certificate(pem: str | None) -> str | None:
    if pem is None:
        return None
    if len(pem.encode()) > CERTIFICATE_LIMIT_BYTES:
        raise ValueError(f"must be at most {CERTIFICATE_LIMIT_BYTES} bytes")
    try:
        x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise ValueError("must be a PEM certificate or null") from None
    return pem


def _is_range(text: str) -> str:
    first, dash, last = text.partition("-")
    try:
        if dash and int(ip_address(first)) <= int(ip_address(last)):
            return text
    except ValueError:
        pass
    raise ValueError("must be two addresses separated by a dash, the lower one first")


Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_SECONDS)]
Certificate = Annotated[str | None, AfterValidator(_is_certificate)]

Permission = Literal["ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers"]
"""A field of `UserPermissionAccess`, without the prefix `Permissions`."""
Permissions = Annotated[tuple[Permission, ...], Strict(False)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def read(cls, values: Mapping[str, object]) -> Self:
        """Reads JSON. Raises SettingsError with all problems."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            said = (_said(each, cls) for each in error.errors(include_url=False))
            raise SettingsError(tuple(said)) from None


class Observer(_Settings):
    """A second user with a separate app, whose token can read more of the setup."""

    consumer_key: Text
    username: Text
    certificate: Certificate = None
    app_label: Text = "Observer"
    permissions: Permissions = ("ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers")


class Production(_Settings):
    """The integration itself, which logs in with the same app and user from another address."""

    address: Text = "198.51.100.7"
    every_seconds: Annotated[float, Field(ge=60, le=LONGEST_SECONDS)] = 3600
    status: Text | None = None
    """Status of its logins. None: `Success`, or `Restricted IP` outside the profile's ranges."""


class SandboxCopy(_Settings):
    """A sandbox refresh, as the production org shows it."""

    name: Text = "dev"
    percent: Annotated[int, Field(ge=0, le=100)] = 62


class App(_Settings):
    """The settings that take time to propagate: those of an app, and of who is approved for it."""

    consumer_key: Text = "3MVG9_simulated"
    certificate: Certificate = None
    """The app's certificate, as PEM; an app has at most one."""
    accepted_audiences: Literal["any", "my_domain", "generic"] = "any"
    """`my_domain`: an External Client App, which answers a generic audience with `app_not_found`
    (*observed*). `generic`: Government Cloud and some classic apps, which require the login server
    (*observed*)."""
    permitted_users: Literal["admin_approved", "self_authorized"] = "admin_approved"
    permission_set_assigned: bool = True
    """Whether the user has the permission set from the guide's step 5; for `admin_approved`."""
    permission_set_selected: bool = True
    """Whether that set is selected in the app's policies (step 6); for `admin_approved`."""
    permission_set_lifetime_seconds: Seconds | None = None
    """When the permission set assignment expires, counted from the last approval; None: never (setup guide,
    step 5)."""
    refresh_token_policy: Literal["infinite", "zero", "lifetime", "inactivity"] = "infinite"  # noqa: S105 - a policy
    refresh_token_validity_seconds: Seconds | None = None
    """Counted from the approval for `lifetime`, from the last granted login for `inactivity`."""
    session_level: Literal["STANDARD", "LOW", "HIGH_ASSURANCE"] = "STANDARD"
    """The session level that the app's policy requires. Refusals are modelled by `api_access_control`."""
    app_present: bool = True
    app_blocked: bool = False
    flow_enabled: bool = True
    jwt_access_tokens: bool = False
    scopes: Annotated[tuple[Text, ...], Strict(False)] = ("api", "refresh_token")

    @model_validator(mode="after")
    def _timed(self) -> Self:
        policy = self.refresh_token_policy
        if policy in {"lifetime", "inactivity"} and self.refresh_token_validity_seconds is None:
            raise ValueError(f"refresh_token_validity_seconds must be given with the policy {policy}")
        return self


class OrgSettings(App):
    """An org's settings. With the defaults and a certificate, it grants every correct request.

    Those that are not the app's apply at once.
    """

    username: Text = "integration@example.com"
    app_label: Text = "Integration"
    app_kind: Literal["external_client_app", "connected_app"] = "external_client_app"
    org_type: Literal["production", "sandbox", "developer"] = "production"
    permission_set_license: Text | None = "Salesforce API Integration"
    left_out: Literal["invalid_app_access", "app_not_found"] = "invalid_app_access"
    """The answer to a user without the permission set of step 5. According to three manuals, an External
    Client App answers `app_not_found` (*observed*)."""
    user_approved: bool = True
    decays_when_admin_approved: bool = True
    """Whether admin-approved users also need an unexpired approval: yes according to the setup guide (step
    4), no according to Salesforce's CLI guide. *Contested*."""
    propagation_seconds: Seconds = 0
    """How long a new or changed app takes to propagate: 2 to 10 minutes (setup guide)."""
    refresh_scope_needed: bool = True
    """Whether a login needs the refresh token scope, as the help says. *Contested* for `admin_approved`."""
    ip_relaxation: Literal["enforce", "relax_refresh", "bypass"] = "bypass"
    """The app's IP Relaxation, which this flow ignores (help on IP relaxation)."""
    login_ip_ranges: Annotated[tuple[Annotated[str, AfterValidator(_is_range)], ...], Strict(False)] = ()
    """The profile's Login IP Ranges, such as `192.0.2.0-192.0.2.255`; none: any address may log in."""
    ip_allowed: bool = True
    """False: our address counts as outside, whatever the ranges are."""
    ip_refusal: Literal["ip_restricted", "not_authorized"] = "ip_restricted"
    """The answer to a login from outside: Salesforce's error list has the first, the setup guide's
    troubleshooting the second. *Contested*."""
    api_enabled: bool = True
    api_enabled_by: Literal["profile", "permission_set"] = "profile"
    """What gives the user API Enabled. The permission set's ends with its assignment."""
    api_access_control: bool = False
    """Whether API Access Control refuses this app's calls, although a token is granted (*observed*)."""
    permissions: Permissions = ()
    objects: dict[Text, Annotated[tuple[Literal["read", "write"], ...], Strict(False)]] = {
        "Account": ("read", "write"),
        "Contact": ("read", "write"),
    }
    """Object permissions (setup guide, step 5.3); other objects are invisible."""
    user_active: bool = True
    user_frozen: bool = False
    """A frozen user can't log in. The answer is not recorded: we use that for an inactive user."""
    org_active: bool = True
    trial_seconds: Seconds | None = None
    """How long after its creation a trial org becomes inactive; None: not a trial."""
    expired_certificate_refused: bool = False
    """*Contested*: according to most reports, nothing happens when an app's certificate expires."""
    session_seconds: Seconds = 7200
    login_rate_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 3600
    clock_offset_seconds: Annotated[float, Field(ge=-LONGEST_SECONDS, le=LONGEST_SECONDS)] = 0
    """How far the org's clock is ahead of the simulator's."""
    observer: Observer | None = None
    production: Production | None = None
    sandbox_copy: SandboxCopy | None = None
    api_calls_a_day: Annotated[int, Field(ge=0, le=100_000_000)] = 15_000
    """The daily allocation; a Developer Edition org has 15,000 (API limits sheet)."""
    api_calls_by_others: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    app_objects_on: Literal["both", "query", "tooling"] = "both"
    """Which resource has the objects of External Client Apps. Reports name each (*observed*)."""
    enumerations: Literal["names", "numbers", "unknown"] = "names"
    """How their picklists spell values: two variants were *observed*; `unknown` is a third."""
    unreadable: Annotated[tuple[Text, ...], Strict(False)] = ()
    """Objects, and fields as `Object.Field`, for which queries get INVALID_TYPE and INVALID_FIELD."""
    without_rows: Annotated[tuple[Text, ...], Strict(False)] = ()
    """Objects that exist but show this user no rows."""
    maintenance: bool = False
    fault: (
        Literal["slow", "reset", "truncate", "huge", "garbage", "hang", "error_500", "retry_your_request"]
        | None
    ) = None

    def changed(self, values: Mapping[str, object]) -> "OrgSettings":
        """These settings with some values changed, from JSON. Raises SettingsError with all problems."""
        return self.read({**self.model_dump(), **values})

    def as_json(self) -> dict[str, object]:
        """All settings, in the form that `changed` reads."""
        return self.model_dump(mode="json")

    @property
    def of_each_app(self) -> tuple["OrgSettings", ...]:
        """These settings, and those for the app of the observer, if there is one."""
        if self.observer is None:
            return (self,)
        own = self.model_dump(include={"org_type", "org_active", "trial_seconds", "session_seconds"})
        return self, OrgSettings().model_copy(update=own | dict(self.observer))

    def of(self, consumer_key: object) -> "OrgSettings":
        """The settings for a consumer key's app: the observer's or these."""
        return next((each for each in self.of_each_app[1:] if each.consumer_key == consumer_key), self)


def _said(error: ErrorDetails, model: type[BaseModel]) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        near = get_close_matches(where, model.model_fields, n=1)
        return f"{where}: there is no such setting" + (f", did you mean {near[0]}?" if near else "")
    said = error["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


class Refresh(_Settings):
    """What a sandbox refresh does. It always changes the org's id and ends sessions."""

    username_suffix: str = "refreshed"
    """Appended to the username after a dot: it "may be re-suffixed with the sandbox name" (setup guide). If
    empty, the username stays."""
    loses: Annotated[tuple[Literal["consumer_key", "certificate", "app"], ...], Strict(False)] = (
        "consumer_key",
        "certificate",
    )
    """What is lost: the apps' keys, settings and certificates, according to reports from the field; another
    vendor says that they carry over. *Contested*."""
