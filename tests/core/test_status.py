"""The Snapshot's judgement: which connections a person wants to see first."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from monitor.core.causes import Cause
from monitor.core.connection import Connection
from monitor.core.finding import State
from monitor.core.history import begin
from monitor.core.outcome import AfterLogin
from monitor.core.status import ConnectionStatus, worst_first
from tests.making import NOW, connection, finding, history


def status(name: str, state: State, cause: Cause | None = None, hours: float = 0) -> ConnectionStatus:
    """A connection in this state, with a cause since this many hours."""
    history = begin(connection(name=name), NOW)
    found = (finding(cause, NOW - timedelta(hours=hours)),) if cause else ()
    return ConnectionStatus(connection(name=name), replace(history, state=state, findings=found))


def test_the_worst_come_first_and_among_equals_the_latest() -> None:
    fleet = (
        status("well-b", State.HEALTHY),
        status("well-a", State.HEALTHY),
        status("warned-lately", State.DEGRADED, Cause.CERTIFICATE_EXPIRING, 1),
        status("critical-of-old", State.DEGRADED, Cause.JWT_ACCESS_TOKEN, 900),
        status("broken-of-old", State.FAILING, Cause.APP_BLOCKED, 900),
        status("broken-lately", State.FAILING, Cause.APPROVAL_DECAYED, 2),
        status("unchecked", State.UNKNOWN),
    )

    assert [each.name for each in worst_first(fleet)] == [
        "broken-lately",
        "broken-of-old",
        "critical-of-old",
        "warned-lately",
        "unchecked",
        "well-a",
        "well-b",
    ]


def test_unread_parts_of_an_audit_are_reported_with_the_reason() -> None:
    of = connection()
    forbidden = AfterLogin(403, "API_DISABLED_FOR_ORG", "The API is off.")

    def reads(of: Connection = of, **known: Any) -> dict[str, str]:
        return ConnectionStatus(of, history(of, **known)).reads

    assert reads() == {}
    assert reads(after_login=AfterLogin(200, "", "")) == {"first_call": ""}
    assert reads(after_login=forbidden) == {"first_call": "HTTP 403 API_DISABLED_FOR_ORG: The API is off."}
    assert reads(after_login=AfterLogin(0, "", "no connection")) == {"first_call": "no connection"}
    assert reads(connection(after_login=False), last_success=NOW, after_login=forbidden) == {}
