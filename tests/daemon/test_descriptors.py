"""Open files: the limit is raised, or said to be too low."""

import subprocess
import sys

import pytest

from monitor.daemon.descriptors import needed

PROGRAM = """
import resource, sys
from monitor.daemon.descriptors import enough
print(enough(64), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "said"),
    [
        (100, 4096, f"None {needed(64)}"),
        (4000, 4096, "None 4000"),
        (100, 200, f"This process may open 200 files, but may need {needed(64)} with max_in_flight: 64."),
    ],
)
def test_the_limit_of_open_files_is_raised_or_reported_as_too_low(soft: int, hard: int, said: str) -> None:
    limits = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec {sys.executable} -c '{PROGRAM}'"
    done = subprocess.run(["sh", "-c", limits], capture_output=True, text=True, check=True)

    assert done.stdout.startswith(said)
