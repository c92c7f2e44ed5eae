"""What an audit asks inside an org, as a table of queries, and what the org showed of it.

Sources of objects, fields and permissions: the Object Reference, and Salesforce's typed package
`@salesforce/types`. The objects of External Client Apps are "for internal use only" there, and answer on the
standard or the Tooling API, as the org likes (*observed*): so every answer may be missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

Value = str | bool | int | None
Row = dict[str, Value]
"""A record, by the fields' names as the query spells them (`PermissionSet.Name`)."""


class Permission(StrEnum):
    """The system permissions that show more than a user's own rows, as Setup calls them."""

    VIEW_SETUP = "View Setup and Configuration"
    VIEW_APPS = "View all External Client Apps"
    VIEW_TRAIL = "View Setup Audit Trail"
    MANAGE_USERS = "Manage Users"


UNFOLDED_AT_MOST = 200
"""Rows of a list within one record, such as the IP ranges of a profile; our own choice."""


class Read(StrEnum):
    """One thing that an audit reads."""

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


@dataclass(frozen=True, slots=True)
class Query:
    """How one thing is read. Never a field that holds a secret: `OauthToken` has three of them."""

    of: str
    """The object."""
    fields: tuple[str, ...]
    where: str = ""
    """With {user}, {username}, {app}, {label}, {profile} and {since} to be filled in."""
    then: str = ""
    """Order and bound."""
    needs: tuple[Permission, ...] = ()
    """What the asking user must have to see it."""
    of_others: Permission | None = None
    """What an observer must have beyond that, as it is another user's."""
    own: bool = False
    """Whether the user sees it of itself alone: with an observer, the connection's own token still asks."""
    unfold: str = ""
    """The list within the only record that holds the rows; Tooling API alone."""

    @property
    def most(self) -> int:
        """How many rows are kept: no more than were asked for, whatever the org answers."""
        return int(self.then.rpartition("LIMIT ")[2]) if "LIMIT " in self.then else UNFOLDED_AT_MOST

    def soql(self, values: Mapping[str, str]) -> str:
        """The query. Raises KeyError with the name of a value that is not known."""
        wanted = self.unfold.partition(".")[0] or ", ".join(self.fields)
        literals = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
        where = f" WHERE {self.where.format_map(literals)}" if self.where else ""
        return f"SELECT {wanted} FROM {self.of}{where}{self.then and ' ' + self.then}"  # noqa: S608 - SOQL


_SETUP = (Permission.VIEW_SETUP,)
_APPS = (Permission.VIEW_SETUP, Permission.VIEW_APPS)

QUERIES: Mapping[Read, Query] = MappingProxyType(
    {
        Read.ACCESS: Query(
            "UserPermissionAccess",
            (
                "PermissionsApiEnabled",
                "PermissionsViewSetup",
                "PermissionsExternalClientAppViewer",
                "PermissionsViewSetupAuditTrail",
                "PermissionsManageUsers",
            ),
            then="LIMIT 1",
        ),
        Read.USER: Query(
            "User",
            ("Id", "Username", "IsActive", "ProfileId", "Profile.Name"),
            "Username = '{username}'",
            "LIMIT 1",
        ),
        Read.LOGINS: Query(
            "LoginHistory",
            ("LoginTime", "Application", "SourceIp", "Status", "LoginType"),
            "UserId = '{user}'",
            "ORDER BY LoginTime DESC LIMIT 500",
            of_others=Permission.MANAGE_USERS,
            own=True,
        ),
        Read.ORG: Query(
            "Organization",
            ("IsSandbox", "OrganizationType", "TrialExpirationDate", "InstanceName"),
            then="LIMIT 1",
        ),
        Read.ASSIGNMENTS: Query(
            "PermissionSetAssignment",
            (
                "PermissionSetId",
                "PermissionSetGroupId",
                "PermissionSet.IsOwnedByProfile",
                "PermissionSet.ProfileId",
                "PermissionSet.Name",
                "PermissionSet.PermissionsApiEnabled",
                "PermissionSet.License.Name",
                "ExpirationDate",
                "IsActive",
                "IsRevoked",
            ),
            "AssigneeId = '{user}'",
            "LIMIT 200",
            _SETUP,
        ),
        Read.APP: Query(
            "ExternalClientApplication", ("Id", "DeveloperName", "MasterLabel"), "", "LIMIT 200", _APPS
        ),
        Read.POLICY: Query(
            "ExtlClntAppOauthPlcyCnfg",
            (
                "PermittedUsersPolicyType",
                "RefreshTokenPolicyType",
                "RefreshTokenValidityPeriod",
                "RefreshTokenValidityUnit",
                "IpRelaxationPolicyType",
                "RequiredSessionLevel",
                "PolicyAction",
                "LastModifiedDate",
                "LastModifiedBy.Name",
            ),
            "ExternalClientApplicationId = '{app}'",
            "LIMIT 1",
            _APPS,
        ),
        Read.ENABLED: Query(
            "ExtlClntAppPlcyCnfg",
            ("IsEnabled", "OauthPluginStatus"),
            "ExternalClientApplicationId = '{app}'",
            "LIMIT 1",
            _APPS,
        ),
        Read.CLASSIC: Query(
            "ConnectedApplication",
            (
                "Id",
                "Name",
                "OptionsAllowAdminApprovedUsersOnly",
                "OptionsRefreshTokenValidityMetric",
                "RefreshTokenValidityPeriod",
                "OptionsHasSessionLevelPolicy",
            ),
            "Name = '{label}'",
            "LIMIT 1",
            _SETUP,
        ),
        Read.ASSOCIATION: Query(
            "SetupEntityAccess",
            ("ParentId", "Parent.Name"),
            "SetupEntityId = '{app}'",
            "LIMIT 200",
            _SETUP,
        ),
        Read.TRAIL: Query(
            "SetupAuditTrail",
            ("CreatedDate", "Section", "Action", "Display", "CreatedBy.Name"),
            "CreatedDate > {since}",
            "ORDER BY CreatedDate DESC LIMIT 10",
            (Permission.VIEW_SETUP, Permission.VIEW_TRAIL),
        ),
        Read.TOKENS: Query(
            "OauthToken",
            ("AppName", "CreatedDate", "LastUsedDate", "UseCount"),
            "UserId = '{user}'",
            "LIMIT 100",
            own=True,
        ),
        Read.SCOPES: Query(
            "ExtlClntAppOauthSettings",
            ("OauthScopesAPI", "OauthScopesREFRESH_TOKEN", "OauthScopesOFFLINE_ACCESS"),
            "ExternalClientApplicationId = '{app}'",
            "LIMIT 1",
            _APPS,
        ),
        Read.PROFILE: Query(
            "Profile",
            ("startAddress", "endAddress"),
            "Id = '{profile}'",
            "LIMIT 1",
            _SETUP,
            unfold="Metadata.loginIpRanges",
        ),
    }
)
"""In the order in which they are asked: what decides most first, as the calls of a day are few."""

SECRET_FIELDS = frozenset({"AccessToken", "DeleteToken", "RequestToken", "ConsumerKey", "ConsumerSecret"})
"""Fields that no query may ever name."""


@dataclass(frozen=True, slots=True)
class Logins:
    """Logins of the user that are alike, since the earliest one that the org showed."""

    application: str
    address: str
    status: str
    """As Login History shows it; `Success` is a granted one."""
    count: int
    first: datetime
    last: datetime

    @property
    def granted(self) -> bool:
        """Whether these were granted."""
        return self.status.lower() == "success"


@dataclass(frozen=True, slots=True)
class Facts:
    """What one audit read, and what it could not read and why. Nothing in it is secret."""

    at: datetime
    observer: str = ""
    """The connection whose token read what this one's own could not; empty where its own read all."""
    rows: dict[Read, tuple[Row, ...]] = field(default_factory=dict)
    unread: dict[Read, str] = field(default_factory=dict)
    """Why it was not shown, in the org's words; empty where the asking user lacks the permission."""
    logins: tuple[Logins, ...] = ()
    """What `Read.LOGINS` brought, summed up; the latest first."""
    application: str = ""
    """What Login History calls the application of our own login; empty where it is not found."""
    address: str = ""
    """Where our own login came from, as the org sees it."""
    status: str = ""
    """What Login History says of our own login."""
    calls: int = 0
    """How many of the org's API calls it took."""
    app: str = ""
    """The app's name as configured then; empty where it was not."""
    asked: int = 0
    """How many audits in a row were made because somebody asked, each within a day of the one before."""

    def first(self, read: Read) -> Row | None:
        """The only row; None where there is none, or it was not read."""
        return next(iter(self.rows.get(read, ())), None)

    def has(self, permission: Permission) -> bool | None:
        """Whether the user who asked has it; None where the org did not say."""
        access = self.first(Read.ACCESS)
        value = access.get(_FIELDS[permission]) if access else None
        return value if isinstance(value, bool) else None

    def lacks(self, read: Read) -> Permission | None:
        """The permission for want of which this can't be read; None where none is known to be wanting."""
        query = QUERIES[read]
        of_others = (query.of_others,) if self.observer and query.of_others else ()
        return next((each for each in (*query.needs, *of_others) if self.has(each) is False), None)


_FIELDS = {
    Permission.VIEW_SETUP: "PermissionsViewSetup",
    Permission.VIEW_APPS: "PermissionsExternalClientAppViewer",
    Permission.VIEW_TRAIL: "PermissionsViewSetupAuditTrail",
    Permission.MANAGE_USERS: "PermissionsManageUsers",
}


def text(row: Row | None, name: str) -> str:
    """A field as text; empty where there is none."""
    value = row.get(name) if row else None
    return value if isinstance(value, str) else ""


def moment_in(row: Row | None, name: str) -> datetime | None:
    """A field as a moment, in UTC; None where it holds none, or one outside the years BELIEVED."""
    try:
        at = datetime.fromisoformat(text(row, name))
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return at if at.year in BELIEVED else None


BELIEVED = range(2000, 2201)
"""Years of a moment that is believed: Salesforce is from 1999, and a policy adds centuries at most to the
last of them, so nothing computed from one leaves the calendar."""


def summed(rows: tuple[Row, ...]) -> tuple[Logins, ...]:
    """Rows of Login History, those that are alike as one, the latest first."""
    groups: dict[tuple[str, str, str], list[datetime]] = {}
    for row in rows:
        if at := moment_in(row, "LoginTime"):
            key = (text(row, "Application"), text(row, "SourceIp"), text(row, "Status"))
            groups.setdefault(key, []).append(at)
    found = [Logins(*key, len(times), min(times), max(times)) for key, times in groups.items()]
    return tuple(sorted(found, key=lambda one: one.last, reverse=True)[:LOGINS_KEPT])


LOGINS_KEPT = 20
"""Groups of logins that are kept: an integration user has one or two applications and addresses."""
