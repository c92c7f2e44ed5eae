"""Fleets to look at: a rich one with its past in a real store, and one of thousands."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.connection import ApprovalPolicy, Connection, Pair, Source
from monitor.core.finding import Alternative, Certainty, Diagnosis, Finding, State
from monitor.core.history import (
    Approval,
    Event,
    History,
    Rotation,
    Slot,
    Stage,
    begin,
    changes,
)
from monitor.core.inside import Facts, Logins
from monitor.core.keys.credential import CertificateFacts, CredentialFacts, KeyFacts, Problem
from monitor.core.maintenance import Once
from monitor.core.outcome import (
    AfterLogin,
    ApiUsage,
    Exchange,
    Granted,
    NotSent,
    Outcome,
    Refused,
    Unreachable,
)
from monitor.core.reads import Read
from monitor.core.status import ConnectionStatus, DaemonStatus, Snapshot
from monitor.core.verdict.approval import forecast
from monitor.store import Store
from tests.making import GRANTED, NOT_APPROVED, UNREACHABLE, remember

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">' & {{7*7}}"
"""A hostile server's text; pages must show exactly these characters."""

SECRET_KEY = "3MVG9secretConsumerKeyThatNobodyMaySee"


AUDIT = Facts(
    NOW - timedelta(hours=2),
    "acme-reporting",
    {
        Read.ACCESS: ({"PermissionsViewSetup": False, "PermissionsManageUsers": True},),
        Read.POLICY: (
            {
                "PermittedUsersPolicyType": "AdminApprovedPreAuthorized",
                "RefreshTokenPolicyType": "SpecificLifetime",
                "RefreshTokenValidityPeriod": 30,
                "RefreshTokenValidityUnit": "Days",
                "IpRelaxationPolicyType": "Bypass",
                "RequiredSessionLevel": "STANDARD",
                "LastModifiedBy.Name": HOSTILE,
                "LastModifiedDate": "2026-11-20T08:00:00.000+0000",
            },
        ),
        Read.TRAIL: ({"CreatedDate": "2026-11-23T08:40:00.000+0000", "Display": HOSTILE},),
    },
    {Read.ASSIGNMENTS: ""},
    (
        Logins("Sync", "203.0.113.9", "Restricted IP", 41, NOW - timedelta(hours=3), NOW),
        Logins("Sync", "203.0.113.9", "Success", 7, NOW - timedelta(days=1), NOW - timedelta(hours=5)),
    ),
    "Monitor",
    "198.51.100.7",
    "Success",
    6,
)
"""What an observer saw of a connection, with most kinds of rulings."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A connection's past: granted since `seen` days ago, and something else from `since` on."""

    name: str
    state: State = State.HEALTHY
    causes: tuple[Cause, ...] = ()
    outcome: Outcome = GRANTED
    since: timedelta = timedelta(0)
    evidence: str = ""
    alternatives: tuple[Cause, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    certificate_days: float | None = 900
    forecast_days: float | None = None
    approvals: tuple[float, ...] = ()
    seen_days: float = 40
    paused: bool = False
    next_pair: bool = False
    policy: ApprovalPolicy | None = None


GOLD = (("customer", "acme"), ("tier", "gold"))

KINDS = (
    Kind(
        "acme-production",
        State.FAILING,
        (Cause.APPROVAL_DECAYED, Cause.CERTIFICATE_EXPIRING),
        NOT_APPROVED,
        timedelta(hours=3, minutes=12),
        "Salesforce answered 400 invalid_grant: user hasn't approved this consumer.",
        (Cause.CONSUMER_NOT_APPROVED, Cause.USER_NOT_ADMIN_APPROVED),
        GOLD,
        certificate_days=24,
        approvals=(29.8, 30.1, 30.0),
        next_pair=True,
    ),
    Kind(
        "globex-eu",
        State.FAILING,
        (Cause.ASSERTION_INVALID,),
        Refused(400, "invalid_grant", "invalid assertion", ""),
        timedelta(days=2, hours=4),
        "Salesforce answered 400 invalid_grant: invalid assertion.",
        (Cause.KEY_CERTIFICATE_MISMATCH,),
        (("customer", "globex"), ("tier", "silver")),
    ),
    Kind(
        "hostile",
        State.FAILING,
        (Cause.UNRECOGNISED,),
        Refused(400, "invalid_grant", HOSTILE, ""),
        timedelta(days=8),
        f"Salesforce answered 400 invalid_grant: {HOSTILE}",
        labels=(("note", HOSTILE),),
    ),
    Kind(
        "initech-sandbox",
        State.FAILING,
        (Cause.USERNAME_CHANGED,),
        Refused(400, "invalid_grant", "user not found", ""),
        timedelta(days=5),
        "The username ends in .com, and sandboxes get a suffix of their own when they are refreshed.",
        labels=(("customer", "initech"), ("tier", "bronze")),
        certificate_days=None,
    ),
    Kind(
        "umbrella-crm",
        State.DEGRADED,
        (Cause.CERTIFICATE_EXPIRING,),
        since=timedelta(days=6),
        evidence="The certificate ends on 2026-12-05, in 12 days.",
        labels=(("customer", "umbrella"), ("tier", "gold")),
        certificate_days=12,
        next_pair=True,
    ),
    Kind(
        "hooli-orders",
        State.DEGRADED,
        (Cause.APPROVAL_EXPIRING,),
        since=timedelta(days=3),
        evidence="The declared policy ends an approval after 90 days; this one was given on 2026-09-01.",
        labels=(("customer", "hooli"), ("tier", "gold")),
        policy=ApprovalPolicy("lifetime", 90, date(2026, 9, 1)),
        approvals=(89.5,),
    ),
    Kind(
        "stark-metadata",
        State.DEGRADED,
        (Cause.JWT_ACCESS_TOKEN,),
        replace(GRANTED, token_format="jwt"),
        timedelta(days=11),
        "The token granted is a JWT.",
        labels=(("customer", "stark"), ("tier", "silver")),
    ),
    Kind(
        "wayne-new",
        State.SETTLING,
        (Cause.PROPAGATION_PENDING,),
        Refused(400, "invalid_client_id", "client identifier invalid", ""),
        timedelta(minutes=4),
        "First seen 4 min ago, and the guide gives a new app 2 to 10 minutes.",
        labels=(("customer", "wayne"),),
        seen_days=0.003,
    ),
    Kind(
        "soylent-supply",
        State.UNKNOWN,
        (Cause.NETWORK_UNREACHABLE,),
        UNREACHABLE,
        timedelta(minutes=17),
        "connection refused",
        labels=(("customer", "soylent"),),
    ),
    Kind(
        "tyrell-unread",
        State.UNKNOWN,
        (Cause.KEY_UNREADABLE,),
        NotSent("The key cannot sign."),
        timedelta(days=1),
        "keys/tyrell.pem is a certificate, not a private key.",
        certificate_days=None,
        seen_days=2,
    ),
    Kind("vandelay-legacy", paused=True, labels=(("customer", "vandelay"),)),
    *(
        Kind(name, labels=(("customer", name.partition("-")[0]), ("tier", tier)), approvals=approvals)
        for name, tier, approvals in (
            ("acme-reporting", "gold", ()),
            ("cyberdyne-sync", "gold", ()),
            ("dunder-paper", "bronze", ()),
            ("gekko-quotes", "silver", ()),
            ("massive-dynamic", "silver", (61.0,)),
            ("nakatomi-hr", "bronze", ()),
            ("oscorp-bulk", "silver", ()),
            ("pied-piper", "bronze", ()),
            ("rekall-events", "silver", ()),
            ("sirius-parts", "bronze", ()),
            ("weyland-fleet", "gold", ()),
            ("zorin-mapping", "bronze", ()),
        )
    ),
)


def rich_fleet(path: Path) -> tuple[Store, Snapshot]:
    """A store with the past of two dozen connections, and the Snapshot of now. Close the store."""
    store = Store.open(path / "past.db")
    statuses = tuple(_lived(kind, store) for kind in KINDS)
    store.flush()
    return store, snapshot_of(statuses)


def snapshot_of(statuses: Iterable[ConnectionStatus]) -> Snapshot:
    """These connections, now."""
    statuses = tuple(statuses)
    daemon = DaemonStatus(
        started=NOW - timedelta(days=9),
        version="0.1.0",
        configured=len(statuses),
        reloaded=NOW - timedelta(hours=20),
    )
    return Snapshot(NOW, daemon, statuses, {})


def in_maintenance(snapshot: Snapshot, *names: str, ends: datetime) -> Snapshot:
    """The same with a maintenance of the last hour that ends then: of all, or of those named."""
    window = (Once(snapshot.at - timedelta(hours=1), ends),)
    if not names:
        return replace(snapshot, daemon=replace(snapshot.daemon, maintenance=window))
    statuses = (
        replace(status, connection=replace(status.connection, maintenance=window))
        if status.name in names
        else status
        for status in snapshot.connections
    )
    return replace(snapshot, connections=tuple(statuses))


def many(count: int) -> Snapshot:
    """Thousands of connections, of which each hundredth fails."""
    statuses = []
    for number in range(count):
        name = f"tenant-{number:05}"
        connection = _connection(
            Kind(name, labels=(("customer", f"customer-{number}"), ("tier", ("gold", "silver")[number % 2])))
        )
        history = begin(connection, NOW - timedelta(days=40))
        granted = number % 100 != 7
        at = NOW - timedelta(seconds=number % 300)
        exchange = Exchange(at, GRANTED if granted else NOT_APPROVED, None, 0.2)
        verdict = (
            Diagnosis(State.HEALTHY)
            if granted
            else Diagnosis(State.FAILING, (_finding(Cause.APPROVAL_DECAYED, "It worked for weeks.", at),))
        )
        statuses.append(
            ConnectionStatus(
                connection,
                remember(history, exchange, verdict),
                _facts(name, 900),
                next_exchange=NOW + timedelta(seconds=number % 300),
            )
        )
    return snapshot_of(statuses)


def _connection(kind: Kind) -> Connection:
    sandbox = kind.name.endswith("sandbox")
    host = kind.name + ("--dev.sandbox" if sandbox else "")
    return Connection(
        name=kind.name,
        login_url=f"https://{host}.my.salesforce.com",
        audience=f"https://{host}.my.salesforce.com",
        consumer_key=SECRET_KEY,
        username=f"integration@{kind.name}.com",
        current=Pair(
            Source("file", f"/etc/bearerwatch/keys/{kind.name}.pem"),
            Source("file", f"/etc/bearerwatch/keys/{kind.name}-cert.pem"),
        )
        if kind.certificate_days is not None
        else Pair(Source("env", "KEY")),
        next=Pair(Source("credential", "next-key"), Source("credential", "next-cert"))
        if kind.next_pair
        else None,
        approval=kind.policy,
        paused=kind.paused,
        labels=kind.labels,
    )


def _finding(cause: Cause, evidence: str, since: datetime) -> Finding:
    entry = CATALOGUE[cause]
    sentences = tuple(filter(None, (evidence, f"Evidence of {cause}." if not evidence else "")))
    return Finding(cause, entry.severity, entry.responsible, Certainty.LIKELY, sentences, since)


def _facts(name: str, days: float | None) -> CredentialFacts:
    key = KeyFacts("rsa", 2048, f"{abs(hash(name)):016x}" * 4)
    if days is None:
        return CredentialFacts(key)
    return CredentialFacts(
        key,
        CertificateFacts(
            not_before=NOW - timedelta(days=365),
            not_after=NOW + timedelta(days=days),
            serial="3A7F91C2D4",
            fingerprint="c0ffee" * 10 + "beef",
            subject="CN=salesforce-jwt-integration",
            key_fingerprint=key.fingerprint,
        ),
    )


def _lived(kind: Kind, store: Store) -> ConnectionStatus:
    """A connection that lived through its exchanges, four a day and more often lately."""
    connection = _connection(kind)
    history = begin(connection, NOW - timedelta(days=kind.seen_days))
    events: tuple[Event, ...] = changes(None, history)
    if not kind.paused:
        for at in _moments(kind.seen_days):
            before = history
            history = remember(history, _exchange(kind, at), _verdict(kind, at))
            store.save(kind.name, history, (*events, *changes(before, history)))
            events = ()
    history = _with_its_past(kind, history)
    if kind.name == "acme-production":
        history = replace(history, audit=AUDIT, usage=ApiUsage(1_234, 15_000))
    store.save(kind.name, history, events)
    facts = _facts(kind.name, kind.certificate_days)
    if Cause.KEY_UNREADABLE in kind.causes:
        facts = CredentialFacts(problems=(Problem(Cause.KEY_UNREADABLE, kind.evidence),))
    return ConnectionStatus(
        connection,
        history,
        facts,
        next_credential=_facts(kind.name + "-next", 3650) if kind.next_pair else None,
        forecast=forecast(connection, history, (), NOW),
        next_exchange=None if kind.paused else NOW + timedelta(minutes=2, seconds=len(kind.name)),
    )


def _moments(seen_days: float) -> list[datetime]:
    spread = [NOW - timedelta(hours=6 * quarter) for quarter in range(int(seen_days * 4), 2, -1)]
    lately = [NOW - timedelta(minutes=5 * turn + 1) for turn in range(40, -1, -1)]
    return [at for at in spread + lately if at > NOW - timedelta(days=seen_days)]


def _exchange(kind: Kind, at: datetime) -> Exchange:
    outcome: Outcome = kind.outcome
    if at < NOW - kind.since:
        # A night's outage, the same for all, so that the strips have something to tell.
        away = timedelta(days=13) < NOW - at < timedelta(days=13, hours=14)
        outcome = UNREACHABLE if away else GRANTED
    sent = not isinstance(outcome, NotSent | Unreachable)
    call = AfterLogin(503, "", HOSTILE) if kind.name == "hostile" else AfterLogin(200, "", "")
    called = call if isinstance(outcome, Granted) else None
    return Exchange(
        at, outcome, called, 0.12 + (at.minute * 7 + len(kind.name)) % 23 / 60 if sent else None, 0.3
    )


def _verdict(kind: Kind, at: datetime) -> Diagnosis:
    if at < NOW - kind.since:
        if isinstance(_exchange(kind, at).outcome, Unreachable):
            found = _finding(Cause.NETWORK_UNREACHABLE, "connection refused", at)
            return Diagnosis(State.UNKNOWN, (found,))
        return Diagnosis(State.HEALTHY)
    findings = tuple(
        _finding(cause, kind.evidence if place == 0 else "", at) for place, cause in enumerate(kind.causes)
    )
    alternatives = tuple(Alternative(cause, CATALOGUE[cause].tell_apart) for cause in kind.alternatives)
    return Diagnosis(kind.state, findings, alternatives)


def _with_its_past(kind: Kind, history: History) -> History:
    ended, until = [], history.first_success or NOW
    for days in kind.approvals:
        ended.append(Approval(until - timedelta(days=days), until))
        until -= timedelta(days=days + 0.4)
    if kind.next_pair:
        rotation = Rotation("next", NOW - timedelta(days=2), Stage.PREPARED, NOW - timedelta(days=2), NOW)
        history = replace(
            history, rotation=rotation, keys_accepted={**history.keys_accepted, Slot.NEXT: False}
        )
    if not ended:
        return history
    return replace(history, approvals=(*reversed(ended), *history.approvals))
