"""What all tests share: a test that needs a real component is skipped without it, but never in CI."""

import os
import shutil
import sys
from random import Random, randrange

import pytest
from hypothesis import settings

# On a machine that others use too, how long one example took says nothing; what hangs, `make fuzz` finds.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `real("command")` where the command is missing; fail it in CI."""
    for mark in item.iter_markers("real"):
        for command in mark.args:
            if shutil.which(command) is None:
                verdict = pytest.fail if os.environ.get("CI") else pytest.skip
                verdict(f"{command} is not installed")


@pytest.fixture
def chance() -> Random:
    """Random numbers. The seed is in the output of a failed test; SEED=... repeats them."""
    seed = int(os.environ.get("SEED") or randrange(10**6))
    sys.stdout.write(f"SEED={seed}\n")
    return Random(seed)
