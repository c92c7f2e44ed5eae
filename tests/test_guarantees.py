"""docs/guarantees.md promises nothing that no test keeps, and no number that the code does not have."""

import re
from pathlib import Path

from monitor.core.cadence import UNSEEN_GRACE, UNSEEN_INTERVALS
from monitor.daemon.daemon import HANGS_SECONDS as RELOAD_HANGS_SECONDS
from monitor.daemon.descriptors import needed
from monitor.store.database import DAYS_KEPT, EVENT_DAYS
from monitor.store.keeper import HANGS_SECONDS
from monitor.store.waiting import EVENTS_KEPT, EXCHANGES_KEPT
from monitor.watch.clock import AGREEING

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "guarantees.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.endswith("| Kept by |")]


def test_each_guarantee_names_tests_that_exist() -> None:
    for row in ROWS:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.split("|")[-2])
        assert named, f"no test keeps: {row}"
        for file, name in named:
            source = (TESTS / file).read_text()
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{file} has no {name}"


def test_the_numbers_in_the_guarantees_match_the_code() -> None:
    in_words = {3: "three", 1: "a"}
    minutes = UNSEEN_GRACE.total_seconds() / 60
    for said in (
        f"reported after {HANGS_SECONDS:.0f} seconds",
        f"reported after {RELOAD_HANGS_SECONDS:.0f} seconds",
        f"after {in_words[UNSEEN_INTERVALS]} intervals and {in_words[int(minutes)]} minute",
        f"after {in_words[AGREEING]} answers that agree",
        f"the last {EXCHANGES_KEPT} |",
        f"{EVENTS_KEPT[True]} about failures, {EVENTS_KEPT[False]} others",
        f"{EVENT_DAYS[True]} days about failures, {EVENT_DAYS[False]} days others",
        f"| {DAYS_KEPT} days |",
        f"twice `max_in_flight`, plus {needed(0)};",
    ):
        assert said in TEXT, said
