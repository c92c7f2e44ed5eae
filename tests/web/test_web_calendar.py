"""The calendar over HTTP: with the same access control as the pages, and only sent if changed."""

import icalendar
import vobject

from tests.web.reading import read
from tests.web.serving import Stage


async def test_the_calendar_is_valid(stage: Stage) -> None:
    async with stage.client() as client:
        answer = await client.get("/calendar.ics")

    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    told = icalendar.Calendar.from_ical(answer.content).walk("VEVENT")
    assert {str(event["UID"]) for event in told} >= {
        "certificate.current.acme-production@bearerwatch",
        "certificate.next.acme-production@bearerwatch",
    }
    assert len(vobject.readOne(answer.text).vevent_list) == len(told)


async def test_unchanged_content_is_not_sent_again(stage: Stage) -> None:
    async with stage.client() as client:
        first = await client.get("/calendar.ics")
        again = await client.get("/calendar.ics", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")


async def test_the_filters_of_the_status_page_apply(stage: Stage) -> None:
    async with stage.client() as client:
        mine = await client.get("/calendar.ics?label=customer%3Dumbrella")
        wrong = await client.get("/calendar.ics?state=nonsense")

    told = icalendar.Calendar.from_ical(mine.content).walk("VEVENT")
    assert {str(event["UID"]).split(".")[-1].split("@")[0] for event in told} == {"umbrella-crm"}
    assert wrong.status_code == 400


async def test_the_pages_link_to_the_calendar(stage: Stage) -> None:
    async with stage.client() as client:
        page = read((await client.get("/")).text)

    assert "/calendar.ics" in [link.attributes.get("href") for link in page.all("a")]
