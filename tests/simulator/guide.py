"""For each step of the setup guide that an org can be asked about: one that has it wrong, one that hides it.

And a query that sees it. An observer reads: some of what is wrong ends the integration's own logins at once.
"""

from dataclasses import dataclass
from typing import Any

DAY = 86_400
OBSERVES = ("ViewSetup", "ViewSetupAuditTrail", "ExternalClientAppViewer", "ManageUsers")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the guide, and the settings of an org by which it is wrong or unreadable."""

    name: str
    wrong: dict[str, Any]
    query: str
    right: Any
    """The first field of the query's first row in a correct org; None without rows."""
    seen: Any
    """The same where it is wrong."""
    unreadable: dict[str, Any]
    """Additional settings with which the query is refused or finds nothing useful."""
    tooling: bool = False
    without: tuple[str, ...] | None = None
    """Permissions of an observer that can't read it; None where it takes no permission."""


APP = ("ViewSetup",)
STEPS = (
    Step(
        "scopes",
        {"scopes": ["api"], "refresh_scope_needed": False},
        "SELECT OauthScopesREFRESH_TOKEN FROM ExtlClntAppOauthSettings",
        True,
        False,
        {"unreadable": ["ExtlClntAppOauthSettings"]},
        without=APP,
    ),
    Step(
        "app enabled",
        {"app_blocked": True},
        "SELECT IsEnabled FROM ExtlClntAppPlcyCnfg",
        True,
        False,
        {"unreadable": ["ExtlClntAppPlcyCnfg.IsEnabled"]},
        without=APP,
    ),
    Step(
        "refresh token policy: lifetime",
        {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * DAY},
        "SELECT RefreshTokenPolicyType FROM ExtlClntAppOauthPlcyCnfg",
        "Infinite",
        "SpecificLifetime",
        {"without_rows": ["ExtlClntAppOauthPlcyCnfg"]},
        without=APP,
    ),
    Step(
        "refresh token policy: inactivity",
        {"refresh_token_policy": "inactivity", "refresh_token_validity_seconds": 30 * DAY},
        "SELECT RefreshTokenPolicyType FROM ExtlClntAppOauthPlcyCnfg",
        "Infinite",
        "SpecificInactivity",
        {"app_objects_on": "tooling"},
        without=APP,
    ),
    Step(
        "refresh token policy: at once",
        {"refresh_token_policy": "zero"},
        "SELECT RefreshTokenPolicyType FROM ExtlClntAppOauthPlcyCnfg",
        "Infinite",
        "Zero",
        {"app_objects_on": "tooling", "unreadable": ["ExtlClntAppOauthPlcyCnfg"]},
        without=APP,
    ),
    Step(
        "refresh token policy of a connected app",
        {
            "app_kind": "connected_app",
            "refresh_token_policy": "inactivity",
            "refresh_token_validity_seconds": 90 * DAY,
        },
        "SELECT OptionsRefreshTokenValidityMetric FROM ConnectedApplication",
        None,
        True,
        {"unreadable": ["ConnectedApplication"]},
        without=(),
    ),
    Step(
        "IP relaxation",
        {"ip_relaxation": "enforce"},
        "SELECT IpRelaxationPolicyType FROM ExtlClntAppOauthPlcyCnfg",
        "Bypass",
        "Enforce",
        {"unreadable": ["ExtlClntAppOauthPlcyCnfg.IpRelaxationPolicyType"]},
        without=APP,
    ),
    Step(
        "login IP ranges",
        {"login_ip_ranges": ["127.0.0.1-127.0.0.1"], "production": {"address": "198.51.100.7"}},
        "SELECT Metadata FROM Profile WHERE Name LIKE 'Minimum Access%'",
        {"loginHours": None, "loginIpRanges": []},
        {
            "loginHours": None,
            "loginIpRanges": [{"description": None, "startAddress": "127.0.0.1", "endAddress": "127.0.0.1"}],
        },
        {"unreadable": ["Profile.Metadata"]},
        tooling=True,
        without=(),
    ),
    Step(
        "session level",
        {"session_level": "HIGH_ASSURANCE"},
        "SELECT RequiredSessionLevel FROM ExtlClntAppOauthPlcyCnfg",
        "STANDARD",
        "HIGH_ASSURANCE",
        {"unreadable": ["ExtlClntAppOauthPlcyCnfg.RequiredSessionLevel"]},
        without=APP,
    ),
    Step(
        "user active",
        {"user_active": False},
        "SELECT IsActive FROM User WHERE Username = 'integration@acme.com'",
        True,
        False,
        {"unreadable": ["User.IsActive"]},
        without=APP,
    ),
    Step(
        "user frozen",
        {"user_frozen": True},
        "SELECT IsFrozen FROM UserLogin",
        False,
        True,
        {"unreadable": ["UserLogin"]},
        without=APP,
    ),
    Step(
        "permission set without end",
        {"permission_set_lifetime_seconds": 30 * DAY},
        "SELECT ExpirationDate FROM PermissionSetAssignment WHERE PermissionSet.IsOwnedByProfile = false",
        None,
        "2026-12-23T12:00:00.000+0000",
        {"unreadable": ["PermissionSetAssignment"]},
        without=(),
    ),
    Step(
        "licence of the permission set",
        {"permission_set_license": "Salesforce"},
        "SELECT PermissionSet.License.Name FROM PermissionSetAssignment"
        " WHERE PermissionSet.IsOwnedByProfile = false",
        "Salesforce API Integration",
        "Salesforce",
        {"unreadable": ["PermissionSetAssignment.PermissionSet.License.Name"]},
        without=(),
    ),
    Step(
        "API Enabled that goes with the permission set",
        {"api_enabled_by": "permission_set", "permission_set_lifetime_seconds": 30 * DAY},
        "SELECT PermissionSet.PermissionsApiEnabled FROM PermissionSetAssignment"
        " WHERE PermissionSet.IsOwnedByProfile = false",
        False,
        True,
        {"without_rows": ["PermissionSetAssignment"]},
        without=(),
    ),
    Step(
        "permission set selected for the app",
        {"permission_set_selected": False},
        "SELECT Parent.Name FROM SetupEntityAccess WHERE SetupEntityType = 'ExternalClientApplication'",
        "Integration_User_Permission_Set",
        None,
        {"unreadable": ["SetupEntityAccess"]},
        without=(),
    ),
    Step(
        "permission set assigned to the user",
        {"permission_set_assigned": False},
        "SELECT PermissionSet.Name FROM PermissionSetAssignment WHERE PermissionSet.IsOwnedByProfile = false",
        "Integration_User_Permission_Set",
        None,
        {"unreadable": ["PermissionSetAssignment"]},
        without=(),
    ),
    Step(
        "access to an object",
        {"objects": {"Account": ["read"], "Contact": ["read", "write"]}},
        "SELECT IsEditable FROM UserEntityAccess WHERE UserId = '{user}'"
        " AND EntityDefinition.QualifiedApiName IN ('Account')",
        True,
        False,
        {"unreadable": ["UserEntityAccess"]},
        without=APP,
    ),
    Step(
        "an org that lasts",
        {"trial_seconds": 30 * DAY},
        "SELECT TrialExpirationDate FROM Organization",
        None,
        "2026-12-23T12:00:00.000+0000",
        {"unreadable": ["Organization.TrialExpirationDate"]},
    ),
    Step(
        "a sandbox that is not being refreshed",
        {"sandbox_copy": {"name": "dev", "percent": 62}},
        "SELECT CopyProgress FROM SandboxProcess WHERE SandboxName = 'dev'",
        None,
        62,
        {"unreadable": ["SandboxProcess"]},
        tooling=True,
        without=APP,
    ),
    Step(
        "what a refused login was refused for",
        {"ip_allowed": False, "ip_refusal": "not_authorized"},
        "SELECT Status FROM LoginHistory WHERE UserId = '{user}' ORDER BY LoginTime DESC LIMIT 1",
        "Success",
        "Restricted IP",
        {"unreadable": ["LoginHistory.Status"]},
        without=APP,
    ),
)
