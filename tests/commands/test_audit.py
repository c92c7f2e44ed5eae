"""What `bearerwatch audit` says of one org, as a person and a program read it."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from monitor.commands.audit import as_json, as_text, audit_once
from monitor.config import Settings, load
from monitor.core.reads import Read, Row
from monitor.simulator.server import Simulator, running
from monitor.watch.clock import Clock
from tests.commands.printed import printed
from tests.journeys.keys import pair_files

MONTH = {"refresh_token_policy": "lifetime", "refresh_token_validity_seconds": 30 * 86_400}


@pytest.fixture(name="org")
async def _org(tmp_path: Path) -> AsyncIterator[tuple[Settings, httpx.AsyncClient]]:
    """A configuration of one connection, and the way to change its org."""
    files = pair_files()
    (tmp_path / "acme.pem").write_bytes(files.private_key)
    with running(Simulator()) as base:
        async with httpx.AsyncClient(base_url=base, trust_env=False) as control:
            right = {
                "consumer_key": "3MVG9acme",
                "username": "integration@acme.com",
                "certificate": files.certificate.decode(),
            }
            assert (await control.put("/_orgs/acme", json=right)).is_success
            config = tmp_path / "bearerwatch.yaml"
            config.write_text(
                f"connections:\n  - name: acme\n    login_url: {base}/acme\n    consumer_key: 3MVG9acme\n"
                "    username: integration@acme.com\n    private_key: {file: acme.pem}\n"
                "    certificate_not_after: 2099-01-01\n"
            )
            yield load(config, {}), control


async def test_each_step_is_a_line_and_wrong_ones_have_their_cause(
    org: tuple[Settings, httpx.AsyncClient],
) -> None:
    settings, control = org
    permissions = {"permissions": ["ViewSetup", "ExternalClientAppViewer"]}
    assert (await control.patch("/_orgs/acme", json=MONTH | permissions)).is_success

    status = await audit_once(settings, settings.connections[0], clock=Clock())
    lines = printed(as_text(status, Clock().now()))

    (wrong,) = [line for line in lines if line.startswith("WRONG")]
    assert "Refresh Token Policy: The app's Refresh Token Policy ends an approval after 30 days" in wrong
    assert wrong.endswith("(refresh_policy_wrong)")
    assert "1 wrong, 0 not readable; 8 API calls made." in lines


async def test_the_output_names_permissions_that_would_show_more(
    org: tuple[Settings, httpx.AsyncClient],
) -> None:
    settings, _ = org

    status = await audit_once(settings, settings.connections[0], clock=Clock())
    document = as_json(status, Clock().now())

    assert printed(as_text(status, Clock().now()))[-1] == (
        "To read more, the user needs: View Setup and Configuration and View all External Client Apps."
    )
    hidden = {step["what"] for step in document["audit"]["steps"] if step["ruling"] == "not_readable"}
    assert hidden == {
        "Refresh Token Policy",
        "IP restrictions",
        "Session level",
        "Permission set assignments",
        "Permitted Users",
        "Selected Permission Sets",
    }
    json.dumps(document)


async def test_changes_in_setup_are_listed_after_the_steps(org: tuple[Settings, httpx.AsyncClient]) -> None:
    settings, _ = org
    status = await audit_once(settings, settings.connections[0], clock=Clock())
    facts = status.history.audit
    assert facts is not None
    change: Row = {
        "CreatedDate": "2026-11-22T11:40:00Z",
        "Display": "Changed scopes",
        "CreatedBy.Name": "Ada",
    }

    trail = replace(facts, rows={**facts.rows, Read.TRAIL: (change,)})
    lines = printed(as_text(replace(status, history=replace(status.history, audit=trail)), Clock().now()))

    assert "changed in Setup on 2026-11-22 11:40 UTC: Changed scopes (by Ada)" in list(lines)


async def test_a_refused_login_is_reported_without_guesses(
    org: tuple[Settings, httpx.AsyncClient],
) -> None:
    settings, control = org
    assert (await control.patch("/_orgs/acme", json={"permission_set_assigned": False})).is_success

    status = await audit_once(settings, settings.connections[0], clock=Clock())

    assert as_json(status, Clock().now())["audit"] is None
    assert "no token was granted (user_not_admin_approved)" in " ".join(
        printed(as_text(status, Clock().now()))
    )


async def test_the_steps_that_an_observer_reads_end_with_the_refusal(
    org: tuple[Settings, httpx.AsyncClient],
) -> None:
    settings, control = org
    watching = {
        "consumer_key": "3MVG9observer",
        "username": "observer@acme.com",
        "certificate": pair_files().certificate.decode(),
    }
    refused = {"permission_set_assigned": False, "observer": watching}
    assert (await control.patch("/_orgs/acme", json=refused)).is_success
    acme = settings.connections[0]
    observer = replace(acme, consumer_key="3MVG9observer", username="observer@acme.com")

    status = await audit_once(settings, replace(acme, observer=observer), clock=Clock())
    lines = printed(as_text(status, Clock().now()))

    assert "The login failed: no token was granted (user_not_admin_approved)." in lines
    assert "It was not read" not in " ".join(lines)


async def test_a_granted_login_without_an_audit_does_not_count_as_refused(
    org: tuple[Settings, httpx.AsyncClient],
) -> None:
    settings, control = org
    off = await audit_once(settings, replace(settings.connections[0], audit=False), clock=Clock())
    assert (await control.patch("/_orgs/acme", json={"api_enabled": False})).is_success
    unanswered = await audit_once(settings, settings.connections[0], clock=Clock())

    assert printed(as_text(off, Clock().now()))[0] == (
        "The org could not be audited: the connection has audit: off."
    )
    said = " ".join(printed(as_text(unanswered, Clock().now())))
    assert "a token was granted, but the first call with it failed" in said
