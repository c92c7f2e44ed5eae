"""Rules as values, and the YAML that Prometheus reads, with a comment above each rule."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import yaml

from monitor.config.words import written_duration

COMMENT_WIDTH = 106
"""Columns of a comment's text: with its indentation it stays within the 110 of the source."""

HEAD = """\
# Written by `bearerwatch rules`, for the intervals and settle times of one configuration: make it anew when
# they change, rather than changing it here.
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule, named `level:metric:operations` (Prometheus' own convention)."""

    name: str
    expression: str
    why: str

    def as_yaml(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {"record": self.name, "expr": self.expression}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule."""

    name: str
    expression: str
    hold: timedelta
    """How long the expression must give something before it is an alert."""
    why: str
    """The reason of each number in it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    lingers: timedelta | None = None
    """How long it stays an alert after its end, so that a fault that comes and goes is told of once."""

    def as_yaml(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        times = {"for": self.hold, "keep_firing_for": self.lingers}
        return {
            "alert": self.name,
            "expr": self.expression,
            **{key: written_duration(time) for key, time in times.items() if time},
            **({"labels": dict(self.labels)} if self.labels else {}),
            "annotations": dict(self.annotations),
        }


Rule = Record | Alert


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates one after the other."""

    name: str
    why: str
    rules: Iterable[Rule]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that people can read them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def document(*groups: Group) -> str:
    """The rule file."""
    return HEAD + "groups:\n" + "".join(_group(group) for group in groups)


def _group(group: Group) -> str:
    head = f"{_comment(group.why)}- name: {group.name}\n  rules:\n"
    return _indented(head + "\n".join(_rule(rule) for rule in group.rules), "  ")


def _rule(rule: Rule) -> str:
    # yaml has no idea of comments, so each rule is written by itself, and put together here.
    written = yaml.dump([rule.as_yaml()], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return _indented(_comment(rule.why) + written, "    ")


def _indented(text: str, by: str) -> str:
    return textwrap.indent(text, by, lambda line: bool(line.strip()))


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, COMMENT_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)
