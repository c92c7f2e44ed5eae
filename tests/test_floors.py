"""Who may import whom: the floor plan, kept."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

MONITOR = Path(__file__).parent.parent / "monitor"

WORDS = {
    "problem",
    "maintenance",
    "secret",
    "causes",
    "catalogue",
    "outcome",
    "answer",
    "connection",
    "pem",
    "credential",
    "assertion",
    "finding",
    "history",
}
"""core: values that everything else speaks in."""

JUDGEMENT = {
    "login_history",
    "texts",
    "faults",
    "paste",
    "meaning",
    "evidence",
    "diagnosis",
    "approval",
    "cadence",
    "status",
    "rotation",
    "holds",
    "wording",
    "alert",
    "grouping",
    "alerts_of_one",
    "alerts_of_many",
    "alerts_of_daemon",
    "alerts",
    "telling",
}
"""core: functions over words."""

EDGES = {
    "config",
    "secret_sources",
    "vault",
    "keygen",
    "new_files",
    "exchange",
    "store",
    "metrics",
    "notify",
    "rules",
    "reminders",
    "explain",
    "runbook",
    "logs",
    "clock",
    "memory",
    "interpreter",
    "watch",
    "service_manager",
}
"""What touches the world, or speaks to it; none knows another, but for what a word of its own stands in."""

SHELL = {
    "fleet",
    "budget",
    "probe",
    "check",
    "schedule",
    "replicas",
    "engine",
    "once",
    "web",
    "discover",
    "rotate",
    "alerts",
    "without_daemon",
}
"""Where core and edges meet."""

TOP = ("daemon", "rehearsal", "terminal", "cli", "__main__")
"""Each may import all below, and those before it."""

KNOWS_ANOTHER_EDGE = {
    ("watch", "config"): "what is to be watched stands in the settings",
    ("vault", "config"): "where it is and how to log in stands in the settings",
    ("secret_sources", "config"): "the same",
    ("secret_sources", "vault"): "it is one of the places",
    ("keygen", "new_files"): "its files are written as all are",
    ("rules", "config"): "thresholds and intervals are those of the settings",
    ("notify", "secret_sources"): "addresses, tokens and keys of receivers are kept there",
    ("notify", "exchange"): "how long a receiver may take is said in the transport's limits",
    ("notify", "config"): "sinks and routes stand in the settings",
}
"""Exceptions, each with its reason."""

PURE = {
    "abc", "base64", "binascii", "codecs", "collections", "contextlib", "cryptography", "dataclasses",
    "datetime", "email",
    "enum", "functools", "hashlib", "hmac", "html", "itertools", "json", "jwt", "math", "re", "statistics",
    "string",
    "types", "typing", "unicodedata", "urllib", "warnings", "xml", "zoneinfo",
}  # fmt: skip
"""What the core may use of other people's: nothing that has a clock, a file, a socket, a log or chance."""

IMPURE_BUT = {
    "core.catalogue": ({"importlib", "pydantic", "tomllib"}, {"read_text"}),
}
"""What a module of the core may import and call beyond that. The catalogue is data of the package, in a file
for the sake of those who correct it: it is read and checked once, at import, and by no function."""

IMPURE_NAMES = {
    "now", "today", "utcnow", "time_ns", "open", "getenv", "print", "urlopen", "read_text", "read_bytes",
}  # fmt: skip
"""Functions that even a pure module could be tempted to call."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(MONITOR.rglob("*.py")):
        parts = path.relative_to(MONITOR).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imports(path: Path) -> set[str]:
    """Every module that is imported, `from package import name` as `package.name` where that is one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            found.add(module)
            if module.split(".")[0] == "monitor":
                found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


KNOWN = dict(modules())


def of_ours(path: Path) -> set[str]:
    names = {name.removeprefix("monitor.") for name in imports(path) if name.startswith("monitor.")}
    return {name for name in names if name in KNOWN}


def floor(module: str) -> str:
    head, _, rest = module.partition(".")
    if head == "core":
        return f"core.{rest}"
    return head


@pytest.mark.parametrize("module", KNOWN)
def test_each_module_stands_on_its_floor(module: str) -> None:
    for other in of_ours(KNOWN[module]):
        assert may_import(floor(module), floor(other), module, other), f"{module} may not import {other}"


def may_import(mine: str, theirs: str, module: str, other: str) -> bool:
    if mine == theirs or other == "core":
        return True
    if module.startswith("simulator"):
        return other.startswith("simulator") or (module == "simulator.scenarios" and other == "core.causes")
    if mine.startswith("core."):
        if not theirs.startswith("core."):
            return False
        return theirs.removeprefix("core.") in WORDS or mine.removeprefix("core.") in JUDGEMENT
    if theirs.startswith("core."):
        return True
    if mine in EDGES:
        return (mine, theirs) in KNOWS_ANOTHER_EDGE
    if mine in SHELL:
        return theirs in EDGES | SHELL
    if mine in TOP:
        return theirs in EDGES | SHELL | {"simulator"} or (
            theirs in TOP and TOP.index(theirs) < TOP.index(mine)
        )
    return False


def test_each_exception_is_used() -> None:
    used = {(floor(module), floor(other)) for module, path in KNOWN.items() for other in of_ours(path)}

    assert KNOWS_ANOTHER_EDGE.keys() <= used


def test_every_module_has_a_floor() -> None:
    named = WORDS | JUDGEMENT | EDGES | SHELL | set(TOP) | {"core", "simulator", "", "__init__"}

    assert {floor(module).removeprefix("core.") for module in KNOWN} <= named


def test_the_core_is_pure() -> None:
    for module, path in KNOWN.items():
        if not module.startswith("core"):
            continue
        imported, excused = IMPURE_BUT.get(module, (set(), set()))
        foreign = {name.split(".")[0] for name in imports(path)} - {"monitor"} - imported
        assert foreign <= PURE, f"{module} imports {foreign - PURE}"
        called = {
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert called & IMPURE_NAMES == excused, f"{module} calls {called & IMPURE_NAMES}"


def test_the_org_is_an_independent_witness() -> None:
    for module, path in KNOWN.items():
        if module.startswith("simulator") and module != "simulator.scenarios":
            assert all(name.startswith("simulator") for name in of_ours(path)), module


def test_the_words_of_the_core_go_in_no_circle() -> None:
    def reached(module: str, seen: frozenset[str]) -> frozenset[str]:
        for other in of_ours(KNOWN[module]) - {"core"}:
            assert other not in seen, f"{other} imports itself by way of {module}"
            reached(other, seen | {other})
        return seen

    for module in KNOWN:
        if module.startswith("core."):
            reached(module, frozenset({module}))


CAUSES_LISTED = {
    ("core.texts", ast.Tuple): "what else a text may mean, most likely first",
    ("core.meaning", ast.Tuple): "what else an answer may mean, most likely first",
    ("core.diagnosis", ast.Tuple): "what else an answer may mean given the past, most likely first",
    ("core.evidence", ast.Dict): "a function for each cause that has more evidence",
    ("simulator.scenarios", ast.Dict): "a reason for each cause that no org can bring about",
    ("rehearsal", ast.Dict): "the plot of the demo",
}
"""Where two or more causes are listed, and as what; which causes are alike stands in the catalogue alone."""


def test_sets_of_causes_stand_in_the_catalogue_alone() -> None:
    listed = {(module, type(node)) for module, path in KNOWN.items() for node in lists_of_causes(path)}

    assert listed == set(CAUSES_LISTED)


def lists_of_causes(path: Path) -> Iterator[ast.Dict | ast.Set | ast.List | ast.Tuple]:
    """Displays with two causes or more; what is searched with `in` counts as a set."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for other in node.comparators:
                if isinstance(other, ast.Tuple | ast.List) and len(causes_of(other.elts)) > 1:
                    yield ast.Set(other.elts)
        if isinstance(node, ast.Dict) and len(causes_of(node.keys)) > 1:
            yield node
        if isinstance(node, ast.Set | ast.List | ast.Tuple) and len(causes_of(node.elts)) > 1:
            yield node


def causes_of(nodes: Iterable[ast.expr | None]) -> list[str]:
    return [
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Cause"
    ]
