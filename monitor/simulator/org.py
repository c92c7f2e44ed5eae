"""What one org is and remembers: settings, what of them is in force, approvals, sessions, logins.

Pure: no clock, socket or random number; the time is an argument, and is the org's own. Imports nothing of the
monitor's. `login` and `rest` say what an org answers.

Sources: Salesforce's help on the JWT bearer flow, its object and metadata references, the setup guide, and
what was *observed* in public threads. Where sources disagree, a setting decides.
"""

import hashlib
import json
import math
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from email.utils import format_datetime
from typing import Any, Final, Literal, TypeGuard

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

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


@dataclass(frozen=True, slots=True)
class OrgSettings:
    """What one org is like. A brand-new one grants every proper request, once it has a certificate."""

    consumer_key: str = "3MVG9_simulated"
    username: str = "integration@example.com"
    certificate: str | None = None
    """The certificate uploaded to the app, as PEM; an app holds one at most."""
    org_type: Literal["production", "sandbox", "developer"] = "production"
    accepted_audiences: Literal["any", "my_domain", "generic"] = "any"
    """`my_domain`: an External Client App, for which a generic audience is `app_not_found` (*observed*).
    `generic`: Government Cloud and some classic apps, which want the login server (*observed*)."""
    permitted_users: Literal["admin_approved", "self_authorized"] = "admin_approved"
    permission_set_assigned: bool = True
    """Whether the user has a permission set that is selected in the app's policies; for `admin_approved`."""
    permission_set_lifetime_seconds: float | None = None
    """When the assignment of that permission set expires, counted from the last approval; None: never (setup
    guide, step 5)."""
    user_approved: bool = True
    """Whether an approval of this user for this app is on record."""
    refresh_token_policy: Literal["infinite", "zero", "lifetime", "inactivity"] = "infinite"  # noqa: S105 - a policy
    refresh_token_validity_seconds: float | None = None
    """For `lifetime` since the approval, for `inactivity` since the last granted login."""
    decays_when_admin_approved: bool = True
    """Whether admin-approved users need a living approval too: yes by the setup guide (step 4), no by
    Salesforce's own CLI guide. *Contested*."""
    propagation_seconds: float = 0
    """How long a new app, or a change of it, takes to have an effect: 2 to 10 minutes by the setup guide."""
    ip_allowed: bool = True
    ip_refusal: Literal["ip_restricted", "not_authorized"] = "ip_restricted"
    """What a login from a forbidden address is told: Salesforce's error list has the first, the setup guide's
    troubleshooting the second. *Contested*."""
    api_enabled: bool = True
    view_setup: bool = False
    """Whether the user has View Setup and Configuration, which a profile of minimum access lacks."""
    user_active: bool = True
    org_active: bool = True
    app_present: bool = True
    app_blocked: bool = False
    flow_enabled: bool = True
    jwt_access_tokens: bool = False
    scopes: tuple[str, ...] = ("api", "refresh_token")
    expired_certificate_refused: bool = False
    """*Contested*: by most reports nothing happens when an app's certificate expires."""
    session_seconds: float = 7200
    login_rate_per_hour: int = 3600
    clock_offset_seconds: float = 0
    """How far this org's clock is ahead of the simulator's."""
    maintenance: bool = False
    fault: (
        Literal["slow", "reset", "truncate", "huge", "garbage", "hang", "error_500", "retry_your_request"]
        | None
    ) = None

    def changed(self, values: Mapping[str, object]) -> "OrgSettings":
        """These settings with other values for some, as they come out of JSON.

        SettingsError names all that is wrong with them.
        """
        problems = []
        for name, value in values.items():
            check = _CHECKS.get(name)
            if check is None:
                near = get_close_matches(name, _CHECKS, n=1)
                hint = f", did you mean {near[0]}?" if near else ""
                problems.append(f"{name}: there is no such setting{hint}")
            elif problem := check(value):
                problems.append(f"{name}: {problem}")
        if problems:
            raise SettingsError(tuple(problems))
        known: dict[str, Any] = dict(values)
        if isinstance(known.get("scopes"), list):
            known["scopes"] = tuple(known["scopes"])
        result = replace(self, **known)
        timed = result.refresh_token_policy in {"lifetime", "inactivity"}
        if timed and result.refresh_token_validity_seconds is None:
            problem = f"must be given with refresh_token_policy {result.refresh_token_policy!r}"
            raise SettingsError((f"refresh_token_validity_seconds: {problem}",))
        return result

    def as_json(self) -> dict[str, object]:
        """All settings, such that `changed` reads them back."""
        return asdict(self) | {"scopes": list(self.scopes)}


Check = Callable[[object], str | None]
"""Says what is wrong with a value, None where nothing is."""


def _one_of(*words: str | None) -> Check:
    allowed = ", ".join(json.dumps(word) for word in words)
    return lambda value: None if value in words else f"must be one of {allowed}"


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _text(value: object) -> str | None:
    return None if isinstance(value, str) and value else "must be a text that is not empty"


def _texts(value: object) -> str | None:
    good = isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
    return None if good else "must be a list of texts"


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(value: object) -> str | None:
    good = _number(value) and 0 <= value <= LONGEST_SECONDS
    return None if good else f"must be a number of seconds from 0 to {LONGEST_SECONDS}"


def _offset(value: object) -> str | None:
    good = _number(value) and abs(value) <= LONGEST_SECONDS
    return None if good else "must be a number of seconds, at most a hundred years either way"


def _count(value: object) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000
    return None if good else "must be a whole number from 0 to 1000000"


def _certificate(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return "must be a certificate as PEM, or null"
    if len(value.encode()) > CERTIFICATE_LIMIT_BYTES:
        return f"must have {CERTIFICATE_LIMIT_BYTES} bytes at most"
    try:
        x509.load_pem_x509_certificate(value.encode())
    except ValueError:
        return "must be a certificate as PEM, or null"
    return None


_CHECKS: Mapping[str, Check] = {
    "consumer_key": _text,
    "username": _text,
    "certificate": _certificate,
    "org_type": _one_of("production", "sandbox", "developer"),
    "accepted_audiences": _one_of("any", "my_domain", "generic"),
    "permitted_users": _one_of("admin_approved", "self_authorized"),
    "permission_set_assigned": _flag,
    "permission_set_lifetime_seconds": lambda value: None if value is None else _seconds(value),
    "user_approved": _flag,
    "refresh_token_policy": _one_of("infinite", "zero", "lifetime", "inactivity"),
    "refresh_token_validity_seconds": lambda value: None if value is None else _seconds(value),
    "decays_when_admin_approved": _flag,
    "propagation_seconds": _seconds,
    "ip_allowed": _flag,
    "ip_refusal": _one_of("ip_restricted", "not_authorized"),
    "api_enabled": _flag,
    "view_setup": _flag,
    "user_active": _flag,
    "org_active": _flag,
    "app_present": _flag,
    "app_blocked": _flag,
    "flow_enabled": _flag,
    "jwt_access_tokens": _flag,
    "scopes": _texts,
    "expired_certificate_refused": _flag,
    "session_seconds": _seconds,
    "login_rate_per_hour": _count,
    "clock_offset_seconds": _offset,
    "maintenance": _flag,
    "fault": _one_of(
        None, "slow", "reset", "truncate", "huge", "garbage", "hang", "error_500", "retry_your_request"
    ),
}

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

_IMMEDIATE = tuple(f.name for f in fields(OrgSettings) if f.name not in PROPAGATED)

REFRESH_LOSSES = ("consumer_key", "certificate", "app")


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a sandbox refresh does. The org's id always changes, and its sessions end."""

    username_suffix: str = "refreshed"
    """Appended to the username with a dot: it "may be re-suffixed with the sandbox name" (setup guide). Where
    empty, the username stays."""
    loses: tuple[str, ...] = ("consumer_key", "certificate")
    """Which of REFRESH_LOSSES are gone: keys, settings and certificates of apps are, by reports from the
    field; another vendor says that they carry over. *Contested*."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Refresh":
        """From JSON; SettingsError where it makes no sense."""
        suffix = values.get("username_suffix", cls().username_suffix)
        loses = values.get("loses", cls().loses)
        problems = [
            f"{name}: there is no such option" for name in values.keys() - {"username_suffix", "loses"}
        ]
        if not isinstance(suffix, str):
            problems.append("username_suffix: must be a text")
        if not isinstance(loses, list | tuple) or not set(map(str, loses)) <= set(REFRESH_LOSSES):
            problems.append(f"loses: must be a list of some of {', '.join(REFRESH_LOSSES)}")
        if problems:
            raise SettingsError(tuple(sorted(problems)))
        return cls(str(suffix), tuple(loses))  # type: ignore[arg-type]  # seen above


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
        self._in_force = replace(self._in_force, **immediate)
        self._pending = deque(
            replace(change, settings=replace(change.settings, **immediate)) for change in self._pending
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
