"""What `check` shows: to a terminal of any width, to a pipe, and while checks are under way."""

import io
import socket
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from monitor.commands.cli.exits import Exit, exit_code, port_taken
from monitor.commands.terminal import (
    progress,
    show,
    show_catalogue,
    show_lines,
    show_text,
    summary,
    unknown_name,
    verbatim,
)
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.finding import Alternative, State
from monitor.core.problem import OperatorError
from monitor.core.status import ConnectionStatus
from monitor.web.reproduce import command
from tests.making import NOW, connection, finding, history

DECAYED = CATALOGUE[Cause.APPROVAL_DECAYED]


def status(name: str, state: State, *causes: Cause, evidence: str = "It was refused.") -> ConnectionStatus:
    of = connection(name=name)
    since = NOW - timedelta(hours=3)
    findings = tuple(replace(finding(cause, since), evidence=(evidence,)) for cause in causes)
    others = (Alternative(Cause.APP_BLOCKED, CATALOGUE[Cause.APP_BLOCKED].tell_apart),) if causes else ()
    return ConnectionStatus(of, history(of, state=state, findings=findings, alternatives=others))


FLEET = (
    status("acme", State.HEALTHY),
    status("globex-with-a-name-that-goes-on-and-on", State.FAILING, Cause.APPROVAL_DECAYED),
    status("initech", State.DEGRADED, Cause.CERTIFICATE_EXPIRING),
)


def pipe() -> Console:
    return Console(file=io.StringIO(), highlight=False, width=80)


def terminal(columns: int, *, no_color: bool = False) -> Console:
    return Console(
        file=io.StringIO(),
        highlight=False,
        width=columns,
        force_terminal=True,
        no_color=no_color,
        _environ={},
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_piped_output_has_one_plain_line_per_connection_worst_first() -> None:
    console = pipe()

    show(FLEET, now=NOW, quiet=False, whole=False, console=console)

    assert [line.split("  ")[0] for line in printed(console).splitlines()] == [
        "STATE",
        "failing",
        "degraded",
        "healthy",
    ]
    assert printed(console).splitlines()[1].endswith("Salesforce admin  3 h ago")
    assert "\x1b" not in printed(console)
    assert all(line == line.rstrip() for line in printed(console).splitlines())


@pytest.mark.parametrize("whole", [False, True], ids=["table", "whole"])
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_output_fits_the_terminal_except_for_commands(columns: int, whole: bool) -> None:
    console = terminal(columns, no_color=True)

    show(FLEET, now=NOW, quiet=False, whole=whole, console=console)

    commands = "\n".join(command(each.connection) for each in FLEET)
    text = printed(console).replace("\x1b[1m", "").replace("\x1b[0m", "")
    wide = [line for line in text.splitlines() if len(line) > columns and line.strip() not in commands]
    assert not wide


def test_colours_are_used_only_on_terminals_without_no_color() -> None:
    coloured, plain = terminal(80), terminal(80, no_color=True)

    for console in (coloured, plain):
        show(FLEET, now=NOW, quiet=False, whole=False, console=console)

    assert "\x1b[1;31mfailing" in printed(coloured)
    assert "31m" not in printed(plain)


def test_quiet_omits_healthy_connections() -> None:
    some, none = pipe(), pipe()

    show(FLEET, now=NOW, quiet=True, whole=False, console=some)
    show(FLEET[:1], now=NOW, quiet=True, whole=False, console=none)

    assert "acme" not in printed(some)
    assert "initech" in printed(some)
    assert printed(none) == ""


def test_one_connection_is_shown_with_the_details_of_its_page() -> None:
    console = pipe()

    show(FLEET[1:2], now=NOW, quiet=False, whole=True, console=console)

    text = printed(console)
    told = [
        f"failing {FLEET[1].name}: {DECAYED.title}",
        DECAYED.meaning,
        "2026-11-23 09:00:00 UTC (3 h ago)",
        "A Salesforce admin of the org",
        f"approval_decayed, likely, critical; setup guide, {DECAYED.guide}",
        "- It was refused.",
        CATALOGUE[Cause.APP_BLOCKED].tell_apart,
        "bearerwatch causes app_blocked",
        *(f"{number}. {step}" for number, step in enumerate(DECAYED.remedy, 1)),
        DECAYED.contested or "",
        "sf org login jwt",
    ]
    places = [text.find(words) for words in told]
    assert -1 not in places, told[places.index(-1)]
    assert places == sorted(places)


def test_further_findings_are_shown_with_their_beginning() -> None:
    console = pipe()
    both = status("acme", State.FAILING, Cause.APPROVAL_DECAYED, Cause.KEY_FILE_EXPOSED)

    show([both], now=NOW, quiet=False, whole=True, console=console)

    assert "  key_file_exposed, warning, Operator, since 2026-11-23 09:00:00 UTC\n" in printed(console)


def test_lines_to_copy_are_not_wrapped_even_on_a_narrow_terminal() -> None:
    console = terminal(40, no_color=True)
    text = "curl --data-urlencode 'assertion=ASSERTION' https://acme.my.salesforce.com/services/oauth2/token"

    show_lines(verbatim(text), console)

    assert printed(console) == f"{text}\n"


def test_a_command_of_the_remedy_has_the_connections_name() -> None:
    console = pipe()

    show(FLEET[-1:], now=NOW, quiet=False, whole=True, console=console)

    assert "`bearerwatch rotate initech --config FILE`" in printed(console)


def test_markup_in_an_answer_is_text() -> None:
    console = terminal(200, no_color=True)
    hostile = status("acme", State.FAILING, Cause.UNRECOGNISED, evidence="said [red]owned[/red] [/] \\[")

    for whole in (False, True):
        show([hostile], now=NOW, quiet=False, whole=whole, console=console)

    assert "said [red]owned[/red] [/] \\[" in printed(console)


def test_progress_is_shown_on_a_terminal_with_what_it_is_about() -> None:
    console = terminal(100, no_color=True)

    with progress("Checking acme at acme.my.salesforce.com", 3, console=console) as done:
        for _ in range(3):
            done()

    assert "Checking acme at acme.my.salesforce.com" in printed(console)
    assert "3/3" in printed(console)


def test_a_narrow_terminal_gets_a_list_whose_names_can_be_copied() -> None:
    console = terminal(40, no_color=True)

    show(FLEET, now=NOW, quiet=False, whole=False, console=console)

    lines = printed(console).splitlines()
    assert lines[0].endswith(f"  {FLEET[1].name}")
    assert DECAYED.title in " ".join(lines)


def test_a_document_is_rendered_on_a_terminal_and_stays_markdown_if_piped() -> None:
    piped, seen = pipe(), terminal(80, no_color=True)

    for console in (piped, seen):
        show_text("## What\n\nSee [step 4](../setup.md#step-4).\n", console)

    assert printed(piped) == "## What\n\nSee [step 4](../setup.md#step-4).\n\n"
    assert "See step 4." in printed(seen)
    assert "#" not in printed(seen)


@pytest.mark.parametrize("console", [pipe(), None], ids=["piped", "not wanted"])
def test_without_a_terminal_there_is_no_progress_display(console: Console | None) -> None:
    watched = console or terminal(100)

    with progress("Checking", 1, shown=console is not None, console=watched) as done:
        done()

    assert printed(watched) == ""


@pytest.mark.parametrize(
    ("shown", "fail_on", "code"),
    [
        (FLEET[2:], "failing", Exit.FINE),
        (FLEET[2:], "critical", Exit.FINE),
        (FLEET[2:], "warning", Exit.FAILING),
        (FLEET[:1], "warning", Exit.FINE),
        (FLEET[1:2], "failing", Exit.FAILING),
        ((status("new", State.SETTLING, Cause.PROPAGATION_PENDING),), "warning", Exit.NO_VERDICT),
    ],
)
def test_fail_on_sets_the_severity_for_exit_code_1(
    shown: tuple[ConnectionStatus, ...], fail_on: str, code: Exit
) -> None:
    assert exit_code(list(shown), fail_on) is code


def test_the_summary_counts_the_worst_first() -> None:
    assert str(summary(FLEET)) == "3 connections: 1 failing, 1 degraded, 1 healthy"
    assert str(summary(FLEET[:1])) == "1 connection: 1 healthy"


def test_every_cause_has_a_line_in_the_list() -> None:
    console = pipe()

    show_catalogue(console)

    assert [line.split()[0] for line in printed(console).splitlines()[1:]] == [str(cause) for cause in Cause]


def test_an_unknown_name_is_reported_with_the_known_ones() -> None:
    assert unknown_name("cause", "approval_decaid", ["approval_decayed", "x"]) == (
        "No cause is named 'approval_decaid'. Did you mean 'approval_decayed'?"
    )
    assert unknown_name("connection", "zzz", ["a", "b"]) == "No connection is named 'zzz'. Known: a, b."
    assert unknown_name("connection", "zzz", list("abcdefg")).endswith("Known: a, b, c, d, e and 2 more.")


def test_a_host_to_listen_on_that_does_not_exist_is_an_operators_error() -> None:
    listening = port_taken("nowhere:1", "Choose another.")

    with pytest.raises(OperatorError, match=r"nowhere:1: The host is unknown\. Choose another\."), listening:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
