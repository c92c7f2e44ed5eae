"""Values that many tests begin with: a connection, its history, an exchange, each with what differs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import Connection, Pair, Source
from monitor.core.finding import Certainty, Diagnosis, Finding, State
from monitor.core.history import History, begin, diagnosed, exchanged
from monitor.core.keys.credential import (
    CertificateReading,
    Credential,
    credential_of,
    read_certificates,
    read_private_key,
)
from monitor.core.outcome import Exchange, FaultKind, Granted, Outcome, Refused, Unreachable

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

ACME = Connection(
    name="acme",
    login_url="https://acme.my.salesforce.com",
    audience="https://acme.my.salesforce.com",
    consumer_key="3MVG9acme",
    username="integration@acme.com",
    current=Pair(Source("file", "/keys/acme.pem")),
)

GRANTED = Granted(
    token_format="opaque",
    scopes=frozenset({"api", "refresh_token"}),
    instance_url="https://acme.my.salesforce.com",
    org_id="00Dxx0000000001AAA",
    user_id="005xx0000000001AAA",
)
NOT_APPROVED = Refused(400, "invalid_grant", "user hasn't approved this consumer", "")
UNREACHABLE = Unreachable(FaultKind.CONNECT, "connection refused")

SECRET_FIELDS = frozenset({"AccessToken", "DeleteToken", "RequestToken", "ConsumerKey", "ConsumerSecret"})
"""Fields of Salesforce's objects that must never be queried."""


def connection(**different: Any) -> Connection:
    """ACME, with what differs."""
    return replace(ACME, **different)


def read_credential(private_key: bytes, certificate: bytes | None = None) -> Credential:
    """A private key and, optionally, its certificate."""
    certificates = CertificateReading() if certificate is None else read_certificates(certificate)
    return credential_of(read_private_key(private_key), certificates)


def finding(cause: Cause, at: datetime = NOW) -> Finding:
    """A finding as the catalogue has it."""
    entry = CATALOGUE[cause]
    evidence = (f"Evidence of {cause}.",)
    return Finding(cause, entry.severity, entry.responsible, Certainty.LIKELY, evidence, at)


def diagnosis(state: State, *causes: Cause, at: datetime = NOW) -> Diagnosis:
    """A verdict that these causes hold."""
    return Diagnosis(state, tuple(finding(cause, at) for cause in causes))


def exchange(outcome: Outcome = GRANTED, at: datetime = NOW) -> Exchange:
    """An exchange that took a fifth of a second."""
    return Exchange(at, outcome, duration_seconds=0.2, clock_offset_seconds=0.0)


def remember(history: History, exchange: Exchange, diagnosis: Diagnosis) -> History:
    """The history after one exchange and its diagnosis."""
    return diagnosed(exchanged(history, exchange), exchange, diagnosis)


def history(of: Connection = ACME, seen: timedelta = timedelta(0), **different: Any) -> History:
    """A history that began `seen` before NOW, with what differs."""
    return replace(begin(of, NOW - seen), **different)
