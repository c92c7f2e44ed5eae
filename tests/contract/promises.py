"""The promises: a file's name, and what makes its text from the code."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import typer
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.core import TyperGroup

from monitor.cli import app
from monitor.config import schema
from monitor.core.catalogue import CATALOGUE
from monitor.core.history import EventKind
from tests.contract.documents import documents

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

ANYBODYS = ("process_", "python_")
"""Metrics that the client library exports of any process."""


def metrics() -> str:
    """Name, type and help of each family, and the labels of its samples."""
    page = (ROOT / "tests" / "golden" / "metrics.txt").read_text()  # compared with the code by test_metrics
    said = []
    for family in text_string_to_metric_families(page):
        if family.name.startswith(ANYBODYS):
            continue
        labels = sorted({label for sample in family.samples for label in sample.labels})
        samples = sorted({sample.name for sample in family.samples})
        said.append(f"{family.name} ({family.type})\n  {family.documentation}\n")
        said.append(f"  samples: {', '.join(samples)}\n  labels: {', '.join(labels) or 'none'}\n\n")
    return "".join(said)


def commands() -> str:
    """What `--help` of every command prints: options, and what exit codes mean."""
    return "".join(
        f"$ bearerwatch {' '.join([*path, '--help'])}\n{_help(path).strip()}\n\n" for path in _paths()
    )


def _paths() -> Iterator[tuple[str, ...]]:
    yield ()
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, command in sorted(root.commands.items()):
        yield (name,)
        if isinstance(command, TyperGroup):
            yield from ((name, below) for below in sorted(command.commands))


def _help(path: tuple[str, ...]) -> str:
    plain = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-m", "monitor", *path, "--help"],
        env=kept | plain, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    # Boxes are drawn to the width of the terminal: what is promised is what stands in them.
    lines = (re.sub(r"[╭╮╰╯│─]+", " ", line).rstrip() for line in ran.stdout.splitlines())
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


def causes() -> str:
    """Code, severity, who must act, step of the guide, and whether a change may settle it."""
    return "".join(
        f"{cause}: {entry.severity}, {entry.responsible}, {entry.guide or 'not in the guide'}"
        f"{', may settle' if entry.settle else ''}\n"
        for cause, entry in CATALOGUE.items()
    )


def alerts() -> str:
    """Name and labels of every alert of the shipped rules, and what it carries."""
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    said = set()
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        labels = ", ".join(f"{key}={value}" for key, value in sorted(rule.get("labels", {}).items()))
        carries = ", ".join(sorted(rule["annotations"]))
        said.add(f"{rule['alert']} {{{labels}}} with {carries}\n")
    return "".join(sorted(said))


def keys() -> str:
    """The path and the types of every key in every JSON."""
    with TemporaryDirectory() as folder:
        made = documents(Path(folder))
    said = []
    for name, document in made.items():
        found: dict[str, set[str]] = {}
        _walk(document, "", found)
        said.append(f"# {name}\n")
        said += [f"{path}: {' or '.join(sorted(types))}\n" for path, types in sorted(found.items())]
        said.append("\n")
    return "".join(said)


_NAMES = {dict: "object", list: "list", str: "text", bool: "flag", int: "number", float: "number"}

_OPEN = re.compile(r"\.(labels|counts|told|annotations)$")
"""Objects whose keys are the operator's words, or codes that another file lists."""


def _walk(value: Any, path: str, found: dict[str, set[str]]) -> None:
    found.setdefault(path or ".", set()).add("null" if value is None else _NAMES[type(value)])
    if isinstance(value, list):
        for each in value:
            _walk(each, f"{path}[]", found)
    elif isinstance(value, Mapping) and not _OPEN.search(path):
        for key, each in value.items():
            _walk(each, f"{path}.{key}", found)


def configuration() -> str:
    """The JSON Schema of the configuration."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


def events() -> str:
    """The kinds of events."""
    return "".join(f"{kind}\n" for kind in EventKind)


PROMISES: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "metrics.txt": metrics,
        "commands.txt": commands,
        "causes.txt": causes,
        "alerts.txt": alerts,
        "json.txt": keys,
        "configuration.json": configuration,
        "events.txt": events,
    }
)
