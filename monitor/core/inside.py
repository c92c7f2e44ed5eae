"""What an audit read inside an org."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from monitor.core.policy import Policy, of_classic_app, of_external_client_app
from monitor.core.reads import QUERIES, Permission, Read, Row, Rows, text


@dataclass(frozen=True, slots=True)
class Logins:
    """Similar logins of the user, as far back as the org shows."""

    application: str
    address: str
    status: str
    """As in Login History; `Success` means granted."""
    count: int
    first: datetime
    last: datetime

    @property
    def granted(self) -> bool:
        """Whether these were granted."""
        return self.status.lower() == "success"


@dataclass(frozen=True)
class Facts:
    """What one audit read, and what it could not read and why. Contains no secrets."""

    at: datetime
    observer: str = ""
    """The observer connection that read it; empty without an observer."""
    rows: Rows = field(default_factory=dict)
    unread: dict[Read, str] = field(default_factory=dict)
    """The org's error text; empty if the reading user lacks the permission."""
    logins: tuple[Logins, ...] = ()
    """The rows of `Read.LOGINS`, grouped, latest first."""
    application: str = ""
    """The application of our own login in Login History; empty if not found."""
    address: str = ""
    """The source address of our own login."""
    status: str = ""
    """The status of our own login."""
    calls: int = 0
    """API calls used."""
    app: str = ""
    """The app's name as configured then; may be empty."""
    asked: int = 0
    """Requested audits in a row, each within a day of the previous one."""

    def first(self, read: Read) -> Row | None:
        """The only row; None if there is none or it was not read."""
        return next(iter(self.rows.get(read, ())), None)

    @cached_property
    def policy(self) -> Policy | None:
        """The policies of the app, External Client App or classic; None if not shown."""
        if row := self.first(Read.POLICY):
            return of_external_client_app(row)
        row = self.first(Read.CLASSIC)
        return of_classic_app(row) if row else None

    def has(self, permission: Permission) -> bool | None:
        """Whether the reading user has it; None if the org did not say."""
        access = self.first(Read.ACCESS)
        value = access.get(_FIELDS[permission]) if access else None
        return value if isinstance(value, bool) else None

    def lacks(self, read: Read) -> Permission | None:
        """The permission that is missing to read this; None if none is known to be missing."""
        return next((each for each in self._needs(read) if self.has(each) is False), None)

    def wanting(self, read: Read) -> str:
        """The permissions that would show what was not read; empty if the reason is another, or unknown.

        An org also says that an object or field doesn't exist if a permission is missing.
        """
        reason = self.unread.get(read)
        unknown = ("INVALID_TYPE", "INVALID_FIELD", "INSUFFICIENT_ACCESS")
        if reason is None or not (self.lacks(read) or reason.startswith(unknown)):
            return ""
        return " and ".join(self._needs(read))

    def _needs(self, read: Read) -> tuple[Permission, ...]:
        query = QUERIES[read]
        return (*query.needs, query.of_others) if self.observer and query.of_others else query.needs


_FIELDS = {
    Permission.VIEW_SETUP: "PermissionsViewSetup",
    Permission.VIEW_APPS: "PermissionsExternalClientAppViewer",
    Permission.VIEW_TRAIL: "PermissionsViewSetupAuditTrail",
    Permission.MANAGE_USERS: "PermissionsManageUsers",
}


def summed(rows: Iterable[tuple[datetime, Row]]) -> tuple[Logins, ...]:
    """Rows of Login History with their times, grouped by similarity, latest first."""
    groups: dict[tuple[str, str, str], list[datetime]] = {}
    for at, row in rows:
        key = (text(row, "Application"), text(row, "SourceIp"), text(row, "Status"))
        groups.setdefault(key, []).append(at)
    found = [Logins(*key, len(times), min(times), max(times)) for key, times in groups.items()]
    return tuple(sorted(found, key=lambda one: one.last, reverse=True)[:LOGINS_KEPT])


LOGINS_KEPT = 20
"""Most groups of logins: an integration user has one or two applications and addresses."""
