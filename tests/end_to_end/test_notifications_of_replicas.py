"""Two replicas and a webhook: no duplicates, even after a takeover."""

from pathlib import Path

import psycopg
import pytest
import yaml

from tests.end_to_end.collector import collector
from tests.end_to_end.processes import Running, daemon, free_port, simulator, until
from tests.end_to_end.test_notifications import NAMES, remembered, sink, told_of_those_that_are_refused
from tests.store.postgres import COMMAND, postgres

pytestmark = pytest.mark.real(COMMAND)


def is_written(database: object) -> bool:
    """Whether the database has recorded the message: a kill before that repeats it."""
    with psycopg.connect(str(database)) as connection:
        return len(connection.execute("SELECT 1 FROM told").fetchall()) == len(NAMES)


def leads(running: Running) -> bool:
    return running.sample("bearerwatch_replica_leads") == 1


def test_a_finding_is_sent_by_one_replica_and_not_again_by_its_successor(tmp_path: Path) -> None:
    with postgres() as server, simulator(tmp_path) as orgs, collector() as told, collector() as another:
        options = {
            "database": server.database(),
            **told_of_those_that_are_refused(tmp_path, orgs, told),
        }

        def config(replica: str) -> Path:
            path = tmp_path / f"{replica}.yaml"
            listen = {"listen": f"127.0.0.1:{free_port()}"}
            path.write_text(yaml.safe_dump(listen | options, sort_keys=False))
            return path

        remembered(config("before"))
        with daemon(config("elder")) as elder, daemon(younger_config := config("younger")) as younger:
            until(lambda: len(told.messages) == len(NAMES), "the messages")
            until(lambda: is_written(options["database"]), "that it is remembered")
            until(lambda: younger.sample("bearerwatch_replicas") == 2, "both to live")
            assert leads(elder)
            assert not leads(younger)

            elder.kill()
            until(lambda: leads(younger), "the other to take over")
            # New sinks come after existing ones.
            before = yaml.safe_load(younger_config.read_text())
            before["notify"]["sinks"].append(sink("another", another.url))
            younger_config.write_text(yaml.safe_dump(before, sort_keys=False))
            until(lambda: len(another.messages) == len(NAMES), "what the new receiver is told")
            assert younger.stop() == 0
        assert len(told.messages) == len(NAMES)
