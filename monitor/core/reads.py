"""The queries of an audit, as a table, and the rows of their answers.

Sources of objects, fields and permissions: the Object Reference, and Salesforce's package
`@salesforce/types`. It marks the objects of External Client Apps "for internal use only". They are on the
standard or the Tooling API, depending on the org (*observed*), so any result may be missing.
"""

from collections.abc import Mapping
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


UNFOLDED_AT_MOST = 200
"""Most rows of a list within one record, such as a profile's IP ranges. Our choice."""

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
    """How one item is read. Must not name secret fields: `OauthToken` has three."""

    of: str
    """The queried object."""
    select: str
    """The fields, separated by commas."""
    where: str = ""
    """Condition, with placeholders {user}, {username}, {app}, {label}, {profile}, {since} and {objects}."""
    then: str = ""
    """ORDER BY and LIMIT."""
    needs: tuple[Permission, ...] = ()
    """Permissions that the reading user needs."""
    of_others: Permission | None = None
    """What an observer needs in addition, as the rows belong to another user."""
    own: bool = False
    """Whether users can only see their own: the connection's own token reads it even with an observer."""
    unfold: str = ""
    """The list within the single record that contains the rows."""
    tooling: bool = False
    """Whether only the Tooling API has it."""

    @property
    def fields(self) -> list[str]:
        """The names of the fields."""
        return self.select.split(", ")

    @property
    def most(self) -> int:
        """Most rows to keep, even if the org returns more."""
        return int(self.then.rpartition("LIMIT ")[2]) if "LIMIT " in self.then else UNFOLDED_AT_MOST

    def soql(self, values: Mapping[str, str | tuple[str, ...]]) -> str:
        """The query. Raises KeyError with the name of a missing value."""
        wanted = self.unfold.partition(".")[0] or self.select
        literals = {
            name: _escaped(value) if isinstance(value, str) else "', '".join(map(_escaped, value))
            for name, value in values.items()
        }
        where = f" WHERE {self.where.format_map(literals)}" if self.where else ""
        return f"SELECT {wanted} FROM {self.of}{where}{self.then and ' ' + self.then}"  # noqa: S608 - SOQL


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


_SETUP = (Permission.VIEW_SETUP,)
_APPS = (Permission.VIEW_SETUP, Permission.VIEW_APPS)

QUERIES: Mapping[Read, Query] = MappingProxyType(
    {
        Read.ACCESS: Query(
            "UserPermissionAccess",
            "PermissionsApiEnabled, PermissionsViewSetup, PermissionsExternalClientAppViewer,"
            " PermissionsViewSetupAuditTrail, PermissionsManageUsers",
            then="LIMIT 1",
        ),
        Read.USER: Query("User", "Id, IsActive, ProfileId", "Username = '{username}'", "LIMIT 1"),
        Read.LOGINS: Query(
            "LoginHistory",
            "LoginTime, Application, SourceIp, Status",
            "UserId = '{user}'",
            "ORDER BY LoginTime DESC LIMIT 500",
            of_others=Permission.MANAGE_USERS,
            own=True,
        ),
        Read.ORG: Query("Organization", "IsSandbox, TrialExpirationDate", then="LIMIT 1"),
        Read.ASSIGNMENTS: Query(
            "PermissionSetAssignment",
            "PermissionSetId, PermissionSetGroupId, PermissionSet.ProfileId, PermissionSet.Name,"
            " PermissionSet.PermissionsApiEnabled, PermissionSet.License.Name, ExpirationDate, IsActive,"
            " IsRevoked",
            "AssigneeId = '{user}'",
            "LIMIT 200",
            _SETUP,
        ),
        Read.APP: Query(
            "ExternalClientApplication", "Id, DeveloperName, MasterLabel", "", "LIMIT 200", _APPS
        ),
        Read.POLICY: Query(
            "ExtlClntAppOauthPlcyCnfg",
            "PermittedUsersPolicyType, RefreshTokenPolicyType, RefreshTokenValidityPeriod,"
            " RefreshTokenValidityUnit, IpRelaxationPolicyType, RequiredSessionLevel, PolicyAction,"
            " LastModifiedDate, LastModifiedBy.Name",
            "ExternalClientApplicationId = '{app}'",
            "LIMIT 1",
            _APPS,
        ),
        Read.ENABLED: Query(
            "ExtlClntAppPlcyCnfg",
            "IsEnabled, OauthPluginStatus",
            "ExternalClientApplicationId = '{app}'",
            "LIMIT 1",
            _APPS,
        ),
        Read.CLASSIC: Query(
            "ConnectedApplication",
            "Id, OptionsAllowAdminApprovedUsersOnly, OptionsRefreshTokenValidityMetric,"
            " RefreshTokenValidityPeriod, OptionsHasSessionLevelPolicy",
            "Name = '{label}'",
            "LIMIT 1",
            _SETUP,
        ),
        Read.ASSOCIATION: Query(
            "SetupEntityAccess", "ParentId, Parent.Name", "SetupEntityId = '{app}'", "LIMIT 200", _SETUP
        ),
        Read.TRAIL: Query(
            "SetupAuditTrail",
            "CreatedDate, Action, Display, CreatedBy.Name",
            "CreatedDate > {since}",
            "ORDER BY CreatedDate DESC LIMIT 10",
            (Permission.VIEW_SETUP, Permission.VIEW_TRAIL),
        ),
        Read.TOKENS: Query(
            "OauthToken", "AppName, CreatedDate, LastUsedDate", "UserId = '{user}'", "LIMIT 100", own=True
        ),
        Read.SCOPES: Query(
            "ExtlClntAppOauthSettings",
            "OauthScopesAPI, OauthScopesREFRESH_TOKEN, OauthScopesOFFLINE_ACCESS",
            "ExternalClientApplicationId = '{app}'",
            "LIMIT 1",
            _APPS,
        ),
        Read.OBJECTS: Query(
            "UserEntityAccess",
            f"{OBJECT}, IsReadable, IsCreatable, IsEditable",
            f"UserId = '{{user}}' AND {OBJECT} IN ('{{objects}}')",
            own=True,
        ),
        Read.PROFILE: Query(
            "Profile",
            "startAddress, endAddress",
            "Id = '{profile}'",
            "LIMIT 1",
            _SETUP,
            unfold="Metadata.loginIpRanges",
            tooling=True,
        ),
        Read.SANDBOXES: Query(
            "SandboxProcess",
            "SandboxName, CopyProgress, EndDate",
            "",
            "ORDER BY CreatedDate DESC LIMIT 50",
            (Permission.MANAGE_USERS,),
            tooling=True,
        ),
    }
)
"""In query order, most important first, as the daily API calls are limited."""

SECRET_FIELDS = frozenset({"AccessToken", "DeleteToken", "RequestToken", "ConsumerKey", "ConsumerSecret"})
"""Fields that must never be queried."""
