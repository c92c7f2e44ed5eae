"""What `bearerwatch preflight` makes of the inputs of the guide's install form, by its real command line."""

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from monitor.commands.preflight import settings_of
from monitor.core.problem import OperatorError
from monitor.simulator.server import Simulator, running
from tests.end_to_end.processes import bearerwatch
from tests.journeys.keys import pair_files


@dataclass(frozen=True)
class Org:
    """An org, where it is, and the file with the key that it trusts."""

    url: str
    key: Path

    def is_so(self, **settings: object) -> None:
        right = {
            "consumer_key": "3MVG9acme",
            "username": "integration@acme.com",
            "certificate": pair_files().certificate.decode(),
        }
        base = self.url.removesuffix("/acme")
        assert httpx.put(f"{base}/_orgs/acme", json=right | settings, trust_env=False).is_success

    def tried(self, *more: str, key: str | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        given = {
            "--subdomain": self.url,
            "--consumer-key": "3MVG9acme",
            "--username": "integration@acme.com",
            "--private-key": key or str(self.key),
        }
        options = [word for pair in given.items() for word in pair]
        return bearerwatch("preflight", *options, *more, stdin=stdin)


@pytest.fixture(name="org")
def _org(tmp_path: Path) -> Iterator[Org]:
    key = tmp_path / "private-key.pem"
    key.touch(mode=0o600)
    key.write_bytes(pair_files().private_key)
    with running(Simulator()) as base:
        yield Org(f"{base}/acme", key)


def test_a_healthy_connection_is_printed_with_the_lines_to_configure(org: Org) -> None:
    org.is_so()

    done = org.tried("--app", "Sales: #1")

    assert done.returncode == 0, done.stderr
    assert "Healthy: a token was granted." in done.stdout
    assert "right        step 3  Consumer Key" in done.stdout
    lines = done.stdout.split("connections:\n")[1]
    assert f"login_url: {org.url}\n    audience: my_domain\n    consumer_key: 3MVG9acme\n" in lines
    (configured,) = yaml.safe_load(f"connections:\n{lines}")["connections"]
    assert configured["app"] == "Sales: #1"


def test_a_policy_that_will_end_the_approval_is_reported(org: Org) -> None:
    org.is_so(
        permissions=["ViewSetup", "ExternalClientAppViewer"],
        refresh_token_policy="lifetime",
        refresh_token_validity_seconds=30 * 86_400,
    )

    document = json.loads(org.tried("--json").stdout)

    assert (document["state"], document["cause"]) == ("degraded", "refresh_policy_wrong")
    assert document["remedy"]


def test_a_refusal_says_what_to_do_and_fails(org: Org) -> None:
    org.is_so(permission_set_assigned=False)

    done = org.tried()

    assert done.returncode == 1
    assert "user_not_admin_approved, certain" in done.stdout
    assert "setup guide, step 6\n" in done.stdout


def test_a_key_from_stdin_is_never_printed(org: Org) -> None:
    org.is_so()
    key = pair_files().private_key.decode()

    done = org.tried("--json", key="-", stdin=key)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["configuration"]["private_key"] == {"file": "FILE"}
    assert not [line for line in key.splitlines() if line in done.stdout + done.stderr]


@pytest.mark.parametrize("audience", ["my_domain", "login"])
def test_a_configured_connection_gets_only_the_lines_to_change(
    org: Org, tmp_path: Path, audience: str
) -> None:
    org.is_so(accepted_audiences="my_domain")
    config = tmp_path / "bearerwatch.yaml"
    acme: dict[str, object] = {"name": "acme", "login_url": org.url, "consumer_key": "3MVG9acme"}
    acme |= {"username": "integration@acme.com", "private_key": {"file": "private-key.pem"}}
    config.write_text(json.dumps({"connections": [acme | {"audience": audience}]}))

    done = bearerwatch("preflight", "acme", "--config", config)

    assert done.returncode == 0, done.stderr
    change = f"address and audience of acme by:\n\n    login_url: {org.url}\n    audience: my_domain\n"
    assert (change in done.stdout) == (audience == "login")
    assert "private_key" not in done.stdout


@pytest.mark.parametrize(("key", "why"), [("none.pem", "does not exist"), (".", "is a directory")])
def test_a_key_file_that_cannot_be_read_is_an_error_of_the_option(org: Org, key: str, why: str) -> None:
    done = org.tried(key=str(org.key.parent / key))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"--private-key: The file {org.key.parent / key} {why}: ")


@pytest.mark.parametrize("form", ["PEM", "base64 of it", "base64 of DER"])
def test_a_key_in_place_of_its_file_is_refused_and_not_repeated(org: Org, form: str) -> None:
    """As from `--private-key "$(cat key.pem)"`: what it says ends up in the log of a pipeline."""
    private_key = (
        ec.generate_private_key(ec.SECP256R1())
        if form == "base64 of it"
        else rsa.generate_private_key(65537, 1024)
    )
    text = private_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    key = {
        "PEM": text.decode(),
        "base64 of it": b64encode(text).decode(),
        "base64 of DER": "".join(text.decode().splitlines()[1:-1]),
    }[form]

    done = org.tried(key=key)

    assert (done.returncode, done.stdout) == (2, "")
    assert "looks like the key itself" in done.stderr
    assert not [line for line in key.splitlines() if line[-40:] in done.stderr]


def test_a_configured_connection_and_options_are_not_mixed(org: Org) -> None:
    done = org.tried("acme-production", "--config", "not.there", "--app", "Sales")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Give a configured connection or options, not both: acme-production, --subdomain, --consumer-key,"
        " --username, --private-key, --app.\n"
    )


def test_all_invalid_values_are_reported_with_option_names(org: Org) -> None:
    done = bearerwatch("preflight", "--subdomain", "acme")

    assert done.returncode == 2
    assert "Missing: --consumer-key, --username, --private-key" in done.stderr
    with pytest.raises(OperatorError) as raised:
        settings_of("acme.my.salesforce.com", "short key", "integration", {"file": str(org.key)}, "")
    said = str(raised.value).splitlines()
    assert [line.split()[0] for line in said] == ["--subdomain", "--consumer-key", "--username"]
