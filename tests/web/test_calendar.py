"""The calendar of ends, read by two parsers: the one that wrote it, and one that others use."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import icalendar
import vobject

from monitor.core.connection import Pair, Source
from monitor.core.keys.credential import CertificateFacts, CredentialFacts
from monitor.core.status import ConnectionStatus
from monitor.core.verdict.approval import Forecast, Grounds
from monitor.web.calendar import EVENTS_AT_MOST, KEPT, Feed, reminders
from tests.making import ACME, NOW, history

YEAR = timedelta(days=365)
URL = "https://watch.example.com/bearerwatch"


def certificate(end: datetime) -> CredentialFacts:
    return CredentialFacts(
        certificate=CertificateFacts(end - YEAR, end, "0A", f"sha-{end}", "CN=acme", "key")
    )


def forecast(at: datetime) -> Forecast:
    return Forecast(
        at, Grounds.DECLARED, timedelta(days=90), "90 days are declared; ä, “quotes”; and\nbreaks"
    )


def status(name: str = "acme", **different: Any) -> ConnectionStatus:
    connection = replace(ACME, name=name, next=Pair(Source("file", "/keys/next.pem")))
    return replace(
        ConnectionStatus(
            connection,
            history(connection),
            certificate(NOW + timedelta(days=40)),
            next_credential=certificate(NOW + YEAR),
            forecast=forecast(NOW + timedelta(days=20)),
        ),
        **different,
    )


def events(feed: bytes) -> list[Any]:
    """Narrows the parser's types, which are unions of everything possible."""
    return list(icalendar.Calendar.from_ical(feed).walk("VEVENT"))


def by_uid(feed: bytes) -> dict[str, Any]:
    return {str(event["UID"]): event for event in events(feed)}


def rendered(*statuses: ConnectionStatus, at: datetime = NOW, feed: Feed | None = None) -> bytes:
    return (feed or Feed()).render(statuses, at, URL)


def test_each_expiry_is_an_event_with_alarms() -> None:
    found = by_uid(rendered(status()))

    assert {uid: event["DTSTART"].dt for uid, event in found.items()} == {
        "approval.acme@bearerwatch": NOW + timedelta(days=20),
        "certificate.current.acme@bearerwatch": NOW + timedelta(days=40),
        "certificate.next.acme@bearerwatch": NOW + YEAR,
    }
    for event in found.values():
        triggers = [-alarm["TRIGGER"].dt.days for alarm in event.walk("VALARM")]
        # Those of a certificate begin on the days of its finding's bands: of a year, 60 and 14.
        assert triggers == ([7, 1] if event["UID"].startswith("approval") else [60, 14, 7, 1])
        assert event["URL"] == f"{URL}/connections/acme"
        assert "acme" in event["SUMMARY"]
    assert {str(event["STATUS"]) for event in found.values()} == {"CONFIRMED", "TENTATIVE"}
    assert found["certificate.current.acme@bearerwatch"]["DESCRIPTION"].count("bearerwatch rotate acme ") == 1
    assert "ä, “quotes”; and\nbreaks" in found["approval.acme@bearerwatch"]["DESCRIPTION"]


def test_an_alarm_says_how_much_time_is_left() -> None:
    end = NOW + timedelta(days=1)
    of_a_day = CredentialFacts(certificate=CertificateFacts(NOW, end, "0A", "sha", "CN=acme", "key"))
    (event,) = events(rendered(status(credential=of_a_day, next_credential=None, forecast=None)))

    said = [str(alarm["DESCRIPTION"]).partition(" expires in ")[2] for alarm in event.walk("VALARM")]

    assert said == ["7 days", "24 h", "6 h"]


def test_another_parser_reads_the_same() -> None:
    feed = rendered(status(), status("globex"))
    calendar = vobject.readOne(feed.decode())
    theirs = {
        event.uid.value: (
            event.dtstart.value,
            event.dtstamp.value,
            event.sequence.value,
            event.summary.value,
            event.description.value,
            [alarm.trigger.value for alarm in event.valarm_list],
        )
        for event in calendar.vevent_list
    }

    assert theirs == {
        uid: (
            event["DTSTART"].dt,
            event["DTSTAMP"].dt,
            str(event["SEQUENCE"]),
            str(event["SUMMARY"]),
            str(event["DESCRIPTION"]),
            [alarm["TRIGGER"].dt for alarm in event.walk("VALARM")],
        )
        for uid, event in by_uid(feed).items()
    }
    assert len(theirs) == 6


def test_lines_end_and_fold_as_the_standard_requires() -> None:
    feed = rendered(status("a" * 100))

    assert feed.endswith(b"END:VCALENDAR\r\n")
    lines = feed.split(b"\r\n")
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    assert {b"REFRESH-INTERVAL;VALUE=DURATION:PT1H", b"X-PUBLISHED-TTL:PT1H"} <= set(lines)
    assert max(map(len, lines)) <= 75
    assert any(line.startswith(b" ") for line in lines)
    for line in lines:
        line.decode()  # no character is torn apart


def revision(feed: bytes, uid: str) -> tuple[int, datetime]:
    event = by_uid(feed)[uid]
    return int(event["SEQUENCE"]), event["DTSTAMP"].dt


def test_a_moved_expiry_is_a_newer_revision_of_the_same_event() -> None:
    feed, uid = Feed(), "certificate.current.acme@bearerwatch"
    first = rendered(status(), feed=feed)
    later = NOW + timedelta(hours=1)

    assert rendered(status(), at=later, feed=feed) == first

    moved = rendered(status(credential=certificate(NOW + 2 * YEAR)), at=later, feed=feed)
    assert by_uid(moved)[uid]["DTSTART"].dt == NOW + 2 * YEAR
    assert revision(moved, uid)[0] > revision(first, uid)[0]
    assert revision(moved, uid)[1] == later
    other = "approval.acme@bearerwatch"
    assert revision(moved, other) == revision(first, other)

    # Moved back, also by a daemon that was started since: newer still.
    back = rendered(status(), at=later + timedelta(hours=1))
    assert revision(back, uid)[0] > revision(moved, uid)[0]


def test_only_connections_with_an_expiry_are_in_the_calendar() -> None:
    nothing = status(credential=CredentialFacts(), next_credential=None, forecast=None)
    declared = replace(nothing.connection, certificate_not_after=NOW + YEAR)

    assert list(reminders(nothing)) == []
    assert [each.at for each in reminders(replace(nothing, connection=declared))] == [NOW + YEAR]
    assert list(reminders(replace(status(), connection=replace(ACME, paused=True)))) == []
    same = certificate(NOW + timedelta(days=40))
    assert len(list(reminders(status(next_credential=same)))) == 2
    assert events(rendered(nothing)) == []


def test_the_calendar_is_bounded_and_says_what_it_leaves_out() -> None:
    def fleet() -> Iterable[ConnectionStatus]:
        for number in range(EVENTS_AT_MOST + 200):
            end = certificate(NOW + timedelta(hours=number))
            yield status(f"acme-{number}", credential=end, next_credential=None, forecast=None)

    feed = Feed()
    made = feed.render(fleet(), NOW)

    calendar = icalendar.Calendar.from_ical(made)
    assert len(events(made)) == EVENTS_AT_MOST
    assert "200 later dates are left out" in str(calendar["X-WR-CALDESC"])
    assert max(event["DTSTART"].dt for event in events(made)) < NOW + timedelta(hours=EVENTS_AT_MOST)


def test_a_past_expiry_stays_for_a_month() -> None:
    passed = certificate(NOW - timedelta(days=1))
    of = status(credential=passed, next_credential=None, forecast=None)

    assert len(events(rendered(of))) == 1
    assert events(rendered(of, at=passed.certificate.not_after + KEPT)) == []  # type: ignore[union-attr]  # it has one


def test_times_are_in_utc() -> None:
    (event,) = events(rendered(status(next_credential=None, forecast=None)))

    assert event["DTSTART"].dt.utcoffset() == timedelta(0)
