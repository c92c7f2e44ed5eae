"""Several replicas as processes over one PostgreSQL: each check is made once and in time.

The witness is the orgs' login history: it knows nothing of replicas. `make drills` does the same for longer.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from monitor.store.due import ALIVE_SECONDS
from monitor.watch.replicas import UNWATCHED
from tests.end_to_end.drills import Drills
from tests.end_to_end.processes import until
from tests.end_to_end.stage import (
    AT_ONCE_SECONDS,
    MAX_IN_FLIGHT,
    Stage,
    healthy,
    in_state,
    passes,
    stage,
    states,
    wait,
)
from tests.store.postgres import COMMAND

pytestmark = pytest.mark.real(COMMAND, "openssl")

INTERVAL_SECONDS = 10
CONNECTIONS = 120


@pytest.fixture(name="on")
def _on(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path, INTERVAL_SECONDS) as made:
        yield made


def sees_refused(running: object, names: set[str]) -> bool:
    return names <= in_state(running, "failing")  # type: ignore[arg-type]


def test_despite_faults_of_replicas_each_check_runs_once_and_in_time(on: Stage) -> None:
    on.make_orgs([f"c{number}" for number in range(CONNECTIONS)])
    drills = Drills(on, long=False)
    drills.start()
    for running in on.running.values():
        wait(lambda running=running: running.sample("bearerwatch_replicas") == 3, "all to be heard of")
        assert running.sample("bearerwatch_connections_scheduled") == CONNECTIONS
    leading = [running.sample("bearerwatch_replica_leads") for running in on.running.values()]
    assert sorted(leading) == [0, 0, 1]  # type: ignore[type-var] # none is None

    kept = {found.name: (found.kept, str(found)) for found in drills.short()}

    assert {name: text for name, (was, text) in kept.items() if not was} == {}
    on.assert_told_once()
    for running in on.running.values():
        assert running.stop() == 0
    made = sum(len(on.logins(name)) for name in on.names)
    lost = made - sum(on.exchanges_written().values())
    assert 0 <= lost <= 3 * MAX_IN_FLIGHT, "only what was under way in a replica that died or could not write"


def test_a_new_configuration_can_be_rolled_out_replica_by_replica(on: Stage) -> None:
    on.make_orgs([f"c{number}" for number in range(40)])
    names = list(on.names)
    for replica in ("first", "second", "third"):
        on.start(replica)
    for running in on.running.values():
        wait(partial(healthy, running, names), "all healthy")
    since = datetime.now(UTC)

    new = [f"new{number}" for number in range(10)]
    on.make_orgs(new)
    wanted = [*names[:-10], *new]
    for replica in ("first", "second", "third"):
        on.stop(replica)
        on.start(replica, wanted)
        wait(partial(healthy, on.running[replica], new), "the new connections")
    for running in on.running.values():
        wait(lambda running=running: running.sample("bearerwatch_replicas_configurations") == 1, "agreement")
    wait(lambda: on.sql("SELECT count(*) FROM due") == [(len(wanted),)], "what was removed to have no row")
    passes(INTERVAL_SECONDS)

    witness = on.witness(since)
    assert witness.nearer_than(AT_ONCE_SECONDS) == []
    assert witness.longest_gap(but=set(names[-10:]) | set(new)) <= INTERVAL_SECONDS + 15


def test_any_replica_accepts_a_request_to_check_and_the_others_with_the_cause_follow(on: Stage) -> None:
    on.interval_seconds = 3600
    on.make_orgs([f"c{number}" for number in range(12)])
    replicas = [on.start(name) for name in ("first", "second", "third")]
    for one in replicas:
        wait(partial(healthy, one, on.names), "every first check")
        wait(lambda one=one: one.sample("bearerwatch_replicas") == 3, "all to be heard of")

    since = datetime.now(UTC)
    refused = on.refuse(on.names[:8])
    for one in replicas:
        answer = httpx.post(f"{one.url}/api/checks", trust_env=False)
        assert answer.status_code == 202, answer.text
        wait(partial(sees_refused, one, refused), "what was broken")

    on.refuse(on.names[:8], user_active=True)
    follower = next(one for one in replicas if not one.sample("bearerwatch_replica_leads"))
    assert httpx.post(f"{follower.url}/api/connections/c0/check", trust_env=False).status_code == 202
    for one in replicas:
        wait(partial(healthy, one, on.names), "the others with the cause to be seen", patience=60)
    assert on.witness(since).nearer_than(AT_ONCE_SECONDS) == []


def test_a_database_outage_of_over_a_minute_loses_and_repeats_nothing(on: Stage) -> None:
    on.make_orgs([f"c{number}" for number in range(30)])
    under_way, *others = on.names
    replicas = on.start("first"), on.start("second")
    for one in replicas:
        wait(partial(healthy, one, on.names), "every check")

    # It goes while an answer is on its way: what it says is seen, though it can't be written yet.
    before = len(on.logins(under_way))
    on.refuse([under_way], fault="slow")
    until(lambda: len(on.logins(under_way)) > before, "a check to be under way")
    on.server.stop()
    gone = datetime.now(UTC)
    wait(lambda: any(sees_refused(one, {under_way}) for one in replicas), "the check to end")

    # It stays down until all states are unknown.
    refused = on.refuse(others[:5])
    for one in replicas:
        wait(lambda one=one: set(others) <= in_state(one, "unknown"), "the connections to be unwatched")
    away_seconds = (datetime.now(UTC) - gone).total_seconds()
    for one in replicas:
        ready, metrics, page, status = (
            one.page(path) for path in ("/-/ready", "/metrics", "/", "/api/status")
        )
        assert ready
        assert metrics
        assert page
        assert status
        assert (ready.status_code, metrics.status_code) == (503, 503)
        assert "cannot be used" in metrics.text
        assert "cannot be used" in status.json()["daemon"]["store_problem"]
        assert "The database is failing; new results are kept only in memory" in page.text
        assert {states(one)[name] for name in others} == {"unknown"}
    held_until = gone + timedelta(seconds=ALIVE_SECONDS)
    assert away_seconds > UNWATCHED.total_seconds()
    late = {name for name in on.names if on.logins(name)[-1] > held_until}
    assert late == set(), "nobody knows who else looks"

    # It comes back, and so does all else.
    started = datetime.now(UTC)
    on.server.start()
    back = datetime.now(UTC)
    for one in replicas:
        wait(partial(sees_refused, one, refused | {under_way}), "what changed meanwhile")
        wait(partial(healthy, one, [name for name in others if name not in refused]), "all to be watched")
        assert one.sample("bearerwatch_database_reachable") == 1

    for one in replicas:
        assert one.stop() == 0
    witness = on.witness(gone)
    assert witness.nearer_than(AT_ONCE_SECONDS) == []
    first_again = {name: min(at for at in on.logins(name) if at > started) for name in others}
    assert max(first_again.values()) - back <= timedelta(seconds=INTERVAL_SECONDS)
    assert on.exchanges_written() == {name: len(times) for name, times in witness.logins.items()}
    on.assert_told_once()
