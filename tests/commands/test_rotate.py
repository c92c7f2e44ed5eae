"""The parts of a guided rotation, each broken in its turn: nothing is lost, and what to do is said."""

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from monitor.commands.rotate.guide import rotate
from monitor.commands.rotate.looking import LATER_PACE, LONGEST, PACE, Look, Watcher
from monitor.commands.rotate.pair import Options, RotateError, is_done, make, next_pair, refuse_unusable
from monitor.commands.rotate.writing import write_current, write_next
from monitor.config import Settings, load
from monitor.core.connection import Connection, Pair, Source
from monitor.core.history import Stage
from monitor.keys import keygen
from monitor.salesforce.exchange import Exchanger
from monitor.simulator.server import Simulator, running
from monitor.watch.clock import Clock
from tests.making import read_credential

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "keys").mkdir()
    keygen.generate(tmp_path / "keys", now=NOW, key_name="acme.pem", certificate_name="acme-cert.pem")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "acme").write_text("""\
- name: acme
  subdomain: acme     # step 7
  consumer_key: 3MVG9acme
  username: integration@acme.example
  private_key: {file: ../keys/acme.pem}
  certificate: {file: ../keys/acme-cert.pem}
""")
    (tmp_path / "bearerwatch.yaml").write_text("connections_from: [more/*]\n")
    return load(tmp_path / "bearerwatch.yaml", {})


def again(settings: Settings) -> Settings:
    return load(settings.files[0], {})


def pair_of(directory: str, name: str) -> Pair:
    return Pair(Source("file", f"{directory}/{name}.pem"), Source("file", f"{directory}/{name}-cert.pem"))


@pytest.mark.parametrize(
    ("current", "following"),
    [("acme", "acme-2"), ("acme-2", "acme-3"), ("acme-99", "acme-100"), ("a-b", "a-b-2")],
)
def test_the_next_pair_is_numbered_and_in_the_same_directory(
    settings: Settings, current: str, following: str
) -> None:
    (acme,) = settings.connections

    assert next_pair(replace(acme, current=pair_of("/k", current)), None) == pair_of("/k", following)
    assert next_pair(replace(acme, current=pair_of("/k", current)), Path("/out")) == pair_of(
        "/out", following
    )


def test_a_configured_next_pair_is_used(settings: Settings) -> None:
    (acme,) = settings.connections

    assert next_pair(replace(acme, next=pair_of("/k", "other")), Path("/out")) == pair_of("/k", "other")


def test_a_key_outside_a_file_needs_a_directory_for_the_next_one(settings: Settings) -> None:
    vault = replace(settings.connections[0], current=Pair(Source("env", "KEY")))

    with pytest.raises(RotateError, match="--out"):
        next_pair(vault, None)
    assert next_pair(vault, Path("/out")) == pair_of("/out", "acme-2")


def test_a_pair_is_created_once_and_reused(settings: Settings) -> None:
    (acme,) = settings.connections
    pair = next_pair(acme, None)

    made = make(acme, pair, Options(), NOW)
    before = made[0].read_bytes()

    assert [path.name for path in made] == ["acme-2.pem", "acme-2-cert.pem"]
    assert make(acme, pair, Options(), NOW) == []
    assert made[0].read_bytes() == before
    assert made[0].stat().st_mode & 0o777 == 0o600


def test_a_file_in_the_way_or_a_missing_one_is_reported(settings: Settings, tmp_path: Path) -> None:
    (acme,) = settings.connections
    (tmp_path / "keys" / "acme-2-cert.pem").write_text("another's")

    with pytest.raises(RotateError, match=r"acme-2\.pem does not exist, .* has the certificate"):
        make(acme, next_pair(acme, None), Options(), NOW)
    with pytest.raises(RotateError, match=r"The directory .* does not exist"):
        make(acme, next_pair(acme, tmp_path / "nowhere"), Options(), NOW)


def test_an_unusable_pair_is_refused_with_the_reason(settings: Settings, tmp_path: Path) -> None:
    (acme,) = settings.connections
    key, certificate = ((tmp_path / "keys" / name).read_bytes() for name in ("acme.pem", "acme-cert.pem"))
    current = read_credential(key, certificate)
    other, others = make(acme, next_pair(acme, None), Options(), NOW)

    with pytest.raises(RotateError, match="is the current key"):
        refuse_unusable(next_pair(acme, None), current, current)
    with pytest.raises(RotateError, match="do not match"):
        refuse_unusable(next_pair(acme, None), current, read_credential(other.read_bytes(), certificate))
    with pytest.raises(RotateError, match="cannot be used:\nThe private key"):
        refuse_unusable(next_pair(acme, None), current, read_credential(other.read_bytes()[:600]))
    with pytest.raises(RotateError, match="create another pair"):
        refuse_unusable(next_pair(acme, None), current, read_credential(other.read_bytes()))
    refuse_unusable(next_pair(acme, None), current, read_credential(other.read_bytes(), others.read_bytes()))


def test_a_rotation_that_was_just_finished_is_not_started_again(settings: Settings, tmp_path: Path) -> None:
    (acme,) = settings.connections
    made = make(acme, next_pair(acme, None), Options(), NOW)
    rotated = replace(acme, current=next_pair(acme, None))
    current = read_credential(*(path.read_bytes() for path in made))

    assert is_done(rotated, next_pair(rotated, None), current, NOW + timedelta(hours=1))
    assert not is_done(rotated, next_pair(rotated, None), current, NOW + timedelta(days=30))
    assert not is_done(acme, next_pair(acme, None), current, NOW)


# The configuration


def test_a_rotation_is_written_into_the_file_of_the_connection(settings: Settings, tmp_path: Path) -> None:
    (acme,) = settings.connections
    before = (tmp_path / "more" / "acme").read_text()
    pair = next_pair(acme, None)

    file, copy = write_next(settings, "acme", pair, NOW)
    (prepared,) = again(settings).connections
    write_current(again(settings), "acme", pair, NOW + timedelta(seconds=1))
    (rotated,) = again(settings).connections

    assert (file, copy.parent) == (tmp_path / "more" / "acme", tmp_path / "more")
    assert copy.read_text() == before
    assert prepared == replace(acme, next=pair)
    assert rotated == replace(acme, current=pair)
    assert "{file: ../keys/acme-2.pem}" in file.read_text()


def test_links_and_modes_of_the_configuration_are_kept(settings: Settings, tmp_path: Path) -> None:
    real = tmp_path / "more" / "acme"
    real.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o640)
    real.symlink_to("../elsewhere")

    write_next(again(settings), "acme", next_pair(settings.connections[0], None), NOW)

    assert real.is_symlink()
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o640
    assert again(settings).connections[0].next is not None


def test_a_change_that_would_not_load_is_rolled_back(settings: Settings, tmp_path: Path) -> None:
    before = (tmp_path / "more" / "acme").read_text()
    (tmp_path / "bearerwatch.yaml").write_text("connections_from: [more/*]\ninterval: soon\n")

    with pytest.raises(RotateError, match=r"was not changed(.|\n)*interval"):
        write_next(settings, "acme", next_pair(settings.connections[0], None), NOW)
    assert (tmp_path / "more" / "acme").read_text() == before


def test_a_connection_with_an_alias_must_be_edited_by_hand_with_the_lines_given(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "more" / "acme"
    place, written = "{file: ../keys/acme-cert.pem}", file.read_text()
    first = written.replace("name: acme", "name: first").replace(place, f"&shared {place}")
    before = first + written.replace(place, "*shared")
    file.write_text(before)
    assert len(again(settings).connections) == 2
    pair = next_pair(settings.connections[0], None)

    with pytest.raises(RotateError) as refused:
        write_next(settings, "acme", pair, NOW)

    assert str(refused.value).splitlines() == [
        f"{file} was not changed (the rest of the file would change its meaning): edit it by hand.",
        "The lines for acme:",
        "  next:",
        f"    private_key: {{file: {tmp_path}/keys/acme-2.pem}}",
        f"    certificate: {{file: {tmp_path}/keys/acme-2-cert.pem}}",
    ]
    assert file.read_text() == before


def test_an_unwritable_configuration_must_be_edited_by_hand(settings: Settings, tmp_path: Path) -> None:
    following = next_pair(settings.connections[0], None)
    (tmp_path / "more" / "acme").unlink()

    with pytest.raises(RotateError, match=r"cannot be written .* by hand.\nThe lines for acme:\n  next:"):
        write_next(settings, "acme", following, NOW)
    with pytest.raises(
        RotateError, match=r"by hand.\nThe lines for acme, which .*\n  private_key: .*acme-2.pem"
    ):
        write_current(settings, "acme", following, NOW)


def test_a_planted_link_does_not_redirect_the_new_configuration(settings: Settings, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root's")
    shadow.chmod(0o600)
    for name in (".acme.new", f".acme.before-{NOW:%Y%m%dT%H%M%SZ}"):
        (tmp_path / "more" / name).symlink_to(shadow)

    write_next(settings, "acme", next_pair(settings.connections[0], None), NOW)

    assert shadow.read_text() == "root's"
    assert shadow.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "more" / "acme").is_symlink()


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@ROOT_ONLY
def test_files_made_by_root_for_another_user_belong_to_that_user(settings: Settings, tmp_path: Path) -> None:
    for path in (tmp_path / "keys" / "acme.pem", tmp_path / "more" / "acme"):
        os.chown(path, 65534, 65534)
    (acme,) = settings.connections

    made = make(acme, next_pair(acme, None), Options(), NOW)
    file, copy = write_next(settings, "acme", next_pair(acme, None), NOW)

    assert {path.stat().st_uid for path in (*made, file, copy)} == {65534}


@ROOT_ONLY
def test_root_creates_keys_for_another_user_only_in_their_directories(
    settings: Settings, tmp_path: Path
) -> None:
    os.chown(tmp_path / "keys" / "acme.pem", 65534, 65534)
    (tmp_path / "systems").mkdir()
    (acme,) = settings.connections

    with pytest.raises(RotateError, match="does not belong to user 65534"):
        make(acme, next_pair(acme, tmp_path / "systems"), Options(), NOW)
    assert list((tmp_path / "systems").iterdir()) == []


def test_a_connection_removed_meanwhile_is_reported(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "more" / "acme").write_text("[]")

    with pytest.raises(RotateError, match="no longer in any of the files"):
        write_current(settings, "acme", next_pair(settings.connections[0], None), NOW)


# The looks


class Hasty(Clock):
    """A clock that is put ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = NOW

    def machine(self) -> datetime:
        return self.shown

    def steady(self) -> float:
        return self.shown.timestamp()


async def test_the_next_key_is_tried_slowly_and_not_forever(settings: Settings, tmp_path: Path) -> None:
    (acme,) = settings.connections
    key, certificate = ((tmp_path / "keys" / name).read_bytes() for name in ("acme.pem", "acme-cert.pem"))
    following = make(acme, next_pair(acme, None), Options(), NOW)
    told: list[tuple[Look, datetime]] = []
    clock = Hasty()

    def tell(look: Look, due: datetime) -> None:
        told.append((look, due))
        clock.shown = due

    with running(Simulator(clock=clock.machine)) as url:
        rotating = at_the_simulator(acme, url, certificate)
        exchanger = Exchanger(clock=clock.now)
        watcher = Watcher(rotating, exchanger, clock, per_hour=30)
        look = await watcher.until_accepted(
            read_credential(key, certificate),
            read_credential(*(path.read_bytes() for path in following)),
            tell=tell,
            stop=asyncio.Event(),
        )
        await exchanger.aclose()

    gaps = [due - seen.at for seen, due in told]
    assert (look.accepted, look.stage) == (False, Stage.PREPARED)
    assert min(gaps) >= PACE
    assert gaps[-1] >= LATER_PACE
    assert LONGEST <= look.at - told[0][0].at <= LONGEST + timedelta(hours=1)
    in_an_hour = [seen for seen, _ in told if seen.at - told[0][0].at <= timedelta(hours=1)]
    assert len(in_an_hour) <= 30


def at_the_simulator(acme: Connection, url: str, certificate: bytes) -> Connection:
    org = {
        "consumer_key": acme.consumer_key,
        "username": acme.username,
        "certificate": certificate.decode(),
    }
    httpx.put(f"{url}/_orgs/acme", json=org, trust_env=False).raise_for_status()
    return replace(acme, login_url=f"{url}/acme", audience=f"{url}/acme", next=next_pair(acme, None))


def test_a_person_can_decline_first_and_accept_later(settings: Settings, tmp_path: Path) -> None:
    (acme,) = settings.connections
    made = make(acme, next_pair(acme, None), Options(), NOW)
    said: list[str] = []
    with running(Simulator()) as url:
        there = replace(at_the_simulator(acme, url, made[1].read_bytes()), next=None)
        options = Options(write=True)
        first = rotate(settings, there, options, clock=Clock(), say=said.append, ask=lambda _: False)
        (prepared,) = again(settings).connections
        there = replace(there, next=prepared.next)
        second = rotate(again(settings), there, options, clock=Clock(), say=said.append, ask=lambda _: True)

    assert first is not None
    assert second is not None
    assert first.stage is second.stage is Stage.CURRENT_REFUSED
    assert again(settings).connections == (replace(acme, current=next_pair(acme, None)),)
    assert any("Nothing was changed." in line for line in said)
    assert any("Under Flow Enablement" in line for line in said)
    assert any("Use digital signatures" in line for line in said)
    assert "PRIVATE KEY" not in "\n".join(said)
