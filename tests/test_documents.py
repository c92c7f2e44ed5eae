"""The tables of the README and of docs/ say what the code says, and every link leads somewhere."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families
from typer.core import TyperGroup

from monitor.commands.cli import app
from monitor.commands.explain import explain, lines
from monitor.config import load
from tests.commands.printed import printed
from tests.making import NOW

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TEXT = (ROOT / "README.md").read_text()
PAGE = (ROOT / "tests" / "golden" / "metrics.txt").read_text()

ANYBODYS = ("process_", "python_")
"""Metrics that the client library exports of any process."""


def table(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading of a document, cell by cell."""
    section = (DOCS / document).read_text().split(f"# {heading}\n", 1)[1].lstrip()
    lines = section[section.index("|") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_documents_list_every_metric_with_its_labels() -> None:
    said = {names(name)[0]: set(names(labels)) for name, labels, _ in table("metrics.md", "Metrics")}

    exported: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(PAGE):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.startswith(ANYBODYS):
            labels = {label for sample in family.samples for label in sample.labels}
            exported[name] = labels - {"le"}
    operators = {
        "customer",
        "tier",
        "note",
    }  # the labels that the golden page's configuration gives its connections
    exported["bearerwatch_connection_info"] -= operators
    assert said == exported


def commands(group: TyperGroup, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{before}{name} ")
        if not isinstance(command, TyperGroup) or command.invoke_without_command:
            yield f"{before}{name}"


def test_the_documents_list_every_command() -> None:
    said = [names(cell)[0] for cell, _ in table("commands.md", "Commands")]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)

    assert {" ".join(re.findall(r"^[a-z ]+", command)).strip() for command in said} == set(commands(group))


def test_the_documents_list_every_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]]
    extras = {
        re.split(r"[\[<>=]", line)[0]: extra
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
    }

    said = [
        (name, purpose) for cell, purpose in table("architecture.md", "Libraries") for name in names(cell)
    ]

    assert {name.lower() for name, _ in said} == {*needed, *extras}
    assert all(
        f"`bearerwatch[{extras[name.lower()]}]`" in why for name, why in said if name.lower() in extras
    )


def test_the_readmes_explain_example_is_the_real_output() -> None:
    (shown,) = re.findall(
        r"```console\n\$ echo \"(.*?)\" \| \.venv/bin/bearerwatch explain\n(.*?)```", TEXT, re.DOTALL
    )
    pasted, answer = shown

    assert "\n".join(printed(lines(explain(pasted, NOW)))) == answer.rstrip("\n")


def test_the_readmes_configuration_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(example.replace("3MVG9…", "3MVG9acme"))  # to be filled in, which `config check` says

    assert [connection.host for connection in load(file, {}).connections] == ["acme.my.salesforce.com"]


DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def anchors(document: Path) -> set[str]:
    """The anchors of the headings of a document, as GitHub and Python-Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_points_to_an_existing_file_and_heading(document: Path) -> None:
    links = re.findall(r"(?:\]\(|src=\"|srcset=\")(?!https?:|mailto:)([^)\"\s]+)", document.read_text())
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert not broken
