"""Types of single options, such as durations and paths."""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from monitor.config import words
from monitor.config.files import FileError, trust_authorities
from monitor.config.problem import quoted
from monitor.core.connection import Band

MOST_LABELS = 20
"""Most labels per connection: all are sent with every scrape."""


def resolved(value: object, info: ValidationInfo) -> str:
    """A path made absolute from its file's directory. Links stay, since a rotation may swap them."""
    directory: str = (info.context or {}).get("directory", "")
    return os.path.normpath(os.path.join(directory, words.path(value)))  # noqa: PTH118 - for speed


def _trusted(path: Path) -> Path:
    """The path of certificate authorities in PEM."""
    try:
        trust_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
    except FileError as error:
        raise ValueError(f'"{path}" {error}') from None
    return path


def default_duration(duration: timedelta) -> Any:
    """A default duration, shown in the schema as the operator would write it."""
    return Field(default=duration, json_schema_extra={"default": words.written_duration(duration)})


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
URL: dict[str, Any] = {"type": "string", "format": "uri"}
DURATION: dict[str, Any] = {
    "type": "string",
    "pattern": "^([0-9]+[smhdw])+$",
    "examples": ["5m", "1h30m", "90d"],
}


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """Annotates an option: the function that parses it, usually one of `words`, and its JSON Schema."""

    parse: Callable[..., object]
    schema: Mapping[str, Any] = field(default_factory=lambda: TEXT)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return BeforeValidator(self.parse).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: object) -> dict[str, Any]:
        return dict(self.schema)


def between(least: timedelta, most: timedelta, reason: str) -> Parsed:
    """Annotates a duration within bounds; the message for others gives the reason."""

    def parse(value: object) -> timedelta:
        meant = words.duration(value)
        if not least <= meant <= most:
            bounds = f"{words.written_duration(least)} to {words.written_duration(most)}"
            raise ValueError(f"{quoted(value)} is outside {bounds}: {reason}")
        return meant

    return Parsed(parse, DURATION)


def up_to(most: int, reason: str) -> Parsed:
    """Annotates an integer from 1 on; the message for others gives the reason."""

    def parse(value: object) -> int:
        written = words.text(value)
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", written):
            raise ValueError(f"{quoted(written)} is not a whole number. Use 1 to {most:,}.")
        number = int(written)
        if not 1 <= number <= most:
            raise ValueError(f"{number} is outside 1 to {most:,}: {reason}")
        return number

    return Parsed(parse, {"type": "integer", "minimum": 1, "maximum": most})


class OneOf:
    """Annotates a Literal: one of its words."""

    def __get_pydantic_core_schema__(self, literal: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            words.one_of(*get_args(literal)), handler(literal)
        )


_SHARE_OR_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?%|([0-9]+[smhdw])+)$"}
_BAND: dict[str, Any] = {
    "oneOf": [_SHARE_OR_DURATION, {"type": "array", "items": _SHARE_OR_DURATION, "maxItems": 3}]
}
Place = Annotated[Path, Parsed(resolved)]
Authorities = Annotated[Place, AfterValidator(_trusted)]
Name = Annotated[str, Parsed(words.connection_name, {"type": "string", "pattern": f"^{words.NAME.pattern}$"})]
Url = Annotated[str, Parsed(words.web_url, URL)]
HostName = Annotated[str, Parsed(words.host_name, {"type": "string", "format": "hostname"})]
UtcTime = Annotated[
    datetime | None,
    Parsed(words.utc_time, {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]
LabelName = Annotated[
    str, Parsed(words.label_name, {"type": "string", "pattern": f"^{words.LABEL.pattern}$"})
]
Flag = Annotated[bool, Parsed(words.flag, {"type": "boolean"})]
Labels = Annotated[
    tuple[tuple[str, str], ...],
    Parsed(
        words.labels,
        {
            "type": "object",
            "maxProperties": MOST_LABELS,
            "propertyNames": {"pattern": f"^{words.LABEL.pattern}$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
    ),
    Field(max_length=MOST_LABELS),
]
MOST_OBJECTS = 50
"""The URL of an audit's query holds their names."""
Objects = Annotated[
    tuple[tuple[str, tuple[str, ...]], ...],
    Parsed(
        words.objects,
        {
            "type": "object",
            "maxProperties": MOST_OBJECTS,
            "propertyNames": {"pattern": f"^{words.OBJECT.pattern}$"},
            "additionalProperties": {"type": "array", "items": {"enum": [*words.ACCESS]}},
        },
    ),
    Field(max_length=MOST_OBJECTS),
]
Repeat = Annotated[
    timedelta,
    between(timedelta(minutes=5), timedelta(days=30), "more often is noise, less often is forgotten."),
]
Interval = Annotated[
    timedelta,
    between(
        timedelta(seconds=10),
        timedelta(days=7),
        "an exchange takes seconds, and within a week users notice a failure first.",
    ),
]
Settle = Annotated[
    timedelta,
    between(timedelta(0), timedelta(hours=24), "Salesforce takes 2 to 10 minutes (setup guide, step 2)."),
]
ExpiryBand = Annotated[Band | None, Parsed(words.band, _BAND)]


class Options(BaseModel):
    """What every block of options shares: an unknown key is an error, and docstrings describe the options."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # only the outermost blocks are ever built: each command starts a seventh faster
    )

    removed: ClassVar[Mapping[str, str]] = {}
    """Removed or misplaced options, each with its message."""
    former: ClassVar[Mapping[str, str]] = {}
    """Options without effect, each with the reason. One version accepts them with a warning."""

    @field_validator("*", mode="before")
    @classmethod
    def _not_empty(cls, value: object, info: ValidationInfo) -> object:
        """Refuse an empty value, except of a list or mapping, whose entries may be commented out."""
        if value is not None:
            return value
        field = cls.model_fields[info.field_name or ""]
        if field.is_required():
            return value  # its own parser says what it needs
        if isinstance(field.default, tuple | frozenset):
            return field.default
        raise ValueError(words.EMPTY)


@dataclass(frozen=True, slots=True)
class Written:
    """Annotates a type: parsed from a block of options, then converted."""

    options: type[Options]
    meant: Callable[[Any], object]

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.meant, handler.generate_schema(self.options))
