"""No secret leaves the process: not at any log level, with any cause or fault, nor where it fails itself."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from monitor.config import load
from monitor.simulator.scenarios import SCENARIOS, Keys, make_keys
from monitor.simulator.settings import OrgSettings
from tests.end_to_end.processes import Running, daemon, free_port, simulator, until
from tests.end_to_end.secrets_shown import Searched
from tests.http_server import Quiet, serving

FAULTS: tuple[str, ...] = get_args(get_args(get_type_hints(OrgSettings)["fault"])[0])


@dataclass(frozen=True, slots=True)
class World:
    """Orgs in every trouble that the simulator knows, and connections to them."""

    control: httpx.Client
    connections: list[dict[str, object]]
    keys: list[bytes]
    sinks: list[dict[str, object]]
    words: list[str]
    """The secrets of the sinks."""
    told: list[bytes]
    """What the sinks were sent, but for its head: that holds their token."""


@contextmanager
def receiver(told: list[bytes]) -> Iterator[str]:
    """Receives notifications, refusing every second one, as errors are logged too."""

    class Handler(Quiet):
        def answer(self) -> None:
            told.append(self.body())
            self.say(200 if len(told) % 2 else 500)

    with serving(Handler) as url:
        yield url


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    connections: list[dict[str, object]] = []
    keys: dict[bytes, None] = {}
    told: list[bytes] = []
    words = [f"sink-{kind}-that-nobody-may-see" for kind in ("path", "token", "secret")]
    with simulator(folder) as control, receiver(told) as taking:
        sinks: list[dict[str, object]] = []
        for name, at in (("takes", taking), ("absent", f"http://127.0.0.1:{free_port()}")):
            for part, content in (("url", f"{at}/{words[0]}"), ("token", words[1])):
                (folder / f"{name}-{part}").write_text(content)
            (folder / "secret").write_text(words[2])
            files = {part: {"file": str(folder / f"{name}-{part}")} for part in ("url", "token")}
            sinks.append({"name": name, "type": "webhook", "url_from": files["url"], "token": files["token"]})
            sinks[-1]["secret"] = {"file": str(folder / "secret")}
        url = str(control.base_url).rstrip("/")

        def enter(name: str, kind: Keys, org: dict[str, object], options: dict[str, object]) -> None:
            files = make_keys(kind, datetime.now(UTC))
            key, certificate = folder / f"{name}.pem", folder / f"{name}-cert.pem"
            key.touch(mode=0o600)
            key.write_bytes(files.private_key)
            certificate.write_bytes(files.certificate)
            keys[files.private_key] = None
            settings = {
                "consumer_key": f"3MVG9_{name}",
                "username": f"integration@{name}.example",
                "certificate": files.uploaded,
                **org,
            }
            assert control.put(f"/_orgs/{name}", json=settings).status_code < 300
            right = {"login_url": f"{url}/{name}", "consumer_key": settings["consumer_key"]}
            connections.append(
                {
                    "name": name,
                    **right,
                    "username": settings["username"],
                    "private_key": {"file": str(key)},
                    "certificate": {"file": str(certificate)},
                    **options,
                }
            )

        for scenario in SCENARIOS:
            enter(scenario.name, scenario.keys, dict(scenario.org), dict(scenario.connection))
        for fault in FAULTS:
            enter(f"fault-{fault.replace('_', '-')}", Keys.RIGHT, {"fault": fault}, {})
        enter("well", Keys.RIGHT, {}, {})
        yield World(control, connections, list(keys), sinks, words, told)


def write(config: Path, world: World, *connections: Mapping[str, object]) -> Path:
    settings = {
        "listen": f"127.0.0.1:{free_port()}",
        "interval": "10s",
        "login_budget_per_hour": 3600,
        "allowed_hosts": ["no-such-org.my.salesforce.com.invalid"],
        "web": {"enable_reload": True},
        "notify": {"sinks": world.sinks},
        "connections": list(connections),
    }
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    return config


FORMATS = ("json", "logfmt")


def test_daemons_with_every_fault_leak_no_secret_in_either_log_format(world: World, tmp_path: Path) -> None:
    left: dict[str, bytes] = {}
    with ExitStack() as stack:
        daemons = {}
        for form in FORMATS:
            (tmp_path / form).mkdir()
            config = write(tmp_path / form / "bearerwatch.yaml", world, *world.connections)
            options = ("--log-level", "debug", "--log-format", form)  # debug has all that the others have
            daemons[config] = stack.enter_context(daemon(config, *options))
        for config, running in daemons.items():
            looked_at = partial(looked_at_all, running, len(world.connections))
            until(looked_at, "every connection to be looked at")
            # A key is pasted where the name of its file belongs.
            pasted = {**world.connections[0], "private_key": world.keys[0].decode()}
            write(config, world, pasted, *world.connections[1:])
            form = config.parent.name
            left[f"{form} reload"] = httpx.post(
                f"{running.url}/-/reload", trust_env=False, timeout=30
            ).content
            assert b"private_key" in left[f"{form} reload"]
            for path in paths(world):
                page = running.page(path)
                assert page is not None
                left[f"{form} {path}"] = page.content
            running.process.send_signal(signal.SIGABRT)  # a crash: what Python says of it, and each thread
            assert running.process.wait(60) < 0
            left[f"{form} log"] = running.log.read_bytes()
            assert b"Fatal Python error: Aborted" in left[f"{form} log"]
    left["notifications"] = b"\n".join(world.told)
    databases = {str(path): path.read_bytes() for path in tmp_path.glob("*/bearerwatch.db*")}

    assert sum(map(len, databases.values())) > 4096 * len(FORMATS)
    assert shown(world, left | databases) == {}


def looked_at_all(running: Running, number: int) -> bool:
    page = running.page("/api/status")
    listed = page.json()["connections"] if page else []
    return len(listed) == number and all(each["last_exchange"] or each["findings"] for each in listed)


def paths(world: World) -> Iterator[str]:
    yield from ("/", "/metrics", "/api/status", "/-/ready")
    for connection in world.connections:
        yield f"/connections/{connection['name']}"
        yield f"/api/connections/{connection['name']}"


def shown(world: World, left: Mapping[str, bytes]) -> dict[str, list[bytes]]:
    """Keys, sink secrets, assertions and tokens that were found, with locations."""
    searched = Searched(world.keys, world.words)
    return {where: found for where, content in left.items() if (found := searched.found_in(content))}


def command(*arguments: str, stdin: bytes = b"") -> bytes:
    """What a command leaves on both streams."""
    ran = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments], input=stdin, capture_output=True, check=False
    )
    assert b"Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


def test_commands_show_no_secret(world: World, tmp_path: Path) -> None:
    config = write(tmp_path / "bearerwatch.yaml", world, *world.connections)
    token = "00D5g000004cYlf!AQ4AQPjSecretOfTheOrg.x_y"
    grant = json.dumps(
        {"answer": {"status": 200, "body": json.dumps({"access_token": token, "scope": "api"})}}
    )
    pasted = tmp_path / "pasted.yaml"
    pasted.write_text(
        "connections:\n- name: acme\n  subdomain: acme\n"
        f"  private_key: {json.dumps(world.keys[0].decode())}\n"
        f"  consumer_key: {base64.b64encode(world.keys[0]).decode()}\n"
    )
    wrong_file = tmp_path / "key-as-configuration.yaml"
    wrong_file.write_bytes(world.keys[0])

    left = {
        "check": command("check", "well", "--config", str(config)),
        "check --json": command("check", "--config", str(config), "--json"),
        "config check": command("config", "check", str(config)),
        "a key pasted into it": command("config", "check", str(pasted)),
        "a key in its place": command("config", "check", str(wrong_file)),
        "alerts": command("alerts", "--config", str(config)),
        "alerts test": command("alerts", "test", "--cause", "key_unreadable", "--config", str(config)),
        "rules": command("rules", "--config", str(config)),
        "explain": command("explain", stdin=grant.encode()),
        "explain --json": command("explain", "--json", stdin=grant.encode()),
        "explain a key": command("explain", stdin=world.keys[0]),
        "explain a torn grant": command("explain", stdin=grant.encode()[:-30]),
        "settings": repr(load(config, os.environ)).encode(),
    }

    assert world.told
    left["notifications"] = b"\n".join(world.told)
    assert all(left.values())
    assert shown(world, left) == {}


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_an_exception_full_of_secrets_is_logged_without_them(world: World, tmp_path: Path, form: str) -> None:
    """In a check, where it is caught, and elsewhere."""
    config = write(tmp_path / "bearerwatch.yaml", world, world.connections[-1])
    ran = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.faulty", str(config), form],
        capture_output=True,
        check=False,
    )

    assert b"check_failed" in ran.stderr
    assert b"ended_by_a_fault" in ran.stderr
    assert ran.stderr.count(b"LookupError: [masked] for [masked]") == 2
    assert b"monitor_fault" in ran.stdout
    assert shown(world, {"the log": ran.stderr, "the status": ran.stdout}) == {}


# The search itself


@pytest.fixture(scope="module")
def pem() -> bytes:
    return make_keys(Keys.RIGHT, datetime.now(UTC)).private_key


def test_the_search_finds_every_form_of_a_key_and_parts_of_it(pem: bytes) -> None:
    searched = Searched([pem])
    key = load_pem_private_key(pem, None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.private_numbers()
    lines = pem.splitlines()
    der = base64.b64decode(b"".join(lines[1:-1]))

    for shown in (
        pem,
        b"x" + lines[9][7:40] + b"y",
        json.dumps({"key": pem.decode()}).encode(),
        repr(b"\n".join(lines[4:8])).encode(),
        base64.b64encode(pem)[900:930],
        base64.urlsafe_b64encode(der)[500:530],
        der[401:420],
        der[402:].hex().encode()[:40],
        str(numbers.d).encode()[100:140],
        f"{numbers.p:x}".encode()[10:50],
        f"{numbers.q:X}".lower().encode()[:30],
        b"assertion=eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJzIn0.c2ln",
        b'"00D5g000004cYlf!AQ4AQPjSecret"',
    ):
        assert searched.found_in(shown), shown


def test_the_search_finds_nothing_in_what_may_be_shown(pem: bytes) -> None:
    certificate = make_keys(Keys.OTHER_KEY, datetime.now(UTC)).certificate
    shown = (
        b"00D5g000004cYlfAAB"
        + os.urandom(64).hex().encode()
        + base64.b64encode(os.urandom(300))
        + certificate
    )

    assert Searched([pem]).found_in(shown) == []
