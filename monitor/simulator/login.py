"""An org's token endpoint: its answer to an assertion. Pure; imports only the org.

Salesforce documents the answers but not the order of the checks: the order of `_CHECKS` is ours. Texts come
from Salesforce's help, developer guide and public threads. For a blocked app, an unknown user and a disabled
flow, no text is recorded for this grant type: these are borrowed from similar cases.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from monitor.simulator.org import GENERIC_AUDIENCES, Answer, Login, Org, Request, uploaded
from monitor.simulator.settings import OrgSettings

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"

REFRESH_SCOPES = frozenset({"refresh_token", "offline_access"})

MOST_FIELDS = 50
"""Most fields in a form; the flow uses two."""

LONGEST_NUMBER = 300
"""Most digits of an `exp` given as text: Python reads no more than some thousands."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An OAuth error, and its status in the login history; None if it gets no row."""

    error: str
    description: str
    login_status: str | None = None


_NOT_APPROVED_FOR_ACCESS = "Failed: Not approved for access"

RETRY = Refusal("unknown_error", "retry your request")
POST_ONLY = Refusal("invalid_request", "must use HTTP POST")
SCOPE_NOT_SUPPORTED = Refusal("invalid_request", "scope parameter not supported")
GRANT_TYPE_NOT_SUPPORTED = Refusal("unsupported_grant_type", "grant type not supported")
ORG_INACTIVE = Refusal("invalid_grant", "inactive organization", "Organization inactive")
CLIENT_ID_INVALID = Refusal("invalid_client_id", "client identifier invalid")
APP_NOT_FOUND = Refusal(
    "app_not_found", "External client app is not installed in this org", "Failed: Consumer Deleted"
)
APP_BLOCKED = Refusal(
    "OAUTH_APP_BLOCKED", "this app is blocked by admin", "Failed: OAuth API access disabled"
)
CLIENT_INVALID = Refusal("invalid_client", "invalid client credentials", "Failed: Invalid Signature")
ASSERTION_INVALID = Refusal("invalid_grant", "invalid assertion", "Failed: Invalid Signature")
ASSERTION_EXPIRED = Refusal("invalid_grant", "expired authorization code", "Failed: Assertion Expired")
AUDIENCE_INVALID = Refusal("invalid_grant", "audience is invalid", "Failed: Audience Invalid")
USER_INVALID = Refusal("invalid_grant", "invalid user", "Failed: Username Unknown")
USER_INACTIVE = Refusal("invalid_grant", "inactive user", "User is inactive")
USER_FROZEN = Refusal("invalid_grant", "inactive user", "User is frozen")
IP_RESTRICTED = Refusal("invalid_grant", "ip restricted", "Restricted IP")
NOT_AUTHORIZED = Refusal("invalid_grant", "not authorized", "Restricted IP")
LOGIN_RATE_EXCEEDED = Refusal("invalid_grant", "login rate exceeded", "Login rate exceeded")
NOT_ADMIN_APPROVED = Refusal(
    "invalid_app_access", "user is not admin approved to access this app", _NOT_APPROVED_FOR_ACCESS
)
NOT_APPROVED = Refusal("invalid_grant", "user hasn't approved this consumer", _NOT_APPROVED_FOR_ACCESS)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One assertion sent to an org."""

    org: Org
    settings: OrgSettings
    base: str
    now: datetime
    signed: bytes
    signature: bytes
    claims: Mapping[str, object]

    @property
    def username(self) -> str:
        """`prn` is the older name of `sub`, and wins if both are present (help, JWT bearer flow)."""
        name = self.claims.get("prn", self.claims.get("sub"))
        return name if isinstance(name, str) else ""

    @property
    def expires(self) -> float | None:
        """Seconds since the epoch, also as a string of digits; any future date counts (*observed*)."""
        exp = self.claims.get("exp")
        if isinstance(exp, str) and exp.isascii() and exp.isdigit() and len(exp) <= LONGEST_NUMBER:
            return int(exp)
        if isinstance(exp, float):
            return exp if math.isfinite(exp) else None
        return exp if isinstance(exp, int) and not isinstance(exp, bool) else None

    def has_expired(self) -> bool:
        return self.expires is not None and self.expires <= self.now.timestamp()

    def has_generic_audience(self) -> bool:
        return _address(self.claims.get("aud")) in map(_address, GENERIC_AUDIENCES.values())

    def has_right_audience(self) -> bool:
        my_domain, generic = _address(self.base), _address(GENERIC_AUDIENCES[self.settings.org_type])
        right = {"my_domain": {my_domain}, "generic": {generic}, "any": {my_domain, generic}}
        return _address(self.claims.get("aud")) in right[self.settings.accepted_audiences]

    def is_proven(self) -> bool:
        key = uploaded(self.settings.certificate)[0]
        if key is None:
            return False
        try:
            key.verify(self.signature, self.signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    def is_from_elsewhere(self) -> bool:
        return not self.org.is_from_allowed_address(self.settings)

    def is_by_expired_certificate(self) -> bool:
        refused = self.settings.expired_certificate_refused
        return refused and uploaded(self.settings.certificate)[1] <= self.now

    def lacks_permission_set(self) -> bool:
        settings = self.settings
        approved = settings.permission_set_selected and self.org.has_permission_set(settings, self.now)
        return settings.permitted_users == "admin_approved" and not approved

    def lacks_scopes(self) -> bool:
        """The flow needs the refresh token scope and at least one other (help, JWT bearer flow)."""
        scopes = self.settings.scopes
        misses = self.settings.refresh_scope_needed and REFRESH_SCOPES.isdisjoint(scopes)
        return misses or REFRESH_SCOPES.issuperset(scopes)


_Check = tuple[Callable[[_Attempt], bool], Refusal]

_CHECKS: tuple[_Check, ...] = (
    (lambda it: not it.org.is_active(it.settings, it.now), ORG_INACTIVE),
    (lambda it: not it.org.is_ready(it.now), CLIENT_ID_INVALID),
    (lambda it: not it.settings.app_present, APP_NOT_FOUND),
    (lambda it: it.claims.get("iss") != it.settings.consumer_key, CLIENT_ID_INVALID),
    (
        lambda it: it.settings.accepted_audiences == "my_domain" and it.has_generic_audience(),
        APP_NOT_FOUND,
    ),
    (lambda it: it.settings.app_blocked, APP_BLOCKED),
    (lambda it: not it.settings.flow_enabled, GRANT_TYPE_NOT_SUPPORTED),
    (lambda it: it.settings.certificate is None, CLIENT_INVALID),
    (lambda it: not it.is_proven(), ASSERTION_INVALID),
    (lambda it: it.is_by_expired_certificate(), ASSERTION_INVALID),
    (lambda it: it.expires is None, ASSERTION_INVALID),
    (lambda it: it.has_expired(), ASSERTION_EXPIRED),
    (lambda it: not it.has_right_audience(), AUDIENCE_INVALID),
    (lambda it: it.username.lower() != it.settings.username.lower(), USER_INVALID),
    (lambda it: not it.settings.user_active, USER_INACTIVE),
    (lambda it: it.settings.user_frozen, USER_FROZEN),
    (lambda it: it.is_from_elsewhere() and it.settings.ip_refusal == "not_authorized", NOT_AUTHORIZED),
    (lambda it: it.is_from_elsewhere(), IP_RESTRICTED),
    (lambda it: it.org.rate_exceeded(it.settings, it.now), LOGIN_RATE_EXCEEDED),
)
"""Reasons to refuse, in order."""

_APPROVAL_CHECKS: tuple[_Check, ...] = (
    (lambda it: it.lacks_permission_set() and it.settings.left_out == "app_not_found", APP_NOT_FOUND),
    (lambda it: it.lacks_permission_set(), NOT_ADMIN_APPROVED),
    (lambda it: it.lacks_scopes(), NOT_APPROVED),
    (lambda it: not it.org.is_approved(it.settings, it.now), NOT_APPROVED),
)
"""Reasons that concern the approval. By then the login counts towards the rate, even if refused."""


def token(org: Org, request: Request, now: datetime) -> Answer:
    """The token endpoint's answer; `now` is by the org's own clock."""
    form = _form(request)
    if refusal := _form_refusal(org, request, form):
        return _refused(org, refusal, now)
    assertion = form.get("assertion", "")
    decoded = _decoded(assertion)
    if decoded is None:
        return _refused(org, ASSERTION_INVALID, now)
    claims, signature = decoded
    signed = assertion.rpartition(".")[0].encode()
    settings = org.in_force(now).of(claims.get("iss"))
    attempt = _Attempt(org, settings, request.base, now, signed, signature, claims)
    refusal = _first(_CHECKS, attempt)
    if refusal is None:
        org.count_login(settings, now)
        refusal = _first(_APPROVAL_CHECKS, attempt)
    if refusal:
        _note(attempt, refusal)
        return _refused(org, refusal, now)
    org.record(Login(now, settings.username, "Success", application=settings.app_label))
    return _granted(attempt)


def _form_refusal(org: Org, request: Request, form: Mapping[str, str]) -> Refusal | None:
    if org.settings.fault == "retry_your_request":
        return RETRY
    if request.method != "POST":
        return POST_ONLY
    if form.get("grant_type") != GRANT_TYPE:
        return GRANT_TYPE_NOT_SUPPORTED
    return SCOPE_NOT_SUPPORTED if "scope" in form else None


def _form(request: Request) -> Mapping[str, str]:
    """Parameters of the query string (*observed*: these count too) and of a form in the body."""
    media_type = request.content_type.partition(";")[0].strip().lower()
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
        if media_type == "application/x-www-form-urlencoded":
            body = request.body.decode()
            pairs += parse_qsl(body, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return {}
    return dict(pairs)


def _decoded(assertion: str) -> tuple[Mapping[str, object], bytes] | None:
    """Claims and signature of a JWT that claims to be signed with RS256; None for anything else."""
    try:
        parts = jwt.api_jws.decode_complete(assertion, options={"verify_signature": False})
        claims = json.loads(parts["payload"])
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    if parts["header"].get("alg") != "RS256" or not isinstance(claims, dict):
        return None
    return claims, parts["signature"]


def _address(url: object) -> str | None:
    """A URL without scheme and final slash: simulated orgs use plain HTTP, and are the same ones over TLS."""
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return None
    return url.partition("://")[2].removesuffix("/").lower()


def _first(checks: tuple[_Check, ...], attempt: _Attempt) -> Refusal | None:
    return next((refusal for fails, refusal in checks if fails(attempt)), None)


def _note(attempt: _Attempt, refusal: Refusal) -> None:
    """Add a row to the login history: of logins beyond the rate, only the first (article 000381578)."""
    last = attempt.org.logins[-1] if attempt.org.logins else None
    if refusal.login_status is None or not attempt.username:
        return
    if refusal is LOGIN_RATE_EXCEEDED and last and last.status == refusal.login_status:
        return
    label = attempt.settings.app_label
    attempt.org.record(Login(attempt.now, attempt.username, refusal.login_status, application=label))


def _refused(org: Org, refusal: Refusal, now: datetime) -> Answer:
    return org.reply(now, 400, {"error": refusal.error, "error_description": refusal.description})


def _granted(attempt: _Attempt) -> Answer:
    """Keys as in the help's sample. This flow has no `refresh_token` and no `expires_in`."""
    org = attempt.org
    body = {
        "access_token": org.access_token(attempt.settings, attempt.base, attempt.now),
        "scope": " ".join(attempt.settings.scopes),
        "instance_url": attempt.base,
        "id": org.identity_url(attempt.settings),
        "token_type": "Bearer",
    }
    if attempt.settings.jwt_access_tokens:
        body |= {"api_instance_url": attempt.base, "token_format": "jwt"}
    return org.reply(attempt.now, 200, body)
