"""The web configuration file: good and bad ones, as promtool sees them, and the TLS that comes of them."""

import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitor.config import Address, ConfigError
from monitor.config.web_file import PROXY, WebConfig, doubts, load_web_config
from tests.certificates import Issued, authority, for_loopback, pem_of, signed

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
"""Of "test": the example in the format's own document."""

PAIR = "cert_file: server.crt\n  key_file: server.key"
CLIENTS = "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt"

LOCAL = Address("127.0.0.1", 9877)

IF_GIVEN = "VerifyClientCertIfGiven"


@dataclass(frozen=True, slots=True)
class Material:
    """A directory with a server's files, and the authority behind them."""

    directory: Path
    authority: Issued
    server: Issued


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    directory = tmp_path_factory.mktemp("web")
    by = authority()
    server = for_loopback(by)
    server.write(directory, "server")
    by.write(directory, "ca")
    signed(by).write(directory, "other")
    (directory / "encrypted.key").write_bytes(pem_of(server.key, b"passphrase"))
    (directory / "empty.pem").write_bytes(b"")
    return Material(directory, by, server)


def written(material: Material, text: str) -> Path:
    path = material.directory / f"web-{hash(text)}.yml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(material: Material, text: str) -> WebConfig:
    return load_web_config(written(material, text))


def problems(material: Material, text: str) -> list[str]:
    path = written(material, text)
    with pytest.raises(ConfigError) as caught:
        load_web_config(path)
    return [
        str(problem).removeprefix(str(path)).replace(f"{material.directory}/", "").removeprefix(":")
        for problem in caught.value.problems
    ]


GOOD = {
    "an_empty_file": "",
    "comments_only": "# nothing yet\n",
    "empty_blocks": "tls_server_config:\nbasic_auth_users:\n",
    "a_pair": f"tls_server_config:\n  {PAIR}\n",
    "the_newest_version_only": f"tls_server_config:\n  {PAIR}\n  min_version: TLS13\n",
    "clients_verified": f"tls_server_config:\n  {PAIR}\n  {CLIENTS}\n",
    "no_clients": f"tls_server_config:\n  {PAIR}\n  client_auth_type: NoClientCert\n",
    "users": f"basic_auth_users:\n  alice: {HASH}\n  bob: {HASH}\n",
}

BAD = {
    "unknown_key": ("tls:\n  x: y\n", ["1: tls: is not an option here."]),
    "unknown_tls_key": (
        f"tls_server_config:\n  {PAIR}\n  certfile: x\n",
        ['4: tls_server_config.certfile: is not an option here. Did you mean "cert_file"?'],
    ),
    "a_key_twice": (
        "basic_auth_users:\nbasic_auth_users:\n",
        ["2: basic_auth_users: is given twice, first on line 1. Keep one."],
    ),
    "a_list": ("- x\n", ["1: must be a mapping of options, but is a list."]),
    "not_yaml": ("a: [\n", ["is not YAML"]),
    "no_key": (
        "tls_server_config:\n  cert_file: server.crt\n",
        ["1: tls_server_config: has no key_file. The private key of cert_file."],
    ),
    "no_such_file": (
        "tls_server_config:\n  cert_file: no.crt\n  key_file: no.key\n",
        [
            '2: tls_server_config.cert_file: "no.crt" does not exist: create it, or correct the path.',
            '3: tls_server_config.key_file: "no.key" does not exist: create it, or correct the path.',
        ],
    ),
    "another_pairs_key": (
        "tls_server_config:\n  cert_file: server.crt\n  key_file: other.key\n",
        ["3: tls_server_config.key_file: does not belong to the first certificate in cert_file."],
    ),
    "the_key_as_certificate": (
        "tls_server_config:\n  cert_file: server.key\n  key_file: server.crt\n",
        [
            '2: tls_server_config.cert_file: "server.key" contains no PEM certificate.',
            '3: tls_server_config.key_file: "server.crt" contains no PEM private key.',
        ],
    ),
    "an_encrypted_key": (
        "tls_server_config:\n  cert_file: server.crt\n  key_file: encrypted.key\n",
        ['3: tls_server_config.key_file: "encrypted.key" is encrypted, and the daemon has no'],
    ),
    "an_authority_for_nobody": (
        f"tls_server_config:\n  {PAIR}\n  client_ca_file: ca.crt\n",
        ["client_auth_type: must be RequireAndVerifyClientCert, otherwise client_ca_file has no effect."],
    ),
    "an_unknown_client_check": (
        f"tls_server_config:\n  {PAIR}\n  client_auth_type: RequireAndVerifyClientCerts\n",
        ['Did you mean "RequireAndVerifyClientCert"?'],
    ),
    "an_unknown_version": (
        f"tls_server_config:\n  {PAIR}\n  min_version: TLS1.2\n",
        ['"TLS1.2" is not one of TLS12, TLS13. Did you mean "TLS12"?'],
    ),
    "a_password": (
        "basic_auth_users:\n  alice: hunter2\n",
        ['"alice" has no bcrypt hash. Create one with htpasswd -nBC 10 alice.'],
    ),
}

STRICTER = {
    "old_versions": (
        f"tls_server_config:\n  {PAIR}\n  min_version: TLS10\n",
        ['min_version: "TLS10" is not one of TLS12, TLS13.'],
    ),
    "tls_that_is_none": (
        "tls_server_config:\n  min_version: TLS12\n",
        ["has no cert_file", "has no key_file"],
    ),
    "any_certificate": (
        f"tls_server_config:\n  {PAIR}\n  client_auth_type: RequireAnyClientCert\n",
        ['"RequireAnyClientCert" is not one of NoClientCert, RequireAndVerifyClientCert.'],
    ),
    "public_authorities": (
        f"tls_server_config:\n  {PAIR}\n  client_auth_type: RequireAndVerifyClientCert\n",
        ["needs client_ca_file: otherwise a certificate from any public CA would be accepted."],
    ),
    "an_empty_authority": (
        f"tls_server_config:\n  {PAIR}\n  {CLIENTS.replace('ca.crt', 'empty.pem')}\n",
        ['5: tls_server_config.client_ca_file: "empty.pem" contains no PEM certificate.'],
    ),
    "a_user_with_a_colon": (f"basic_auth_users:\n  'a:b': {HASH}\n", ["contain a colon"]),
    "a_hash_that_takes_hours": (
        f"basic_auth_users:\n  alice: {HASH.replace('$10$', '$31$')}\n",
        ['The hash of "alice" has cost 31'],
    ),
    "optional_client_certificates": (
        f"tls_server_config:\n  {PAIR}\n  {CLIENTS.replace('RequireAndVerifyClientCert', IF_GIVEN)}\n",
        [f'4: tls_server_config.client_auth_type: "{IF_GIVEN}" is not one of NoClientCert, Require'],
    ),
    "headers": (
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n",
        [f"1: http_server_config: {PROXY}"],
    ),
    "the_newest_version": (
        f"tls_server_config:\n  {PAIR}\n  max_version: TLS13\n",
        [f"4: tls_server_config.max_version: {PROXY}"],
    ),
    "cipher_suites": (
        f"tls_server_config:\n  {PAIR}\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        [f"4: tls_server_config.cipher_suites: {PROXY}"],
    ),
}
"""What promtool lets pass, and we don't, each for the reason in its message."""

NEWER_BAD = {
    "allowed_names": (
        f"tls_server_config:\n  {PAIR}\n  {CLIENTS}\n  client_allowed_sans: [prometheus]\n",
        [f"6: tls_server_config.client_allowed_sans: {PROXY}"],
    ),
    "a_rate": ("rate_limit:\n  interval: 100ms\n", [f"1: rate_limit: {PROXY}"]),
}
"""Options newer than the promtool in Debian 12."""


def test_an_endless_file_is_refused(material: Material) -> None:
    """Found by fuzzing: /dev/zero was read until the memory was full."""
    told = '"/dev/zero" is a pipe or a device: use a regular file.'

    assert problems(
        material,
        "tls_server_config:\n  cert_file: /dev/zero\n  key_file: server.key\n"
        "  client_ca_file: /dev/zero\n  client_auth_type: RequireAndVerifyClientCert\n",
    ) == [f"2: tls_server_config.cert_file: {told}", f"4: tls_server_config.client_ca_file: {told}"]


def cases(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(case, id=name) for name, case in table.items()]


@pytest.mark.parametrize("text", cases(GOOD))
def test_a_good_file_is_accepted(material: Material, text: str) -> None:
    config = loaded(material, text)

    assert config.files
    assert (config.context is not None) == ("cert_file" in text)


@pytest.mark.parametrize("case", cases(BAD | STRICTER | NEWER_BAD))
def test_a_bad_file_is_rejected_with_its_error(material: Material, case: tuple[str, list[str]]) -> None:
    text, expected = case

    found = "\n".join(problems(material, text))

    for part in expected:
        assert part in found


@pytest.mark.real("promtool")
@pytest.mark.parametrize(
    ("text", "good"),
    [pytest.param(text, True, id=name) for name, text in GOOD.items()]
    + [pytest.param(text, False, id=name) for name, (text, _) in BAD.items()]
    + [pytest.param(text, True, id=name) for name, (text, _) in STRICTER.items()],
)
def test_promtool_agrees_except_where_we_are_stricter(material: Material, text: str, good: bool) -> None:
    path = written(material, text)

    verdict = subprocess.run(
        ["promtool", "check", "web-config", str(path)], capture_output=True, check=False, text=True
    )

    # It says FAILED on stderr; older ones still end with 0.
    assert ("FAILED" not in verdict.stdout + verdict.stderr and verdict.returncode == 0) == good


def test_errors_in_all_blocks_and_files_are_reported_together_in_line_order(material: Material) -> None:
    text = (
        "basic_auth_users:\n  alice: x\nrate_limit:\n  interval: 1s\n"
        "tls_server_config:\n  cert_file: no.crt\n  key_file: server.key\n"
    )

    found = problems(material, text)

    assert [line.split(":")[:2] for line in found] == [
        ["1", " basic_auth_users"],
        ["3", " rate_limit"],
        ["6", " tls_server_config.cert_file"],
    ]


def test_a_clear_text_password_is_never_repeated(material: Material) -> None:
    found = "\n".join(problems(material, "basic_auth_users:\n  alice: correct-horse-battery\n"))

    assert "correct-horse" not in found


def test_hashes_do_not_appear_in_reprs(material: Material) -> None:
    config = loaded(material, GOOD["users"])

    assert HASH[7:] not in repr(config)
    assert dict(config.users) == {"alice": HASH, "bob": HASH}


def test_paths_are_relative_to_the_web_configuration_file(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")

    config = loaded(material, GOOD["clients_verified"])

    names = [path.name for path in config.files[1:]]
    assert names == ["server.crt", "server.key", "ca.crt"]
    assert all(path.is_absolute() for path in config.files)


def test_a_cheap_hash_gives_a_warning(material: Material) -> None:
    cheap = f"basic_auth_users:\n  alice: {HASH.replace('$10$', '$04$')}\n"

    assert 'The hashes of "alice" have a cost below 10' in "".join(doubts(LOCAL, loaded(material, cheap)))


def test_a_world_readable_key_gives_a_warning(tmp_path: Path) -> None:
    _, key = for_loopback(authority()).write(tmp_path, "server")
    path = tmp_path / "web.yml"
    path.write_text(f"tls_server_config:\n  {PAIR}\n", encoding="utf-8")
    assert not list(doubts(LOCAL, load_web_config(path)))

    key.chmod(0o644)

    assert "chmod 600" in next(doubts(LOCAL, load_web_config(path)))


# TLS


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's end of an in-memory connection between two contexts. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    waiting = [theirs, ours]
    for _ in range(20):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return theirs
    raise AssertionError("the handshake does not end")


def client(material: Material, own: Issued | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(material.directory / "ca.crt")
    if own:
        context.load_cert_chain(*own.write(material.directory, f"client-{own.certificate.serial_number}"))
    return context


def server(material: Material, more: str = "") -> ssl.SSLContext:
    context = loaded(material, f"tls_server_config:\n  {PAIR}\n{more}").context
    assert context is not None
    return context


def test_a_client_that_trusts_the_authority_gets_a_connection(material: Material) -> None:
    assert handshake(server(material), client(material)).version() == "TLSv1.3"


def test_the_product_runs_with_the_oldest_allowed_versions(material: Material) -> None:
    old = client(material)
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    assert handshake(server(material), old).version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        handshake(server(material, "  min_version: TLS13\n"), old)


@pytest.mark.parametrize(
    ("kind", "shows", "enters"),
    [
        ("NoClientCert", None, True),
        ("RequireAndVerifyClientCert", None, False),
        ("RequireAndVerifyClientCert", "ours", True),
        ("RequireAndVerifyClientCert", "foreign", False),
    ],
)
def test_clients_are_verified_as_configured(
    material: Material, kind: str, shows: str | None, enters: bool
) -> None:
    more = f"  client_auth_type: {kind}\n" + ("  client_ca_file: ca.crt\n" if "Verify" in kind else "")
    by = {"ours": material.authority, "foreign": authority("foreign"), None: None}[shows]
    theirs = client(material, signed(by) if by else None)

    if enters:
        handshake(server(material, more), theirs)
    else:
        with pytest.raises(ssl.SSLError):
            handshake(server(material, more), theirs)


# Renewal


def reissued(directory: Path, by: Issued, text: str = "") -> WebConfig:
    """The web configuration of a directory with another certificate."""
    for_loopback(by).write(directory, "server")
    path = directory / "web.yml"
    path.write_text(f"tls_server_config:\n  {PAIR}\n{text}", encoding="utf-8")
    return load_web_config(path)


def trusting(by: Issued) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=by.pem.decode())


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    first, second = authority("first"), authority("second")
    serving = reissued(tmp_path, first)
    assert serving.context is not None
    handshake(serving.context, trusting(first))

    assert serving.renew(reissued(tmp_path, second)) is None

    handshake(serving.context, trusting(second))
    with pytest.raises(ssl.SSLError):
        handshake(serving.context, trusting(first))


def test_tls_changes_that_need_a_restart_are_reported(tmp_path: Path) -> None:
    by = authority()
    by.write(tmp_path, "ca")
    authority("another").write(tmp_path, "another")
    serving = reissued(tmp_path, by, f"  {CLIENTS}\n")
    at_the_next_start = "tls_server_config has changed; this takes effect after a restart."

    assert serving.renew(reissued(tmp_path, by, f"  {CLIENTS}\n")) is None
    for changed in ("", f"  {CLIENTS}\n  min_version: TLS13\n", f"  {CLIENTS.replace('ca.', 'another.')}\n"):
        assert serving.renew(reissued(tmp_path, by, changed)) == at_the_next_start
    assert serving.renew(WebConfig()) == at_the_next_start
    assert WebConfig().renew(serving) == at_the_next_start


# Exposure


def exposures(material: Material) -> Iterator[tuple[str, WebConfig, str | None]]:
    plain, tls = WebConfig(), loaded(material, GOOD["a_pair"])
    both = loaded(material, GOOD["a_pair"] + GOOD["users"])
    yield "127.0.0.1", plain, None
    yield "::1", plain, None
    yield "localhost", plain, None
    yield "0.0.0.0", plain, "without TLS and without a login: anyone who reaches it can read"
    yield "10.1.2.3", loaded(material, GOOD["users"]), "without TLS: passwords and pages can be read"
    yield "::", tls, "without a login: anyone who reaches it can read"
    yield "0.0.0.0", loaded(material, GOOD["clients_verified"]), None
    yield "0.0.0.0", both, None


def test_an_address_open_to_others_gives_a_warning(material: Material) -> None:
    for host, config, expected in exposures(material):
        sentence = next(doubts(Address(host, 9877), config), None)
        if expected is None:
            assert sentence is None, host
        else:
            assert sentence is not None, host
            assert expected in sentence
