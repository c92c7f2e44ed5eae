"""The store on real files: what is put down is there later, whatever becomes of disk and process."""

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.finding import Certainty, Finding, State
from monitor.core.history import Event, EventKind, History, Slot
from monitor.core.inside import Facts
from monitor.core.outcome import (
    AfterLogin,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Outcome,
    Refused,
    Unreachable,
)
from monitor.core.reads import Read
from monitor.core.telling import Told
from monitor.store import (
    EXCHANGES_KEPT,
    UPGRADES,
    DayCounts,
    PastExchange,
    Store,
    StoreError,
    Verdict,
    records,
)
from monitor.store.database import DAYS_KEPT, EVENT_DAYS, Database
from monitor.store.keeper import HANGS_SECONDS
from monitor.store.place import place_of
from monitor.store.waiting import EVENTS_KEPT, Lease, Waiting
from tests.end_to_end.processes import bound_by_modes, until

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HERE = Path(__file__).parent
PROCESSES = HERE / "store_processes.py"
GOLDEN = HERE.parent / "golden" / "histories"
VERSION_1 = HERE / "store_v1.sql"

GRANTED = Granted(
    "opaque",
    frozenset({"api", "refresh_token"}),
    "https://acme.my.salesforce.com",
    "00D000000000001",
    "005000000000001",
)
REFUSED = Refused(400, "invalid_grant", "user hasn't approved this consumer", "")
MAINTENANCE = Refused(503, "", "", "<html>")
UNREACHABLE = Unreachable(FaultKind.DNS, "no such name")
NOT_SENT = NotSent("no key")


AUDIT = Facts(NOON, rows={Read.ORG: ({"IsSandbox": True, "TrialExpirationDate": None},)}, calls=3)
TOLD = Told({"alertname": "A", "severity": "critical"}, "A: acme", ("acme",), NOON, NOON)


def finding(cause: Cause) -> Finding:
    return Finding(cause, Severity.CRITICAL, Responsible.ORG_ADMIN, Certainty.LIKELY, ("It said so.",), NOON)


def history(
    outcome: Outcome | None = None,
    *,
    at: datetime = NOON,
    number: int = 1,
    cause: Cause | None = None,
    verdict: bool = True,
    after_login: AfterLogin | None = None,
) -> History:
    exchange = Exchange(at, outcome, after_login, 0.1234, -0.5) if outcome else None
    return History(
        NOON,
        NOON,
        exchanges=number,
        last_exchange=exchange,
        last_verdict=exchange if verdict else None,
        findings=(finding(cause),) if cause else (),
    )


def event(
    number: int = 0, *, failure: bool = False, at: datetime = NOON, cause: Cause | None = None
) -> Event:
    return Event(at, EventKind.STATE, f"event {number}", cause, failure)


OF_A_FILE = UPGRADES["sqlite"]


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "bearerwatch.db"


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    """A store whose writer gives up a lock at once, and never tries again unless it is asked to."""
    with closing(Store.open(path, busy_seconds=0.05, retry_seconds=(3600, 3600))) as store:
        yield store


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


# What is remembered


outcomes = st.one_of(*(st.from_type(kind) for kind in (Granted, Refused, Unreachable, NotSent)))
finite = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.just(UTC))
st.register_type_strategy(datetime, moments)
st.register_type_strategy(float, finite)


def dictionaries(kind: Any) -> st.SearchStrategy[dict[Any, Any]]:
    """What a history's mappings are: hypothesis would try each class that is one."""
    keys, values = get_args(kind)
    return st.dictionaries(st.from_type(keys), st.from_type(values))


st.register_type_strategy(Mapping, dictionaries)


@given(st.lists(st.from_type(History), max_size=5))
@settings(max_examples=100, deadline=None)
def test_every_history_survives_the_round_trip_through_its_record(histories: list[History]) -> None:
    for one in histories:
        audit = records.written_audit(one.audit) if one.audit else None
        assert records.read(records.written(one), audit) == one


@pytest.mark.parametrize(
    "outcome", [GRANTED, REFUSED, UNREACHABLE, NOT_SENT, None], ids=lambda one: type(one).__name__
)
def test_a_history_survives_a_restart(path: Path, outcome: Outcome | None) -> None:
    saved = replace(
        history(
            outcome, cause=Cause.API_DISABLED, after_login=AfterLogin(403, "API_CURRENTLY_DISABLED", "…")
        ),
        failures_by_cause={Cause.API_DISABLED: 3},
        keys_accepted={Slot.NEXT: False},
        state=State.FAILING,
    )

    with opened(path) as store:
        store.save("acme", saved)
        assert store.histories() == {"acme": saved}
    with opened(path) as store:
        assert store.histories() == {"acme": saved}
        assert (store.errors, store.problem, store.unreadable) == (0, None, {})


def test_the_last_history_of_a_name_wins(path: Path) -> None:
    with opened(path) as store:
        for number in range(1, 2000):
            store.save("acme", history(GRANTED, number=number))
            store.save(f"other {number}", history(GRANTED))

    with opened(path) as store:
        assert store.histories()["acme"].exchanges == 1999
        assert len(store.histories()) == 2000


def test_any_name_is_stored_exactly(path: Path) -> None:
    names = ["a", "A", "a ", "ä", "a'; drop table histories; --", "日本", "?", "%", "a\nb", ""]

    with opened(path) as store:
        for number, name in enumerate(names):
            store.save(name, history(GRANTED, number=number))
    with opened(path) as store:
        assert {name: one.exchanges for name, one in store.histories().items()} == {
            name: number for number, name in enumerate(names)
        }
        assert [len(store.exchanges(name)) for name in names] == [1] * len(names)


@pytest.mark.parametrize(
    "name", ["a b.db", "what?.db", "100%.db", "a#b.db", "ä.db", "mode=memory&cache=shared"]
)
def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / name) as store:
        store.save("acme", history(GRANTED))
        assert store.flush()

    assert (tmp_path / name).is_file()


def test_a_new_database_and_its_companion_files_are_readable_only_by_their_owner(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", history(GRANTED), ())
        store.flush()
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert modes == dict.fromkeys((path.name, f"{path.name}-wal", f"{path.name}-shm"), 0o600)


# What can't be read


def _damage(path: Path, name: str, body: str) -> None:
    with raw(path) as connection:
        connection.execute(
            f"UPDATE histories SET body = {body} "
            "WHERE connection_id = (SELECT id FROM connections WHERE name = ?)",
            (name,),
        )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("substr(body, 1, 100)", "Invalid JSON"),
        ("''", "Invalid JSON"),
        ("CAST(x'ff00fe' AS TEXT)", "Invalid JSON"),
        ("'[]'", "it: Input should be an object"),
        ('replace(body, \'"version":3\', \'"version":3,"state":"confused"\')', "state: Input should be"),
        ("replace(body, '\"dns\"', '\"quic\"')", "kind: Input should be"),
        ("replace(body, '\"exchanges\"', '\"answers\"')", "answers: Unknown field"),
        ("replace(body, '\"version\":3', '\"version\":4')", "version: Input should be 1, 2 or 3"),
    ],
)
def test_an_unreadable_history_is_set_aside_without_affecting_others(
    path: Path, damage: str, reason: str
) -> None:
    with opened(path) as store:
        for name in ("first", "bad", "last"):
            store.save(name, history(UNREACHABLE, verdict=False))
    _damage(path, "bad", damage)
    with raw(path) as connection:
        (was,) = connection.execute(
            "SELECT CAST(body AS BLOB) FROM histories "
            "JOIN connections ON id = connection_id WHERE name = 'bad'"
        ).fetchone()

    with opened(path) as store:
        assert set(store.histories()) == {"first", "last"}
        assert list(store.unreadable) == ["bad"]
        assert reason in store.unreadable["bad"]
        store.save("bad", history(GRANTED))
    with opened(path) as store:
        assert set(store.histories()) == {"first", "last", "bad"}
        assert store.unreadable == {}
    with raw(path) as connection:
        kept = connection.execute(
            "SELECT name, CAST(body AS BLOB) FROM unreadable "
            "JOIN connections ON connections.id = connection_id"
        ).fetchall()
        assert kept == [("bad", was)]


def test_an_unwritable_history_does_not_affect_others(path: Path) -> None:
    """A lone surrogate has no UTF-8. It must not get this far; if it does, the fault is ours, and counted."""
    with opened(path) as store:
        for number in range(20):
            store.save(f"good {number}", history(GRANTED))
        store.save("bad", history(Unreachable(FaultKind.DNS, "\ud800")))
        store.save("also bad", history(GRANTED), (Event(NOON, EventKind.STATE, "\ud800"),))
        store.save("last", history(GRANTED))

        assert not store.flush(60)  # the log draws three tracebacks first, with all that their frames hold
        assert store.errors == 1
        assert store.problem is not None
        assert "An internal error" in store.problem
        assert store.flush()
        assert store.problem is None
    with opened(path) as store:
        assert set(store.histories()) == {*(f"good {number}" for number in range(20)), "last"}


# Audits


def _audit_bodies(path: Path) -> list[str]:
    with raw(path) as connection:
        return [body for (body,) in connection.execute("SELECT body FROM audits")]


def test_an_audit_is_written_only_if_it_changed(path: Path) -> None:
    """It is many times as long as a history, and changes once a day."""
    later = replace(AUDIT, at=NOON + timedelta(days=1))
    with opened(path) as store:
        store.save("acme", replace(history(GRANTED), audit=AUDIT))
        assert store.flush()
        with raw(path) as connection:
            connection.execute("UPDATE audits SET body = 'untouched'")
        store.save("acme", replace(history(GRANTED, number=2), audit=AUDIT))
        assert store.flush()
        assert _audit_bodies(path) == ["untouched"]

        store.save("acme", replace(history(GRANTED, number=3), audit=later))
    with opened(path) as store:
        assert store.histories() == {"acme": replace(history(GRANTED, number=3), audit=later)}


def test_a_discarded_audit_does_not_return(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", replace(history(GRANTED), audit=AUDIT))
        assert store.flush()
        store.save("acme", history(GRANTED, number=2))
    with opened(path) as store:
        assert store.histories() == {"acme": history(GRANTED, number=2)}


def test_an_audit_that_could_not_be_written_is_written_later(path: Path) -> None:
    with opened(path) as store:
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            store.save("acme", replace(history(GRANTED), audit=AUDIT))
            assert not store.flush()
        store.save("acme", replace(history(GRANTED, number=2), audit=AUDIT))
    with opened(path) as store:
        assert store.histories() == {"acme": replace(history(GRANTED, number=2), audit=AUDIT)}


def test_an_unreadable_audit_is_set_aside_with_its_history(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", replace(history(GRANTED), audit=AUDIT))
    [audit] = _audit_bodies(path)
    with raw(path) as connection:
        connection.execute('UPDATE audits SET body = replace(body, \'"calls":3\', \'"calls":"a"\')')

    with opened(path) as store:
        assert store.histories() == {}
        assert store.unreadable["acme"].startswith("audit.calls: Input should be a valid integer")
    with raw(path) as connection:
        kept = [body for (body,) in connection.execute("SELECT body FROM unreadable ORDER BY id")]
    assert kept == [records.written(replace(history(GRANTED), audit=AUDIT)), audit.replace("3,", '"a",')]


# Exchanges and days


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        (history(GRANTED), PastExchange(NOON, Verdict.GRANTED, None, 200, 0.123)),
        (
            history(GRANTED, cause=Cause.CERTIFICATE_EXPIRING),
            PastExchange(NOON, Verdict.GRANTED, None, 200, 0.123),
        ),
        (
            history(
                GRANTED, cause=Cause.API_DISABLED, after_login=AfterLogin(403, "API_CURRENTLY_DISABLED", "")
            ),
            PastExchange(NOON, Verdict.GRANTED, Cause.API_DISABLED, 200, 0.123),
        ),
        (
            history(REFUSED, cause=Cause.APPROVAL_DECAYED),
            PastExchange(NOON, Verdict.REFUSED, Cause.APPROVAL_DECAYED, 400, 0.123),
        ),
        (
            history(MAINTENANCE, cause=Cause.SALESFORCE_UNAVAILABLE, verdict=False),
            PastExchange(NOON, Verdict.NO_VERDICT, Cause.SALESFORCE_UNAVAILABLE, 503, 0.123),
        ),
        (
            history(UNREACHABLE, cause=Cause.NETWORK_UNREACHABLE, verdict=False),
            PastExchange(NOON, Verdict.NO_VERDICT, Cause.NETWORK_UNREACHABLE, None, 0.123),
        ),
    ],
    ids=["granted", "degraded", "granted in vain", "refused", "maintenance", "unreachable"],
)
def test_an_exchange_is_stored_in_short_form(path: Path, saved: History, expected: PastExchange) -> None:
    with opened(path) as store:
        store.save("acme", saved)
        assert store.flush()

        assert store.exchanges("acme") == [expected]
        assert store.exchanges("nobody") == []


def test_an_unsent_request_counts_as_no_verdict_but_not_as_an_exchange(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", history(GRANTED, number=7))
        store.save("acme", history(NOT_SENT, number=7, at=NOON + timedelta(minutes=1), verdict=False))
        assert store.flush()

        assert [one.verdict for one in store.exchanges("acme")] == [Verdict.GRANTED]
        assert store.days(["acme"], NOON.date()) == {"acme": [DayCounts(NOON.date(), 1, 0, 1)]}


def test_an_exchange_counts_once_however_often_its_history_is_saved(path: Path) -> None:
    same = history(REFUSED)
    with opened(path) as store:
        store.save("acme", same)
        store.save("acme", replace(same, state=State.FAILING))
        assert store.flush()
        store.save("acme", same)
    with opened(path) as store:  # nor again after a restart
        store.save("acme", store.histories()["acme"])
        assert store.flush()

        assert len(store.exchanges("acme")) == 1
        assert store.days(["acme"], NOON.date()) == {"acme": [DayCounts(NOON.date(), 0, 1, 0)]}


def test_the_last_exchanges_are_kept_and_every_one_is_counted(path: Path) -> None:
    with opened(path) as store:
        for number in range(1, 1001):
            store.save("acme", history(GRANTED, number=number, at=NOON + timedelta(seconds=number)))
            if number % 300 == 0:
                assert store.flush()
        assert store.flush()

        kept = store.exchanges("acme")
        assert [one.at for one in kept] == [NOON + timedelta(seconds=1000 - n) for n in range(EXCHANGES_KEPT)]
        assert store.days(["acme"], NOON.date()) == {"acme": [DayCounts(NOON.date(), 1000, 0, 0)]}


def test_days_are_counted_in_utc(path: Path) -> None:
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    with opened(path) as store:
        for number, at in enumerate(
            [midnight - timedelta(microseconds=1), midnight, midnight + timedelta(days=3)]
        ):
            store.save("acme", history(GRANTED, number=number, at=at))
            store.save("other", history(REFUSED, number=number, at=at))
        assert store.flush()

        assert store.days(["acme", "nobody"], date(2026, 11, 24)) == {
            "acme": [DayCounts(date(2026, 11, 24), 1, 0, 0), DayCounts(date(2026, 11, 27), 1, 0, 0)]
        }
        assert len(store.days(["acme", "other"], date(2026, 11, 23))["other"]) == 3


def test_day_counts_can_be_read_for_more_connections_than_fit_into_a_query(path: Path) -> None:
    names = [f"acme {number}" for number in range(2500)]
    with opened(path) as store:
        for name in names:
            store.save(name, history(GRANTED))
        assert store.flush(30)

        assert store.days(names, NOON.date() - timedelta(days=400)).keys() == set(names)


def test_old_day_counts_and_events_are_deleted(path: Path) -> None:
    def after(days: int) -> datetime:
        return NOON + timedelta(days=days)

    with opened(path) as store:
        for number, days in enumerate(range(10)):
            both = (event(number, at=after(days)), event(number, at=after(days), failure=True))
            store.save("acme", history(GRANTED, number=number, at=after(days)), both)
        assert store.flush()
        assert len(store.days(["acme"], NOON.date())["acme"]) == 10
        assert len(store.events("acme", 100)) == 20

        store.save("other", history(GRANTED, at=after(EVENT_DAYS[False] + 4)))
        assert store.flush()
        told = [one for _, one in store.events("acme", 100)]
        assert sum(one.failure for one in told) == 10
        assert [one.text for one in told if not one.failure] == [f"event {n}" for n in range(9, 3, -1)]

        store.save("other", history(GRANTED, at=after(DAYS_KEPT + 4)))
        assert store.flush()
        assert [one.day for one in store.days(["acme"], NOON.date())["acme"]] == [
            after(days).date() for days in range(4, 10)
        ]
        assert [one.text for _, one in store.events("acme", 100)] == [f"event {n}" for n in range(9, 3, -1)]


def test_a_briefly_wrong_clock_deletes_no_history_and_hides_no_counts(path: Path) -> None:
    """450 days ahead for 14 s, it had deleted all events and counts, and hidden the counts of today."""
    ahead = NOON + timedelta(days=450)
    with opened(path) as store:
        store.save("acme", history(GRANTED), (event(1), event(2, failure=True)))
        assert store.flush()

        for number, offset in enumerate((-timedelta(days=450).total_seconds(), None)):
            wrong = Exchange(ahead + timedelta(seconds=number), GRANTED, clock_offset_seconds=offset)
            store.save("acme", replace(history(number=2 + number), last_exchange=wrong))
            assert store.flush()
        assert len(store.events("acme", 10)) == 2
        assert store.days(["acme"], NOON.date()) == {"acme": [DayCounts(NOON.date(), 1, 0, 0)]}

        store.save("acme", history(GRANTED, number=4, at=NOON + timedelta(days=1)))
        assert store.flush()
        days = store.days(["acme"], NOON.date(), 1000)["acme"]
        assert [one.day - NOON.date() for one in days] == [timedelta(0), timedelta(days=1)]


# Events


def test_events_come_newest_first_of_one_connection_or_of_all(path: Path) -> None:
    refused = Event(NOON, EventKind.CAUSE, "It was refused.", Cause.APPROVAL_DECAYED, failure=True)
    with opened(path) as store:
        store.save("acme", history(), (event(1), refused))
        assert store.flush()
        store.save("other", history(), (event(2),))
        store.save("acme", history(), (event(3),))
        assert store.flush()

        assert store.events("acme", 10) == [("acme", event(3)), ("acme", refused), ("acme", event(1))]
        assert len(store.events(None, 10)) == 4
        assert store.events("acme", 1) == [("acme", event(3))]
        assert store.events("nobody", 10) == []


@pytest.mark.parametrize("flushed", [True, False], ids=["written one by one", "waiting together"])
def test_events_are_bounded_and_failures_are_kept_longer(path: Path, flushed: bool) -> None:
    with opened(path) as store:
        store.save("other", history(), (event(0),))
        for number in range(300):
            store.save("acme", history(), (event(number), event(number, failure=True)))
            if flushed and number % 20 == 0:
                assert store.flush()
        assert store.flush()

        told = [one for _, one in store.events("acme", 1000)]
        assert [one.text for one in told if one.failure] == [
            f"event {number}" for number in range(299, 299 - EVENTS_KEPT[True], -1)
        ]
        assert [one.text for one in told if not one.failure] == [
            f"event {number}" for number in range(299, 299 - EVENTS_KEPT[False], -1)
        ]
        assert len(store.events("other", 10)) == 1


def test_events_of_a_newer_version_are_skipped(path: Path) -> None:
    with opened(path) as store:
        store.save(
            "acme", history(REFUSED, cause=Cause.APP_BLOCKED), (event(1), event(2, cause=Cause.APP_BLOCKED))
        )
    with raw(path) as connection:
        connection.execute("UPDATE causes SET code = 'cosmic_rays' WHERE code = 'app_blocked'")
        connection.execute("UPDATE events SET kind = 'eclipse' WHERE text = 'event 1'")

    with opened(path) as store:
        assert store.events("acme", 10) == [("acme", event(2))]
        assert [one.cause for one in store.exchanges("acme")] == [None]


def test_the_write_queue_is_bounded_however_long_writes_fail() -> None:
    older = Waiting(history())
    for number in range(1000):
        newer = Waiting(history())
        for minute in range(3):
            saved = history(
                GRANTED, number=3 * number + minute, at=NOON + timedelta(minutes=3 * number + minute)
            )
            assert saved.last_exchange is not None
            newer.count(saved, saved.last_exchange)
        newer.add_events([event(number), event(number, failure=True)])
        older = older.followed_by(newer)

    assert len(older.exchanges) == EXCHANGES_KEPT
    assert sum(counts[0] for counts in older.days.values()) == 3000
    assert len(older.events) == sum(EVENTS_KEPT.values())
    assert older.events[-1].text == "event 999"


def test_a_result_overtaken_by_a_newer_one_is_reported_as_unwritten() -> None:
    """Its check would wait forever."""
    older, newer = Lease(1, 1, 0.0, "me"), Lease(2, 2, 0.0, "me")

    both = Waiting(history(), lease=older).followed_by(Waiting(history(), lease=newer))

    assert both.lease is newer
    assert older.written.result(0) is False
    assert not newer.written.done()


# A database that can't be used


def _newer(path: Path) -> None:
    Store.open(path).close()
    with raw(path) as connection:
        connection.execute("UPDATE meta SET value = '7' WHERE key = 'schema'")


def _foreign(path: Path) -> None:
    with raw(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def _foreign_with_our_names(path: Path) -> None:
    with raw(path) as connection:
        for table in ("meta", "connections", "histories"):
            connection.execute(f"CREATE TABLE {table} (key TEXT, value TEXT)")


def _damaged(path: Path) -> None:
    with opened(path) as store:
        for number in range(1000):
            store.save(f"acme {number}", history(GRANTED))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + random.Random(1).randbytes(40_960) + content[45_056:])


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (
            _newer,
            (
                "a newer version of bearerwatch wrote it (schema 7; this version knows"
                f" {1 + len(OF_A_FILE)}). Run that version, or use another file."
            ),
        ),
        (_foreign, "another program created it. Use another file."),
        (_foreign_with_our_names, "another program created it. Use another file."),
        (
            lambda path: path.write_bytes(b"not a database at all" * 100),
            "it is not a SQLite database: use another file, or move this one away.",
        ),
        (_damaged, "it is damaged: restore a backup, or move it away and a new one is created."),
    ],
    ids=["newer", "foreign", "foreign with our names", "no database", "damaged"],
)
def test_an_unusable_database_is_reported_in_one_sentence(
    path: Path, prepare: Callable[[Path], object], why: str
) -> None:
    prepare(path)
    before = path.read_bytes() if path.is_file() else b""

    with pytest.raises(StoreError) as raised:
        Store.open(path)

    assert str(raised.value) == f"The database {path} cannot be used: {why}"
    assert before == (path.read_bytes() if path.is_file() else b"")


@pytest.mark.parametrize("path", ["/proc/bearerwatch.db", "/does/not/exist/bearerwatch.db"])
def test_a_missing_or_unwritable_directory_is_named(path: str) -> None:
    with pytest.raises(StoreError) as raised:
        Store.open(path)

    assert str(raised.value) == (
        f"The database {path} cannot be used: its directory must exist, and the user that runs this must be"
        " able to write to it and to the file."
    )


def test_a_malformed_url_is_reported_without_its_password() -> None:
    with pytest.raises(StoreError) as raised:
        Store.open("postgresql://monitor:s3cret@db.example.com:port/monitor")

    assert str(raised.value) == "The database must be postgresql://USER@HOST/DATABASE."


def test_a_locked_database_is_reported_as_locked(path: Path) -> None:
    Store.open(path).close()
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreError, match="another program has locked it"):
            Store.open(path, busy_seconds=0.05)


def test_a_new_database_can_be_opened_concurrently(path: Path) -> None:
    """As when a command runs while the daemon starts: each waits its turn, and there is one database."""
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(Store.open, [path] * 8))
    for number, store in enumerate(stores):
        store.save(f"acme {number}", history(GRANTED))

    assert [store.close() for store in stores] == [True] * 8
    with opened(path) as store:
        assert len(store.histories()) == 8


def test_while_the_database_is_locked_nothing_is_lost(path: Path) -> None:
    with opened(path) as store, raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(1, 5001):
            store.save("acme", history(GRANTED, number=number, at=NOON + timedelta(seconds=number)))

        assert not store.flush()
        assert store.problem is not None
        assert "another program has locked it" in store.problem
        assert store.errors > 0
        assert store.histories()["acme"].exchanges == 5000

        other.execute("ROLLBACK")
        assert store.flush()
        assert store.problem is None
        assert store.days(["acme"], NOON.date()) == {"acme": [DayCounts(NOON.date(), 5000, 0, 0)]}


def test_a_failed_write_is_retried_automatically(path: Path) -> None:
    with (
        closing(Store.open(path, busy_seconds=0.01, retry_seconds=(0.01, 0.01))) as store,
        raw(path) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        store.save("acme", history(GRANTED))
        until(lambda: store.errors > 2, "three tries")
        other.execute("ROLLBACK")

        until(lambda: store.problem is None, "the next try")
        assert len(store.exchanges("acme")) == 1


def test_changes_are_written_within_a_second(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", history(GRANTED))

        until(lambda: store.exchanges("acme"), "the writer")


def test_closing_a_store_that_cannot_write_reports_it(path: Path) -> None:
    store = Store.open(path, busy_seconds=0.05)
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        store.save("acme", history(GRANTED))

        assert not store.close()
    store.save("acme", history(GRANTED))  # a check that ends late does no harm


def test_a_hanging_write_is_reported(path: Path) -> None:
    """A disk that hung was ready for a minute, and a kill then cost all since."""
    store = Store.open(path, busy_seconds=60)
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        store.save("acme", history(GRANTED))
        until(lambda: store.problem, "the hanging write to be reported")

        assert re.search(r"has not responded for 1\d seconds: its disk may be hanging", str(store.problem))
        assert store.errors == 0
        assert store.unwritten_seconds > HANGS_SECONDS
        other.execute("ROLLBACK")

    assert store.close()
    assert store.unwritten_seconds == 0.0


# A file that is deleted or replaced under way


@pytest.mark.parametrize("files", ["all", "the database alone"])
def test_a_deleted_database_is_recreated_with_all_histories(path: Path, files: str) -> None:
    with opened(path) as store:
        for number in range(1000):
            store.save(f"acme {number}", replace(history(GRANTED), audit=AUDIT))
        assert store.flush()
        for file in list(path.parent.iterdir()) if files == "all" else [path]:
            file.unlink()

        store.save("new", history(REFUSED))
        assert store.flush()

        assert len(store.exchanges("new")) == 1
        known = store.histories()
    with opened(path) as store:
        assert store.histories() == known
        assert len(known) == 1001


def test_a_database_replaced_by_an_older_one_gets_all_histories(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    with opened(path) as store:
        store.save("acme", history(GRANTED, number=1))
    shutil.copy(path, backup)
    with opened(path) as store:
        store.save("acme", history(GRANTED, number=2))
        store.save("late", history(GRANTED))
        assert store.flush()
        backup.replace(path)

        store.save("new", history(GRANTED))
        assert store.flush()
    with opened(path) as store:
        assert {name: one.exchanges for name, one in store.histories().items()} == {
            "acme": 2,
            "late": 1,
            "new": 1,
        }


def test_a_database_replaced_by_garbage_is_reported_until_it_is_removed(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", history(GRANTED))
        assert store.flush()
        rubbish = path.with_name("rubbish")
        rubbish.write_bytes(b"rubbish" * 1000)
        rubbish.replace(path)

        store.save("new", history(GRANTED))
        assert not store.flush()
        assert store.problem is not None
        assert "it is not a SQLite database" in store.problem
        with pytest.raises(StoreError, match="it is not a SQLite database"):
            store.exchanges("acme")

        path.unlink()
        assert store.flush()
        assert len(store.exchanges("new")) == 1
    with opened(path) as store:
        assert set(store.histories()) == {"acme", "new"}


# A file that is damaged in place


def _filled(path: Path) -> Store:
    store = Store.open(path, alone=True, retry_seconds=(3600, 3600))
    for number in range(300):
        store.save(f"acme {number}", replace(history(GRANTED, number=number), audit=AUDIT))
    assert store.flush()
    return store


@pytest.mark.parametrize("damage", ["emptied", "log emptied", "log deleted"])
def test_a_damaged_database_is_moved_away_and_recreated(path: Path, damage: str) -> None:
    """Nobody had noticed, the next start refused, and all that memory knew was gone."""
    wal = Path(f"{path}-wal")
    store = _filled(path)
    known = store.histories()
    if damage == "log deleted":
        wal.unlink()
    else:
        os.truncate(path if damage == "emptied" else wal, 0)

    with pytest.raises(StoreError):
        store.events("acme 1", 10)
    assert store.flush()

    assert store.damages == 1
    assert "was damaged. It was moved to bearerwatch.db.damaged-" in str(store.damage)
    assert "a new one was created with 300 histories" in str(store.damage)
    assert store.close()
    with opened(path) as again:
        assert again.histories() == known


def _overwrite(path: Path, start: int, end: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"damage! " * ((min(end, path.stat().st_size) - start) // 8))


@pytest.mark.parametrize(("start", "end", "least"), [(0, 10**9, 0), (200_000, 280_000, 200)])
def test_a_damaged_database_does_not_prevent_the_start(path: Path, start: int, end: int, least: int) -> None:
    """It had ended each start with exit code 3, and nothing was watched until a person came."""
    assert _filled(path).close()
    _overwrite(path, start, end)

    with closing(Store.open(path, alone=True)) as store:
        assert store.damages == 1
        assert least <= len(store.histories()) < 300
        store.save("new", history(GRANTED))
        assert store.flush()
        kept = store.histories()
    with opened(path) as again:
        assert again.histories() == kept


def test_an_unknown_file_is_refused_and_not_moved(path: Path) -> None:
    path.write_bytes(b"a letter to a friend" * 1000)

    with pytest.raises(StoreError, match="it is not a SQLite database"):
        Store.open(path, alone=True)

    assert [file.name for file in path.parent.iterdir() if "damaged" in file.name] == []


# Versions of the schema


def _schema(path: Path) -> list[tuple[str, str]]:
    with raw(path) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        ).fetchall()
    return [(name, " ".join(sql.replace("\n", " ").split())) for name, sql in rows]


def _exchange(minute: int, outcome: Outcome) -> Exchange:
    return Exchange(NOON + timedelta(minutes=minute), outcome, None, 0.1234, -0.5)


OF_VERSION_1 = {
    "acme": History(
        NOON,
        NOON,
        exchanges=3,
        failures=2,
        failures_by_cause={Cause.APPROVAL_DECAYED: 2},
        last_exchange=_exchange(2, MAINTENANCE),
        last_verdict=_exchange(1, REFUSED),
        failing_since=NOON + timedelta(minutes=1),
        keys_accepted={Slot.CURRENT: False},
        state=State.FAILING,
        findings=(finding(Cause.APPROVAL_DECAYED),),
    ),
    "other": History(
        NOON,
        NOON,
        exchanges=1,
        last_exchange=_exchange(0, UNREACHABLE),
        findings=(finding(Cause.NETWORK_UNREACHABLE),),
    ),
}
"""All that the database of version 1 holds: a time that had no `recent`, `assignments` or `rotation` yet."""


def test_a_database_of_version_1_can_be_opened(path: Path, tmp_path: Path) -> None:
    with raw(path) as connection:
        connection.executescript(VERSION_1.read_text())

    with opened(path) as store:
        histories = store.histories()
        assert histories == OF_VERSION_1
        assert store.unreadable == {}
        assert [one.verdict for one in store.exchanges("acme")] == [
            Verdict.NO_VERDICT,
            Verdict.REFUSED,
            Verdict.GRANTED,
        ]
        assert store.days(["acme"], NOON.date()) == {"acme": [DayCounts(NOON.date(), 1, 1, 1)]}
        assert [one.text for _, one in store.events("acme", 10)] == ["event 2", "event 1"]
        assert store.told("hook") == {}
        store.tell("hook", {"a": TOLD})
    with opened(path) as store:
        assert store.told("hook") == {"a": TOLD}

    fresh = tmp_path / "fresh.db"
    Store.open(fresh).close()
    assert _schema(path) == _schema(fresh)


def test_a_file_gets_a_new_version_only_when_its_tables_change(path: Path) -> None:
    """Else an older bearerwatch would refuse a file that it could read."""
    with raw(path) as connection:
        connection.executescript(VERSION_1.read_text())
    tables = [_schema(path)]

    for version in range(2, NEXT + 1):
        _upgrade(path, version)
        tables.append(_schema(path))

    assert all(before != after for before, after in pairwise(tables))


def _upgrade(path: Path, version: int) -> None:
    """Upgrades the tables to this version, as the build did that knew it."""
    place = place_of(path, 0)
    steps = {step: OF_A_FILE[step] for step in range(1, version)}
    Database.open(place.engine(writes=True), place, steps).close()


def test_an_audit_that_an_older_version_wrote_into_the_history_is_kept(path: Path) -> None:
    with raw(path) as connection:
        connection.executescript(VERSION_1.read_text())
        _upgrade(path, 2)
        body = (GOLDEN / "v2-full.json").read_text()
        connection.execute("UPDATE histories SET body = ?", (body,))

        with opened(path) as store:
            known = store.histories()["acme"]
        assert connection.execute("SELECT DISTINCT body FROM histories").fetchall() == [(body,)]
        assert known.audit

        with opened(path) as store:
            store.save("acme", replace(known, exchanges=known.exchanges + 1))
    with opened(path) as store:
        assert store.histories() == {
            "acme": replace(known, exchanges=known.exchanges + 1),
            "other": known,
        }


def _one_more_column(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE connections ADD COLUMN nickname TEXT"))


def _fill_it(connection: Connection) -> None:
    connection.execute(text("UPDATE connections SET nickname = upper(name)"))


def _fail(connection: Connection) -> None:
    connection.execute(text("DROP TABLE histories"))
    raise ZeroDivisionError


NEXT = 1 + len(OF_A_FILE)


def test_upgrades_run_in_order_and_once(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", history(GRANTED))
    upgrades = {**OF_A_FILE, NEXT: _one_more_column, NEXT + 1: _fill_it}

    for _ in range(2):
        with closing(Store.open(path, upgrades=upgrades)) as store:
            assert set(store.histories()) == {"acme"}
    with raw(path) as connection:
        assert connection.execute("SELECT nickname FROM connections").fetchall() == [("ACME",)]
    with pytest.raises(StoreError, match=rf"schema {NEXT + 2}; this version knows {NEXT}"):
        Store.open(path)


def test_a_failed_upgrade_leaves_the_database_unchanged(path: Path) -> None:
    with opened(path) as store:
        store.save("acme", history(GRANTED))
    before = _schema(path)

    with pytest.raises(ZeroDivisionError):
        Store.open(path, upgrades={**OF_A_FILE, NEXT: _one_more_column, NEXT + 1: _fail})

    assert _schema(path) == before
    with opened(path) as store:
        assert set(store.histories()) == {"acme"}


# What receivers of notifications know


def test_sent_notifications_survive_a_restart_and_forgotten_ones_do_not(path: Path) -> None:
    later = replace(TOLD, connections=("acme", "globex"), at=NOON + timedelta(minutes=5))
    with opened(path) as store:
        store.tell("hook", {"a": TOLD, "b": TOLD})
        store.tell("phone", {"a": TOLD})
        assert store.flush()
        store.tell("hook", {"a": later, "b": None})

    with opened(path) as store:
        assert (store.told("hook"), store.told("phone"), store.told("nobody")) == (
            {"a": later},
            {"a": TOLD},
            {},
        )


def test_notifications_sent_while_the_database_was_locked_or_deleted_are_recorded_later(path: Path) -> None:
    with opened(path) as store:
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            store.tell("hook", {"a": TOLD})
            assert not store.flush()
            other.execute("ROLLBACK")
        assert store.flush()
        for file in path.parent.iterdir():
            file.unlink()
        store.tell("hook", {"b": TOLD})
        assert store.flush()
    with opened(path) as store:
        assert store.told("hook") == {"a": TOLD, "b": TOLD}


def test_an_unreadable_notification_record_is_sent_again_and_stops_nothing(path: Path) -> None:
    with opened(path) as store:
        store.tell("hook", {"a": TOLD, "b": TOLD})
    with raw(path) as other:
        other.execute("UPDATE told SET body = replace(body, '\"since\"', '\"begun\"') WHERE alert = 'a'")

    with opened(path) as store:
        assert store.told("hook") == {"b": TOLD}


# Disks that are full or read-only, and processes that are killed


def _run(*command: str | Path) -> list[dict[str, object]]:
    """What a process of `store_processes.py` tells."""
    done = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)])}


def _own_mounts() -> list[str]:
    """Lets a process mount a private disk."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("mount namespaces are not available to this user")
    return command


def _assert_refused_and_recovered(lines: list[dict[str, object]], why: str, *, counted: int = 2010) -> None:
    before, during, after, kept, integrity = lines
    assert before == {"flushed": True, "problem": None, "errors": 0}
    assert during["flushed"] is False
    assert why in str(during["problem"])
    assert during["errors"] != 0
    assert after == {"flushed": True, "problem": None, "errors": during["errors"]}
    assert kept["histories"] == 1001
    assert kept["early"] == 2010
    assert kept["kept"] == EXCHANGES_KEPT
    assert kept["counted"] == counted
    assert integrity == {"integrity": "ok"}


@pytest.mark.real("unshare")
def test_with_a_full_disk_checks_continue_and_everything_is_written_later(tmp_path: Path) -> None:
    lines = _run(*_own_mounts(), sys.executable, PROCESSES, "small_disk", tmp_path)

    _assert_refused_and_recovered(lines, "the disk is full: free some space.")


def test_with_failing_writes_checks_continue_and_everything_is_written_later(tmp_path: Path) -> None:
    lines = _run(sys.executable, PROCESSES, "file_limit", tmp_path)

    _assert_refused_and_recovered(lines, "disk error: check free space, quotas")


def test_with_a_read_only_directory_checks_continue_and_everything_is_written_later(tmp_path: Path) -> None:
    """The process deletes the file as well, as one that is open can be written whatever its mode.

    The ten exchanges that were written before go with it.
    """
    lines = _run(*bound_by_modes(), sys.executable, PROCESSES, "read_only", tmp_path)

    _assert_refused_and_recovered(
        lines, "its directory must exist, and the user that runs this must be able to", counted=2000
    )


def test_a_read_only_file_is_reported_as_such(path: Path) -> None:
    Store.open(path).close()
    path.chmod(0o444)

    lines = _run(*bound_by_modes(), sys.executable, PROCESSES, "start", path)

    assert lines == [
        {
            "error": f"The database {path} cannot be used: "
            "it is read-only: give the monitor write access to the file and its directory."
        }
    ]


LOST_SECONDS = 1.0
"""What a kill may cost, as promised."""

SLACK_SECONDS = 1.0
"""For a machine that is busy with other tests: the writer's turn may come late."""


def _killed(
    path: Path, mode: str, is_time: Callable[[int, float], bool]
) -> tuple[list[tuple[int, float]], float]:
    """Runs `progress` until it is time, by lines and seconds since the first.

    Gives its output with times, and when it was killed.
    """
    told: list[tuple[int, float]] = []
    with subprocess.Popen(
        [sys.executable, PROCESSES, "progress", path, mode],
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            one = json.loads(line)
            told.append((one["number"], one["at"]))
            if is_time(len(told), one["at"] - told[0][1]):
                break
        killed_at = time.monotonic()
        process.kill()
        for line in process.stdout:
            if line.endswith("\n"):
                one = json.loads(line)
                told.append((one["number"], one["at"]))
    return told, killed_at


def _assert_whole(path: Path) -> int:
    """Checks the file that a killed process left, and says how far it came."""
    with raw(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with opened(path) as store:
        assert store.unreadable == {}
        return store.histories()["counter"].exchanges


def test_flushed_writes_survive_a_kill_at_any_time(path: Path, chance: random.Random) -> None:
    stored = 0
    for _ in range(3):
        enough = chance.randint(1, 200)

        told, _ = _killed(path, "flushed", lambda count, _, enough=enough: count >= enough)  # type: ignore[misc]

        assert told[0][0] == stored + 1
        stored = _assert_whole(path)
        assert stored >= told[-1][0]
    with opened(path) as store:
        days = store.days(["counter"], NOON.date())["counter"]
        assert sum(day.granted for day in days) == stored
        assert store.events("counter", 1)[0][1].text == f"event {stored}"


def test_a_kill_loses_at_most_the_last_second(path: Path, chance: random.Random) -> None:
    run_for = LOST_SECONDS + SLACK_SECONDS + chance.uniform(0.1, 1.1)

    told, killed_at = _killed(path, "saved", lambda _, seconds: seconds > run_for)

    safe = [number for number, at in told if at < killed_at - LOST_SECONDS - SLACK_SECONDS]
    assert safe
    assert _assert_whole(path) >= safe[-1]
