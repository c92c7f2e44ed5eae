"""What docs/deployment.md tells people to paste works, as far as it can be tried without an engine."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.config import load
from monitor.rules import rules

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/deployment.md").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def configurations() -> list[str]:
    """The configurations on the page: written by a shell command, or in a separate block."""
    pasted = re.findall(r"bearerwatch\.yaml >/dev/null <<'EOF'\n(.*?)EOF\n", TEXT, re.DOTALL)
    return [*pasted, *(block for block in blocks("yaml") if block.startswith("# bearerwatch.yaml"))]


def test_each_deployment_has_a_configuration() -> None:
    assert len(configurations()) == 3


@pytest.mark.parametrize("text", configurations(), ids=["systemd", "container", "kubernetes"])
def test_the_configurations_on_the_page_are_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(text)

    settings = load(file, {})

    assert settings.database == "/var/lib/bearerwatch/bearerwatch.db"
    assert [connection.name for connection in settings.connections] == ["acme-production"]


@pytest.mark.parametrize("script", blocks("sh"))
def test_the_commands_on_the_page_are_valid_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)

    assert done.stderr == ""


def test_an_installation_by_pipx_takes_exactly_the_locked_versions(tmp_path: Path) -> None:
    (commands,) = re.findall(r"```sh\n(grep [^`]*pipx [^`]*)```", TEXT)
    lock = (ROOT / "requirements" / "run.lock").read_text()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "run.lock").write_text(lock)
    # What pipx does, in an environment that has these versions: any other would have to be fetched.
    pip = f"{sys.executable} -m pip install --dry-run --no-index --no-build-isolation {ROOT}"
    script = re.sub(r'pipx install \. --pip-args "(.*)"', rf"{pip} \1", commands)

    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    packages = re.findall(r"^[^ #\n]", lock, re.MULTILINE)
    assert len((tmp_path / "locked.txt").read_text().splitlines()) == len(packages)


def test_files_and_versions_named_on_the_page_exist() -> None:
    named = set(re.findall(r"\b(?:deploy|requirements)/[\w./-]*\w", TEXT)) | {
        f"docs/{link}" for link in re.findall(r"\]\((\.\./[\w./-]+)\)", TEXT)
    }

    assert not [path for path in named if not (ROOT / path).exists()]
    assert set(re.findall(r"(?:bearerwatch:|newTag: )(\d\S*)", TEXT)) == {VERSION}


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The directory that the page says to create next to the repository."""
    (kustomization,) = (block for block in blocks("yaml") if block.startswith("# kustomization.yaml"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "bearerwatch").symlink_to(ROOT)
    (mine / "kustomization.yaml").write_text(kustomization)
    (mine / "bearerwatch.yaml").write_text(configurations()[-1])
    return mine


def kustomized(mine: Path) -> dict[tuple[str, str], Any]:
    """What kubectl would apply, by kind and name."""
    done = subprocess.run(["kubectl", "kustomize", mine], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}


@needs_kubectl
def test_the_kustomization_of_the_page_replaces_image_and_configuration(mine: Path) -> None:
    made = kustomized(mine)

    (container,) = made["StatefulSet", "bearerwatch"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/bearerwatch:{VERSION}"
    assert made["ConfigMap", "bearerwatch"]["data"] == {"bearerwatch.yaml": configurations()[-1]}


@needs_kubectl
def test_the_patches_on_the_page_set_labels_and_rule_times(mine: Path) -> None:
    (label,) = re.findall(r"^  (labels:\n    - pairs.*)$", TEXT, re.MULTILINE)
    (patches,) = re.findall(r"`(patches: .*?)`", TEXT)
    (script,) = (block for block in blocks("sh") if "rules.yaml" in block)
    with (mine / "kustomization.yaml").open("a") as kustomization:
        kustomization.write(f"{patches}\n{label}\n")
    with (mine / "bearerwatch.yaml").open("a") as configuration:
        configuration.write("web: {external_url: https://watch.example.com}\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-e"], input=script, text=True, cwd=mine, env=os.environ | {"PATH": path}, check=True
    )

    made = kustomized(mine)

    assert all(one["metadata"]["labels"]["release"] == "prometheus" for one in made.values())
    assert made["PrometheusRule", "bearerwatch"]["spec"] == yaml.safe_load(
        rules(load(mine / "bearerwatch.yaml", {}))
    )
    assert "https://watch.example.com" in str(made["PrometheusRule", "bearerwatch"])
