"""What `config check` says of the keys and certificates that a configuration names."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from monitor.commands.cli import app
from monitor.keys import keygen
from tests.making import NOW

CONNECTION = """
  - name: {name}
    subdomain: acme
    consumer_key: 3MVG9_{name}
    username: {name}@acme.com
    private_key: {key}
    certificate: {{file: {certificate}}}
"""


def checked(folder: Path, connections: str, *options: str, **environment: str) -> tuple[int, str, list[str]]:
    """Exit code, what stdout says, and the warnings without the file's name."""
    file = folder / "bearerwatch.yaml"
    file.write_text(f"web: {{external_url: https://watch.acme.com}}\nconnections:{connections}")
    ended = CliRunner().invoke(app, ["config", "check", str(file), *options], env=environment)
    return ended.exit_code, ended.stdout, ended.stderr.replace(f"{file}: ", "").splitlines()


@pytest.fixture(name="pairs", scope="module")
def two_pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    for folder in folders:
        keygen.generate(folder, now=NOW)
    return folders


def test_a_matching_pair_is_not_a_warning(tmp_path: Path, pairs: tuple[Path, Path]) -> None:
    fits = CONNECTION.format(
        name="acme", key=f"{{file: {pairs[0]}/private-key.pem}}", certificate=f"{pairs[0]}/cert.pem"
    )

    code, said, warnings = checked(tmp_path, fits, "--strict")

    assert (code, warnings) == (0, [])
    assert said.endswith("1 connection, no errors, no warnings.\n")


def test_key_problems_are_warnings_with_the_same_text_as_on_the_page(
    tmp_path: Path, pairs: tuple[Path, Path]
) -> None:
    certificate = f"{pairs[0]}/cert.pem"
    connections = (
        CONNECTION.format(name="gone", key="{file: gone.pem}", certificate=certificate)
        + CONNECTION.format(name="swapped", key=f"{{file: {certificate}}}", certificate=certificate)
        + CONNECTION.format(
            name="other", key=f"{{file: {pairs[1]}/private-key.pem}}", certificate=certificate
        )
    )

    code, said, warnings = checked(tmp_path, connections)

    assert code == 0
    assert said.endswith("3 connections, no errors, 4 warnings.\n")
    gone, swapped, _, other = sorted(
        warnings, key=lambda each: "gone swapped other".index(each.split(":")[0])
    )
    assert gone == (
        f"gone: Private key: The file {tmp_path}/gone.pem does not exist: create it, or correct the path."
    )
    assert swapped.startswith("swapped: ")
    assert "certificate" in swapped
    assert other.startswith("other: ")
    assert checked(tmp_path, connections, "--strict")[0] == 2


def test_sources_only_in_the_daemons_environment_are_mentioned_once(
    tmp_path: Path, pairs: tuple[Path, Path]
) -> None:
    named = CONNECTION.format(name="acme", key="{env: NOT_HERE}", certificate=f"{pairs[0]}/cert.pem")

    _, _, warnings = checked(tmp_path, named)

    assert warnings == ["acme: the environment variable NOT_HERE is not set here."]


def test_a_missing_external_url_is_a_warning_with_its_effect(tmp_path: Path) -> None:
    file = tmp_path / "bearerwatch.yaml"
    file.write_text("connections: []")

    ended = CliRunner().invoke(app, ["config", "check", str(file), "--strict"])

    assert "web.external_url is not set: alerts and notifications have no links" in ended.stderr
    assert len(ended.stderr.splitlines()) == 2
    assert ended.stdout.endswith("no errors, 2 warnings.\n")
    assert ended.exit_code == 2


def test_the_default_locations_are_tried_and_named_if_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    none = CliRunner().invoke(app, ["rules"])
    Path("bearerwatch.yaml").write_text("connections: []")
    there = CliRunner().invoke(app, ["config", "check"])

    assert none.exit_code == 2
    assert none.stderr == (
        "No configuration found. Use --config FILE, or create bearerwatch.yaml or"
        " /etc/bearerwatch/bearerwatch.yaml.\n"
    )
    assert there.exit_code == 0
    assert there.stdout == "bearerwatch.yaml: no connections, no errors, 2 warnings.\n"


def test_help_has_a_short_name(tmp_path: Path) -> None:
    assert "Exit code" in CliRunner().invoke(app, ["check", "-h"]).stdout
