"""What is told to one receiver as days pass: due from what holds and what it was last told."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from monitor.core.alert import Terms
from monitor.core.alerts import alerts
from monitor.core.causes import Cause
from monitor.core.holds import Holds
from monitor.core.maintenance import Maintenance, Once, Weekly
from monitor.core.status import ConnectionStatus
from monitor.core.telling import FLAPS, HOLDS, Message, Route, Told, accepted, due, noticed, pushed
from tests.core.fleets import MINUTE, TERMS, ill, snapshot, well
from tests.making import NOW, connection

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
REPEAT = 4 * HOUR

JSON = TypeAdapter(dict[str, Told])


@dataclass
class Receiver:
    """A receiver over simulated time: what it was told, and whether it is there."""

    maintenance: tuple[Maintenance, ...] = ()
    terms: Terms = TERMS
    repeat: timedelta = REPEAT
    there: Callable[[datetime], bool] = lambda _: True
    taken: list[tuple[timedelta, Message]] = field(default_factory=list)
    known: dict[str, Told] = field(default_factory=dict)

    def look(self, now: datetime, *statuses: ConnectionStatus) -> None:
        """One round, with all that a restart keeps."""
        self.known = JSON.validate_json(JSON.dump_json(self.known))
        shot = snapshot(*statuses, at=now, maintenance=self.maintenance)
        mine = alerts(shot, self.terms)
        self._remember(noticed(mine, self.known, shot))
        for message in due(mine, self.known, repeat=self.repeat, now=now):
            if self.there(now):
                self.taken.append((now - NOW, message))
                self._remember(accepted(message, self.known, now))

    def _remember(self, changes: dict[str, Told | None] | dict[str, Told]) -> None:
        for mark, told in changes.items():
            self.known.pop(mark, None)
            if told is not None:
                self.known[mark] = told

    def live(
        self,
        until: timedelta,
        fleet: Callable[[datetime], Iterable[ConnectionStatus]],
        step: timedelta = MINUTE,
    ) -> None:
        """Look every step."""
        now = NOW
        while now <= NOW + until:
            self.look(now, *fleet(now))
            now += step

    def told(self) -> list[tuple[timedelta, str]]:
        return [(at, message.title) for at, message in self.taken]


def failing(
    during: Callable[[datetime], datetime | None], cause: Cause = Cause.API_DISABLED, name: str = "acme"
) -> Callable[[datetime], list[ConnectionStatus]]:
    """A connection that fails whenever `during` gives since when it does."""

    def fleet(now: datetime) -> list[ConnectionStatus]:
        since = during(now)
        status = well(name, now)
        return [ill(status, cause, since, now) if since else status]

    return fleet


def between(begin: timedelta, end: timedelta) -> Callable[[datetime], datetime | None]:
    return lambda now: NOW + begin if NOW + begin <= now < NOW + end else None


@pytest.fixture(name="title", scope="module")
def _title() -> str:
    (alert,) = alerts(snapshot(ill(well("acme"), Cause.API_DISABLED, NOW - DAY)), TERMS)
    return alert.annotations["summary"]


# Once, again after the interval, and its end once


def test_what_holds_is_told_once_repeated_as_configured_and_its_end_is_told_once(title: str) -> None:
    receiver = Receiver()

    receiver.live(DAY, failing(between(HOUR, 10 * HOUR)))

    assert receiver.told() == [
        (HOUR + 2 * MINUTE, title),
        (5 * HOUR + 2 * MINUTE, title),
        (9 * HOUR + 2 * MINUTE, title),
        (10 * HOUR, f"Resolved: {title}"),
    ]
    assert receiver.taken[-1][1].resolved[0].annotations["ended"] == "The last exchange was granted."
    assert receiver.known == {}


def test_a_single_transient_failure_is_told_to_nobody() -> None:
    receiver = Receiver()

    receiver.live(2 * HOUR, failing(between(HOUR, HOUR + 14 * MINUTE), Cause.NETWORK_UNREACHABLE))

    assert receiver.told() == []


def test_the_end_of_a_transient_is_believed_after_an_interval() -> None:
    receiver = Receiver()

    receiver.live(3 * HOUR, failing(between(HOUR, 2 * HOUR), Cause.NETWORK_UNREACHABLE))

    assert [at for at, _ in receiver.told()] == [HOUR + 15 * MINUTE, 2 * HOUR + 5 * MINUTE]


# A receiver that is away


def test_a_receiver_that_was_away_is_told_what_holds_when_it_is_back_and_nothing_of_the_past(
    title: str,
) -> None:
    receiver = Receiver(there=lambda now: not NOW + HOUR <= now < NOW + 8 * HOUR)

    def fleet(now: datetime) -> list[ConnectionStatus]:
        return [
            *failing(between(2 * HOUR, 3 * HOUR), name="short")(now),
            *failing(between(2 * HOUR, 9 * HOUR))(now),
        ]

    receiver.live(DAY, fleet)

    assert receiver.told() == [(8 * HOUR, title), (9 * HOUR, f"Resolved: {title}")]


def test_an_end_that_could_not_be_told_is_told_later(title: str) -> None:
    receiver = Receiver(there=lambda now: not NOW + 2 * HOUR <= now < NOW + 3 * DAY)

    receiver.live(4 * DAY, failing(between(HOUR, 2 * HOUR)))

    assert receiver.told() == [(HOUR + 2 * MINUTE, title), (3 * DAY, f"Resolved: {title}")]


def test_a_message_that_has_to_be_sent_once_more_has_the_same_id_and_the_next_has_another() -> None:
    shot = snapshot(ill(well("acme"), Cause.API_DISABLED, NOW - DAY))
    found = alerts(shot, TERMS)

    (first,) = due(found, {}, repeat=REPEAT, now=NOW)
    (again,) = due(found, {}, repeat=REPEAT, now=NOW + MINUTE)
    (repeated,) = due(found, accepted(first, {}, NOW), repeat=REPEAT, now=NOW + REPEAT)

    assert first.id == again.id
    assert first.id != repeated.id


# What comes and goes


def test_what_flaps_for_days_is_not_told_of_each_time() -> None:
    """A refusal that holds for 10 minutes of every 20, for two days: 144 times."""
    receiver = Receiver(repeat=DAY)

    def during(now: datetime) -> datetime | None:
        since = (now - NOW) // (20 * MINUTE) * 20 * MINUTE
        return NOW + since if now - NOW - since < 10 * MINUTE else None

    receiver.live(2 * DAY, failing(during), step=2 * MINUTE)

    assert len(receiver.taken) <= 5
    assert [bool(message.firing) for _, message in receiver.taken][:3] == [True, False, True]


def test_what_comes_back_a_day_later_is_news(title: str) -> None:
    receiver = Receiver()

    def twice(now: datetime) -> datetime | None:
        return between(HOUR, 2 * HOUR)(now) or between(DAY, DAY + HOUR)(now)

    receiver.live(2 * DAY, failing(twice))

    assert receiver.told() == [
        (HOUR + 2 * MINUTE, title),
        (2 * HOUR, f"Resolved: {title}"),
        (DAY + 2 * MINUTE, title),
        (DAY + HOUR, f"Resolved: {title}"),
    ]


def test_a_clock_that_is_set_back_holds_nothing_up_and_ends_nothing(title: str) -> None:
    receiver = Receiver()
    failed = ill(well("acme"), Cause.API_DISABLED, NOW - HOUR)
    receiver.look(NOW, failed)

    receiver.look(NOW - DAY, failed)
    receiver.look(NOW - DAY + MINUTE, failed)
    receiver.look(NOW - DAY + 2 * MINUTE, well("acme"))

    assert receiver.told() == [
        (timedelta(0), title),
        (-DAY, title),
        (-DAY + 2 * MINUTE, f"Resolved: {title}"),
    ]


# Maintenance


@pytest.mark.parametrize(
    "window",
    [Once(NOW + HOUR, NOW + 4 * HOUR), Weekly(0, (NOW + HOUR).time(), 3 * HOUR)],
    ids=["once", "weekly"],
)
def test_in_a_maintenance_nothing_new_is_told_and_what_still_holds_at_its_end_is(
    window: Maintenance, title: str
) -> None:
    receiver = Receiver(maintenance=(window,))

    def fleet(now: datetime) -> list[ConnectionStatus]:
        return [
            *failing(between(2 * HOUR, 3 * HOUR), name="short")(now),
            *failing(between(2 * HOUR, 5 * HOUR))(now),
        ]

    receiver.live(DAY, fleet)

    assert receiver.told() == [(4 * HOUR, title), (5 * HOUR, f"Resolved: {title}")]


def test_what_was_told_before_a_maintenance_is_not_taken_for_mended_in_it(title: str) -> None:
    receiver = Receiver(maintenance=(Once(NOW + 2 * HOUR, NOW + 12 * HOUR),))

    receiver.live(DAY, failing(between(HOUR, 14 * HOUR)))

    assert receiver.told() == [
        (HOUR + 2 * MINUTE, title),
        (12 * HOUR, title),
        (14 * HOUR, f"Resolved: {title}"),
    ]


def test_many_that_were_told_before_a_maintenance_of_each_are_not_taken_for_mended_in_it() -> None:
    window = Once(NOW + 2 * HOUR, NOW + 9 * HOUR)
    receiver = Receiver()

    def fleet(now: datetime) -> list[ConnectionStatus]:
        return [
            replace(status, connection=replace(status.connection, maintenance=(window,)))
            for status in of_forty((12 * HOUR, 12))(now)
        ]

    receiver.live(DAY, fleet, step=2 * MINUTE)

    assert names_told(receiver) == [
        (2 * MINUTE, "firing BearerwatchManyConnectionsAffected"),
        (9 * HOUR, "firing BearerwatchManyConnectionsAffected"),
        (12 * HOUR, "resolved BearerwatchManyConnectionsAffected"),
    ]


def test_what_is_paused_or_no_longer_configured_has_ended_and_is_said_why() -> None:
    receiver, other = Receiver(), Receiver()
    broken = ill(well("acme"), Cause.API_DISABLED, NOW - DAY)
    receiver.look(NOW, broken)
    other.look(NOW, broken)

    receiver.look(NOW + HOUR, replace(broken, connection=replace(broken.connection, paused=True)))
    other.look(NOW + HOUR, well("another"))

    ends = [each.taken[-1][1].resolved[0].annotations["ended"] for each in (receiver, other)]
    assert ends == [
        "The connection is paused: nothing is known of it.",
        "The connection is no longer configured.",
    ]


# Together


def looked_at_in_turn(
    count: int, breaks: timedelta, mended: timedelta, of: int | None = None
) -> Callable[[datetime], list[ConnectionStatus]]:
    """Some connections of one app, each looked at every 5 minutes in its turn; the others have their own.

    The app breaks and is mended at these times. Who was refused is looked at again every 15 minutes.
    """

    def fleet(now: datetime) -> list[ConnectionStatus]:
        statuses = []
        for number in range(of or count):
            phase = number * timedelta(seconds=300) / count
            turn = NOW + phase + (now - NOW - phase) // (5 * MINUTE) * 5 * MINUTE
            app: dict[str, Any] = {"consumer_key": "3MVG9SharedByMany"} if number < count else {}
            status = well(f"c{number:03}", turn, **app)
            seen = NOW + phase + -((phase - breaks) // (5 * MINUTE)) * 5 * MINUTE
            end = seen + -((seen - NOW - mended) // (15 * MINUTE)) * 15 * MINUTE
            if number < count and seen <= now < end:
                status = ill(status, Cause.APP_BLOCKED, seen, turn)
            statuses.append(status)
        return statuses

    return fleet


def test_forty_connections_of_a_consumer_key_that_fail_for_the_same_cause_are_one_message() -> None:
    receiver = Receiver(repeat=DAY)

    receiver.live(3 * HOUR, looked_at_in_turn(40, 10 * MINUTE, HOUR, of=170), step=2 * MINUTE)

    (_, first), *others = receiver.taken
    assert first.title.endswith(": all 40 connections of the consumer key 3MVG9…ByMany")
    assert len(first.firing) == 40
    assert all(message.resolved for _, message in others)
    assert sum(len(message.resolved) for _, message in others) == 40
    assert len(others) <= 4
    assert receiver.taken[0][0] <= 22 * MINUTE


def test_an_outage_of_everybody_is_one_message_and_its_end_another() -> None:
    receiver = Receiver(repeat=DAY)

    receiver.live(4 * HOUR, looked_at_in_turn(30, 10 * MINUTE, HOUR))

    assert [bool(message.firing) for _, message in receiver.taken] == [True, False]
    assert receiver.taken[0][1].firing[0].name == "BearerwatchManyConnectionsAffected"
    assert "All of them share the consumer key" in receiver.taken[0][1].firing[0].annotations["description"]


def of_forty(
    *ill_until: tuple[timedelta, int], interval: timedelta = 5 * MINUTE
) -> Callable[[datetime], list[ConnectionStatus]]:
    """Forty connections, of which so many are refused, from the beginning until then."""

    def fleet(now: datetime) -> list[ConnectionStatus]:
        affected = next((count for until, count in ill_until if now < NOW + until), 0)
        forty = [well(f"c{n:02}", now, interval=interval) for n in range(40)]
        return [ill(one, Cause.APP_BLOCKED, NOW, now) for one in forty[:affected]] + forty[affected:]

    return fleet


def one_is_slow(interval: timedelta) -> Terms:
    """The terms of a fleet in which some connection is looked at that rarely."""
    slow = connection(interval=interval)
    return replace(TERMS, holds=Holds.of([slow], interval=5 * MINUTE, settle=10 * MINUTE, transient_for=None))


def names_told(receiver: Receiver) -> list[tuple[timedelta, str]]:
    return [
        (at, told)
        for at, message in receiver.taken
        for told in (
            *(f"firing {alert.name}" for alert in message.firing),
            *(f"resolved {ended.labels['alertname']}" for ended in message.resolved),
        )
    ]


def test_many_stay_one_while_five_are_left_though_that_is_less_than_a_quarter_and_end_with_the_last() -> None:
    receiver = Receiver()

    receiver.live(DAY, of_forty((HOUR, 12), (7 * HOUR, 5), (7 * HOUR + 20 * MINUTE, 2)), step=MINUTE)

    assert names_told(receiver) == [
        (MINUTE, "firing BearerwatchManyConnectionsAffected"),
        (4 * HOUR + MINUTE, "firing BearerwatchManyConnectionsAffected"),
        (7 * HOUR + 20 * MINUTE, "resolved BearerwatchManyConnectionsAffected"),
    ]


def test_of_many_that_are_mended_one_that_is_left_is_told_of_alone_after_an_hour() -> None:
    receiver = Receiver(repeat=DAY)

    receiver.live(5 * HOUR, of_forty((HOUR, 12), (4 * HOUR, 1)))

    assert names_told(receiver) == [
        (MINUTE, "firing BearerwatchManyConnectionsAffected"),
        (2 * HOUR, "resolved BearerwatchManyConnectionsAffected"),
        (2 * HOUR + MINUTE, "firing BearerwatchAppBlocked"),
        (4 * HOUR, "resolved BearerwatchAppBlocked"),
    ]


@pytest.mark.parametrize(
    ("interval", "waits"), [(5 * MINUTE, HOUR), (3 * HOUR, 3 * HOUR)], ids=["usual", "slow themselves"]
)
def test_who_is_left_of_many_is_told_of_once_looked_at_again_however_slow_others_are(
    interval: timedelta, waits: timedelta
) -> None:
    receiver = Receiver(terms=one_is_slow(6 * HOUR), repeat=DAY)

    receiver.live(7 * HOUR, of_forty((HOUR, 12), (DAY, 2), interval=interval), step=2 * MINUTE)

    firing = [(at, name) for at, name in names_told(receiver) if name.startswith("firing")]
    assert firing[0] == (2 * MINUTE, "firing BearerwatchManyConnectionsAffected")
    assert {name for _, name in firing[1:]} == {"firing BearerwatchAppBlocked"}
    assert HOUR + waits <= firing[1][0] <= HOUR + waits + 2 * MINUTE


@pytest.mark.parametrize("left", [5, 1], ids=["who still stay one", "who are looked at again"])
def test_who_fails_once_many_have_ebbed_is_told_of_alone_though_some_are_left(left: int) -> None:
    begins = HOUR + 30 * MINUTE
    receiver = Receiver()

    def fleet(now: datetime) -> list[ConnectionStatus]:
        new = failing(between(begins, 30 * DAY), Cause.APP_BLOCKED, "zeta")(now)
        return [*of_forty((MINUTE + HOUR, 12), (30 * DAY, left))(now), *new]

    receiver.live(begins + 20 * MINUTE, fleet)

    assert names_told(receiver) == [
        (MINUTE, "firing BearerwatchManyConnectionsAffected"),
        (begins + 2 * MINUTE, "firing BearerwatchAppBlocked"),
    ]
    assert receiver.taken[-1][1].firing[0].labels["connection"] == "zeta"


def test_who_fails_just_before_the_many_that_are_left_are_told_again_is_told_of_alone() -> None:
    begins = MINUTE + REPEAT - MINUTE
    receiver = Receiver()

    def fleet(now: datetime) -> list[ConnectionStatus]:
        new = failing(between(begins, 30 * DAY), Cause.APP_BLOCKED, "zeta")(now)
        return [*of_forty((HOUR, 12), (30 * DAY, 5))(now), *new]

    receiver.live(begins + 20 * MINUTE, fleet)

    assert [name for _, name in names_told(receiver)] == [
        "firing BearerwatchManyConnectionsAffected",
        "firing BearerwatchManyConnectionsAffected",
        "firing BearerwatchAppBlocked",
    ]


def test_who_joined_while_it_was_many_is_none_who_fails_later() -> None:
    receiver = Receiver()

    def fleet(now: datetime) -> list[ConnectionStatus]:
        late = failing(between(30 * MINUTE, 30 * DAY), Cause.APP_BLOCKED, "zeta")(now)
        return [*of_forty((HOUR, 12), (30 * DAY, 4))(now), *late]

    receiver.live(3 * HOUR, fleet)

    assert names_told(receiver) == [(MINUTE, "firing BearerwatchManyConnectionsAffected")]


def test_many_who_come_back_after_their_last_had_gone_end_as_late_as_before() -> None:
    gone = NOW + 2 * HOUR
    receiver = Receiver(there=lambda now: now != gone)
    broken, whole = of_forty((DAY, 12)), of_forty()

    receiver.live(3 * HOUR, lambda now: whole(now) if now == gone else broken(now))

    assert [told.lingers for told in receiver.known.values()] == [TERMS.holds.refused]


def test_five_that_never_were_a_quarter_are_told_one_by_one() -> None:
    receiver = Receiver(repeat=DAY)

    receiver.live(HOUR, of_forty((HOUR, 5)))

    assert {name for _, name in names_told(receiver)} == {
        "firing BearerwatchAppBlocked",
        "resolved BearerwatchAppBlocked",
    }


def test_who_joins_a_group_that_was_told_of_is_told_of_alone_and_not_before_five_minutes() -> None:
    app: dict[str, Any] = {"consumer_key": "3MVG9Shared"}
    receiver = Receiver()

    def fleet(now: datetime) -> list[ConnectionStatus]:
        statuses = [well(f"w{number}", now) for number in range(20)]
        for number in range(3):
            since = NOW + number * 4 * MINUTE
            status = well(f"c{number}", now, **app)
            statuses.append(ill(status, Cause.API_DISABLED, since, now) if since <= now else status)
        return statuses

    receiver.live(HOUR, fleet)

    sizes = [(at, len(message.firing)) for at, message in receiver.taken]
    assert sizes == [(2 * MINUTE, 1), (7 * MINUTE, 1), (12 * MINUTE, 1)]


# Who is told


@pytest.mark.parametrize(
    ("route", "takes"),
    [
        (Route(), True),
        (Route(responsible=("org_admin",)), True),
        (Route(responsible=("operator", "salesforce")), False),
        (Route(severity=("critical",)), True),
        (Route(severity=("warning",)), False),
        (Route(labels=(("tier", "gold"),)), True),
        (Route(labels=(("customer", "acme"), ("tier", "gold"))), True),
        (Route(labels=(("tier", "silver"),)), False),
        (Route(responsible=("org_admin",), labels=(("tier", "silver"),)), False),
    ],
)
def test_a_route_goes_by_who_must_act_severity_and_labels(route: Route, *, takes: bool) -> None:
    status = well("acme", labels=(("customer", "acme"), ("tier", "gold")))
    (alert,) = alerts(snapshot(ill(status, Cause.API_DISABLED, NOW - DAY)), TERMS)

    assert route.takes(alert) is takes


def test_many_at_once_reach_each_whose_connections_are_among_them() -> None:
    own = [
        ill(well(f"c{n}", labels=(("customer", f"{n}"),)), Cause.API_DISABLED, NOW - DAY) for n in range(5)
    ]
    many = alerts(snapshot(*own), TERMS)[0]

    assert Route(labels=(("customer", "3"),)).takes(many)
    assert not Route(labels=(("customer", "7"),)).takes(many)


def test_many_at_once_reach_the_operator_too_who_finds_out_what_they_share() -> None:
    own = [ill(well(f"c{n}"), Cause.API_DISABLED, NOW - DAY) for n in range(5)]
    many, *single = alerts(snapshot(*own), TERMS)

    operators, admins = Route(responsible=("operator",)), Route(responsible=("org_admin",))

    assert operators.takes(many)
    assert admins.takes(many)
    assert not any(operators.takes(alert) for alert in single)
    assert not Route(responsible=("salesforce",)).takes(many)


# An Alertmanager


def test_an_alertmanager_is_given_again_what_it_was_given_also_while_that_is_held_back() -> None:
    broken = ill(well("acme"), Cause.API_DISABLED, NOW - DAY)
    other = ill(well("other"), Cause.API_DISABLED, NOW - DAY)
    found = alerts(snapshot(broken), TERMS)
    known = accepted(pushed(found, {}, NOW), {}, NOW)
    now = snapshot(broken, other, maintenance=[Once(NOW - HOUR, NOW + HOUR)])

    message = pushed(alerts(now, TERMS), known, NOW)

    assert [alert.labels["connection"] for alert in message.firing] == ["acme"]
    assert message.resolved == ()


def an_alertmanager(
    terms: Terms = TERMS, **of_fleet: timedelta
) -> Callable[[timedelta, int], tuple[set[str], set[str]]]:
    """Looks at forty, of which so many are refused: what is pushed to hold, and what to have ended."""
    known: dict[str, Told] = {}

    def look(after: timedelta, affected: int) -> tuple[set[str], set[str]]:
        now = NOW + after
        shot = snapshot(*of_forty((DAY, affected), **of_fleet)(now), at=now)
        found = alerts(shot, terms)
        known.update({mark: told for mark, told in noticed(found, known, shot).items() if told})
        message = pushed(found, known, now)
        known.update(accepted(message, known, now))
        names = {alert.labels.get("connection", "many") for alert in message.firing}
        return names, {told.labels.get("connection", "many") for told in message.resolved}

    return look


def test_an_alertmanager_is_told_who_is_left_of_many_before_it_has_forgotten_the_many_for_long() -> None:
    look = an_alertmanager(one_is_slow(6 * HOUR), interval=6 * HOUR)

    assert look(HOUR, 12) == ({"many"}, set())
    assert look(HOUR + MINUTE, 2) == (set(), set())
    assert look(HOUR + HOLDS, 2) == (set(), set())
    assert look(HOUR + MINUTE + HOLDS, 2) == ({"c00", "c01"}, {"many"})
    assert look(HOUR + 2 * MINUTE + HOLDS, 2) == ({"c00", "c01"}, set())


def test_an_alertmanager_is_told_that_many_ended_which_have_long_become_few_and_who_is_left() -> None:
    look = an_alertmanager()

    few = {f"c{number:02}" for number in range(6)}
    assert look(HOUR, 12) == ({"many"}, set())
    assert look(2 * HOUR, 6) == ({"many"}, set())
    assert look(9 * HOUR - MINUTE, 6) == ({"many"}, set())
    assert look(9 * HOUR, 6) == (few, {"many"})
    assert look(9 * HOUR + MINUTE, 6) == (few, set())
    assert "many" in look(10 * HOUR, 12)[0]


# Whatever happens


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[bool, ...]]:
    """Which of three connections fail, a step of 5 minutes after the other."""
    return draw(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=20, max_size=60))


@settings(deadline=None, max_examples=25)
@given(
    lives(), st.sampled_from([5 * MINUTE, HOUR, REPEAT]), st.lists(st.booleans(), min_size=60, max_size=60)
)
def test_the_same_is_never_told_more_often_than_the_repeat_interval_allows(
    life: list[tuple[bool, ...]], repeat: timedelta, there: list[bool]
) -> None:
    step = 5 * MINUTE
    receiver = Receiver(repeat=repeat, there=lambda now: there[(now - NOW) // step])
    since: dict[int, datetime] = {}
    for place, fails in enumerate(life):
        now = NOW + place * step
        statuses = []
        for number, failing_now in enumerate(fails):
            status = well(f"c{number}", now, consumer_key="3MVG9Shared" if number else "3MVG9Other")
            if failing_now:
                status = ill(status, Cause.API_DISABLED, since.setdefault(number, now), now)
            else:
                since.pop(number, None)
            statuses.append(status)
        receiver.look(now, *statuses)

    told: dict[str, list[timedelta]] = {}
    ends: Counter[str] = Counter()
    for at, message in receiver.taken:
        for alert in message.firing:
            told.setdefault(alert.labels["connection"], []).append(at)
        ends.update(one.labels["connection"] for one in message.resolved)
    lasted = len(life) * step
    for name, moments in told.items():
        assert len(moments) <= 2 + lasted / min(repeat, FLAPS)
        assert ends[name] <= len(moments), "an end is told of what was told alone"
        # Between two messages about the same lies the interval, but for one that came back after its end.
        close = sum(later - earlier < repeat for earlier, later in pairwise(moments))
        assert close <= ends[name]


@settings(deadline=None, max_examples=25)
@given(lives())
def test_whatever_happened_before_what_holds_long_enough_is_known_in_the_end(
    life: list[tuple[bool, ...]],
) -> None:
    step = 5 * MINUTE
    receiver = Receiver(there=lambda now: (now - NOW) // step % 7 == 0)
    since: dict[int, datetime] = {}
    final = life[-1]
    for place, fails in enumerate([*life, *[final] * 40]):
        now = NOW + place * step
        statuses = []
        for number, failing_now in enumerate(fails):
            status = well(f"c{number}", now)
            if failing_now:
                status = ill(status, Cause.API_DISABLED, since.setdefault(number, now), now)
            else:
                since.pop(number, None)
            statuses.append(status)
        receiver.look(now, *statuses)

    holds = {told.labels["connection"] for told in receiver.known.values() if told.resolved is None}
    assert holds == {f"c{number}" for number, fails in enumerate(final) if fails}
