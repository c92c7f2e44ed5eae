"""What an audit read inside an org: rows, and what they say about policies, logins, refreshes and changes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from monitor.core.policy import Policy, of_classic_app, of_external_client_app
from monitor.core.reads import QUERIES, Permission, Read, Row, Rows, text, time_in
from monitor.core.wording import minute

LOGINS_KEPT = 20
"""Most groups of logins: an integration user has one or two applications and addresses."""


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


def summed(rows: Iterable[tuple[datetime, Row]]) -> tuple[Logins, ...]:
    """Rows of Login History with their times, grouped by similarity, latest first."""
    groups: dict[tuple[str, str, str], list[datetime]] = {}
    for at, row in rows:
        key = (text(row, "Application"), text(row, "SourceIp"), text(row, "Status"))
        groups.setdefault(key, []).append(at)
    found = [Logins(*key, len(times), min(times), max(times)) for key, times in groups.items()]
    return tuple(sorted(found, key=lambda one: one.last, reverse=True)[:LOGINS_KEPT])


@dataclass(frozen=True, slots=True)
class Production:
    """The user's logins that are not the monitor's."""

    granted: datetime | None
    """The last grant, if any was shown."""
    refused: int
    """Refusals since then (at least), of apps that were granted before."""
    since: datetime | None
    """The first of these refusals, as far back as the org shows."""
    last: Logins | None
    """The last of these refusals."""


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

    @cached_property
    def policy(self) -> Policy | None:
        """The policies of the app, External Client App or classic; None if not shown."""
        if row := self.first(Read.POLICY):
            return of_external_client_app(row)
        row = self.first(Read.CLASSIC)
        return of_classic_app(row) if row else None

    def approval(self, app: str) -> Row | None:
        """The user's newest approval of the app that the org shows: any valid one is enough for a grant."""
        tokens, name = self.rows.get(Read.TOKENS, ()), app or self.application
        rows = [row for row in tokens if text(row, "AppName") == name]
        return max(rows, key=lambda row: text(row, "CreatedDate"), default=None)

    @property
    def production(self) -> Production | None:
        """The integration's logins; None if not shown or not distinguishable from the monitor's."""
        ours = (self.application, self.address)
        theirs = [one for one in self.logins if (one.application, one.address) != ours]
        if not self.address or not theirs:
            return None
        # A client that was never granted is unrelated. The monitor may use the integration's own app.
        never = datetime.min.replace(tzinfo=UTC)
        worked = {self.application: never}
        for one in theirs:
            if one.granted:
                worked[one.application] = max(one.last, worked.get(one.application, never))
        # Some logins of a group may predate the last grant; its latest does not.
        since = {
            one: one.first > worked[one.application]
            for one in theirs
            if not one.granted and one.last > worked.get(one.application, one.last)
        }
        granted = max(worked.values())
        return Production(
            None if granted == never else granted,
            sum(one.count if whole else 1 for one, whole in since.items()),
            min((one.first if whole else one.last for one, whole in since.items()), default=None),
            max(since, key=lambda one: one.last, default=None),
        )

    def copying(self, row: Row) -> str:
        """A sentence about a refresh of a sandbox in progress; empty if it has ended."""
        copied = row.get("CopyProgress")
        if row.get("EndDate") or not isinstance(copied, int):
            return ""
        return (
            f"The sandbox {text(row, 'SandboxName')} is being refreshed: {copied} % copied on"
            f" {minute(self.at)}."
        )

    def refresh_of(self, sandbox: str, since: datetime | None) -> tuple[str, bool] | None:
        """The sandbox's latest refresh, unless it ended before `since`, and whether it is in progress."""
        rows = self.rows.get(Read.SANDBOXES, ())
        row = next((row for row in rows if text(row, "SandboxName").casefold() == sandbox.casefold()), {})
        if said := self.copying(row):
            return said, True
        ended = time_in(row, "EndDate")
        if ended and since and ended > since:
            return f"A refresh of the sandbox {sandbox} ended on {minute(ended)}.", False
        return None

    @property
    def changes(self) -> tuple[tuple[datetime, str], ...]:
        """Changes in Setup, latest first, with who made them."""
        changes = []
        for row in self.rows.get(Read.TRAIL, ()):
            at, who = time_in(row, "CreatedDate"), text(row, "CreatedBy.Name")
            if at:
                changes.append((at, (text(row, "Display") or text(row, "Action")) + (who and f" (by {who})")))
        return tuple(changes)


_FIELDS = {
    Permission.VIEW_SETUP: "PermissionsViewSetup",
    Permission.VIEW_APPS: "PermissionsExternalClientAppViewer",
    Permission.VIEW_TRAIL: "PermissionsViewSetupAuditTrail",
    Permission.MANAGE_USERS: "PermissionsManageUsers",
}
