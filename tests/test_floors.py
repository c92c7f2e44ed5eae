"""Who may import whom: the floor plan, kept."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

MONITOR = Path(__file__).parent.parent / "monitor"

MAY_IMPORT = {
    "core": set(),
    "config": {"core"},
    "store": {"core"},
    "rules": {"core", "config"},
    "keys": {"core", "config"},
    "salesforce": {"core"},
    "watch": {"core", "config", "keys", "salesforce", "store"},
    "web": {"core", "config", "store"},
    "notify": {"core", "config", "keys", "salesforce"},
    "daemon": {"core", "config", "notify", "salesforce", "store", "watch", "web"},
    "simulator": set(),
    "commands": {
        "core", "config", "daemon", "keys", "notify", "rules", "salesforce", "simulator", "store", "watch",
        "web",
    },
    "__main__": {"commands", "daemon"},
}  # fmt: skip
"""Each package, from the bottom up, and what it may import."""

PURE = {
    "abc", "base64", "binascii", "calendar", "collections", "contextlib", "cryptography",
    "dataclasses", "datetime", "email",
    "enum", "functools", "hashlib", "hmac", "html", "ipaddress", "itertools", "json", "jwt", "math", "re",
    "statistics", "string",
    "types", "typing", "unicodedata", "urllib", "warnings", "zoneinfo",
}  # fmt: skip
"""What the core may use of other people's: nothing that has a clock, a file, a socket, a log or chance."""

IMPURE_BUT = {
    "core.catalogue": ({"importlib", "pydantic", "tomllib"}, {"read_text"}),
    "core.reads": ({"importlib", "pydantic", "tomllib"}, {"read_text"}),
    "core.verdict.vocabulary": ({"importlib", "tomllib"}, {"read_text"}),
}
"""What a module of the core may import and call beyond that. All are data of the package, in a file for the
sake of those who correct it: it is read and checked once, at import, and by no function."""

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


def package(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", KNOWN)
def test_each_module_imports_only_what_its_package_may(module: str) -> None:
    for other in of_ours(KNOWN[module]) - {""}:
        allowed = {package(module)} | MAY_IMPORT.get(package(module), set())
        assert package(other) in allowed, f"{module} may not import {other}"


def test_each_allowed_import_is_used() -> None:
    used: dict[str, set[str]] = {}
    for module, path in KNOWN.items():
        used.setdefault(package(module), set()).update(package(other) for other in of_ours(path) - {""})

    assert {mine: used.get(mine, set()) - {mine} for mine in MAY_IMPORT} == MAY_IMPORT


def test_packages_have_no_import_cycles() -> None:
    below: set[str] = set()
    for mine, theirs in MAY_IMPORT.items():
        assert theirs <= below, f"{mine} imports what stands above it"
        below.add(mine)


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


def test_modules_of_the_core_have_no_import_cycles() -> None:
    def reached(module: str, seen: frozenset[str]) -> frozenset[str]:
        for other in of_ours(KNOWN[module]) - {"core"}:
            assert other not in seen, f"{other} imports itself by way of {module}"
            reached(other, seen | {other})
        return seen

    for module in KNOWN:
        if module.startswith("core."):
            reached(module, frozenset({module}))


CAUSES_LISTED = {
    ("core.verdict.meaning", ast.Tuple): "what else an answer may mean, most likely first",
    ("core.verdict.diagnosis", ast.Tuple): "what else an answer may mean given the past, most likely first",
    ("core.verdict.evidence", ast.Dict): "a function for each cause that has more evidence",
    ("commands.demo", ast.Dict): "the plot of the demo",
}
"""Lists of two or more causes in the code; only the catalogue may classify causes."""


def test_only_the_catalogue_groups_causes() -> None:
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


def below(package: str) -> set[str]:
    """All packages that a package may import, directly or not."""
    return MAY_IMPORT[package].union(*map(below, MAY_IMPORT[package]))


def test_the_diagram_in_the_documents_matches_the_allowed_imports() -> None:
    """Without the arrows that follow from others, so that it can be read."""
    text = (MONITOR.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^  (\w+) --> (\w+)$", text, re.MULTILINE))

    assert drawn == {
        (package, other)
        for package, others in MAY_IMPORT.items()
        for other in others
        if package != "__main__" and not any(other in below(third) for third in others)
    }
