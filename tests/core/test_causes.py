import re
from pathlib import Path

import pytest

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.web.runbooks import as_json, cause_page, coded, guide_link, setup_page, write

PAGES = Path(__file__).parents[2] / "docs" / "causes"
AGAIN = (
    "make them again: python -c 'from pathlib import Path; from monitor.web.runbooks import write;"
    ' write(Path("docs"))\''
)


def unlinked(markdown: str) -> str:
    """A page's text, links left out."""
    return re.sub(r"\[(.+?)\]\(.+?\)", r"\1", markdown)


@pytest.mark.parametrize("cause", Cause)
def test_every_entry_is_complete(cause: Cause) -> None:
    entry = CATALOGUE[cause]

    assert entry.title
    assert not entry.title.endswith(".")
    assert len(entry.title) < 70
    for sentence in (entry.meaning, entry.tell_apart, *entry.remedy):
        assert sentence.endswith((".", ".)"))
        assert "  " not in sentence
    assert entry.remedy
    assert cause not in entry.hidden_by


@pytest.mark.parametrize(
    ("cause", "names"),
    [
        (
            Cause.USER_NOT_ADMIN_APPROVED,
            ("External Client App Manager", "Selected Permission Sets", "Never Expires"),
        ),
        (Cause.CONSUMER_NOT_APPROVED, ("Admin approved users are pre-authorized", "Permitted Users")),
        (Cause.APPROVAL_DECAYED, ("Refresh Token Policy", "Refresh token is valid until revoked")),
        (Cause.IP_RESTRICTED, ("Login IP Ranges", "Relax IP restrictions")),
        (Cause.API_DISABLED, ("System Permissions", "API Enabled")),
        (Cause.JWT_ACCESS_TOKEN, ("Issue JSON Web Token (JWT)-based access tokens for named users",)),
        (Cause.FLOW_DISABLED, ("Flow Enablement", "Enable JWT Bearer Flow")),
        (Cause.SCOPE_MISSING, ("Manage user data via APIs (api)", "Perform requests at any time")),
        (Cause.CONSUMER_KEY_UNKNOWN, ("Consumer Key and Secret",)),
        (Cause.SUBDOMAIN_UNKNOWN, ("Setup > My Domain",)),
    ],
)
def test_a_remedy_uses_the_names_of_setup(cause: Cause, names: tuple[str, ...]) -> None:
    said = " ".join(CATALOGUE[cause].remedy)

    for name in names:
        assert name in said


@pytest.mark.parametrize(
    "cause",
    [
        Cause.IP_RESTRICTED,
        Cause.NOT_AUTHORIZED,
        Cause.APPROVAL_DECAYED,
        Cause.APPROVAL_EXPIRING,
        Cause.CERTIFICATE_EXPIRED,
        Cause.CERTIFICATE_EXPIRING,
        Cause.USER_NOT_ADMIN_APPROVED,
        Cause.CONSUMER_NOT_APPROVED,
    ],
)
def test_contradicting_sources_are_both_given(cause: Cause) -> None:
    told = CATALOGUE[cause].contested

    assert told is not None
    assert "guide (step" in told
    assert "Salesforce" in told
    assert told in unlinked(cause_page(cause))


def test_a_settle_time_is_the_guides_two_to_ten_minutes_and_names_its_source() -> None:
    settles = [settle for cause in Cause if (settle := as_json(cause)["settle"])]

    assert settles
    for settle in settles:
        assert (settle["shortest_seconds"], settle["longest_seconds"]) == (120, 600)
        assert "setup guide, step 2" in settle["source"]


@pytest.mark.parametrize("cause", Cause)
def test_the_pages_of_causes_in_docs_are_up_to_date(cause: Cause) -> None:
    page = PAGES / f"{cause}.md"

    assert page.read_text(encoding="utf-8") == cause_page(cause), AGAIN


def test_removed_causes_have_no_page() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {"index", *map(str, Cause)}


def test_the_list_of_causes_and_the_setup_in_docs_are_up_to_date(tmp_path: Path) -> None:
    write(tmp_path)

    for made in ("causes/index.md", "setup.md"):
        assert (PAGES.parent / made).read_text(encoding="utf-8") == (tmp_path / made).read_text(), AGAIN


def test_each_setup_step_lists_its_causes() -> None:
    steps = setup_page().split("\n## Step ")[1:]

    assert [step[0] for step in steps] == list("1234567")
    for number, step in enumerate(steps, 1):
        section = step.split("\n## ")[0]
        speak = {cause for cause, entry in CATALOGUE.items() if entry.guide and str(number) in entry.guide}
        assert set(re.findall(r"causes/(\w+)\.md", section)) == speak


def test_every_referenced_note_exists() -> None:
    for cause, entry in CATALOGUE.items():
        assert entry.contested or "see the note" not in " ".join(entry.remedy), cause


def test_setup_steps_are_links_and_screens_too_if_the_org_is_known() -> None:
    text = "In Setup, open Permission Sets (steps 5 and 6); see `step 4` & Permitted Users."

    assert coded(text) == (
        'In Setup, open Permission Sets (<a href="/setup#step-5">steps 5</a> and'
        ' <a href="/setup#step-6">6</a>); see <code>step 4</code> &amp; Permitted Users.'
    )
    assert 'href="https://acme.my.salesforce.com/lightning/setup/PermSets/home"' in coded(
        text, "https://acme.my.salesforce.com"
    )
    assert guide_link("sandbox refresh") == '<a href="/setup#sandbox-refresh">sandbox refresh</a>'


def test_an_entry_as_json_has_its_settle_time_in_seconds() -> None:
    told = as_json(Cause.CONSUMER_KEY_UNKNOWN)

    assert told["cause"] == "consumer_key_unknown"
    assert told["settle"]["longest_seconds"] == 600
    assert as_json(Cause.KEY_NOT_RSA)["settle"] is None
