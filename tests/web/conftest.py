"""One rich fleet for all tests of the web; what they change is only what is made of it."""

from collections.abc import Iterator

import pytest

from monitor.core.status import Snapshot
from monitor.store import Store
from tests.web.fleets import rich_fleet
from tests.web.serving import Stage


@pytest.fixture(scope="session", name="past")
def lived_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Snapshot]]:
    """Two dozen connections with their past, for reading."""
    store, snapshot = rich_fleet(tmp_path_factory.mktemp("past"))
    yield store, snapshot
    store.close()


@pytest.fixture
def stage(past: tuple[Store, Snapshot]) -> Stage:
    """The same with a separate stage."""
    return Stage(*past)
