"""What users of an org can query: objects, fields, permissions and rows.

Rows show what Setup shows, which may not be in force yet. Tests compare the fields with Salesforce's own
types. Who sees what comes from the object reference or was *observed* in public programs; for the objects of
External Client Apps, which Salesforce lists as internal, it is *not recorded*.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from monitor.simulator import soql
from monitor.simulator.org import Login, Org, digest, identifier
from monitor.simulator.settings import App, OrgSettings, Permission
from monitor.simulator.soql import QueryError

Row = Mapping[str, object]
Rows = Iterable[Row]

PROFILE = "Minimum Access - API Only Integrations"
PERMISSION_SET = "Integration_User_Permission_Set"
ELSEWHERE = "203.0.113.0-203.0.113.255"
"""The profile's range if the settings only say that our address is outside."""


@dataclass(frozen=True, slots=True)
class View:
    """An org as one of its users sees it now, through `query` or `tooling/query`."""

    org: Org
    reader: OrgSettings
    now: datetime
    resource: Literal["query", "tooling"] = "query"

    @property
    def settings(self) -> OrgSettings:
        """The settings that Setup shows."""
        return self.org.settings

    def id(self, prefix: str, seed: str = "") -> str:
        """The id of a record of this org."""
        return identifier(prefix, self.org.name + seed)

    @property
    def app_id(self) -> str:
        """The app's id, for both kinds of app."""
        return self.id({"external_client_app": "0xI", "connected_app": "0H4"}[self.settings.app_kind])


@dataclass(frozen=True, slots=True)
class Entity:
    """An object that can be queried."""

    rows: Callable[[View], Rows]
    needs: frozenset[str] = frozenset()
    own: str = ""
    """The field with the user's id. Without Manage Users, a user sees only their own rows."""
    on: frozenset[str] = frozenset({"query", "tooling"})
    of_tooling: tuple[str, ...] = ()
    """Fields that only `tooling/query` has, and only for a single row."""
    unfiltered: tuple[str, ...] = ()
    of_kind: str = ""
    """The kind of app that has rows here; empty if it is not about the app."""


def _organization(view: View) -> Rows:
    settings = view.settings
    yield {
        "Id": view.org.org_id,
        "Name": view.org.name,
        "IsSandbox": settings.org_type == "sandbox",
        "OrganizationType": f"{'Developer' if settings.org_type == 'developer' else 'Enterprise'} Edition",
        "TrialExpirationDate": view.org.trial_ends(settings),
        "InstanceName": "SIM1",
    }


def _user(view: View) -> Rows:
    for settings in view.settings.of_each_app:
        yield {
            "Id": view.org.user_id(settings),
            "Username": settings.username,
            "Name": settings.username.partition("@")[0],
            "IsActive": settings.user_active,
            "UserType": "Standard",
            "ProfileId": view.id("00e"),
            "Profile.Name": PROFILE,
            "Profile.UserLicense.Name": "Salesforce Integration",
        }


def _user_login(view: View) -> Rows:
    yield {
        "Id": view.id("0Yw"),
        "UserId": view.org.user_id(),
        "IsFrozen": view.settings.user_frozen,
        "IsPasswordLocked": False,
    }


def _user_permission_access(view: View) -> Rows:
    yield {
        "Id": "000000000000000AAA",
        "PermissionsApiEnabled": view.org.may_use_api(view.reader, view.now),
        **{f"Permissions{name}": name in view.reader.permissions for name in get_args(Permission)},
    }


_ONE_ROW_ONLY = ("FullName", "Metadata")

_OF_LOGINS = ("Status", "SourceIp", "Application", "LoginUrl", "ApiType")


def _login_history(view: View) -> Rows:
    ids = {settings.username: view.org.user_id(settings) for settings in view.settings.of_each_app}
    for number, row in enumerate(reversed(view.org.logins)):
        yield {
            "Id": f"0Ya{number:012}AAA",
            "UserId": ids.get(row.username, view.org.user_id()),
            "LoginTime": row.time,
            "LoginType": "Remote Access 2.0",
            "Status": row.status,
            "SourceIp": row.source,
            "Application": row.application,
            "LoginUrl": f"{view.org.name}.my.salesforce.com",
            "ApiType": "N/A",
        }


def _oauth_token(view: View) -> Rows:
    """Whether an admin-approved user has a row here is not recorded; `without_rows` can remove it."""
    if view.settings.user_approved:
        yield {
            "Id": view.id("0CS"),
            "AppName": view.settings.app_label,
            "UserId": view.org.user_id(),
            "CreatedDate": view.org.approved_at,
            "LastUsedDate": view.org.used_at,
            "UseCount": sum(row.status == "Success" for row in view.org.logins),
            # An audit must never query these: they allow the token to be used or revoked.
            **{
                name: digest(f"{name} of {view.org.org_id}")
                for name in ("AccessToken", "DeleteToken", "RequestToken")
            },
        }


def _permission_set(view: View) -> Rows:
    yield {"Id": view.id("0PS")} | _row_of_set(view.settings)
    yield {
        "Id": view.id("0PS", "profile"),
        "Name": "X00e000000000000AAA",
        "Label": "00e000000000000AAA",
        "IsOwnedByProfile": True,
        "ProfileId": view.id("00e"),
        "PermissionsApiEnabled": view.settings.api_enabled and view.settings.api_enabled_by == "profile",
        "License.Name": "Salesforce Integration",
    }


def _row_of_set(settings: OrgSettings) -> dict[str, object]:
    return {
        "Name": PERMISSION_SET,
        "Label": PERMISSION_SET.replace("_", " "),
        "IsOwnedByProfile": False,
        "ProfileId": None,
        "PermissionsApiEnabled": settings.api_enabled and settings.api_enabled_by == "permission_set",
        "License.Name": settings.permission_set_license,
    }


def _permission_set_assignment(view: View) -> Rows:
    settings = view.settings
    for row in _permission_set(view):
        ends = None if row["IsOwnedByProfile"] else view.org.permission_set_ends(settings)
        if row["IsOwnedByProfile"] or view.org.has_permission_set(settings, view.now):
            yield {
                "Id": identifier("0Pa", str(row["Id"])),
                "AssigneeId": view.org.user_id(),
                "PermissionSetId": row["Id"],
                "PermissionSetGroupId": None,
                "ExpirationDate": ends,
                "IsActive": True,
                "IsRevoked": False,
                **{f"PermissionSet.{name}": value for name, value in row.items()},
            }


def _setup_entity_access(view: View) -> Rows:
    settings = view.settings
    if settings.permission_set_selected and settings.app_present:
        kinds = {"external_client_app": "ExternalClientApplication", "connected_app": "ConnectedApplication"}
        yield {
            "Id": view.id("0J0"),
            "ParentId": view.id("0PS"),
            "SetupEntityId": view.app_id,
            "SetupEntityType": kinds[settings.app_kind],
            **{f"Parent.{name}": value for name, value in _row_of_set(view.settings).items()},
        }


def _connected_application(view: View) -> Rows:
    settings = view.settings
    policy = settings.refresh_token_policy
    yield {
        "Id": view.app_id,
        "Name": settings.app_label,
        "OptionsAllowAdminApprovedUsersOnly": settings.permitted_users == "admin_approved",
        "OptionsHasSessionLevelPolicy": settings.session_level == "HIGH_ASSURANCE",
        "OptionsRefreshTokenValidityMetric": policy == "inactivity",
        "RefreshTokenValidityPeriod": _validity(settings)[0],
        **_stamps(view),
    }


def _external_client_application(view: View) -> Rows:
    yield {
        "Id": view.app_id,
        "DeveloperName": view.settings.app_label.replace(" ", "_"),
        "MasterLabel": view.settings.app_label,
        "DistributionState": "Local",
        **_stamps(view),
    }


def _app_policy(view: View) -> Rows:
    yield {
        **_of_the_app(view, "plugin policy"),
        "IsEnabled": not view.settings.app_blocked,
        "OauthPluginStatus": "Disabled" if view.settings.app_blocked else "Enabled",
    }


def _oauth_settings(view: View) -> Rows:
    scopes = {scope.upper() for scope in view.settings.scopes}
    yield {
        **_of_the_app(view, "settings"),
        **{f"OauthScopes{name}": name in scopes for name in ("API", "REFRESH_TOKEN", "OFFLINE_ACCESS")},
    }


def _oauth_policy(view: View) -> Rows:
    settings = view.settings
    said = _ENUMERATIONS[settings.enumerations]
    period, unit = _validity(settings)
    admins = settings.permitted_users == "admin_approved"
    raised = settings.session_level == "HIGH_ASSURANCE"
    yield {
        **_of_the_app(view, "policy"),
        "PermittedUsersPolicyType": "AdminApprovedPreAuthorized" if admins else "AllSelfAuthorized",
        "RefreshTokenPolicyType": said[settings.refresh_token_policy],
        "RefreshTokenValidityPeriod": period,
        "RefreshTokenValidityUnit": said[unit] if unit else None,
        "IpRelaxationPolicyType": said[settings.ip_relaxation],
        "RequiredSessionLevel": settings.session_level,
        "PolicyAction": "Block" if raised else None,
        "SessionTimeoutInMinutes": int(settings.session_seconds // 60),
        "NamedUserJwtSessionTimeoutType": "Inherit",
        "NamedUserJwtTimeout": None,
    }


_NAMES = {
    "infinite": "Infinite",
    "zero": "Zero",
    "lifetime": "SpecificLifetime",
    "inactivity": "SpecificInactivity",
    "hours": "Hours",
    "days": "Days",
    "enforce": "Enforce",
    "relax_refresh": "Enforce_RelaxRefresh",
    "bypass": "Bypass",
}
_ENUMERATIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "names": _NAMES,
    "numbers": _NAMES | {"days": "0", "hours": "1", "relax_refresh": "Enforce_relaxrefresh"},
    "unknown": dict.fromkeys(_NAMES, "Unheard"),
}


def _validity(settings: OrgSettings) -> tuple[int | None, str]:
    """The refresh token policy's validity, in the unit that Setup would show."""
    seconds = int(settings.refresh_token_validity_seconds or 0)
    if settings.refresh_token_policy not in {"lifetime", "inactivity"}:
        return None, ""
    return (seconds // 86_400, "days") if seconds % 86_400 == 0 else (-(-seconds // 3600), "hours")


def _profile(view: View) -> Rows:
    ranges = view.settings.login_ip_ranges or (() if view.settings.ip_allowed else (ELSEWHERE,))
    ends = [text.partition("-") for text in ranges]
    shown = [{"description": None, "startAddress": first, "endAddress": last} for first, _, last in ends]
    for name, seed, metadata in ((PROFILE, "", shown), ("System Administrator", "admin", [])):
        yield {
            "Id": view.id("00e", seed),
            "Name": name,
            "FullName": name,
            "Metadata": {"loginHours": None, "loginIpRanges": metadata},
        }


def _setup_audit_trail(view: View) -> Rows:
    """The trail's wording for External Client Apps is not recorded: this is ours."""
    for number, change in enumerate(reversed(view.org.changes)):
        action, section = _CHANGED.get(change.setting, ("changedAppPolicy", "External Client Apps"))
        setting = change.setting.replace("_", " ")
        shown = "" if change.setting == "certificate" else f" from {change.before} to {change.after}"
        yield {
            "Id": f"0Ym{number:012}AAA",
            "Action": action,
            "Section": section,
            "Display": f"Changed {setting} of {view.settings.app_label}{shown}",
            "CreatedDate": change.time,
            "CreatedById": view.id("005", "admin"),
            "CreatedBy.Name": ADMIN,
            "DelegateUser": None,
        }


_CHANGED = {
    "user_active": ("deactivateduser", "Manage Users"),
    "user_frozen": ("frozeuser", "Manage Users"),
    "permission_set_assigned": ("PermSetAssign", "Manage Users"),
    "login_ip_ranges": ("loginIpRange", "Manage Users"),
    "ip_allowed": ("loginIpRange", "Manage Users"),
    "api_enabled": ("profileChanged", "Manage Users"),
}

ADMIN = "Org Admin"


def _user_entity_access(view: View) -> Rows:
    for name, allowed in view.settings.objects.items():
        yield {
            "Id": "000000000000000AAA",
            "DurableId": f"{name}.{view.org.user_id()}",
            "UserId": view.org.user_id(),
            "EntityDefinitionId": name,
            "EntityDefinition.QualifiedApiName": name,
            "IsReadable": "read" in allowed,
            **dict.fromkeys(("IsCreatable", "IsEditable", "IsDeletable"), "write" in allowed),
        }


def _sandbox_process(view: View) -> Rows:
    if copy := view.settings.sandbox_copy:
        yield {
            "Id": view.id("0GR"),
            "SandboxName": copy.name,
            "Status": "Completed" if copy.percent == 100 else "Processing",
            "CopyProgress": copy.percent,
            "AutoActivate": True,
            "CreatedDate": view.org.made,
            "StartDate": view.org.made,
            "EndDate": view.org.made if copy.percent == 100 else None,
        }


def _stamps(view: View) -> Row:
    """When the app was created, and who last changed it."""
    changed = [change.time for change in view.org.changes if change.setting in App.model_fields]
    return {
        "CreatedDate": view.org.made,
        "LastModifiedDate": changed[-1] if changed else view.org.made,
        "LastModifiedById": view.id("005", "admin"),
        "LastModifiedBy.Name": ADMIN,
    }


def _of_the_app(view: View, what: str) -> Row:
    return {"Id": view.id("0xJ", what), "ExternalClientApplicationId": view.app_id, **_stamps(view)}


QUERY, TOOLING = frozenset({"query"}), frozenset({"tooling"})
VIEW_SETUP, MANAGE_USERS = frozenset({"ViewSetup"}), frozenset({"ManageUsers"})
VIEW_TRAIL = VIEW_SETUP | {"ViewSetupAuditTrail"}
VIEW_APPS = VIEW_SETUP | {"ExternalClientAppViewer"}
EXTERNAL = "external_client_app"

OBJECTS: Final[Mapping[str, Entity]] = {
    "Organization": Entity(_organization, on=QUERY),
    "User": Entity(_user, own="Id", on=QUERY),
    "UserLogin": Entity(_user_login, MANAGE_USERS, on=QUERY),
    "UserPermissionAccess": Entity(_user_permission_access, on=QUERY),
    "LoginHistory": Entity(_login_history, own="UserId", on=QUERY, unfiltered=_OF_LOGINS),
    "OauthToken": Entity(_oauth_token, own="UserId", on=QUERY),
    "PermissionSet": Entity(_permission_set, VIEW_SETUP),
    "PermissionSetAssignment": Entity(_permission_set_assignment, VIEW_SETUP, on=QUERY),
    "SetupEntityAccess": Entity(_setup_entity_access, VIEW_SETUP, on=QUERY),
    "ConnectedApplication": Entity(_connected_application, VIEW_SETUP, of_kind="connected_app"),
    "ExternalClientApplication": Entity(_external_client_application, VIEW_APPS, of_kind=EXTERNAL),
    "ExtlClntAppPlcyCnfg": Entity(_app_policy, VIEW_APPS, of_kind=EXTERNAL),
    "ExtlClntAppOauthSettings": Entity(_oauth_settings, VIEW_APPS, of_kind=EXTERNAL),
    "ExtlClntAppOauthPlcyCnfg": Entity(_oauth_policy, VIEW_APPS, of_kind=EXTERNAL),
    "Profile": Entity(_profile, VIEW_SETUP, of_tooling=_ONE_ROW_ONLY, unfiltered=_ONE_ROW_ONLY),
    "UserEntityAccess": Entity(_user_entity_access, own="UserId"),
    "SetupAuditTrail": Entity(_setup_audit_trail, VIEW_TRAIL, on=QUERY),
    "SandboxProcess": Entity(_sandbox_process, MANAGE_USERS, on=TOOLING),
}


def _specimen() -> View:
    """An org in which every object has a row. An object's fields are taken from that row."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    full = OrgSettings().changed({"sandbox_copy": {}})
    org = Org("specimen", full, now)
    org.change({"app_label": "Specimen"}, now)
    org.record(Login(now, full.username, "Success"))
    return View(org, full, now)


FIELDS: Final = {name: tuple(next(iter(entity.rows(_specimen())))) for name, entity in OBJECTS.items()}

_ADVICE = (
    "If you are attempting to use a custom {}, be sure to append the '__c' after the {}."
    " Please reference your WSDL or the describe call for the appropriate names."
)
_ONE_ROW = (
    "When retrieving results with Metadata or FullName fields, the query qualifications must specify no more"
    " than one row for retrieval."
)


@dataclass(frozen=True, slots=True)
class Found:
    """A query's result: object, fields, and each row's id and values."""

    entity: str
    fields: tuple[str, ...]
    rows: tuple[tuple[str, tuple[object, ...]], ...]


def readable(view: View, name: str) -> str | None:
    """An object's name as Salesforce spells it; None if this user and resource can't see it."""
    known = next((one for one in OBJECTS if one.lower() == name.lower()), None)
    if known is None or known in view.settings.unreadable:
        return None
    entity, only = OBJECTS[known], view.settings.app_objects_on
    on = {only} if entity.of_kind == EXTERNAL and only != "both" else entity.on
    return known if view.resource in on and entity.needs.issubset(view.reader.permissions) else None


def fields(view: View, name: str) -> Mapping[str, str]:
    """An object's visible fields, by their lower-case names."""
    hidden = () if view.resource == "tooling" else OBJECTS[name].of_tooling
    return {
        one.lower(): one
        for one in FIELDS[name]
        if one not in hidden and f"{name}.{one}" not in view.settings.unreadable
    }


def parsed(view: View, text: str) -> soql.Query:
    """A query, with the values of its semi-joins. Raises QueryError."""
    return soql.parse(text, lambda inner: [value for _, row in answer(view, inner).rows for value in row])


def answer(view: View, query: soql.Query) -> Found:
    """A query's result. Raises QueryError."""

    def wrong(code: str, text: str, word: str = "") -> QueryError:
        return QueryError(code, text, word=word, query=query.text)

    name = readable(view, query.entity)
    if name is None:
        said = f"sObject type '{query.entity}' is not supported. {_ADVICE.format('object', 'entity name')}"
        raise wrong("INVALID_TYPE", said, query.entity)
    entity, there = OBJECTS[name], fields(view, name)
    for field in (*query.fields, *query.filtered, *(field for field, _ in query.order)):
        if field.lower() not in there:
            said = (
                f"No such column '{field}' on entity '{name}'. {_ADVICE.format('field', 'custom field name')}"
            )
            raise wrong("INVALID_FIELD", said, field)
        if field in query.filtered and there[field.lower()] in entity.unfiltered:
            raise wrong("INVALID_FIELD", f"field '{field}' can not be filtered in a query call", field)

    by_name = [{low: row.get(field) for low, field in there.items()} for row in _rows(view, name)]
    found = soql.select(query, by_name)
    asked = tuple(there[field.lower()] for field in query.fields)
    if len(found) > 1 and not set(asked).isdisjoint(entity.of_tooling):
        raise wrong("MALFORMED_QUERY", _ONE_ROW)
    picked = ((str(row.get("id", "")), tuple(row[field.lower()] for field in asked)) for row in found)
    return Found(name, asked, tuple(picked))


def _rows(view: View, name: str) -> list[Row]:
    """The object's rows that the reader sees."""
    entity, settings = OBJECTS[name], view.settings
    no_app = entity.of_kind and not (settings.app_present and settings.app_kind == entity.of_kind)
    if no_app or name in settings.without_rows:
        return []
    is_all = not entity.own or "ManageUsers" in view.reader.permissions
    return [row for row in entity.rows(view) if is_all or row[entity.own] == view.org.user_id(view.reader)]
