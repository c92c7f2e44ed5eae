"""Appointments that replicas keep together, on a real PostgreSQL: who may check, and whose word holds."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from monitor.store import Store, StoreError
from monitor.store.appointments import Appointments, Configured, Heard, Taken, Word
from monitor.store.waiting import Turn, milliseconds
from tests.end_to_end.processes import until
from tests.postgres import COMMAND, Postgres, Proxy, postgres
from tests.test_store import GRANTED, event, history

pytestmark = pytest.mark.real(COMMAND)

PAST = datetime(2026, 1, 1, tzinfo=UTC)
FUTURE = datetime(2126, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(name="url")
def _url(server: Postgres) -> str:
    """A database in which the store's tables are made."""
    url = server.database()
    Store.open(url).close()
    return url


@dataclass
class Replica:
    """A replica that has these connections configured."""

    name: str
    url: str
    configured: Mapping[str, Configured]
    appointments: Appointments = field(init=False)

    def __post_init__(self) -> None:
        self.appointments = Appointments.open(self.url, self.name)

    def word(
        self,
        wanted: Mapping[str, datetime] | None = None,
        *,
        room: int = 100,
        busy: tuple[str, ...] = (),
        judges: bool = True,
        reconcile: bool = False,
        configuration: str = "one",
        budget: int = 60,
        given_back: Mapping[str, Turn] | None = None,
    ) -> Heard:
        return self.appointments.say(
            Word(
                configuration,
                self.configured,
                budget,
                wanted=wanted or {},
                busy=busy,
                given_back=given_back or {},
                room=room,
                judges=judges,
                reconcile=reconcile,
            )
        )

    def turn(self, taken: Taken, due: datetime = FUTURE) -> Turn:
        return Turn(taken.epoch, milliseconds(due), self.name)


def configured(*names: str, version: str = "v1") -> dict[str, Configured]:
    return {name: Configured(version, "one@acme.com") for name in names}


def due(*names: str) -> dict[str, datetime]:
    return dict.fromkeys(names, PAST)


def names_of(found: Heard) -> set[str]:
    return {taken.name for taken in found.taken}


def forget(server: Postgres, url: str, replica: str) -> None:
    """Let a replica be one that was not heard of for long."""
    server.sql(f"UPDATE replicas SET seen_ms = seen_ms - 60000 WHERE id = '{replica}'", url.split("/")[-1])


def test_what_is_due_is_taken_by_one_alone(url: str) -> None:
    first, second = (Replica(name, url, configured("a", "b", "c")) for name in ("first", "second"))
    first.word(due("a", "b") | {"c": FUTURE}, room=0)

    assert names_of(first.word(room=1, reconcile=True)) < {"a", "b"}
    assert len(names_of(second.word())) == 1
    assert names_of(first.word(busy=("a", "b"))) == set()


def test_a_result_is_written_with_the_next_appointment_and_heard_by_the_others(url: str) -> None:
    first, second = (Replica(name, url, configured("a")) for name in ("first", "second"))
    [taken] = first.word(due("a")).taken
    second.word()
    found = history(GRANTED)

    with closing(Store.open(url)) as store:
        store.save("a", found, (event(),), first.turn(taken))
        assert store.flush(), store.problem

    heard = second.word()
    assert heard.news["a"].history == found
    assert heard.news["a"].due == FUTURE
    assert heard.taken == []
    assert second.word().news == {}
    assert first.word().news == {}, "its own result is no news"


def test_the_dead_are_inherited_from_and_their_late_word_counts_for_nothing(
    server: Postgres, url: str
) -> None:
    dead, alive = (Replica(name, url, configured("a")) for name in ("dead", "alive"))
    [late] = dead.word(due("a")).taken
    assert names_of(alive.word()) == set()

    forget(server, url, "dead")
    assert names_of(alive.word(judges=False)) == set(), "who has just come does not judge the others"
    [taken] = alive.word().taken
    assert taken.epoch == late.epoch + 1

    with closing(Store.open(url)) as store:
        store.save("a", history(GRANTED, number=7), (event(7),), dead.turn(late))
        assert store.flush()
        assert store.events("a", 10) == []
        assert store.exchanges("a") == []
        store.save("a", history(GRANTED, number=8), (event(8),), alive.turn(taken))
        assert store.flush()
        assert [told.text for _, told in store.events("a", 10)] == [event(8).text]
    with closing(Store.open(url)) as store:
        assert store.histories()["a"].exchanges == 8


def test_who_is_cut_off_in_the_middle_of_an_answer_holds_up_nobody_for_long(
    server: Postgres, url: str
) -> None:
    names = [f"c{number}" for number in range(6_000)]  # several megabytes of news
    first = Replica("first", url, configured(*names))
    first.word(due(*names), room=0)
    with closing(Store.open(url)) as store:
        for taken in first.word(room=len(names), budget=len(names)).taken:
            store.save(taken.name, history(GRANTED), (), first.turn(taken))
        assert store.flush(60), store.problem
    proxy = Proxy(server.port, answers_at_most=200_000)
    through = url.replace(f":{server.port}/", f":{proxy.port}/")

    with closing(proxy), ThreadPoolExecutor(1) as beside:
        cut_off = beside.submit(Replica("second", through, configured(*names)).word)
        until(lambda: not proxy.open.is_set(), "the answer to be under way")

        with suppress(StoreError):
            first.word()  # it may have to wait for too long, once
        heard = first.word()

        assert heard.alive[0] == "first"
        assert isinstance(cut_off.exception(), StoreError)


def test_what_was_written_without_an_answer_is_not_written_twice(url: str) -> None:
    """As when the server stops between a commit and its answer: the store tries again when it is back."""
    replica = Replica("one", url, configured("a"))
    [taken] = replica.word(due("a")).taken

    for _ in range(2):
        with closing(Store.open(url)) as store:
            store.save("a", history(GRANTED), (event(),), replica.turn(taken))
            assert store.flush()

    with closing(Store.open(url)) as store:
        assert len(store.events("a", 10)) == 1
        assert [day.granted for day in store.days(["a"], PAST.date())["a"]] == [1]


def test_what_is_still_busy_here_is_left_to_the_others(url: str) -> None:
    """As when another one took it over, checked it, and gave it free, while our check was under way."""
    first, second = (Replica(name, url, configured("a")) for name in ("first", "second"))
    [taken] = first.word(due("a")).taken
    with closing(Store.open(url)) as store:
        store.save("a", history(GRANTED), (), first.turn(taken, PAST))
        assert store.flush()

    assert names_of(first.word(busy=("a",))) == set()
    assert names_of(second.word()) == {"a"}


def test_who_takes_gets_what_is_remembered_then(url: str) -> None:
    first, second = (Replica(name, url, configured("a")) for name in ("first", "second"))
    [taken] = first.word(due("a")).taken
    assert taken.known is None
    with closing(Store.open(url)) as store:
        store.save("a", history(GRANTED, number=3), (), first.turn(taken, PAST))
        assert store.flush()

    [again] = second.word().taken

    assert again.known == history(GRANTED, number=3)


def test_what_is_held_without_knowing_it_is_taken_again(url: str) -> None:
    """As when the connection broke before the answer to the taking came."""
    replica = Replica("one", url, configured("a"))
    [lost] = replica.word(due("a")).taken

    [found] = replica.word().taken

    assert found.epoch == lost.epoch + 1


def test_the_login_budget_is_one_for_all(url: str) -> None:
    names = [f"c{number}" for number in range(8)]
    first, second = (Replica(name, url, configured(*names)) for name in ("first", "second"))
    first.word(due(*names), room=0)

    found = first.word(room=4, budget=5), second.word(room=4, budget=5)

    assert [len(one.taken) for one in found] == [4, 1]
    assert [one.deferred for one in found] == [0, 3]
    later = second.word(budget=5, busy=tuple(names_of(found[1])))
    assert (later.taken, later.deferred) == ([], 0), "what was put off is due in an hour"


def test_all_hear_of_a_check_that_is_put_off(url: str) -> None:
    """Else it would seem late to all of them, up to an hour."""
    first, second = (Replica(name, url, configured("a", "b")) for name in ("first", "second"))
    taken = first.word(due("a", "b"), budget=2).taken
    second.word()
    with closing(Store.open(url)) as store:
        for one in taken:
            store.save(one.name, history(GRANTED), (), first.turn(one, PAST))
        assert store.flush(), store.problem
    second.word(room=0)

    found = first.word(budget=2)
    heard = second.word(room=0)

    assert found.deferred == 2
    for news in (found.news, heard.news):
        assert {name: one.history for name, one in news.items()} == dict.fromkeys("ab", history(GRANTED))
        assert min(one.due for one in news.values()) > datetime.now(UTC) + timedelta(minutes=50)
    assert first.word(room=0).news == {}


def test_a_username_is_one_however_it_is_written(url: str) -> None:
    users = {"a": Configured("v1", "one@acme.com"), "b": Configured("v1", "One@Acme.com")}
    replica = Replica("one", url, users)
    replica.word(due("a", "b"), room=0)

    found = replica.word(budget=1)

    assert (len(found.taken), found.deferred) == (1, 1)


def test_tries_of_next_keys_have_a_budget_of_their_own_that_is_one_for_all(url: str) -> None:
    first, second = (Replica(name, url, configured("a")).appointments for name in ("first", "second"))

    tries = [
        replica.take_next_key(username, 3)
        for username in ("one@acme.com", "One@Acme.com")
        for replica in (first, second)
    ]

    assert tries == [True, True, True, False]
    assert first.take_next_key("two@acme.com", 3)
    assert names_of(Replica("third", url, configured("a")).word(due("a"), budget=1)) == {"a"}


def test_a_turn_that_is_given_back_is_free_again(url: str) -> None:
    first, second = (Replica(name, url, configured("a")) for name in ("first", "second"))
    [taken] = first.word(due("a")).taken

    first.word(given_back={"a": first.turn(taken, PAST)}, busy=("a",), room=0)

    assert names_of(second.word()) == {"a"}


def test_reconciling_makes_what_lacks_and_removes_what_nobody_wants(server: Postgres, url: str) -> None:
    first = Replica("first", url, configured("a", "b"))
    first.word(dict.fromkeys("ab", FUTURE), room=0)
    server.sql("DELETE FROM appointments WHERE connection_id = 1", url.split("/")[-1])
    second = Replica("second", url, configured("b", "c"))

    assert first.word(reconcile=True, room=0).scheduled == 1
    assert first.word(reconcile=True, room=0).scheduled == 2
    found = second.word(reconcile=True, room=0, configuration="two")
    assert found.configurations == 2
    assert second.word(reconcile=True, room=0, configuration="two").scheduled == 2
    assert first.word(reconcile=True, room=0).scheduled == 2, "a replica that differs takes nothing away"

    forget(server, url, "first")
    second.word(reconcile=True, room=0, configuration="two")
    rows = server.sql(
        "SELECT name FROM appointments a JOIN connections c ON c.id = a.connection_id ORDER BY name",
        url.split("/")[-1],
    )
    assert rows == [("b",), ("c",)]


def test_a_connection_is_checked_as_the_newest_configuration_has_it(url: str) -> None:
    old = Replica("old", url, configured("a"))
    old.word({"a": FUTURE}, room=0)
    new = Replica("new", url, configured("a", version="v2"))
    new.word(due("a"), room=0)

    assert names_of(old.word()) == set()
    assert names_of(new.word()) == {"a"}


def test_who_signs_off_gives_everything_back(url: str) -> None:
    first, second = (Replica(name, url, configured("a")) for name in ("first", "second"))
    first.word(due("a"))

    first.appointments.leave()

    found = second.word()
    assert names_of(found) == {"a"}
    assert found.alive == ("second",)


def test_the_eldest_leads(server: Postgres, url: str) -> None:
    replicas = [Replica(name, url, {}) for name in ("z", "b", "a")]
    for replica in replicas:
        replica.word()
    server.sql("UPDATE replicas SET started_ms = started_ms - 60000 WHERE id = 'z'", url.split("/")[-1])

    assert {replica.word().alive[0] for replica in replicas} == {"z"}
    replicas[0].appointments.leave()
    assert {replica.word().alive[0] for replica in replicas[1:]} < {"a", "b"}


def test_sooner_is_for_those_who_have_been_there(url: str) -> None:
    replica = Replica("one", url, configured("a"))
    replica.word({"a": FUTURE}, room=0)
    assert names_of(replica.word(due("a"))) == {"a"}

    began = Replica("two", url, configured("a"))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    began.appointments.say(
        Word("one", began.configured, 60, wanted={"a": yesterday}, sooner=False, reconcile=True)
    )
    assert names_of(began.word()) == set()
