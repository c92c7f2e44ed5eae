"""The simulator's objects and fields are held against the types that Salesforce and jsforce publish."""

import os
import re
from pathlib import Path

import pytest

from monitor.simulator.records import FIELDS, OBJECTS

MODULES = Path(__file__).parents[2] / "node_modules"
SALESFORCE = MODULES / "@salesforce" / "types" / "lib" / "tooling.d.ts"
JSFORCE = MODULES / "jsforce" / "lib" / "types" / "standard-schema.d.ts"

NOT_IN_SALESFORCES_TYPES = {
    "LoginHistory",
    "OauthToken",
    "Organization",
    "SetupAuditTrail",
    "SetupEntityAccess",
    "UserLogin",
    "UserPermissionAccess",
}
"""Salesforce types what Tooling has: for these, and for most of a User, jsforce's schema is the witness."""

Types = dict[str, dict[str, str]]
"""Objects, their fields and relations, and the type of each."""


@pytest.fixture(scope="module")
def published() -> tuple[Types, Types]:
    """The objects as Salesforce types them, and as jsforce does."""
    if not SALESFORCE.is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("@salesforce/types is not installed: npm ci")
    tooling: Types = {}
    for name, body in re.findall(
        r"^export type (\w+) = [^\n;]*\{(.*?)^\};", SALESFORCE.read_text(), re.M | re.S
    ):
        tooling[name] = dict(re.findall(r"^    (\w+)\??: (\w+)", body, re.M))
    jsforces: Types = {}
    kinds = r"^type (?:Fields|ParentReferences)\$(\w+) = \{(.*?)\};"
    for name, body in re.findall(kinds, JSFORCE.read_text(), re.M | re.S):
        typed = re.findall(r"^    (\w+): (?:SObjectDefinition\$)?(\w+)", body, re.M)
        jsforces.setdefault(name, {}).update(typed)
    return tooling, jsforces


def is_there(path: str, name: str, types: Types) -> bool:
    field, _, rest = path.partition(".")
    kind = types.get(name, {}).get(field)
    if field == "Id":
        return name in types
    # Polymorphic relations have no type.
    return bool(kind and (not rest or kind in {"sObject", "Name"} or is_there(rest, kind, types)))


@pytest.mark.real("node")
@pytest.mark.parametrize("name", OBJECTS)
def test_every_field_is_in_salesforces_or_jsforces_types(name: str, published: tuple[Types, Types]) -> None:
    listed = FIELDS[name]

    unknown = {path for path in listed if not any(is_there(path, name, types) for types in published)}

    if name == "UserPermissionAccess":
        # It has a field for each permission, of which jsforce's schema is too old to know the newest.
        unknown = {path for path in unknown if path not in published[0]["PermissionSet"]}
    assert unknown == set()


@pytest.mark.real("node")
def test_every_tooling_object_is_in_salesforces_types(published: tuple[Types, Types]) -> None:
    assert {name for name in OBJECTS if name not in published[0]} == NOT_IN_SALESFORCES_TYPES
    for name, entity in OBJECTS.items():
        if "tooling" in entity.on:
            assert [path for path in FIELDS[name] if not is_there(path, name, published[0])] == []
