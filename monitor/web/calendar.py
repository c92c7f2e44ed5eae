"""Certificate expiry and forecast approval decay as an iCalendar feed (RFC 5545)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

from icalendar import Alarm, Calendar, Event, vDuration

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.history import Slot
from monitor.core.status import ConnectionStatus
from monitor.core.verdict.evidence import ASSUMED_LIFETIME
from monitor.core.wording import remedy, steps
from monitor.web.words import span

ALARMS = (timedelta(days=7), timedelta(days=1))
"""Reminders before each date. Certificates also have one when the finding begins, and when it is critical."""

EVENTS_AT_MOST = 1_000
"""The soonest dates: calendars can't show more sensibly, and each event with alarms has 2 KiB."""

KEPT = timedelta(days=30)
"""How long past dates stay in the calendar."""

READ_AGAIN = timedelta(hours=1)
"""How often calendars should fetch the feed."""

REVISIONS_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
"""SEQUENCE is the number of seconds from here to an event's last change. It increases with every change, even
across restarts and without storage, and fits into 32 bits until 2088."""


@dataclass(frozen=True, slots=True)
class Reminder:
    """One date in the calendar."""

    uid: str
    """Constant per connection and kind, even if the date changes."""
    at: datetime
    summary: str
    description: str
    certain: bool
    """Whether it comes from a certificate or the operator, not from a forecast."""
    url: str
    alarms: tuple[timedelta, ...] = ALARMS
    """Times of reminders before it."""


def reminders(status: ConnectionStatus, external_url: str = "") -> Iterator[Reminder]:
    """The expiry of a connection's certificates and approval; none if paused."""
    connection = status.connection
    if connection.paused:
        return
    name, url = status.name, f"{external_url}/connections/{status.name}" if external_url else ""
    current = status.credential.certificate
    following = status.next_certificate
    ends = []
    if status.certificate_end:
        lifetime = current.not_after - current.not_before if current else ASSUMED_LIFETIME
        ends.append((Slot.CURRENT, "the certificate", status.certificate_end, lifetime))
    if following and following != current:
        lifetime = following.not_after - following.not_before
        ends.append((Slot.NEXT, "the certificate of the next pair", following.not_after, lifetime))
    bands = connection.expiry
    for slot, what, end, lifetime in ends:
        alarms = {bands.warning.of(lifetime), bands.critical.of(lifetime), *ALARMS}
        yield Reminder(
            f"certificate.{slot}.{name}@bearerwatch",
            end,
            f"{name}: {what} expires",
            _description(status, Cause.CERTIFICATE_EXPIRING),
            certain=True,
            url=url,
            alarms=tuple(sorted(alarms, reverse=True)),
        )
    if status.forecast:
        yield Reminder(
            f"approval.{name}@bearerwatch",
            status.forecast.at,
            f"{name}: the approval is expected to expire",
            _description(status, Cause.APPROVAL_EXPIRING, status.forecast.reason),
            certain=False,
            url=url,
        )


def _description(status: ConnectionStatus, cause: Cause, *why: str) -> str:
    user = f"Org {status.connection.host}, user {status.connection.username}."
    return "\n".join((user, *why, remedy(steps(CATALOGUE[cause], status.connection))))


class Feed:
    """Renders the feed, and remembers it: a changed event gets a newer revision."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Reminder, bytes]] = {}
        """By uid: what was last sent, and as which text."""
        self._lock = Lock()

    def render(self, statuses: Iterable[ConnectionStatus], now: datetime, external_url: str = "") -> bytes:
        """The calendar of these connections: the soonest dates, and recently passed ones."""
        found = [each for status in statuses for each in reminders(status, external_url)]
        found = sorted((each for each in found if each.at > now - KEPT), key=lambda each: (each.at, each.uid))
        with self._lock:
            for each in found[:EVENTS_AT_MOST]:
                if self._told.get(each.uid, (None,))[0] != each:
                    self._told[each.uid] = each, _event(each, now).to_ical()
            bodies = [self._told[each.uid][1] for each in found[:EVENTS_AT_MOST]]
            if len(self._told) > 2 * EVENTS_AT_MOST:
                self._told = {each.uid: self._told[each.uid] for each in found[:EVENTS_AT_MOST]}
        left_out = len(found) - len(bodies)
        head, end, _ = _calendar(left_out).to_ical().partition(b"END:VCALENDAR")
        return b"".join((head, *bodies, end, b"\r\n"))


def _calendar(left_out: int) -> Calendar:
    calendar = Calendar()
    calendar.add("prodid", "-//bearerwatch//reminders//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", "bearerwatch")
    said = "Expiry of certificates and approvals of Salesforce connections."
    if left_out:
        said += f" {left_out:,} later dates are left out: filter by label, as on the status page."
    calendar.add("x-wr-caldesc", said)
    calendar.add("refresh-interval", READ_AGAIN, parameters={"value": "DURATION"})
    calendar.add("x-published-ttl", vDuration(READ_AGAIN))
    return calendar


def _event(reminder: Reminder, now: datetime) -> Event:
    """An event with its alarms, as revised at `now`.

    DTSTAMP is the time of the last revision, as always without a METHOD (RFC 5545, 3.8.7.2).
    """
    event = Event()
    event.add("uid", reminder.uid)
    event.add("dtstamp", now.replace(microsecond=0))
    event.add("sequence", int((now - REVISIONS_BEGIN).total_seconds()))
    event.add("dtstart", reminder.at.astimezone(UTC).replace(microsecond=0))
    event.add("summary", reminder.summary)
    event.add("description", reminder.description)
    event.add("status", "CONFIRMED" if reminder.certain else "TENTATIVE")
    event.add("transp", "TRANSPARENT")
    if reminder.url:
        event.add("url", reminder.url)
    for before in reminder.alarms:
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("trigger", -before)
        alarm.add("description", f"{reminder.summary} in {span(before)}")
        event.add_component(alarm)
    return event
