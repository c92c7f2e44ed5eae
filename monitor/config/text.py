"""YAML text to values with their lines: mappings, lists and texts, nothing else.

Behaviours that the rest relies on:

- Every scalar stays the text that was written, so YAML's own guesses cannot bite: `no` is no truth value,
  `1:30` is not 90, `007` keeps its zeros. What a text means is for the option to say that it is written for.
- Only a plain `null`, `~` or nothing at all is None.
- Keys written twice, merge keys, tags, a second document, and anything nested too deep are problems.
- Aliases work, within bounds: a few hundred bytes of them can stand for billions of values.

It is built on libyaml's events. Its composer would do with fifty lines less, but the nodes of 10,000
connections took another 73 MiB, and the collector's passes over them 1.5 s more (measured with PyYAML 6.0.4).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

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
"""Levels of nesting. The options need five."""

TOO_DEEP = f"is nested more than {DEEPEST} levels deep."

ALIASED = 10_000
"""Values that aliases may add, beside one for each character of the text: far more than anybody shares by
hand, and linear in what was written, so that expanding them costs no more than reading the file."""

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
    """Something wrong with the text itself."""

    line: int | None
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Text:
    """What a text holds, as far as it could be read, and what is wrong with it."""

    value: Value
    mistakes: tuple[Mistake, ...] = ()


def read(raw: bytes) -> Text:
    """The values of a YAML text, and its mistakes; None where one of them ends the reading."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        what = "UTF-16" if utf16 else f"byte 0x{raw[error.start]:02x}"
        return Text(None, (Mistake(line, (), f"is not UTF-8 ({what}). Save it as UTF-8."),))
    reader = _Reader(yaml.parse(text, Loader=CSafeLoader), limit=ALIASED + len(text))
    try:
        return Text(reader.document(), tuple(reader.mistakes))
    except yaml.MarkedYAMLError as error:
        ended_by = _syntax(error, text)
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        ended_by = Mistake(line, (), f"holds the control character {error.character:#06x}. Remove it.")
    except _StopError as error:
        ended_by = error.mistake
    return Text(None, (*reader.mistakes, ended_by))


def line_of(value: Value, path: Path) -> int | None:
    """The line of the deepest part of a path that is there."""
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
    """`connections[3] "acme".audience`: a path, with the names of the connections that it passes."""
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
    """A mistake after which there is nothing sensible to read on."""

    def __init__(self, event: Event, path: Path, message: str) -> None:
        self.mistake = Mistake(_line(event), path, message)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Mistake:
    """Libyaml's complaint, in words that say what to do where that is known."""
    mark = error.problem_mark or error.context_mark
    if error.context_mark and "end of stream" in (error.problem or ""):
        mark = error.context_mark  # a quote that is never closed: where it begins, not where the file ends
    line = mark.line + 1 if mark else None
    lines = text.splitlines()
    written = lines[mark.line] if mark and mark.line < len(lines) else ""
    if mark and written[: mark.column + 1].strip(" ").startswith("\t"):
        return Mistake(line, (), "is indented with a tab. YAML indents with spaces.")
    if "maximum nesting depth" in (error.problem or ""):  # libyaml's own bound, in PyYAML from 6.0.4 on
        return Mistake(line, (), TOO_DEEP)
    where = f" {error.context}" if error.context else ""
    advice = next((right for wrong, right in _ADVICE if wrong in (error.problem or "")), "")
    return Mistake(line, (), f"is not YAML: {error.problem or 'it breaks off'}{where}.{advice}")


_ADVICE = (
    ("mapping values are not allowed", " Quote the value if it holds a colon, else look at the indentation."),
    ("cannot start any token", " Quote the value."),
    ("did not find expected '-' indicator", " Look at its indentation, and at brackets before it."),
    ("did not find expected key", " Look at its indentation, and at brackets before it."),
    ("could not find expected ':'", " Write the option, a colon, a blank, and the value."),
    ("found unexpected end of stream", " Close the quote."),
    ("did not find expected ',' or", " Close the bracket or brace."),
)
"""What would be right, by what libyaml complains of; its other complaints say it themselves."""


@dataclass(slots=True)
class _Reader:
    """Takes the values out of a text's events."""

    events: Iterator[Event]
    limit: int
    mistakes: list[Mistake] = field(default_factory=list)
    anchors: dict[str, tuple[Value, int]] = field(default_factory=dict)
    made: int = 0
    aliased: int = 0

    def document(self) -> Value:
        """The value of the only document; None where there is none."""
        value, documents = None, 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _StopError(
                        event, (), "holds a second YAML document (after ---). Use one file each."
                    )
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
            self._note(event, path, f"has the tag {quoted(event.tag)}. Tags are not supported: leave it out.")
        if isinstance(event, ScalarEvent):
            value: Value = None if event.implicit[0] and event.value in NULLS else event.value
        elif depth == DEEPEST:
            raise _StopError(event, path, TOO_DEEP)
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
            if self._is_key(key, block, event, path):
                block.lines[key] = _line(event)
                block[key] = self._value(next(self.events), (*path, key), depth)
            else:
                self._value(next(self.events), path, depth)
        return block

    def _listing(self, start: Event, path: Path, depth: int) -> Listing:
        listing = Listing(_line(start))
        while not isinstance(event := next(self.events), SequenceEndEvent):
            listing.lines.append(_line(event))
            listing.append(self._value(event, (*path, len(listing)), depth))
        return listing

    def _is_key(self, key: Value, block: Block, event: Event, path: Path) -> TypeGuard[str]:
        if not isinstance(key, str):
            self._note(event, path, "has a key that is not a text. Quote it.")
        elif key == "<<":
            self._note(event, path, "has the merge key <<, which is not supported. Write the options out.")
        elif key in block.lines:
            first = block.lines[key]
            self._note(event, (*path, key), f"is written twice: first in line {first}. Keep one of the two.")
        else:
            return True
        return False

    def _aliased(self, event: AliasEvent, path: Path) -> Value:
        if event.anchor not in self.anchors:
            raise _StopError(event, path, f"uses the alias *{event.anchor}, which is not defined yet.")
        value, size = self.anchors[event.anchor]
        self.made += size
        self.aliased += size
        if self.aliased > self.limit:
            raise _StopError(event, path, "uses aliases to hold more than it could without. Write it out.")
        return value

    def _note(self, event: Event, path: Path, message: str) -> None:
        self.mistakes.append(Mistake(_line(event), path, message))
