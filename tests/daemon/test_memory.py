"""Secrets in memory do not leave it, even in a crash."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = """
import ctypes, os, resource, sys
from monitor import __main__
from monitor.commands import cli

def crash():
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE), flush=True)
    os.abort()

cli.main = crash
__main__.main()
"""
"""Says whether the process is dumpable (PR_GET_DUMPABLE) and how large a core file may be, and crashes."""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_crash_leaves_no_core_file_even_if_the_environment_allows_it(tmp_path: Path) -> None:
    def allow_core_files() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    done = subprocess.run(
        [sys.executable, "-c", CRASH],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=allow_core_files,
    )

    assert done.returncode < 0
    assert done.stdout == "0 0 0\n"
    assert list(tmp_path.iterdir()) == []
