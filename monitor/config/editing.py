"""Writes a rotation into a configuration file without changing anything else in it.

Uses the positions from YAML's parser and changes only those places: dumping the whole file would lose
comments and formatting. The result is parsed again and must differ only as intended.
"""

import codecs
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml import CollectionNode, MappingNode, Node, SequenceNode

from monitor.config import text
from monitor.config.text import Block, Listing, Value

PLAIN = re.compile(r"[A-Za-z0-9/._-]*[A-Za-z0-9/][A-Za-z0-9/._-]*")
"""A path that needs no quotes in YAML, even inside braces."""

LINE_END = re.compile(r"\r?\n|\Z")


class EditError(Exception):
    """The file can't be changed safely. The message says why."""


def lines(sources: Mapping[str, Mapping[str, Value]], indent: str = "") -> list[str]:
    """Options with sources of keys, one per line."""
    return [f"{indent}{option}: {in_one_line(source)}" for option, source in sources.items()]


def in_one_line(source: Mapping[str, Value]) -> str:
    """A source of keys, with quotes where YAML needs them."""
    parts = []
    for kind, place in source.items():
        plain = PLAIN.fullmatch(str(place))
        parts.append(f"{kind}: {place if plain else json.dumps(place, ensure_ascii=False)}")
    return f"{{{', '.join(parts)}}}"


Edit = tuple[int, int, str]
"""Start, end, and replacement text."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A connection in a file, with the positions of its options."""

    folder: Path
    """The file's directory, where relative paths start."""
    mark: bytes
    """The byte order mark, if any."""
    text: str
    node: MappingNode
    whole: Value
    value: Block
    """The connection itself, within `whole`."""

    def with_next(self, private_key: str, certificate: str) -> bytes:
        """The file with a next pair for the connection. Raises EditError.

        The given paths are absolute. If the current key's path is relative, they are written that way too.
        """
        held = self.value["private_key"]
        if isinstance(held, Block) and not Path(str(held.get("file", "/"))).is_absolute():
            private_key, certificate = (
                os.path.relpath(path, self.folder) for path in (private_key, certificate)
            )
        pair = {"private_key": {"file": private_key}, "certificate": {"file": certificate}}
        beside = "certificate" if "certificate" in self.value else "private_key"
        return self._edited([self._below(beside, ["next:", *lines(pair, "  ")])], {"next": pair})

    def with_next_current(self) -> bytes:
        """The file with the connection's next pair as its current one. Raises EditError."""
        following = self.value.get("next")
        if not isinstance(following, Block):
            raise EditError("next is missing")
        wanted = {option: following.get(option) for option in ("private_key", "certificate")}
        edits = []
        for option, source in wanted.items():
            if not isinstance(source, Block):
                edits += self._removal(option)
            elif option in self.value:
                _, value = self._option(option)
                edits.append((value.start_mark.index, _end(value), in_one_line(source)))
            else:
                edits.append(self._below("private_key", lines({option: source})))
        edits += [*self._removal("next"), *self._removal("certificate_not_after")]
        return self._edited(edits, {**wanted, "next": None, "certificate_not_after": None})

    def _option(self, name: str) -> tuple[Node, Node]:
        return next((key, value) for key, value in self.node.value if key.value == name)

    def _below(self, name: str, lines: list[str]) -> Edit:
        """Adds lines below an option, indented like it."""
        key, value = self._option(name)
        after = self._line_end(value).start()
        newline = "\r\n" if "\r\n" in self.text else "\n"
        return after, after, "".join(f"{newline}{' ' * key.start_mark.column}{line}" for line in lines)

    def _removal(self, name: str) -> list[Edit]:
        """Removes an option's lines, if any, including comments on them."""
        if name not in self.value:
            return []
        key, value = self._option(name)
        return [(key.start_mark.index - key.start_mark.column, self._line_end(value).end(), "")]

    def _edited(self, edits: list[Edit], wanted: Mapping[str, object]) -> bytes:
        """Apply edits, which may change only the wanted options (None: removed). Raises EditError."""
        made = self.text
        for start, end, new in sorted(edits, reverse=True):
            made = made[:start] + new + made[end:]
        for option, value in wanted.items():
            self.value.pop(option, None)
            if value is not None:
                self.value[option] = value  # type: ignore[assignment]  # only for comparison
        raw = self.mark + made.encode()
        value, mistakes = text.read(raw)
        if mistakes or value != self.whole:
            raise EditError("the rest of the file would change its meaning")
        return raw

    def _line_end(self, value: Node) -> re.Match[str]:
        found = LINE_END.search(self.text, _end(value))
        assert found
        return found


def _end(value: Node) -> int:
    """The position after a value; that of a block would include the blanks and comments below it."""
    while isinstance(value, CollectionNode) and not value.flow_style and value.value:
        value = value.value[-1][1] if isinstance(value, MappingNode) else value.value[-1]
    return value.end_mark.index


def find(raw: bytes, name: str, folder: Path) -> Entry | None:
    """The connection in a file's content: under `connections`, or in a list at top level.

    None if it is not there. Raises EditError.
    """
    whole, mistakes = text.read(raw)
    listed = whole.get("connections") if isinstance(whole, Block) else whole
    if mistakes or not isinstance(listed, Listing):
        return None
    for place, entry in enumerate(listed):
        if isinstance(entry, Block) and entry.get("name") == name:
            mark = codecs.BOM_UTF8 if raw.startswith(codecs.BOM_UTF8) else b""
            written = raw.removeprefix(mark).decode()
            node = yaml.compose(written, Loader=yaml.CSafeLoader)
            if isinstance(node, MappingNode):
                node = next(value for key, value in node.value if key.value == "connections")
            assert isinstance(node, SequenceNode)
            node = node.value[place]
            if node.flow_style:
                raise EditError("the connection is written in braces, on one line")
            return Entry(folder, mark, written, node, whole, entry)
    return None
