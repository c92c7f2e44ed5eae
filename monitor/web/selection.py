"""Which connections are asked for, and in which order: read from an address, and written into one.

The page and the JSON take the same parameters. Values of one parameter are alternatives, but labels must all
hold; different parameters must all hold. Parameters that nobody knows are passed over.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause, Responsible
from monitor.core.finding import State
from monitor.core.status import ConnectionStatus, urgency

TEXT_AT_MOST = 200
"""Characters of a search: a name has 100 at most, and nobody types more."""


class SelectionError(Exception):
    """The address asks for something that there is not. Its text is a sentence for whoever wrote it."""


class Order(StrEnum):
    """In which order the connections stand."""

    WORST = "worst"
    NAME = "name"
    SINCE = "since"
    """What changed last comes first."""
    CERTIFICATE = "certificate"
    """The certificate that ends first comes first."""
    APPROVAL = "approval"
    """The approval that is forecast to end first comes first."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What the address asks for."""

    states: tuple[State, ...] = ()
    causes: tuple[Cause, ...] = ()
    responsible: tuple[Responsible, ...] = ()
    labels: tuple[str, ...] = ()
    """Each `key=value`, or a `key` that must be there."""
    text: str = ""
    """To be found in name, host, username, labels, or the code or title of a cause."""
    order: Order = Order.WORST
    by: str = ""
    """The label by whose values the status page counts."""

    @classmethod
    def read(cls, parameters: QueryParams) -> Self:
        """The selection of an address. Raises SelectionError."""
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
        """The address of this selection with what differs: `?state=failing`, or `./` where that is all."""
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
        """The address with this state alone; without it where it is the one that is asked for."""
        return self.query(states=() if self.states == (state,) else (state,))

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.states or self.causes or self.responsible or self.labels or self.text)

    def of(self, statuses: Iterable[ConnectionStatus]) -> list[ConnectionStatus]:
        """The connections that are asked for, in the order asked for."""
        chosen = [status for status in statuses if self._holds(status)] if self.narrows else list(statuses)
        chosen.sort(key=lambda status: status.name)
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
    """Since when it is as it is: its first finding holds, or its state where there is none."""
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
            raise SelectionError(f"There is no {name} “{value[:60]}”. There are: {', '.join(known)}.")
        found[known[value]] = None
    return tuple(found)


def _searchable(status: ConnectionStatus) -> str:
    connection = status.connection
    parts = [connection.name, connection.login_url, connection.username]  # finding the host costs far more
    parts += [f"{key}={value}" for key, value in connection.labels]
    for found in status.findings:
        parts += (found.cause, CATALOGUE[found.cause].title)
    return "\n".join(parts).casefold()
