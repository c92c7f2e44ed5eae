"""Both pages, as the server writes them: what they say, and what they can't be made to do."""

import json
import re
import shlex
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.history import STAGES
from monitor.core.history import Stage as Rotating
from monitor.core.status import Snapshot, worst_first
from monitor.store import Store
from monitor.web.pages import PAGE_ROWS, foldable, headline
from monitor.web.reproduce import command
from monitor.web.runbooks import coded
from tests.making import connection
from tests.web.fleets import HOSTILE, NOW, SECRET_KEY, in_maintenance, many, snapshot_of
from tests.web.reading import names, read
from tests.web.serving import Stage

FAILING = ["acme-production", "globex-eu", "hostile", "initech-sandbox"]

PAGES = (
    "/",
    "/?state=failing&q=acme&label=tier%3Dgold",
    "/connections/acme-production",
    "/connections/hostile",
    "/connections/tyrell-unread",
    "/connections/vandelay-legacy",
    "/connections/hooli-orders",
    "/causes",
    "/causes/ip_restricted",
    "/events",
    "/?by=customer",
    "/setup",
)


async def text(stage: Stage, path: str, status: int = 200) -> str:
    async with stage.client() as client:
        answer = await client.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


async def test_every_connection_has_a_row_and_the_worst_come_first(stage: Stage) -> None:
    shown = names(await text(stage, "/"))

    assert shown == [status.name for status in worst_first(stage.snapshot.connections)]
    assert shown[:5] == ["acme-production", "globex-eu", "initech-sandbox", "hostile", "stark-metadata"]


async def test_among_equals_the_latest_failure_comes_first(stage: Stage) -> None:
    page = read(await text(stage, "/?state=failing"))

    (order,) = (one for one in page.all("option", value="worst"))
    assert "selected" in order.attributes
    assert order.text == "Worst first"
    assert [row.all("td", data_title="Since")[0].text for row in page.all("tr", class_="failing")] == [
        "3 h ago", "2 days ago", "5 days ago", "8 days ago"
    ]  # fmt: skip


async def test_the_tiles_count_every_state(stage: Stage) -> None:
    page = read(await text(stage, "/"))

    for state, count in stage.snapshot.states().items():
        (tile,) = page.all("a", id=f"tile-{state}")
        assert tile.text == f"{count} {state.capitalize()}"


async def test_a_row_shows_cause_start_and_responsible(stage: Stage) -> None:
    (row,) = read(await text(stage, "/")).all("tr", id="c-acme-production")

    for words in (
        "Failing",
        CATALOGUE[Cause.APPROVAL_DECAYED].title,
        "Salesforce admin acts",
        "3 h ago",
        "1 more finding",
        "expires in 24 days",
        "1 min ago",
        "next in 2 min",
    ):
        assert words in row.text
    assert "?label=customer%3Dacme" in [link.attributes["href"] for link in row.all("a")]


async def test_a_row_shows_the_age_of_an_approval(stage: Stage) -> None:
    page = read(await text(stage, "/"))

    def row(name: str) -> str:
        (found,) = page.all("tr", id=f"c-{name}")
        return found.text

    assert "approval on day 39 of 90" in row("hooli-orders")
    assert "approval 39 days old" in row("globex-eu")
    assert "no approval" in row("acme-production")


async def test_the_overview_counts_connections_by_responsible_with_links(stage: Stage) -> None:
    page = read(await text(stage, "/"))

    (admin,) = page.all("a", id="acts-org_admin")
    assert admin.text == "Salesforce admin (4)"
    shown = names(await text(stage, "/" + admin.attributes["href"]))
    assert len(shown) == 4
    (nobody,) = page.all("a", id="acts-salesforce")
    assert nobody.text == "Salesforce (1)"
    assert "no one on your side" in nobody.attributes["title"]


def test_a_causes_code_can_wrap_between_words() -> None:
    assert foldable(Cause.PROPAGATION_PENDING) == "propagation_<wbr>pending"


async def test_a_time_is_relative_to_the_snapshot_with_the_exact_time_beside_it(stage: Stage) -> None:
    (row,) = read(await text(stage, "/")).all("tr", id="c-acme-production")

    (since,) = (time for time in row.all("time") if time.text == "3 h ago")
    assert since.attributes["datetime"] == "2026-11-23T08:49:00Z"
    assert since.attributes["title"] == "2026-11-23 08:49:00 UTC"


async def test_the_overview_counts_causes_and_values_of_a_selected_label(stage: Stage) -> None:
    page = read(await text(stage, "/?by=customer&state=failing"))

    (causes,) = page.all("section", aria_labelledby="by-cause")
    assert f"1 {CATALOGUE[Cause.APPROVAL_DECAYED].title}" in causes.text
    (customers,) = page.all("section", aria_labelledby="by-label")
    assert [one.text for one in customers.all("li")][:2] == ["1 of 1 acme", "1 of 1 globex"]
    (acme,) = (link for link in customers.all("a") if "acme" in link.text)
    assert names(await text(stage, "/" + acme.attributes["href"])) == ["acme-production"]
    assert not read(await text(stage, "/")).all("section", aria_labelledby="by-label")


async def test_the_events_of_all_connections_are_json_too_newest_first(stage: Stage) -> None:
    async with stage.client() as client:
        told = (await client.get("/api/events")).json()["events"]

    assert [one["at"] for one in told] == sorted((one["at"] for one in told), reverse=True)
    assert {"acme-production", "globex-eu"} <= {one["connection"] for one in told}


async def test_the_events_of_all_connections_are_on_one_page(stage: Stage) -> None:
    page = read(await text(stage, "/events"))

    first, *_ = page.all("li")
    assert "wayne-new" in first.text or "acme-production" in first.text
    moments = [time.attributes["datetime"] for time in page.all("time") if "title" in time.attributes]
    told = [at for at in moments if at[:7] in {"2026-11", "2026-10"}][: len(page.all("li"))]
    assert told == sorted(told, reverse=True)
    assert page.all("a", href="/connections/globex-eu")


async def test_the_strip_has_a_text_alternative(stage: Stage) -> None:
    (row,) = read(await text(stage, "/")).all("tr", id="c-globex-eu")

    (strip,) = row.all("svg", role="img")
    assert strip.attributes["aria-label"] == "Last 30 days: 28 days with grants, 3 days with refusals"
    assert strip.all("path", class_="granted")
    assert strip.all("path", class_="refused")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("state=failing&sort=name", FAILING, id="state"),
        pytest.param("state=settling&state=paused", ["wayne-new", "vandelay-legacy"], id="either state"),
        pytest.param("cause=certificate_expiring", ["acme-production", "umbrella-crm"], id="cause"),
        pytest.param("responsible=salesforce", ["wayne-new"], id="responsible"),
        pytest.param("label=customer%3Dacme", ["acme-production", "acme-reporting"], id="label"),
        pytest.param("label=customer%3Dacme&label=tier%3Dgold&state=healthy", ["acme-reporting"], id="all"),
        pytest.param("label=note", ["hostile"], id="a label's key"),
        pytest.param("q=AGED%20OUT", ["acme-production"], id="text in the cause's title"),
        pytest.param("q=--dev.sandbox", ["initech-sandbox"], id="text in the host"),
        pytest.param("q=integration%40stark", ["stark-metadata"], id="text in the username"),
        pytest.param("q=customer%3Dhooli", ["hooli-orders"], id="text in a label"),
        pytest.param("q=nothing-like-it", [], id="nothing"),
    ],
)
async def test_query_parameters_filter_the_page(stage: Stage, query: str, expected: list[str]) -> None:
    assert names(await text(stage, f"/?{query}")) == expected


async def test_query_parameters_set_the_order(stage: Stage) -> None:
    by_end = names(await text(stage, "/?sort=certificate"))
    by_name = names(await text(stage, "/?sort=name"))

    assert by_end[:2] == ["umbrella-crm", "acme-production"]
    assert by_name == sorted(by_name)


async def test_an_unknown_filter_value_is_reported_with_the_known_ones(stage: Stage) -> None:
    page = await text(stage, "/?state=faling", 400)

    assert "Unknown state “faling”. Known: healthy, degraded, settling" in read(page).text


async def test_the_form_shows_the_filters_of_the_url(stage: Stage) -> None:
    page = read(
        await text(stage, "/?state=failing&q=acme&cause=approval_decayed&label=tier%3Dgold&label=customer")
    )

    (form,) = page.all("form")
    fields = [(field.attributes["name"], field.attributes.get("value", "")) for field in form.all("input")]
    assert fields == [("state", "failing"), ("q", "acme"), ("label", "tier=gold"), ("label", "customer")]
    assert [
        option.attributes["value"] for option in form.all("option") if "selected" in option.attributes
    ] == [
        "approval_decayed",
        "worst",
    ]


async def test_ten_thousand_connections_are_paged_by_a_hundred(stage: Stage) -> None:
    stage.snapshot = many(10_000)

    first, last = await text(stage, "/"), await text(stage, "/?page=999")

    failing = sorted(range(7, 10_000, 100), key=lambda number: (number % 300, number))  # the latest first
    assert names(first) == [f"tenant-{number:05}" for number in failing]
    assert len(names(last)) == PAGE_ROWS
    assert [a.attributes["href"] for a in read(first).all("a") if a.text == "Next →"] == ["?page=2"]
    assert "1 to 100 of 10,000 connections" in read(first).text
    assert "9,901 to 10,000 of 10,000 connections" in read(last).text
    assert len(first) < 300_000
    assert names(await text(stage, "/?q=tenant-09999")) == ["tenant-09999"]


@pytest.mark.parametrize("page", ["0", "-1", "x", "", "9" * 400, "²"])
async def test_an_invalid_page_number_is_the_first_page(stage: Stage, page: str) -> None:
    assert "acme-production" in names(await text(stage, f"/?page={page}"))


async def test_an_empty_fleet_says_what_to_do(stage: Stage) -> None:
    stage.snapshot = snapshot_of(())

    page = read(await text(stage, "/")).text
    assert "No connections are configured" in page
    assert "Add your connections under connections:" in page


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({State.HEALTHY: 40}, "All healthy"),
        ({State.HEALTHY: 40, State.FAILING: 1}, "1 failing"),
        ({State.FAILING: 1200, State.UNKNOWN: 3}, "1,200 failing and 3 unknown"),
        ({State.PAUSED: 2}, "All connections are paused"),
        ({}, "No connections are configured"),
    ],
)
def test_the_headline_summarises_the_fleet(counts: dict[State, int], expected: str) -> None:
    assert headline({state: counts.get(state, 0) for state in State}) == expected


async def test_a_failed_reload_and_a_broken_store_show_on_every_page(stage: Stage) -> None:
    daemon = replace(
        stage.snapshot.daemon, reload_problem="a.yaml:3: <b>no</b>", store_problem="The disk is full."
    )
    stage.snapshot = replace(stage.snapshot, daemon=daemon)

    for path in ("/", "/connections/acme-production", "/connections/nobody"):
        page = await text(stage, path, 404 if "nobody" in path else 200)
        assert "a.yaml:3: <b>no</b>" in read(page).text
        assert (
            "The database is failing; new results are kept only in memory The disk is full."
            in read(page).text
        )


async def test_an_unreadable_store_leaves_the_rest_of_the_pages(stage: Stage, tmp_path: Path) -> None:
    stage.store = Store.open(tmp_path / "past.db")
    stage.store.close()
    for file in tmp_path.iterdir():
        file.write_bytes(b"no database")

    fleet, one = await text(stage, "/"), await text(stage, "/connections/acme-production")

    assert len(names(fleet)) == len(stage.snapshot.connections)
    for page in (fleet, one):
        assert "The history cannot be read" in read(page).text
    assert CATALOGUE[Cause.APPROVAL_DECAYED].title in one
    assert "Nothing yet" not in one


async def test_the_page_of_a_connection_has_the_complete_diagnosis(stage: Stage) -> None:
    page = read(await text(stage, "/connections/acme-production"))
    entry = CATALOGUE[Cause.APPROVAL_DECAYED]

    steps = next(page_list for page_list in page.all("ol") if page_list.attributes.get("class") == "steps")
    assert [step.text.replace(" ,", ",").replace(" .", ".") for step in steps.all("li")] == list(entry.remedy)
    for words in (
        entry.title,
        entry.meaning,
        "A Salesforce admin of the org must act",
        "setup guide, step 4",
        "Salesforce answered 400 invalid_grant: user hasn't approved this consumer.",
        CATALOGUE[Cause.CONSUMER_NOT_APPROVED].tell_apart,
        CATALOGUE[Cause.CERTIFICATE_EXPIRING].title,
        "4 earlier approvals",
        "The approval ended after 39.6 days.",
        "RSA, 2048 bits",
        STAGES[Rotating.PREPARED],
        "00Dxx0000000001AAA",
    ):
        assert words in page.text


async def test_a_command_of_the_remedy_has_the_connections_name(stage: Stage) -> None:
    page = read(await text(stage, "/connections/umbrella-crm"))

    data = json.loads(await text(stage, "/api/connections/umbrella-crm"))["connection"]

    command = "bearerwatch rotate umbrella-crm --config FILE"
    assert command in [code.text for code in page.all("code")]
    assert f"`{command}`" in " ".join(data["remedy"])


async def test_every_link_on_every_page_works(stage: Stage) -> None:
    anchors: dict[str, set[str]] = {}
    async with stage.client() as client:
        for path in (*PAGES, *(f"/causes/{cause}" for cause in Cause)):
            for link in read((await client.get(path)).text).all("a"):
                href = link.attributes["href"]
                target, _, anchor = href.partition("#")
                if href.startswith("https://"):
                    continue
                target = path if not target else f"/{target}" if target[0] in "?." else target
                if target not in anchors:
                    answer = await client.get(target)
                    assert answer.status_code == 200, (path, href)
                    anchors[target] = set(re.findall(r'id="([^"]+)"', answer.text))
                assert not anchor or anchor in anchors[target], (path, href)


async def test_evidence_comes_before_the_steps_that_refer_to_it(stage: Stage) -> None:
    page = await text(stage, "/connections/acme-production")

    assert page.index('id="why"') < page.index('id="todo"')
    data = json.loads(await text(stage, "/api/connections/acme-production"))["connection"]
    assert data["note"] == CATALOGUE[Cause.APPROVAL_DECAYED].contested
    assert "sources disagree: Salesforce's own CLI guide" in read(page).text


async def test_the_page_of_a_connection_shows_its_availability(stage: Stage) -> None:
    page = read(await text(stage, "/connections/acme-production"))
    data = json.loads(await text(stage, "/api/connections/acme-production"))["connection"]

    (section,) = page.all("section", aria_labelledby="available")
    assert "down 3 h, 1 time" in section.text
    week, month, quarter = data["availability"]
    assert (week["days"], month["days"], quarter["days"]) == (7, 30, 90)
    assert week["down_seconds"] == timedelta(hours=3, minutes=10).total_seconds()
    # Fourteen hours without a verdict, and no more than the connection is old.
    assert quarter["share"] == pytest.approx(1 - 11400 / (timedelta(days=40).total_seconds()), abs=1e-3)
    (chart,) = page.all("svg", class_="durations")
    assert "Last 50 exchanges: median" in chart.text


async def test_a_step_links_to_the_orgs_setup_screen(stage: Stage) -> None:
    page = read(await text(stage, "/connections/acme-production"))

    screens = {link.text: link.attributes["href"] for link in page.all("a", rel="noreferrer")}
    assert screens["External Client App Manager"] == (
        "https://acme-production.my.salesforce.com/lightning/setup/ManageExternalClientApplication/home"
    )


async def test_a_finding_of_an_audit_is_shown_with_the_steps_of_the_guide(stage: Stage) -> None:
    """They were hidden with the command to reproduce it: a login does not show such a finding."""
    (acme,) = [one for one in stage.snapshot.connections if one.name == "acme-production"]
    (first,) = [one for one in acme.findings if one.cause is Cause.CERTIFICATE_EXPIRING]
    wrong = replace(first, cause=Cause.REFRESH_POLICY_WRONG)
    stage.snapshot = snapshot_of([replace(acme, history=replace(acme.history, findings=(wrong,)))])

    page = await text(stage, "/connections/acme-production")

    assert "Setup guide, step by step" in page
    assert "Reproduce it" not in page


async def test_unsent_requests_have_no_command_to_reproduce_them(stage: Stage) -> None:
    statuses = stage.snapshot.connections
    named = {status.name: status for status in statuses}
    for path, shown in (("tyrell-unread", False), ("acme-production", True)):
        assert named[path].findings
        page = await text(stage, f"/connections/{path}")
        assert ("Reproduce it" in page) is shown


async def test_an_unknown_cause_has_no_page(stage: Stage) -> None:
    assert "No cause is named “nothing”." in await text(stage, "/causes/nothing", 404)


async def test_the_page_of_a_connection_shows_its_last_exchanges_and_their_durations(stage: Stage) -> None:
    page = read(await text(stage, "/connections/globex-eu"))

    (table,) = page.all("section", aria_labelledby="exchanges")
    rows = [row.text for row in table.all("tr")[1:]]
    assert len(rows) == 50
    assert rows[0].startswith("1 min ago refused")
    assert " 400 " in rows[0]
    assert " ms" in rows[0]


async def test_each_page_links_to_its_json(stage: Stage) -> None:
    for path, data in (
        ("/", "/api/status"),
        ("/connections/acme-production", "/api/connections/acme-production"),
    ):
        (link,) = (link for link in read(await text(stage, path)).all("a") if link.text == "JSON")
        assert link.attributes["href"] == data


async def test_the_timeline_draws_the_forecast(stage: Stage) -> None:
    page = read(await text(stage, "/connections/hooli-orders"))

    (timeline,) = page.all("svg", class_="timeline")
    assert [rect.attributes["class"] for rect in timeline.all("rect")] == ["ended", "current", "forecast"]
    assert "The declared policy ends an approval after 90 days" in page.text


async def test_a_connection_in_maintenance_shows_its_end(stage: Stage) -> None:
    stage.snapshot = in_maintenance(stage.snapshot, "globex-eu", ends=NOW + timedelta(hours=3))

    rows = [row.text for row in read(await text(stage, "/")).all("tr", role="row")]
    (row,) = (row for row in rows if "in maintenance" in row)
    assert "globex-eu" in row
    assert "in maintenance, ends in 3 h" in row
    page = read(await text(stage, "/connections/globex-eu")).text
    assert "In maintenance until 2026-11-23 15:00:00 UTC (in 3 h)" in page
    assert "no alerts are sent" in page
    assert "In maintenance" not in read(await text(stage, "/connections/acme-production")).text


async def test_a_paused_connection_only_says_that(stage: Stage) -> None:
    page = read(await text(stage, "/connections/vandelay-legacy"))

    assert "Not checked: paused in the configuration" in page.text
    assert "What to do" not in page.text


def test_commands_in_catalogue_texts_are_code_and_the_rest_is_escaped() -> None:
    assert coded("Run `a <b> & c` now <b>.") == "Run <code>a &lt;b&gt; &amp; c</code> now &lt;b&gt;."
    assert all(
        text.count("`") % 2 == 0
        for entry in CATALOGUE.values()
        for text in (entry.meaning, entry.tell_apart, entry.contested or "", *entry.remedy)
    )


async def test_hostile_text_is_escaped(stage: Stage) -> None:
    for path in ("/", "/connections/hostile"):
        page = await text(stage, path)
        assert HOSTILE in read(page).text
        assert "<script>document" not in page
        assert "<img" not in page


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_violates_its_content_security_policy(stage: Stage, path: str) -> None:
    """Inline style, script or handler, and anything from another host: a browser would silently drop it."""
    page = read(await text(stage, path))

    for element in page.all():
        assert element.tag != "style"
        assert element.tag != "script" or not element.text
        for name, value in element.attributes.items():
            assert name != "style"
            assert not name.startswith("on")
            if name in {"src", "href", "action"}:
                links = element.tag == "a" and value.startswith("https://")
                assert links or value.startswith(("/", "?", "#", "./")), value
                assert not value.startswith("//"), value


@pytest.mark.parametrize("path", PAGES)
async def test_ids_are_unique_and_references_to_them_valid(stage: Stage, path: str) -> None:
    page = read(await text(stage, path))

    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        for name in ("for", "aria-labelledby", "list"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)


async def test_the_full_consumer_key_appears_nowhere(stage: Stage) -> None:
    for path in (*PAGES, "/api/status", "/api/connections/acme-production"):
        assert SECRET_KEY not in await text(stage, path)


def test_the_command_is_safe_to_paste_with_any_username() -> None:
    line = command(connection(username="o'brien; rm -rf ~@acme.com"))

    words = shlex.split(line.replace("\\\n", ""))
    assert words[:4] == ["SF_AUDIENCE_URL=https://acme.my.salesforce.com", "sf", "org", "login"]
    assert words[words.index("--username") + 1] == "o'brien; rm -rf ~@acme.com"
    assert words[words.index("--client-id") + 1] == "<consumer key>"


async def test_a_page_follows_the_snapshot(stage: Stage) -> None:
    later: Snapshot = replace(stage.snapshot, at=NOW + timedelta(hours=1))
    stage.snapshot = later

    assert "4 h ago" in read(await text(stage, "/")).all("tr", id="c-acme-production")[0].text
