"""The JSON: its documented keys, its filters, and a tag that tells change from the mere passing of time."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.store import Store
from monitor.web.api import StatusDocument
from monitor.web.selection import Selection
from tests.web.fleets import NOW, in_maintenance, many
from tests.web.serving import Stage


async def get(stage: Stage, path: str, **headers: str) -> httpx.Response:
    async with stage.client() as client:
        return await client.get(path, headers=headers)


async def test_the_list_shows_the_snapshot(stage: Stage) -> None:
    data = (await get(stage, "/api/status")).json()

    assert data["at"] == "2026-11-23T12:00:00Z"
    assert data["counts"] == stage.snapshot.states()
    assert data["matched"] == len(stage.snapshot.connections)
    assert data["daemon"]["configured"] == len(stage.snapshot.connections)
    assert {each["name"]: each["state"] for each in data["connections"]} == {
        status.name: status.state for status in stage.snapshot.connections
    }


async def test_the_list_has_these_keys_for_a_connection(stage: Stage) -> None:
    data = (await get(stage, "/api/status?q=acme-production")).json()

    (acme,) = data["connections"]
    assert acme["findings"][1]["cause"] == "certificate_expiring"
    assert {key: acme[key] for key in ("name", "state", "cause", "title", "severity", "responsible")} == {
        "name": "acme-production",
        "state": "failing",
        "cause": "approval_decayed",
        "title": CATALOGUE[Cause.APPROVAL_DECAYED].title,
        "severity": "critical",
        "responsible": "org_admin",
    }
    assert acme["labels"] == {"customer": "acme", "tier": "gold"}
    assert acme["certificate_not_after"] == "2026-12-17T12:00:00Z"
    assert acme["last_success"] == "2026-11-23T08:44:00Z"
    assert acme["next_exchange"] == "2026-11-23T12:02:15Z"


async def test_the_filters_of_the_status_page_apply(stage: Stage) -> None:
    data = (await get(stage, "/api/status?state=degraded&label=tier%3Dgold&sort=certificate")).json()

    assert [each["name"] for each in data["connections"]] == ["umbrella-crm", "hooli-orders"]
    assert data["matched"] == 2
    assert data["counts"]["failing"] == 4


async def test_an_empty_filter_is_ignored(stage: Stage) -> None:
    everything = (await get(stage, "/api/status")).json()

    for empty in ("state=", "cause=&cause=", "responsible=", "label=&label=", "q=", "sort="):
        assert (await get(stage, f"/api/status?{empty}")).json() == everything


async def test_an_invalid_filter_value_is_refused(stage: Stage) -> None:
    answer = await get(stage, "/api/status?responsible=nobody")

    assert answer.status_code == 400
    assert answer.json() == {"error": "Unknown responsible “nobody”. Known: org_admin, operator, salesforce."}


async def test_one_connection_has_more_keys_and_no_undocumented_ones(stage: Stage) -> None:
    listed = (await get(stage, "/api/status?q=acme-production")).json()["connections"][0]
    data = (await get(stage, "/api/connections/acme-production")).json()["connection"]

    assert listed.items() <= data.items()
    assert data["remedy"] == list(CATALOGUE[Cause.APPROVAL_DECAYED].remedy)
    assert data["guide"] == "step 4"
    assert [each["cause"] for each in data["alternatives"]] == [
        "consumer_not_approved",
        "user_not_admin_approved",
    ]
    assert data["current"]["accepted"] is False
    assert data["next"]["certificate"]["not_after"] == "2036-11-20T12:00:00Z"
    assert [epoch["days"] for epoch in data["approvals"]] == [30.0, 30.1, 29.8, 39.62]
    assert len(data["recent_exchanges"]) == 50
    assert data["recent_exchanges"][0]["status"] == 400
    assert data["days"][-1]["day"] == "2026-11-23"
    assert data["events"][-1]["text"] == "First check of this connection."


async def test_a_store_that_cannot_be_read_is_null_and_not_empty(stage: Stage, tmp_path: Path) -> None:
    stage.store = Store.open(tmp_path / "past.db")
    stage.store.close()
    for file in tmp_path.iterdir():
        file.write_bytes(b"no database")

    data = (await get(stage, "/api/connections/acme-production")).json()["connection"]

    assert [data[key] for key in ("days", "recent_exchanges", "events")] == [None, None, None]


@pytest.mark.parametrize(
    "path", ["/api/status", "/api/status?state=failing", "/api/connections/acme-production"]
)
async def test_the_etag_is_the_same_while_only_time_passes(stage: Stage, path: str) -> None:
    first = await get(stage, path)
    stage.snapshot = replace(stage.snapshot, at=stage.snapshot.at + timedelta(seconds=30))
    again = await get(stage, path, **{"if-none-match": f'"other", {first.headers["etag"]}'})

    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("path", ["/api/status", "/api/connections/acme-production"])
async def test_the_etag_changes_with_the_content(stage: Stage, path: str) -> None:
    first = await get(stage, path)
    changed = [
        replace(status, history=replace(status.history, state=State.HEALTHY, findings=()))
        if status.name == "acme-production"
        else status
        for status in stage.snapshot.connections
    ]
    stage.snapshot = replace(stage.snapshot, connections=tuple(changed))
    again = await get(stage, path, **{"if-none-match": first.headers["etag"]})

    assert again.status_code == 200
    assert again.headers["etag"] != first.headers["etag"]


async def test_a_failed_reload_changes_the_etag(stage: Stage) -> None:
    first = await get(stage, "/api/status")
    daemon = replace(stage.snapshot.daemon, reload_problem="a.yaml: no.")
    stage.snapshot = replace(stage.snapshot, daemon=daemon)

    assert (await get(stage, "/api/status")).headers["etag"] != first.headers["etag"]


async def test_maintenance_is_shown_from_start_to_end_even_if_nothing_else_changes(
    stage: Stage,
) -> None:
    ends = NOW + timedelta(hours=2)
    stage.snapshot = in_maintenance(stage.snapshot, "acme-production", ends=ends)

    async def until() -> dict[str, str]:
        listed = (await get(stage, "/api/status")).json()["connections"]
        told = {each["name"]: each["maintenance_until"] for each in listed if each["maintenance_until"]}
        alone = (await get(stage, "/api/connections/acme-production")).json()["connection"]
        assert alone["maintenance_until"] == told.get("acme-production")
        return told

    assert await until() == {"acme-production": "2026-11-23T14:00:00Z"}
    stage.snapshot = replace(stage.snapshot, at=ends)
    assert await until() == {}
    later = in_maintenance(stage.snapshot, ends=ends + timedelta(hours=1))
    stage.snapshot = later
    assert set((await until()).values()) == {"2026-11-23T15:00:00Z"}
    assert len(await until()) == len(later.connections)


def test_an_unchanged_connection_is_rendered_once() -> None:
    snapshot, document = many(50), StatusDocument()
    document.render(snapshot, Selection())
    kept = {name: part for name, (*_, part) in document._parts.items()}
    first, *others = snapshot.connections

    changed = replace(snapshot, connections=(replace(first, next_exchange=None), *others))
    document.render(changed, Selection())

    anew = [name for name, (*_, part) in document._parts.items() if part is not kept[name]]
    assert anew == [first.name]


def test_removed_connections_leave_the_cache() -> None:
    document = StatusDocument()
    document.render(many(50), Selection())
    document.render(many(5), Selection(text="00001"))

    assert len(document._parts) <= 10
