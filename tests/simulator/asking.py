"""A client for the simulator's tests. It shares no code with the monitor's own."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode

import jwt

from monitor.simulator import rest
from monitor.simulator.org import Answer, Org, Request
from tests.certificates import Key, pem_of
from tests.making import NOW

BASE = "https://acme.my.salesforce.com"
CONSUMER_KEY = "3MVG9acme"
USERNAME = "integration@acme.com"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key, loaded, and its certificate as PEM."""

    key: Key
    certificate: str

    @property
    def pem(self) -> str:
        """The key as PEM. Signing with it takes a hundred times as long."""
        return pem_of(self.key).decode()


def claims(now: datetime = NOW, **different: Any) -> dict[str, Any]:
    """Right claims, with what differs; a claim of None is left out."""
    right = {"iss": CONSUMER_KEY, "sub": USERNAME, "aud": BASE, "exp": int(now.timestamp()) + 180}
    return {name: value for name, value in (right | different).items() if value is not None}


def signed(pair: Pair, now: datetime = NOW, **different: Any) -> str:
    """An assertion."""
    return jwt.encode(claims(now, **different), pair.key, algorithm="RS256")


def form(assertion: str, **more: str) -> bytes:
    return urlencode({"grant_type": GRANT_TYPE, "assertion": assertion} | more).encode()


def post(body: bytes, *, content_type: str = FORM, method: str = "POST", query: str = "") -> Request:
    return Request(method, "/services/oauth2/token", BASE, query, content_type, body=body)


def ask(org: Org, pair: Pair, now: datetime = NOW, **different: Any) -> Answer:
    """What the org answers to an assertion that is right but for what differs."""
    return rest.answer(org, post(form(signed(pair, now, **different))), now)


def get(org: Org, path: str, token: str | None = None, now: datetime = NOW, query: str = "") -> Answer:
    """What the org answers to a GET."""
    authorization = f"Bearer {token}" if token else ""
    return rest.answer(org, Request("GET", path, BASE, query, authorization=authorization), now)


def said(answer: Answer) -> Any:
    """The body, as JSON."""
    return json.loads(answer.body)


def error(answer: Answer) -> str:
    """`error: description` of a refusal; `granted` for a grant."""
    body = said(answer)
    return "granted" if answer.status == 200 else f"{body['error']}: {body['error_description']}"


def token_of(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return cast("str", said(answer)["access_token"])
