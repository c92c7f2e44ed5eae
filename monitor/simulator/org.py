"""The state of one org: settings in force, approvals, sessions, logins, changes. Pure; times are arguments.

`login` and `rest` produce an org's answers, `records` what queries find.
"""

import hashlib
import json
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from ipaddress import ip_address

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from monitor.simulator.settings import App, OrgSettings, Refresh

GENERIC_AUDIENCES = {
    "production": "https://login.salesforce.com",
    "developer": "https://login.salesforce.com",
    "sandbox": "https://test.salesforce.com",
}
"""The login server of each type of org (help, JWT bearer flow)."""

LOGINS_KEPT = 500
"""Rows of login history kept per org: one process runs thousands of orgs."""

CHANGES_KEPT = 200
"""Rows of setup audit trail kept per org."""

OUR_ADDRESS = "127.0.0.1"
"""The source address of all logins that reach the simulator."""

HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as the org sees it."""

    method: str
    path: str
    """Relative to the org: `/services/oauth2/token`."""
    base: str
    """The org's address as the client knows it (My Domain), without a final slash."""
    query: str = ""
    content_type: str = ""
    authorization: str = field(default="", repr=False)
    query_options: str = ""
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The org's answer. The server adds `Content-Length`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """One row of the login history."""

    time: datetime
    username: str
    status: str
    """`Success`, or another text from Salesforce's LoginHistory."""
    source: str = OUR_ADDRESS
    application: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the setup audit trail: a changed setting."""

    time: datetime
    setting: str
    before: object
    after: object


_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _User:
    """A user's current session, and the times of its logins within the last hour."""

    id: str
    recent: deque[float] = field(default_factory=deque)
    token: str = field(default="", repr=False)
    ends: datetime = _NEVER
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A change of the app that has not propagated yet."""

    at: datetime
    before: Mapping[str, object]
    """The app's settings in force until then."""
    approves: bool


class Org:
    """One org: app, user, perhaps an observer, and their history. Times are by its own clock, in UTC."""

    def __init__(self, name: str, settings: OrgSettings, now: datetime) -> None:
        """A new org. Its app is ready after the propagation time."""
        self.name = name
        self.settings = settings
        """As last set, whether in force yet or not."""
        self._pending: deque[_Pending] = deque()
        self.made = now
        self._ready = now + timedelta(seconds=settings.propagation_seconds)
        self.approved_at = self._ready
        self.used_at = self._ready
        """When a granted login last used the approval."""
        self._generation = 1
        self.org_id = identifier("00D", f"{name} 1")
        self._users = tuple(_User(identifier("005", name + who)) for who in ("", " observer"))
        self.logins: deque[Login] = deque(maxlen=LOGINS_KEPT)
        self.changes: deque[Change] = deque(maxlen=CHANGES_KEPT)
        self._production_at = now
        self._answers = 0
        self._api_calls = (now.date(), 0)

    # Facts

    def _user(self, settings: OrgSettings) -> _User:
        observer = self.settings.observer
        return self._users[bool(observer and settings.username == observer.username)]

    def user_id(self, settings: OrgSettings | None = None) -> str:
        """18 characters, for the user with these settings; a refresh keeps it."""
        return self._user(settings or self.settings).id

    def identity_url(self, settings: OrgSettings) -> str:
        """The answer's `id`: a URL on the login server of the org's type."""
        return f"{GENERIC_AUDIENCES[self.settings.org_type]}/id/{self.org_id}/{self.user_id(settings)}"

    def in_force(self, now: datetime) -> OrgSettings:
        """The settings in force: those that have propagated."""
        while self._pending and self._pending[0].at <= now:
            change = self._pending.popleft()
            if change.approves:
                self._approve(change.at)
        return self.settings.model_copy(update=self._pending[0].before) if self._pending else self.settings

    # Changes

    def change(self, values: Mapping[str, object], now: datetime) -> None:
        """Change some settings. Raises SettingsError for invalid values.

        Setting `user_approved`, `permission_set_assigned` or `permission_set_selected` to true, or uploading
        a certificate, begins a new approval even if the value is the same: admins repair a decay that way.
        """
        self._become(self.settings.changed(values), values, now)

    def replace(self, values: Mapping[str, object], now: datetime) -> None:
        """Reset all other settings to their defaults; org, user and login history stay."""
        self._become(OrgSettings().changed(values), values, now)

    def _become(self, settings: OrgSettings, named: Mapping[str, object], now: datetime) -> None:
        self.let_production_log_in(now)
        self.in_force(now)
        before, self.settings = self.settings, settings
        changed = [
            name for name in OrgSettings.model_fields if getattr(settings, name) != getattr(before, name)
        ]
        self.changes += (
            Change(now, name, getattr(before, name), getattr(settings, name)) for name in changed
        )
        if "username" in changed or "session_seconds" in changed:
            self._end_sessions()
        if named.get("user_approved"):
            self._approve(now)
        approves = any(
            named.get(name) for name in ("permission_set_assigned", "permission_set_selected", "certificate")
        )
        if approves or not App.model_fields.keys().isdisjoint(changed):
            due = now + timedelta(seconds=settings.propagation_seconds)
            if self._pending:
                due = max(due, self._pending[-1].at)
            app = {name: getattr(before, name) for name in App.model_fields}
            self._pending.append(_Pending(due, app, approves))
            self.in_force(now)

    def refresh(self, refresh: Refresh, now: datetime) -> None:
        """Refresh the sandbox: it becomes another org, some setup is lost, and approvals are not copied."""
        suffix = f".{refresh.username_suffix}" if refresh.username_suffix else ""
        changes: dict[str, object] = {"username": self.settings.username.removesuffix(suffix) + suffix}
        lost: dict[str, tuple[str, object]] = {
            "consumer_key": ("consumer_key", f"{self.settings.consumer_key}_{self._generation + 1}"),
            "certificate": ("certificate", None),
            "app": ("app_present", False),
        }
        changes.update(lost[what] for what in refresh.loses)
        self._generation += 1
        self.org_id = identifier("00D", f"{self.name} {self._generation}")
        self._end_sessions()
        # No propagation from the old settings: the org that had them is gone.
        self.settings = self.settings.changed(changes)
        self._pending.clear()
        self._ready = now + timedelta(seconds=self.settings.propagation_seconds)
        self._approve(self._ready)

    def _approve(self, at: datetime) -> None:
        self.approved_at = self.used_at = at

    def _end_sessions(self) -> None:
        for user in self._users:
            user.token = ""

    def let_production_log_in(self, now: datetime) -> None:
        """Add production's logins up to now. Granted ones use the approval."""
        production = self.settings.production
        if production is None:
            self._production_at = now
            return
        every = timedelta(seconds=production.every_seconds)
        # Skip rows that the history would not keep.
        self._production_at = max(self._production_at, now - LOGINS_KEPT * every)
        while (at := self._production_at + every) <= now:
            self._production_at = at
            allowed = self.is_from_allowed_address(self.settings, production.address)
            status = production.status or ("Success" if allowed else "Restricted IP")
            label = self.settings.app_label
            self.record(Login(at, self.settings.username, status, production.address, label))

    # Checks of a login

    def is_ready(self, now: datetime) -> bool:
        """Whether the new app has propagated."""
        return now >= self._ready

    def is_approved(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether there is an unexpired approval, by the policy in force at use, or none is needed."""
        if settings.permitted_users == "admin_approved" and not settings.decays_when_admin_approved:
            return True
        validity = timedelta(seconds=settings.refresh_token_validity_seconds or 0)
        living = {
            "infinite": True,
            "zero": False,
            "lifetime": now - self.approved_at < validity,
            "inactivity": now - self.used_at < validity,
        }
        return settings.user_approved and living[settings.refresh_token_policy]

    def permission_set_ends(self, settings: OrgSettings) -> datetime | None:
        """When the permission set assignment expires; None: never."""
        lifetime = settings.permission_set_lifetime_seconds
        return None if lifetime is None else self.approved_at + timedelta(seconds=lifetime)

    def has_permission_set(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether the user has the setup guide's permission set."""
        ends = self.permission_set_ends(settings)
        return settings.permission_set_assigned and (ends is None or now < ends)

    def may_use_api(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether the profile or the permission set gives the user API Enabled."""
        by_profile = settings.api_enabled_by == "profile"
        return settings.api_enabled and (by_profile or self.has_permission_set(settings, now))

    def is_active(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether the org accepts logins at all: its trial has not ended."""
        ends = self.trial_ends(settings)
        return settings.org_active and (ends is None or now < ends)

    def trial_ends(self, settings: OrgSettings) -> datetime | None:
        """When the trial ends; None: not a trial."""
        trial = settings.trial_seconds
        return None if trial is None else self.made + timedelta(seconds=trial)

    def is_from_allowed_address(self, settings: OrgSettings, source: str = OUR_ADDRESS) -> bool:
        """Whether the profile's IP ranges, if any, include an address."""
        if source == OUR_ADDRESS and not settings.ip_allowed:
            return False
        ends = [text.partition("-")[::2] for text in settings.login_ip_ranges]
        return not ends or any(
            int(ip_address(first)) <= int(ip_address(source)) <= int(ip_address(last)) for first, last in ends
        )

    def rate_exceeded(self, settings: OrgSettings, now: datetime) -> bool:
        """Whether the user's login rate is used up (Salesforce: 3,600 per user and rolling hour)."""
        recent = self._user(settings).recent
        while recent and now.timestamp() - recent[0] >= HOUR_SECONDS:
            recent.popleft()
        return len(recent) >= self.settings.login_rate_per_hour

    # Answers

    def record(self, login: Login) -> None:
        """Add a row to the login history. A grant of the first user uses its approval."""
        self.logins.append(login)
        if login.status == "Success" and login.username == self.settings.username:
            self.used_at = login.time

    def count_login(self, settings: OrgSettings, now: datetime) -> None:
        """Count a login towards the user's hourly rate."""
        self._user(settings).recent.append(now.timestamp())

    def access_token(self, settings: OrgSettings, base: str, now: datetime) -> str:
        """The current session's token, or a new session's. A JWT if the app's settings say so."""
        ends = now + timedelta(seconds=settings.session_seconds)
        user = self._user(settings)
        if settings.jwt_access_tokens:
            # Whether Salesforce reuses these is unknown; here each is new. Clients can't verify the
            # signature, as the org publishes no key: they only read the claims.
            claims = {
                "scp": " ".join(settings.scopes),
                "aud": [base],
                "sub": f"uid:{user.id}",
                "iss": base,
                "exp": int(ends.timestamp()),
                "client_id": settings.consumer_key,
            }
            return jwt.encode(claims, self._secret(), algorithm="HS256", headers={"tnk": "core/simulated"})
        if not user.token or user.ends <= now:
            user.sessions += 1
            tail = digest(f"{self.org_id} {settings.username} {user.sessions} {now.isoformat()}")
            user.token, user.ends = f"{self.org_id[:15]}!AQEA{tail}", ends
        return user.token

    def _secret(self) -> str:
        return digest(f"signs the tokens of {self.org_id}")

    def reader(self, authorization: str, now: datetime) -> OrgSettings | None:
        """The settings of the user whose valid token is in an `Authorization` header; extends the session."""
        scheme, _, token = authorization.partition(" ")
        for settings in self.in_force(now).of_each_app:
            if scheme.lower() in {"bearer", "oauth"} and self._admits(settings, token, now):
                return settings if settings.user_active and self.is_active(settings, now) else None
        return None

    def _admits(self, settings: OrgSettings, token: str, now: datetime) -> bool:
        user = self._user(settings)
        if token.startswith("eyJ"):
            unchecked = {"verify_exp": False, "verify_aud": False}
            try:
                claims = jwt.decode(token, self._secret(), algorithms=["HS256"], options=unchecked)  # type: ignore[arg-type]  # PyJWT's own TypedDict
            except jwt.InvalidTokenError:
                return False
            return bool(claims["sub"] == f"uid:{user.id}" and claims["exp"] > now.timestamp())
        if not token or token != user.token or user.ends <= now:
            return False
        user.ends = now + timedelta(seconds=settings.session_seconds)
        return True

    def api_usage(self, now: datetime, *, calls: int = 1) -> int:
        """Count `calls` REST calls and give the day's total."""
        today = now.date()
        day, count = self._api_calls
        self._api_calls = (today, (count if day == today else 0) + calls)
        return self._api_calls[1] + self.settings.api_calls_by_others

    def reply(
        self, now: datetime, status: int, said: object, more: tuple[tuple[str, str], ...] = ()
    ) -> Answer:
        """An answer with Salesforce's headers, in order (*observed*): bytes as a web page, else as JSON."""
        kind, body = "text/html", said
        if not isinstance(body, bytes):
            kind, body = "application/json", json.dumps(said, separators=(",", ":")).encode()
        self._answers += 1
        browser = digest(f"{self.name} {self._answers}")[:22]
        expires = format_datetime(now + timedelta(days=365), usegmt=True)
        headers = (
            ("Date", format_datetime(now.astimezone(UTC), usegmt=True)),
            ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
            ("Cache-Control", "no-cache,must-revalidate,max-age=0,no-store,private"),
            ("Set-Cookie", f"BrowserId={browser}; path=/; expires={expires}; Max-Age=31536000"),
            ("Content-Type", f"{kind};charset=UTF-8"),
            *more,
        )
        return Answer(status, headers, body)


@lru_cache(maxsize=16_384)
def uploaded(pem: str | None) -> tuple[RSAPublicKey | None, datetime]:
    """An uploaded certificate's RSA key, if it has one, and when it expires."""
    if not pem:
        return None, datetime.max.replace(tzinfo=UTC)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    key = certificate.public_key()
    return key if isinstance(key, RSAPublicKey) else None, certificate.not_valid_after_utc


def digest(seed: str) -> str:
    """86 random-looking letters and digits, the same for the same seed."""
    digest = b64encode(hashlib.sha512(seed.encode()).digest(), b"xX")
    return digest.decode().rstrip("=")


def identifier(prefix: str, seed: str) -> str:
    """A record id of 18 characters. The last three encode which of the first 15 are upper case."""
    short = prefix + digest(f"{prefix} {seed}")[:12]
    check = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    suffix = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, letter in enumerate(short[start : start + 5]) if letter.isupper())
        suffix += check[bits]
    return short + suffix
