"""What an audit read about others than the connection: production's logins, sandboxes, changes in Setup."""

from dataclasses import dataclass
from datetime import UTC, datetime

from monitor.core.inside import Facts, Logins
from monitor.core.reads import Read, Row, text, time_in
from monitor.core.wording import minute


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


def production(facts: Facts | None) -> Production | None:
    """The integration's logins; None if not shown or not distinguishable from the monitor's."""
    if facts is None or not facts.address:
        return None
    ours = (facts.application, facts.address)
    theirs = [one for one in facts.logins if (one.application, one.address) != ours]
    if not theirs:
        return None
    # A client that was never granted is unrelated. The monitor may use the integration's own app.
    never = datetime.min.replace(tzinfo=UTC)
    worked = {facts.application: never}
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


def copying(row: Row, at: datetime) -> str:
    """A sentence about a refresh in progress; empty if it has ended."""
    copied = row.get("CopyProgress")
    if row.get("EndDate") or not isinstance(copied, int):
        return ""
    return f"The sandbox {text(row, 'SandboxName')} is being refreshed: {copied} % copied on {minute(at)}."


def refreshed(facts: Facts, sandbox: str, since: datetime | None) -> tuple[str, bool] | None:
    """The sandbox's latest refresh, unless it ended before `since`, and whether it is in progress."""
    for row in facts.rows.get(Read.SANDBOXES, ()):
        if text(row, "SandboxName").casefold() == sandbox.casefold():
            if said := copying(row, facts.at):
                return said, True
            ended = time_in(row, "EndDate")
            if ended and since and ended > since:
                return f"A refresh of the sandbox {sandbox} ended on {minute(ended)}.", False
            return None
    return None


def changes_in(facts: Facts | None) -> tuple[tuple[datetime, str], ...]:
    """Changes in Setup that the audit read, latest first, with who made them."""
    changes = []
    for row in facts.rows.get(Read.TRAIL, ()) if facts else ():
        at, who = time_in(row, "CreatedDate"), text(row, "CreatedBy.Name")
        if at:
            changes.append((at, (text(row, "Display") or text(row, "Action")) + (who and f" (by {who})")))
    return tuple(changes)
