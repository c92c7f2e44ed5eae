"""What docs/deployment.md tells people to paste works, as far as it can be tried without an engine."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from monitor.config import load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/deployment.md").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def configurations() -> list[str]:
    """The configurations: written by a shell command, or a block of their own."""
    pasted = re.findall(r"bearerwatch\.yaml >/dev/null <<'EOF'\n(.*?)EOF\n", TEXT, re.DOTALL)
    return [*pasted, *(block for block in blocks("yaml") if block.startswith("# bearerwatch.yaml"))]


def test_each_of_the_three_ways_has_a_configuration() -> None:
    assert len(configurations()) == 3


@pytest.mark.parametrize("text", configurations(), ids=["systemd", "container", "kubernetes"])
def test_a_configuration_of_the_page_has_no_mistake(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(text)

    settings = load(file, {})

    assert settings.database == "/var/lib/bearerwatch/bearerwatch.db"
    assert [connection.name for connection in settings.connections] == ["acme-production"]


@pytest.mark.parametrize("script", blocks("sh"))
def test_the_commands_of_the_page_are_a_shells(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)

    assert done.stderr == ""


def test_what_the_page_names_is_there_and_of_this_version() -> None:
    named = set(re.findall(r"\b(?:deploy|requirements)/[\w./-]*\w", TEXT)) | {
        f"docs/{link}" for link in re.findall(r"\]\((\.\./[\w./-]+)\)", TEXT)
    }

    assert not [path for path in named if not (ROOT / path).exists()]
    assert set(re.findall(r"(?:bearerwatch:|newTag: )(\d\S*)", TEXT)) == {VERSION}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_kustomization_of_the_page_replaces_image_and_configuration(tmp_path: Path) -> None:
    (kustomization,) = (block for block in blocks("yaml") if block.startswith("# kustomization.yaml"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "bearerwatch").symlink_to(ROOT)
    (mine / "kustomization.yaml").write_text(kustomization)
    (mine / "bearerwatch.yaml").write_text(configurations()[-1])

    done = subprocess.run(["kubectl", "kustomize", mine], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    made = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    (container,) = made["StatefulSet", "bearerwatch"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/bearerwatch:{VERSION}"
    assert made["ConfigMap", "bearerwatch"]["data"] == {"bearerwatch.yaml": configurations()[-1]}
