"""`bearerwatch alerts` as a process: active alerts and their sinks, and test alerts through real sockets."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.core.alerts import alerts
from monitor.core.causes import Cause
from monitor.core.telling import due
from monitor.store import Store
from tests.core.fleets import TERMS, ill, snapshot, well
from tests.end_to_end.collector import collector
from tests.end_to_end.processes import bearerwatch

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


FAIL = {"acme": {"tier": "gold"}, "globex": {"tier": "silver"}}


def configured(
    folder: Path,
    *sinks: dict[str, object],
    fail: Mapping[str, dict[str, str]] = FAIL,
    work: Iterable[str] = ("healthy",),
    **general: object,
) -> Path:
    """A configuration with some connections (default: three), and a database in which some fail."""
    names = {**fail, **{name: {} for name in work}}
    listed = [
        {
            "name": name,
            "subdomain": name,
            "consumer_key": f"3MVG9{name}",
            "username": f"integration@{name}.com",
            "private_key": {"file": "key.pem"},
            "certificate": {"file": "cert.pem"},
            "labels": labels,
        }
        for name, labels in names.items()
    ]
    file = folder / "bearerwatch.yaml"
    file.write_text(yaml.safe_dump({"notify": {"sinks": list(sinks)}, "connections": listed, **general}))
    store = Store.open(folder / "bearerwatch.db")
    for name in names:
        status = well(name, NOW)
        if name in fail:
            status = ill(status, Cause.API_DISABLED, NOW - HOUR, NOW)
        store.save(name, status.history)
    assert store.close()
    return file


HOOK: dict[str, object] = {"name": "hook", "type": "webhook", "url": "http://127.0.0.1:1/hook"}


def test_active_alerts_are_listed_with_their_sinks(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        HOOK | {"labels": {"tier": "gold"}},
        HOOK | {"name": "operators", "responsible": ["operator"]},
    )

    done = bearerwatch("alerts", "--config", config)

    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading.split()[0] == "SEVERITY"
    assert all(row.startswith("critical") for row in rows)
    to_one, to_none = (row.rstrip() for row in rows)
    assert to_one.endswith(" hook")
    assert to_none.endswith(" no one")
    assert "2 alerts" in done.stderr


def test_json_has_all_alerts_including_held_back_ones(tmp_path: Path) -> None:
    window = {"start": (NOW - HOUR).isoformat(), "end": (NOW + HOUR).isoformat()}
    config = configured(tmp_path, HOOK, maintenance=[window])

    done = bearerwatch("alerts", "--config", config, "--json")

    first, second = json.loads(done.stdout)
    assert first["labels"]["connection"] == "acme"
    assert first["reaches"] == second["reaches"] == ["hook"]
    assert first["told"] == {}
    assert first["held_back"].startswith("maintenance until ")


def test_sinks_already_notified_are_listed_with_the_time(tmp_path: Path) -> None:
    config = configured(tmp_path, HOOK, HOOK | {"name": "new"})
    store = Store.open(tmp_path / "bearerwatch.db")
    (alert,) = alerts(snapshot(ill(well("acme", NOW), Cause.API_DISABLED, NOW - HOUR), at=NOW), TERMS)
    (message,) = due([alert], {}, {}, holds=TERMS.holds, repeat=HOUR, now=NOW)
    store.tell("hook", {message.group: message.told})
    assert store.close()

    listed = json.loads(bearerwatch("alerts", "--config", config, "--json").stdout)

    told = {alert["labels"]["connection"]: (alert["reaches"], alert["told"]) for alert in listed}
    assert told == {
        "acme": (["hook", "new"], {"hook": NOW.isoformat()}),
        "globex": (["hook", "new"], {}),
    }


def test_without_a_database_there_are_no_alerts_and_none_is_created(tmp_path: Path) -> None:
    config = configured(tmp_path)
    for file in tmp_path.glob("bearerwatch.db*"):
        file.unlink()

    done = bearerwatch("alerts", "--config", config)

    assert (done.returncode, done.stdout) == (0, "")
    assert not list(tmp_path.glob("bearerwatch.db*"))


def test_a_test_alert_reaches_the_sink_and_is_marked(tmp_path: Path) -> None:
    with collector() as told:
        config = configured(tmp_path, HOOK | {"url": told.url}, HOOK | {"name": "away"})

        done = bearerwatch(
            "alerts", "test", "--cause", "approval_decayed", "--to", "hook", "--config", config
        )

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "hook: accepted the test alert.\n")
        (message,) = told.messages
    (alert,) = message["alerts"]
    assert alert["labels"]["drill"] == "true"
    assert alert["labels"]["alertname"] == "BearerwatchApprovalDecayed"
    assert alert["annotations"]["summary"].startswith("DRILL: ")
    assert alert["annotations"]["description"].startswith("This is a test alert")


def test_a_sink_that_refuses_a_test_alert_is_named_and_others_get_it(tmp_path: Path) -> None:
    with collector() as told:
        config = configured(tmp_path, HOOK, HOOK | {"name": "works", "url": told.url})

        done = bearerwatch("alerts", "test", "--cause", "approval_decayed", "--config", config)

        assert len(told.messages) == 1
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "hook: Connection failed or was closed.",
        "works: accepted the test alert.",
    ]


@pytest.mark.parametrize(
    ("sinks", "arguments", "said"),
    [
        ([], ["--cause", "approval_decayed"], "has no sinks: add one under notify."),
        (
            [HOOK],
            ["--cause", "approval_decayed", "--to", "hoook"],
            "No sink is named 'hoook'. Did you mean 'hook'?",
        ),
        ([HOOK], ["--cause", "approval_decay"], "Did you mean 'approval_decayed'?"),
        (
            [HOOK | {"responsible": ["operator"]}],
            ["--cause", "approval_decayed"],
            "No sink accepts approval_decayed: none matches its severity and who must act.",
        ),
    ],
)
def test_a_test_alert_that_cannot_be_sent_says_why(
    tmp_path: Path, sinks: list[dict[str, Any]], arguments: list[str], said: str
) -> None:
    done = bearerwatch("alerts", "test", *arguments, "--config", configured(tmp_path, *sinks))

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_apprise_sink_without_the_package_is_a_configuration_error(tmp_path: Path) -> None:
    config = configured(tmp_path, {"name": "phone", "type": "apprise", "url_from": {"env": "PHONE"}})
    program = (
        "import sys; sys.modules['apprise'] = None; sys.argv = ['bearerwatch', 'config', 'check',"
        f" {str(config)!r}]; from monitor.commands.cli import main; main()"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert 'Install it: pip install "bearerwatch[notify]".' in done.stderr
