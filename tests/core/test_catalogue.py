"""How the catalogue is read, and what its reader says about mistakes in it."""

import re
import tomllib
from collections import Counter
from importlib.resources import files

import pytest
from pydantic import ValidationError

from monitor.core.catalogue import CATALOGUE, causes_where, read
from monitor.core.causes import Cause
from monitor.core.verdict.vocabulary import sentences

TEXT = (files("monitor.core") / "catalogue.toml").read_text(encoding="utf-8")
TABLES = tomllib.loads(TEXT)


def test_line_breaks_count_as_spaces_and_names_in_braces_are_replaced_by_shared_texts() -> None:
    text = TEXT.replace('title = "A scope is missing"', 'title = """\n  A scope\n  {save}"""')

    assert read(text)[Cause.SCOPE_MISSING].title == f"A scope {TABLES['steps']['save']}"


def changed(written: str, instead: str) -> str:
    """The catalogue with one text changed in the entry of `scope_missing`, or a heading."""
    place = 0 if written.startswith("[") else TEXT.index("[causes.scope_missing]")
    begin = TEXT.index(written, place)
    return TEXT[:begin] + instead + TEXT[begin + len(written) :]


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        ("[causes.org_inactive]", "[causes.org_asleep]", "org_asleep"),
        ("[causes.scope_missing]\ntitle", "[causes.scope_missing]\ntitel", "scope_missing.title"),
        ("[causes.scope_missing]\ntitle", "[causes.scope_missing]\ntitel", "scope_missing.titel"),
        ('"{not_accepted}"', '"not_accepted"', "scope_missing.hidden_by.0"),
        ('kind = "credential"', 'kind = "theirs"', "scope_missing.kind"),
        ("stops_calls = true", 'stops_calls = "often"', "scope_missing.stops_calls"),
    ],
)
def test_a_wrong_field_is_named(written: str, instead: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)):
        read(changed(written, instead))


@pytest.mark.parametrize(
    ("written", "instead", "name"),
    [
        ('"{save}"', '"{safe}"', "safe"),
        ('"{save}"', '"{save"', "expected '}' before end of string"),
        ('"{not_accepted}"', '"{not_excepted}"', "not_excepted"),
        ('settle = "{propagation}"', 'settle = "{quickly}"', "quickly"),
        ("[steps]", "[stages]", "steps"),
    ],
)
def test_a_wrong_reference_is_named_with_its_cause(written: str, instead: str, name: str) -> None:
    with pytest.raises((KeyError, ValueError), match=name) as raised:
        read(changed(written, instead))

    [note] = raised.value.__notes__
    assert note.startswith("in causes.")


def test_repeated_texts_are_shared() -> None:
    texts = Counter(
        text
        for row in TABLES["causes"].values()
        for text in (row["meaning"], row["tell_apart"], row.get("contested"), *row["remedy"])
        if text and not re.fullmatch(r"(\{\w+\} ?)+", text)
    )

    assert [text for text, times in texts.items() if times > 1] == []


@pytest.mark.parametrize("cause", CATALOGUE)
def test_a_remedy_for_an_external_client_app_has_the_path_of_a_connected_app_as_well(cause: Cause) -> None:
    remedy = CATALOGUE[cause].remedy

    for step in remedy:
        if "Flow Enablement" in step or "Settings tab" in step:
            assert "classic connected app" in step.lower()
    if "External Client App" in " ".join(remedy):
        assert "connected app" in " ".join(remedy).lower()


def test_statuses_of_login_history_are_named_as_salesforce_names_them() -> None:
    named = re.findall(r"Failed: [A-Z][a-z]+(?: [A-Za-z]+)*", " ".join(TEXT.split()))

    assert named
    assert [status for status in named if next(sentences(status), None) is None] == []


def test_every_shared_text_is_used() -> None:
    for table in ("steps", "notes", "groups", "settle"):
        for name in TABLES[table]:
            assert f"{{{name}}}" in TEXT, name


def test_the_group_unreached_matches_the_causes_without_an_answer() -> None:
    assert set(TABLES["groups"]["unreached"]) == causes_where(lambda entry: entry.unanswered)


def test_the_file_is_in_the_order_of_the_codes() -> None:
    assert list(CATALOGUE) == list(Cause)
