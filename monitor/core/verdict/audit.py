"""What an audit shows: each step of the setup guide, right, wrong, not readable or never visible.

A wrong step is a finding even while the connection works, and explains a refusal.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime

from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import Certainty
from monitor.core.history import History
from monitor.core.outcome import Exchange
from monitor.core.reads import QUERIES, Read, text, time_in
from monitor.core.status import ConnectionStatus
from monitor.core.verdict.approval import Forecast, Grounds
from monitor.core.verdict.guide import POINTS, SELECTED_SETS, SHOWN, Point, Ruling, Seen, Step
from monitor.core.verdict.vocabulary import of_text
from monitor.core.wording import minute


def seen_of(
    connection: Connection,
    history: History,
    foreseen: Forecast | None,
    now: datetime,
    exchange: Exchange | None = None,
) -> Seen | None:
    """The input from a connection's last audit, with the outcome of the last exchange, or of a newer one.

    None if there was no audit or audits are off.
    """
    if not connection.audit or history.audit is None:
        return None
    last = exchange or history.last_verdict
    usage = (exchange and exchange.usage) or history.usage
    ends = foreseen.at if foreseen and foreseen.grounds is Grounds.READ else None
    return Seen(history.audit, connection, last.outcome if last else None, usage, ends, now)


def steps_of(status: ConnectionStatus, now: datetime) -> tuple[Step, ...]:
    """The steps according to a connection's last audit; empty without one."""
    seen = seen_of(status.connection, status.history, status.forecast, now)
    return steps(seen) if seen else ()


def steps(seen: Seen) -> tuple[Step, ...]:
    """All steps of the guide, followed by those that it leaves out."""
    return tuple(_step(point, seen) for point in POINTS if point.concerns(seen))


def wrong_steps(seen: Seen) -> tuple[Step, ...]:
    """Those that are wrong: a check asks for no others."""
    judged = ((point, point.judge(seen)) for point in POINTS if point.concerns(seen))
    return tuple(_named(step, point) for point, step in judged if step and step.ruling is Ruling.WRONG)


def _named(step: Step, point: Point) -> Step:
    return replace(step, guide=point.guide, what=point.what)


def _step(point: Point, seen: Seen) -> Step:
    if step := point.judge(seen):
        return _named(step, point)
    facts, why, permission = seen.facts, "It was not read.", ""
    if any(facts.rows.get(read) == () for read in point.reads):
        why = "The org did not show it."
    elif seen.granted is None:
        why = "Only a successful login shows this, and the last one was refused."
    if unread := [read for read in point.reads if read in facts.unread]:
        read = next(filter(facts.wanting, unread), unread[0])
        permission = facts.wanting(read)
        wanting = facts.lacks(read)
        who = "the observer" if facts.observer else "the user"
        lacking = f"{who} lacks {wanting}" if wanting else "the org did not show it"
        reason = facts.unread[read].removeprefix("not read: ") or lacking
        why = f"{QUERIES[read].of} was not read: {reason}."
    return _named(Step(Ruling.NOT_READABLE, why, permission=permission), point)


def explained(seen: Seen, possible: Collection[Cause]) -> Cause | None:
    """The cause that the org itself gives for a refusal, if any.

    1. Login History's status of our own login, if the answer can mean that.
    2. A step that is certainly wrong and stops logins, if the answer can mean that.
    3. Otherwise that status: the caller must know whether it belongs to this answer.

    If the user has the app's permission set and the policy has ended the approval, "not approved" means that.
    """
    found = {step.what: step for step in steps(seen)}
    wrong = {step.cause for step in found.values() if step.stops_logins}
    aged_out = found[SELECTED_SETS].ruling is Ruling.RIGHT and _aged_out(seen)
    if aged_out:
        wrong.add(Cause.APPROVAL_DECAYED)
    meant = of_text(seen.facts.status) if seen.facts.status and seen.facts.status != "Success" else None
    said = meant.cause if meant and meant.certainty is Certainty.CERTAIN else None
    if said is Cause.USER_NOT_ADMIN_APPROVED and aged_out:
        said = None
    if said in possible:
        return said
    return next((cause for cause in possible if cause in wrong), said)


def _aged_out(seen: Seen) -> bool:
    """Whether the approval has ended according to the policy that was read."""
    policy = seen.facts.policy
    at_once = policy is not None and policy.refresh == "immediately"
    return at_once or (seen.ends is not None and seen.ends <= seen.now)


def known_before(seen: Seen, granted: datetime | None) -> Iterator[str]:
    """Evidence from the last audit for a refusal: what was wrong, and what changed in Setup.

    A change before the last grant is too old, unless it was still spreading then.
    """
    since = granted and granted - seen.connection.settle
    by = f" (read by {seen.facts.observer})" if seen.facts.observer else ""
    if seen.facts.status and seen.facts.status != "Success":
        yield (
            f'Login History has this status for our login on {minute(seen.facts.at)}: "{seen.facts.status}".'
        )
    for step in wrong_steps(seen)[:SHOWN]:
        yield f"The audit on {minute(seen.facts.at)}{by} found: {step.said}"
    for row in seen.facts.rows.get(Read.ASSIGNMENTS, ()):
        ended = time_in(row, "ExpirationDate")
        if ended and ended <= seen.now:
            name = text(row, "PermissionSet.Name")
            yield f'The assignment of the permission set "{name}" expired on {minute(ended)}.'
    changes = [change for change in seen.facts.changes if since is None or change[0] > since]
    for at, changed in changes[:SHOWN]:
        yield f"Setup Audit Trail, {minute(at)}: {changed}."
