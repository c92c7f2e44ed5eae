"""What `bearerwatch recheck` takes for the result of a check."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.commands.cli import app
from monitor.commands.running import NoAnswerError, Running, Shown, rechecked
from tests.http_server import Quiet, serving

BEFORE: dict[str, Any] = {"findings": [], "exchanges": 5, "last_exchange": "2026-11-23T12:00:00Z"}


class Showing(Running):
    """A daemon that shows these states of one connection, one after the other."""

    def __init__(self, *states: Shown, put_off: dict[str, str] | None = None) -> None:
        self._states, self._put_off = iter(states), put_off or {}

    def shown(self) -> dict[str, Shown]:
        return {"acme": next(self._states)}

    def ask(self, path: str) -> dict[str, str]:
        return self._put_off


class Refusing(Running):
    """A daemon that shows a broken connection, and refuses these requests, with these reasons."""

    def __init__(self, **reasons: str) -> None:
        self._reasons, self.asked = reasons, list[str]()

    def shown(self) -> dict[str, Shown]:
        return {"broken": BEFORE | {"findings": [{"cause": "api_disabled"}]}}

    def ask(self, path: str) -> dict[str, str]:
        self.asked.append(path)
        for part, reason in self._reasons.items():
            if part in re.split("[/?]", path):
                raise NoAnswerError(reason)
        return {}


def refused(daemon: Refusing, names: str, *causes: str) -> dict[str, str]:
    return rechecked(daemon, list(names), causes, lambda _: None, within=0)[1]


def test_what_the_daemon_refuses_for_all_is_one_error_and_else_said_of_each() -> None:
    with pytest.raises(NoAnswerError, match="Starting checks here is disabled"):
        refused(Refusing(a="Starting checks here is disabled.", b="Starting checks here is disabled."), "ab")

    reasons = {"a": "a is paused.", "b": "b is paused."}
    assert refused(Refusing(**reasons), "ab") == reasons
    assert refused(Refusing(a="a is paused."), "ab") == {"a": "a is paused."}


def test_a_refused_cause_does_not_keep_named_connections_from_their_check() -> None:
    daemon = Refusing(checks="No login is left.")

    assert refused(daemon, "a", "api_disabled") == {"broken": "No login is left."}
    assert "/api/connections/a/check" in daemon.asked
    with pytest.raises(NoAnswerError, match="No login is left"):
        refused(daemon, "", "api_disabled")


def test_a_check_that_could_send_nothing_is_a_result() -> None:
    unsent = BEFORE | {"last_exchange": "2026-11-23T12:05:00Z"}

    assert rechecked(Showing(BEFORE, BEFORE, unsent), ["acme"], [], lambda _: None) == (
        {"acme": unsent},
        {},
        [],
    )


def test_a_check_within_the_same_second_is_a_result() -> None:
    refused = BEFORE | {"exchanges": 6}

    assert rechecked(Showing(BEFORE, refused), ["acme"], [], lambda _: None) == (
        {"acme": refused},
        {},
        [],
    )


def test_a_check_that_is_put_off_is_not_waited_for() -> None:
    put_off = {"acme": "2026-11-23T12:40:00Z"}

    late = {"acme": "No login is left for checks on request until 2026-11-23T12:40:00Z."}
    assert rechecked(Showing(BEFORE, put_off=put_off), ["acme"], [], lambda _: None) == ({}, late, [])


def test_a_connection_with_the_cause_that_is_not_checked_in_time_is_reported() -> None:
    broken = BEFORE | {"findings": [{"cause": "api_disabled"}]}

    late = rechecked(Showing(broken), [], ["api_disabled"], lambda _: None, within=0)

    assert late == ({}, {}, ["acme"])


def test_a_url_that_is_none_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    config = tmp_path / "bearerwatch.yaml"
    config.write_text("connections: []")

    arguments = ["recheck", "--cause", "api_disabled", "--url", "http://[::1", "--config", str(config)]
    ended = CliRunner().invoke(app, arguments)

    assert ended.exit_code == 2
    assert ended.stderr.startswith("http://[::1 is not a URL")


@pytest.mark.parametrize("url", ["HTTP://127.0.0.1:9", "http://..", f"http://{'a' * 64}", "http://xn--a"])
def test_a_host_that_cannot_be_one_is_an_error_and_not_a_crash(tmp_path: Path, url: str) -> None:
    config = tmp_path / "bearerwatch.yaml"
    config.write_text("connections: []")

    ended = CliRunner().invoke(
        app, ["recheck", "--cause", "api_disabled", "--url", url, "--config", str(config)]
    )

    assert ended.exit_code == 2
    assert ended.stderr.startswith(f"No daemon answers at {url}")


@pytest.mark.parametrize("url", ["http://op:hunter2@127.0.0.1:9877", "127.0.0.1:9877", "ftp://127.0.0.1"])
def test_a_url_with_a_password_or_of_another_kind_is_refused_without_repeating_it(
    tmp_path: Path, url: str
) -> None:
    config = tmp_path / "bearerwatch.yaml"
    config.write_text("connections: []")

    ended = CliRunner().invoke(
        app, ["recheck", "--cause", "api_disabled", "--url", url, "--config", str(config)]
    )

    assert ended.exit_code == 2
    assert ended.stderr.startswith("--url must be a plain URL")
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("said", [b"\x1b[2JNo entry.\n", b'{"error": "\\u001b[2JNo entry."}'])
def test_what_another_server_says_cannot_control_the_terminal(tmp_path: Path, said: bytes) -> None:
    class Elsewhere(Quiet):
        def answer(self) -> None:
            self.say(403, said)

    config = tmp_path / "bearerwatch.yaml"
    config.write_text("connections: []")

    with serving(Elsewhere) as url:
        ended = CliRunner().invoke(
            app, ["recheck", "--cause", "api_disabled", "--url", url, "--config", str(config)]
        )

    assert ended.stderr == f"{url} answers 403: No entry.\n"


def test_a_page_of_another_server_is_not_printed(tmp_path: Path) -> None:
    class Proxy(Quiet):
        def answer(self) -> None:
            self.say(502, b"<html><body>No upstream</body></html>", Content_Type="text/html")

    config = tmp_path / "bearerwatch.yaml"
    config.write_text("connections: []")

    with serving(Proxy) as url:
        ended = CliRunner().invoke(
            app, ["recheck", "--cause", "api_disabled", "--url", url, "--config", str(config)]
        )

    assert ended.stderr == f"{url} answers 502: Bad Gateway\n"


def test_no_daemon_is_said_with_the_reason_in_words(tmp_path: Path) -> None:
    config = tmp_path / "bearerwatch.yaml"
    config.write_text("connections: []")

    ended = CliRunner().invoke(
        app, ["recheck", "--cause", "api_disabled", "--url", "http://127.0.0.1:1", "--config", str(config)]
    )

    assert ended.exit_code == 2
    assert ended.stderr.startswith("No daemon answers at http://127.0.0.1:1 (Connection refused). ")


def test_what_the_daemon_refuses_is_an_error_if_nothing_else_was_to_be_checked() -> None:
    with pytest.raises(NoAnswerError, match="Checks are off"):
        rechecked(Refusing(checks="Checks are off."), [], ["key_unreadable"], lambda _: None)
