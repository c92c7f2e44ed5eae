"""What `make release` hands out is whole: it installs into an empty environment, and runs there."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements.audit import Audit, read, verdict

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
UV = Path(sys.executable).with_name("uv")

LICENSED_IN_A_FILE = {"pyreqwest"}
"""Dependencies whose metadata names no licence, but whose wheel holds its text (Apache-2.0)."""


def run(*command: str | Path, **more: str) -> str:
    """Stdout of a command, which must succeed, with nothing of this environment but its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=kept | more, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `make release` filled, with the tools of this environment."""
    directory = tmp_path_factory.mktemp("release")
    tools = Path(sys.executable).parent
    # --assume-old: this environment already has the tools.
    run(
        *("make", "--assume-old", tools.parent / "dev", "release"),
        *(f"DIST={directory}", f"VENV={tools.parent}", f"PATH={tools}:{os.environ['PATH']}"),
    )
    return directory


def test_a_release_has_wheel_source_bill_of_materials_and_checksums(release: Path) -> None:
    files = {file.name for file in release.iterdir()} - {".gitignore"}
    sums = (release / "SHA256SUMS").read_text().split()

    assert files == {
        "SHA256SUMS",
        f"bearerwatch-{VERSION}-py3-none-any.whl",
        f"bearerwatch-{VERSION}.tar.gz",
        f"bearerwatch-{VERSION}.cdx.json",
    }
    assert dict(zip(sums[1::2], sums[::2], strict=True)) == {
        name: hashlib.sha256((release / name).read_bytes()).hexdigest() for name in files - {"SHA256SUMS"}
    }


def test_the_wheel_is_pure_python_and_contains_only_the_product(release: Path) -> None:
    with zipfile.ZipFile(release / f"bearerwatch-{VERSION}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        metadata = HeaderParser().parsestr(wheel.read(f"bearerwatch-{VERSION}.dist-info/METADATA").decode())
    package = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "monitor").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    manual = {f"bearerwatch-{VERSION}.data/data/share/man/man1/bearerwatch.1"}
    assert {name for name in names if ".dist-info/" not in name} == package | manual
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]


def test_the_source_archive_has_what_the_tests_need_and_no_keys(release: Path) -> None:
    with tarfile.open(release / f"bearerwatch-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    tracked = set(run("git", "ls-files").splitlines()) if (ROOT / ".git").exists() else set()
    left_out = {name for name in tracked - names if not name.startswith(".ci/") and (ROOT / name).exists()}
    assert not left_out
    assert not [name for name in names if name.endswith((".db", ".key")) or "node_modules" in name]


def test_the_bill_of_materials_names_each_locked_dependency_with_its_licence(release: Path) -> None:
    bill = json.loads((release / f"bearerwatch-{VERSION}.cdx.json").read_text())
    listed = {one["purl"].partition("@")[0].removeprefix("pkg:pypi/"): one for one in bill["components"]}

    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "bearerwatch"
    wanted = {name_of(requirement) for requirement in PROJECT["dependencies"]}
    assert wanted <= set(listed)
    silent = {name for name, one in listed.items() if not one.get("licenses")}
    assert silent <= LICENSED_IN_A_FILE
    assert not {"pytest", "mypy", "pip-audit"} & set(listed)


def name_of(requirement: str) -> str:
    """The name in a requirement such as `httpx>=0.28.1,<0.29`."""
    return requirement.partition(">=")[0].strip()


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with only the locked dependencies."""
    environment = tmp_path_factory.mktemp("empty")
    run(UV, "venv", "--quiet", "--allow-existing", "--python", sys.executable, environment)
    lock = ROOT / "requirements/run.lock"
    run(
        UV,
        "pip",
        "install",
        "--quiet",
        "--system-certs",
        "--python",
        environment,
        "--require-hashes",
        "-r",
        lock,
    )
    return environment


@pytest.mark.parametrize("kind", ["-py3-none-any.whl", ".tar.gz"], ids=["wheel", "source"])
def test_the_wheel_installs_with_the_locked_dependencies_and_runs(
    release: Path, dependencies: Path, tmp_path: Path, kind: str
) -> None:
    product = release / f"bearerwatch-{VERSION}{kind}"
    run(
        UV,
        "pip",
        "install",
        "--quiet",
        "--system-certs",
        "--python",
        dependencies,
        "--no-deps",
        "--reinstall",
        product,
    )
    bearerwatch = dependencies / "bin/bearerwatch"
    record = {"answer": {"status": 400, "body": '{"error":"invalid_client_id"}'}}
    (tmp_path / "record.json").write_text(json.dumps(record))

    version = run(bearerwatch, "--version")
    schema = json.loads(run(bearerwatch, "config", "schema"))
    explained = json.loads(run(bearerwatch, "explain", tmp_path / "record.json", "--json"))

    assert version == f"bearerwatch {VERSION}\n"
    assert "connections" in schema["properties"]
    assert explained["cause"] == "consumer_key_unknown"


def test_dependencies_of_extras_are_locked() -> None:
    """Else pip takes it as not pinned, and refuses, from the day on which there is a newer one."""
    lock = (ROOT / "requirements/dev.lock").read_text()
    pins = [Requirement(pin) for pin in re.findall(r"^[^\s#][^;\\]*", lock, re.MULTILINE)]
    locked = {canonicalize_name(pin.name): pin.extras for pin in pins}
    asked = [Requirement(one) for installed in metadata.distributions() for one in installed.requires or ()]

    missing = {
        f"{one.name}[{extra}]"
        for one in asked
        if one.marker is None or one.marker.evaluate({"extra": ""})
        for extra in one.extras - locked.get(canonicalize_name(one.name), one.extras)
    }

    assert {"coverage", "pyjwt"} <= locked.keys()
    assert not missing


NOT_KNOWN = {"name": "httpx", "skip_reason": "Dependency not found on PyPI"}
FINE = {"name": "pyjwt", "version": "2.15.1", "vulns": []}
BAD = {
    "name": "jinja2",
    "version": "3.1.0",
    "vulns": [{"id": "GHSA-1", "fix_versions": ["3.1.6"]}, {"id": "GHSA-2", "fix_versions": []}],
}


def audited(*dependencies: object) -> tuple[int, str]:
    """The verdict on pip-audit's report of these dependencies."""
    return verdict(read(json.dumps({"dependencies": dependencies, "fixes": []})), {"CI": "true"})


def test_an_advisory_fails_the_audit_and_names_the_fixed_version() -> None:
    code, told = audited(FINE, BAD)

    assert code == 1
    assert told.splitlines() == [
        "audit: jinja2 3.1.0: GHSA-1, fixed in 3.1.6",
        "audit: jinja2 3.1.0: GHSA-2, fixed in no version yet",
        "audit: 2 dependencies looked up, 2 advisories",
    ]


def test_an_audit_reports_packages_unknown_to_the_database() -> None:
    assert audited(FINE, NOT_KNOWN) == (
        0,
        "audit: not in the database: httpx\naudit: 1 dependencies looked up, 0 advisories",
    )


WITHOUT_A_DATABASE = [
    pytest.param(read("Traceback (most recent call last):"), id="unreachable"),
    pytest.param(read(""), id="silent"),
    pytest.param(Audit(looked_up=0, unknown=("httpx",), advisories=()), id="a mirror that knows none"),
]


@pytest.mark.parametrize("audit", WITHOUT_A_DATABASE)
@pytest.mark.parametrize("environ", [{}, {"CI": "true", "AUDIT_UNAVAILABLE": "skip"}])
def test_an_audit_without_a_database_is_skipped_and_never_called_clean(
    audit: Audit | None, environ: dict[str, str]
) -> None:
    code, told = verdict(audit, environ)

    assert code == 0
    assert "SKIPPED" in told
    assert "advisories" not in told


@pytest.mark.parametrize("audit", WITHOUT_A_DATABASE)
@pytest.mark.parametrize("more", [{}, {"AUDIT_UNAVAILABLE": ""}, {"AUDIT_UNAVAILABLE": "true"}])
def test_an_audit_without_a_database_fails_in_ci_unless_skipping_is_allowed(
    audit: Audit | None, more: dict[str, str]
) -> None:
    code, told = verdict(audit, {"CI": "true", **more})

    assert code == 1
    assert "AUDIT_UNAVAILABLE=skip" in told
