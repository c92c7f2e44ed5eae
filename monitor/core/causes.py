"""The codes of causes, severities and responsible parties: a contract, spelt the same everywhere."""

from enum import StrEnum


class Severity(StrEnum):
    """How urgent a finding is."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Responsible(StrEnum):
    """Who must act."""

    ORG_ADMIN = "org_admin"
    """A Salesforce administrator of the org."""
    OPERATOR = "operator"
    """The person who runs this monitor and the integration: configuration, keys, network."""
    SALESFORCE = "salesforce"
    """Nothing to do on our side: wait for Salesforce."""


class Cause(StrEnum):
    """A documented cause, in the order of the setup guide, followed by those that it leaves out."""

    USER_NOT_ADMIN_APPROVED = "user_not_admin_approved"
    CONSUMER_NOT_APPROVED = "consumer_not_approved"
    APPROVAL_DECAYED = "approval_decayed"
    APPROVAL_EXPIRING = "approval_expiring"
    REFRESH_POLICY_WRONG = "refresh_policy_wrong"
    AUDIENCE_INVALID = "audience_invalid"
    ASSERTION_INVALID = "assertion_invalid"
    KEY_CERTIFICATE_MISMATCH = "key_certificate_mismatch"
    NOT_AUTHORIZED = "not_authorized"
    IP_RESTRICTED = "ip_restricted"
    SESSION_LEVEL_REQUIRED = "session_level_required"
    API_DISABLED = "api_disabled"
    PROPAGATION_PENDING = "propagation_pending"
    USERNAME_CHANGED = "username_changed"
    KEY_UNREADABLE = "key_unreadable"
    KEY_NOT_RSA = "key_not_rsa"
    KEY_TOO_SHORT = "key_too_short"
    KEY_FILE_EXPOSED = "key_file_exposed"
    CERTIFICATE_EXPIRING = "certificate_expiring"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    JWT_ACCESS_TOKEN = "jwt_access_token"  # noqa: S105 - a code, not a secret
    SCOPE_MISSING = "scope_missing"
    FLOW_DISABLED = "flow_disabled"
    CONSUMER_KEY_UNKNOWN = "consumer_key_unknown"
    SUBDOMAIN_UNKNOWN = "subdomain_unknown"
    PERMISSION_SET_EXPIRING = "permission_set_expiring"
    OBJECT_ACCESS_MISSING = "object_access_missing"
    APP_NOT_FOUND = "app_not_found"
    CLIENT_INVALID = "client_invalid"
    APP_BLOCKED = "app_blocked"
    USER_INACTIVE = "user_inactive"
    ORG_INACTIVE = "org_inactive"
    ORG_EXPIRING = "org_expiring"
    PRODUCTION_REFUSED = "production_refused"
    SANDBOX_REFRESHING = "sandbox_refreshing"
    IDENTITY_CHANGED = "identity_changed"
    LOGIN_RATE_EXCEEDED = "login_rate_exceeded"
    API_ALLOCATION_SHORT = "api_allocation_short"
    CLOCK_SKEWED = "clock_skewed"
    REQUEST_MALFORMED = "request_malformed"
    FIRST_CALL_UNANSWERED = "first_call_unanswered"
    SALESFORCE_UNAVAILABLE = "salesforce_unavailable"
    NETWORK_UNREACHABLE = "network_unreachable"
    TLS_UNTRUSTED = "tls_untrusted"
    MONITOR_FAULT = "monitor_fault"
    UNRECOGNISED = "unrecognised"
