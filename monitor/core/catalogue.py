"""The catalogue: texts and classification of each cause, from `catalogue.toml`, read once, at import."""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from monitor.core.causes import Cause, Responsible, Severity


class Kind(StrEnum):
    """Where a cause lies: what is at fault."""

    CREDENTIAL = "credential"
    """The key, the user, the app, or the org's settings for them: what this monitor watches."""
    SALESFORCE = "salesforce"
    """Salesforce's servers and limits, independent of the credential."""
    NETWORK = "network"
    """The way to the org: name, route, proxy, TLS."""
    OURS = "ours"
    """The monitor, or the machine it runs on."""


class Hold(StrEnum):
    """How long a cause must last before a notification. `Holds` has the times."""

    CONFIRMED = "confirmed"
    TRANSIENT = "transient"
    SETTLING = "settling"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Entry:
    """One cause's entry; the head of the file explains the fields."""

    title: str
    meaning: str
    severity: Severity
    responsible: Responsible
    kind: Kind
    remedy: tuple[str, ...]
    tell_apart: str
    guide: str | None = None
    settle: str | None = None
    hidden_by: tuple[Cause, ...] = ()
    remedy_with_next: tuple[str, ...] = ()
    contested: str | None = None
    hold: Hold = Hold.CONFIRMED
    no_verdict: bool = False
    shared_fault: bool = False
    stops_calls: bool = False
    refuses_signature: bool = False
    ends_approval: bool = False
    wrong_pair: bool = False
    network_mimics: bool = False
    certificate_dates: bool = False
    needs_exchange: bool = True

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


def read(text: str) -> Mapping[Cause, Entry]:
    """Reads a catalogue, keeping its order.

    Raises ValidationError with all wrong fields, or an error whose note names the cause with an unknown
    reference.
    """
    tables = tomllib.loads(text)
    rows = {}
    for code, row in tables["causes"].items():
        try:
            texts = {**tables["steps"], **tables["notes"], **tables["settle"]}
            hidden_by = [*_members(row.get("hidden_by", ()), tables["groups"])]
            rows[code] = {key: _text(value, texts) for key, value in {**row, "hidden_by": hidden_by}.items()}
        except (KeyError, ValueError) as error:
            error.add_note(f"in causes.{code}")
            raise
    return MappingProxyType(TypeAdapter(dict[Cause, Entry]).validate_python(rows))


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

_BY_CODE = {cause.value: entry for cause, entry in CATALOGUE.items()}


def entry_of(labels: Mapping[str, str]) -> Entry | None:
    """The entry of an alert's cause; None without a cause, or for one that only another version knows."""
    return _BY_CODE.get(labels.get("cause", ""))


def causes_where(holds: Callable[[Entry], object]) -> frozenset[Cause]:
    """The causes whose entry satisfies a condition."""
    return frozenset(cause for cause, entry in CATALOGUE.items() if holds(entry))
