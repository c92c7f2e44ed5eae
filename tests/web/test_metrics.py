"""The metrics page: every sample as the Snapshot has it, in both formats."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import ApprovalPolicy, Pair, Source
from monitor.core.finding import Certainty, Finding, State
from monitor.core.history import History, Slot
from monitor.core.keys.credential import CertificateFacts, CredentialFacts, KeyFacts, Problem
from monitor.core.maintenance import Once
from monitor.core.outcome import (
    AfterLogin,
    ApiUsage,
    Exchange,
    FaultKind,
    Granted,
    NotSent,
    Refused,
    Unreachable,
)
from monitor.core.status import ConnectionStatus, DaemonStatus, ReplicasStatus, Snapshot
from monitor.core.verdict.approval import forecast
from monitor.watch.own_metrics import OwnMetrics
from monitor.web.metrics import FAMILIES, MetricsPage
from tests.making import connection
from tests.web.fleets import AUDIT

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WINDOW = Once(NOW - timedelta(hours=1), NOW + timedelta(hours=1))
GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.txt"


def certificate(not_before: datetime, days: int) -> CertificateFacts:
    return CertificateFacts(
        not_before,
        not_before + timedelta(days=days),
        serial="0A",
        fingerprint="f1",
        subject="CN=acme",
        key_fingerprint="k1",
    )


def finding(cause: Cause, severity: Severity = Severity.CRITICAL, since: datetime = NOW) -> Finding:
    return Finding(cause, severity, Responsible.ORG_ADMIN, Certainty.LIKELY, ("said so",), since)


def granted(at: datetime) -> Exchange:
    outcome = Granted("opaque", frozenset({"api"}), None, "00D000000000001", "005000000000001")
    return Exchange(at, outcome, duration_seconds=0.412345678, clock_offset_seconds=-0.25)


def healthy(name: str = "acme-production") -> ConnectionStatus:
    """Everything that can be known of a connection is known."""
    configured = connection(
        name=name,
        next=Pair(Source("file", "keys/next.pem")),
        approval=ApprovalPolicy("lifetime", 90, date(2026, 10, 1)),
        labels=(("customer", "acme"), ("tier", "gold")),
    )
    last = granted(NOW - timedelta(seconds=90, milliseconds=123))
    history = History(
        first_seen=NOW - timedelta(days=60),
        changed_at=NOW - timedelta(days=60),
        exchanges=17_280,
        failures=3,
        failures_by_cause={Cause.SALESFORCE_UNAVAILABLE: 3},
        last_exchange=last,
        last_verdict=last,
        after_login=AfterLogin(200, "", ""),
        first_success=NOW - timedelta(days=60),
        last_success=last.at,
        approval_since=NOW - timedelta(days=53),
        keys_accepted={Slot.CURRENT: True, Slot.NEXT: False},
        state=State.HEALTHY,
    )
    return ConnectionStatus(
        configured,
        history,
        CredentialFacts(KeyFacts("rsa", 2048, "k1"), certificate(NOW - timedelta(days=60), 365)),
        CredentialFacts(KeyFacts("rsa", 2048, "k1"), certificate(NOW - timedelta(days=1), 730)),
        forecast(configured, history, (), NOW),
        NOW + timedelta(seconds=210),
    )


def never_checked(name: str = "new-one") -> ConnectionStatus:
    return ConnectionStatus(
        connection(name=name), History(NOW, NOW), next_exchange=NOW + timedelta(seconds=4)
    )


def missing_key() -> ConnectionStatus:
    """The key's file is gone, the certificate's end is only declared, and nothing could ever be sent."""
    declared = connection(name="keyless", certificate_not_after=NOW + timedelta(days=400))
    history = History(
        NOW,
        NOW,
        failures_by_cause={Cause.KEY_UNREADABLE: 2},
        last_exchange=Exchange(NOW - timedelta(seconds=5), NotSent("No usable private key.")),
        failing_since=NOW - timedelta(seconds=65),
        state=State.FAILING,
        findings=(finding(Cause.KEY_UNREADABLE, since=NOW - timedelta(seconds=65)),),
    )
    problem = Problem(Cause.KEY_UNREADABLE, "keys/acme.pem: no such file")
    return ConnectionStatus(declared, history, CredentialFacts(problems=(problem,)))


def paused() -> ConnectionStatus:
    """It was failing when it was paused."""
    history = replace(
        refused().history,
        last_exchange=granted(NOW - timedelta(days=9)),
        last_success=NOW - timedelta(days=9),
    )
    return ConnectionStatus(connection(name="paused", paused=True), history)


def degraded() -> ConnectionStatus:
    """Granted, in maintenance; two findings, one cause named twice, as when both key pairs near their end."""
    last = granted(NOW - timedelta(minutes=2))
    history = History(
        NOW - timedelta(days=300),
        NOW - timedelta(days=300),
        exchanges=86_000,
        last_exchange=last,
        last_success=last.at,
        keys_accepted={Slot.CURRENT: True, Slot.NEXT: True},  # of a pair that is no longer configured
        state=State.DEGRADED,
        findings=(
            finding(Cause.CERTIFICATE_EXPIRING, Severity.CRITICAL, NOW - timedelta(days=2)),
            finding(Cause.CERTIFICATE_EXPIRING, Severity.WARNING, NOW - timedelta(days=1)),
            finding(Cause.JWT_ACCESS_TOKEN, since=NOW - timedelta(days=30)),
        ),
    )
    sandbox = connection(
        name="degraded",
        login_url="https://acme--dev.sandbox.my.salesforce.com",
        certificate_not_after=NOW + timedelta(days=999),  # the certificate itself knows better
        maintenance=(WINDOW,),
    )
    return ConnectionStatus(
        sandbox, history, CredentialFacts(certificate=certificate(NOW - timedelta(days=360), 365))
    )


def refused() -> ConnectionStatus:
    last = Exchange(
        NOW - timedelta(seconds=30),
        Refused(400, "invalid_grant", "user hasn't approved this consumer", ""),
        duration_seconds=0.2,
        clock_offset_seconds=0.0,
    )
    history = History(
        NOW - timedelta(days=31),
        NOW - timedelta(days=31),
        exchanges=9_000,
        failures=2,
        failures_by_cause={Cause.APPROVAL_DECAYED: 2},
        last_exchange=last,
        last_verdict=last,
        last_success=NOW - timedelta(minutes=6),
        keys_accepted={Slot.CURRENT: False},
        state=State.FAILING,
        findings=(finding(Cause.APPROVAL_DECAYED, since=NOW - timedelta(minutes=1)),),
    )
    return ConnectionStatus(connection(name="decayed"), history, next_exchange=NOW + timedelta(minutes=15))


def unreachable() -> ConnectionStatus:
    last = Exchange(NOW, Unreachable(FaultKind.DNS, "no such host"), duration_seconds=0.01)
    history = History(NOW, NOW, exchanges=1, failures=1, last_exchange=last)
    return ConnectionStatus(
        connection(name="unreachable"), history, next_exchange=NOW + timedelta(seconds=30)
    )


def hostile() -> ConnectionStatus:
    """What an operator may type; the name is as bad as its labels, though a configuration would refuse it."""
    labels = (("customer", 'a"b\\c\nd} 1'), ("note", 'Grüße 漢字 \u2028 \t {x="y"}'))
    return ConnectionStatus(connection(name='quo"ted\\n\nname # {', labels=labels), History(NOW, NOW))


def snapshot(*statuses: ConnectionStatus, reload_problem: str | None = None) -> Snapshot:
    loaded = NOW - timedelta(hours=3)
    return Snapshot(
        at=NOW,
        daemon=DaemonStatus(loaded, "0.1.0", len(statuses), loaded, reload_problem),
        connections=statuses,
        retired_failures={Cause.IP_RESTRICTED: 5},
    )


def audited(status: ConnectionStatus) -> ConnectionStatus:
    """After an audit, by which production is refused."""
    return replace(status, history=replace(status.history, audit=AUDIT, usage=ApiUsage(1_234, 15_000)))


def many_shapes() -> Snapshot:
    return snapshot(
        audited(healthy()),
        never_checked(),
        missing_key(),
        paused(),
        degraded(),
        refused(),
        unreachable(),
        hostile(),
    )


def used() -> OwnMetrics:
    """The daemon's own measures after some work."""
    own = OwnMetrics(in_flight=lambda: 7, store_errors=lambda: 2)
    own.exchange_duration.observe(0.3)
    own.schedule_delay.observe(0.02)
    own.schedule_missed.inc()
    own.logins_deferred.inc(4)
    own.notifications.inc(3)
    own.notifications_failed.inc()
    own.count_log_message("warning")
    return own


TEXT, OPEN_METRICS = "text/plain", "application/openmetrics-text"


def page(shown: Snapshot, accept: str = TEXT, own: OwnMetrics | None = None) -> str:
    return text_of(MetricsPage(own or OwnMetrics()), shown, accept)


def text_of(kept: MetricsPage, shown: Snapshot, accept: str = TEXT) -> str:
    pieces, _ = kept.render(shown, accept)
    return b"".join(pieces).decode()


def read(text: str, accept: str = TEXT) -> list[Metric]:
    return list(parse_open_metrics(text) if accept == OPEN_METRICS else parse_text(text))  # type: ignore[no-untyped-call]


def samples(text: str, accept: str = TEXT) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a page by name and labels; two of one name and labels fail here."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in read(text, accept):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def of(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((f"bearerwatch_{name}", tuple(sorted(labels.items()))))


def without_the_process(text: str) -> str:
    """The page without what differs from one process to the next."""
    families = re.split(r"(?m)^(?=# HELP )", text)
    return "".join(family for family in families if not re.match(r"# HELP (process|python)_", family))


in_both_formats = pytest.mark.parametrize("accept", [TEXT, OPEN_METRICS], ids=["text", "open_metrics"])


def test_the_metrics_page_equals_its_golden_file() -> None:
    """After a wanted change: WRITE_GOLDEN=1 pytest tests/web/test_metrics.py, and read the difference."""
    text = without_the_process(page(many_shapes(), own=used()))
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(text)

    assert text == GOLDEN.read_text()


@in_both_formats
def test_every_family_has_help_and_type_and_is_contiguous(accept: str) -> None:
    text = page(many_shapes(), accept, used())
    helped = re.findall(r"(?m)^# HELP (\S+) \S.*$", text)
    typed = re.findall(r"(?m)^# TYPE (\S+) (?:gauge|counter|histogram)$", text)

    assert helped == typed
    assert len(helped) == len(set(helped))
    for family in read(text, accept):
        assert all(sample.name.startswith(family.name) for sample in family.samples), family.name


def test_help_texts_mark_values_from_the_last_check() -> None:
    told = {
        family.name.removeprefix("bearerwatch_connection_")
        for family in FAMILIES
        if "schedule" in family.help
    }

    assert {"up", "state", "finding", "key_accepted", "clock_offset_seconds"} <= told
    assert "info" not in told


def test_both_formats_have_the_same_samples() -> None:
    both = (samples(page(many_shapes(), one, used()), one) for one in (TEXT, OPEN_METRICS))

    text, open_metrics = (
        {key: value for key, value in each.items() if key[0].startswith("bearerwatch")} for each in both
    )
    assert text == open_metrics


def test_every_cause_state_and_level_is_at_zero_from_the_first_scrape() -> None:
    found = samples(page(snapshot()))

    for cause in set(Cause) - {Cause.IP_RESTRICTED}:
        assert found["bearerwatch_failures_total", (("cause", cause.value),)] == 0
    for state in State:
        assert found["bearerwatch_connections", (("state", state.value),)] == 0
    for level in ("debug", "info", "warning", "error", "critical"):
        assert found["bearerwatch_log_messages_total", (("level", level),)] == 0


def test_connections_no_replica_can_check_are_not_healthy() -> None:
    unwatched = replace(healthy(), unwatched=True)
    text = page(snapshot(unwatched))

    assert of(text, "connection_up", connection=unwatched.name) == 0
    assert of(text, "connection_state", connection=unwatched.name, state="unknown") == 1
    assert of(text, "connection_state", connection=unwatched.name, state="healthy") == 0


def test_only_replicas_export_replica_metrics() -> None:
    alone = snapshot(healthy())
    known = ReplicasStatus(
        alive=3, configurations=2, scheduled=7, leads=True, reachable=False, overdue_seconds=4.5
    )
    one_of_three = replace(alone, daemon=replace(alone.daemon, replicas=known))

    told = samples(page(one_of_three)).items() - samples(page(alone)).items()
    assert {
        name: value for (name, labels), value in told if not labels and name.startswith("bearerwatch")
    } == {
        "bearerwatch_replicas": 3,
        "bearerwatch_replicas_configurations": 2,
        "bearerwatch_replica_leads": 1,
        "bearerwatch_connections_scheduled": 7,
        "bearerwatch_database_reachable": 0,
        "bearerwatch_checks_overdue_seconds": 4.5,
    }


def test_a_failed_reload_is_exported() -> None:
    assert of(page(snapshot()), "config_last_reload_successful") == 1
    assert of(page(snapshot(reload_problem="line 3: no such option")), "config_last_reload_successful") == 0


def test_a_log_line_with_an_unknown_level_is_counted() -> None:
    own = OwnMetrics()

    own.count_log_message("exception")

    assert of(page(snapshot(), own=own), "log_messages_total", level="error") == 1


def test_two_daemons_in_one_process_have_separate_metrics() -> None:
    used()

    assert of(page(snapshot(), own=OwnMetrics()), "schedule_missed_total") == 0


def test_the_page_has_no_username_consumer_key_or_raw_text() -> None:
    text = page(many_shapes())

    for secret in ("integration@acme.com", "3MVG9", "hasn't approved", "said so", "keys/acme.pem", "00D0000"):
        assert secret not in text


SHAPES = many_shapes().connections
ANY_SHAPE = st.sampled_from(SHAPES)
ANY_STATUS = st.builds(
    lambda one, checked, keys, following: replace(
        one,
        history=checked.history,
        credential=keys.credential,
        next_credential=following.next_credential,
        unwatched=checked.unwatched,
    ),
    st.sampled_from(SHAPES[:3]),
    ANY_SHAPE,
    ANY_SHAPE,
    ANY_SHAPE,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(ANY_STATUS, unique_by=lambda status: status.name, max_size=3), max_size=5))
def test_whatever_changed_since_the_last_scrape_shows(scrapes: list[list[ConnectionStatus]]) -> None:
    kept = MetricsPage(OwnMetrics())

    for shown in (snapshot(*statuses) for statuses in scrapes):
        text = text_of(kept, shown)
        assert without_the_process(text) == without_the_process(page(shown))


def test_maintenance_is_exported_from_start_to_end_even_if_nothing_else_changes() -> None:
    kept = MetricsPage(OwnMetrics())
    shown = snapshot(degraded(), never_checked())

    def of_each(now: Snapshot) -> list[float | None]:
        text = text_of(kept, now)
        return [of(text, "connection_maintenance", connection=name) for name in ("degraded", "new-one")]

    assert of_each(replace(shown, at=WINDOW.start - timedelta(seconds=1))) == [None, None]
    assert of_each(replace(shown, at=WINDOW.start)) == [1, None]
    assert of_each(replace(shown, at=WINDOW.end)) == [None, None]
    everybody = replace(shown.daemon, maintenance=(WINDOW,))
    assert of_each(replace(shown, daemon=everybody)) == [1, 1]


def test_an_unchanged_status_is_rendered_once() -> None:
    made: list[str] = []

    class Counted(str):
        """A name that tells when it is written into lines."""

        __slots__ = ()

        def replace(self, *_: object) -> str:
            made.append(self)
            return str(self)

    status = never_checked(Counted("a"))
    kept = MetricsPage(OwnMetrics())

    kept.render(snapshot(status))
    kept.render(snapshot(status, never_checked("b")))
    kept.render(snapshot(replace(status)))

    assert len(made) == 2


def test_scrapes_at_the_same_time_each_see_their_own_snapshot() -> None:
    kept = MetricsPage(OwnMetrics())
    shown = [snapshot(*(never_checked(f"{turn % 3}-{number}") for number in range(40))) for turn in range(24)]

    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda one: text_of(kept, one), shown))

    for one, text in zip(shown, texts, strict=True):
        assert without_the_process(text) == without_the_process(page(one))


def test_a_lone_surrogate_does_not_break_the_page() -> None:
    text = page(snapshot(never_checked("a\ud800b")))

    assert of(text, "connection_up", connection="a?b") == 0


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(names, names, names), unique_by=lambda row: row[0], max_size=4))
def test_any_text_in_names_and_labels_survives_the_round_trip(rows: list[tuple[str, str, str]]) -> None:
    shown = snapshot(
        *(
            ConnectionStatus(
                connection(name=name, labels=(("customer", one), ("tier", two))), History(NOW, NOW)
            )
            for name, one, two in rows
        )
    )

    for accept in (TEXT, OPEN_METRICS):
        found = samples(page(shown, accept), accept)
        infos = [dict(labels) for name, labels in found if name == "bearerwatch_connection_info"]
        assert [(info["connection"], info["customer"], info["tier"]) for info in infos] == rows


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5", OPEN_METRICS),
        ("text/plain;q=0.1, Application/OpenMetrics-Text", OPEN_METRICS),
        ("application/openmetrics-text-not", TEXT),
        (";,;=,", TEXT),
    ],
)
def test_the_format_is_negotiated(accept: str, wanted: str) -> None:
    pieces, content_type = MetricsPage(OwnMetrics()).render(snapshot(), accept)

    assert content_type.startswith(wanted)
    assert b"".join(pieces).endswith(b"# EOF\n") is (wanted == OPEN_METRICS)


def test_open_metrics_ends_with_its_end_mark() -> None:
    assert page(many_shapes(), OPEN_METRICS).endswith("\n# EOF\n")
    assert "# EOF" not in page(many_shapes(), TEXT)


@pytest.mark.real("promtool")
@pytest.mark.parametrize("shown", [many_shapes(), snapshot()], ids=["many shapes", "no connection"])
def test_promtool_finds_no_problems(shown: Snapshot) -> None:
    page_now = page(shown, own=used()).encode()

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page_now, capture_output=True, check=False, timeout=60
    )

    assert (checked.stdout + checked.stderr).decode() == ""
    assert checked.returncode == 0


def test_the_page_names_app_and_user_only_if_allowed() -> None:
    status = never_checked()
    one = replace(status.connection, app="Billing", username_in_alerts=True)

    text = page(snapshot(replace(status, connection=one)))

    (line,) = (line for line in text.splitlines() if line.startswith("bearerwatch_connection_info{"))
    assert 'app="Billing"' in line
    assert f'username="{one.username}"' in line
