"""What `make` says to someone who has just cloned the repository."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def test_an_older_python_is_one_clear_message_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "run.lock").touch()
    (tmp_path / "pyproject.toml").touch()
    older = tmp_path / "python3"
    pretend = "import sys; sys.version_info = (3, 10, 12); exec(sys.argv[1])"
    older.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{pretend}" "$2"\n')
    older.chmod(0o755)

    done = subprocess.run(
        ["make", "demo", f"PYTHON={older}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.startswith(
        f"{older} is older than Python 3.11. If you have a newer one, name it: make demo PYTHON=python3.11\n"
    )
    assert not (tmp_path / ".venv").exists()
