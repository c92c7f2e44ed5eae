"""Writes a rotation into a configuration file without changing anything else in it.

Uses the positions from YAML's parser and changes only those places: dumping the whole file would lose
comments and formatting. The result is parsed again and must differ only as intended.
"""

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from monitor.config import text
from monitor.config.text import Block, Listing, Value

PLAIN = re.compile(r"[A-Za-z0-9/._-]*[A-Za-z0-9/][A-Za-z0-9/._-]*")
"""A path that needs no quotes in YAML, even inside braces."""


class EditError(Exception):
    """The file can't be changed safely. The message says why."""


def with_next(raw: bytes, name: str, *, private_key: str, certificate: str, folder: str) -> bytes | None:
    """The file with a next pair for a connection; None if it doesn't contain the connection.

    The given paths are absolute. If the current key's path is relative to the file's directory `folder`, they
    are written that way too. Raises EditError.
    """
    found = _find(raw, name)
    if found is None:
        return None
    held = found.value["private_key"]
    if isinstance(held, Block) and not Path(str(held.get("file", "/"))).is_absolute():
        private_key, certificate = (os.path.relpath(path, folder) for path in (private_key, certificate))
    key, value = found.option("certificate") or found.option("private_key") or found.missing("private_key")
    indent = " " * key.start_mark.column
    lines = (
        "next:",
        f"  private_key: {{file: {_written(private_key)}}}",
        f"  certificate: {{file: {_written(certificate)}}}",
    )
    after = found.line_end(found.end(key, value))
    added = "".join(f"{found.newline}{indent}{line}" for line in lines)
    wanted = {"private_key": {"file": private_key}, "certificate": {"file": certificate}}
    return found.edited([(after, after, added)], {"next": wanted})


def with_next_current(raw: bytes, name: str) -> bytes | None:
    """The file with a connection's next pair as its current one; None if it doesn't contain the connection.

    Raises EditError.
    """
    found = _find(raw, name)
    if found is None:
        return None
    key, following = found.option("next") or found.missing("next")
    if found.is_alias(key, following) or not isinstance(following, MappingNode):
        raise EditError("next is an alias or not a block of options")
    edits = [found.removal("next")]
    wanted: dict[str, Value] = {"next": None, "certificate_not_after": None}
    given = found.value["next"]
    assert isinstance(given, Block)
    parts = {each.value: value for each, value in following.value}
    for option in ("private_key", "certificate"):
        new = found.in_one_line(parts[option]) if option in parts else None
        wanted[option] = given.get(option)
        held = found.option(option)
        if new is None and held:
            edits.append(found.removal(option))
        elif new and held:
            edits.append(found.replacement(*held, new))
        elif new:
            beside, value = found.option("private_key") or found.missing("private_key")
            after = found.line_end(found.end(beside, value))
            line = f"{found.newline}{' ' * beside.start_mark.column}{option}: {new}"
            edits.append((after, after, line))
    if found.option("certificate_not_after"):
        edits.append(found.removal("certificate_not_after"))
    return found.edited(edits, wanted)


def _written(path: str) -> str:
    return path if PLAIN.fullmatch(path) else json.dumps(path, ensure_ascii=False)


Edit = tuple[int, int, str]
"""Start, end, and replacement text."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A connection in a text, with the positions of its options."""

    text: str
    mark: bytes
    """The byte order mark, if any."""
    node: MappingNode
    whole: Value
    value: Block
    """The connection itself, within `whole`."""

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def option(self, name: str) -> tuple[Node, Node] | None:
        return next(((key, value) for key, value in self.node.value if key.value == name), None)

    def missing(self, name: str) -> tuple[Node, Node]:
        raise EditError(f"{name} is missing")

    def is_alias(self, key: Node, value: Node) -> bool:
        """Whether the value is an alias, defined earlier in the text."""
        return value.start_mark.index < key.end_mark.index

    def end(self, key: Node, value: Node) -> int:
        """The position after an option's value."""
        if self.is_alias(key, value):
            return key.end_mark.index
        while isinstance(value, CollectionNode) and not value.flow_style and value.value:
            last = value.value[-1]
            within, value = last if isinstance(value, MappingNode) else (key, last)
            if self.is_alias(within, value):
                return within.end_mark.index
        return value.end_mark.index

    def line_end(self, index: int) -> int:
        end = self.text.find("\n", index)
        end = len(self.text) if end < 0 else end
        return end - 1 if self.text[end - 1 : end] == "\r" else end

    def replacement(self, key: Node, value: Node, new: str) -> Edit:
        if self.is_alias(key, value):
            raise EditError(f"{key.value} is an alias")
        return value.start_mark.index, self.end(key, value), new

    def removal(self, name: str) -> Edit:
        """Removes an option's lines, including comments on them."""
        key, value = self.option(name) or self.missing(name)
        start = key.start_mark.index - key.start_mark.column
        if self.text[start : key.start_mark.index].strip():
            raise EditError(f"{name} shares its line with something else")
        end = self.text.find("\n", self.end(key, value))
        return start, len(self.text) if end < 0 else end + 1, ""

    def in_one_line(self, source: Node) -> str:
        """A key's source as written, in braces."""
        if not isinstance(source, MappingNode) or not all(
            isinstance(key, ScalarNode) and isinstance(value, ScalarNode) for key, value in source.value
        ):
            raise EditError("next is not written as a plain block of options")
        parts = (
            f"{key.value}: {self.text[value.start_mark.index : value.end_mark.index]}"
            for key, value in source.value
        )
        return f"{{{', '.join(parts)}}}"

    def edited(self, edits: list[Edit], wanted: Mapping[str, object]) -> bytes:
        """Apply edits, which may change only the wanted options (None: removed). Raises EditError."""
        made = self.text
        for start, end, new in sorted(edits, reverse=True):
            made = made[:start] + new + made[end:]
        expected = copy.deepcopy(self.whole)
        entry = _entry(expected, str(self.value["name"]))
        assert entry is not None
        for option, value in wanted.items():
            entry.pop(option, None)
            if value is not None:
                entry[option] = value  # type: ignore[assignment]  # only for comparison
        raw = self.mark + made.encode()
        read = text.read(raw)
        if read.mistakes or read.value != expected:
            raise EditError("the rest of the file would change its meaning")
        return raw


def _find(raw: bytes, name: str) -> _Found | None:
    if name.encode() not in raw:
        return None
    read = text.read(raw)
    entry = _entry(read.value, name)
    if entry is None or read.mistakes:
        return None
    mark = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    written = raw.decode("utf-8-sig")
    node = next(_nodes(yaml.compose(written, Loader=yaml.CSafeLoader), name), None)
    if node is None or node.flow_style:
        raise EditError("the connection is written in braces, on one line")
    return _Found(written, mark, node, read.value, entry)


def _entry(value: Value, name: str) -> Block | None:
    """The connection in a file's content: under `connections`, or in a list at top level."""
    listed = value.get("connections") if isinstance(value, Block) else value
    entries = listed if isinstance(listed, Listing) else ()
    return next((each for each in entries if isinstance(each, Block) and each.get("name") == name), None)


def _nodes(root: Node | None, name: str) -> Iterator[MappingNode]:
    if isinstance(root, MappingNode):
        root = next((value for key, value in root.value if key.value == "connections"), None)
    for node in root.value if isinstance(root, SequenceNode) else ():
        if isinstance(node, MappingNode) and any(
            key.value == "name" and value.value == name for key, value in node.value
        ):
            yield node
