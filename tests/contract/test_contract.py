"""What leaves the product is as it was promised."""

from difflib import unified_diff

import pytest

from tests.contract.promises import HERE, PROMISES


@pytest.mark.parametrize("name", PROMISES)
def test_each_promise_matches_its_file(name: str) -> None:
    file = HERE / name
    written = file.read_text(encoding="utf-8") if file.exists() else ""
    made = PROMISES[name]()

    difference = "\n".join(
        unified_diff(
            written.splitlines(), made.splitlines(), f"promised in {name}", "made by the code", lineterm=""
        )
    )
    assert not difference, (
        f"if this is meant: .venv/bin/python -m tests.contract, and a CHANGELOG line\n{difference}"
    )


def test_every_contract_file_belongs_to_a_promise() -> None:
    assert {path.name for path in HERE.iterdir() if path.suffix in {".txt", ".json"}} == set(PROMISES)
