"""The catalogue: texts and classification of each cause, from `catalogue.toml`, read once, at import."""

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
    """Where a cause lies."""

    CREDENTIAL = "credential"
    """The key, the user, the app, or the org's settings for them: what this monitor watches."""
    SALESFORCE = "salesforce"
    """Salesforce's servers and limits, independent of the credential."""
    NETWORK = "network"
    """The way to the org: name, route, proxy, TLS."""
    OURS = "ours"
    """The monitor, or the machine it runs on."""


class Hold(StrEnum):
    """How long a cause must last before a notification; `Holds` has the times."""

    CONFIRMED = "confirmed"
    """Until a second check has confirmed it."""
    TRANSIENT = "transient"
    """Until it has outlasted passing faults of network or server (`alerts.transient_for`)."""
    SETTLING = "settling"
    """Until all settle times are over."""
    THROTTLED = "throttled"
    """Until the delayed check after `login rate exceeded` has confirmed it."""


@dataclass(frozen=True, slots=True, config=_EXACT)
class Settle:
    """How long a change may take to propagate; a refusal in that time proves nothing."""

    shortest: timedelta
    longest: timedelta
    source: str


@dataclass(frozen=True, slots=True, config=_EXACT)
class Entry:
    """One cause's entry. Remedies use the terms of the guide and of Salesforce's Setup."""

    title: str
    """A few words, usable as a heading."""
    meaning: str
    """What is wrong, and why that stops or endangers the integration."""
    severity: Severity
    """The default. A diagnosis may choose another, for example a milder one while logins are granted."""
    responsible: Responsible
    kind: Kind
    remedy: tuple[str, ...]
    """What to do, in order; `wording.steps` fills in the connection."""
    tell_apart: str
    """How to distinguish it from causes that look the same."""
    guide: str | None = None
    """The setup guide's section, such as `step 4`; None if the guide does not cover it."""
    settle: Settle | None = None
    """How long after a change the refusal may end by itself; None: it won't."""
    hidden_by: tuple[Cause, ...] = ()
    """Causes that mask this one: fixing them may reveal it."""
    remedy_with_next: tuple[str, ...] = ()
    """Steps to do first if a next pair is configured."""
    contested: str | None = None
    """What each source says, if they contradict the guide or each other."""
    hold: Hold = Hold.CONFIRMED
    no_verdict: bool = False
    """Says nothing about the credential: the state is unknown."""
    shared_fault: bool = False
    """If many connections have it at once, the fault is shared: network, our clock or address."""
    stops_calls: bool = False
    """If the API call is refused for it, the connection is failing although a token was granted."""
    refuses_signature: bool = False
    """The app's certificate does not verify the signature."""
    ends_approval: bool = False
    """Ends an approval. Only `approval_decayed` says something about the next one's lifetime."""
    wrong_pair: bool = False
    """The answer to a wrong address or audience; any other answer means that these are right."""
    network_mimics: bool = False
    """A fault of our network looks the same, so many at once are one fault."""
    certificate_dates: bool = False
    """Concerns the certificate's dates."""
    needs_exchange: bool = True
    """Whether it shows in the answer to a login."""

    @property
    def transient(self) -> bool:
        """Whether it may pass by itself after one failed exchange."""
        return self.hold is Hold.TRANSIENT

    @property
    def passing(self) -> bool:
        """Whether any other result of an exchange ends it, regardless of the verdict before."""
        return self.hold in {Hold.TRANSIENT, Hold.SETTLING}

    @property
    def unanswered(self) -> bool:
        """Whether the org did not answer, so that another audience at the same address would not help."""
        return self.transient and self.kind is not Kind.OURS

    @property
    def hopeless(self) -> bool:
        """Whether no other address or audience would help."""
        return self.kind is not Kind.CREDENTIAL and not self.unanswered


class CatalogueError(ValueError):
    """All errors in a catalogue, one per line, with location."""


def read(text: str) -> Mapping[Cause, Entry]:
    """Reads a catalogue, keeping its order. Raises CatalogueError or TOMLDecodeError."""
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
    """The row with its references resolved. Raises KeyError with an unknown name."""
    texts = {**tables.get("steps", {}), **tables.get("notes", {})}
    whole = dict(row)
    if "hidden_by" in row:
        whole["hidden_by"] = list(_members(row["hidden_by"], tables.get("groups", {})))
    if "settle" in row:
        settle = tables.get("settle", {})[row["settle"]]
        whole["settle"] = {key: _text(value, texts) for key, value in settle.items()}
    return {key: _text(value, texts) for key, value in whole.items()}


def _text(value: Any, texts: Mapping[str, str]) -> Any:
    """A text, or a list of texts, as one line with references resolved; other values unchanged."""
    if isinstance(value, list):
        return [_text(each, texts) for each in value]
    return " ".join(value.format_map(texts).split()) if isinstance(value, str) else value


def _members(names: Iterable[str], groups: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """The names, with group references replaced by their members."""
    for name in names:
        if name.startswith("{"):
            yield from _members(groups[name.strip("{}")], groups)
        else:
            yield name


CATALOGUE = read(files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8"))
"""All causes, with what alerts, pages, runbooks and diagnoses say about them."""


def causes_where(holds: Callable[[Entry], object]) -> frozenset[Cause]:
    """The causes whose entry satisfies a condition."""
    return frozenset(cause for cause, entry in CATALOGUE.items() if holds(entry))
