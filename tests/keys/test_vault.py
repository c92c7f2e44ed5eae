"""Keys in Vault: read, read again, and kept where Vault does not answer; against its API over real HTTP."""

import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from monitor.config import ConfigError, load
from monitor.config.options.sources import VaultLoginOptions, VaultOptions
from monitor.core.causes import Cause
from monitor.core.connection import Pair, Source
from monitor.core.keys.credential import Credential
from monitor.keys.sources import EARLIER_STAYS, Keyring
from monitor.keys.vault import QUIET_SECONDS
from tests.certificates import certificate_of, pem_of
from tests.credentials.pairs import KEYS
from tests.keys.vaults import FakeVault, vault

ACME = Pair(
    Source("vault", "salesforce/acme", "private_key"), Source("vault", "salesforce/acme", "certificate")
)
REREAD = timedelta(minutes=15)


class Moments:
    """A monotonic clock that a test puts ahead."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> Iterator[FakeVault]:
    with vault() as running:
        put(running, 0)
        yield running


def put(fake: FakeVault, number: int) -> None:
    fake.secrets["secret/salesforce/acme"] = {
        "private_key": pem_of(KEYS[number]).decode(),
        "certificate": certificate_of(KEYS[number]).decode(),
        "number": 7,
    }


@pytest.fixture
def moments() -> Moments:
    return Moments()


def settings(
    fake: FakeVault, method: Literal["token", "approle", "kubernetes"] = "token", role: str = ""
) -> VaultOptions:
    login = VaultLoginOptions.model_construct(method=method, secret=Source("env", "PROOF"), role=role)
    return VaultOptions.model_construct(address=fake.address, login=login, reread=REREAD)


@pytest.fixture
async def keyring(fake: FakeVault, moments: Moments) -> AsyncIterator[Keyring]:
    ring = Keyring({"PROOF": "hvs.first\n"}, settings(fake), moments)
    yield ring
    ring.close()


def details(credential: Credential) -> list[str]:
    return [problem.detail for problem in credential.facts.problems]


def is_key(credential: Credential, number: int) -> bool:
    return credential.key is not None and credential.key.public_key() == KEYS[number].public_key()


async def test_key_and_certificate_come_from_one_read_of_their_secret(
    fake: FakeVault, keyring: Keyring
) -> None:
    credential = await keyring.load(ACME)

    assert is_key(credential, 0)
    assert credential.facts.pairs is True
    assert details(credential) == []
    assert fake.asked == ["GET /v1/secret/data/salesforce/acme"]


async def test_a_key_is_reread_only_after_the_configured_time(
    fake: FakeVault, keyring: Keyring, moments: Moments
) -> None:
    await keyring.load(ACME)
    put(fake, 1)

    moments.now += REREAD.total_seconds() - 1
    young = await keyring.load(ACME)
    moments.now += 1
    old = await keyring.load(ACME)

    assert is_key(young, 0)
    assert is_key(old, 1)


async def test_an_unreachable_vault_is_a_finding_keeps_the_key_and_is_retried_later(
    fake: FakeVault, keyring: Keyring, moments: Moments
) -> None:
    before = await keyring.load(ACME)
    moments.now += REREAD.total_seconds()

    fake.status = 503
    during = await keyring.load(ACME)
    asked = len(fake.asked)
    again = await keyring.load(ACME)
    asked_again = len(fake.asked)
    fake.status = 0
    moments.now += QUIET_SECONDS
    after = await keyring.load(ACME)

    assert during.key is before.key
    assert [problem.cause for problem in during.facts.problems] == [Cause.KEY_UNREADABLE] * 2
    assert details(during)[0] == (
        f"Private key: Vault at {fake.address} answers with an error (VaultDown); see Vault's log. "
        f"{EARLIER_STAYS}"
    )
    assert details(again) == details(during)
    assert asked_again == asked
    assert details(after) == []


async def test_an_unreachable_vault_is_one_clear_message(moments: Moments) -> None:
    with vault() as gone:
        address = settings(gone)
    ring = Keyring({"PROOF": "x"}, address, moments)

    credential = await ring.load(ACME)
    ring.close()

    assert credential.key is None
    assert details(credential)[0] == (
        f"Private key: Vault at {gone.address} cannot be reached: check vault.address and the network."
    )


@pytest.mark.parametrize(
    ("method", "takes"),
    [
        ("approle", {"role_id": "watch", "secret_id": "hvs.first"}),
        ("kubernetes", {"role": "watch", "jwt": "hvs.first"}),
    ],
)
async def test_an_expired_token_causes_a_new_login(
    fake: FakeVault, moments: Moments, method: Literal["approle", "kubernetes"], takes: dict[str, str]
) -> None:
    fake.logins[method] = takes
    ring = Keyring({"PROOF": "hvs.first\n"}, settings(fake, method, "watch"), moments)

    first = await ring.load(ACME)
    moments.now += REREAD.total_seconds()
    await ring.load(ACME)
    logins = sum(method in asked for asked in fake.asked)
    fake.tokens.clear()
    moments.now += REREAD.total_seconds()
    last = await ring.load(ACME)
    ring.close()

    assert is_key(first, 0)
    assert logins == 1
    assert sum(method in asked for asked in fake.asked) == 2
    assert details(last) == []


async def test_a_refused_login_says_where_to_look_and_shows_no_secret(
    fake: FakeVault, moments: Moments
) -> None:
    ring = Keyring({"PROOF": "hvs.unknown"}, settings(fake, "approle", "watch"), moments)

    said = details(await ring.load(ACME))
    ring.close()

    assert said[0] == (
        f"Private key: Vault at {fake.address} refuses our login (InvalidRequest): check vault.login, and "
        "that the method approle is enabled at approle."
    )
    assert "hvs" not in str(said)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_vault_requests_ignore_the_environments_proxy(
    fake: FakeVault, moments: Moments, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fake.logins["approle"] = {"role_id": "watch", "secret_id": "hvs.first"}
    with vault() as proxy:
        monkeypatch.setenv(variable, proxy.address)
        ring = Keyring({"PROOF": "hvs.first"}, settings(fake, "approle", "watch"), moments)

        credential = await ring.load(ACME)
        ring.close()

    assert is_key(credential, 0)
    assert proxy.asked == []


async def test_a_login_without_credentials_names_the_missing_source(fake: FakeVault) -> None:
    ring = Keyring({}, settings(fake))

    said = details(await ring.load(ACME))
    ring.close()

    assert said[0] == (
        "Private key: Login to Vault: The environment variable PROOF is not set: "
        "set it for this process and restart it."
    )


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (
            Pair(Source("vault", "salesforce/none", "private_key")),
            (
                "Vault has nothing at secret/salesforce/none, or no version 2 key/value store is "
                "mounted there: check vault.mount, and run `vault kv get -mount=secret salesforce/none`."
            ),
        ),
        (
            Pair(Source("vault", "salesforce/acme", "key")),
            (
                "The field key of the Vault secret salesforce/acme does not exist. "
                "The secret's fields are: certificate, private_key."
            ),
        ),
    ],
)
async def test_a_missing_field_is_reported_with_the_existing_ones(
    keyring: Keyring, pair: Pair, told: str
) -> None:
    assert details(await keyring.load(pair)) == [f"Private key: {told}"]


async def test_a_missing_policy_is_named(fake: FakeVault, moments: Moments) -> None:
    ring = Keyring({"PROOF": "hvs.other"}, settings(fake), moments)

    said = details(await ring.load(ACME))
    ring.close()

    assert said[0].startswith("Private key: Vault does not allow us to read secret/salesforce/acme: ")
    assert "read to our policy for secret/data/salesforce/acme" in said[0]


async def test_the_namespace_is_sent(fake: FakeVault, moments: Moments) -> None:
    ring = Keyring({"PROOF": "hvs.first"}, settings(fake).model_copy(update={"namespace": "team-a"}), moments)

    await ring.load(ACME)
    ring.close()

    assert fake.namespaces == {"team-a"}


async def test_a_redirect_does_not_get_the_token(fake: FakeVault, keyring: Keyring) -> None:
    fake.status = 307

    said = details(await keyring.load(ACME))

    assert said[0] == f"Private key: Vault at {fake.address} does not answer like Vault: check vault.address."
    assert len(fake.asked) == 1


async def test_a_reload_can_change_the_vault(fake: FakeVault, keyring: Keyring, moments: Moments) -> None:
    await keyring.load(ACME)
    with vault() as other:
        put(other, 1)
        keyring.use_vault(settings(other))
        moments.now += REREAD.total_seconds()

        assert is_key(await keyring.load(ACME), 1)
        assert len(other.asked) == 1


# Configured

CONNECTION = """
connections:
- name: acme
  subdomain: acme
  consumer_key: 3MVG9acmex
  username: a@acme.com
  private_key: {vault: salesforce/acme}
"""


def loaded(folder: Path, text: str) -> str:
    """What is wrong with a configuration."""
    (folder / "x.yaml").write_text(text + CONNECTION)
    try:
        load(folder / "x.yaml", {})
    except ConfigError as error:
        return str(error).replace(str(folder), "")
    return ""


def test_a_minimal_vault_configuration_is_valid(tmp_path: Path) -> None:
    text = "vault: {address: 'https://vault.example.com:8200/', login: {method: kubernetes, role: watch}}"
    assert loaded(tmp_path, text) == ""

    configured = load(tmp_path / "x.yaml", {})

    vault = configured.vault
    assert vault is not None
    assert (vault.address, vault.mount, vault.reread) == (
        "https://vault.example.com:8200",
        "secret",
        timedelta(minutes=15),
    )
    assert vault.login.proof == Source("file", "/var/run/secrets/kubernetes.io/serviceaccount/token")
    assert (vault.login.role, vault.login.mounted_at) == ("watch", "kubernetes")
    assert configured.connections[0].current == Pair(Source("vault", "salesforce/acme", "private_key"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is in Vault, but the main file has no vault section. Add vault:."),
        ("vault: {login: {method: token, secret: {env: T}}}", "has no address."),
        (
            "vault: {address: 'http://vault.example.com', login: {method: token, secret: {env: T}}}",
            '"vault.example.com" must be reached over https',
        ),
        ("vault: {address: 'https://v', login: {method: token}}", "has no secret, but token needs one."),
        ("vault: {address: 'https://v', login: {method: approle, secret: {env: T}}}", "has no role"),
        (
            "vault: {address: 'https://v', login: {method: token, role: r, secret: {env: T}}}",
            "has role, which a token does not need.",
        ),
        (
            "vault: {address: 'https://v', ca_file: none.pem, login: {method: kubernetes, role: r}}",
            'vault.ca_file: "/none.pem" does not exist: create it, or correct the path.',
        ),
    ],
)
def test_an_invalid_vault_option_is_reported_with_its_fix(tmp_path: Path, text: str, told: str) -> None:
    assert told in loaded(tmp_path, text)


def test_without_the_package_the_start_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hvac", None)
    text = "vault: {address: 'https://v', login: {method: kubernetes, role: r}}"

    assert 'Install it: pip install "bearerwatch[vault]".' in loaded(tmp_path, text)
