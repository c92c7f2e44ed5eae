"""A short soak test with a few random faults; `make soak` runs for an hour."""

from pathlib import Path
from random import Random

import pytest

from tests.end_to_end.soak import soaking

BLOWS = 3


@pytest.mark.real("openssl", "faketime")
def test_a_few_random_faults_cost_no_more_than_guaranteed(tmp_path: Path, chance: Random) -> None:
    with soaking(tmp_path) as soak:
        for name in chance.sample(list(soak.blows()), BLOWS):
            found = soak.blow(name)

            assert found.kept, found
