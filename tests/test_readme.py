"""The README's tables say what the code says, and what it points at is there."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families
from typer.core import TyperGroup

from monitor.commands.cli import app
from monitor.commands.explain import explain
from monitor.config import load
from monitor.core.catalogue import CATALOGUE
from monitor.web.words import WHO
from tests.making import NOW

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
PAGE = (ROOT / "tests" / "golden" / "metrics.txt").read_text()

ANYBODYS = ("process_", "python_")
"""Metrics that the client library exports of any process."""


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, cell by cell."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_it_lists_the_catalogue() -> None:
    said = [[names(cause)[0], title, who, guide] for cause, title, who, guide in table("What it finds")]

    assert said == [
        [str(cause), entry.title, WHO[entry.responsible], entry.guide or ""]
        for cause, entry in CATALOGUE.items()
    ]


def test_it_lists_every_metric_with_its_labels() -> None:
    said = {names(name)[0]: set(names(labels)) for name, labels, _ in table("Metrics")}

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


def test_it_lists_every_command() -> None:
    said = [names(cell)[0] for cell, _ in table("Commands")]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)

    assert {" ".join(re.findall(r"^[a-z ]+", command)).strip() for command in said} == set(commands(group))


def test_it_lists_every_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]]
    extras = {
        re.split(r"[\[<>=]", line)[0]: extra
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
    }

    said = [(name, purpose) for cell, purpose in table("What it needs") for name in names(cell)]

    assert {name.lower() for name, _ in said} == {*needed, *extras}
    assert all(
        f"`bearerwatch[{extras[name.lower()]}]`" in why for name, why in said if name.lower() in extras
    )


def test_what_it_shows_of_explain_is_what_is_printed() -> None:
    (shown,) = re.findall(
        r"```console\n\$ echo \"(.*?)\" \| \.venv/bin/bearerwatch explain\n(.*?)```", TEXT, re.DOTALL
    )
    pasted, printed = shown

    assert "\n".join(explain(pasted, NOW).lines()) == printed.rstrip("\n")


def test_its_configuration_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(example.replace("3MVG9…", "3MVG9acme"))  # to be filled in, which `config check` says

    assert [connection.host for connection in load(file, {}).connections] == ["acme.my.salesforce.com"]


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"(?:\]\(|src=\"|srcset=\")(?!https?:|#)([^)#\"]+)", TEXT)))
)
def test_what_it_links_to_is_there(link: str) -> None:
    assert (ROOT / link).exists()
