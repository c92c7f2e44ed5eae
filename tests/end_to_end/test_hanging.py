"""Orgs that hang beside others, in short; `python -m tests.end_to_end.hanging` has 2,000 of them."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.end_to_end.hanging import GRACE, gaps

INTERVAL_SECONDS = 10


@pytest.mark.real("openssl")
def test_orgs_that_hang_do_not_delay_the_checks_of_others(tmp_path: Path) -> None:
    """Twelve of forty had held all four slots, and the others waited for a minute and more."""
    found = gaps(tmp_path, 40, INTERVAL_SECONDS, 60, more="max_in_flight: 4")

    assert len(found) > 28 * 2
    assert max(found) <= timedelta(seconds=INTERVAL_SECONDS) + GRACE
