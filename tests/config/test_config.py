"""The configuration: what it says of good and bad files, what a file cannot do to it, and its documents."""

import gc
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import certifi
import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import ConfigError, Problem, Settings, load, schema
from monitor.core.connection import Source

CONFIGS = Path(__file__).parents[1] / "configs"
EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
ENVIRON = {"PRESENT": "a key"}

ACME = """
connections:
  - name: acme
    subdomain: acme
    consumer_key: 3MVG9acme
    username: integration@acme.com
    private_key: {file: acme.pem}
"""


SHOWN_OTHERWISE = {
    "database",
    "connections",
    "protection",
    "warnings",
    *("certificate_expiry", "connections_from"),  # in connections and files
}


def named(folder: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted((CONFIGS / folder).glob("*.yaml"))]


def expectation(path: Path) -> str:
    return path.with_suffix(".expect.txt").read_text(encoding="utf-8")


def problems(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return str(caught.value).replace(f"{path.parent}/", "") + "\n"


def described(found: Settings, directory: Path) -> str:
    """All that the settings say but for a connection's defaults, with paths relative to the configuration."""
    lines = [f"database: {found.database}"]
    for name in type(found).model_fields:
        if name not in SHOWN_OTHERWISE:
            lines.append(f"{name}: {getattr(found, name)}")
    for connection in found.connections:
        lines += ["", f"{connection.name} ({connection.org_type})"]
        lines += [
            f"  {field.name}: {getattr(connection, field.name)}"
            for field in fields(connection)
            if field.init and field.name != "name" and getattr(connection, field.name) != field.default
        ]
    lines += ["", *(f"warning: {warning}" for warning in found.warnings)]
    text = "\n".join(lines) + "\n"
    return text.replace(f"{directory}/", "").replace(f"{directory.parent}/", "../").replace("PosixPath", "")


@pytest.mark.parametrize("path", named("invalid"))
def test_all_problems_of_a_bad_configuration_are_reported(path: Path) -> None:
    assert problems(path) == expectation(path)


@pytest.mark.parametrize("path", named("valid"))
def test_a_good_configuration_gives_the_expected_settings(path: Path) -> None:
    assert described(load(path, ENVIRON), path.parent) == expectation(path)


def test_each_configuration_has_an_expectation() -> None:
    for folder in ("invalid", "valid"):
        configurations = {path.stem for path in (CONFIGS / folder).glob("*.yaml")}

        expected = {path.name.removesuffix(".expect.txt") for path in (CONFIGS / folder).glob("*.expect.txt")}

        assert configurations == expected
    assert len(list((CONFIGS / "invalid").glob("*.yaml"))) >= 30


# What a file can be


def test_a_missing_file_a_directory_and_an_empty_file_have_one_message_each(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "directory.yaml").mkdir()

    assert (
        problems(tmp_path / "missing.yaml")
        == "missing.yaml: does not exist: create it, or correct the path.\n"
    )
    assert problems(tmp_path / "directory.yaml") == "directory.yaml: is a directory: use a file in it.\n"
    assert problems(tmp_path / "empty.yaml") == "empty.yaml: is empty. Write at least connections: []\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(
            b"listen: 127.0.0.1:9877\nname: M\xfcller\n",
            "x.yaml:2: is not UTF-8 (byte 0xfc). Save it as UTF-8.\n",
            id="latin-1",
        ),
        pytest.param(
            "connections: []".encode("utf-16"),
            "x.yaml:1: is not UTF-8 (UTF-16). Save it as UTF-8.\n",
            id="utf-16",
        ),
        pytest.param(
            b"connections: []\n\x00",
            "x.yaml:2: contains the control character 0x0000. Remove it.\n",
            id="zeros",
        ),
    ],
)
def test_a_file_that_is_not_text_is_reported_as_such(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(raw)

    assert problems(tmp_path / "x.yaml") == message


def test_a_byte_order_mark_and_windows_line_ends_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbf" + ACME.replace("\n", "\r\n").encode())

    assert [each.name for each in load(tmp_path / "x.yaml", {}).connections] == ["acme"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[{"])
def test_a_file_of_only_brackets_is_an_error_and_not_a_crash(tmp_path: Path, opening: str) -> None:
    (tmp_path / "x.yaml").write_text(opening * 300_000, encoding="utf-8")

    assert problems(tmp_path / "x.yaml").endswith(": is nested more than 32 levels deep.\n")


def test_a_report_of_thousands_of_problems_is_truncated_and_says_so() -> None:
    error = ConfigError(Problem("x.yaml", line, "", "is wrong.") for line in range(5_000))

    assert len(error.problems) == 5_000
    assert str(error).splitlines()[-1] == "… and 4,950 more problems."


def test_only_the_main_file_may_be_a_pipe(tmp_path: Path) -> None:
    """A named pipe without a writer used to block reloads forever."""
    named = tmp_path / "more.yaml"
    os.mkfifo(named)
    reading, writing = os.pipe()
    os.write(writing, f"connections_from: [{named}]\n".encode())
    os.close(writing)

    assert problems(Path(f"/dev/fd/{reading}")) == f"{named}: is a pipe or a device: use a regular file.\n"
    assert problems(named) == "more.yaml: is a pipe or a device: use a regular file.\n"
    os.close(reading)


# What loading accepts


def test_a_missing_key_is_not_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(ACME, encoding="utf-8")

    (connection,) = load(tmp_path / "x.yaml", {}).connections

    assert connection.current.private_key == Source("file", str(tmp_path / "acme.pem"))


def test_an_existing_ca_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(Path(certifi.where()).read_bytes())
    (tmp_path / "x.yaml").write_text("ca_file: ca.pem\n" + ACME, encoding="utf-8")

    assert load(tmp_path / "x.yaml", {}).ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize(("option", "written", "most"), [("labels", "x", 20), ("objects", ["read"], 50)])
def test_too_many_entries_are_reported_with_the_limit(
    tmp_path: Path, option: str, written: object, most: int
) -> None:
    entries = json.dumps({f"name{number}": written for number in range(most + 1)})
    (tmp_path / "x.yaml").write_text(f"{ACME}    {option}: {entries}\n", encoding="utf-8")

    assert problems(tmp_path / "x.yaml").endswith(f".{option}: has more than {most} entries. Remove some.\n")


# Additional files


def test_paths_are_relative_to_the_file_that_contains_them(tmp_path: Path) -> None:
    (tmp_path / "teams" / "crm").mkdir(parents=True)
    (tmp_path / "x.yaml").write_text("connections_from: [teams/*/*.yaml]\n", encoding="utf-8")
    (tmp_path / "teams" / "crm" / "acme.yaml").write_text(ACME, encoding="utf-8")

    found = load(tmp_path / "x.yaml", {})

    assert found.database == str(tmp_path / "bearerwatch.db")
    assert found.connections[0].current.private_key.place == str(tmp_path / "teams" / "crm" / "acme.pem")
    assert found.files == (tmp_path / "x.yaml", tmp_path / "teams" / "crm" / "acme.yaml")
    assert found.patterns == (str(tmp_path / "teams/*/*.yaml"),)


def test_a_relative_path_of_the_configuration_gives_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.yaml").write_text(ACME, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    found = load(Path("x.yaml"), {})

    assert found.files == (tmp_path / "x.yaml",)
    assert found.connections[0].current.private_key.place == str(tmp_path / "acme.pem")


def test_a_directory_named_like_a_pattern_is_taken_literally(tmp_path: Path) -> None:
    directory = tmp_path / "[prod]*"
    directory.mkdir()
    (directory / "x.yaml").write_text("connections_from: ['*.yaml']\n", encoding="utf-8")
    (directory / "acme.yaml").write_text(ACME, encoding="utf-8")

    assert [each.name for each in load(directory / "x.yaml", {}).connections] == ["acme"]


# What must never be shown


def test_no_message_repeats_a_key_or_a_password() -> None:
    invalid = sorted((CONFIGS / "invalid").glob("*.yaml"))
    pasted = [path for path in invalid if re.search("hunter2|MIIE", path.read_text(encoding="utf-8"))]

    assert len(pasted) >= 6
    assert not [path for path in pasted if re.search("hunter2|MIIE", problems(path))]


@pytest.mark.parametrize(
    "option", ["interval", "listen", "database", "login_budget_per_hour", "max_in_flight", "settle"]
)
def test_a_key_pasted_anywhere_is_never_repeated(tmp_path: Path, option: str) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----"
    (tmp_path / "x.yaml").write_text(json.dumps({option: key, "connections": []}), encoding="utf-8")

    assert "MIIE" not in problems(tmp_path / "x.yaml")


# The documents: the example and the schema


def test_the_example_loads_with_the_defaults_that_its_comments_give() -> None:
    found = load(EXAMPLE, {})

    assert [each.host for each in found.connections] == ["127.0.0.1", "127.0.0.1"]
    assert found.interval == timedelta(minutes=5)
    assert all(
        Path(pair.private_key.place).parent == EXAMPLE.parent / "demo-keys"
        for each in found.connections
        for pair in (each.current, each.next)
        if pair
    )


def options_of(block: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every option of a block of the schema, and of the blocks in it."""
    for name, option in block.get("properties", {}).items():
        if option.get("deprecated"):
            continue
        yield name, option.get("default")
        for inner in (option, option.get("items", {})):
            if "$ref" in inner:
                yield from options_of(definitions[inner["$ref"].rpartition("/")[2]], definitions)


def test_every_option_of_the_schema_is_in_the_example_with_its_default() -> None:
    whole = schema()
    example = EXAMPLE.read_text(encoding="utf-8")

    for name, default in options_of(whole, whole["$defs"]):
        lines = re.findall(rf"(?<!\w){name}:.*", example)
        assert lines, name
        if isinstance(default, str | int):
            written = str(default).lower() if isinstance(default, bool) else str(default)
            assert any(written in line for line in lines), name


def test_every_option_in_the_schema_has_a_description() -> None:
    whole = schema()

    for block in (whole, *whole["$defs"].values()):
        for name, option in block["properties"].items():
            definition = whole["$defs"].get(option.get("$ref", "").rpartition("/")[2], {})
            assert option.get("description") or definition.get("description"), name


class Editor(yaml.SafeLoader):
    """YAML 1.2, in which `off` is a text: only `true` and `false` are not."""

    yaml_implicit_resolvers = {  # noqa: RUF012 # as the library has it
        first: [(tag, form) for tag, form in known if first in "tTfF" or not tag.endswith(":bool")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def plain(path: Path) -> Any:
    """A YAML file as an editor hands it to a JSON Schema."""
    return json.loads(json.dumps(yaml.load(path.read_text(encoding="utf-8"), Editor), default=str))


@pytest.mark.parametrize(
    "path",
    [pytest.param(EXAMPLE, id="example")]
    + [
        each
        for each in named("valid")
        if each.id not in {"texts_that_yaml_would_change", "from_files", "replicas"}
    ],
)
def test_a_good_configuration_is_valid_in_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(schema()).validate(plain(path))


@pytest.mark.parametrize(
    "name",
    [
        "misspelt_options",
        "missing_options",
        "subdomain_and_login_url",
        "sources",
        "durations",
        "truth_values",
    ],
)
def test_the_schema_also_rejects_the_error(name: str) -> None:
    validator = jsonschema.Draft202012Validator(schema())

    assert not validator.is_valid(plain(CONFIGS / "invalid" / f"{name}.yaml"))


# Anything at all


def loaded(raw: bytes) -> Settings | str:
    """Load a configuration, catching only ConfigError."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.yaml"
        path.write_bytes(raw)
        try:
            return load(path, {})
        except ConfigError as error:
            return str(error)


@settings(deadline=None)
@given(st.timedeltas(timedelta(minutes=1), timedelta(days=7)))
def test_a_formatted_interval_parses_to_the_same_value(interval: timedelta) -> None:
    seconds = int(interval.total_seconds())
    text = f"interval: {seconds // 86_400}d{seconds % 86_400}s\n{ACME}"

    found = loaded(text.encode())

    assert isinstance(found, Settings)
    assert found.connections[0].interval == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("written", "takes"),
    [
        ("", True),
        ("web: {external_url: 'http://localhost:9877'}", True),
        ("web: {external_url: 'https://monitor.example.com'}", False),
        ("web: {hosts: [monitor.example.com]}", False),
        ("listen: 0.0.0.0:9877", False),
        ("listen: 0.0.0.0:9877\nweb: {enable_checks: true}", True),
    ],
    ids=[
        "on loopback",
        "on loopback, and said",
        "behind a proxy",
        "known by another name",
        "open to others",
        "open to others, and wanted",
    ],
)
def test_checks_on_request_need_an_option_if_anyone_could_ask(written: str, *, takes: bool) -> None:
    found = loaded(f"{written}\n{ACME}".encode())

    assert isinstance(found, Settings)
    assert found.takes_checks is takes


def test_garbage_is_collected_again_after_a_configuration_with_errors(tmp_path: Path) -> None:
    (tmp_path / "bearerwatch.yaml").write_text("nonsense")
    with pytest.raises(ConfigError):
        load(tmp_path / "bearerwatch.yaml", {})
    assert gc.isenabled()
