"""Looks up the locked dependencies with pip-audit: in PyPI's advisories, or else in OSV's.

Exit code 1 where an advisory was found. A database that can't be reached is one clear line, so that a laptop
on a train can still check its work; with `CI` set it is exit code 1 as well, unless AUDIT_UNAVAILABLE=skip
says that this CI reaches none. Run by `make audit`, and so by `make check`.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

DATABASES = ("pypi", "osv")

UNAVAILABLE = "AUDIT_UNAVAILABLE"
"""The environment variable by which a CI says that it reaches no database: `skip`."""

TIMEOUT_SECONDS = 180
"""For one database, all dependencies together: some forty requests of a moment each."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What one database said of the dependencies."""

    looked_up: int
    """How many it knows. One may answer and yet know none: a mirror of the packages alone does that."""
    unknown: tuple[str, ...]
    advisories: tuple[str, ...]
    """One line for each."""


def read(report: str) -> Audit | None:
    """Read pip-audit's JSON report. Gives None where there is none: the database could not be reached."""
    try:
        dependencies = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    unknown = tuple(one["name"] for one in dependencies if "skip_reason" in one)
    return Audit(
        looked_up=len(dependencies) - len(unknown),
        unknown=unknown,
        advisories=tuple(_lines(dependencies)),
    )


def _lines(dependencies: list[dict[str, object]]) -> Iterator[str]:
    for one in dependencies:
        advisories = one.get("vulns", [])
        assert isinstance(advisories, list)
        for advisory in advisories:
            fixed = ", ".join(advisory.get("fix_versions", [])) or "no version yet"
            yield f"{one['name']} {one['version']}: {advisory['id']}, fixed in {fixed}"


def verdict(audit: Audit | None, environ: Mapping[str, str]) -> tuple[int, str]:
    """The exit code, and what to tell."""
    if audit is None or not audit.looked_up:
        why = "no advisory database could be reached. Nothing is known of the dependencies."
        if environ.get("CI") and environ.get(UNAVAILABLE) != "skip":
            return 1, f"audit: FAILED, {why} Where CI can reach none, set {UNAVAILABLE}=skip."
        return 0, f"audit: SKIPPED, {why}"
    lines = [f"audit: {line}" for line in audit.advisories]
    if audit.unknown:
        lines.append(f"audit: not in the database: {', '.join(audit.unknown)}")
    lines.append(f"audit: {audit.looked_up} dependencies looked up, {len(audit.advisories)} advisories")
    return (1 if audit.advisories else 0), "\n".join(lines)


def ask(database: str, locks: list[str]) -> Audit | None:
    """Ask one database about what the lock files pin."""
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    files = [option for lock in locks for option in ("--requirement", lock)]
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-m", "pip_audit", "--vulnerability-service", database, *options, *files],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode not in {0, 1}:  # a wrong option, or a lock file that is none
        sys.exit(done.stderr)
    return read(done.stdout)


def main(locks: list[str]) -> int:
    """Ask one database after the other, until one knows something."""
    if importlib.util.find_spec("pip_audit") is None:  # which is not the same as a database out of reach
        print("audit: pip-audit is not installed: make check installs it", file=sys.stderr)
        return 2
    for lock in locks:
        if not Path(lock).is_file():
            print(f"audit: no such file: {lock}", file=sys.stderr)
            return 2
    audit = None
    for database in DATABASES:
        audit = ask(database, locks)
        if audit and audit.looked_up:
            break
    code, told = verdict(audit, os.environ)
    print(told)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
