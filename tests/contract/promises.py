"""The promises: a file's name, and what makes its text from the code."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from monitor.config import schema
from monitor.core.catalogue import CATALOGUE
from monitor.core.history import EventKind
from monitor.core.status import ReplicasStatus
from tests.contract.alerts import alerts
from tests.contract.commands import commands
from tests.contract.documents import documents
from tests.web.test_metrics import degraded, healthy, page, read, snapshot, used

HERE = Path(__file__).parent

ANYBODYS = ("process_", "python_")
"""Metrics that the client library exports of any process."""


def metrics() -> str:
    """Name, type and help of each family, and the names and labels of its samples."""
    shown = snapshot(healthy(), degraded())
    replicas = ReplicasStatus(alive=1, configurations=1, scheduled=1, leads=True, reachable=True)
    shown = replace(
        shown,
        daemon=replace(shown.daemon, replicas=replicas),
        connections=tuple(
            replace(one, connection=replace(one.connection, labels=())) for one in shown.connections
        ),
    )
    said = []
    for family in sorted(read(page(shown, own=used())), key=lambda family: family.name):
        if family.name.startswith(ANYBODYS):
            continue
        labels = sorted({label for sample in family.samples for label in sample.labels})
        samples = sorted({sample.name for sample in family.samples})
        said.append(f"{family.name} ({family.type})\n  {family.documentation}\n")
        said.append(f"  samples: {', '.join(samples)}\n  labels: {', '.join(labels) or 'none'}\n\n")
    return "".join(said)


def causes() -> str:
    """Code, severity, who must act, step of the guide, and whether a change may settle it."""
    return "".join(
        f"{cause}: {entry.severity}, {entry.responsible}, {entry.guide or 'not in the guide'}"
        f"{', may settle' if entry.settle else ''}\n"
        for cause, entry in sorted(CATALOGUE.items())
    )


def keys() -> str:
    """The path and the types of every key in every JSON."""
    with TemporaryDirectory() as folder:
        made = documents(Path(folder))
    said = []
    for name, examples in sorted(made.items()):
        found: dict[str, set[str]] = {}
        for example in examples:
            _walk(example, "", found)
        said.append(f"# {name}\n")
        said += [f"{path}: {' or '.join(sorted(types))}\n" for path, types in sorted(found.items())]
        said.append("\n")
    return "".join(said)


_NAMES = {dict: "object", list: "list", str: "text", bool: "flag", int: "number", float: "number"}

_OPEN = re.compile(r"\.(labels|annotations|commonLabels|commonAnnotations|counts|told)$")
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
    return "".join(f"{kind}\n" for kind in sorted(EventKind))


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
