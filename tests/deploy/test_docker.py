"""The image and the compose file: linted, consistent, and the image's steps done without an engine."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from monitor.config import load
from monitor.daemon.daemon import STOP_WITHIN_SECONDS

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
TOOLS = Path(sys.executable).parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: word and rest, with its lines joined."""
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, the one before the first FROM left out."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def compose() -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    read = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert isinstance(read, dict)
    return read


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_accepts_the_dockerfile_without_complaints() -> None:
    assert run(TOOLS / "hadolint", DOCKER / "Dockerfile") == ""


def test_the_image_runs_as_numeric_non_root_user_and_writes_only_to_its_volume() -> None:
    final = dict(stages()[-1])

    assert final["USER"] == "65532:65532"
    assert final["VOLUME"] == "/var/lib/bearerwatch"


def test_the_base_is_pinned_and_the_dependencies_are_checked_by_hash() -> None:
    base = dict(instructions())["ARG"]
    installs = [rest for word, rest in stages()[0] if word == "RUN" for rest in rest.split("&&")]
    from_index = [rest for rest in installs if " install " in rest and "--no-index" not in rest]

    assert re.fullmatch(r"BASE=python:\d+\.\d+-slim-[a-z]+", base)
    assert len(from_index) == 2
    assert all("--require-hashes" in rest and "--only-binary :all:" in rest for rest in from_index)


def test_the_build_context_contains_only_what_is_copied() -> None:
    sent = {
        line.removeprefix("!").strip("/")
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source.strip("/") for word, rest in stages()[0] if word == "COPY" for source in rest.split()[:-1]
    }

    assert sent == copied


def test_the_images_build_steps_give_a_working_environment(tmp_path: Path) -> None:
    """The build stage, instruction by instruction, with /opt and /src moved to a directory of our own.

    Byte code is left out: it says nothing here, and takes a third of the time.
    """
    source = tmp_path / "src"
    source.mkdir()
    for word, rest in stages()[0]:
        if word == "COPY":
            *copied, target = rest.split()
            for each in copied:
                place = source / target / ("" if (ROOT / each).is_dir() else Path(each).name)
                place.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / each).is_dir():
                    shutil.copytree(ROOT / each, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / each, place)
        elif word == "RUN":
            moved = rest.replace("/opt/", f"{tmp_path}/opt/")
            run("sh", "-c", f"export PATH={TOOLS}:$PATH PIP_NO_COMPILE=1; {moved}", cwd=source)

    environment = tmp_path / "opt/bearerwatch"
    assert run(environment / "bin/bearerwatch", "--version") == f"bearerwatch {VERSION}\n"
    listed = {folder.name.partition("-")[0] for folder in environment.glob("lib/*/site-packages/*.dist-info")}
    assert not {"pip", "setuptools", "hatchling"} & listed


def test_the_images_health_check_uses_the_daemons_path() -> None:
    check = json.loads(dict(stages()[-1])["HEALTHCHECK"].partition("CMD ")[2])
    (url,) = re.findall(r"http://[^']+", check[-1])

    assert check[:2] == ["python", "-c"]
    compile(check[2], "HEALTHCHECK", "exec")
    assert urlsplit(url).path == "/-/healthy"
    assert str(urlsplit(url).port) == dict(stages()[-1])["EXPOSE"]


def test_the_compose_file_is_valid() -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")


@pytest.mark.parametrize("name", SERVICES)
def test_a_compose_service_is_pinned_confined_and_published_only_on_loopback(name: str) -> None:
    service = SERVICES[name]

    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", ["simulator", "bearerwatch"])
def test_our_services_have_our_version_and_a_read_only_root(name: str) -> None:
    assert SERVICES[name]["image"] == f"bearerwatch:{VERSION}"
    assert SERVICES[name]["read_only"] is True


def test_all_mounts_of_the_demo_compose_file_exist_and_are_read_only() -> None:
    mounted = [
        volume.split(":")
        for service in SERVICES.values()
        for volume in service["volumes"]
        if volume.startswith(".")
    ]

    assert mounted
    assert not [source for source, *_ in mounted if not (DOCKER / source).exists()]
    assert all(rest[-1] == "ro" for _, *rest in mounted)


def test_the_demo_compose_configuration_is_valid_and_uses_the_simulator() -> None:
    settings = load(DOCKER / "bearerwatch.yaml", {})
    leads_to = {urlsplit(connection.login_url).netloc for connection in settings.connections}

    assert str(settings.listen) == "0.0.0.0:9877"
    assert leads_to == {"127.0.0.1:8899"}
    assert SERVICES["bearerwatch"]["network_mode"] == "service:simulator"
    assert settings.database.startswith("/var/lib/bearerwatch/")


def test_the_compose_file_of_replicas_is_valid_confined_and_shares_one_database() -> None:
    file = DOCKER / "compose.replicas.yaml"
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    services = yaml.safe_load(file.read_text())["services"]
    settings = load(DOCKER / "replicas.yaml", {})

    assert settings.database.startswith("postgresql://")
    assert urlsplit(settings.database).hostname in services
    assert services["bearerwatch"]["image"] == f"bearerwatch:{VERSION}"
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_grace_period_is_long_enough_for_a_stop() -> None:
    assert float(SERVICES["bearerwatch"]["stop_grace_period"].removesuffix("s")) > STOP_WITHIN_SECONDS


def test_the_compose_prometheus_differs_from_the_deployed_one_only_in_addresses() -> None:
    def without_addresses(path: Path) -> Any:
        text = path.read_text()
        return yaml.safe_load(re.sub(r"[\w.-]+:(\d{4})\b", r"HOST:\1", text.replace("/etc/prometheus/", "")))

    theirs = without_addresses(ROOT / "deploy/prometheus/prometheus.yml")

    assert without_addresses(DOCKER / "prometheus.yml") == theirs
