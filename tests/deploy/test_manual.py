"""The manual page is the one made from the command line's own help."""

from deploy.man.build_man import PAGE, page


def test_the_manual_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m deploy.man.build_man"


def test_each_command_has_a_section_without_accidental_macros() -> None:
    lines = page().splitlines()

    assert ".SS bearerwatch check" in lines
    assert {line.split()[0] for line in lines if line.startswith(".")} == {
        ".TH", ".SH", ".SS", ".B", ".I", ".PP", ".TP", ".IP",
    }  # fmt: skip
    assert not [line for line in lines if line.startswith("'")]
