"""What one org is like, as settings that come out of JSON, and what of them takes its time.

Sources: Salesforce's help on the JWT bearer flow, its object and metadata references, the setup guide, and
what was *observed* in public threads. Where sources disagree, a setting decides.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Annotated, Final, Literal, Self, TypeVar

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
"""An uploaded certificate may have 4 KB (help on connected apps)."""

LONGEST_SECONDS = 100 * 365 * 86_400
"""A hundred years: more is a slip of the pen, and would overflow a date."""


class SettingsError(ValueError):
    """Settings that no org can have; `problems` names every one of them."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _is_certificate(pem: str | None) -> str | None:
    if pem is None:
        return None
    if len(pem.encode()) > CERTIFICATE_LIMIT_BYTES:
        raise ValueError(f"must have {CERTIFICATE_LIMIT_BYTES} bytes at most")
    try:
        x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise ValueError("must be a certificate as PEM, or null") from None
    return pem


def _is_range(text: str) -> str:
    first, dash, last = text.partition("-")
    try:
        if dash and int(ip_address(first)) <= int(ip_address(last)):
            return text
    except ValueError:
        pass
    raise ValueError("must be two addresses with a dash between, the lower one first")


Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_SECONDS)]
Certificate = Annotated[str | None, AfterValidator(_is_certificate)]

Permission = Literal["ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers"]
"""As `UserPermissionAccess` has it, after `Permissions`."""
Permissions = Annotated[tuple[Permission, ...], Strict(False)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Observer(_Settings):
    """A second user of the org, with an app of its own, whose token reads what the first one's may not."""

    consumer_key: Text
    username: Text
    certificate: Certificate = None
    app_label: Text = "Observer"
    permissions: Permissions = ("ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers")


class Production(_Settings):
    """The integration itself, which logs in with the same app and user from elsewhere."""

    address: Text = "198.51.100.7"
    every_seconds: Annotated[float, Field(ge=60, le=LONGEST_SECONDS)] = 3600
    status: Text | None = None
    """Of its rows of the login history. None: `Success`, or `Restricted IP` outside the profile's ranges."""


class SandboxCopy(_Settings):
    """A refresh of a sandbox, as the production org shows it."""

    name: Text = "dev"
    percent: Annotated[int, Field(ge=0, le=100)] = 62


class OrgSettings(_Settings):
    """What one org is like. A brand-new one grants every proper request, once it has a certificate."""

    consumer_key: Text = "3MVG9_simulated"
    username: Text = "integration@example.com"
    certificate: Certificate = None
    """The certificate uploaded to the app, as PEM; an app holds one at most."""
    app_label: Text = "Integration"
    app_kind: Literal["external_client_app", "connected_app"] = "external_client_app"
    org_type: Literal["production", "sandbox", "developer"] = "production"
    accepted_audiences: Literal["any", "my_domain", "generic"] = "any"
    """`my_domain`: an External Client App, for which a generic audience is `app_not_found` (*observed*).
    `generic`: Government Cloud and some classic apps, which want the login server (*observed*)."""
    permitted_users: Literal["admin_approved", "self_authorized"] = "admin_approved"
    permission_set_assigned: bool = True
    """Whether the user has the permission set of the guide's step 5; for `admin_approved`."""
    permission_set_selected: bool = True
    """Whether that set is selected in the app's policies (step 6); for `admin_approved`."""
    permission_set_license: Text | None = "Salesforce API Integration"
    left_out: Literal["invalid_app_access", "app_not_found"] = "invalid_app_access"
    """What a user without that permission set is told. By three manuals an External Client App says
    `app_not_found` (*observed*)."""
    permission_set_lifetime_seconds: Seconds | None = None
    """When the assignment of that permission set expires, counted from the last approval; None: never (setup
    guide, step 5)."""
    user_approved: bool = True
    """Whether an approval of this user for this app is on record."""
    refresh_token_policy: Literal["infinite", "zero", "lifetime", "inactivity"] = "infinite"  # noqa: S105 - a policy
    refresh_token_validity_seconds: Seconds | None = None
    """For `lifetime` since the approval, for `inactivity` since the last granted login."""
    decays_when_admin_approved: bool = True
    """Whether admin-approved users need a living approval too: yes by the setup guide (step 4), no by
    Salesforce's own CLI guide. *Contested*."""
    propagation_seconds: Seconds = 0
    """How long a new app, or a change of it, takes to have an effect: 2 to 10 minutes by the setup guide."""
    refresh_scope_needed: bool = True
    """Whether a login needs the scope that brings refresh tokens: so the help. *Contested* for
    `admin_approved`."""
    session_level: Literal["STANDARD", "LOW", "HIGH_ASSURANCE"] = "STANDARD"
    """Which level the app's policy wants of a session. That it refuses one is `api_access_control` here."""
    ip_relaxation: Literal["enforce", "relax_refresh", "bypass"] = "bypass"
    """The app's IP Relaxation, which this flow ignores (help on IP relaxation)."""
    login_ip_ranges: Annotated[tuple[Annotated[str, AfterValidator(_is_range)], ...], Strict(False)] = ()
    """The Login IP Ranges of the user's profile, `192.0.2.0-192.0.2.255`; none: any address may log in."""
    ip_allowed: bool = True
    """False: our address is outside them, whatever they are."""
    ip_refusal: Literal["ip_restricted", "not_authorized"] = "ip_restricted"
    """What a login from a forbidden address is told: Salesforce's error list has the first, the setup guide's
    troubleshooting the second. *Contested*."""
    api_enabled: bool = True
    api_enabled_by: Literal["profile", "permission_set"] = "profile"
    """Which gives the user API Enabled. By the permission set, it ends with its assignment."""
    api_access_control: bool = False
    """Whether API Access Control refuses the calls of this app, although a token is granted (*observed*)."""
    permissions: Permissions = ()
    """What the user may see of the setup. A profile of minimum access has nothing of it."""
    objects: dict[Text, Annotated[tuple[Literal["read", "write"], ...], Strict(False)]] = {
        "Account": ("read", "write"),
        "Contact": ("read", "write"),
    }
    """What the user may do with records (setup guide, step 5.3); of other objects it sees nothing."""
    user_active: bool = True
    user_frozen: bool = False
    """A frozen user can't log in. What it is told is not recorded: here, what an inactive user is."""
    org_active: bool = True
    trial_seconds: Seconds | None = None
    """After which a trial org is inactive, counted from when it was made; None: not a trial."""
    app_present: bool = True
    app_blocked: bool = False
    flow_enabled: bool = True
    jwt_access_tokens: bool = False
    scopes: Annotated[tuple[Text, ...], Strict(False)] = ("api", "refresh_token")
    expired_certificate_refused: bool = False
    """*Contested*: by most reports nothing happens when an app's certificate expires."""
    session_seconds: Seconds = 7200
    login_rate_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 3600
    clock_offset_seconds: Annotated[float, Field(ge=-LONGEST_SECONDS, le=LONGEST_SECONDS)] = 0
    """How far this org's clock is ahead of the simulator's."""
    observer: Observer | None = None
    production: Production | None = None
    sandbox_copy: SandboxCopy | None = None
    api_calls_a_day: Annotated[int, Field(ge=0, le=100_000_000)] = 15_000
    """The allocation; 15,000 are a Developer Edition org's (API limits sheet)."""
    api_calls_by_others: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    """How much of it others use up, each day."""
    app_objects_on: Literal["both", "query", "tooling"] = "both"
    """Which resource answers for the objects of External Client Apps. Reports name each (*observed*)."""
    enumerations: Literal["names", "numbers", "unknown"] = "names"
    """How their picklists spell what they hold: two dialects were *observed*; `unknown` is a third."""
    unreadable: Annotated[tuple[Text, ...], Strict(False)] = ()
    """Objects, and fields as `Object.Field`, that queries are refused: INVALID_TYPE and INVALID_FIELD."""
    without_rows: Annotated[tuple[Text, ...], Strict(False)] = ()
    """Objects that are there, but show this user no row."""
    maintenance: bool = False
    fault: (
        Literal["slow", "reset", "truncate", "huge", "garbage", "hang", "error_500", "retry_your_request"]
        | None
    ) = None

    @model_validator(mode="after")
    def _timed(self) -> Self:
        policy = self.refresh_token_policy
        if policy in {"lifetime", "inactivity"} and self.refresh_token_validity_seconds is None:
            raise ValueError(f"refresh_token_validity_seconds must be given with the policy {policy}")
        return self

    def changed(self, values: Mapping[str, object]) -> "OrgSettings":
        """These settings with other values for some, as they come out of JSON.

        SettingsError names all that is wrong with them.
        """
        return _validated(OrgSettings, {**self.model_dump(), **values})

    def as_json(self) -> dict[str, object]:
        """All settings, such that `changed` reads them back."""
        return self.model_dump(mode="json")

    def of(self, consumer_key: object) -> "OrgSettings":
        """The settings by which the app of a consumer key is judged: the observer's or these."""
        if self.observer is None or consumer_key != self.observer.consumer_key:
            return self
        own = {name: getattr(self, name) for name in _OF_THE_ORG}
        return OrgSettings().model_copy(update=own | dict(self.observer))


Model = TypeVar("Model", bound=BaseModel)


def _validated(model: type[Model], values: Mapping[str, object]) -> Model:
    """The values as this model; SettingsError names every one that makes no sense."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(tuple(_said(each, model) for each in error.errors(include_url=False))) from None


def _said(error: ErrorDetails, model: type[BaseModel]) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        near = get_close_matches(where, model.model_fields, n=1)
        return f"{where}: there is no such setting" + (f", did you mean {near[0]}?" if near else "")
    said = error["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


PROPAGATED: Final = frozenset(
    {
        "consumer_key",
        "certificate",
        "accepted_audiences",
        "permitted_users",
        "permission_set_assigned",
        "permission_set_selected",
        "permission_set_lifetime_seconds",
        "refresh_token_policy",
        "refresh_token_validity_seconds",
        "session_level",
        "flow_enabled",
        "jwt_access_tokens",
        "scopes",
        "app_present",
        "app_blocked",
    }
)
"""What belongs to the app and so takes its time to reach every server; the rest holds at once."""

_OF_THE_ORG = (
    "org_type",
    "org_active",
    "trial_seconds",
    "session_seconds",
)
"""What is the same for every user."""


class Refresh(_Settings):
    """What a sandbox refresh does. The org's id always changes, and its sessions end."""

    username_suffix: str = "refreshed"
    """Appended to the username with a dot: it "may be re-suffixed with the sandbox name" (setup guide). Where
    empty, the username stays."""
    loses: Annotated[tuple[Literal["consumer_key", "certificate", "app"], ...], Strict(False)] = (
        "consumer_key",
        "certificate",
    )
    """What is gone: keys, settings and certificates of apps are, by reports from the field; another vendor
    says that they carry over. *Contested*."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Refresh":
        """From JSON; SettingsError where it makes no sense."""
        return _validated(cls, values)
