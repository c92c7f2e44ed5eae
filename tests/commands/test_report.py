"""How available connections were in a month, as the command tells it."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.commands.report import Line, as_csv, as_markdown, month, report
from monitor.config import load
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.history import begin, changes
from monitor.core.outcome import Outcome
from monitor.core.problem import OperatorError
from monitor.store import Store
from tests.making import GRANTED, NOT_APPROVED, connection, diagnosis, exchange, remember

START = datetime(2026, 10, 1, tzinfo=UTC)
LATER = datetime(2026, 11, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)

CONFIG = """
connections:
  - {name: acme, subdomain: acme, consumer_key: 3MVG9_acme, username: a@acme.com, private_key: {file: k},
     labels: {customer: acme}}
  - {name: globex, subdomain: globex, consumer_key: 3MVG9_globex, username: g@globex.com,
     private_key: {file: k}}
"""

Reporting = Callable[..., list[Line]]


@pytest.fixture(name="reported")
def of_two(tmp_path: Path) -> Reporting:
    """The report over two connections that are asked every hour of October; one fails for six hours."""
    file = tmp_path / "bearerwatch.yaml"
    file.write_text(CONFIG)
    store = Store.open(tmp_path / "bearerwatch.db")
    for name, refused in (("acme", range(100, 106)), ("globex", range(0))):
        history = begin(connection(name=name), START)
        for hour in range(31 * 24):
            at = START + hour * HOUR
            outcome: Outcome = NOT_APPROVED if hour in refused else GRANTED
            verdict = (
                diagnosis(State.FAILING, Cause.APPROVAL_DECAYED, at=at)
                if hour in refused
                else diagnosis(State.HEALTHY, at=at)
            )
            before, history = history, remember(history, exchange(outcome, at), verdict)
            store.save(name, history, changes(before, history))
    assert store.close()
    return lambda wanted="2026-10", labels=(), now=LATER: report(load(file, {}), wanted, labels, now)


def test_the_report_counts_an_outages_hours_as_down(reported: Reporting) -> None:
    acme, globex = reported()

    assert acme.found.down == acme.found.longest == 6 * HOUR
    assert acme.found.up == (31 * 24 - 6) * HOUR
    assert acme.found.outages == 1
    assert sum(day.granted for day in acme.days) == 31 * 24 - 6
    assert sum(day.refused for day in acme.days) == 6
    assert Cause.APPROVAL_DECAYED in acme.causes
    assert globex.found.share == 1


def test_a_label_selects_the_connections_of_one_customer(reported: Reporting) -> None:
    assert [line.connection.name for line in reported(labels=("customer=acme",))] == ["acme"]
    with pytest.raises(OperatorError, match="No connection has the label customer=nobody and tier"):
        reported(labels=("customer=nobody", "tier"))


def test_a_month_without_checks_is_unknown(reported: Reporting) -> None:
    assert reported("2026-11")[0].found.share is None
    assert reported("2026-01")[0].found.share is None


def test_csv_has_numbers_and_markdown_has_a_table(reported: Reporting) -> None:
    lines = reported()

    acme, globex = csv.DictReader(io.StringIO(as_csv(lines)))
    assert acme["availability_percent"] == f"{100 * 738 / 744:.4f}"
    assert (acme["down_minutes"], acme["outages"], acme["labels"]) == ("360.0", "1", "customer=acme")
    assert (globex["availability_percent"], globex["causes"]) == ("100.0000", "")
    table = as_markdown(lines, "2026-10")
    assert "| acme | 99.19 % | 6 h | 1 | 6 h | The approval has aged out |" in table
    assert "| globex | 100 % | – | 0 | – | – |" in table


@pytest.mark.parametrize("wanted", ["2026", "2026-13", "October", "2026-1", "2027-01"])
def test_an_invalid_or_future_month_is_an_error(reported: Reporting, wanted: str) -> None:
    with pytest.raises(OperatorError):
        reported(wanted)


def test_a_month_ends_at_the_start_of_the_next() -> None:
    assert month("2026-12") == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
