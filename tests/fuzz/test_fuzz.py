"""A short run of every target, the same examples each time; `make fuzz` is the long one."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "_"))
def test_the_fuzzers_find_no_failure(target: Target) -> None:
    with target.opened() as holds:

        @settings(
            max_examples=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],  # a busy machine
        )
        @given(target.tried)
        def tried(example: Any) -> None:
            holds(example)

        tried()
