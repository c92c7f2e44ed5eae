"""What one org is and remembers: settings, what of them is in force, approvals, sessions, logins.

Pure: no clock, socket or random number; the time is an argument, and is the org's own. Imports nothing of the
monitor's. `login` and `rest` say what an org answers.

Sources: Salesforce's help on the JWT bearer flow, its object and metadata references, the setup guide, and
what was *observed* in public threads. Where sources disagree, a setting decides.
"""

import hashlib
import json
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from email.utils import format_datetime
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
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

TOKEN_PATH = "/services/oauth2/token"  # noqa: S105 - a path

GENERIC_AUDIENCES = {
    "production": "https://login.salesforce.com",
    "developer": "https://login.salesforce.com",
    "sandbox": "https://test.salesforce.com",
}
"""The login server of each type of org (help, JWT bearer flow)."""

CERTIFICATE_LIMIT_BYTES = 4096
"""An uploaded certificate may have 4 KB (help on connected apps)."""

LONGEST_SECONDS = 100 * 365 * 86_400
"""A hundred years: more is a slip of the pen, and would overflow a date."""

LOGINS_KEPT = 500
"""Rows of the login history that an org keeps: thousands of orgs live in one process."""

HOUR_SECONDS = 3600.0


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


Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_SECONDS)]


class OrgSettings(BaseModel):
    """What one org is like. A brand-new one grants every proper request, once it has a certificate."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    consumer_key: Text = "3MVG9_simulated"
    username: Text = "integration@example.com"
    certificate: Annotated[str | None, AfterValidator(_is_certificate)] = None
    """The certificate uploaded to the app, as PEM; an app holds one at most."""
    org_type: Literal["production", "sandbox", "developer"] = "production"
    accepted_audiences: Literal["any", "my_domain", "generic"] = "any"
    """`my_domain`: an External Client App, for which a generic audience is `app_not_found` (*observed*).
    `generic`: Government Cloud and some classic apps, which want the login server (*observed*)."""
    permitted_users: Literal["admin_approved", "self_authorized"] = "admin_approved"
    permission_set_assigned: bool = True
    """Whether the user has a permission set that is selected in the app's policies; for `admin_approved`."""
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
    ip_allowed: bool = True
    ip_refusal: Literal["ip_restricted", "not_authorized"] = "ip_restricted"
    """What a login from a forbidden address is told: Salesforce's error list has the first, the setup guide's
    troubleshooting the second. *Contested*."""
    api_enabled: bool = True
    api_access_control: bool = False
    """Whether API Access Control refuses the calls of this app, although a token is granted (*observed*)."""
    view_setup: bool = False
    """Whether the user has View Setup and Configuration, which a profile of minimum access lacks."""
    user_active: bool = True
    org_active: bool = True
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
        "permission_set_lifetime_seconds",
        "refresh_token_policy",
        "refresh_token_validity_seconds",
        "flow_enabled",
        "jwt_access_tokens",
        "scopes",
        "app_present",
        "app_blocked",
    }
)
"""What belongs to the app and so takes its time to reach every server; the rest holds at once."""

_IMMEDIATE = tuple(name for name in OrgSettings.model_fields if name not in PROPAGATED)


class Refresh(BaseModel):
    """What a sandbox refresh does. The org's id always changes, and its sessions end."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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


@dataclass(frozen=True, slots=True)
class Request:
    """What reached the org of an HTTP request."""

    method: str
    path: str
    """Within the org: `/services/oauth2/token`."""
    base: str
    """The org's own address as the client knows it, without a slash at the end: its My Domain."""
    query: str = ""
    content_type: str = ""
    authorization: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the org answers; `Content-Length` is the server's business."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """One row of the login history."""

    time: datetime
    username: str
    status: str
    """`Success`, or a text as in Salesforce's LoginHistory."""


@dataclass(slots=True)
class Session:
    """What an opaque access token stands for."""

    token: str = field(repr=False)
    began: datetime
    ends: datetime


MAINTENANCE_PAGE = (
    b"<html><head><title>Data Not Available</title></head>"
    b"<body><h1>Data Not Available</h1><p>The data you were trying to access could not be found.</p>"
    b"</body></html>"
)
ERROR_PAGE = (
    b"<html><head><title>Error</title></head><body>An internal server error has occurred</body></html>"
)

JSON_TYPE = "application/json;charset=UTF-8"
HTML_TYPE = "text/html;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class _Change:
    """Settings of the app that wait for their moment."""

    at: datetime
    settings: OrgSettings
    approves: bool


class Org:
    """One org: one app, one user, and what they did.

    Every method takes `now` as the org's own clock shows it, aware and in UTC.
    """

    def __init__(self, name: str, settings: OrgSettings, now: datetime) -> None:
        """A new org, whose app is ready once its propagation is over."""
        self.name = name
        self._settings = self._in_force = settings
        self._pending: deque[_Change] = deque()
        self._ready = now + timedelta(seconds=settings.propagation_seconds)
        self._approved_at = self._used_at = self._ready
        self._generation = 1
        self._org_id = _identifier("00D", f"{name} 1")
        self._user_id = _identifier("005", name)
        self._sessions = 0
        self._session: Session | None = None
        self._recent: deque[float] = deque(maxlen=settings.login_rate_per_hour)
        self._logins: deque[Login] = deque(maxlen=LOGINS_KEPT)
        self._key: tuple[str, RSAPublicKey | None, datetime] | None = None
        self._answers = 0
        self._api_calls = (now.date(), 0)

    # What it is

    @property
    def settings(self) -> OrgSettings:
        """As they were set last, whether they are in force already or not."""
        return self._settings

    @property
    def logins(self) -> tuple[Login, ...]:
        """The login history, oldest first."""
        return tuple(self._logins)

    @property
    def last_login(self) -> Login | None:
        """The newest row of the login history."""
        return self._logins[-1] if self._logins else None

    @property
    def org_id(self) -> str:
        """18 characters; another one after a refresh."""
        return self._org_id

    @property
    def user_id(self) -> str:
        """18 characters; the same after a refresh, which copies the records of production."""
        return self._user_id

    @property
    def identity_url(self) -> str:
        """As in the answer's `id`: on the login server of the org's type."""
        return f"{GENERIC_AUDIENCES[self._settings.org_type]}/id/{self.org_id}/{self.user_id}"

    def in_force(self, now: datetime) -> OrgSettings:
        """The settings that the org answers by: those whose propagation is over."""
        while self._pending and self._pending[0].at <= now:
            change = self._pending.popleft()
            self._in_force = change.settings
            if change.approves:
                self._approve(change.at)
        return self._in_force

    # What is done to it

    def change(self, values: Mapping[str, object], now: datetime) -> None:
        """Give some settings other values; the others stay. SettingsError where they make no sense.

        Whoever sets `user_approved` or `permission_set_assigned` to true, or uploads a certificate, begins a
        new approval, also where nothing else changes by it: it is what an admin does to mend a decay.
        """
        self._become(self._settings.changed(values), values, now)

    def replace(self, values: Mapping[str, object], now: datetime) -> None:
        """Give all settings their defaults but for these; org, user and login history stay the same."""
        self._become(OrgSettings().changed(values), values, now)

    def _become(self, settings: OrgSettings, named: Mapping[str, object], now: datetime) -> None:
        before = self._settings
        self._settings = settings
        self.in_force(now)
        immediate: dict[str, Any] = {name: getattr(settings, name) for name in _IMMEDIATE}
        self._in_force = self._in_force.model_copy(update=immediate)
        self._pending = deque(
            replace(change, settings=change.settings.model_copy(update=immediate)) for change in self._pending
        )
        if settings.login_rate_per_hour != before.login_rate_per_hour:
            self._recent = deque(self._recent, maxlen=settings.login_rate_per_hour)
        if settings.username != before.username or settings.session_seconds != before.session_seconds:
            self._session = None
        if named.get("user_approved"):
            self._approve(now)
        approves = bool(named.get("permission_set_assigned") or named.get("certificate"))
        if approves or any(getattr(settings, name) != getattr(before, name) for name in PROPAGATED):
            due = now + timedelta(seconds=settings.propagation_seconds)
            if self._pending:
                due = max(due, self._pending[-1].at)
            self._pending.append(_Change(due, settings, approves))
            self.in_force(now)

    def refresh(self, refresh: Refresh, now: datetime) -> None:
        """Refresh the sandbox: it becomes another org, in which much is to be set up again.

        Its app is as new, and so is the approval of its user: approvals are not copied.
        """
        suffix = f".{refresh.username_suffix}" if refresh.username_suffix else ""
        username = self._settings.username
        changes: dict[str, object] = {
            "username": username if suffix and username.endswith(suffix) else username + suffix
        }
        lost: dict[str, tuple[str, object]] = {
            "consumer_key": ("consumer_key", f"{self._settings.consumer_key}_{self._generation + 1}"),
            "certificate": ("certificate", None),
            "app": ("app_present", False),
        }
        changes.update(lost[what] for what in refresh.loses)
        self._generation += 1
        self._org_id = _identifier("00D", f"{self.name} {self._generation}")
        self._session = None
        # Nothing answers "as before" meanwhile: the org that knew the old settings is gone.
        self._settings = self._in_force = self._settings.changed(changes)
        self._pending.clear()
        self._ready = now + timedelta(seconds=self._settings.propagation_seconds)
        self._approve(self._ready)

    def _approve(self, at: datetime) -> None:
        self._approved_at = self._used_at = at

    # What it knows of an attempt

    def is_ready(self, now: datetime) -> bool:
        """Whether the new app has reached every server."""
        return now >= self._ready

    def is_approved(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether a living approval stands, or none is needed.

        The policy judges when the approval is used, so a better policy revives one that had aged out.
        """
        if settings.permitted_users == "admin_approved" and not settings.decays_when_admin_approved:
            return True
        validity = timedelta(seconds=settings.refresh_token_validity_seconds or 0)
        living = {
            "infinite": True,
            "zero": False,
            "lifetime": now - self._approved_at < validity,
            "inactivity": now - self._used_at < validity,
        }
        return settings.user_approved and living[settings.refresh_token_policy]

    def permission_set_ends(self, settings: OrgSettings) -> datetime | None:
        """When the assignment of the permission set expires; None where it never does."""
        lifetime = settings.permission_set_lifetime_seconds
        return None if lifetime is None else self._approved_at + timedelta(seconds=lifetime)

    def has_permission_set(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether the user has the permission set that is selected for the app."""
        ends = self.permission_set_ends(settings)
        return settings.permission_set_assigned and (ends is None or now < ends)

    def rate_exceeded(self, now: datetime) -> bool:
        """Whether the hour's logins are used up (Salesforce: 3,600 for each user in a rolling hour)."""
        recent = self._recent
        full = len(recent) == recent.maxlen
        return full and (not recent or now.timestamp() - recent[0] < HOUR_SECONDS)

    def public_key(self, settings: OrgSettings) -> RSAPublicKey | None:
        """The key of the uploaded certificate; None where there is none, or where it is no RSA key."""
        return self._uploaded(settings)[1]

    def certificate_ended(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether the uploaded certificate has expired."""
        return self._uploaded(settings)[2] <= now

    def _uploaded(self, settings: OrgSettings) -> tuple[str, RSAPublicKey | None, datetime]:
        pem = settings.certificate or ""
        if self._key is None or self._key[0] != pem:
            self._key = _parsed(pem)
        return self._key

    # What it answers

    def unavailable(self, request: Request, now: datetime) -> Answer | None:
        """The answer of an org in maintenance, or of a server that fails; None where it works."""
        if self._settings.maintenance:
            # With which status the login server shows the page is not recorded: 200 is the harder case. The
            # REST API says 503.
            status = 200 if request.path == TOKEN_PATH else 503
            return self.reply(now, status, MAINTENANCE_PAGE, HTML_TYPE)
        if self._settings.fault == "error_500":
            return self.reply(now, 500, ERROR_PAGE, HTML_TYPE)
        return None

    def record(self, login: Login, *, granted: bool) -> None:
        """Write a row of the login history; a grant is a use of the approval."""
        self._logins.append(login)
        if granted:
            self._used_at = login.time

    def count_login(self, now: datetime) -> None:
        """Count a login of the user against the hour's allowance."""
        self._recent.append(now.timestamp())

    def access_token(self, base: str, now: datetime) -> str:
        """The token of the living session, or else of a new one; of JWT format where the app says so."""
        settings = self.in_force(now)
        ends = now + timedelta(seconds=settings.session_seconds)
        if settings.jwt_access_tokens:
            # Whether these are handed out twice is not known; here each is new. Nobody can check the
            # signature, as the org shows no key for it: clients read the claims alone.
            claims = {
                "scp": " ".join(settings.scopes),
                "aud": [base],
                "sub": f"uid:{self.user_id}",
                "iss": base,
                "exp": int(ends.timestamp()),
                "client_id": settings.consumer_key,
            }
            return jwt.encode(claims, self._secret(), algorithm="HS256", headers={"tnk": "core/simulated"})
        session = self._session
        if session is None or session.ends <= now:
            self._sessions += 1
            tail = _digest(f"{self.org_id} {settings.username} {self._sessions} {now.isoformat()}")
            session = self._session = Session(f"{self.org_id[:15]}!AQEA{tail}", now, ends)
        return session.token

    def _secret(self) -> str:
        return _digest(f"signs the tokens of {self.org_id}")

    def admits(self, authorization: str, now: datetime) -> bool:
        """Whether an `Authorization` header carries a living token of this org. Its use prolongs the session.

        The session of a user or an org that became inactive is over.
        """
        settings = self.in_force(now)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() not in {"bearer", "oauth"} or not (settings.user_active and settings.org_active):
            return False
        if token.startswith("eyJ"):
            return self._admits_jwt(token, now)
        session = self._session
        if session is None or token != session.token or session.ends <= now:
            return False
        session.ends = now + timedelta(seconds=settings.session_seconds)
        return True

    def _admits_jwt(self, token: str, now: datetime) -> bool:
        unchecked = {"verify_exp": False, "verify_aud": False}
        try:
            claims = jwt.decode(token, self._secret(), algorithms=["HS256"], options=unchecked)  # type: ignore[arg-type]  # PyJWT's own TypedDict
        except jwt.InvalidTokenError:
            return False
        return bool(claims["exp"] > now.timestamp())

    def api_usage(self, now: datetime) -> int:
        """REST calls of this day, with this one."""
        today = now.date()
        day, count = self._api_calls
        self._api_calls = (today, count + 1 if day == today else 1)
        return self._api_calls[1]

    def reply(
        self,
        now: datetime,
        status: int,
        body: bytes,
        content_type: str = JSON_TYPE,
        more: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        """An answer with the headers that Salesforce sends with everything, in its order (*observed*)."""
        self._answers += 1
        browser = _digest(f"{self.name} {self._answers}")[:22]
        expires = format_datetime(now + timedelta(days=365), usegmt=True)
        headers = (
            ("Date", format_datetime(now.astimezone(UTC), usegmt=True)),
            ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
            ("Cache-Control", "no-cache,must-revalidate,max-age=0,no-store,private"),
            ("Set-Cookie", f"BrowserId={browser}; path=/; expires={expires}; Max-Age=31536000"),
            ("Content-Type", content_type),
            *more,
        )
        return Answer(status, headers, body)


def _parsed(pem: str) -> tuple[str, RSAPublicKey | None, datetime]:
    if not pem:
        return pem, None, datetime.max.replace(tzinfo=UTC)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    key = certificate.public_key()
    return pem, key if isinstance(key, RSAPublicKey) else None, certificate.not_valid_after_utc


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _digest(seed: str) -> str:
    """86 letters and digits that look drawn by lot, the same for the same seed."""
    digest = b64encode(hashlib.sha512(seed.encode()).digest(), b"xX")
    return digest.decode().rstrip("=")


def _identifier(prefix: str, seed: str) -> str:
    """A record id of 18 characters, whose last three say which of the 15 before are upper case."""
    short = prefix + _digest(f"{prefix} {seed}")[:12]
    check = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    suffix = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, letter in enumerate(short[start : start + 5]) if letter.isupper())
        suffix += check[bits]
    return short + suffix
