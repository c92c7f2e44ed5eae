"""docs/openapi.yaml says what is answered, to the last key, and the same as docs/api.md and the program."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import OrgType
from monitor.core.finding import Certainty, State
from monitor.core.history import EventKind
from monitor.core.history import Stage as RotationStage
from monitor.core.verdict.approval import Grounds
from monitor.store import Verdict
from monitor.web.selection import Order
from tests.web.serving import Stage

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "openapi.yaml").read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
TEXT = (DOCS / "api.md").read_text()


def closed(schema: Any) -> Any:
    """The schema with its references filled in, which takes no key but those it names.

    The document itself leaves more keys open, since keys may come; that a new one is documented is for here.
    """
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        return closed(SCHEMAS[reference.rpartition("/")[2]])
    made = {key: closed(value) for key, value in schema.items()}
    for part in made.pop("allOf", ()):
        made["properties"] = part["properties"] | made["properties"]
        made["required"] = part["required"] + made["required"]
    if "properties" in made:
        made["additionalProperties"] = False
    return made


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema in it that names keys."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from objects(each)


def test_the_openapi_document_is_valid() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


async def test_answers_have_only_documented_keys(stage: Stage) -> None:
    names = [status.name for status in stage.snapshot.connections]
    told: dict[str, list[Any]] = {"Status": [], "OneConnection": [], "Events": [], "Problem": []}
    async with stage.client() as client:
        for schema, paths in {
            "Status": ["/api/status", "/api/status?q=nowhere"],
            "Events": ["/api/events"],
            "OneConnection": [f"/api/connections/{name}" for name in names],
            "Problem": ["/api/status?sort=age", "/api/connections/nobody", "/api/nothing"],
        }.items():
            told[schema] = [(await client.get(path)).json() for path in paths]

    for schema, answers in told.items():
        validator = Draft202012Validator(closed(SCHEMAS[schema]), format_checker=FormatChecker())
        for answer in answers:
            validator.validate(answer)


def test_answers_have_all_required_keys() -> None:
    for schema in objects(SCHEMAS):
        assert list(schema["properties"]) == schema["required"]


@pytest.mark.parametrize(
    ("documented", "kind"),
    [
        (SCHEMAS["State"], State),
        (SCHEMAS["Cause"], Cause),
        (SCHEMAS["Severity"], Severity),
        (SCHEMAS["Responsible"], Responsible),
        (SCHEMAS["Certainty"], Certainty),
        (SCHEMAS["Connection"]["properties"]["org_type"], OrgType),
        (SCHEMAS["Rotation"]["properties"]["stage"], RotationStage),
        (SCHEMAS["Forecast"]["properties"]["grounds"], Grounds),
        (SCHEMAS["ConnectionDetail"]["properties"]["events"]["items"]["properties"]["kind"], EventKind),
        (SCHEMAS["Events"]["properties"]["events"]["items"]["properties"]["kind"], EventKind),
        (
            SCHEMAS["ConnectionDetail"]["properties"]["recent_exchanges"]["items"]["properties"]["verdict"],
            Verdict,
        ),
        (SCHEMAS["Order"], Order),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_document_lists_every_code(documented: dict[str, Any], kind: type[StrEnum]) -> None:
    assert documented["enum"] == [str(member) for member in kind]


def tables() -> Iterator[tuple[str, list[str]]]:
    """The heading and the words of the first column of each table of api.md."""
    for section in re.split(r"^##+ ", TEXT, flags=re.M)[1:]:
        for table in re.findall(r"^\| (?:Key|Parameter) .*\n(?:\|.*\n)+", section, re.M):
            cells = [row.split("|")[1] for row in table.splitlines()[2:]]
            yield section.partition("\n")[0], re.findall(r"`(\w+)`", "".join(cells))


def test_the_text_lists_the_same_keys_and_parameters() -> None:
    connection = {*SCHEMAS["OneConnection"]["properties"], *SCHEMAS["ConnectionDetail"]["properties"]}
    parameters = DOCUMENT["paths"]["/api/status"]["get"]["parameters"]
    assert [(heading, set(words)) for heading, words in tables()] == [
        ("`/api/status`", set(SCHEMAS["Status"]["properties"])),
        ("`/api/status`", {each["name"] for each in parameters if each.get("in") == "query"}),
        ("`daemon`", set(SCHEMAS["Daemon"]["properties"])),
        ("A connection", set(SCHEMAS["Connection"]["properties"])),
        ("`/api/connections/{name}`", connection),
    ]
    words = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*$", TEXT, re.M))))
    for answer in ("Status", "OneConnection"):
        assert {key for each in objects(closed(SCHEMAS[answer])) for key in each["properties"]} <= words
