"""Where keys come from, and the ring that keeps them: what is shared, what is noticed, what stays in use."""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from monitor.core.causes import Cause
from monitor.core.connection import Pair, Source
from monitor.core.keys.credential import Credential
from monitor.keys import SourceError, sources
from monitor.keys.sources import (
    EARLIER_STAYS,
    Keyring,
    exposure,
    is_on_read_only_memory,
    open_to_others,
    read,
)
from tests.certificates import certificate_of, pem_of
from tests.credentials.pairs import KEYS


@pytest.fixture
async def keyring() -> AsyncIterator[Keyring]:
    ring = Keyring({})
    yield ring
    ring.close()


def key_file(directory: Path, name: str = "key.pem", key: rsa.RSAPrivateKey = KEYS[0]) -> Path:
    path = directory / name
    path.touch(mode=0o600)
    path.write_bytes(pem_of(key))
    return path


def file_pair(key: Path, certificate: Path | None = None) -> Pair:
    return Pair(Source("file", str(key)), Source("file", str(certificate)) if certificate else None)


def is_key(credential: Credential, key: rsa.RSAPrivateKey) -> bool:
    return credential.key is not None and credential.key.public_key() == key.public_key()


def details(credential: Credential) -> list[str]:
    return [problem.detail for problem in credential.facts.problems]


# Sources


def test_each_kind_of_source_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "acme").write_bytes(b"content")
    environment = {"ACME_KEY": "content", "CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert read(Source("file", str(tmp_path / "acme")), environment) == b"content"
    assert read(Source("env", "ACME_KEY"), environment) == b"content"
    assert read(Source("credential", "acme"), environment) == b"content"


def test_a_variable_with_binary_content_is_read_unchanged() -> None:
    assert read(Source("env", "KEY"), {"KEY": os.fsdecode(b"\xfe\xed")}) == b"\xfe\xed"


@pytest.mark.parametrize(
    ("source", "environment", "message"),
    [
        (
            Source("env", "KEY"),
            {},
            "The environment variable KEY is not set: set it for this process and restart it.",
        ),
        (
            Source("env", "KEY"),
            {"KEY": " \n"},
            "The environment variable KEY is empty: set it to the PEM text, or base64 of it.",
        ),
        (
            Source("env", "KEY"),
            {"KEY": "A" * 65_537},
            "The environment variable KEY is larger than 64 KiB: a key or certificate is a few KiB of PEM.",
        ),
        (
            Source("credential", "acme"),
            {},
            (
                "The systemd credential acme is not available because $CREDENTIALS_DIRECTORY is not set: "
                "start the daemon as a systemd service with LoadCredential=acme:PATH."
            ),
        ),
        (
            Source("credential", "acme"),
            {"CREDENTIALS_DIRECTORY": "/nowhere"},
            "The systemd credential acme does not exist: create it, or correct the path.",
        ),
        (
            Source("file", "/nowhere/key.pem"),
            {},
            "The file /nowhere/key.pem does not exist: create it, or correct the path.",
        ),
        (Source("file", "/"), {}, "The file / is a directory: use a file in it."),
        (Source("file", "/dev/zero"), {}, "The file /dev/zero is a pipe or a device: use a regular file."),
    ],
)
def test_a_source_without_content_is_one_clear_message(
    source: Source, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError) as raised:
        read(source, environment)

    assert str(raised.value) == message


def test_a_refused_source_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        with pytest.raises(SourceError):
            read(Source("file", str(tmp_path)), {})

    assert len(list(Path("/proc/self/fd").iterdir())) == before


# File permissions of keys


MINE, ROOTS = 1000, 0
KUBERNETES = "600 590 0:53 / /etc/keys ro,relatime shared:1 - tmpfs tmpfs rw,size=8g\n"
TMP = "601 590 0:54 / /tmp rw,nosuid shared:2 - tmpfs tmpfs rw\n"
DISK = "590 1 8:1 / / rw,relatime - ext4 /dev/root rw\n"


@pytest.mark.parametrize(
    ("mode", "owner", "said"),
    [
        (0o600, MINE, None),
        (0o400, MINE, None),
        (0o640, ROOTS, None),
        (0o440, ROOTS, None),
        (0o640, MINE, "can be read by its group (mode 0640)"),
        (0o644, MINE, "can be read by other users of this machine (mode 0644)"),
        (0o644, ROOTS, "can be read by other users of this machine (mode 0644)"),
        (0o620, ROOTS, "can be written by its group (mode 0620)"),
        (0o711, MINE, None),
    ],
)
def test_only_keys_of_root_may_be_readable_by_a_group(mode: int, owner: int, said: str | None) -> None:
    assert open_to_others(mode, owner) == said


@pytest.mark.parametrize(
    ("device", "mounts", "handed_over"),
    [
        (os.makedev(0, 53), DISK + KUBERNETES + TMP, True),
        (os.makedev(0, 54), DISK + KUBERNETES + TMP, False),
        (os.makedev(8, 1), DISK + KUBERNETES + TMP, False),
        (os.makedev(0, 53), KUBERNETES + KUBERNETES.replace("ro,", "rw,"), False),
        (os.makedev(0, 53), "", False),
        (os.makedev(0, 53), "torn\n", False),
    ],
)
def test_keys_on_a_read_only_memory_mount_may_be_readable(
    device: int, mounts: str, handed_over: bool
) -> None:
    assert is_on_read_only_memory(device, mounts) is handed_over


def test_where_the_mounts_cannot_be_read_a_key_open_to_others_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file(tmp_path)
    path.chmod(0o644)
    monkeypatch.setattr(sources, "MOUNTS", tmp_path)

    said = exposure(Source("file", str(path)), {})

    assert said == f"The file {path} can be read by other users of this machine (mode 0644): chmod 600 {path}"


async def test_a_key_readable_by_others_works_and_is_a_problem_until_fixed(
    keyring: Keyring, tmp_path: Path
) -> None:
    key = key_file(tmp_path)
    key.chmod(0o644)

    open_to_all = await keyring.load(file_pair(key))
    key.chmod(0o600)
    closed = await keyring.load(file_pair(key))

    assert is_key(open_to_all, KEYS[0])
    assert details(open_to_all) == [
        f"Private key: The file {key} can be read by other users of this machine (mode 0644): chmod 600 {key}"
    ]
    assert [problem.cause for problem in open_to_all.facts.problems] == [Cause.KEY_FILE_EXPOSED]
    assert details(closed) == []


async def test_a_certificate_may_be_readable_by_all(keyring: Keyring, tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_bytes(certificate_of(KEYS[0]))
    certificate.chmod(0o644)

    assert details(await keyring.load(file_pair(key_file(tmp_path), certificate))) == []


# The ring


async def test_a_pair_is_read_from_its_sources(keyring: Keyring, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(certificate_of(KEYS[0]))

    credential = await keyring.load(file_pair(key_file(tmp_path), tmp_path / "cert.pem"))

    assert is_key(credential, KEYS[0])
    assert credential.facts.pairs is True
    assert credential.facts.problems == ()


async def test_an_unchanged_pair_is_the_same_credential(keyring: Keyring, tmp_path: Path) -> None:
    pair = file_pair(key_file(tmp_path))

    first = await keyring.load(pair)

    assert await keyring.load(pair) is first


async def test_a_key_in_several_places_is_parsed_once_and_shared(tmp_path: Path) -> None:
    keyring = Keyring({"KEY": pem_of(KEYS[0]).decode()})
    pairs = [
        file_pair(key_file(tmp_path, "a.pem")),
        file_pair(key_file(tmp_path, "b.pem")),
        Pair(Source("env", "KEY")),
    ]

    credentials = await asyncio.gather(*(keyring.load(pair) for pair in pairs))

    assert credentials[0].key is not None
    assert all(credential.key is credentials[0].key for credential in credentials)
    keyring.close()


async def test_a_missing_source_is_a_finding_until_it_exists(keyring: Keyring, tmp_path: Path) -> None:
    pair = file_pair(tmp_path / "key.pem")

    missing = await keyring.load(pair)
    assert not keyring.stale(pair)
    key_file(tmp_path)
    assert keyring.stale(pair), "so that the daemon need not wait for the next check"
    there = await keyring.load(pair)

    assert missing.key is None
    assert details(missing) == [
        f"Private key: The file {tmp_path}/key.pem does not exist: create it, or correct the path."
    ]
    assert is_key(there, KEYS[0])
    assert there.facts.problems == ()


async def test_a_missing_certificate_leaves_the_key_usable(keyring: Keyring, tmp_path: Path) -> None:
    credential = await keyring.load(file_pair(key_file(tmp_path), tmp_path / "cert.pem"))

    assert is_key(credential, KEYS[0])
    assert details(credential) == [
        f"Certificate: The file {tmp_path}/cert.pem does not exist: create it, or correct the path."
    ]


async def test_a_key_written_over_in_place_is_noticed(keyring: Keyring, tmp_path: Path) -> None:
    path = key_file(tmp_path)
    await keyring.load(file_pair(path))

    path.write_bytes(pem_of(KEYS[1]))
    os.utime(path, ns=(1, 1))  # whatever the file system's clock ticks by, this is another time

    assert is_key(await keyring.load(file_pair(path)), KEYS[1])


async def test_a_key_replaced_by_a_rename_is_noticed_even_with_the_same_time(
    keyring: Keyring, tmp_path: Path
) -> None:
    path, fresh = key_file(tmp_path), key_file(tmp_path, "fresh.pem", KEYS[1])
    for each in (path, fresh):
        os.utime(each, ns=(1, 1))
    await keyring.load(file_pair(path))

    fresh.rename(path)

    assert is_key(await keyring.load(file_pair(path)), KEYS[1])


async def test_a_symbolic_link_swapped_as_kubernetes_does_is_noticed(
    keyring: Keyring, tmp_path: Path
) -> None:
    for name, key in (("..2026_01", KEYS[0]), ("..2026_02", KEYS[1])):
        (tmp_path / name).mkdir()
        key_file(tmp_path / name, key=key)
        (tmp_path / name / "cert.pem").write_bytes(certificate_of(key))
    (tmp_path / "..data").symlink_to("..2026_01")
    for name in ("key.pem", "cert.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    pair = file_pair(tmp_path / "key.pem", tmp_path / "cert.pem")
    await keyring.load(pair)

    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    credential = await keyring.load(pair)
    assert is_key(credential, KEYS[1])
    assert credential.facts.pairs is True


async def test_a_certificate_renewed_for_the_same_key_is_noticed(keyring: Keyring, tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_bytes(certificate_of(KEYS[0], name="old"))
    pair = file_pair(key_file(tmp_path), certificate)
    before = await keyring.load(pair)

    certificate.write_bytes(certificate_of(KEYS[0], name="renewed"))

    after = await keyring.load(pair)
    assert after.key is before.key
    assert after.facts.certificate is not None
    assert after.facts.certificate.subject == "CN=renewed"


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (b"", Cause.KEY_UNREADABLE),
        (pem_of(KEYS[1])[:900], Cause.KEY_UNREADABLE),
        (
            KEYS[1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            Cause.KEY_UNREADABLE,
        ),
        (None, Cause.KEY_UNREADABLE),
    ],
    ids=["empty", "half-written", "public-half", "gone"],
)
async def test_a_broken_replacement_leaves_the_earlier_key_in_use_as_a_finding(
    keyring: Keyring, tmp_path: Path, broken: bytes | None, cause: Cause
) -> None:
    path = key_file(tmp_path)
    pair = file_pair(path)
    before = await keyring.load(pair)

    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)
    during = [await keyring.load(pair) for _ in range(3)]
    key_file(tmp_path, path.name, KEYS[1])
    after = await keyring.load(pair)

    for credential in during:
        assert credential.key is before.key
        assert credential.facts.key == before.facts.key
        assert [problem.cause for problem in credential.facts.problems] == [cause]
        assert details(credential)[0].endswith(EARLIER_STAYS)
    assert is_key(after, KEYS[1])
    assert after.facts.problems == ()


async def test_an_unreadable_certificate_leaves_the_earlier_one_in_use_as_a_finding(
    keyring: Keyring, tmp_path: Path
) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_bytes(certificate_of(KEYS[0]))
    pair = file_pair(key_file(tmp_path), certificate)
    before = await keyring.load(pair)

    certificate.write_bytes(certificate_of(KEYS[0])[:300])
    during = [await keyring.load(pair) for _ in range(2)]
    certificate.write_bytes(certificate_of(KEYS[0]))
    after = await keyring.load(pair)

    for credential in during:
        assert credential.facts.certificate == before.facts.certificate
        assert details(credential) == [
            "The certificate is incomplete: its END line is missing or damaged. Copy all of it. "
            + EARLIER_STAYS
        ]
    assert after.facts == before.facts


async def test_a_short_key_that_can_sign_replaces_the_earlier_one(keyring: Keyring, tmp_path: Path) -> None:
    path = key_file(tmp_path)
    await keyring.load(file_pair(path))
    short = rsa.generate_private_key(65_537, 1024)

    path.write_bytes(short.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    credential = await keyring.load(file_pair(path))
    assert is_key(credential, short)
    assert [problem.cause for problem in credential.facts.problems] == [Cause.KEY_TOO_SHORT]


async def test_a_pair_removed_from_the_configuration_is_forgotten(keyring: Keyring, tmp_path: Path) -> None:
    kept, gone = file_pair(key_file(tmp_path, "a.pem")), file_pair(key_file(tmp_path, "b.pem", KEYS[1]))
    first = await keyring.load(kept)
    await keyring.load(gone)

    keyring.keep_only([kept])

    (tmp_path / "b.pem").unlink()
    assert await keyring.load(kept) is first
    assert (await keyring.load(gone)).key is None


def reachable(root: object) -> set[str | bytes]:
    """All texts and bytes that an object holds, directly or through others."""
    seen: dict[int, object] = {}
    ahead = [root]
    while ahead:
        each = ahead.pop()
        if id(each) not in seen and not isinstance(each, type | ModuleType | FunctionType):
            seen[id(each)] = each
            ahead += gc.get_referents(each)
    return {each for each in seen.values() if isinstance(each, str | bytes)}


async def test_only_facts_of_a_file_are_kept_and_not_its_content(keyring: Keyring, tmp_path: Path) -> None:
    path = key_file(tmp_path)

    credential = await keyring.load(file_pair(path))

    assert credential.facts.key is not None
    held = reachable(keyring)
    assert credential.facts.key.fingerprint in held
    line = path.read_bytes().splitlines()[5]
    assert not any(line in (each if isinstance(each, bytes) else each.encode()) for each in held)


async def test_loading_an_unchanged_pair_is_far_faster_than_using_a_thread(
    keyring: Keyring, tmp_path: Path
) -> None:
    pair = file_pair(key_file(tmp_path))
    await keyring.load(pair)
    loop = asyncio.get_running_loop()

    began = time.process_time()
    for _ in range(1000):
        await keyring.load(pair)
    looking = time.process_time() - began
    began = time.process_time()
    for _ in range(1000):
        await loop.run_in_executor(None, os.stat, tmp_path)
    going = time.process_time() - began

    assert looking < going / 3
