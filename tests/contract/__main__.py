"""Writes the files of all promises: `.venv/bin/python -m tests.contract`."""

from tests.contract.promises import HERE, PROMISES

for name, promise in PROMISES.items():
    (HERE / name).write_text(promise(), encoding="utf-8")
