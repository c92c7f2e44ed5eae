"""`bearerwatch audit`: audits one org now. Stores nothing."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from monitor.commands.check import check_once
from monitor.commands.terminal import Line
from monitor.config import Settings
from monitor.core.connection import Connection
from monitor.core.status import ConnectionStatus
from monitor.core.verdict.audit import steps_of
from monitor.core.verdict.guide import Ruling
from monitor.core.wording import minute
from monitor.watch.clock import Clock
from monitor.web.api import audit_of

SIGNS = {
    Ruling.RIGHT: "right",
    Ruling.WRONG: "WRONG",
    Ruling.NOT_READABLE: "not readable",
    Ruling.CANNOT_BE_SEEN: "never shown",
}


async def audit_once(settings: Settings, connection: Connection, *, clock: Clock) -> ConnectionStatus:
    """One login and an audit, whether due or not."""
    (status,) = await check_once(settings, [connection], clock=clock, audits="always")
    return status


def as_json(status: ConnectionStatus, now: datetime) -> dict[str, Any]:
    """For `--json`: the same as `audit` in the API."""
    cause = status.verdict.cause
    return {
        "connection": status.name,
        "state": str(status.state),
        "cause": str(cause) if cause else None,
        "audit": audit_of(status, now),
    }


def as_text(status: ConnectionStatus, now: datetime) -> Iterator[Line]:
    """As text: one line per step, then the counts and what would show more."""
    steps = steps_of(status, now)
    if not steps:
        yield "", f"The org could not be audited: {_why_not(status)}."
        yield "", f"Details: bearerwatch check {status.name} --config FILE"
        return
    for step in steps:
        place = f"step {step.guide}" if step.guide else "also"
        said = f"{step.said} Needs: {step.permission}." if step.permission else step.said
        cause = f" ({step.cause})" if step.cause else ""
        yield f"{SIGNS[step.ruling]:12} {place:7} ", f"{step.what}: {said}{cause}"
    facts, last = status.history.audit, status.history.last_exchange
    assert facts
    wrong = sum(step.ruling is Ruling.WRONG for step in steps)
    hidden = sum(step.ruling is Ruling.NOT_READABLE for step in steps)
    for at, changed in facts.changes:
        yield "", f"changed in Setup on {minute(at)}: {changed}"
    yield "", ""
    yield "", f"{wrong} wrong, {hidden} not readable; {facts.calls} API calls made."
    if last and not last.granted:
        yield "", f"The login failed: {_why_not(status)}."
    wanting = {step.permission for step in steps if step.permission}
    longest = sorted(one for one in wanting if not any(one in other for other in wanting - {one}))
    if longest:
        who = "observer" if facts.observer else "user"
        yield "", f"To read more, the {who} needs: {'; '.join(longest)}."


def _why_not(status: ConnectionStatus) -> str:
    if not status.connection.audit:
        return "the connection has audit: off"
    last, call = status.history.last_exchange, status.history.after_login
    if last and last.granted:
        return "a token was granted, but the first call with it failed" + (
            f" ({call.problem})" if call else ""
        )
    return f"no token was granted ({status.verdict.cause or status.state})"
