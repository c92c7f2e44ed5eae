"""keygen: equal to openssl's files, readable only by the owner, never overwriting anything."""

import os
import re
import stat
import subprocess
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.keys.keygen import KeygenError, generate
from tests.end_to_end.processes import bearerwatch
from tests.making import read_credential

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def run(*command: str, directory: Path) -> str:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout


def structure(certificate: str, directory: Path) -> list[str]:
    """openssl's description of a certificate, without random or time-dependent parts."""
    text = run("openssl", "x509", "-in", certificate, "-noout", "-text", directory=directory)
    by_chance = re.compile(r"\s*(Not (Before|After ) ?:.*|([0-9A-Fa-f]{2}:?)+)")
    return [line for line in text.splitlines() if not by_chance.fullmatch(line)]


@pytest.mark.real("openssl")
def test_the_pair_equals_that_of_the_guides_command(tmp_path: Path) -> None:
    generate(tmp_path, now=datetime.now(UTC))
    command = (
        "openssl req -x509 -sha256 -nodes -days 3650 -newkey rsa:2048 -keyout guide-key.pem "
        "-out guide-cert.pem -subj /CN=salesforce-jwt-integration"
    )
    run(*command.split(), directory=tmp_path)

    verdict = run("openssl", "verify", "-CAfile", "cert.pem", "cert.pem", directory=tmp_path)

    assert verdict == "cert.pem: OK\n"
    assert structure("cert.pem", tmp_path) == structure("guide-cert.pem", tmp_path)
    run("openssl", "pkey", "-in", "private-key.pem", "-check", "-noout", directory=tmp_path)
    first_lines = [
        (tmp_path / name).read_text().splitlines()[0] for name in ("private-key.pem", "guide-key.pem")
    ]
    assert first_lines == ["-----BEGIN PRIVATE KEY-----"] * 2


def test_a_longer_key_can_be_requested(tmp_path: Path) -> None:
    made = generate(tmp_path, now=NOW, bits=3072)

    facts = read_credential(made.key_path.read_bytes(), made.certificate_path.read_bytes()).facts

    assert facts.key is not None
    assert facts.key.bits == 3072
    assert facts.problems == ()


def test_the_daemon_reads_the_pair_also_as_base64(tmp_path: Path) -> None:
    made = generate(tmp_path, now=NOW, days=90, common_name="acme")

    from_files = read_credential(made.key_path.read_bytes(), made.certificate_path.read_bytes())
    from_line = read_credential(b64encode(made.key_path.read_bytes()))

    assert from_files.facts.problems == ()
    assert from_files.facts.pairs is True
    assert from_line.facts.key == from_files.facts.key
    assert from_files.facts.certificate is not None
    assert from_files.facts.certificate.subject == "CN=acme"
    assert from_files.facts.certificate.not_before == NOW
    assert from_files.facts.certificate.not_after == NOW + timedelta(days=90)


def test_only_its_owner_may_read_the_key_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = generate(tmp_path, now=NOW)
    finally:
        os.umask(before)

    assert stat.S_IMODE(made.key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.certificate_path.stat().st_mode) == 0o644


def test_two_pairs_have_different_keys_and_serial_numbers(tmp_path: Path) -> None:
    one = generate(tmp_path, now=NOW)
    two = generate(tmp_path, now=NOW, key_name="acme-next.pem", certificate_name="acme-next-cert.pem")

    assert two.key_path == tmp_path / "acme-next.pem"
    facts = [
        read_credential(each.key_path.read_bytes(), each.certificate_path.read_bytes()).facts
        for each in (one, two)
    ]
    assert facts[0].key != facts[1].key
    assert facts[0].certificate is not None
    assert facts[1].certificate is not None
    assert facts[0].certificate.serial != facts[1].certificate.serial


@pytest.mark.parametrize("name", ["private-key.pem", "cert.pem"])
@pytest.mark.parametrize("link", [False, True], ids=["file", "dangling-link"])
def test_nothing_is_overwritten_or_left_incomplete(tmp_path: Path, name: str, *, link: bool) -> None:
    path = tmp_path / name
    if link:
        path.symlink_to(tmp_path / "elsewhere.pem")
    else:
        path.write_text("precious")

    with pytest.raises(KeygenError) as raised:
        generate(tmp_path, now=NOW)

    assert str(raised.value) == (f"{path} already exists and was not overwritten: choose another directory.")
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert link or path.read_text() == "precious"


def test_a_key_is_removed_if_its_certificate_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(KeygenError, match=r"missing cannot be written \(No such file or directory\)"):
        generate(tmp_path, now=NOW, certificate_name="missing/cert.pem")

    assert list(tmp_path.iterdir()) == []


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    made = generate(tmp_path / "keys", now=NOW)

    assert made.key_path.parent.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_created_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(KeygenError) as raised:
        generate(tmp_path / "missing" / "keys", now=NOW)

    assert str(raised.value) == (
        f"{tmp_path}/missing/keys cannot be written (No such file or directory): "
        "choose an existing, writable directory."
    )


@pytest.mark.skipif(not Path("/sys").exists(), reason="a directory that even root creates nothing in")
def test_a_directory_that_may_not_be_created_is_refused_for_that_reason() -> None:
    with pytest.raises(KeygenError, match=r"/sys/keys cannot be written \((?!No such file)"):
        generate(Path("/sys/keys"), now=NOW)


@pytest.mark.parametrize("bits", [1024, 8192])
def test_an_invalid_number_of_bits_is_refused(tmp_path: Path, bits: int) -> None:
    with pytest.raises(KeygenError) as raised:
        generate(tmp_path, now=NOW, bits=bits)

    assert str(raised.value) == f"Cannot create a key of {bits} bits: choose 2048, 3072 or 4096."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "n" * 65, "two\nlines"])
def test_an_invalid_common_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeygenError, match="1 to 64 printable characters"):
        generate(tmp_path, now=NOW, common_name=name)


def test_the_command_says_where_the_key_is_and_never_prints_it(tmp_path: Path) -> None:
    done = bearerwatch("keygen", "--out", ".", folder=tmp_path)

    key = (tmp_path / "private-key.pem").read_bytes()
    assert done.stdout == ""
    assert "base64 -w 0 private-key.pem" in done.stderr
    assert b64encode(key).decode()[:40] not in done.stderr
