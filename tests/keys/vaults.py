"""A small Vault over real HTTP: login by AppRole and Kubernetes, and the key/value store's version 2.

It is made from Vault's API documentation ("KV secrets engine - version 2", "AppRole", "Kubernetes auth"); no
Vault itself is among what the tests need.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import Quiet, serving


@dataclass
class FakeVault:
    """What it holds, who may read it, and what it was asked."""

    address: str = ""
    secrets: dict[str, dict[str, object]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"hvs.first"})
    logins: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each method, the body that it takes."""
    status: int = 0
    """What it answers to everything, where it is not 0."""
    asked: list[str] = field(default_factory=list)
    namespaces: set[str | None] = field(default_factory=set)

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        self.asked.append(f"{method} {path}")
        if self.status:
            return self.status, {"errors": ["Vault is sealed"]}
        mount, _, rest = path.removeprefix("/v1/").partition("/")
        if method == "POST" and mount == "auth":
            name = rest.removesuffix("/login")
            if json.loads(body) != self.logins.get(name):
                return 400, {"errors": ["invalid role or secret ID"]}
            self.tokens.add(f"hvs.{name}.{len(self.asked)}")
            return 200, {"auth": {"client_token": f"hvs.{name}.{len(self.asked)}", "lease_duration": 3600}}
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        found = self.secrets.get(f"{mount}/{rest.removeprefix('data/')}")
        if found is None:
            return 404, {"errors": []}
        return 200, {"data": {"data": found, "metadata": {"version": 1, "destroyed": False}}}


@contextmanager
def vault() -> Iterator[FakeVault]:
    """A Vault on a free port of loopback."""
    fake = FakeVault()

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            fake.namespaces.add(self.headers.get("X-Vault-Namespace"))
            token = self.headers.get("X-Vault-Token", "")
            status, told = fake.answer(self.command, self.path, token, self.body())
            self.say(status, json.dumps(told).encode(), Content_Type="application/json")

    with serving(Handler) as fake.address:
        yield fake
