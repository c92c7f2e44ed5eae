"""Asking for a check now, over HTTP."""

from collections.abc import Collection
from datetime import timedelta

import pytest

from monitor.core.status import Asked
from tests.web.fleets import NOW
from tests.web.reading import read
from tests.web.serving import Stage


def taking(stage: Stage, *put_off: str) -> list[str]:
    """Lets the stage take wishes; those for these connections have no login left. Gives the wishes taken."""
    wished: list[str] = []

    def ask(names: Collection[str]) -> Asked:
        wished.extend(names)
        free = NOW + timedelta(minutes=7, milliseconds=1)
        return Asked(
            {name: NOW for name in names if name not in put_off},
            {name: free for name in names if name in put_off},
        )

    stage.ask = ask
    return wished


async def test_a_request_checks_one_connection_now(stage: Stage) -> None:
    wished = taking(stage)

    async with stage.client() as client:
        answer = await client.post("/api/connections/acme-production/check")

    assert answer.status_code == 202
    assert answer.json() == {"checked_at": {"acme-production": "2026-11-23T12:00:00Z"}, "put_off_until": {}}
    assert wished == ["acme-production"]


async def test_a_request_with_filters_checks_many_connections(stage: Stage) -> None:
    wished = taking(stage)

    async with stage.client() as client:
        answer = await client.post("/api/checks?state=failing&sort=name")

    assert answer.status_code == 202
    assert wished == ["acme-production", "globex-eu", "hostile", "initech-sandbox"]


async def test_without_a_login_left_the_answer_says_when_one_is_available(stage: Stage) -> None:
    taking(stage, "acme-production")

    async with stage.client() as client:
        one = await client.post("/api/connections/acme-production/check")
        many = await client.post("/api/checks?state=failing")

    assert (one.status_code, one.headers["retry-after"]) == (429, "421")
    assert "The next one is possible at 2026-11-23 12:07:00 UTC." in one.json()["error"]
    assert many.status_code == 202
    assert many.json()["put_off_until"] == {"acme-production": "2026-11-23T12:07:00Z"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/connections/nobody/check", 404),
        ("/api/connections/vandelay-legacy/check", 409),
        ("/api/checks?state=sleepy", 400),
    ],
)
async def test_invalid_requests_for_checks_are_refused(stage: Stage, path: str, status: int) -> None:
    wished = taking(stage)

    async with stage.client() as client:
        answer = await client.post(path)

    assert answer.status_code == status
    assert not wished


async def test_checks_on_request_are_off_if_anyone_could_ask(stage: Stage) -> None:
    async with stage.client() as client:
        answer = await client.post("/api/connections/acme-production/check")
        page = read((await client.get("/connections/acme-production")).text)

    assert answer.status_code == 403
    assert "web.enable_checks" in answer.json()["error"]
    assert not page.all("form", id="ask")


async def test_the_button_works_without_a_script_and_leads_back(stage: Stage) -> None:
    wished = taking(stage)

    async with stage.client() as client:
        (form,) = read((await client.get("/connections/acme-production")).text).all("form", id="ask")
        answer = await client.post(form.attributes["action"])

    assert (form.attributes["method"], wished) == ("post", ["acme-production"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/connections/acme-production")


async def test_a_running_check_is_reported(stage: Stage) -> None:
    async with stage.client() as client:
        waiting = read((await client.get("/connections/acme-production")).text)

    assert "Checked 1 min ago , next in 2 min ." in waiting.text
    assert not waiting.all("p", id="checking")
