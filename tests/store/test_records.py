"""The record of a history: every field is written and read; each version stays readable."""

import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.finding import Alternative, Certainty, Finding, State
from monitor.core.history import Approval, Change, History, Identity, Rotation, Slot, Stage
from monitor.core.inside import Facts, Logins
from monitor.core.outcome import (
    AfterLogin,
    ApiUsage,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Outcome,
    Refused,
    Unreachable,
)
from monitor.core.reads import Read
from monitor.store import records

GOLDEN = Path(__file__).parents[1] / "golden" / "histories"

AT = datetime(2026, 11, 23, 12, 30, 15, 250_000, tzinfo=UTC)
CALL = AfterLogin(403, "API_DISABLED_FOR_ORG", "The API is disabled.")

USAGE = ApiUsage(1_200, 15_000)

FULL = History(
    first_seen=AT - timedelta(days=90),
    changed_at=AT - timedelta(days=80),
    changed=Change.KEY,
    configuration="0123456789abcdef",
    key_fingerprint="feed",
    exchanges=1234,
    failures=56,
    failures_by_cause={Cause.APPROVAL_DECAYED: 50, Cause.NETWORK_UNREACHABLE: 6},
    last_exchange=Exchange(
        AT, Refused(503, "unavailable", "Down for a while", "<html>", 30.0), CALL, 0.25, -1.5, USAGE
    ),
    last_verdict=Exchange(
        AT - timedelta(hours=1),
        Granted("opaque", frozenset({"api"}), "https://a.my.salesforce.com", "00D1", "0051", of_site=True),
    ),
    after_login=CALL,
    calls_missed=2,
    proven_at=AT - timedelta(hours=5),
    audit=Facts(
        AT - timedelta(hours=2),
        "observer",
        {Read.POLICY: ({"RefreshTokenPolicyType": "SpecificLifetime", "RefreshTokenValidityPeriod": 30},)},
        {Read.TRAIL: "INSUFFICIENT_ACCESS", Read.PROFILE: ""},
        (Logins("My Integration", "192.0.2.1", "Restricted IP", 41, AT - timedelta(hours=3), AT),),
        "Monitor",
        "198.51.100.7",
        "Success",
        8,
        "Our Integration",
        2,
    ),
    usage=USAGE,
    first_success=AT - timedelta(days=89),
    last_success=AT - timedelta(hours=1),
    consecutive_successes=1,
    consecutive_refusals=2,
    consecutive_faults=3,
    recent=(True, False),
    failing_since=AT - timedelta(minutes=55),
    identity=Identity("00D1", "0051"),
    approval_since=AT - timedelta(days=12),
    approvals=(Approval(AT - timedelta(days=60), AT - timedelta(days=30)),),
    keys_accepted={Slot.CURRENT: True, Slot.NEXT: False},
    rotation=Rotation(
        "beef", AT - timedelta(days=3), Stage.PROPAGATING, AT - timedelta(days=2), AT, AT - timedelta(days=1)
    ),
    state=State.FAILING,
    state_since=AT - timedelta(minutes=50),
    findings=(
        Finding(
            Cause.APPROVAL_DECAYED,
            Severity.CRITICAL,
            Responsible.ORG_ADMIN,
            Certainty.LIKELY,
            ("Said so.",),
            AT,
        ),
    ),
    alternatives=(Alternative(Cause.USER_NOT_ADMIN_APPROVED, "Compare the permission sets."),),
)
"""Every field of a history holds something other than what it would hold if it were lost."""

NOT_OF_A_BARE_GRANT = ("after_login", "duration_seconds", "clock_offset_seconds", "usage")

OTHERS: dict[str, Outcome] = {
    "unreachable": Unreachable(FaultKind.DNS, "the host name was not resolved"),
    "not-sent": NotSent("No usable private key."),
}

BARE: dict[str, Outcome] = {
    **OTHERS,
    "granted": Granted("jwt", None, None, None, None),
    "refused": Refused(400, "", "", ""),
}
"""Every kind of outcome, with nothing but what it must have."""


def empty(value: Any) -> Iterator[str]:
    """Fields, including nested ones, that have their default values."""
    if isinstance(value, tuple | list | frozenset):
        for each in value:
            yield from empty(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            held = getattr(value, field.name)
            if held is None or held == default(field) or held in ((), "", {}):
                yield f"{type(value).__name__}.{field.name}"
            else:
                yield from empty(held)


def default(field: Field[Any]) -> Any:
    made = field.default_factory is not MISSING and field.default_factory()
    return field.default if field.default is not MISSING else made or object()


def test_the_golden_file_fills_every_field() -> None:
    of_the_older_exchange = {f"Exchange.{name}" for name in NOT_OF_A_BARE_GRANT}

    assert set(empty(replace(FULL, last_verdict=FULL.last_exchange))) == set()
    assert set(empty(FULL)) == of_the_older_exchange


def indented(record: str) -> str:
    """A record as in a golden file."""
    return json.dumps(json.loads(record), indent=1) + "\n"


def test_a_written_history_and_its_audit_equal_the_golden_files() -> None:
    assert FULL.audit

    assert indented(records.written(FULL)) == (GOLDEN / "v3-full.json").read_text()
    assert indented(records.written_audit(FULL.audit)) == (GOLDEN / "audit-v1-full.json").read_text()


def test_the_newest_version_can_be_read() -> None:
    audit = (GOLDEN / "audit-v1-full.json").read_text()

    assert records.read((GOLDEN / "v3-full.json").read_text(), audit) == FULL


def test_version_2_can_be_read_and_contains_its_audit() -> None:
    assert records.read((GOLDEN / "v2-full.json").read_text(), None) == FULL


@pytest.mark.parametrize("named", [True, False])
def test_an_audit_belongs_only_to_the_history_that_names_it(named: bool) -> None:
    """Each is written on its own: a history without an audit, or with a later one, may be beside it."""
    assert FULL.audit
    other = replace(FULL, audit=replace(FULL.audit, at=AT) if named else None)

    for audit in (None, records.written_audit(FULL.audit)):
        assert records.read(records.written(other), audit) == replace(FULL, audit=None)


@pytest.mark.parametrize("name", ["v1-full.json", "v1-without-version.json"])
def test_version_1_can_be_read_and_has_no_audit(name: str) -> None:
    assert FULL.last_exchange
    assert FULL.last_verdict
    assert isinstance(FULL.last_verdict.outcome, Granted)
    then = replace(
        FULL,
        audit=None,
        usage=None,
        calls_missed=0,
        proven_at=None,
        last_exchange=replace(FULL.last_exchange, usage=None),
        last_verdict=replace(FULL.last_verdict, outcome=replace(FULL.last_verdict.outcome, of_site=False)),
    )

    assert records.read((GOLDEN / name).read_text(), None) == then


def test_an_early_record_loads_without_later_fields() -> None:
    known = records.read((GOLDEN / "v1-first-days.json").read_text(), None)

    assert (known.first_seen, known.changed_at) == (FULL.first_seen, FULL.changed_at)
    assert known == History(first_seen=known.first_seen, changed_at=known.changed_at)


@pytest.mark.parametrize("name", BARE)
def test_every_kind_of_outcome_matches_its_golden_file_and_survives_the_round_trip(name: str) -> None:
    """Defaults and what is missing are not written, so the record must know the same ones as the core."""
    golden = (GOLDEN / f"v3-{name}.json").read_text()
    rotation = Rotation("beef", AT, Stage.PREPARED, AT)
    known = History(AT, AT, last_exchange=Exchange(AT, BARE[name]), rotation=rotation)

    assert indented(records.written(known)) == golden
    assert records.read(golden, None) == known


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_of_outcome_of_version_2_can_be_read(name: str) -> None:
    known = History(AT, AT, last_exchange=Exchange(AT, OTHERS[name]))

    assert records.read((GOLDEN / f"v2-{name}.json").read_text(), None) == known


@pytest.mark.parametrize(
    "path",
    [(), ("last_exchange",), ("last_exchange", "outcome"), ("rotation",), ("findings", 0), ("identity",)],
)
def test_an_unknown_key_is_refused_anywhere(path: tuple[str | int, ...]) -> None:
    record = json.loads(records.written(FULL))
    place = record
    for step in path:
        place = place[step]
    place["unheard_of"] = 1

    with pytest.raises(ValidationError, match="unheard_of"):
        records.read(json.dumps(record), None)


def test_a_newer_version_is_refused() -> None:
    record = json.loads(records.written(FULL)) | {"version": 4}

    with pytest.raises(ValidationError, match="version"):
        records.read(json.dumps(record), None)


def test_equal_exchanges_are_shared_after_reading() -> None:
    record = records.written(replace(FULL, last_verdict=FULL.last_exchange))
    known = records.read(record, None)

    assert known.last_verdict is known.last_exchange
    assert known.last_verdict == FULL.last_exchange
    assert "last_verdict" not in json.loads(record)
