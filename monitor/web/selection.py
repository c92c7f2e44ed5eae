"""Filters and order of connections, read from and written to query parameters.

The page and the JSON accept the same parameters. Values of one parameter are alternatives (ORed), except for
labels; different parameters are ANDed. Unknown parameters are ignored.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible
from monitor.core.finding import State
from monitor.core.status import ConnectionStatus, urgency

TEXT_AT_MOST = 200
"""Longest search text; a name has at most 100 characters."""


class SelectionError(Exception):
    """Invalid query parameters. The text is one sentence for the user."""


class Order(StrEnum):
    """The order of connections."""

    WORST = "worst"
    NAME = "name"
    SINCE = "since"
    """Most recent change first."""
    CERTIFICATE = "certificate"
    """Earliest certificate expiry first."""
    APPROVAL = "approval"
    """Earliest forecast end of approval first."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selection in a URL."""

    states: tuple[State, ...] = ()
    causes: tuple[Cause, ...] = ()
    responsible: tuple[Responsible, ...] = ()
    labels: tuple[str, ...] = ()
    """`key=value`, or `key` with any value."""
    text: str = ""
    """Searched in name, host, username, labels, and the codes and titles of causes."""
    order: Order = Order.WORST
    by: str = ""
    """The label to count by on the status page."""

    @classmethod
    def read(cls, parameters: QueryParams) -> Self:
        """Parse query parameters. Raises SelectionError."""
        return cls(
            states=_members(State, "state", parameters),
            causes=_members(Cause, "cause", parameters),
            responsible=_members(Responsible, "responsible", parameters),
            labels=tuple(dict.fromkeys(filter(None, map(str.strip, parameters.getlist("label"))))),
            text=parameters.get("q", "").strip()[:TEXT_AT_MOST],
            order=(_members(Order, "sort", parameters) or (Order.WORST,))[-1],
            by=parameters.get("by", "").strip()[:TEXT_AT_MOST],
        )

    def query(self, page: int = 1, **different: Any) -> str:
        """The relative URL of this selection with changes: `?state=failing`, or `./` for everything."""
        wanted = replace(self, **different)
        parameters = [
            *(("state", state) for state in wanted.states),
            *(("cause", cause) for cause in wanted.causes),
            *(("responsible", who) for who in wanted.responsible),
            *(("label", label) for label in wanted.labels),
            *([("q", wanted.text)] if wanted.text else []),
            *([("sort", wanted.order)] if wanted.order is not Order.WORST else []),
            *([("by", wanted.by)] if wanted.by else []),
            *([("page", page)] if page > 1 else []),
        ]
        return "?" + urlencode(parameters) if parameters else "./"

    def toggled(self, state: State) -> str:
        """The URL with only this state, or without it if it is already the only one."""
        return self.query(states=() if self.states == (state,) else (state,))

    @property
    def narrows(self) -> bool:
        """Whether it filters anything."""
        return bool(self.states or self.causes or self.responsible or self.labels or self.text)

    def of(self, statuses: Iterable[ConnectionStatus]) -> list[ConnectionStatus]:
        """The selected connections, in order."""
        chosen = [status for status in statuses if self._holds(status)] if self.narrows else list(statuses)
        chosen.sort(key=attrgetter("connection.name"))
        if self.order is not Order.NAME:
            chosen.sort(key=_KEYS[self.order])
        return chosen

    def _holds(self, status: ConnectionStatus) -> bool:
        if self.states and status.state not in self.states:
            return False
        findings = status.findings
        if self.causes and not any(found.cause in self.causes for found in findings):
            return False
        if self.responsible and not any(found.responsible in self.responsible for found in findings):
            return False
        if self.labels and not status.connection.has_labels(self.labels):
            return False
        return not self.text or self.text.casefold() in _searchable(status)


def since(status: ConnectionStatus) -> datetime | None:
    """The start of its first finding, or of its state without findings."""
    return status.findings[0].since if status.findings else status.history.state_since


_LATEST = datetime.max.replace(tzinfo=UTC)

_KEYS: dict[Order, Callable[[ConnectionStatus], Any]] = {
    Order.WORST: urgency,
    Order.SINCE: lambda status: -(found.timestamp() if (found := since(status)) else 0),
    Order.CERTIFICATE: lambda status: status.certificate_end or _LATEST,
    Order.APPROVAL: lambda status: status.forecast.at if status.forecast else _LATEST,
}


_Kind = TypeVar("_Kind", bound=StrEnum)


def _members(kind: type[_Kind], name: str, parameters: QueryParams) -> tuple[_Kind, ...]:
    known = {str(member): member for member in kind}
    found: dict[_Kind, None] = {}
    for value in filter(None, parameters.getlist(name)):
        if value not in known:
            raise SelectionError(f"Unknown {name} “{value[:60]}”. Known: {', '.join(known)}.")
        found[known[value]] = None
    return tuple(found)


def _searchable(status: ConnectionStatus) -> str:
    connection = status.connection
    parts = [connection.name, connection.login_url, connection.username]  # extracting the host is far slower
    parts += [f"{key}={value}" for key, value in connection.labels]
    for found in status.findings:
        parts += (found.cause, CATALOGUE[found.cause].title)
    return "\n".join(parts).casefold()
