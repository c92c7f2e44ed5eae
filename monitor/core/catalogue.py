"""The catalogue: what is said about each cause, and which class it is of, read from `catalogue.toml`.

That file is part of the package, and read once, at import: no function of the core reads any.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from monitor.core.causes import Cause, Responsible, Severity

_EXACT = ConfigDict(extra="forbid")


class Kind(StrEnum):
    """What a cause is a fault of."""

    CREDENTIAL = "credential"
    """The key, the user, the app or the org's settings for them: what this monitor watches."""
    SALESFORCE = "salesforce"
    """Salesforce's servers and limits, whatever the credential."""
    NETWORK = "network"
    """The way to the org: name, route, proxy, TLS."""
    OURS = "ours"
    """The monitor, or the machine it runs on."""


class Hold(StrEnum):
    """How long a cause must hold before anybody is notified; `Holds` has the times of a configuration."""

    CONFIRMED = "confirmed"
    """Until a second look has confirmed it."""
    TRANSIENT = "transient"
    """Until it is no passing fault of network or server (`alerts.transient_for`): one failed exchange does
    not prove that it lasts."""
    SETTLING = "settling"
    """Until every settle time is over."""
    THROTTLED = "throttled"
    """Until the late look after a spent login limit has confirmed it."""


@dataclass(frozen=True, slots=True, config=_EXACT)
class Settle:
    """How long a change may take to reach every server, so that a refusal in that time proves nothing."""

    shortest: timedelta
    longest: timedelta
    source: str


@dataclass(frozen=True, slots=True, config=_EXACT)
class Entry:
    """What the catalogue says of one cause. Remedies use the names of the guide and of Salesforce's Setup."""

    title: str
    """A few words that can head a page."""
    meaning: str
    """What is so, and why that stops or endangers the integration."""
    severity: Severity
    """The severity unless a diagnosis has reason for another: a finding beside a grant may be milder."""
    responsible: Responsible
    kind: Kind
    remedy: tuple[str, ...]
    """What to do, in this order; `wording.steps` makes it fit a connection."""
    tell_apart: str
    """What would show that it is this cause and not one that looks the same."""
    guide: str | None = None
    """Where the setup guide speaks of it: `step 4`. None where it doesn't."""
    settle: Settle | None = None
    """Within which time of a change a refusal of this kind may end by itself. None where it won't."""
    hidden_by: tuple[Cause, ...] = ()
    """Causes that answer first while both hold, so that mending them may bring this one to light."""
    remedy_with_next: tuple[str, ...] = ()
    """What to do before, where a next pair is configured."""
    contested: str | None = None
    """Where sources contradict the guide or each other: what each says, and which it is."""
    hold: Hold = Hold.CONFIRMED
    no_verdict: bool = False
    """It says nothing about the credential: the state is unknown."""
    shared_fault: bool = False
    """Where many connections have it at once, it is not an org's own: the network, our clock or address."""
    stops_calls: bool = False
    """If the first call is refused for it, the connection is failing although a token was granted."""
    refuses_signature: bool = False
    """The app's certificate does not prove the signature."""
    ends_approval: bool = False
    """It ends an approval. Only `approval_decayed` tells something about the lifetime of the next."""
    wrong_pair: bool = False
    """A wrong address or audience is answered with it; an exchange with any other answer got further."""
    network_mimics: bool = False
    """A fault of our own network looks the same, so that many at once are one."""
    certificate_dates: bool = False
    """It is about the certificate's dates."""
    needs_exchange: bool = True
    """Whether a login from another client would show it."""

    @property
    def transient(self) -> bool:
        """Whether one failed exchange does not prove that it lasts."""
        return self.hold is Hold.TRANSIENT

    @property
    def passing(self) -> bool:
        """Whether it is over once another exchange finds something else, whatever the verdict before it."""
        return self.hold in {Hold.TRANSIENT, Hold.SETTLING}

    @property
    def unanswered(self) -> bool:
        """Whether nobody answered for the org: no other audience at the same address would help."""
        return self.transient and self.kind is not Kind.OURS

    @property
    def hopeless(self) -> bool:
        """Whether no other address or audience would help, although there may have been an answer."""
        return self.kind is not Kind.CREDENTIAL and not self.unanswered


class CatalogueError(ValueError):
    """All that is wrong with a catalogue: a line each, with its place."""


def read(text: str) -> Mapping[Cause, Entry]:
    """The catalogue that a TOML text holds, in its order.

    Raises CatalogueError, or TOMLDecodeError where the text is not TOML.
    """
    tables = tomllib.loads(text)
    rows = tables.get("causes", {})
    problems = [f"{name}: unknown table" for name in tables if name not in _TABLES]
    problems += [f"causes.{cause}: missing" for cause in Cause if cause not in rows]
    whole = {}
    for code, row in rows.items():
        try:
            whole[code] = _expanded(row, tables)
        except KeyError as name:
            problems.append(f"causes.{code}: nothing is called {name}")
        except ValueError as error:
            problems.append(f"causes.{code}: {error}")
    try:
        entries = _ENTRIES.validate_python(whole)
    except ValidationError as error:
        for wrong in error.errors():
            place = ".".join(str(part) for part in wrong["loc"] if part != "[key]")
            problems.append(f"causes.{place}: {wrong['msg']}")
    if problems:
        raise CatalogueError("\n".join(problems))
    return MappingProxyType(entries)


_TABLES = {"steps", "notes", "groups", "settle", "causes"}
_ENTRIES = TypeAdapter(dict[Cause, Entry])


def _expanded(row: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """The row with all that it refers to by name. Raises KeyError with a name that is not there."""
    texts = {**tables.get("steps", {}), **tables.get("notes", {})}
    whole = dict(row)
    if "hidden_by" in row:
        whole["hidden_by"] = list(_members(row["hidden_by"], tables.get("groups", {})))
    if "settle" in row:
        settle = tables.get("settle", {})[row["settle"]]
        whole["settle"] = {key: _text(value, texts) for key, value in settle.items()}
    return {key: _text(value, texts) for key, value in whole.items()}


def _text(value: Any, texts: Mapping[str, str]) -> Any:
    """A text, or a list of them, on one line and with its references; anything else as it is."""
    if isinstance(value, list):
        return [_text(each, texts) for each in value]
    return " ".join(value.format_map(texts).split()) if isinstance(value, str) else value


def _members(names: Iterable[str], groups: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """The names, with the members of a group in place of its reference."""
    for name in names:
        if name.startswith("{"):
            yield from _members(groups[name.strip("{}")], groups)
        else:
            yield name


CATALOGUE = read(files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8"))
"""Every cause has its entry: what the alerts, pages, runbooks and diagnoses say of it."""


def causes_where(holds: Callable[[Entry], object]) -> frozenset[Cause]:
    """The causes for whose entry this holds."""
    return frozenset(cause for cause, entry in CATALOGUE.items() if holds(entry))
