"""The queries of an audit, from `reads.toml`, read once, at import; and the rows of their answers."""

import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

Value = str | bool | int | None
Row = dict[str, Value]
"""A record, by field names as in the query (`PermissionSet.Name`)."""

Rows = dict["Read", tuple[Row, ...]]


def text(row: Row | None, name: str) -> str:
    """A field as text; empty if missing."""
    value = row.get(name) if row else None
    return value if isinstance(value, str) else ""


def time_in(row: Row | None, name: str) -> datetime | None:
    """A field as a UTC time; None if it isn't one or is outside the years BELIEVED."""
    if not (written := text(row, name)):
        return None
    try:
        at = datetime.fromisoformat(written)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return at if at.year in BELIEVED else None


BELIEVED = range(2000, 2201)
"""Plausible years: Salesforce was founded in 1999, and policies add at most centuries, so no computed date
overflows."""


class Permission(StrEnum):
    """System permissions that show more than the user's own rows, by their names in Setup."""

    VIEW_SETUP = "View Setup and Configuration"
    VIEW_APPS = "View all External Client Apps"
    VIEW_TRAIL = "View Setup Audit Trail"
    MANAGE_USERS = "Manage Users"


UNLIMITED_AT_MOST = 200
"""Most rows of a query without LIMIT, or of a list within one record: a profile's IP ranges. Our choice."""

OBJECT = "EntityDefinition.QualifiedApiName"
"""The field with an object's API name."""


class Read(StrEnum):
    """One item that an audit reads."""

    ACCESS = "access"
    USER = "user"
    LOGINS = "logins"
    ORG = "org"
    ASSIGNMENTS = "assignments"
    APP = "app"
    POLICY = "policy"
    ENABLED = "enabled"
    CLASSIC = "classic"
    ASSOCIATION = "association"
    TRAIL = "trail"
    TOKENS = "tokens"
    SCOPES = "scopes"
    PROFILE = "profile"
    OBJECTS = "objects"
    SANDBOXES = "sandboxes"


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Query:
    """How one item is read; the head of the file explains the fields."""

    soql: str
    needs: tuple[Permission, ...] = ()
    of_others: Permission | None = None
    own: bool = False
    unfold: tuple[str, ...] = ()
    tooling: bool = False

    @property
    def of(self) -> str:
        """The queried object."""
        return self.soql.partition(" FROM ")[2].split()[0]

    @property
    def fields(self) -> Sequence[str]:
        """The names of the rows' fields."""
        selected = self.soql.partition(" FROM ")[0].removeprefix("SELECT ")
        return self.unfold[1:] or selected.split(", ")

    @property
    def most(self) -> int:
        """Most rows to keep, even if the org returns more."""
        limit = self.soql.partition(" LIMIT ")[2]
        return int(limit) if limit and not self.unfold else UNLIMITED_AT_MOST

    def filled(self, values: Mapping[str, str | tuple[str, ...]]) -> str:
        """The query with these values. Raises KeyError with the name of a missing one."""
        return self.soql.format_map(
            {
                name: _escaped(value) if isinstance(value, str) else "', '".join(map(_escaped, value))
                for name, value in values.items()
            }
        )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _queries(tables: Mapping[str, Mapping[str, object]]) -> Mapping[Read, Query]:
    rows = {name: {**row, "soql": " ".join(str(row["soql"]).split())} for name, row in tables.items()}
    return MappingProxyType(TypeAdapter(dict[Read, Query]).validate_python(rows))


QUERIES = _queries(tomllib.loads(files(__package__).joinpath("reads.toml").read_text(encoding="utf-8")))
"""In query order."""
