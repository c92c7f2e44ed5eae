"""What the tests with real processes share: a simulator for each module, and a pair of keys."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.processes import simulator
from tests.end_to_end.watching import key_pair


@pytest.fixture(scope="module")
def orgs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client for the control API of a simulator."""
    with simulator(tmp_path_factory.mktemp("simulator")) as control:
        yield control


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key and certificate."""
    return key_pair(tmp_path_factory.mktemp("keys"))
