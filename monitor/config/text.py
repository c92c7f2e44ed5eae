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

import yaml
from yaml import (
    AliasEvent,
    CSafeLoader,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
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
    reader = _Reader(limit=ALIASED + len(text))
    try:
        reader.read(yaml.parse(text, Loader=CSafeLoader))
    except yaml.MarkedYAMLError as error:
        reader.stop(_syntax(error, text))
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        reader.stop(Mistake(line, (), f"holds the control character {error.character:#06x}. Remove it."))
    except _StopError as error:
        reader.stop(error.mistake)
    return Text(reader.value, tuple(reader.mistakes))


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

    def __init__(self, mistake: Mistake) -> None:
        self.mistake = mistake


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
class _Open:
    """A mapping or list whose end has not been read."""

    value: Block | Listing
    anchor: str | None
    before: int
    """Values made before it began: the difference at its end is its size."""
    key: str | None = None
    awaiting_key: bool = True
    ignored: bool = False
    """Whether the value to come belongs to a key that was refused."""


@dataclass(slots=True)
class _Reader:
    limit: int
    value: Value = None
    mistakes: list[Mistake] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Value, int]] = field(default_factory=dict)
    made: int = 0
    aliased: int = 0
    documents: int = 0

    def stop(self, mistake: Mistake) -> None:
        self.value = None
        self.mistakes.append(mistake)

    def read(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, ScalarEvent):
                self._scalar(event)
            elif isinstance(event, MappingStartEvent | SequenceStartEvent):
                self._begin(event)
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                self._end()
            elif isinstance(event, AliasEvent):
                self._alias(event)
            elif isinstance(event, DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    raise self._stopping(
                        event, "holds a second YAML document (after ---). Use one file each."
                    )

    def _scalar(self, event: ScalarEvent) -> None:
        self.made += 1
        plain = event.implicit[0]
        if event.tag is not None and event.tag != "!":
            self._note(event, f"has the tag {quoted(event.tag)}. Tags are not supported: leave it out.")
        value = None if plain and event.value in NULLS else event.value
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)
        self._add(value, event)

    def _begin(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        if len(self.stack) == DEEPEST:
            raise self._stopping(event, TOO_DEEP)
        if event.tag is not None:
            self._note(event, f"has the tag {quoted(event.tag)}. Tags are not supported: leave it out.")
        line = _line(event)
        value = Block(line) if isinstance(event, MappingStartEvent) else Listing(line)
        before = self.made
        self.made += 1
        self._add(value, event)
        self.stack.append(_Open(value, event.anchor, before))

    def _end(self) -> None:
        closed = self.stack.pop()
        if closed.anchor:
            self.anchors[closed.anchor] = (closed.value, self.made - closed.before)

    def _alias(self, event: AliasEvent) -> None:
        if event.anchor not in self.anchors:
            raise self._stopping(event, f"uses the alias *{event.anchor}, which is not defined yet.")
        value, size = self.anchors[event.anchor]
        self.made += size
        self.aliased += size
        if self.aliased > self.limit:
            raise self._stopping(event, "uses aliases to hold more than it could without. Write it out.")
        self._add(value, event)

    def _add(self, value: Value, event: Event) -> None:
        line = _line(event)
        if not self.stack:
            self.value = value
            return
        top = self.stack[-1]
        if isinstance(top.value, Listing):
            top.value.append(value)
            top.value.lines.append(line)
        elif top.awaiting_key:
            self._key(top, value, event)
        else:
            top.awaiting_key = True
            if not top.ignored and top.key is not None:
                top.value[top.key] = value

    def _key(self, top: _Open, key: Value, event: Event) -> None:
        assert isinstance(top.value, Block)
        top.awaiting_key, top.ignored, top.key = False, True, None
        if not isinstance(key, str):
            self._note(event, "has a key that is not a text. Quote it.")
        elif key == "<<":
            self._note(event, "has the merge key <<, which is not supported. Write the options out.")
        elif key in top.value.lines:
            first = top.value.lines[key]
            self._note(event, f"is written twice: first in line {first}. Keep one of the two.", key)
        else:
            top.key, top.ignored = key, False
            top.value.lines[key] = _line(event)

    def _path(self) -> Path:
        """Where reading stands."""
        path: list[str | int] = []
        for opened in self.stack[:-1]:
            if isinstance(opened.value, Listing):
                path.append(len(opened.value) - 1)
            elif opened.key is not None:
                path.append(opened.key)
        return tuple(path)

    def _note(self, event: Event, message: str, *key: str) -> None:
        self.mistakes.append(Mistake(_line(event), (*self._path(), *key), message))

    def _stopping(self, event: Event, message: str) -> _StopError:
        return _StopError(Mistake(_line(event), self._path(), message))
