"""A scenario for each documented cause: an org, a connection, and the steps that bring the cause about.

A scenario lists how the org differs from a healthy one, what is wrong with the connection, and how the keys
relate. To play one, create the keys (`make_keys`), an org with `Scenario.settings` and a connection with
`Scenario.options`, and apply each step at its time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_elliptic
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from monitor.core.causes import Cause

_DAY = timedelta(days=1)
_DAY_SECONDS = 86_400


class Keys(StrEnum):
    """How our private key, our certificate and the app's certificate relate."""

    RIGHT = "right"
    OTHER_UPLOADED = "other_uploaded"
    """Ours are a pair; the app has another certificate."""
    OTHER_KEY = "other_key"
    """The app has our certificate; our key is another."""
    UNREADABLE = "unreadable"
    ELLIPTIC = "elliptic"
    SHORT = "short"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"


@dataclass(frozen=True, slots=True)
class Step:
    """A change to the org, some time after its creation."""

    after: timedelta
    does: Literal["patch", "refresh"]
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Scenario:
    """How to bring a cause about; with `cause` None, a healthy org."""

    cause: Cause | None
    story: str
    """Shown in the demo."""
    org: Mapping[str, object] = field(default_factory=dict)
    """The org's settings that differ from the defaults."""
    connection: Mapping[str, object] = field(default_factory=dict)
    """Options of the connection that replace the correct ones."""
    keys: Keys = Keys.RIGHT
    steps: tuple[Step, ...] = ()
    stands_after: timedelta = timedelta(hours=1)
    """How long after the org's creation the cause is certain; beyond the settle time at least."""
    granted_first: bool = False
    """Whether the org must first have granted a login."""
    called: str = ""

    @property
    def name(self) -> str:
        """The name of its org and connection."""
        return self.called or str(self.cause).replace("_", "-")

    def settings(self, files: "KeyFiles") -> dict[str, object]:
        """The org's initial settings."""
        right = {
            "consumer_key": f"3MVG9_{self.name}",
            "username": f"integration@{self.name}.example.com",
            "certificate": files.uploaded,
        }
        return {**right, **self.org}

    def options(self, server: str) -> dict[str, object]:
        """The connection's options as in the configuration, except name and keys.

        `server` is the simulator's address, without a final slash.
        """
        right = {
            "login_url": f"{server}/{self.name}",
            "audience": "my_domain",
            "consumer_key": f"3MVG9_{self.name}",
            "username": f"integration@{self.name}.example.com",
        }
        return {**right, **self.connection}


_SHOWN: Mapping[str, object] = {"permissions": ["ViewSetup", "ExternalClientAppViewer"]}
"""What the user needs for an audit to see the app's policies."""

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        Cause.USER_NOT_ADMIN_APPROVED,
        "The user's permission set was never selected for the app.",
        org={"permission_set_assigned": False},
    ),
    Scenario(
        Cause.CONSUMER_NOT_APPROVED,
        "Users authorise themselves here, and this user never did.",
        org={"permitted_users": "self_authorized", "user_approved": False},
    ),
    Scenario(
        Cause.APPROVAL_DECAYED,
        "It works until the approval expires under the refresh token policy, after two weeks.",
        org={"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 14 * _DAY_SECONDS},
        stands_after=15 * _DAY,
        granted_first=True,
    ),
    Scenario(
        Cause.APPROVAL_EXPIRING,
        "The owner knows that approvals last 90 days here; this one is 80 days old.",
        org={"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 90 * _DAY_SECONDS},
        connection={"approval": {"policy": "lifetime", "days": 90}},
        stands_after=80 * _DAY,
        granted_first=True,
    ),
    Scenario(
        Cause.AUDIENCE_INVALID,
        "A production org gets the sandboxes' audience.",
        connection={"audience": "test"},
    ),
    Scenario(
        Cause.ASSERTION_INVALID,
        "Someone uploaded a different certificate to the app.",
        keys=Keys.OTHER_UPLOADED,
    ),
    Scenario(
        Cause.KEY_CERTIFICATE_MISMATCH,
        "The certificate is the app's, but our key belongs to another pair.",
        keys=Keys.OTHER_KEY,
    ),
    Scenario(
        Cause.NOT_AUTHORIZED,
        "Our address is outside the ranges; the answer is the setup guide's.",
        org={"ip_allowed": False, "ip_refusal": "not_authorized"},
    ),
    Scenario(
        Cause.IP_RESTRICTED,
        "Our address is outside the profile's Login IP Ranges.",
        org={"ip_allowed": False},
    ),
    Scenario(
        Cause.API_DISABLED,
        "The token is granted, but the user has no API access.",
        org={"api_enabled": False},
    ),
    Scenario(
        Cause.PROPAGATION_PENDING,
        "The app was created a minute ago and has not spread to every server.",
        org={"propagation_seconds": 480},
        stands_after=timedelta(minutes=1),
    ),
    Scenario(
        Cause.USERNAME_CHANGED,
        "The sandbox was refreshed, and usernames have another suffix.",
        org={"org_type": "sandbox"},
        steps=(Step(20 * _DAY, "refresh", {"username_suffix": "dev", "loses": []}),),
        stands_after=21 * _DAY,
        granted_first=True,
    ),
    Scenario(Cause.KEY_UNREADABLE, "The key file was truncated when it was copied.", keys=Keys.UNREADABLE),
    Scenario(Cause.KEY_NOT_RSA, "The key is an elliptic-curve key.", keys=Keys.ELLIPTIC),
    Scenario(Cause.KEY_TOO_SHORT, "The key has 1024 bits.", keys=Keys.SHORT),
    Scenario(Cause.CERTIFICATE_EXPIRING, "The certificate will expire soon.", keys=Keys.EXPIRING),
    Scenario(
        Cause.CERTIFICATE_EXPIRED, "The certificate has expired; the org still accepts it.", keys=Keys.EXPIRED
    ),
    Scenario(
        Cause.CERTIFICATE_NOT_YET_VALID, "The certificate becomes valid next month.", keys=Keys.NOT_YET_VALID
    ),
    Scenario(
        Cause.JWT_ACCESS_TOKEN,
        "The app issues access tokens in JWT format.",
        org={"jwt_access_tokens": True},
    ),
    Scenario(
        Cause.SCOPE_MISSING,
        "The app lacks the scope api.",
        org={"scopes": ["id", "refresh_token"]},
    ),
    Scenario(Cause.FLOW_DISABLED, "Enable JWT Bearer Flow is unchecked.", org={"flow_enabled": False}),
    Scenario(
        Cause.CONSUMER_KEY_UNKNOWN,
        "The consumer key was copied incorrectly.",
        connection={"consumer_key": "3MVG9_copied_wrongly"},
    ),
    Scenario(
        Cause.SUBDOMAIN_UNKNOWN,
        "The host name does not exist.",
        # Names under `.invalid` never resolve, and can't be registered (RFC 6761).
        connection={"login_url": "https://no-such-org.my.salesforce.com.invalid"},
    ),
    Scenario(
        Cause.PERMISSION_SET_EXPIRING,
        "The permission set was assigned for 90 days only.",
        org={"permission_set_lifetime_seconds": 90 * _DAY_SECONDS, "permissions": ["ViewSetup"]},
    ),
    Scenario(
        Cause.OBJECT_ACCESS_MISSING,
        "The integration writes accounts, and its user may only read them.",
        org={"objects": {"Account": ["read"]}},
        connection={"objects": {"Account": ["read", "write"]}},
    ),
    Scenario(
        Cause.REFRESH_POLICY_WRONG,
        "The app's refresh token policy ends an approval after a year. Logins work until then.",
        org={
            "refresh_token_policy": "lifetime",
            "refresh_token_validity_seconds": 365 * _DAY_SECONDS,
            **_SHOWN,
        },
    ),
    Scenario(
        Cause.SESSION_LEVEL_REQUIRED,
        "The app requires a High Assurance session, which this flow never has.",
        org={"session_level": "HIGH_ASSURANCE", **_SHOWN},
    ),
    Scenario(
        Cause.ORG_EXPIRING,
        "The org is a trial that ends in a few weeks.",
        org={"trial_seconds": 100 * _DAY_SECONDS},
        stands_after=75 * _DAY,
        granted_first=True,
    ),
    Scenario(
        Cause.PRODUCTION_REFUSED,
        "The monitor's address is allowed; the integration's is not.",
        org={"login_ip_ranges": ["127.0.0.1-127.0.0.1"], "production": {}},
        stands_after=_DAY,
    ),
    Scenario(
        Cause.API_ALLOCATION_SHORT,
        "Other clients use up the org's API calls every day.",
        org={"api_calls_a_day": 1_000, "api_calls_by_others": 950},
    ),
    Scenario(
        Cause.APP_NOT_FOUND,
        "An External Client App gets the generic audience.",
        org={"accepted_audiences": "my_domain"},
        connection={"audience": "login"},
    ),
    Scenario(
        Cause.CLIENT_INVALID,
        "A deployment removed the certificate from the app.",
        org={"certificate": None},
    ),
    Scenario(Cause.APP_BLOCKED, "An admin blocked the app.", org={"app_blocked": True}),
    Scenario(Cause.USER_INACTIVE, "The integration user was deactivated.", org={"user_active": False}),
    Scenario(Cause.ORG_INACTIVE, "The org is locked.", org={"org_active": False}),
    Scenario(
        Cause.IDENTITY_CHANGED,
        "The sandbox was refreshed, and another org answers.",
        org={"org_type": "sandbox"},
        steps=(Step(20 * _DAY, "refresh", {"username_suffix": "", "loses": []}),),
        stands_after=21 * _DAY,
        granted_first=True,
    ),
    Scenario(
        Cause.LOGIN_RATE_EXCEEDED,
        "The integration logs in in a loop and uses up the hourly limit.",
        org={"login_rate_per_hour": 0},
    ),
    Scenario(
        Cause.CLOCK_SKEWED,
        "The clocks differ by an hour.",
        org={"clock_offset_seconds": 3600},
    ),
    Scenario(
        Cause.SALESFORCE_UNAVAILABLE,
        "The org is in maintenance and answers with a web page.",
        org={"maintenance": True},
    ),
    Scenario(
        Cause.NETWORK_UNREACHABLE,
        "Nothing listens at the address.",
        connection={"login_url": "http://127.0.0.1:9"},
    ),
)

NOT_PLAYED: Mapping[Cause, str] = {
    Cause.KEY_FILE_EXPOSED: "The mode of a file on the monitor's machine; no org sees it.",
    Cause.FIRST_CALL_UNANSWERED: "The simulator serves login and API at one address: both answer or neither.",
    Cause.SANDBOX_REFRESHING: "The hosts need the names of a production org and its sandbox.",
    Cause.REQUEST_MALFORMED: "The exchange never sends a malformed request.",
    Cause.TLS_UNTRUSTED: "The simulator speaks plain HTTP unless given a certificate.",
    Cause.MONITOR_FAULT: "The monitor cannot be made to fail on request.",
    Cause.UNRECOGNISED: "The simulator only gives answers that have been seen.",
}
"""Causes that no simulated org can produce, and why."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The contents of the connection's files, and the app's certificate, as PEM."""

    private_key: bytes = field(repr=False)
    certificate: bytes
    uploaded: str


@dataclass(frozen=True, slots=True)
class _Span:
    """A certificate's validity, relative to its creation."""

    begins: timedelta = -_DAY
    ends: timedelta = 3650 * _DAY


_SPANS = {
    Keys.EXPIRING: _Span(-360 * _DAY, 5 * _DAY),
    Keys.EXPIRED: _Span(-366 * _DAY, -_DAY),
    Keys.NOT_YET_VALID: _Span(30 * _DAY, 395 * _DAY),
}


def make_keys(kind: Keys, now: datetime) -> KeyFiles:
    """The files of a connection and its app. Keys are cached by kind, as creating one is slow."""
    key = _key(kind if kind in {Keys.SHORT, Keys.ELLIPTIC} else Keys.RIGHT)
    certificate = _certificate(key, _SPANS.get(kind, _Span()), now)
    uploaded = certificate
    if kind is Keys.OTHER_UPLOADED:
        uploaded = _certificate(_key(Keys.OTHER_KEY), _Span(), now)
    if kind is Keys.OTHER_KEY:
        key = _key(Keys.OTHER_KEY)
    private_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if kind is Keys.UNREADABLE:
        private_key = private_key[: len(private_key) // 2]
    return KeyFiles(private_key, certificate, uploaded.decode())


_Key = RSAPrivateKey | EllipticCurvePrivateKey


@lru_cache
def _key(kind: Keys) -> _Key:
    if kind is Keys.ELLIPTIC:
        return generate_elliptic(SECP256R1())
    # The scenario SHORT needs 1024 bits.
    return generate_private_key(65537, 1024 if kind is Keys.SHORT else 2048)


def _certificate(key: _Key, span: _Span, now: datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "salesforce-jwt-integration")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + span.begins,
        not_valid_after=now + span.ends,
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
