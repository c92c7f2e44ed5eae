"""New files: made as a whole or not at all, wherever the way is blocked."""

import os
from pathlib import Path

import pytest

from monitor.keys.new_files import created, directory


def test_a_file_is_removed_if_a_later_step_is_interrupted(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        created(tmp_path / "one.pem", b"1", mode=0o600),
        created(tmp_path / "two.pem", b"2", mode=0o600),
    ):
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_file_is_removed(tmp_path: Path) -> None:
    with directory(tmp_path) as place, pytest.raises(TypeError):
        place.create("key.pem", "text, not bytes", mode=0o600)  # type: ignore[arg-type]

    assert list(tmp_path.iterdir()) == []


def test_files_are_created_in_the_opened_directory_even_if_its_path_changes(
    tmp_path: Path,
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "systems").mkdir()

    with directory(tmp_path / "theirs") as place:
        (tmp_path / "theirs").rename(tmp_path / "moved")
        (tmp_path / "theirs").symlink_to("systems")
        place.create("key.pem", b"1", mode=0o600)

    assert list((tmp_path / "systems").iterdir()) == []
    assert (tmp_path / "moved" / "key.pem").read_bytes() == b"1"


def test_links_are_neither_read_nor_copied(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("root's")
    (tmp_path / "config.yaml").symlink_to("shadow")

    with directory(tmp_path) as place, pytest.raises(OSError, match=r"config\.yaml"):
        place.copy("config.yaml", "copy.yaml")

    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.yaml", "shadow"]


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="this system has no extended attributes")
def test_a_replaced_file_keeps_its_mode_and_attributes(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("old")
    file.chmod(0o640)
    try:
        os.setxattr(file, "user.origin", b"ansible")
    except OSError:
        pytest.skip("this file system has no extended attributes")

    with directory(tmp_path) as place:
        place.replace("config.yaml", b"new")

    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.getxattr(file, "user.origin") == b"ansible"
    assert [each.name for each in tmp_path.iterdir()] == ["config.yaml"]
