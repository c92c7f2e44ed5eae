"""Both pages in a real browser: what a person sees, types, presses, and keeps while the page refreshes."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.status import Snapshot
from monitor.store import Store
from monitor.watch.own_metrics import OwnMetrics
from monitor.web.metrics import MetricsPage
from monitor.web.pages import REFRESH_SECONDS, STATIC
from tests.web.fleets import HOSTILE
from tests.web.serving import Stage, served

pytestmark = pytest.mark.real("chromium")

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"

ARGUMENTS = [
    "--no-sandbox",  # the tests may run as root, where Chromium can't make its sandbox
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
]

WIDTHS = {"wide": 1440, "middle": 768, "narrow": 390}

NARROWEST = 320
"""Pixels: down to there a page must do without scrolling sideways (WCAG 2.2, 1.4.10)."""

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass(slots=True)
class Seen:
    """An open page, whose data the test can change."""

    stage: Stage
    address: str
    page: Page
    complaints: list[str]
    """What the browser had to say: a refused script or style, an error of ours."""

    def go(self, path: str) -> None:
        """Open this path."""
        self.page.goto(self.address + path)

    def rows(self) -> list[str]:
        """The names of the connections in the rows."""
        return self.page.locator("table.fleet tbody th a[id]").all_inner_texts()

    def refresh(self) -> None:
        """Advance the time until the page refreshes, and wait for it."""
        with self.page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
            self.page.clock.run_for(REFRESH_SECONDS * 1000 + 1)
        moment = f"{self.stage.snapshot.at:%Y-%m-%dT%H:%M:%SZ}"
        expect(self.page.locator("#asof time")).to_have_attribute("datetime", moment)

    def later(self, *, healthy: str = "") -> None:
        """Half a minute passes in the fleet, and a connection becomes healthy."""
        before = self.stage.snapshot
        statuses = tuple(
            replace(status, history=replace(status.history, state=State.HEALTHY, findings=()))
            if status.name == healthy
            else status
            for status in before.connections
        )
        self.stage.snapshot = replace(before, at=before.at + timedelta(seconds=30), connections=statuses)


@pytest.fixture(scope="module", name="browser")
def one_browser() -> Iterator[Browser]:
    """Debian's Chromium, once for the tests here.

    Not for the session: Playwright's own event loop, while it lives, keeps asynchronous tests from theirs.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


Opening = Callable[..., Seen]


@pytest.fixture(name="open_page")
def opening(browser: Browser, past: tuple[Store, Snapshot]) -> Iterator[Opening]:
    """Opens pages; afterwards the browser must not have reported any errors."""
    with ExitStack() as stack:
        opened: list[Seen] = []

        def open_page(path: str = "/", *, quiet: bool = True, **options: Any) -> Seen:
            stage = Stage(*past)
            address = stack.enter_context(served(stage.app()))
            options.setdefault("viewport", {"width": WIDTHS["wide"], "height": 900})
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.clock.install()
            seen = Seen(stage, address, page, [])
            page.on("console", lambda told: seen.complaints.append(told.text))
            page.on("pageerror", lambda error: seen.complaints.append(str(error)))
            if quiet:
                opened.append(seen)
            seen.go(path)
            return seen

        yield open_page
        for seen in opened:
            assert not seen.complaints


def test_one_click_shows_cause_start_responsible_and_remedy(open_page: Opening) -> None:
    seen = open_page()

    first = seen.page.locator("table.fleet tbody tr").first
    expect(first).to_contain_text(CATALOGUE[Cause.APPROVAL_DECAYED].title)
    expect(first).to_contain_text("3 h ago")
    expect(first).to_contain_text("Salesforce admin acts")
    first.get_by_role("link", name="acme-production").click()

    page = seen.page
    expect(page.get_by_role("heading", name=CATALOGUE[Cause.APPROVAL_DECAYED].title)).to_be_in_viewport()
    expect(page.get_by_text("a Salesforce admin of the org")).to_be_in_viewport()
    expect(page.get_by_role("heading", name="What to do")).to_be_in_viewport()
    expect(page.locator("ol.steps li").first).to_be_in_viewport()


def test_page_json_and_metrics_agree(open_page: Opening) -> None:
    seen = open_page()
    seen.stage.exposed = b"".join(MetricsPage(OwnMetrics()).render(seen.stage.snapshot)[0])

    told = httpx.get(seen.address + "/api/status", trust_env=False).json()
    metrics = httpx.get(seen.address + "/metrics", trust_env=False).text
    samples = [each for family in text_string_to_metric_families(metrics) for each in family.samples]

    tiles = {
        state: int(seen.page.locator(f"#tile-{state} .number").inner_text()) for state in map(str, State)
    }
    assert tiles == told["counts"]
    assert tiles == {
        each.labels["state"]: each.value for each in samples if each.name == "bearerwatch_connections"
    }
    rows = {
        name: (row.locator(".badge").inner_text().lower(), row.locator(".what").inner_text())
        for name, row in zip(seen.rows(), seen.page.locator("tbody tr").all(), strict=True)
    }
    connections = {each["name"]: each for each in told["connections"]}
    assert {name: state for name, (state, _) in rows.items()} == {
        each.labels["connection"]: each.labels["state"]
        for each in samples
        if each.name == "bearerwatch_connection_state" and each.value == 1
    }
    snapshot = seen.stage.snapshot
    titles = {
        one.name: one.title(one.findings[0], snapshot.at) for one in snapshot.connections if one.findings
    }
    for name, row in rows.items():
        assert row == (connections[name]["state"], titles.get(name, row[1]))
    assert {
        (each.labels["connection"], each.labels["cause"], each.labels["severity"], each.labels["responsible"])
        for each in samples
        if each.name == "bearerwatch_connection_finding"
    } == {
        (name, found["cause"], found["severity"], found["responsible"])
        for name, each in connections.items()
        for found in each["findings"]
    }


def test_typing_filters_the_table_and_updates_the_url(open_page: Opening) -> None:
    seen = open_page()

    seen.page.get_by_label("Search").press_sequentially("acme-r")
    seen.page.clock.run_for(300)

    expect(seen.page.locator("#count")).to_have_text("1 matching connection")
    assert seen.rows() == ["acme-reporting"]
    assert seen.page.url.endswith("/?q=acme-r")
    expect(seen.page.get_by_label("Search")).to_be_focused()
    expect(seen.page.get_by_label("Search")).to_have_value("acme-r")


def test_selecting_a_filter_can_be_undone_with_back(open_page: Opening) -> None:
    seen = open_page()
    page = seen.page

    page.get_by_label("Cause", exact=True).select_option("certificate_expiring")
    expect(page.locator("#count")).to_have_text("2 matching connections")
    page.get_by_label("Who acts").select_option("org_admin")
    expect(page.locator("#count")).to_have_text("1 matching connection")
    assert page.url.endswith("/?cause=certificate_expiring&responsible=org_admin")

    page.go_back()
    expect(page.locator("#count")).to_have_text("2 matching connections")
    expect(page.get_by_label("Who acts")).to_have_value("")
    page.go_back()
    expect(page.locator("#count")).to_have_text("23 connections")
    expect(page.get_by_label("Cause", exact=True)).to_have_value("")


def test_a_tile_filters_by_state_and_keeps_the_other_filters(open_page: Opening) -> None:
    seen = open_page("/?label=tier%3Dgold")

    seen.page.locator("#tile-degraded").click()

    expect(seen.page.locator("#tile-degraded")).to_have_attribute("aria-current", "true")
    assert seen.rows() == ["hooli-orders", "umbrella-crm"]
    assert seen.page.url.endswith("/?state=degraded&label=tier%3Dgold")


def test_filters_work_without_javascript(open_page: Opening) -> None:
    seen = open_page(java_script_enabled=False)

    seen.page.get_by_label("Search").fill("umbrella")
    seen.page.get_by_role("button", name="Apply").click()

    assert seen.rows() == ["umbrella-crm"]
    expect(seen.page.get_by_role("button", name="Pause refresh")).to_be_hidden()


def test_a_refresh_shows_changes_and_keeps_the_scroll_position(open_page: Opening) -> None:
    seen = open_page(viewport={"width": 1440, "height": 500})
    page = seen.page
    link = page.get_by_role("link", name="weyland-fleet")
    link.focus()
    row = "document.getElementById('c-weyland-fleet')"
    place = page.evaluate(f"{row}.getBoundingClientRect().top")
    assert page.evaluate("scrollY") > 0
    page.evaluate(f"{row}.kept = true")

    seen.later()
    seen.refresh()

    expect(page.locator("#c-weyland-fleet td[data-title=Checked] time").first).to_have_text("1 min ago")
    expect(link).to_be_focused()
    assert page.evaluate(f"{row}.getBoundingClientRect().top") == pytest.approx(place, abs=1)
    assert page.evaluate(f"{row}.kept")


@pytest.mark.parametrize("focused", ["acme-production", "globex-eu"])
def test_a_refresh_keeps_the_focus_in_moved_rows(open_page: Opening, focused: str) -> None:
    seen = open_page()
    link = seen.page.get_by_role("link", name=focused)
    link.focus()

    seen.later(healthy="acme-production")
    seen.refresh()

    expect(seen.page.locator("#tile-failing .number")).to_have_text("3")
    assert seen.rows()[0] == "globex-eu"
    assert "acme-production" in seen.rows()[9:]
    expect(link).to_be_focused()
    assert len(seen.rows()) == len(set(seen.rows())) == 23


def test_a_refresh_keeps_input_and_open_menus(open_page: Opening) -> None:
    seen = open_page("/connections/acme-production")
    seen.page.locator("#epochs summary").click()

    seen.later()
    seen.refresh()

    expect(seen.page.locator("#epochs table")).to_be_visible()


def test_a_refresh_can_be_paused(open_page: Opening) -> None:
    seen = open_page()
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.resource_type))

    seen.page.get_by_role("button", name="Pause refresh").click()
    seen.page.clock.run_for(REFRESH_SECONDS * 5000)

    expect(seen.page.get_by_role("button", name="Pause refresh")).to_have_attribute("aria-pressed", "true")
    assert "fetch" not in asked


def test_a_page_without_a_daemon_says_that_it_is_outdated(
    browser: Browser, past: tuple[Store, Snapshot]
) -> None:
    page = browser.new_page()
    page.clock.install()
    with served(Stage(*past).app()) as address:
        page.goto(address)
        expect(page.get_by_role("alert")).to_be_hidden()

    page.clock.run_for(REFRESH_SECONDS * 1000 + 1)

    expect(page.get_by_role("alert")).to_have_text(
        "The monitor does not respond. This page is out of date: As of 2026-11-23 12:00:00 UTC"
    )
    page.context.close()


def test_everything_can_be_reached_by_keyboard(open_page: Opening) -> None:
    seen = open_page()
    page = seen.page

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    reached = []
    for _ in range(26):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))

    assert reached == [
        "acts-org_admin", "acts-operator", "acts-salesforce",
        *(f"tile-{state}" for state in ("failing", "degraded", "settling", "unknown", "healthy", "paused")),
        *[""] * 8,  # the causes, counted
        "q", "cause", "responsible", "label", "sort", "by",
        "a-acme-production", "", "",
    ]  # fmt: skip
    page.get_by_role("link", name="globex-eu").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("globex-eu")


@pytest.mark.parametrize(("width", "table"), [(390, False), (639, False), (768, True)])
def test_a_phone_has_rows_of_two_or_three_lines_and_folded_filters(
    open_page: Opening, width: int, *, table: bool
) -> None:
    seen = open_page(viewport={"width": width, "height": 800})

    row = seen.page.locator("tbody tr").first.bounding_box()
    assert row
    assert row["height"] < 100
    heading = seen.page.locator("thead").bounding_box()
    assert heading
    assert (heading["width"] > 10) is table
    if table:
        expect(seen.page.get_by_label("Search")).to_be_visible()
    else:
        expect(seen.page.get_by_label("Search")).to_be_hidden()
        seen.page.get_by_text("Search and filters").click()
        expect(seen.page.get_by_text("Who acts", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS.values())
def test_the_setup_guide_step_by_step_is_read_without_scrolling_sideways(
    open_page: Opening, width: int
) -> None:
    seen = open_page("/connections/acme-production", viewport={"width": width, "height": 900})
    section = seen.page.get_by_role("region", name="Setup guide, step by step")
    rows = section.get_by_role("row")

    assert [row.get_by_role("cell").nth(0).inner_text() for row in rows.all()[1:]] == [
        "1", *5 * ["2"], "3", *3 * ["4"], *2 * ["5"], *2 * ["6"], "7", *3 * ["–"],
    ]  # fmt: skip
    wrong = rows.filter(has_text="Refresh Token Policy").first
    expect(wrong.get_by_role("cell").nth(2)).to_have_text("wrong")
    expect(wrong.get_by_role("cell").nth(3)).to_contain_text("ends an approval after 30 days")
    assert section.locator(".scroll").evaluate("each => each.scrollWidth - each.clientWidth") == 0


def test_local_time_is_shown_beside_utc_and_stays(open_page: Opening) -> None:
    seen = open_page(timezone_id="Asia/Kolkata")
    since = seen.page.locator("#c-acme-production .since time")
    expect(since).to_have_attribute("title", re.compile(r"2026-11-23 08:49:00 UTC · .*2:19.* here"))

    seen.later()
    seen.refresh()

    expect(since).to_have_attribute("title", re.compile(r"UTC · .*2:19.* here$"))


def test_the_command_can_be_copied(open_page: Opening) -> None:
    seen = open_page("/connections/acme-production", permissions=["clipboard-read", "clipboard-write"])

    seen.page.get_by_role("button", name="Copy").click()

    expect(seen.page.get_by_role("button", name="Copied")).to_be_visible()
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(
        "SF_AUDIENCE_URL=https://acme-production.my.salesforce.com sf org login jwt \\\n"
    )


@pytest.mark.parametrize("path", ["/", "/connections/hostile"])
def test_hostile_text_is_escaped_in_a_browser(open_page: Opening, path: str) -> None:
    seen = open_page(path)
    seen.later()
    seen.refresh()

    expect(seen.page.get_by_text(HOSTILE).first).to_be_visible()
    assert "owned" not in seen.page.title()
    assert seen.page.locator("img").count() == 0


@pytest.mark.parametrize("path", ["/", "/connections/acme-production", "/setup", "/causes", "/events"])
def test_nothing_is_wider_than_the_window(open_page: Opening, path: str) -> None:
    """Least room is on either side of where the style sheet changes the layout."""
    seen = open_page(path)
    changes = [
        16 * int(rem) for rem in re.findall(r"max-width: (\d+)rem\)", (STATIC / "style.css").read_text())
    ]

    for width in (NARROWEST, *WIDTHS.values(), *changes, *(change + 1 for change in changes)):
        seen.page.set_viewport_size({"width": width, "height": 800})
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert (
            seen.page.evaluate(
                "(main => main.scrollWidth - main.clientWidth)(document.querySelector('main'))"
            )
            == 0
        ), width
        if path == "/":
            expect(seen.page.get_by_role("row").nth(1)).to_contain_text("acme-production")


@pytest.mark.real("node")
@pytest.mark.parametrize("path", ["/", "/?state=failing&q=zzz", "/connections/acme-production",
                                  "/connections/hooli-orders", "/connections/vandelay-legacy", "/setup",
                                  "/causes", "/causes/ip_restricted", "/events"])  # fmt: skip
def test_axe_finds_no_accessibility_problem(open_page: Opening, path: str) -> None:
    page = open_page(path).page
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.evaluate(AXE.read_text())
    assert re.match(r"4\.", page.evaluate("axe.version"))

    for scheme, width in product(SCHEMES, WIDTHS.values()):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        found = page.evaluate("axe.run().then(({violations}) => violations)")

        told = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
        assert not told, (scheme, width)
