"""The daemon as a process: what its operator sees of it, whatever happens."""

import os
import signal
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.processes import (
    Running,
    bearerwatch,
    daemon,
    free_port,
    simulator,
    started,
    until,
)
from tests.end_to_end.watching import connection, exchanges_of, finding_of, findings, up, write

DAY = timedelta(days=1)

FOREIGN = """
  - name: foreign
    login_url: https://org.invalid
    consumer_key: 3MVG9_foreign
    username: integration@foreign.example
    private_key: {{file: {pair}/private-key.pem}}
"""


def kept(running: Running, name: str, cause: str | None = None) -> bool:
    """Whether an exchange with this outcome is in the database, so that a kill can't lose it."""
    page = running.page(f"/api/connections/{name}")
    written = page.json()["connection"]["recent_exchanges"] if page else []
    return any(exchange["cause"] == cause for exchange in written)


@pytest.fixture(name="own_orgs")
def _own_orgs(tmp_path: Path) -> Iterator[httpx.Client]:
    """A simulator of the test's own: its clock is put ahead."""
    with simulator(tmp_path) as control:
        yield control


@pytest.mark.real("openssl", "faketime")
def test_a_decay_and_recovery_are_noticed_across_killed_daemons(
    own_orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    policy = {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * 86_400}
    config = write(tmp_path, connection(own_orgs, pair, "acme", **policy))
    name = {"connection": "acme"}

    with daemon(config) as running:
        until(lambda: up(running, "acme"), "the first grant")
        approved = running.sample("bearerwatch_connection_approval_since_timestamp_seconds", **name)
        exchanges = running.sample("bearerwatch_connection_exchanges_total", **name)
        until(lambda: kept(running, "acme"), "the store to have it")
        running.kill()
    assert exchanges
    assert approved

    own_orgs.post("/_clock", json={"advance_seconds": 20 * 86_400})
    with daemon(config, ahead=20 * DAY) as running:
        until(
            lambda: (running.sample("bearerwatch_connection_exchanges_total", **name) or 0) > exchanges,
            "another grant, counted on from before the kill",
        )
        assert up(running, "acme")
        since = running.sample("bearerwatch_connection_approval_since_timestamp_seconds", **name)
        assert since == pytest.approx(approved, abs=0.01)
        running.kill()

    own_orgs.post("/_clock", json={"advance_seconds": 11 * 86_400})
    with daemon(config, ahead=31 * DAY) as running:
        until(lambda: finding_of(running, "acme") == {"approval_decayed"}, "the decay to be noticed")
        assert not up(running, "acme")
        assert running.sample("bearerwatch_failures_total", cause="approval_decayed") == 1
        assert running.sample("bearerwatch_connection_approval_since_timestamp_seconds", **name) is None
        until(lambda: kept(running, "acme", "approval_decayed"), "the store to have the decay")
        running.kill()

    own_orgs.patch("/_orgs/acme", json={"user_approved": True})
    own_orgs.post("/_clock", json={"advance_seconds": 3600})
    with daemon(config, ahead=31 * DAY + timedelta(hours=1)) as running:
        until(lambda: up(running, "acme"), "the recovery")
        assert finding_of(running, "acme") == set()
        again = running.sample("bearerwatch_connection_approval_since_timestamp_seconds", **name)
        assert again
        assert again > approved + 31 * 86_400
        forecast = running.sample("bearerwatch_connection_approval_forecast_timestamp_seconds", **name)
        assert forecast == pytest.approx(again + 31 * 86_400, abs=86_400)


def test_a_missing_key_is_exported_and_does_not_stop_other_connections(
    orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    broken = connection(orgs, pair, "broken").replace("private-key.pem", "no-such-key.pem")
    config = write(tmp_path, broken, connection(orgs, pair, "well"))

    with daemon(config) as running:
        until(lambda: up(running, "well"), "the connection that is well")
        until(lambda: finding_of(running, "broken") == {"key_unreadable"}, "the finding")
        assert running.sample("bearerwatch_connection_up", connection="broken") == 0
        state = running.sample("bearerwatch_connection_state", connection="broken", state="failing")
        assert state == 1
        assert running.sample("bearerwatch_connections_configured") == 2


def test_a_reload_adds_and_removes_connections_and_a_bad_file_changes_nothing(
    orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    first, second = connection(orgs, pair, "first"), connection(orgs, pair, "second")
    port = free_port()
    config = write(tmp_path, first, port=port, more="web: {enable_reload: true}")

    with daemon(config) as running:
        until(lambda: up(running, "first"), "the first connection")

        more = (
            "web: {enable_reload: true, open_health: false}\nconnections_from: [nowhere/*.yaml]\n"
            "allowed_hosts: [org.invalid]\nmax_in_flight: 5\n"
            "database: postgresql://monitor@db.invalid/bearerwatch"
        )
        vouched_for = FOREIGN.format(pair=pair)
        write(tmp_path, second, vouched_for, port=port, more=more)
        for _ in range(20):
            running.process.send_signal(signal.SIGHUP)
        until(lambda: up(running, "second"), "the second connection")
        until(lambda: finding_of(running, "foreign"), "the connection to the host that is allowed now")
        assert "monitor_fault" not in finding_of(running, "foreign")
        assert running.sample("bearerwatch_connection_up", connection="first") is None
        assert "nowhere/*.yaml matches no file" in running.log.read_text()
        for option in ("max_in_flight", "database", "web.open_health"):
            assert f"{option} has changed; this takes effect after a restart" in running.log.read_text()

        config.write_text("connections: [{name: broken}]\nlisten: nonsense\n")
        answer = httpx.post(f"{running.url}/-/reload", trust_env=False)
        assert answer.status_code == 500
        assert "bearerwatch.yaml:2: listen:" in answer.text
        assert running.sample("bearerwatch_config_last_reload_successful") == 0
        assert up(running, "second")
        page = running.page("/")
        assert page is not None
        assert "configuration" in page.text

        write(tmp_path, first, second, port=port, more="web: {enable_reload: true}")
        until(lambda: up(running, "first"), "the changed file to be noticed without being told")
        assert running.sample("bearerwatch_config_last_reload_successful") == 1


@pytest.mark.real("openssl", "faketime")
def test_setting_the_wall_clock_back_stops_no_checks(orgs: httpx.Client, pair: Path, tmp_path: Path) -> None:
    """A machine boots with a wrong clock, which is corrected while the daemon is running."""
    config = write(tmp_path, connection(orgs, pair, "well"))

    with daemon(config, ahead=DAY) as running:
        until(lambda: up(running, "well"), "an exchange while the clock is wrong")
        running.set_clock(timedelta(0))
        until(lambda: "clock_set_back" in running.log.read_text(), "the clock to be noticed")
        before = exchanges_of(running, "well")

        until(lambda: exchanges_of(running, "well") > before + 1, "exchanges by the right clock")


def test_a_reload_during_the_start_does_not_end_the_daemon(tmp_path: Path) -> None:
    """Its configuration comes by a shell's pipe, which holds the start until it is written."""
    text = write(tmp_path, more=f"database: {tmp_path}/bearerwatch.db").read_text()
    url = f"http://{text.split()[1]}"
    reading, writing = os.pipe()

    with started(
        ["run", "--config", f"/dev/fd/{reading}"], url, tmp_path / "pipe.log", pass_fds=(reading,)
    ) as running:
        os.close(reading)
        until(lambda: handles_hangup(running.process.pid), "the handler of SIGHUP")
        running.process.send_signal(signal.SIGHUP)
        os.write(writing, text.encode())
        os.close(writing)

        until(lambda: running.page("/-/healthy"), "the daemon")


def handles_hangup(pid: int) -> bool:
    """Whether a process has set what it does at SIGHUP, or ignores it."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [
        int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigCgt", "SigIgn"))
    ]
    return any(mask >> (signal.SIGHUP - 1) & 1 for mask in masks)


def test_a_signal_stops_the_daemon_and_its_history_is_kept(
    orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    config = write(tmp_path, connection(orgs, pair, "stopped"))
    name = {"connection": "stopped"}

    with daemon(config) as running:
        until(lambda: up(running, "stopped"), "the first grant")
        counted = running.sample("bearerwatch_connection_exchanges_total", **name)
        assert running.stop() == 0
        assert "Traceback" not in running.log.read_text()

    with daemon(config) as running:
        now = running.sample("bearerwatch_connection_exchanges_total", **name)
        assert now
        assert counted
        assert now >= counted


def test_bytes_that_are_not_a_request_do_not_fill_the_log(tmp_path: Path) -> None:
    """The server's own warning is one line each: anyone who reaches the port could fill the disk."""
    config = write(tmp_path, port=(port := free_port()))

    with daemon(config, "--log-level", "debug") as running:
        before = running.log.read_text()
        for noise in (b"\x16\x03\x01\r\n\r\n", b"GET  \r\nA B\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(noise)
                assert b" 400 " in client.recv(1000)

        assert running.log.read_text() == before


FAULTS = ("slow", "reset", "truncate", "huge", "garbage", "error_500", "retry_your_request")


def test_no_answer_of_an_org_stops_the_daemon_or_other_checks(
    orgs: httpx.Client, pair: Path, tmp_path: Path
) -> None:
    hostile: dict[str, dict[str, object]] = {fault: {"fault": fault} for fault in FAULTS}
    hostile["maintenance"] = {"maintenance": True}
    made = [connection(orgs, pair, name, **settings) for name, settings in hostile.items()]

    with daemon(write(tmp_path, *made, connection(orgs, pair, "beside"))) as running:
        until(lambda: up(running, "beside"), "the connection beside them")
        for name in hostile:
            until(lambda name=name: exchanges_of(running, name), f"the answer: {name}")  # type: ignore[misc]
        scraped = until(running.samples, "a scrape, as the pages limit them")
        causes = {labels["connection"]: labels["cause"] for labels in findings(scraped)}
        for name in hostile.keys() - {"slow"}:
            assert causes[name] == "salesforce_unavailable"
            state = frozenset({("connection", name), ("state", "unknown")})
            assert scraped["bearerwatch_connection_state", state] == 1
        assert running.stop() == 0
        assert "Traceback" not in running.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["run", "--config", "missing.yaml"], "missing.yaml: ", id="no file"),
        pytest.param(["check", "--config", "bad.yaml"], "bad.yaml:1: ", id="a bad file"),
        pytest.param(["check", "nobody", "--config", "good.yaml"], "'nobody'", id="an unknown name"),
        pytest.param(["explain", "missing.json"], "missing.json cannot be read", id="no input"),
        pytest.param(
            ["causes", "approval_dekayed"], "Did you mean 'approval_decayed'?", id="an unknown cause"
        ),
        pytest.param(["keygen", "--out", "keys", "--bits", "1024"], "2048", id="a short key"),
        pytest.param(
            ["run", "--config", "good.yaml", "--log-level", "loud"],
            "Invalid value for '--log-level': 'loud' is not one of debug,",
            id="an unknown level",
        ),
    ],
)
def test_a_configuration_error_is_one_message_and_exit_2(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "bad.yaml").write_text("interval: soon\n")
    (tmp_path / "good.yaml").write_text("connections: []\n")
    (tmp_path / "keys").mkdir()

    ended = bearerwatch(*arguments, folder=tmp_path)

    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_second_daemon_on_one_database_is_one_message_and_exit_3(tmp_path: Path) -> None:
    """Not 2, after which systemd would not retry: the first daemon may be stopping."""
    with daemon(write(tmp_path)) as first:
        ended = bearerwatch("run", "--config", write(tmp_path))
        assert first.page("/-/ready")
        first.kill()
        with daemon(write(tmp_path)):
            pass  # the claim ends with the process, even with one that was killed

    assert ended.returncode == 3
    assert "is in use by another daemon" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_one_message_and_exit_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = write(tmp_path, port=listener.getsockname()[1])
        ended = bearerwatch("run", "--config", config)

    assert ended.returncode == 2
    assert "Cannot listen on" in ended.stderr
    assert "Traceback" not in ended.stderr
