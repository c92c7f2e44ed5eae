"""What Alertmanager sends people with the shipped templates: read from real mails and requests."""

import email
import email.policy
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml

from tests.deploy.alert_cases import DEPLOY
from tests.end_to_end.collector import collector
from tests.end_to_end.processes import component, free_port, until

ALERTMANAGER = DEPLOY / "alertmanager"
LARGEST = "BearerwatchConsumerNotApproved"
"""The alert that says most."""

COUNT = 1_600


@contextmanager
def mailbox() -> Iterator[tuple[int, list[email.message.EmailMessage]]]:
    """A mail server on loopback: its port, and the mails that came."""
    mails: list[email.message.EmailMessage] = []

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                command = line[:4].upper()
                if command == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = list(iter(self.rfile.readline, b".\r\n"))
                    mails.append(email.message_from_bytes(b"".join(lines), policy=email.policy.default))
                self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], mails
        finally:
            server.shutdown()
            thread.join()


def receivers(mail: int, hook: str, folder: Path) -> dict[str, Any]:
    """The example receivers of the shipped file, at these addresses."""
    text = (ALERTMANAGER / "alertmanager.yml").read_text()
    example = re.search(r"addresses:\n#\n((?:#     .*\n)+)", text)
    assert example
    made: dict[str, Any] = yaml.safe_load(re.sub(r"(?m)^#     ", "", example[1]))
    secret = folder / "secret"
    secret.write_text(hook)
    made["email_configs"][0] |= {"smarthost": f"127.0.0.1:{mail}", "require_tls": False}
    made["slack_configs"][0] |= {"api_url_file": str(secret)}
    made["pagerduty_configs"][0] |= {"url": hook, "routing_key_file": str(secret)}
    made["webhook_configs"][0] |= {"url": hook}
    return made


def alerts(count: int, began: datetime) -> list[dict[str, Any]]:
    """What Prometheus posts: the rule's texts for each connection."""
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    (rule,) = (rule for group in groups for rule in group["rules"] if rule.get("alert") == LARGEST)

    when = f"{began:%Y-%m-%d %H:%M} UTC"

    def filled(text: str, connection: str, *, explained: bool) -> str:
        asked = re.fullmatch(
            r"(.*)\{\{ with printf `\w+:\w+:explained.*?\}\}(.*)\{\{ end \}\}", text, re.DOTALL
        )
        if asked:
            full, _, link = asked[2].partition("{{- else }}")
            text = asked[1] + (full if explained else link)
        text = re.sub(
            r"\{\{ if eq \$labels\.responsible `org_admin` \}\}(.*)\{\{ else \}\}[^{]*\{\{ end \}\}",
            r"\1",
            text,
        )
        text = text.replace("{{ $labels.connection }}", connection)
        # A moment that Prometheus asks itself for, between the words around it.
        text = re.sub(
            r"\{\{ with printf [^}]*\}[^}]*\}\}([^{]*)\{\{[^}]*\}\}\.\{\{ end \}\}", rf"\g<1>{when}.", text
        )
        return re.sub(r"\{\{ \(\$value.*?\}\}", when, text)

    made = []
    for number in range(count):
        name = f"customer-{number:04}-production"
        labels = {"alertname": LARGEST, "connection": name, "cause": "consumer_not_approved"}
        labels |= {"severity": "critical", "responsible": "org_admin", "host": f"{name}.my.salesforce.com"}
        explained = count <= 8 or number >= count - 3  # as the recording rule has it, here of the newest
        texts = {
            key: said
            for key, text in rule["annotations"].items()
            if (said := filled(text, name, explained=explained))
        }
        rule_of = quote(rule["expr"])
        made.append(
            {
                "labels": labels,
                "annotations": texts,
                "startsAt": began.isoformat(),
                "endsAt": "2100-01-01T00:00:00Z",
                "generatorURL": f"http://prometheus.example.com:9090/graph?g0.expr={rule_of}&g0.tab=1",
            }
        )
    return made


@pytest.mark.real("prometheus-alertmanager")
@pytest.mark.parametrize("count", [1, 8, COUNT])
def test_a_message_has_the_steps_once_and_names_at_most_20_connections(count: int, tmp_path: Path) -> None:
    port, began = free_port(), datetime.now(UTC)
    with mailbox() as (mail, mails), collector() as hook:
        config = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
        config["templates"] = [str(ALERTMANAGER / "bearerwatch.tmpl")]
        config["route"]["group_wait"] = "8s" if count > 1 else "1s"
        (first,) = (each for each in config["receivers"] if each["name"] == "org-admins-urgent")
        first |= receivers(mail, hook.url, tmp_path)
        (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
        with component(
            *(tmp_path, "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=am"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="),
            ready=f"http://127.0.0.1:{port}/-/ready",
        ):
            posted = httpx.post(
                f"http://127.0.0.1:{port}/api/v2/alerts",
                json=alerts(count, began),
                trust_env=False,
                timeout=30,
            )
            assert posted.is_success, posted.text
            until(lambda: len(hook.messages) >= 3 and mails, "a mail and three requests")

    (pagerduty,) = (each for each in hook.messages if "routing_key" in each)
    (slack,) = (each for each in hook.messages if "channel" in each)
    (webhook,) = (each for each in hook.messages if "groupKey" in each)
    (shown,) = slack["attachments"]
    written = mails[0].get_body(("plain",))
    assert isinstance(written, email.message.EmailMessage)
    letter = written.get_content().replace("\r\n", "\n")

    who = "customer-0000-production" if count == 1 else f"{count} connections"
    title = f"CRITICAL: The user has no approval for the app: {who}"
    assert {mails[0]["Subject"], shown["title"], pagerduty["payload"]["summary"]} == {title}
    for text in (letter, shown["text"], pagerduty["payload"]["custom_details"]["firing"]):
        assert text.count("What to do (setup guide, steps 4 and 6):\n1. In Setup, open") == 1
        assert text.count(f", since {began:%Y-%m-%d %H:%M} UTC http://127.0.0.1:9877/connections/") == min(
            count, 20
        )
        assert ("and 1580 more" in text) == (count == COUNT)
    assert pagerduty["payload"]["severity"] == "critical"
    assert len(webhook["alerts"]) == min(count, 20)
    assert webhook["truncatedAlerts"] == count - len(webhook["alerts"])
    sizes = [len(json.dumps(message)) for message in (*hook.messages, letter)]
    assert max(sizes) < 30_000, sizes
