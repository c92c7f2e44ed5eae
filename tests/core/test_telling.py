"""The messages that one sink gets as days pass."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from monitor.core.alerts import alerts
from monitor.core.causes import Cause, Severity
from monitor.core.finding import State
from monitor.core.holds import KEPT
from monitor.core.maintenance import Maintenance, Once
from monitor.core.status import ConnectionStatus
from monitor.core.telling import GROUP_INTERVAL, Message, Told, due, is_proven, what_became
from tests.core.fleets import MINUTE, TERMS, ill, snapshot, well
from tests.making import NOW

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
REPEAT = 4 * HOUR

JSON = TypeAdapter(dict[str, Told])


@dataclass
class Receiver:
    """A sink over simulated time: what it was told, and whether it is up."""

    maintenance: tuple[Maintenance, ...] = ()
    repeat: timedelta = REPEAT
    there: Callable[[datetime], bool] = lambda _: True
    taken: list[tuple[timedelta, Message]] = field(default_factory=list)
    known: dict[str, Told] = field(default_factory=dict)
    away: dict[str, datetime] = field(default_factory=dict)

    def look(self, now: datetime, *statuses: ConnectionStatus) -> None:
        """One round, with all that a restart keeps."""
        self.known = JSON.validate_json(JSON.dump_json(self.known))
        mine = alerts(snapshot(*statuses, at=now, maintenance=self.maintenance), TERMS)
        groups = {alert.group for alert in mine}
        self.away = {group: self.away.get(group, now) for group in self.known if group not in groups}
        for message in list(due(mine, self.known, self.away, holds=TERMS.holds, repeat=self.repeat, now=now)):
            if self.there(now):
                self.taken.append((now - NOW, message))
                if message.alerts:
                    self.known[message.group] = message.told
                else:
                    del self.known[message.group]

    def live(self, until: timedelta, fleet: Callable[[datetime], Iterable[ConnectionStatus]]) -> None:
        """Look every minute."""
        now = NOW
        while now <= NOW + until:
            self.look(now, *fleet(now))
            now += MINUTE

    def told(self) -> list[tuple[timedelta, str]]:
        return [(at, message.title) for at, message in self.taken]


def failing(
    during: Callable[[datetime], datetime | None], cause: Cause = Cause.API_DISABLED
) -> Callable[[datetime], list[ConnectionStatus]]:
    """A connection that fails whenever `during` gives since when it does."""

    def fleet(now: datetime) -> list[ConnectionStatus]:
        since = during(now)
        status = well("acme", now)
        return [ill(status, cause, since, now) if since else status]

    return fleet


def between(begin: timedelta, end: timedelta) -> Callable[[datetime], datetime | None]:
    return lambda now: NOW + begin if NOW + begin <= now < NOW + end else None


HOLD = TERMS.holds.of_cause(Cause.API_DISABLED)


@pytest.fixture(name="title", scope="module")
def _title() -> str:
    (alert,) = alerts(snapshot(ill(well("acme"), Cause.API_DISABLED, NOW - DAY)), TERMS)
    return f"{alert.title}: acme"


# Once, again after `repeat`, and its end


def test_a_group_is_sent_at_its_start_after_repeat_and_at_its_end(title: str) -> None:
    receiver = Receiver()

    receiver.live(10 * HOUR, failing(between(HOUR, 7 * HOUR)))

    begin = HOUR + HOLD
    assert receiver.told() == [
        (begin, title),
        (begin + REPEAT, title),
        (7 * HOUR + KEPT, f"Resolved: {title}"),
    ]
    assert receiver.known == {}


def test_a_failure_shorter_than_its_hold_time_is_not_sent() -> None:
    receiver = Receiver()

    receiver.live(3 * HOUR, failing(between(HOUR, HOUR + HOLD - MINUTE)))
    receiver.live(3 * HOUR, failing(between(HOUR, HOUR + 14 * MINUTE), Cause.NETWORK_UNREACHABLE))

    assert receiver.told() == []


def test_a_failure_that_returns_before_its_end_was_sent_is_not_reported_again(title: str) -> None:
    receiver = Receiver()

    def away_for_a_look(now: datetime) -> datetime | None:
        return None if NOW + HOUR <= now < NOW + HOUR + KEPT - MINUTE else NOW - DAY

    receiver.live(2 * HOUR, failing(away_for_a_look))

    assert receiver.told() == [(timedelta(0), title)]


def test_a_failure_that_returns_after_its_end_is_sent_again(title: str) -> None:
    receiver = Receiver()

    def twice(now: datetime) -> datetime | None:
        return between(timedelta(0), HOUR)(now) or between(2 * HOUR, 3 * HOUR)(now)

    receiver.live(4 * HOUR, failing(twice))

    assert [told for _, told in receiver.told()] == [title, f"Resolved: {title}"] * 2


def test_a_change_of_severity_is_sent_at_once() -> None:
    receiver = Receiver()

    def worse(now: datetime) -> list[ConnectionStatus]:
        severity = Severity.CRITICAL if now >= NOW + HOUR else Severity.WARNING
        return [ill(well("acme", now), Cause.CERTIFICATE_EXPIRING, NOW - DAY, now, severity=severity)]

    receiver.live(2 * HOUR, worse)

    told = [(at, message.told.labels["severity"]) for at, message in receiver.taken]
    assert told == [(timedelta(0), "warning"), (HOUR, "critical")]


@pytest.mark.parametrize("away", [20 * MINUTE, 9 * HOUR])
def test_a_sink_that_was_down_gets_only_current_failures(title: str, away: timedelta) -> None:
    receiver = Receiver(there=lambda now: now >= NOW + away)

    receiver.live(10 * HOUR, failing(lambda _: NOW - DAY))
    assert receiver.told()[0] == (away, title)

    other = Receiver(there=lambda now: now >= NOW + away)
    other.live(10 * HOUR, failing(between(timedelta(0), away)))
    assert other.told() == []


def test_an_end_that_could_not_be_sent_is_sent_later(title: str) -> None:
    receiver = Receiver(there=lambda now: not NOW + HOUR <= now < NOW + 3 * HOUR)

    receiver.live(4 * HOUR, failing(between(timedelta(0), HOUR)))

    assert receiver.told() == [(HOLD, title), (3 * HOUR, f"Resolved: {title}")]


def test_a_repeated_message_has_the_same_id_and_the_next_a_new_one() -> None:
    fleet = [ill(well("acme"), Cause.API_DISABLED, NOW - DAY)]
    lost = [message for at in (NOW, NOW + MINUTE) for message in due_at(at, fleet, {})]
    (taken,) = due_at(NOW, fleet, {})
    (again,) = due_at(NOW + REPEAT, fleet, {taken.group: taken.told})

    assert len({message.id for message in lost}) == 1
    assert again.id != taken.id


def due_at(now: datetime, fleet: Sequence[ConnectionStatus], known: dict[str, Told]) -> list[Message]:
    return list(
        due(alerts(snapshot(*fleet, at=now), TERMS), known, {}, holds=TERMS.holds, repeat=REPEAT, now=now)
    )


def test_a_clock_set_back_resolves_nothing(title: str) -> None:
    receiver = Receiver()
    receiver.look(NOW, *failing(lambda _: NOW - DAY)(NOW))
    receiver.look(NOW - 2 * DAY, *failing(lambda _: NOW - DAY)(NOW - 2 * DAY))

    assert receiver.told()[0][1] == title
    assert not any(told.startswith("Resolved") for _, told in receiver.told())


# Maintenance


def test_after_maintenance_what_still_fails_is_sent(title: str) -> None:
    receiver = Receiver(maintenance=(Once(NOW, NOW + HOUR),))

    receiver.live(2 * HOUR, failing(lambda _: NOW - DAY))

    assert receiver.told() == [(HOUR, title)]


def test_an_alert_does_not_end_during_maintenance(title: str) -> None:
    receiver = Receiver(maintenance=(Once(NOW + HOUR, NOW + 9 * HOUR),))

    receiver.live(8 * HOUR, failing(lambda _: NOW - DAY))

    assert receiver.told() == [(timedelta(0), title)]


# Together


def of_one_app(count: int, now: datetime, since: Callable[[int], datetime]) -> list[ConnectionStatus]:
    shared = (well(f"c{n:04}", now, consumer_key="3MVG9SharedByMany") for n in range(count))
    return [ill(one, Cause.APP_BLOCKED, since(n), now) for n, one in enumerate(shared) if since(n) <= now]


def test_connections_of_one_app_with_the_same_cause_are_one_message() -> None:
    receiver = Receiver()
    other = ill(well("other"), Cause.APP_BLOCKED, NOW - DAY)

    receiver.look(NOW, *of_one_app(40, NOW, lambda _: NOW - DAY), other)

    assert [len(message.alerts) for _, message in receiver.taken] == [40, 1]
    assert receiver.taken[0][1].title.endswith(": 40 connections")


def test_an_event_spreading_over_a_fleet_is_one_message_per_five_minutes() -> None:
    receiver = Receiver()

    receiver.live(20 * MINUTE, lambda now: of_one_app(400, now, lambda n: NOW + n * timedelta(seconds=1.5)))

    told = [(at, len(message.alerts)) for at, message in receiver.taken]
    assert told[0][0] == HOLD
    assert [later[0] - HOLD for later in told[1:]] == [GROUP_INTERVAL, 2 * GROUP_INTERVAL]
    assert told[-1][1] == 400


def test_new_connections_of_a_group_come_first_in_its_message() -> None:
    receiver = Receiver()
    receiver.look(NOW, *of_one_app(40, NOW, lambda _: NOW - DAY))
    later = NOW + GROUP_INTERVAL
    receiver.look(later, *of_one_app(41, later, lambda n: NOW - DAY if n < 40 else NOW - HOUR))

    assert receiver.taken[-1][1].alerts[0].connection == "c0040"
    assert len(receiver.taken[-1][1].alerts) == 41


def test_only_the_last_connection_leaving_a_group_ends_it() -> None:
    receiver = Receiver()
    everyone = of_one_app(3, NOW, lambda _: NOW - DAY)
    works = [well(one.name, consumer_key="3MVG9SharedByMany") for one in everyone]

    receiver.look(NOW, *everyone)
    receiver.look(NOW + HOUR, works[0], *everyone[1:])
    assert len(receiver.taken) == 1

    receiver.look(NOW + 2 * HOUR, *works)
    receiver.look(NOW + 2 * HOUR + KEPT, *works)
    assert receiver.told()[1][1].startswith("Resolved: ")


def test_a_recovery_proven_by_a_grant_is_sent_at_once() -> None:
    refused = Told({"cause": "ip_restricted"}, "", ("acme", "globex"), NOW, NOW)
    unreachable = replace(refused, labels={"cause": "network_unreachable"})
    works = {"acme": well("acme"), "globex": well("globex")}

    assert is_proven(refused, works)
    assert not is_proven(unreachable, works)
    assert not is_proven(refused, works | {"globex": ill(well("globex"), Cause.IP_RESTRICTED, NOW)})
    assert not is_proven(refused, {"acme": well("acme")})
    (message,) = due(
        [], {"group": refused}, {"group": NOW}, holds=TERMS.holds, repeat=REPEAT, now=NOW, statuses=works
    )
    assert message.title.startswith("Resolved: ")


def test_a_group_whose_cause_only_another_version_knows_ends_like_any() -> None:
    told = Told({"cause": "of_another_version", "severity": "warning"}, "", ("acme",), NOW - DAY, NOW - DAY)

    def ends(away: timedelta) -> list[Message]:
        times = {"group": NOW - away}
        return [*due([], {"group": told}, times, holds=TERMS.holds, repeat=REPEAT, now=NOW)]

    assert not ends(KEPT - MINUTE)
    assert len(ends(KEPT)) == 1


def test_a_resolved_message_gives_the_state_of_each_connection() -> None:
    one = Told({}, "", ("acme",), NOW, NOW)
    assert what_became(one, {"acme": well("acme")}) == "It is healthy."
    assert what_became(one, {"acme": well("acme", paused=True)}) == "It is paused."
    assert what_became(one, {}) == "It is no longer configured."

    several = replace(one, connections=("acme", "globex", "initech", "gone"))
    broken = ill(well("initech"), Cause.IP_RESTRICTED, NOW)
    assert broken.state is State.FAILING
    statuses = {"acme": well("acme"), "globex": well("globex"), "initech": broken}
    assert (
        what_became(several, statuses) == "2 healthy; 1 failing for another reason; 1 no longer configured."
    )


# Whatever happens


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[bool, ...]]:
    """Which of three connections fail, a step of 5 minutes after the other."""
    return draw(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=20, max_size=60))


def lived(receiver: Receiver, life: Sequence[tuple[bool, ...]], step: timedelta) -> None:
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


@settings(deadline=None, max_examples=25)
@given(
    lives(), st.sampled_from([5 * MINUTE, HOUR, REPEAT]), st.lists(st.booleans(), min_size=60, max_size=60)
)
def test_groups_are_sent_at_most_every_five_minutes_and_every_start_has_an_end(
    life: list[tuple[bool, ...]], repeat: timedelta, there: list[bool]
) -> None:
    step = 5 * MINUTE
    receiver = Receiver(repeat=repeat, there=lambda now: there[(now - NOW) // step])

    lived(receiver, life, step)

    ends: Counter[str] = Counter()
    last: dict[str, timedelta] = {}
    for at, message in receiver.taken:
        if not message.alerts:
            ends[message.group] += 1
            assert message.group in last, "an end is told only of what was told"
            del last[message.group]
            continue
        assert at - last.get(message.group, -DAY) >= GROUP_INTERVAL
        last[message.group] = at


@settings(deadline=None, max_examples=25)
@given(lives())
def test_a_lasting_condition_is_reported_whatever_happened_before(
    life: list[tuple[bool, ...]],
) -> None:
    step = 5 * MINUTE
    receiver = Receiver(there=lambda now: (now - NOW) // step % 7 == 0)

    lived(receiver, [*life, *[life[-1]] * 100], step)

    holds = {name for told in receiver.known.values() for name in told.connections}
    failing_now = {f"c{number}" for number, fails in enumerate(life[-1]) if fails}
    assert failing_now <= holds
    assert bool(holds) == bool(failing_now)
