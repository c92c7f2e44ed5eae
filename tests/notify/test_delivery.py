"""What arrives at receivers that work, hang, break, refuse or answer garbage; and what never leaks."""

import asyncio
import base64
import json
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from monitor.config import SinkOptions
from monitor.core.alerts import alerts
from monitor.core.causes import Cause, Responsible
from monitor.core.holds import KEPT
from monitor.core.telling import SHOWN
from monitor.notify.notifier import PAUSE
from tests.core.fleets import TERMS, ill, snapshot, well
from tests.making import NOW
from tests.notify.world import DAY, SECOND, TAKEN, World, broken, header, receiver, takes, world
from tests.salesforce.wire import Reply, Visit, closes, drips, floods, hangs, http, resets, says

DOCUMENT = Path(__file__).parents[2] / "docs" / "notifications.md"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def hook(url: str, name: str = "hook", **options: object) -> dict[str, object]:
    return {"name": name, "type": "webhook", "url": url, **options}


def message(visit: Visit) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(visit.body)
    return told


def told(world: World, sink: str = "hook") -> list[str]:
    """The connections that a receiver takes to fail."""
    return sorted(name for one in world.store.told(sink).values() for name in one.connections)


async def end(here: World) -> None:
    """Let all connections work again, and be known to."""
    here.fleet = [well(one.name) for one in here.fleet]
    await here.look(MINUTE)
    await here.look(KEPT)


# What a webhook gets


async def test_a_webhook_gets_messages_in_alertmanagers_format(tmp_path: Path) -> None:
    async with receiver() as (_, server, url), world(tmp_path, hook(f"{url}/in")) as here:
        await here.look()

        (visit,) = server.visits
        assert visit.head.startswith("POST /in HTTP/1.1\r\n")
        assert header(visit, "content-type") == "application/json"
        sent = message(visit)
        assert {name: sent[name] for name in ("version", "status", "receiver", "truncatedAlerts")} == {
            "version": "4",
            "status": "firing",
            "receiver": "hook",
            "truncatedAlerts": 0,
        }
        (alert,) = sent["alerts"]
        assert alert["labels"]["alertname"] == "BearerwatchApiDisabled"
        assert alert["startsAt"] == (NOW - DAY).isoformat()
        assert alert["endsAt"] == "0001-01-01T00:00:00Z"
        assert re.fullmatch("[0-9a-f]{16}", alert["fingerprint"])
        assert sent["commonLabels"] == alert["labels"]

        await end(here)

        ended = message(server.visits[1])
        assert ended["status"] == "resolved"
        assert ended["alerts"][0]["fingerprint"] == alert["fingerprint"]
        assert ended["alerts"][0]["labels"].items() <= alert["labels"].items()
        assert ended["alerts"][0]["annotations"]["ended"] == "It is healthy."
        assert ended["alerts"][0]["endsAt"] == (NOW + MINUTE).isoformat()
        assert here.tries == [True, True]


async def test_a_sink_without_resolved_gets_no_resolved_messages(tmp_path: Path) -> None:
    async with receiver() as (_, server, url), world(tmp_path, hook(url, resolved=False)) as here:
        await here.look()
        await end(here)

        assert [message(visit)["status"] for visit in server.visits] == ["firing"]
        assert told(here) == []


async def test_a_message_about_thousands_shows_twenty_and_counts_the_others(tmp_path: Path) -> None:
    async with receiver() as (_, server, url), world(tmp_path, hook(url)) as here:
        app: dict[str, Any] = {"consumer_key": "3MVG9Shared"}
        here.fleet = [broken(f"c{number}", **app) for number in range(1600)]
        await here.look()
        await end(here)

    for visit, title in zip(server.visits, ("", "Resolved: "), strict=True):
        sent = message(visit)
        assert sent["title"].startswith(title)
        assert sent["title"].endswith(": 1,600 connections")
        assert (len(sent["alerts"]), sent["truncatedAlerts"]) == (SHOWN, 1600 - SHOWN)
        assert len(visit.body) < 30_000
        assert sum("description" in alert["annotations"] for alert in sent["alerts"]) <= 1


# What is wrong with the daemon itself


IDLE = well("idle", paused=True)
"""Never reported, however much time passes."""


async def test_a_configuration_that_stays_broken_is_reported_and_so_is_its_repair(tmp_path: Path) -> None:
    async with receiver() as (_, server, url), world(tmp_path, hook(url)) as here:
        here.fleet, here.reload_problem = [IDLE], "line 3: no such option"
        await here.look()
        await here.look(4 * MINUTE)
        assert server.visits == [], "who saves a mistake sees it, and saves again"

        await here.look(MINUTE)
        here.reload_problem = None
        await here.look(MINUTE)
        await here.look(KEPT)

    first, last = map(message, server.visits)
    assert first["title"] == "bearerwatch could not reload its configuration"
    assert first["commonLabels"] == {
        "alertname": "BearerwatchReloadFailed",
        "severity": "warning",
        "responsible": "operator",
    }
    assert last["status"] == "resolved"
    assert last["alerts"][0]["annotations"]["ended"] == "The condition has cleared."


async def test_the_hold_time_of_a_daemon_alert_starts_when_this_replica_can_notify(
    tmp_path: Path,
) -> None:
    async with receiver() as (_, server, url), world(tmp_path, hook(url)) as here:
        here.fleet, here.reload_problem = [IDLE], "line 3: no such option"
        await here.look()
        await here.look(HOUR)
        here.notifier.configure(here.settings())
        await here.look(MINUTE)
        here.notifier.configure(here.settings(hook(url)))
        await here.look(HOUR)
        await here.look(4 * MINUTE)
        assert server.visits == []

        await here.look(MINUTE)

    assert len(server.visits) == 1


async def test_a_daemon_alert_shorter_than_its_hold_time_is_not_sent(tmp_path: Path) -> None:
    async with receiver() as (_, server, url), world(tmp_path, hook(url)) as here:
        here.fleet = [IDLE]
        for _round in range(6):
            here.reload_problem = "line 3: no such option"
            await here.look(MINUTE)
            await here.look(3 * MINUTE)
            here.reload_problem = None
            await here.look(MINUTE)

    assert server.visits == []


async def test_a_restart_neither_repeats_nor_resolves_alerts_about_the_daemon(tmp_path: Path) -> None:
    async with receiver() as (_, server, url):
        for start in range(2):
            async with world(tmp_path, hook(url)) as here:
                here.now = NOW + start * 20 * MINUTE
                here.fleet, here.reload_problem = [IDLE], "line 3: no such option"
                for _round in range(8):
                    await here.look(MINUTE)

    assert [message(visit)["status"] for visit in server.visits] == ["firing"]


async def test_alerts_about_the_daemon_do_not_go_to_owners_of_connections(tmp_path: Path) -> None:
    sink = {"responsible": ["org_admin"]}
    labels = {"labels": {"tier": "gold"}}
    async with (
        receiver() as (_, server, url),
        world(tmp_path, hook(url, "admins", **sink), hook(url, "gold", **labels)) as here,
    ):
        here.fleet, here.reload_problem = [IDLE], "line 3: no such option"
        await here.look()
        await here.look(HOUR)

    assert server.visits == []


# Signatures


def verifier() -> Any:
    """What the document tells receivers to do."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["is_genuine"]


@pytest.mark.parametrize(
    ("kept_as", "key"),
    [("a key as it stands", b"a key as it stands"), ("whsec_" + base64.b64encode(b"raw").decode(), b"raw")],
    ids=["plain", "of Standard Webhooks"],
)
async def test_a_receiver_verifies_the_signature_as_documented(
    tmp_path: Path, kept_as: str, key: bytes
) -> None:
    (tmp_path / "key").write_text(f"{kept_as}\n")
    sink_secret = {"file": str(tmp_path / "key")}
    async with receiver() as (_, server, url), world(tmp_path, hook(url, secret=sink_secret)) as here:
        here.now = NOW + (time.time() - NOW.timestamp()) * SECOND
        await here.look()

        (visit,) = server.visits
        headers = {
            name: header(visit, name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        }
        is_genuine = verifier()
        assert is_genuine(key, headers, visit.body)
        assert not is_genuine(key, headers, visit.body + b" ")
        assert not is_genuine(b"another", headers, visit.body)
        assert not is_genuine(key, headers | {"webhook-id": "msg_other"}, visit.body)
        assert not is_genuine(key, headers | {"webhook-timestamp": "1"}, visit.body)


async def test_a_key_that_changes_on_disk_signs_the_next_message(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    sink = hook("", secret={"file": str(tmp_path / "key")}, repeat="5m")
    async with receiver() as (_, server, url), world(tmp_path, sink | {"url": url}) as here:
        await here.look()
        (tmp_path / "key").write_text("new")
        await here.look(10 * MINUTE)

        first, second = (header(visit, "webhook-signature") for visit in server.visits)
        assert first != second


# Receivers that fail


FAILURES: dict[str, Reply] = {
    "hangs": hangs,
    "closes at once": closes,
    "resets before an answer": resets(b""),
    "says nothing but bytes": says(b"\x00\xff garbage\r\n\r\n"),
    "500": says(http(500, "<html>Oops</html>", "Content-Type: text/html")),
    "404": says(http(404, "no such hook")),
    "redirects": says(http(302, "", "Location: http://127.0.0.1:1/elsewhere")),
    "500 without an end": floods(b"HTTP/1.1 500 Oops\r\n\r\n", b"x" * 65_536),
    "drips header lines": drips(b"HTTP/1.1 200 OK\r\n", b"X-Drop: 1\r\n"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_sink_that_fails_and_recovers_gets_every_message_once(tmp_path: Path, failure: str) -> None:
    async with (
        receiver(FAILURES[failure]) as (way, server, url),
        receiver() as (_, other, other_url),
        world(tmp_path, hook(url), hook(other_url, "other")) as here,
    ):
        await here.look()
        assert told(here) == []
        assert sorted(here.tries) == [False, True]

        way.reply = takes
        server.visits.clear()
        await here.look(PAUSE)
        await here.look(PAUSE)

        assert [message(visit)["status"] for visit in server.visits] == ["firing"]
        assert told(here) == ["acme"]
        assert len(other.visits) == 1, "the other receiver has nothing to do with it"


async def test_a_success_status_counts_even_if_the_body_never_ends(tmp_path: Path) -> None:
    flood = floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    async with receiver(flood) as (_, _, url), world(tmp_path, hook(url)) as here:
        await here.look()

        assert told(here) == ["acme"]


async def test_a_message_accepted_with_an_undecodable_answer_is_not_repeated(tmp_path: Path) -> None:
    accepts = says(http(200, "ok", "Content-Encoding: gzip"))
    async with receiver(accepts) as (_, server, url), world(tmp_path, hook(url)) as here:
        await here.look()
        await here.look(MINUTE)

        assert here.tries == [True]
        assert len(server.visits) == 1


async def test_a_message_accepted_without_an_answer_is_repeated_with_the_same_id(
    tmp_path: Path,
) -> None:
    async with receiver(resets(b"")) as (way, server, url), world(tmp_path, hook(url)) as here:
        await here.look()
        way.reply = takes
        await here.look(MINUTE)

        ids = [header(visit, "webhook-id") for visit in server.visits]
        assert len(ids) >= 2
        assert len(set(ids)) == 1


async def test_a_failing_sink_is_tried_once_a_minute(tmp_path: Path) -> None:
    async with receiver(says(http(503, ""))) as (_, _, url), world(tmp_path, hook(url)) as here:
        tried = []
        for second in range(0, 300, 10):
            here.tries.clear()
            await here.look(10 * SECOND if second else timedelta(0))
            tried += [second] if here.tries else []

        assert tried == [0, 60, 120, 180, 240]


async def test_a_hanging_sink_does_not_delay_others(tmp_path: Path) -> None:
    came = asyncio.Event()

    async def takes_and_tells(visit: Visit) -> None:
        await takes(visit)
        came.set()

    async with (
        receiver(hangs) as (_, _, url),
        receiver(takes_and_tells) as (_, _, other_url),
        world(tmp_path, hook(url), hook(other_url, "other")) as here,
    ):
        under_way = asyncio.create_task(here.look())
        await came.wait()
        assert not under_way.done()
        await under_way

        assert sorted(here.tries) == [False, True]


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "without an answer"])
async def test_refused_messages_do_not_block_others(tmp_path: Path, *, silent: bool) -> None:
    async def takes_one(visit: Visit) -> None:
        await visit.read()
        if b'"connection": "last"' in visit.body:
            await visit.send(TAKEN)
        elif not silent:
            await visit.send(http(400, ""))

    async with receiver(takes_one) as (_, _, url), world(tmp_path, hook(url)) as here:
        here.fleet = [broken("first"), broken("second"), broken("last")]
        await here.look()
        assert here.tries == [False], "a round ends with the first that is not taken"

        await here.look(PAUSE)
        await here.look(PAUSE)
        assert here.tries == [False, False, True, False]
        assert told(here) == ["last"]


# Restarts and reloads


async def test_a_restart_neither_repeats_nor_loses_messages(tmp_path: Path) -> None:
    async with receiver() as (_, server, url):
        async with world(tmp_path, hook(url)) as here:
            await here.look()
        async with world(tmp_path, hook(url)) as here:
            await here.look(MINUTE)
            assert len(server.visits) == 1
            await end(here)

        assert [message(visit)["status"] for visit in server.visits] == ["firing", "resolved"]


async def test_a_reload_changes_one_sink_without_affecting_others(tmp_path: Path) -> None:
    async with (
        receiver(says(http(503, ""))) as (_, _, url),
        receiver() as (_, second, second_url),
        world(tmp_path, hook(url)) as here,
    ):
        await here.look()
        here.notifier.configure(here.settings(hook(second_url)))
        await here.look(SECOND)

        assert len(second.visits) == 1

        here.notifier.configure(here.settings())
        here.fleet.append(broken("another"))
        await here.look(MINUTE)

        assert len(second.visits) == 1


async def test_without_a_sink_nothing_is_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.look()

        assert here.tries == []


# Secrets

OF_APPRISE = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""What Apprise imports is deprecated in parts, and its own affair."""


@OF_APPRISE
@pytest.mark.parametrize("kind", ["webhook", "alertmanager", "apprise"])
@pytest.mark.parametrize("failure", ["500", "resets before an answer", "redirects"])
async def test_secrets_of_sinks_appear_nowhere(
    tmp_path: Path, kind: str, failure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with receiver(FAILURES[failure]) as (_, server, url):
        environment = {
            "ADDRESS": f"{url.replace('http', 'json') if kind == 'apprise' else url}/hunter2-path?q=hunter2",
            "TOKEN": "hunter2-token",
            "KEY": "hunter2-key",
        }
        sink: dict[str, object] = {"name": "quiet", "type": kind, "url_from": {"env": "ADDRESS"}}
        if kind != "apprise":
            sink |= {"token": {"env": "TOKEN"}}
        if kind == "webhook":
            sink |= {"secret": {"env": "KEY"}}
        with capture_logs() as logged:
            async with world(tmp_path, sink, environment=environment) as here:
                await here.look()
                assert here.tries == [False]
                shown = f"{here.settings(sink)!r} {here.notifier!r}"

        assert server.visits
        if kind == "webhook":
            assert header(server.visits[0], "authorization") == "Bearer hunter2-token"
    output = capfd.readouterr()
    everything = f"{logged} {shown} {output.out} {output.err}"
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert "hunter2" not in everything
    assert b"hunter2" not in files
    assert [event["event"] for event in logged] == ["notification_failed"]


async def test_an_unreadable_source_is_reported_and_tried_again(tmp_path: Path) -> None:
    async with receiver() as (_, server, url):
        place = tmp_path / "address"
        sink = {"name": "hook", "type": "webhook", "url_from": {"file": str(place)}}
        async with world(tmp_path, sink) as here:
            with capture_logs() as logged:
                await here.look()
            place.write_text(f"{url}\n")
            await here.look(MINUTE)

    assert f"The file {place} does not exist" in logged[0]["problem"]
    assert len(server.visits) == 1


@pytest.mark.parametrize("address", ["hunter2", "ftp://127.0.0.1/x", "http://[::1", "http://", "\n\x00"])
async def test_an_invalid_address_is_reported_without_repeating_it(tmp_path: Path, address: str) -> None:
    (tmp_path / "address").write_text(address)
    sink = {"name": "hook", "type": "webhook", "url_from": {"file": str(tmp_path / "address")}}
    with capture_logs() as logged:
        async with world(tmp_path, sink) as here:
            await here.look()

    assert logged[0]["problem"] == "Its address or token cannot be used: check the configured source."


# Apprise


@OF_APPRISE
async def test_a_service_of_apprise_gets_plain_text(tmp_path: Path) -> None:
    async with receiver() as (_, server, url):
        environment = {"ADDRESS": url.replace("http", "json")}
        sink = {"name": "phone", "type": "apprise", "url_from": {"env": "ADDRESS"}}
        async with world(tmp_path, sink, environment=environment) as here:
            await here.look()
            await end(here)

    first, second = (message(visit) for visit in server.visits)
    assert first["title"].endswith(": acme")
    assert [first["type"], second["type"]] == ["failure", "success"]
    assert "Who must act: a Salesforce admin" in first["message"]
    assert second["title"].startswith("Resolved: ")


@OF_APPRISE
async def test_an_address_unknown_to_apprise_is_reported_without_repeating_it(tmp_path: Path) -> None:
    sink = {"name": "phone", "type": "apprise", "url_from": {"env": "ADDRESS"}}
    with capture_logs() as logged:
        async with world(tmp_path, sink, environment={"ADDRESS": "nosuch://hunter2"}) as here:
            await here.look()

    assert logged[0]["problem"] == "Apprise does not recognise this URL."


@OF_APPRISE
async def test_text_from_an_org_cannot_mention_people_or_make_links_in_a_chat(tmp_path: Path) -> None:
    """Mattermost reads Markdown and mentions; its plug-in is one of those that can reach a socket of ours."""
    async with receiver() as (_, server, url):
        environment = {"ADDRESS": f"{url.replace('http', 'mmost')}/0123456789abcdef01234567"}
        sink = {"name": "chat", "type": "apprise", "url_from": {"env": "ADDRESS"}}
        async with world(tmp_path, sink, environment=environment) as here:
            wrote = "<!channel> @here @everyone [Log in](http://evil.example) <https://evil.example|Log in>"
            here.fleet = [ill(well("acme"), Cause.API_DISABLED, NOW - DAY, evidence=(wrote,))]
            await here.look()

    said = message(server.visits[0])["text"]
    assert "Log in" in said
    for live in ("<!", "@here", "@everyone", "](", "://evil"):
        assert live not in said


@OF_APPRISE
async def test_a_service_names_twenty_connections_and_counts_the_others(tmp_path: Path) -> None:
    async with receiver() as (_, server, url):
        sink = {"name": "phone", "type": "apprise", "url_from": {"env": "ADDRESS"}}
        async with world(tmp_path, sink, environment={"ADDRESS": url.replace("http", "json")}) as here:
            app: dict[str, Any] = {"consumer_key": "3MVG9Shared"}
            here.fleet = [broken(f"c{number:04}", **app) for number in range(1600)]
            await here.look()

    said = message(server.visits[0])["message"]
    assert said.count("\n- c") == SHOWN
    assert "- c0000, since 2026-11-22 12:00 UTC: c0000.my.salesforce.com" in said
    assert said.endswith("and 1,580 more.")
    assert said.count("What to do") == 1


# An Alertmanager that is none


@pytest.mark.parametrize(
    "answer", [http(200, "<html>Sign in</html>", "Content-Type: text/html"), http(404, "")]
)
async def test_an_answer_unlike_alertmanagers_does_not_count_as_accepted(
    tmp_path: Path, answer: bytes
) -> None:
    async with receiver(says(answer)) as (way, server, url):
        sink = {"name": "am", "type": "alertmanager", "url": url}
        async with world(tmp_path, sink) as here:
            await here.look()
            way.reply = takes
            await here.look(PAUSE)

            assert here.tries == [False, True]
            assert server.visits[-1].head.startswith("POST /api/v2/alerts HTTP/1.1")


async def test_an_alert_of_a_removed_connection_is_resolved_with_that_reason(tmp_path: Path) -> None:
    async with receiver() as (_, server, url), world(tmp_path, hook(url)) as here:
        await here.look()
        here.fleet = []
        await here.look(MINUTE)
        await here.look(KEPT)

        assert message(server.visits[1])["alerts"][0]["annotations"]["ended"] == (
            "It is no longer configured."
        )


# Which alerts a sink takes


@pytest.mark.parametrize(
    ("limits", "gets"),
    [
        ({}, True),
        ({"responsible": ("org_admin",)}, True),
        ({"responsible": ("operator", "salesforce")}, False),
        ({"severity": ("critical",)}, True),
        ({"severity": ("warning",)}, False),
        ({"labels": (("tier", "gold"),)}, True),
        ({"labels": (("customer", "acme"), ("tier", "gold"))}, True),
        ({"labels": (("tier", "silver"),)}, False),
        ({"responsible": ("org_admin",), "labels": (("tier", "silver"),)}, False),
    ],
)
def test_a_sink_matches_responsible_severity_and_labels(limits: dict[str, Any], *, gets: bool) -> None:
    status = well("acme", labels=(("customer", "acme"), ("tier", "gold")))
    (alert,) = alerts(snapshot(ill(status, Cause.API_DISABLED, NOW - DAY)), TERMS)

    assert alert.labels["responsible"] == Responsible.ORG_ADMIN
    assert SinkOptions.model_construct(**limits).takes(alert) is gets
