"""Parses YAML into values with line numbers: only mappings, lists and texts.

The rest relies on this:

- Scalars stay text as written, without YAML's conversions: `no` is not a boolean, `1:30` is not 90, `007`
  keeps its zeros. Each option interprets its own text.
- Only a plain `null`, `~` or an empty value is None.
- Duplicate keys, merge keys, tags, a second document, and too deep nesting are errors.
- Aliases work, within bounds: a few hundred bytes of them can expand to billions of values.

Built on libyaml's events. Using its composer would save fifty lines, but for 10,000 connections its nodes
took 73 MiB more, and garbage collection 1.5 s (measured with PyYAML 6.0.4).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import yaml
from yaml import (
    AliasEvent,
    CollectionStartEvent,
    CSafeLoader,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from monitor.config.problem import quoted

DEEPEST = 32
"""Deepest nesting. The options need five levels."""

TOO_DEEP = f"is nested more than {DEEPEST} levels deep."

ALIASED = 10_000
"""Values that aliases may add, plus one per character of the text: far more than anyone writes by hand, and
linear in the size of the file."""

NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Block(dict[str, "Value"]):
    """A mapping, with the line of each key."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class Listing(list["Value"]):
    """A list, with the line of each entry."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


Value = str | None | Block | Listing
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A syntax error, or a violation of the rules above."""

    line: int | None
    path: Path
    message: str


def read(raw: bytes) -> tuple[Value, list[Mistake]]:
    """The value of a YAML text, and its mistakes. The value is None if a mistake ended the parsing."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        what = "UTF-16" if utf16 else f"byte 0x{raw[error.start]:02x}"
        return None, [Mistake(line, (), f"is not UTF-8 ({what}). Save it as UTF-8.")]
    reader = _Reader(yaml.parse(text, Loader=CSafeLoader), limit=ALIASED + len(text))
    value = None
    try:
        value = reader.document()
    except yaml.MarkedYAMLError as error:
        reader.mistakes.append(_syntax(error, text))
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        message = f"contains the control character {error.character:#06x}. Remove it."
        reader.mistakes.append(Mistake(line, (), message))
    except _StopError:
        pass
    return value, reader.mistakes


def line_of(value: Value, path: Path) -> int | None:
    """The line of the deepest existing part of a path."""
    line = None
    for step in path:
        if isinstance(value, Block) and isinstance(step, str) and step in value.lines:
            line, value = value.lines[step], value.get(step)
        elif isinstance(value, Listing) and isinstance(step, int) and step < len(value):
            line, value = value.lines[step], value[step]
        else:
            break
    return line if line is not None or not isinstance(value, Block | Listing) else value.line


def shown_path(value: Value, path: Path) -> str:
    """A path with connection names, such as `connections[3] "acme".audience`."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, Listing) and step < len(value) else None
            name = value.get("name") if isinstance(value, Block) else None
            shown += f"[{step}] {quoted(name)}" if isinstance(name, str) and name.strip() else f"[{step}]"
        else:
            value = value.get(step) if isinstance(value, Block) else None
            key = step if step.isidentifier() and len(step) <= 100 else quoted(step)
            shown += f".{key}" if shown else key
    return shown


def _line(event: Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1


class _StopError(Exception):
    """A mistake, already noted, that ends the parsing."""


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Mistake:
    """Libyaml's error, with advice if known."""
    mark = error.problem_mark or error.context_mark
    if error.context_mark and "end of stream" in (error.problem or ""):
        mark = error.context_mark  # for an unclosed quote: its start instead of the end of the file
    line = mark.line + 1 if mark else None
    lines = text.splitlines()
    written = lines[mark.line] if mark and mark.line < len(lines) else ""
    if mark and written[: mark.column + 1].strip(" ").startswith("\t"):
        return Mistake(line, (), "is indented with a tab. YAML indents with spaces.")
    if "maximum nesting depth" in (error.problem or ""):  # libyaml's own limit, since PyYAML 6.0.4
        return Mistake(line, (), TOO_DEEP)
    where = f" {error.context}" if error.context else ""
    advice = next((right for wrong, right in _ADVICE if wrong in (error.problem or "")), _OTHERWISE)
    return Mistake(line, (), f"is not YAML: {error.problem or 'it ends unexpectedly'}{where}.{advice}")


_ADVICE = (
    (
        "mapping values are not allowed",
        " Quote the value if it contains a colon; otherwise check the indentation.",
    ),
    ("cannot start any token", " Quote the value."),
    ("did not find expected '-' indicator", " Check its indentation, and any brackets before it."),
    ("did not find expected key", " Check its indentation, and any brackets before it."),
    ("could not find expected ':'", " Write the option, a colon, a space, and the value."),
    ("found unexpected end of stream", " Close the quote."),
    ("did not find expected ',' or", " Close the bracket or brace."),
)
"""Advice by libyaml's error."""

_OTHERWISE = " Check this line and the one before it for a missing quote, bracket or brace."


@dataclass(slots=True)
class _Reader:
    """Builds values from a text's events."""

    events: Iterator[Event]
    limit: int
    mistakes: list[Mistake] = field(default_factory=list)
    anchors: dict[str, tuple[Value, int]] = field(default_factory=dict)
    made: int = 0
    aliased: int = 0

    def document(self) -> Value:
        """The value of the only document; None if empty."""
        value, documents = None, 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(event, (), "contains a second YAML document (after ---). Use a file for each.")
            elif isinstance(event, NodeEvent):
                value = self._value(event, (), 0)
        return value

    def _value(self, event: Event, path: Path, depth: int) -> Value:
        if isinstance(event, AliasEvent):
            return self._aliased(event, path)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        before = self.made
        self.made += 1
        if event.tag is not None and not (event.tag == "!" and isinstance(event, ScalarEvent)):
            self._note(event, path, f"has the tag {quoted(event.tag)}. Tags are not supported: remove it.")
        if isinstance(event, ScalarEvent):
            value: Value = None if event.implicit[0] and event.value in NULLS else event.value
        elif depth == DEEPEST:
            self._stop(event, path, TOO_DEEP)
        elif isinstance(event, MappingStartEvent):
            value = self._block(event, path, depth + 1)
        else:
            value = self._listing(event, path, depth + 1)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.made - before)
        return value

    def _block(self, start: Event, path: Path, depth: int) -> Block:
        block = Block(_line(start))
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self._value(event, path, depth)
            if not isinstance(key, str):
                self._note(event, path, "has a key that is not a string. Quote it.")
            elif key == "<<":
                self._note(
                    event, path, "has the merge key <<, which is not supported. Write the options out."
                )
                merged = self._value(next(self.events), path, depth)
                for name, value in merged.items() if isinstance(merged, Block) else ():
                    block.setdefault(name, value)  # so that they are not reported as missing, too
                continue
            elif first := block.lines.get(key):
                self._note(event, (*path, key), f"is given twice, first on line {first}. Keep one.")
            else:
                block.lines[key] = _line(event)
                block[key] = self._value(next(self.events), (*path, key), depth)
                continue
            self._value(next(self.events), path, depth)
        return block

    def _listing(self, start: Event, path: Path, depth: int) -> Listing:
        listing = Listing(_line(start))
        while not isinstance(event := next(self.events), SequenceEndEvent):
            listing.lines.append(_line(event))
            listing.append(self._value(event, (*path, len(listing)), depth))
        return listing

    def _aliased(self, event: AliasEvent, path: Path) -> Value:
        if event.anchor not in self.anchors:
            self._stop(event, path, f"uses the alias *{event.anchor}, which is not defined yet.")
        value, size = self.anchors[event.anchor]
        self.made += size
        self.aliased += size
        if self.aliased > self.limit:
            self._stop(event, path, "expands to too much through aliases. Write it out.")
        return value

    def _note(self, event: Event, path: Path, message: str) -> None:
        self.mistakes.append(Mistake(_line(event), path, message))

    def _stop(self, event: Event, path: Path, message: str) -> NoReturn:
        self._note(event, path, message)
        raise _StopError
