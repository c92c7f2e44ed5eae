"""A daemon's configuration over orgs of a simulator, and what its metrics say of a connection."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import httpx

from tests.end_to_end.processes import Running, free_port


def key_pair(folder: Path) -> Path:
    """The folder, with key and certificate as the setup guide's own command makes them."""
    subprocess.run(
        "openssl req -x509 -sha256 -nodes -days 3650 -newkey rsa:2048"
        " -keyout private-key.pem -out cert.pem -subj /CN=salesforce-jwt-integration",
        cwd=folder,
        check=True,
        shell=True,
        capture_output=True,
    )
    return folder


def connection(orgs: httpx.Client, pair: Path, name: str, **org: object) -> str:
    """Make an org, and give the connection to it as YAML."""
    settings = {
        "consumer_key": f"3MVG9_{name}",
        "username": f"integration@{name}.example",
        "certificate": (pair / "cert.pem").read_text(),
        **org,
    }
    assert orgs.put(f"/_orgs/{name}", json=settings).status_code in {200, 201}
    return f"""
  - name: {name}
    login_url: {str(orgs.base_url).rstrip("/")}/{name}
    consumer_key: 3MVG9_{name}
    username: integration@{name}.example
    private_key: {{file: {pair}/private-key.pem}}
    certificate: {{file: {pair}/cert.pem}}
"""


def write(folder: Path, *connections: str, port: int | None = None, more: str = "") -> Path:
    config = folder / "bearerwatch.yaml"
    listed = "".join(connections) or " []"
    address = f"127.0.0.1:{port or free_port()}"
    general = f"listen: {address}\ninterval: 10s\nlogin_budget_per_hour: 3600\n"
    config.write_text(f"{general}{more}\nconnections:{listed}")
    return config


def up(running: Running, name: str) -> bool:
    return running.sample("bearerwatch_connection_up", connection=name) == 1


def exchanges_of(running: Running, name: str) -> float:
    return running.sample("bearerwatch_connection_exchanges_total", connection=name) or 0


def findings(samples: Iterable[tuple[str, frozenset[tuple[str, str]]]]) -> list[dict[str, str]]:
    """The labels of each finding."""
    return [dict(labels) for name, labels in samples if name == "bearerwatch_connection_finding"]


def finding_of(running: Running, name: str) -> set[str]:
    """The causes that a connection has."""
    return {each["cause"] for each in findings(running.samples()) if each["connection"] == name}
