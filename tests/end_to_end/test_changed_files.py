"""Files that change under a running daemon, which looks once an hour: it must notice by itself."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import httpx

from monitor.keys import keygen
from tests.certificates import Issued, authority, for_loopback
from tests.config.test_web_file import HASH
from tests.end_to_end.processes import Running, daemon, free_port, started, until
from tests.end_to_end.watching import finding_of

NAME = {"connection": "acme"}


def configured(folder: Path, orgs: httpx.Client, keys: Path) -> Path:
    org = {
        "consumer_key": "3MVG9acme",
        "username": "integration@acme.example",
        "certificate": (keys / "tls.crt").read_text(),
    }
    orgs.put("/_orgs/acme", json=org).raise_for_status()
    config = folder / "bearerwatch.yaml"
    config.write_text(f"""\
listen: 127.0.0.1:{free_port()}
interval: 1h
connections:
  - name: acme
    login_url: {str(orgs.base_url).rstrip("/")}/acme
    consumer_key: 3MVG9acme
    username: integration@acme.example
    private_key: {{file: {keys}/tls.key}}
    certificate: {{file: {keys}/tls.crt}}
""")
    return config


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    keygen.generate(folder, now=datetime.now(UTC), key_name="tls.key", certificate_name="tls.crt")
    return folder


def state(running: Running) -> set[str]:
    return {
        dict(labels)["state"]
        for (name, labels), value in running.samples().items()
        if name == "bearerwatch_connection_state" and value == 1
    }


def test_a_half_written_key_is_a_finding_and_the_earlier_one_stays_in_use(
    orgs: httpx.Client, tmp_path: Path
) -> None:
    keys = make(tmp_path / "keys")
    whole = (keys / "tls.key").read_bytes()
    with daemon(configured(tmp_path, orgs, keys)) as running:
        until(lambda: state(running) == {"healthy"}, "the first grant")

        (keys / "tls.key").write_bytes(whole[:700])
        until(lambda: finding_of(running, "acme") == {"key_unreadable"}, "the broken file to be noticed")
        assert running.sample("bearerwatch_connection_up", **NAME) == 1
        assert state(running) == {"degraded"}

        (keys / "tls.key").write_bytes(whole)
        until(lambda: state(running) == {"healthy"}, "the whole file to be noticed")


def test_a_key_swapped_as_in_kubernetes_begins_the_settle_time(orgs: httpx.Client, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    make(volume / "..2026_01")
    (volume / "..data").symlink_to("..2026_01")
    for name in ("tls.key", "tls.crt"):
        (volume / name).symlink_to(f"..data/{name}")
    with daemon(configured(tmp_path, orgs, volume)) as running:
        until(lambda: state(running) == {"healthy"}, "the first grant")

        make(volume / "..2026_02")
        (volume / "..data_tmp").symlink_to("..2026_02")
        (volume / "..data_tmp").rename(volume / "..data")

        until(lambda: state(running) == {"settling"}, "the other key to be noticed")
        assert finding_of(running, "acme") == {"propagation_pending"}


def test_a_renewed_web_certificate_and_a_new_user_apply_without_a_restart(tmp_path: Path) -> None:
    first, second = authority("first"), authority("second")
    for_loopback(first).write(tmp_path, "server")
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    (tmp_path / "bearerwatch.yaml").write_text(
        f"listen: 127.0.0.1:{(port := free_port())}\nweb: {{config_file: web.yml}}\nconnections: []\n"
    )

    def status(by: Issued) -> int | None:
        trusted = ssl.create_default_context(cadata=by.pem.decode())
        try:
            return httpx.get(f"https://127.0.0.1:{port}/metrics", verify=trusted, trust_env=False).status_code
        except httpx.TransportError:
            return None

    with started(["run", "--config", str(tmp_path / "bearerwatch.yaml")], "", tmp_path / "log"):
        until(lambda: status(first) == 200, "the pages over TLS")

        for_loopback(second).write(tmp_path, "server")
        until(lambda: status(second) == 200, "the renewed certificate")
        assert status(first) is None

        web.write_text(web.read_text() + f"basic_auth_users:\n  alice: {HASH}\n")
        until(lambda: status(second) == 401, "a password to be asked for")
