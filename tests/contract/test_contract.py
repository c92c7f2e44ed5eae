"""What leaves the product is as it was promised."""

import pytest

from tests.contract.promises import HERE, PROMISES


@pytest.mark.parametrize("name", PROMISES)
def test_a_promise_is_kept(name: str) -> None:
    written = (HERE / name).read_text() if (HERE / name).exists() else ""

    assert PROMISES[name]() == written, (
        "if this is meant: .venv/bin/python -m tests.contract, and a CHANGELOG line"
    )


def test_every_file_is_one_of_a_promise() -> None:
    assert {path.name for path in HERE.iterdir() if path.suffix in {".txt", ".json"}} == set(PROMISES)
