"""The commands as a shell runs them: what goes to stdout, what to stderr, exit codes, completion."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.core.causes import Cause
from monitor.keys import keygen
from tests.end_to_end.processes import bearerwatch, bound_by_modes, simulator
from tests.making import NOW

NAMES = ("acme", "globex")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two configurations: one in which all is well, and one with a key that is not there."""
    folder = tmp_path_factory.mktemp("commands")
    pair = keygen.generate(folder, now=NOW)
    with simulator(folder) as control:
        connections = ""
        for name in NAMES:
            settings = {
                "consumer_key": f"3MVG9_{name}",
                "username": f"integration@{name}.example",
                "certificate": pair.certificate_path.read_text(),
            }
            control.put(f"/_orgs/{name}", json=settings).raise_for_status()
            connections += f"""
  - name: {name}
    login_url: {str(control.base_url).rstrip("/")}/{name}
    consumer_key: 3MVG9_{name}
    username: integration@{name}.example
    private_key: {{file: {pair.key_path.name}}}
"""
        without_api = settings | {"api_enabled": False}
        control.put("/_orgs/without-api", json=without_api).raise_for_status()
        moved = connections[connections.rindex("\n  - ") :].replace("/globex", "/without-api")
        (folder / "asked.yaml").write_text(f"connections:{moved}")
        (folder / "unasked.yaml").write_text(f"connections:{moved}    after_login: false\n")
        (folder / "well.yaml").write_text(f"connections:\n{connections}")
        elsewhere = connections[: connections.index("\n  - ", 1)].replace("3MVG9_acme", "3MVG9_misspelt")
        (folder / "misspelt.yaml").write_text(f"connections:{elsewhere}")
        (folder / "keyless.yaml").write_text(
            f"connections:\n{connections}".replace(f"file: {pair.key_path.name}", "file: nowhere.pem", 1)
        )
        yield folder


def test_check_makes_the_first_rest_call_too_unless_the_configuration_says_not_to(folder: Path) -> None:
    asked = bearerwatch("check", "--json", "--config", "asked.yaml", folder=folder)
    unasked = bearerwatch("check", "--json", "--config", "unasked.yaml", folder=folder)

    assert asked.returncode == 1
    assert "api_disabled" in asked.stdout
    assert unasked.returncode == 0
    assert "api_disabled" not in unasked.stdout


def test_check_does_not_treat_a_first_refusal_as_settling(folder: Path) -> None:
    ended = bearerwatch("check", "--json", "--config", "misspelt.yaml", folder=folder)

    (verdict,) = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert (verdict["state"], verdict["cause"]) == ("failing", "consumer_key_unknown")
    assert "propagation_pending" in [other["cause"] for other in verdict["alternatives"]]


def test_check_prints_one_line_each_and_a_summary(folder: Path) -> None:
    ended = bearerwatch("check", "--config", "well.yaml", folder=folder)

    assert ended.returncode == 0
    assert [line.split() for line in ended.stdout.splitlines()[1:]] == [["healthy", name] for name in NAMES]
    assert ended.stderr == "\n2 connections: 2 healthy\n"


def test_check_of_a_connection_named_twice_checks_it_once(folder: Path) -> None:
    ended = bearerwatch("check", "acme", "acme", "--json", "--config", "well.yaml", folder=folder)

    assert [each["connection"] for each in json.loads(ended.stdout)] == ["acme"]


def test_check_of_a_failing_connection_exits_1_and_names_the_next_command(folder: Path) -> None:
    ended = bearerwatch("check", "--config", "keyless.yaml", folder=folder)

    assert ended.returncode == 1
    assert ended.stdout.splitlines()[1].split()[:2] == ["failing", "acme"]
    assert ended.stderr.endswith("Details of a connection: bearerwatch check acme --config keyless.yaml\n")


def test_check_quiet_is_silent_if_all_are_healthy(folder: Path) -> None:
    ended = bearerwatch("check", "--quiet", "--config", "well.yaml", folder=folder)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_check_json_prints_only_json(folder: Path) -> None:
    ended = bearerwatch("check", "--json", "--config", "keyless.yaml", folder=folder)

    assert {each["connection"]: each["state"] for each in json.loads(ended.stdout)} == {
        "acme": "failing",
        "globex": "healthy",
    }
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["causes"],
        ["causes", "approval_decayed"],
        ["explain", "answer.txt"],
        ["keygen", "--out", "."],
        ["config", "check", "well.yaml"],
    ],
    ids=" ".join,
)
def test_commands_without_network_or_database_do_not_wait_for_them(
    tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "answer.txt").write_text("invalid_grant: user hasn't approved this consumer")
    (tmp_path / "well.yaml").write_text("connections: []")

    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "monitor", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if "|" in line}
    assert "monitor.commands.cli" in imported
    assert not imported & {"httpx", "sqlalchemy", "starlette", "structlog", "uvicorn"}


def test_a_preflight_does_not_wait_for_a_database() -> None:
    modules = "import sys, monitor.commands.preflight; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", modules], capture_output=True, text=True, check=True)

    assert "monitor.salesforce.exchange" in loaded.stdout.split()
    assert "sqlalchemy" not in loaded.stdout.split()


def test_an_unsupported_system_is_one_clear_message(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os, monitor.__main__ as m; os.name = 'nt'; m.main()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 1
    assert (
        ended.stderr == "bearerwatch runs on Linux and macOS. On Windows, run it in WSL or in a container.\n"
    )


@pytest.mark.parametrize("module", ["typer", "monitor.daemon.daemon"])
def test_ctrl_c_while_a_command_starts_shows_no_traceback(folder: Path, module: str) -> None:
    """The process interrupts itself in the middle of its imports: no other process could hit the moment."""
    interrupted = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # the tests may run in the background
        f"hook = lambda event, args: event == 'import' and args[0] == {module!r} and"
        " signal.raise_signal(signal.SIGINT)\n"  # not to another thread, which could be late
        "sys.addaudithook(hook)\n"
        "sys.argv[1:] = ['run', '--config', 'well.yaml']\n"
        "from monitor.__main__ import main\n"
        "main()\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", interrupted],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 128 + signal.SIGINT
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("arguments", "code"), [(["causes"], 0), (["causes", "no_such"], 2)])
def test_a_command_exits_cleanly_despite_its_libraries_threads(arguments: list[str], code: int) -> None:
    program = (
        "import atexit, sys; atexit.register(print, 'taken apart');"
        f" sys.argv = ['bearerwatch', *{arguments}]; from monitor.__main__ import main; main()"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert done.stdout or done.stderr
    assert "taken apart" not in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk to write to, which Linux has")
@pytest.mark.parametrize("arguments", [["causes", "approval_decayed"], ["causes"], ["config", "schema"]])
def test_output_that_cannot_be_written_is_one_clear_message(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "monitor", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (
        1,
        "The output could not be written: No space left on device.\n",
    )


@pytest.mark.parametrize("arguments", [["--help"], ["report", "--config", "well.yaml", "--month", "2026-11"]])
def test_what_a_locale_cannot_show_is_no_crash(folder: Path, arguments: list[str]) -> None:
    done = bearerwatch(*arguments, folder=folder, PYTHONIOENCODING="ascii")

    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr


@pytest.mark.parametrize(
    "arguments", ["explain", "preflight --subdomain a --consumer-key b --username c@d.e --private-key -"]
)
def test_a_closed_stdin_is_empty(arguments: str) -> None:
    shell = f"exec <&-; exec {sys.executable} -m monitor {arguments}"

    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr in {
        "The input is empty: paste a JSON record or an error text.\n",
        "There is no private key on stdin.\n",
    }


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_output_stream_is_not_an_error(closed: int) -> None:
    shell = f"exec {closed}>&-; exec {sys.executable} -m monitor causes"

    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert not done.stderr


@pytest.fixture(name="private")
def _private(tmp_path: Path) -> Iterator[Path]:
    """A directory that others may not look into, as the daemon's, and a configuration that needs it."""
    private = tmp_path / "private"
    private.mkdir(mode=0)
    (tmp_path / "bearerwatch.yaml").write_text(
        "web: {external_url: http://127.0.0.1}\n"
        "database: private/bearerwatch.db\n"
        "connections: [{name: a, subdomain: acme, consumer_key: 3MVG9_acme, username: a@b.c,"
        " private_key: {file: private/a.pem}, certificate_not_after: 2100-01-01}]\n"
    )
    yield private
    private.chmod(0o700)


def _by_an_ordinary_user(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*bound_by_modes(), sys.executable, "-m", "monitor", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_a_configuration_can_be_checked_by_a_user_who_may_not_see_the_database(private: Path) -> None:
    done = _by_an_ordinary_user(private.parent, "config", "check")

    assert done.returncode == 0, done.stderr
    assert f"The file {private}/a.pem is not readable by this process" in done.stderr
    assert "no errors, 1 warning." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ("check", "bearerwatch.db"),
        ("alerts", "bearerwatch.db"),
        ("report --month 2026-11", "bearerwatch.db"),
        ("rotate a", "a-2.pem"),
        ("database move --from private/bearerwatch.db --to postgresql://a@b/c", "bearerwatch.db"),
    ],
)
def test_what_this_user_may_not_read_is_one_clear_message(private: Path, arguments: str, file: str) -> None:
    done = _by_an_ordinary_user(private.parent, *arguments.split())

    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert file in done.stderr
    assert "user that runs the daemon" in done.stderr


def test_the_daemon_names_a_database_that_its_user_may_not_reach(private: Path) -> None:
    done = _by_an_ordinary_user(private.parent, "run")

    assert done.returncode == 3
    assert done.stderr == (
        f"The database {private}/bearerwatch.db cannot be used: its directory must exist, and the user that"
        " runs this must be able to write to it and to the file.\n"
    )


def test_connections_in_a_directory_that_cannot_be_read_are_an_error(private: Path) -> None:
    config = private.parent / "bearerwatch.yaml"
    config.write_text("connections_from: [private/*.yaml, no/*.yaml]\n")

    done = _by_an_ordinary_user(private.parent, "config", "check")

    assert done.returncode == 2
    assert done.stderr == (
        'bearerwatch.yaml:1: connections_from: "private/*.yaml" is in a directory that this process may not'
        " read: give its user permission.\n"
    )


def test_causes_accepts_names_of_the_demos_connections(folder: Path) -> None:
    ended = bearerwatch("causes", "approval-decayed", folder=folder)

    assert ended.returncode == 0
    assert "`approval_decayed`" in ended.stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        pytest.param("causes app", [cause for cause in Cause if cause.startswith("app")], id="causes"),
        pytest.param("check --config well.yaml g", ["globex"], id="connections of the file that is named"),
        pytest.param("check a", ["acme"], id="connections of the file in the environment"),
        pytest.param("check --config nowhere.yaml a", [], id="nothing where there is no file"),
    ],
)
def test_shell_completion_works(folder: Path, line: str, offered: list[str]) -> None:
    words = f"bearerwatch {line}"

    ended = bearerwatch(
        folder=folder,
        _BEARERWATCH_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
        BEARERWATCH_CONFIG="well.yaml",
    )

    assert sorted(ended.stdout.split()) == sorted(offered)
    assert ended.stderr == ""
