"""A rotation is written into a file of which every other character stays as it was."""

import difflib
from pathlib import Path

import pytest

from monitor.config.editing import EditError, Entry, find

FILE = """\
# ours
interval: 5m   # the usual
connections:
  - name: globex
    private_key: {file: keys/globex.pem}
    subdomain:   globex

  - name: acme      # the big one
    subdomain: acme
    # from the vault
    private_key: {file: keys/acme.pem}   # 0600
    # uploaded in March
    certificate:
      file: keys/acme-cert.pem           # public

    # who pays
    labels: {customer: ä “acme”}
    username: integration@acme.com
  - {name: initech, private_key: {env: KEY}}
"""

NEXT = """\
    next:
      private_key: {file: keys/acme-2.pem}
      certificate: {file: keys/acme-2-cert.pem}
"""


def entry(raw: bytes, name: str = "acme", folder: str = "/etc/x") -> Entry:
    found = find(raw, name, Path(folder))
    assert found
    return found


def added(raw: bytes) -> bytes:
    return entry(raw).with_next("/etc/x/keys/acme-2.pem", "/etc/x/keys/acme-2-cert.pem")


def current(raw: bytes) -> bytes:
    return entry(raw).with_next_current()


def changed(before: str, after: bytes) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.decode().splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_a_next_pair_adds_three_lines_after_the_certificate() -> None:
    made = added(FILE.encode())

    assert made.decode() == FILE.replace("           # public\n", "           # public\n" + NEXT)


def test_the_next_pair_becomes_the_current_one_and_nothing_else_changes() -> None:
    assert changed(FILE, current(added(FILE.encode()))) == [
        "-     private_key: {file: keys/acme.pem}   # 0600",
        "+     private_key: {file: keys/acme-2.pem}   # 0600",
        "-       file: keys/acme-cert.pem           # public",
        "+       {file: keys/acme-2-cert.pem}           # public",
    ]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_are_kept(ends: str, mark: str) -> None:
    raw = (mark + FILE.replace("\n", ends)).encode()

    assert (
        added(raw)
        == (
            mark + FILE.replace("           # public\n", "           # public\n" + NEXT).replace("\n", ends)
        ).encode()
    )
    assert changed(FILE, current(added(raw)).removeprefix("\ufeff".encode())) == changed(
        FILE, current(added(FILE.encode()))
    )


def test_a_top_level_list_without_final_line_break_can_be_edited() -> None:
    raw = b"- name: acme\n  private_key: {file: key.pem}"

    assert added(raw).decode() == raw.decode() + "\n" + NEXT.replace("    ", "  ", 1).replace(
        "\n      ", "\n    "
    ).rstrip("\n")
    assert current(added(raw)).decode() == (
        "- name: acme\n  private_key: {file: keys/acme-2.pem}\n  certificate: {file: keys/acme-2-cert.pem}\n"
    )


def test_a_declared_expiry_is_removed_with_its_pair() -> None:
    raw = b"""connections:
- name: acme
  private_key: {file: acme.pem}
  certificate_not_after: 2027-03-01   # as the customer says
  paused: false
"""

    assert (
        current(added(raw)).decode()
        == """connections:
- name: acme
  private_key: {file: keys/acme-2.pem}
  certificate: {file: keys/acme-2-cert.pem}
  paused: false
"""
    )


def test_writing_a_next_pair_without_a_certificate_removes_the_old_certificate() -> None:
    raw = b"""- name: acme
  certificate: {file: old-cert.pem}
  private_key: {file: old.pem}
  next:
    private_key:
      env: "NEW"   # by the vault
"""

    assert current(raw).decode() == "- name: acme\n  private_key: {env: NEW}\n"


def test_a_path_is_quoted_if_yaml_requires_it() -> None:
    made = entry(FILE.encode(), folder="/x").with_next("/x/a, b: {c}.pem", '/x/"ä".pem')

    assert '{file: "a, b: {c}.pem"}' in made.decode()
    assert '{file: "\\"ä\\".pem"}' in made.decode()


def test_new_paths_are_absolute_unless_the_current_one_is_relative() -> None:
    for written in (b"{env: KEY}", b"{file: /keys/acme.pem}"):
        assert b"{file: /etc/x/keys/acme-2.pem}" in added(b"- name: acme\n  private_key: " + written)


def test_a_connection_in_another_file_is_not_found() -> None:
    assert find(FILE.encode(), "hooli", Path("/")) is None
    assert find(b"labels: acme\n", "acme", Path("/")) is None
    assert find(b"", "acme", Path("/")) is None


SHARED = b"- name: other\n  private_key: &key {env: A}\n"
ANCHORED = b"""- name: initech
  private_key: &key {env: A}
  next: {private_key: {env: B}}
- name: other
  private_key: *key
"""


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (FILE.encode(), "in braces"),
        (
            SHARED + b"- name: initech\n  private_key: *key\n  next: {private_key: {env: B}}\n",
            "change its meaning",
        ),
        (
            b"- next: {private_key: {env: B}}\n  name: initech\n  private_key: {env: A}\n",
            "change its meaning",
        ),
        (b"- name: initech\n  private_key: {env: A}\n", "next is missing"),
        (ANCHORED, "change its meaning"),
    ],
)
def test_an_unsafe_edit_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(EditError, match=why):
        entry(raw, "initech").with_next_current()
