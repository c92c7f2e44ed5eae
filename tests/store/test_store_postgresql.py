"""The store on a real PostgreSQL server: it remembers what it remembers in a file, and outlives it."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from monitor.commands.cli.database import database_move
from monitor.core.causes import Cause
from monitor.core.outcome import AfterLogin
from monitor.core.problem import OperatorError
from monitor.store import EXCHANGES_KEPT, UPGRADES, Store, StoreError, Verdict, move, postgresql
from monitor.store.postgresql import LEFT_OPEN_MS, Server
from tests.store.postgres import COMMAND, Postgres, postgres, program
from tests.store.test_store import AUDIT, GRANTED, NOON, REFUSED, TOLD, event, history

VERSION_2 = Path(__file__).parent / "store_v2_postgresql.sql"

pytestmark = pytest.mark.real(COMMAND)


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(name="url")
def _url(server: Postgres) -> str:
    return server.database()


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """A store that never tries again unless it is asked to."""
    with closing(Store.open(url, retry_seconds=(3600, 3600))) as store:
        yield store


def test_everything_stored_survives_a_restart(url: str) -> None:
    saved = replace(
        history(
            REFUSED, cause=Cause.API_DISABLED, after_login=AfterLogin(403, "API_CURRENTLY_DISABLED", "…")
        ),
        failures_by_cause={Cause.API_DISABLED: 3},
        audit=AUDIT,
    )
    told = event(1, failure=True, cause=Cause.API_DISABLED)
    names = ["acme", "A", "a ", "ä", "a'; drop table histories; --", "日本", "%s", "a\nb"]

    with opened(url) as store:
        for name in names:
            store.save(name, saved, (told,))
        assert store.flush(), store.problem

    with opened(url) as store:
        assert store.histories() == dict.fromkeys(names, saved)
        assert store.events("acme", 10) == [("acme", told)]
        assert len(store.events(None, 100)) == len(names)
        [exchange] = store.exchanges("acme")
        assert (exchange.at, exchange.verdict, exchange.cause) == (NOON, Verdict.REFUSED, Cause.API_DISABLED)
        assert [day.refused for day in store.days(names, NOON.date())["acme"]] == [1]


def test_exchanges_events_and_days_are_limited_as_in_a_file(url: str) -> None:
    with opened(url) as store:
        for number in range(1, 3 * EXCHANGES_KEPT):
            at = NOON + timedelta(seconds=number)
            store.save("acme", history(GRANTED, number=number, at=at), (event(number),))
            if number % 40 == 0:
                assert store.flush(), store.problem
        assert store.flush(), store.problem

        assert len(store.exchanges("acme")) == EXCHANGES_KEPT
        assert store.days(["acme"], NOON.date())["acme"][0].granted == 3 * EXCHANGES_KEPT - 1
        assert [told.text for _, told in store.events("acme", 1000)] == [
            event(number).text for number in range(3 * EXCHANGES_KEPT - 1, 2 * EXCHANGES_KEPT - 1, -1)
        ][:50]


def test_text_that_the_server_cannot_store_stops_nothing(url: str) -> None:
    with opened(url) as store:
        store.save("acme", history(GRANTED), (replace(event(), text="nul \0 in it"),))

        assert store.flush(), store.problem
        assert store.events("acme", 1)[0][1].text == "nul \N{REPLACEMENT CHARACTER} in it"


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_names_in_any_script_are_stored_or_the_database_is_refused(server: Postgres, encoding: str) -> None:
    name = f"in_{encoding.lower()}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'")
    if encoding == "LATIN1":
        with pytest.raises(StoreError, match="has the encoding LATIN1"):
            Store.open(server.url(name))
        return

    with opened(server.url(name)) as store:
        store.save("Łódź", history(GRANTED))
        assert store.flush(), store.problem

    with opened(server.url(name)) as store:
        assert list(store.histories()) == ["Łódź"]


def test_settings_of_the_role_do_not_get_in_the_way(server: Postgres) -> None:
    """One loses idle connections, the other two replicas that write at once."""
    url = server.database()
    server.sql("CREATE ROLE strict LOGIN IN ROLE monitor")
    server.sql("ALTER ROLE strict SET idle_session_timeout = '1s'")
    server.sql("ALTER ROLE strict SET default_transaction_isolation = 'repeatable read'")

    how = Server(make_url(url).set(username="strict")).how(writes=True)
    with psycopg.connect(**how) as connection:
        settings = "SELECT current_setting('idle_session_timeout'), current_setting('transaction_isolation')"
        assert connection.execute(settings).fetchone() == ("0", "read committed")


def test_a_new_database_can_be_opened_concurrently(url: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(Store.open, [url] * 8))
    for number, store in enumerate(stores):
        store.save(f"acme {number}", history(GRANTED))

    assert [store.close() for store in stores] == [True] * 8
    with opened(url) as store:
        assert len(store.histories()) == 8


def test_while_the_server_is_down_nothing_is_lost(server: Postgres, url: str) -> None:
    with opened(url) as store:
        store.save("acme", history(GRANTED))
        assert store.flush()
        server.stop()
        try:
            for number in range(2, 1001):
                store.save("acme", history(GRANTED, number=number, at=NOON + timedelta(seconds=number)))
            assert not store.flush()
            assert "cannot be used" in str(store.problem)
        finally:
            server.start()
        assert store.flush()

    with opened(url) as store:
        assert store.histories()["acme"].exchanges == 1000
        assert store.days(["acme"], NOON.date())["acme"][0].granted == 1000


def test_an_unreadable_history_stays_for_other_versions(server: Postgres, url: str) -> None:
    """As in a rolling upgrade: what the newer version wrote must outlive a restart of an older one."""
    name = url.rsplit("/", 1)[1]
    with opened(url) as store:
        store.save("acme", history(GRANTED))
    server.sql("""UPDATE histories SET body = '{"of": "a newer version"}'""", name)

    with opened(url) as store:
        assert store.histories() == {}
        assert "of: Unknown field" in store.unreadable["acme"]

    assert server.sql("SELECT body FROM histories", name) == [('{"of": "a newer version"}',)]


def test_a_replica_without_write_access_to_notifications_is_not_ready(server: Postgres, url: str) -> None:
    """Writes after pending notifications are blocked too: its results would wait forever."""
    name = url.rsplit("/", 1)[1]
    server.sql("CREATE ROLE weak LOGIN; GRANT ALL ON SCHEMA public TO weak", name)
    with opened(url) as store:
        assert store.refused() is None
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES"
    server.sql(
        f"GRANT {rights} IN SCHEMA public TO weak; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO weak", name
    )
    with opened(url.replace("monitor@", "weak@")) as weak:
        assert weak.refused() is None

        server.sql("REVOKE INSERT ON told FROM weak", name)
        assert "permission denied for table told" in str(weak.refused())
        server.sql("GRANT INSERT ON told TO weak", name)
        assert weak.refused() is None
    assert server.sql("SELECT count(*) FROM connections", name) == [(0,)], "what is rehearsed is taken back"


def test_a_replica_that_cannot_write_pending_results_is_not_ready(server: Postgres, url: str) -> None:
    name = url.rsplit("/", 1)[1]
    with opened(url) as store:
        server.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                   " $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '42501'; END $$",
                   name)  # fmt: skip
        server.sql("CREATE TRIGGER refuse BEFORE INSERT ON told FOR EACH ROW WHEN (new.sink = 'sink')"
                   " EXECUTE FUNCTION refuse()", name)  # fmt: skip
        store.tell("sink", {"alert": TOLD})

        assert "not this one" in str(store.refused())


def test_a_replaced_database_keeps_what_others_wrote(server: Postgres, url: str) -> None:
    """Else each replica would write all that it knows over what another has found meanwhile."""
    name = url.rsplit("/", 1)[1]
    with opened(url) as slow:
        slow.save("acme", history(GRANTED, number=1))
        slow.save("only here", replace(history(GRANTED, number=1), audit=AUDIT))
        slow.tell("sink", {"alert": TOLD})
        assert slow.flush()
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.sql(f"CREATE DATABASE {name}")
        with opened(url) as quick:
            quick.save("acme", history(GRANTED, number=2))
            assert quick.flush(), quick.problem

        assert slow.refused() is None

    with opened(url) as store:
        assert {name: found.exchanges for name, found in store.histories().items()} == {
            "acme": 2,
            "only here": 1,
        }
        assert store.histories()["only here"].audit == AUDIT
        assert store.told("sink") == {}


def test_the_last_audit_counts_whichever_replica_made_it(url: str) -> None:
    """Each writes only audits that it has not written before, but others may have written since."""
    later = replace(AUDIT, at=NOON + timedelta(days=1))
    with opened(url) as first, opened(url) as second:
        turns = [
            (first, AUDIT),
            (second, later),
            (first, later),
            (second, None),
            (first, None),
            (second, later),
        ]
        for number, (replica, audit) in enumerate(turns):
            saved = replace(history(GRANTED, number=number), audit=audit)
            replica.save("acme", saved)
            assert replica.flush(), replica.problem

            with opened(url) as store:
                assert store.histories() == {"acme": saved}


def test_a_suspended_writer_does_not_block_others_for_long(url: str) -> None:
    with psycopg.connect(url) as stopped:
        with opened(url) as store:
            stopped.execute("SET idle_in_transaction_session_timeout = 200")
            stopped.execute("SELECT pg_advisory_xact_lock(1650811250)")
            store.save("acme", history(GRANTED))

            assert store.flush(), store.problem
        stopped.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        pytest.param("postgresql://monitor:s3cret@127.0.0.1:1/x", "connection failed", id="nobody there"),
        pytest.param("postgresql://monitor:s3cret@127.0.0.1:{port}/nowhere", "does not exist", id="no such"),
    ],
)
def test_an_unusable_server_is_reported_in_one_sentence_without_its_password(
    server: Postgres, url: str, why: str
) -> None:
    with pytest.raises(StoreError) as raised:
        Store.open(url.format(port=server.port))

    assert why in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_is_cut_off_is_given_up_after_seconds(url: str) -> None:
    """Linux would go on sending for a quarter of an hour."""
    with (
        psycopg.connect(**Server(make_url(url)).how(writes=True)) as link,
        socket.socket(fileno=os.dup(link.fileno())) as handle,
    ):
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == LEFT_OPEN_MS


def test_a_transaction_that_is_given_up_too_late_breaks_no_other_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own may be closed while the timer begins, and a connection to an org gets its number."""
    monkeypatch.setattr(postgresql, "TRANSACTION_WITHIN_SECONDS", 0.5)
    server = Server(make_url(url))
    one, other = socket.socketpair()
    with one, other, server.engine(writes=True).connect() as connection:
        link = connection.connection.driver_connection
        assert link
        number = link.fileno()
        own = os.dup(number)

        def takes_too_long() -> None:
            with server.in_words(), server.writing(connection):
                os.dup2(one.fileno(), number)
                time.sleep(1)
                os.dup2(own, number)
                connection.exec_driver_sql("SELECT 1")

        with pytest.raises(StoreError):
            takes_too_long()
        os.close(own)

        other.send(b"?")
        assert one.recv(1) == b"?"


# From a file


def test_a_file_is_moved_completely(url: str, tmp_path: Path) -> None:
    path = tmp_path / "bearerwatch.db"
    with closing(Store.open(path)) as store:
        for number in range(1, 101):
            at = NOON + timedelta(seconds=number)
            told = event(number, failure=True, at=at, cause=Cause.API_DISABLED)
            store.save("acme", history(REFUSED, number=number, at=at, cause=Cause.API_DISABLED), (told,))
            store.save(f"other {number}", replace(history(GRANTED), audit=AUDIT))
        store.tell("sink", {"alert": TOLD})

    assert move(path, url) == 101

    with closing(Store.open(path)) as old, opened(url) as new:
        assert new.histories() == old.histories()
        assert new.events(None, 1000) == old.events(None, 1000)
        assert new.exchanges("acme") == old.exchanges("acme")
        assert new.days(["acme"], NOON.date()) == old.days(["acme"], NOON.date())
        assert new.told("sink") == old.told("sink")
        new.save("new", history(GRANTED), (event(1, cause=Cause.IP_RESTRICTED),))
        assert new.flush(), new.problem
        assert new.events("new", 1)[0][1].cause is Cause.IP_RESTRICTED

    with pytest.raises(StoreError, match="already has the history of 102 connections"):
        move(path, url)


@pytest.mark.parametrize(("histories", "said"), [(1, "1 history"), (2, "2 histories")])
def test_the_number_of_moved_connections_is_reported(
    url: str, tmp_path: Path, histories: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bearerwatch.db"
    with closing(Store.open(path)) as store:
        for number in range(histories):
            store.save(f"acme {number}", history(GRANTED))

    database_move(path, url)

    assert capsys.readouterr().out == f"Moved {said}, with events and exchanges.\n"


@pytest.mark.parametrize(
    ("source", "to", "why"),
    [
        pytest.param("nowhere.db", "", "the file does not exist", id="no file"),
        pytest.param("bearerwatch.db", "other.db", "must be postgresql://", id="into a file"),
    ],
)
def test_a_database_that_cannot_be_moved_is_reported(tmp_path: Path, source: str, to: str, why: str) -> None:
    Store.open(tmp_path / "bearerwatch.db").close()

    with pytest.raises(StoreError, match=why):
        move(tmp_path / source, str(tmp_path / to))


def test_a_password_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """Everyone on the machine could read it in the list of processes."""
    with pytest.raises(OperatorError, match="--to contains a password") as refused:
        database_move(tmp_path / "bearerwatch.db", "postgresql://monitor:hunter2@127.0.0.1/bearerwatch")

    assert "hunter2" not in str(refused.value)


def test_a_file_that_a_daemon_uses_is_not_moved(url: str, tmp_path: Path) -> None:
    path = tmp_path / "bearerwatch.db"
    with closing(Store.open(path, alone=True)) as store:
        store.save("acme", history(GRANTED))
        assert store.flush(), store.problem
        with pytest.raises(StoreError, match="in use by a daemon"):
            move(path, url)

    assert move(path, url) == 1


def test_daemons_can_share_the_database(url: str) -> None:
    with closing(Store.open(url, alone=True)), closing(Store.open(url, alone=True)) as second:
        second.save("acme", history(GRANTED))
        assert second.flush(), second.problem


def test_an_upgraded_database_equals_a_new_one(server: Postgres, url: str) -> None:
    old = server.database()
    with psycopg.connect(old) as connection:
        connection.execute(VERSION_2.read_text())

    for one in (old, old, url):
        with closing(Store.open(one)) as store:
            assert store.histories().keys() == ({"a"} if one == old else set())

    rows = (
        "SELECT c.name, d.due_at > now(), d.epoch, d.version, d.job FROM due d JOIN connections c ON c.id ="
    )
    assert server.sql(f"{rows} d.connection_id ORDER BY 1", old.rsplit("/", 1)[1]) == [
        ("a", True, 0, "v1", None),
        ("b", False, 1, "v1", None),
    ]
    assert shape(old) == shape(url)
    done = [
        name for (name,) in server.sql("SELECT name FROM engine_migrations ORDER BY 1", url.rsplit("/", 1)[1])
    ]
    theirs = files("procrastinate.sql").joinpath("migrations").iterdir()
    assert done == sorted(file.name for file in theirs if file.name.endswith(".sql"))


def test_a_new_version_of_the_engine_needs_a_new_schema_version() -> None:
    """A release of the engine may bring migrations. Then ours needs a step too (`UPGRADES` in
    `schema`), which may do nothing: by its version replicas know that they are too old for the tables.
    """
    theirs = files("procrastinate.sql").joinpath("migrations").iterdir()
    names = sorted(file.name for file in theirs if file.name.endswith(".sql"))

    assert (len(UPGRADES["postgresql"]), len(names), names[-1]) == (
        3,
        38,
        "03.04.00_50_post_add_retry_failed_job_procedure.sql",
    )


def test_the_engines_tables_equal_its_own_schema(server: Postgres, url: str) -> None:
    Store.open(url).close()
    theirs = server.database()
    with psycopg.connect(theirs) as connection:
        connection.execute(files("procrastinate.sql").joinpath("schema.sql").read_text())

    assert shape(url, "--table=procrastinate*") == shape(theirs, "--table=procrastinate*")


def shape(url: str, *options: str) -> list[str]:
    """All that a database is but its rows, as pg_dump has it; columns in the order of their names."""
    dump = subprocess.run(
        [program("pg_dump"), "--schema-only", *options, url], check=True, capture_output=True, text=True
    )
    return sorted(line.rstrip(",") for line in dump.stdout.splitlines() if not line.startswith("\\"))
