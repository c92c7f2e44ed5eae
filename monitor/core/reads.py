"""The queries of an audit, as a table, and the rows of their answers.

Sources of objects, fields and permissions: the Object Reference, and Salesforce's package
`@salesforce/types`. It marks the objects of External Client Apps "for internal use only". They are on the
standard or the Tooling API, depending on the org (*observed*), so any result may be missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

Value = str | bool | int | None
Row = dict[str, Value]
"""A record, by field names as in the query (`PermissionSet.Name`)."""

Rows = dict["Read", tuple[Row, ...]]


def text(row: Row | None, name: str) -> str:
    """A field as text; empty if missing."""
    value = row.get(name) if row else None
    return value if isinstance(value, str) else ""


def time_in(row: Row | None, name: str) -> datetime | None:
    """A field as a UTC time; None if it isn't one or is outside the years BELIEVED."""
    if not (written := text(row, name)):
        return None
    try:
        at = datetime.fromisoformat(written)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return at if at.year in BELIEVED else None


BELIEVED = range(2000, 2201)
"""Plausible years: Salesforce was founded in 1999, and policies add at most centuries, so no computed date
overflows."""


class Permission(StrEnum):
    """System permissions that show more than the user's own rows, by their names in Setup."""

    VIEW_SETUP = "View Setup and Configuration"
    VIEW_APPS = "View all External Client Apps"
    VIEW_TRAIL = "View Setup Audit Trail"
    MANAGE_USERS = "Manage Users"


UNLIMITED_AT_MOST = 200
"""Most rows of a query without LIMIT, or of a list within one record: a profile's IP ranges. Our choice."""

OBJECT = "EntityDefinition.QualifiedApiName"
"""The field with an object's API name."""


class Read(StrEnum):
    """One item that an audit reads."""

    ACCESS = "access"
    USER = "user"
    LOGINS = "logins"
    ORG = "org"
    ASSIGNMENTS = "assignments"
    APP = "app"
    POLICY = "policy"
    ENABLED = "enabled"
    CLASSIC = "classic"
    ASSOCIATION = "association"
    TRAIL = "trail"
    TOKENS = "tokens"
    SCOPES = "scopes"
    PROFILE = "profile"
    OBJECTS = "objects"
    SANDBOXES = "sandboxes"


@dataclass(frozen=True, slots=True)
class Query:
    """How one item is read."""

    template: str
    """SOQL with placeholders {user}, {username}, {app}, {label}, {profile}, {since} and {objects}. Must not
    name secret fields: `OauthToken` has three."""
    needs: tuple[Permission, ...] = ()
    """Permissions that the reading user needs."""
    of_others: Permission | None = None
    """What an observer needs in addition, as the rows belong to another user."""
    own: bool = False
    """Whether users can only see their own: the connection's own token reads it even with an observer."""
    unfold: tuple[str, ...] = ()
    """The path of the list within the single record that contains the rows, and their fields."""
    tooling: bool = False
    """Whether only the Tooling API has it."""

    @property
    def of(self) -> str:
        """The queried object."""
        return self.template.partition(" FROM ")[2].split()[0]

    @property
    def fields(self) -> Sequence[str]:
        """The names of the rows' fields."""
        selected = self.template.partition(" FROM ")[0].removeprefix("SELECT ")
        return self.unfold[1:] or selected.split(", ")

    @property
    def most(self) -> int:
        """Most rows to keep, even if the org returns more."""
        limit = self.template.partition(" LIMIT ")[2]
        return int(limit) if limit and not self.unfold else UNLIMITED_AT_MOST

    def soql(self, values: Mapping[str, str | tuple[str, ...]]) -> str:
        """The query. Raises KeyError with the name of a missing value."""
        return self.template.format_map(
            {
                name: _escaped(value) if isinstance(value, str) else "', '".join(map(_escaped, value))
                for name, value in values.items()
            }
        )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


_SETUP = (Permission.VIEW_SETUP,)
_APPS = (Permission.VIEW_SETUP, Permission.VIEW_APPS)

QUERIES: Mapping[Read, Query] = MappingProxyType(
    {
        Read.ACCESS: Query(
            "SELECT PermissionsApiEnabled, PermissionsViewSetup, PermissionsExternalClientAppViewer,"
            " PermissionsViewSetupAuditTrail, PermissionsManageUsers FROM UserPermissionAccess LIMIT 1"
        ),
        Read.USER: Query("SELECT Id, IsActive, ProfileId FROM User WHERE Username = '{username}' LIMIT 1"),
        Read.LOGINS: Query(
            "SELECT LoginTime, Application, SourceIp, Status FROM LoginHistory WHERE UserId = '{user}'"
            " ORDER BY LoginTime DESC LIMIT 500",
            of_others=Permission.MANAGE_USERS,
            own=True,
        ),
        Read.ORG: Query("SELECT IsSandbox, TrialExpirationDate FROM Organization LIMIT 1"),
        Read.ASSIGNMENTS: Query(
            "SELECT PermissionSetId, PermissionSetGroupId, PermissionSet.ProfileId, PermissionSet.Name,"
            " PermissionSet.PermissionsApiEnabled, PermissionSet.License.Name, ExpirationDate, IsActive,"
            " IsRevoked FROM PermissionSetAssignment WHERE AssigneeId = '{user}' LIMIT 200",
            _SETUP,
        ),
        Read.APP: Query(
            "SELECT Id, DeveloperName, MasterLabel FROM ExternalClientApplication LIMIT 200", _APPS
        ),
        Read.POLICY: Query(
            "SELECT PermittedUsersPolicyType, RefreshTokenPolicyType, RefreshTokenValidityPeriod,"
            " RefreshTokenValidityUnit, IpRelaxationPolicyType, RequiredSessionLevel, PolicyAction,"
            " LastModifiedDate, LastModifiedBy.Name FROM ExtlClntAppOauthPlcyCnfg"
            " WHERE ExternalClientApplicationId = '{app}' LIMIT 1",
            _APPS,
        ),
        Read.ENABLED: Query(
            "SELECT IsEnabled, OauthPluginStatus FROM ExtlClntAppPlcyCnfg"
            " WHERE ExternalClientApplicationId = '{app}' LIMIT 1",
            _APPS,
        ),
        Read.CLASSIC: Query(
            "SELECT Id, OptionsAllowAdminApprovedUsersOnly, OptionsRefreshTokenValidityMetric,"
            " RefreshTokenValidityPeriod, OptionsHasSessionLevelPolicy FROM ConnectedApplication"
            " WHERE Name = '{label}' LIMIT 1",
            _SETUP,
        ),
        Read.ASSOCIATION: Query(
            "SELECT ParentId, Parent.Name FROM SetupEntityAccess WHERE SetupEntityId = '{app}' LIMIT 200",
            _SETUP,
        ),
        Read.TRAIL: Query(
            "SELECT CreatedDate, Action, Display, CreatedBy.Name FROM SetupAuditTrail"
            " WHERE CreatedDate > {since} ORDER BY CreatedDate DESC LIMIT 10",
            (Permission.VIEW_SETUP, Permission.VIEW_TRAIL),
        ),
        Read.TOKENS: Query(
            "SELECT AppName, CreatedDate, LastUsedDate FROM OauthToken WHERE UserId = '{user}' LIMIT 100",
            own=True,
        ),
        Read.SCOPES: Query(
            "SELECT OauthScopesAPI, OauthScopesREFRESH_TOKEN, OauthScopesOFFLINE_ACCESS"
            " FROM ExtlClntAppOauthSettings WHERE ExternalClientApplicationId = '{app}' LIMIT 1",
            _APPS,
        ),
        Read.OBJECTS: Query(
            f"SELECT {OBJECT}, IsReadable, IsCreatable, IsEditable FROM UserEntityAccess"  # noqa: S608 - SOQL
            f" WHERE UserId = '{{user}}' AND {OBJECT} IN ('{{objects}}')",
            own=True,
        ),
        Read.PROFILE: Query(
            "SELECT Metadata FROM Profile WHERE Id = '{profile}' LIMIT 1",
            _SETUP,
            unfold=("Metadata.loginIpRanges", "startAddress", "endAddress"),
            tooling=True,
        ),
        Read.SANDBOXES: Query(
            "SELECT SandboxName, CopyProgress, EndDate FROM SandboxProcess"
            " ORDER BY CreatedDate DESC LIMIT 50",
            (Permission.MANAGE_USERS,),
            tooling=True,
        ),
    }
)
"""In query order, most important first, as the daily API calls are limited."""
