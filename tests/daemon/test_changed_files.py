"""Changed files are noticed, however they are changed."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.config import Settings, load
from monitor.daemon.changed_files import ChangedFiles, configuration_stamps, directories
from tests.end_to_end.processes import bound_by_modes

CONFIG = """
connections_from: [more/*.yaml]
connections:
  - name: acme
    subdomain: acme
    consumer_key: 3MVG9acme
    username: integration@acme.com
    private_key: {file: keys/current/acme.pem}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    config = tmp_path / "config" / "bearerwatch.yaml"
    config.parent.mkdir()
    config.write_text(CONFIG)
    (config.parent / "more").mkdir()
    keys = config.parent / "keys"
    (keys / "first").mkdir(parents=True)
    (keys / "first" / "acme.pem").write_text("first")
    (keys / "current").symlink_to("first")
    return load(config, {})


def rewrite(folder: Path) -> None:
    (folder / "bearerwatch.yaml").write_text(CONFIG + "\n# changed\n")


def replace(folder: Path) -> None:
    (folder / "new").write_text(CONFIG)
    (folder / "new").replace(folder / "bearerwatch.yaml")


def add_a_file(folder: Path) -> None:
    (folder / "more" / "customers.yaml").write_text("[]")


def write_a_key(folder: Path) -> None:
    (folder / "keys" / "first" / "acme.pem").write_text("another")


def swap_the_directory(folder: Path) -> None:
    (folder / "keys" / "second").mkdir(exist_ok=True)
    (folder / "keys" / "new").symlink_to("second")
    (folder / "keys" / "new").replace(folder / "keys" / "current")


@pytest.mark.parametrize("change", [rewrite, replace, add_a_file, write_a_key, swap_the_directory])
async def test_a_change_is_noticed(settings: Settings, change: Callable[[Path], None]) -> None:
    noticed = asyncio.Event()

    async def changed() -> None:
        noticed.set()

    watch = ChangedFiles(changed)
    watch.over(settings)
    async with asyncio.timeout(20):
        while not noticed.is_set():  # the watch begins a moment after it is asked to
            change(settings.files[0].parent)
            await asyncio.wait([asyncio.create_task(noticed.wait())], timeout=0.2)
    await watch.stop()


async def test_writes_to_a_database_in_the_same_directory_are_ignored(settings: Settings) -> None:
    calls = 0
    noticed = asyncio.Event()

    async def changed() -> None:
        nonlocal calls
        calls += 1
        noticed.set()

    watch = ChangedFiles(changed)
    watch.over(settings)
    for count in range(5):
        Path(settings.database + "-wal").write_text("x" * count)
        await asyncio.wait([asyncio.create_task(noticed.wait())], timeout=0.2)
    await watch.stop()

    assert calls == 0


def test_the_directories_of_keys_patterns_and_configuration_are_watched(settings: Settings) -> None:
    folder = settings.files[0].parent

    assert directories(settings) == {
        folder,
        folder / "more",
        folder / "keys",
        folder / "keys" / "current",
    }


def test_stamps_differ_after_a_file_is_changed_added_or_removed(settings: Settings) -> None:
    folder = settings.files[0].parent
    before = configuration_stamps(settings)
    add_a_file(folder)
    added = configuration_stamps(settings)
    rewrite(folder)
    changed = configuration_stamps(settings)
    (folder / "more" / "customers.yaml").unlink()

    assert len({before, added, changed, configuration_stamps(settings)}) == 4


def test_a_directory_that_may_not_be_read_does_not_end_the_watch_over_the_others(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o711)
    config = tmp_path / "bearerwatch.yaml"
    config.write_text(
        CONFIG.replace("keys/current/", "keys/") + "  - {name: b, subdomain: acme--b.sandbox,"
        " consumer_key: 3MVG9acme, username: b@acme.com, private_key: {file: keys/no/more/b.pem}}\n"
    )
    program = (
        "from pathlib import Path; from monitor.config import load;"
        " from monitor.daemon.changed_files import directories;"
        f" keys = Path({str(keys)!r}); keys.chmod(0o100);"
        f" print(sorted(map(str, directories(load(Path({str(config)!r}), {{}})))))"
    )

    done = subprocess.run(
        [*bound_by_modes(), sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    keys.chmod(0o700)
    assert (done.stdout, done.stderr) == (f"['{tmp_path}']\n", "")
