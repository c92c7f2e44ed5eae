"""Every malformed key and certificate leads to exactly its own finding, and every sound one to none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from monitor.core.causes import Cause
from monitor.core.connection import Pair, Source
from monitor.core.history import begin
from monitor.core.keys.credential import Credential
from monitor.core.outcome import NotSent
from monitor.core.verdict.diagnosis import diagnose
from monitor.keys.sources import Keyring
from tests.credentials.corpus import CERTIFICATES, KEYS, Case, corpus_in
from tests.making import ACME, GRANTED, exchange, read_credential

JUDGED_BY_TIME = {Cause.CERTIFICATE_EXPIRED, Cause.CERTIFICATE_NOT_YET_VALID}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return corpus_in(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


def findings(credential: Credential) -> list[Cause]:
    """What a diagnosis finds now, where the org grants all that can be signed."""
    outcome = GRANTED if credential.key is not None else NotSent("No usable private key.")
    now = datetime.now(UTC)
    verdict = diagnose(exchange(outcome, now), credential.facts, ACME, begin(ACME, now), now)
    return [finding.cause for finding in verdict.findings]


def assert_leads_to(credential: Credential, case: Case) -> None:
    assert findings(credential) == ([case.cause] if case.cause else [])
    expected = [] if case.cause is None or case.cause in JUDGED_BY_TIME else [case.cause]
    assert [problem.cause for problem in credential.facts.problems] == expected
    for problem in credential.facts.problems:
        assert case.words in problem.detail
        assert problem.detail.endswith(".")


def test_the_corpus_has_the_promised_size() -> None:
    names = [case.name for case in KEYS + CERTIFICATES]

    assert len(names) == len(set(names))
    assert sum(case.cause is not None for case in KEYS + CERTIFICATES) >= 40


@pytest.mark.parametrize("case", KEYS, ids=lambda case: case.name)
def test_each_key_of_the_corpus_gives_exactly_its_expected_finding(corpus: Path, case: Case) -> None:
    credential = read_credential((corpus / case.name).read_bytes())

    assert_leads_to(credential, case)
    signs = case.cause is None if case.signs is None else case.signs
    assert (credential.key is not None) == signs
    if signs:
        assert credential.facts.key is not None
        assert credential.facts.key.kind == "rsa"


@pytest.mark.parametrize("case", CERTIFICATES, ids=lambda case: case.name)
def test_each_certificate_of_the_corpus_gives_exactly_its_expected_finding(corpus: Path, case: Case) -> None:
    credential = read_credential((corpus / "sound.pem").read_bytes(), (corpus / case.name).read_bytes())

    assert_leads_to(credential, case)
    assert credential.key is not None
    paired = {Cause.KEY_UNREADABLE: None, Cause.KEY_CERTIFICATE_MISMATCH: False}
    assert credential.facts.pairs is (True if case.cause is None else paired.get(case.cause, True))


@pytest.mark.parametrize("case", KEYS, ids=lambda case: case.name)
def test_no_message_or_repr_shows_the_files_content(corpus: Path, case: Case) -> None:
    content = (corpus / case.name).read_bytes()

    credential = read_credential(content, content)

    shown = repr(credential).encode()
    assert not any(line in shown for line in content.split() if len(line) >= 16)


def test_the_dates_of_a_certificate_are_not_a_problem_of_reading(corpus: Path) -> None:
    key = (corpus / "sound.pem").read_bytes()

    expired = read_credential(key, (corpus / "expired.crt").read_bytes()).facts.certificate
    future = read_credential(key, (corpus / "future.crt").read_bytes()).facts.certificate

    assert expired is not None
    assert expired.not_after == datetime(2021, 1, 1, tzinfo=UTC)
    assert future is not None
    assert future.not_before == datetime(2090, 1, 1, tzinfo=UTC)


def not_files(directory: Path) -> dict[str, str]:
    """Unreadable paths, with their messages."""
    (directory / "directory.pem").mkdir()
    (directory / "dangling.pem").symlink_to("nowhere.pem")
    (directory / "circle.pem").symlink_to("circle.pem")
    os.mkfifo(directory / "pipe.pem")
    (directory / "huge.pem").touch(mode=0o600)
    (directory / "huge.pem").write_bytes(b"A" * (64 * 1024 + 1))
    return {
        "missing.pem": "does not exist",
        "directory.pem": "is a directory",
        "directory.pem/key.pem": "does not exist",
        "huge.pem/key.pem": "Not a directory",
        "dangling.pem": "does not exist",
        "circle.pem": "Too many levels",
        "pipe.pem": "is a pipe or a device",
        "huge.pem": "larger than 64 KiB",
        "n" * 300: "File name too long",
        "a\0b": "null byte",
    }


async def test_a_path_that_is_not_a_readable_file_is_a_finding_that_names_it(tmp_path: Path) -> None:
    keyring = Keyring({})

    for name, words in not_files(tmp_path).items():
        path = f"{tmp_path}/{name}"
        facts = (await keyring.load(Pair(Source("file", path)))).facts
        assert [problem.cause for problem in facts.problems] == [Cause.KEY_UNREADABLE]
        assert words in facts.problems[0].detail
        assert path in facts.problems[0].detail
    keyring.close()


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root can read everything, so as root, switch to the user nobody meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may enter, unlike those of pytest."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(("mode", "readable"), [(0o000, False), (0o200, False), (0o444, True)])
async def test_a_file_without_read_permission_is_a_finding(
    corpus: Path, open_directory: Path, mode: int, *, readable: bool
) -> None:
    path = open_directory / "key.pem"
    path.write_bytes((corpus / "sound.pem").read_bytes())
    path.chmod(mode)
    keyring = Keyring({})

    with without_privileges():
        credential = await keyring.load(Pair(Source("file", str(path))))

    assert (credential.key is not None) == readable
    if not readable:
        assert "is not readable by this process" in credential.facts.problems[0].detail
    keyring.close()
