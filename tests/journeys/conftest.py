"""What journeys begin with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.journeys.driver import Journey, setting_out


@pytest.fixture
async def journey(tmp_path: Path) -> AsyncIterator[Journey]:
    """A journey that begins at NOW, without connections yet."""
    async with setting_out(tmp_path) as made:
        yield made
