"""The verdict on one exchange: the meaning of its answer, revised by history, plus other findings.

`meaning` has the table of answers, this module the table of revisions. History decides where the answer alone
can't: it worked for weeks, it never worked, our key changed an hour ago, the clock is off, the whole fleet
stopped at once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from monitor.core.catalogue import CATALOGUE, Kind, causes_where
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.connection import Connection, is_generic
from monitor.core.finding import Alternative, Certainty, Diagnosis, Finding, State
from monitor.core.history import UNKNOWN_PAST, History
from monitor.core.inside import Facts
from monitor.core.keys.credential import CredentialFacts
from monitor.core.outcome import Exchange, Granted, NotSent, Refused, Unreachable
from monitor.core.verdict import audit, meaning
from monitor.core.verdict.approval import CRITICAL, Forecast, Grounds
from monitor.core.verdict.evidence import (
    Known,
    Witnesses,
    clock_evidence,
    evidence_for,
    quoted,
    span,
)
from monitor.core.verdict.guide import CONTESTED, Seen, Step
from monitor.core.verdict.vocabulary import Meaning
from monitor.core.wording import minute

LASTING = timedelta(days=1)
"""How long a connection must have worked before a refusal probably means an expired approval: sooner, an
admin may still be at work."""

CLOCK_USELESS = timedelta(hours=1)
"""A clock this far off is critical even if orgs accept it: everything on the machine that depends on the time
is wrong. Our choice; no source."""

ALTERNATIVES_SHOWN = 5
"""Most alternatives to show; a longer list does not help."""

THROTTLE_LASTS = timedelta(hours=1)
"""A bare HTTP 429 that lasts longer than the hour over which Salesforce counts logins is not passing."""

CALLS_MISSED = 3
"""Consecutive first calls without a usable answer that make a finding; fewer are a passing fault."""

SCOPES_SHOWN = 10
"""Most scopes in a sentence; an app usually has a handful."""


WrongSteps = Callable[[Seen], tuple[Step, ...]]
"""Gives the steps that an audit shows to be wrong."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A row of the table: an answer with one of these meanings, under this condition, gets another cause."""

    of: frozenset[Cause]
    holds: Callable[[Known], bool]
    becomes: Cause
    certainty: Certainty
    others: tuple[Cause, ...] = ()
    """Alternatives to put before those of the answer; the original cause is always added."""


_SIGNATURE_REFUSED = causes_where(lambda entry: entry.refuses_signature)
_NOT_APPROVED = frozenset({Cause.CONSUMER_NOT_APPROVED})
_SETTLES = causes_where(lambda entry: entry.settle)
_NETWORK_MIMICS = causes_where(lambda entry: entry.network_mimics)
_AFTER_REFRESH = causes_where(lambda entry: entry.kind is Kind.CREDENTIAL and entry.needs_exchange)
_OF_CREDENTIALS = causes_where(lambda entry: entry.kind is Kind.CREDENTIAL)


def _is_server_error(known: Known) -> bool:
    outcome = known.exchange.outcome
    return isinstance(outcome, Refused) and (outcome.status >= 500 or bool(outcome.error))


def _is_generic(known: Known) -> bool:
    """Whether host or audience is a generic login server rather than this org's address."""
    return is_generic(known.connection.login_url) or is_generic(known.connection.audience)


def _asked_its_own_org(known: Known) -> bool:
    """Whether host and audience are the org's own, or have worked so far.

    A generic host does not count, even after months of grants: Salesforce withdrew these hosts from External
    Client Apps without any change in the orgs (observed since Spring '26), and trying the org's own address
    first takes a minute and no admin.
    """
    served = known.worked_unchanged and known.worked_for >= LASTING
    return not _is_generic(known) and (bool(known.connection.host) or served)


def _has_problem(cause: Cause) -> Callable[[Known], bool]:
    return lambda known: known.has_problem(cause)


REVISIONS = (
    # The text says "expired", and the clock can be measured.
    Revision(
        frozenset({Cause.CLOCK_SKEWED}),
        lambda known: known.clock_is_off,
        Cause.CLOCK_SKEWED,
        Certainty.CERTAIN,
    ),
    Revision(
        frozenset({Cause.CLOCK_SKEWED}),
        lambda known: known.offset is not None and not known.clock_is_off,
        Cause.CLOCK_SKEWED,
        Certainty.POSSIBLE,
    ),
    # A problem with our key explains a refused signature best.
    *(
        Revision(_SIGNATURE_REFUSED, _has_problem(cause), cause, certainty)
        for cause, certainty in (
            (Cause.KEY_CERTIFICATE_MISMATCH, Certainty.CERTAIN),
            (Cause.KEY_TOO_SHORT, Certainty.LIKELY),
            (Cause.KEY_NOT_RSA, Certainty.CERTAIN),
        )
    ),
    # Known problems on our side explain a bare `invalid_grant`.
    Revision(
        _NOT_APPROVED,
        lambda known: known.says_nothing and known.has_problem(Cause.KEY_CERTIFICATE_MISMATCH),
        Cause.KEY_CERTIFICATE_MISMATCH,
        Certainty.LIKELY,
    ),
    Revision(
        _NOT_APPROVED,
        lambda known: known.says_nothing and known.clock_is_off,
        Cause.CLOCK_SKEWED,
        Certainty.LIKELY,
    ),
    # All connections' signatures are refused at once, and our clock is wrong.
    Revision(
        _SIGNATURE_REFUSED,
        lambda known: known.fleet_fails and known.clock_is_off,
        Cause.CLOCK_SKEWED,
        Certainty.LIKELY,
    ),
    # Pages, broken answers and missing names for many orgs at once come from our side.
    Revision(
        _NETWORK_MIMICS,
        lambda known: known.fleet_fails and not _is_server_error(known),
        Cause.NETWORK_UNREACHABLE,
        Certainty.LIKELY,
    ),
    Revision(
        frozenset({Cause.SUBDOMAIN_UNKNOWN}),
        lambda known: known.witnesses is None and known.last_success is not None,
        Cause.SUBDOMAIN_UNKNOWN,
        Certainty.POSSIBLE,
    ),
    # A recent change may still be propagating. Waiting does not help a key that has been replaced.
    Revision(
        _SETTLES,
        lambda known: known.settling and not known.history.superseded,
        Cause.PROPAGATION_PENDING,
        Certainty.LIKELY,
    ),
    # It worked, and nothing changed on our side since.
    Revision(
        _NOT_APPROVED,
        lambda known: known.worked_unchanged and known.worked_for >= LASTING,
        Cause.APPROVAL_DECAYED,
        Certainty.LIKELY,
        (Cause.USER_NOT_ADMIN_APPROVED,),
    ),
    Revision(
        _NOT_APPROVED,
        lambda known: known.worked_unchanged,
        Cause.APPROVAL_DECAYED,
        Certainty.POSSIBLE,
        (Cause.USER_NOT_ADMIN_APPROVED,),
    ),
    # It worked, and then we changed something.
    Revision(
        _NOT_APPROVED,
        lambda known: known.last_success is not None,
        Cause.CONSUMER_NOT_APPROVED,
        Certainty.LIKELY,
        (Cause.USER_NOT_ADMIN_APPROVED, Cause.APPROVAL_DECAYED, Cause.AUDIENCE_INVALID),
    ),
    Revision(
        _NOT_APPROVED,
        lambda known: known.last_success is None and known.history.first_seen <= UNKNOWN_PAST,
        Cause.CONSUMER_NOT_APPROVED,
        Certainty.POSSIBLE,
        (Cause.USER_NOT_ADMIN_APPROVED, Cause.APPROVAL_DECAYED),
    ),
    Revision(
        frozenset({Cause.UNRECOGNISED}),
        lambda known: known.worked_unchanged and known.worked_for >= LASTING,
        Cause.UNRECOGNISED,
        Certainty.POSSIBLE,
        (Cause.APPROVAL_DECAYED, Cause.USER_NOT_ADMIN_APPROVED),
    ),
    # A known username is no longer known.
    Revision(
        frozenset({Cause.USERNAME_CHANGED}),
        lambda known: not (known.is_sandbox and known.last_success is not None),
        Cause.USERNAME_CHANGED,
        Certainty.POSSIBLE,
    ),
    # A known consumer key is no longer known.
    Revision(
        frozenset({Cause.CONSUMER_KEY_UNKNOWN}),
        lambda known: known.worked_unchanged,
        Cause.CONSUMER_KEY_UNKNOWN,
        Certainty.LIKELY,
        (Cause.APP_BLOCKED,),
    ),
    # Some orgs answer this to a wrong combination of host and audience.
    Revision(
        _NOT_APPROVED,
        lambda known: not known.says_nothing and known.last_success is None and _is_generic(known),
        Cause.CONSUMER_NOT_APPROVED,
        Certainty.LIKELY,
        (Cause.USER_NOT_ADMIN_APPROVED, Cause.AUDIENCE_INVALID),
    ),
    Revision(
        frozenset({Cause.APP_NOT_FOUND}),
        _is_generic,
        Cause.APP_NOT_FOUND,
        Certainty.LIKELY,
        (Cause.AUDIENCE_INVALID,),
    ),
)
"""How history, our own facts and the fleet revise an answer. Applied from top to bottom, each row to the
result of the previous rows."""


def diagnose(
    exchange: Exchange,
    credential: CredentialFacts,
    connection: Connection,
    history: History,
    now: datetime,
    *,
    witnesses: Witnesses | None = None,
    forecast: Forecast | None = None,
    production: Facts | None = None,
    wrong_steps: WrongSteps = audit.wrong_steps,
) -> Diagnosis:
    """The verdict on one exchange.

    `history`: before the exchange. `witnesses`: whether the fleet suggests a shared fault; None if too few
    orgs were checked. `forecast`: when the approval may end. `production`: the last audit
    of a sandbox's production org. `wrong_steps`: how to judge an audit while logins are granted.
    """
    known = Known(exchange, credential, connection, history, now, witnesses, forecast, production)
    match exchange.outcome:
        case Granted() as granted:
            return _granted(granted, known, wrong_steps)
        case Refused() as refused:
            meant = meaning.of_refusal(refused, connection)
        case Unreachable() as fault:
            meant = meaning.of_fault(fault, connection)
        case NotSent() as not_sent:
            meant = meaning.of_not_sent(not_sent)
            if meant.cause is not Cause.MONITOR_FAULT and known.credential.problems:
                return Diagnosis(State.FAILING, _distinct(_beside(known)))
    meant = _revised(meant, known)
    evidence = evidence_for(meant.cause, known)
    if (seen := _seen(known)) and not CATALOGUE[meant.cause].no_verdict:
        meant = _as_the_org_says(meant, seen, known)
        evidence += audit.known_before(seen, known.last_success)
    if (refresh := _refresh(known)) and meant.cause in _AFTER_REFRESH:
        evidence += (refresh[0],)
    anybodys = meant == meaning.THROTTLED and not known.has_lasted(meant.cause, THROTTLE_LASTS)
    state = State.UNKNOWN if anybodys else _state(meant.cause, known)
    severity = Severity.WARNING if anybodys else None
    first = _finding(known, meant.cause, meant.certainty, evidence, severity)
    if meant.cause in _SIGNATURE_REFUSED and known.history.superseded:
        first = replace(first, responsible=Responsible.OPERATOR)  # the admin's part is done
    if meant.cause is Cause.APP_NOT_FOUND and _asked_its_own_org(known):
        first = replace(first, responsible=Responsible.ORG_ADMIN)  # our side is right
    return Diagnosis(state, _distinct((first, *_beside(known))), tuple(_alternatives(meant, known)))


def _revised(meant: Meaning, known: Known) -> Meaning:
    for revision in REVISIONS:
        if meant.cause in revision.of and revision.holds(known):
            others = (*revision.others, meant.cause, *meant.others)
            meant = Meaning(revision.becomes, revision.certainty, others)
    return meant


def _seen(known: Known) -> Seen | None:
    """The last audit's input, with this exchange's outcome."""
    return audit.seen_of(known.connection, known.history, known.forecast, known.now, known.exchange)


def _as_the_org_says(meant: Meaning, seen: Seen, known: Known) -> Meaning:
    """An uncertain meaning, replaced by what the org itself says, if an audit was made during the failure."""
    since = known.history.failing_since or known.now
    settled = meant.certainty is Certainty.CERTAIN or meant.cause is Cause.PROPAGATION_PENDING
    if settled or seen.facts.at < since:
        return meant
    possible = (meant.cause, *meant.others)
    said = audit.explained(seen, possible)
    if said is None or (said not in possible and not _is_said_of_this_answer(said, seen, known)):
        return meant
    return Meaning(said, Certainty.CERTAIN, possible)


def _is_said_of_this_answer(said: Cause, seen: Seen, known: Known) -> bool:
    """Whether the audit accompanied this exchange, or all answers since were the same."""
    last, findings = known.history.last_verdict, known.history.findings
    stays = bool(last and last.outcome == known.exchange.outcome and findings and findings[0].cause is said)
    return stays or seen.facts.at >= known.exchange.at


def _state(cause: Cause, known: Known) -> State:
    if cause is Cause.PROPAGATION_PENDING:
        return State.SETTLING
    if cause is Cause.SUBDOMAIN_UNKNOWN and known.name_may_return:
        return State.UNKNOWN
    no_verdict = CATALOGUE[cause].no_verdict or known.is_everybodys(cause)
    return State.UNKNOWN if no_verdict else State.FAILING


def _alternatives(meant: Meaning, known: Known) -> Iterator[Alternative]:
    """Other causes that fit the answer and are not excluded by the facts."""
    others = list(meant.others)
    if _SIGNATURE_REFUSED & {meant.cause, *others} and known.certificate_ended:
        others.insert(0, Cause.CERTIFICATE_EXPIRED)
    if meant.cause in _SIGNATURE_REFUSED and known.clock_is_off:
        others.insert(0, Cause.CLOCK_SKEWED)
    if meant.cause in _SETTLES and known.history.changed_at <= UNKNOWN_PAST:
        others.insert(ALTERNATIVES_SHOWN - 1, Cause.PROPAGATION_PENDING)
    excluded = {meant.cause}
    if known.credential.pairs:
        excluded.add(Cause.KEY_CERTIFICATE_MISMATCH)
    if not known.certificate_ended:
        excluded.add(Cause.CERTIFICATE_EXPIRED)
    if not known.last_success and known.history.first_seen > UNKNOWN_PAST:
        excluded.add(Cause.APPROVAL_DECAYED)
    if CATALOGUE[meant.cause].no_verdict:
        excluded |= _OF_CREDENTIALS
    fitting = [other for other in dict.fromkeys(others) if other not in excluded]
    for other in fitting[:ALTERNATIVES_SHOWN]:
        yield Alternative(other, CATALOGUE[other].tell_apart)


# A grant


def _granted(granted: Granted, known: Known, wrong_steps: WrongSteps) -> Diagnosis:
    """A grant is healthy unless the API call, the token or our facts say otherwise; worst first."""
    after = known.exchange.after_login
    meant = meaning.of_after_login(after, granted) if after else None
    findings = [
        *_of_first_call(meant, granted, known),
        *_of_missed_calls(known),
        *_of_token(granted, known),
        *_beside(known),
        *_of_forecast(known),
        *_of_audit(known, wrong_steps),
        *_of_refresh(known),
    ]
    # A cause that stops API calls comes first: it stops the integration.
    stops = meant.cause if meant and CATALOGUE[meant.cause].stops_calls else None
    findings.sort(key=lambda finding: (finding.cause is not stops, finding.severity is not Severity.CRITICAL))
    state = State.FAILING if stops else State.DEGRADED if findings else State.HEALTHY
    return Diagnosis(state, _distinct(findings), tuple(_alternatives(meant, known)) if meant else ())


def _of_first_call(meant: Meaning | None, granted: Granted, known: Known) -> Iterator[Finding]:
    after = known.exchange.after_login
    if meant is None or after is None:
        return
    said = (
        f"A token was granted, but the first call with it was refused: {quoted(after.error, after.message)}"
    )
    evidence = [f"{said} (HTTP {after.status})."]
    if granted.scopes:
        evidence.append(f"The granted scopes are {', '.join(sorted(granted.scopes)[:SCOPES_SHOWN])}.")
    if granted.of_site:
        evidence.append("The user belongs to an Experience Cloud site.")
    severity = Severity.CRITICAL if CATALOGUE[meant.cause].stops_calls else None
    if meant.cause is Cause.UNRECOGNISED:
        evidence.append("The token may have been revoked at that moment, or be locked to other addresses.")
        severity = Severity.WARNING
    yield _finding(known, meant.cause, meant.certainty, evidence, severity)


def _of_missed_calls(known: Known) -> Iterator[Finding]:
    """The first calls without a usable answer, from the third in a row."""
    after, past = known.exchange.after_login, known.history
    last = after or past.after_login
    missed = past.calls_missed + (after is not None)
    if not known.connection.after_login or last is None or not last.missed or missed < CALLS_MISSED:
        return
    proven = f"last proven to work on {minute(past.proven_at)}" if past.proven_at else "never proven to work"
    evidence = [
        f"Tokens are granted, but {missed} first calls in a row got no usable answer. Last: {last.problem}.",
        f"The token was {proven}.",
    ]
    yield _finding(known, Cause.FIRST_CALL_UNANSWERED, Certainty.CERTAIN, evidence)


def _of_token(granted: Granted, known: Known) -> Iterator[Finding]:
    if granted.token_format == "jwt":  # noqa: S105 - a format, not a secret
        said = "The granted access token is a JWT: the Bulk and Metadata APIs will refuse it."
        yield _finding(known, Cause.JWT_ACCESS_TOKEN, Certainty.CERTAIN, [said])
    if granted.scopes is not None and not granted.scopes & meaning.API_SCOPES:
        named = ", ".join(sorted(granted.scopes)[:SCOPES_SHOWN]) or "none"
        said = f"The granted scopes do not include api: {named}."
        # The next first call will be refused for it. Were it a warning until then, it would be told twice.
        severity = Severity.CRITICAL if known.connection.after_login else None
        yield _finding(known, Cause.SCOPE_MISSING, Certainty.CERTAIN, [said], severity)
    pinned = known.history.identity
    moved = [
        f"The token is for {what} {now}; before, it was for {what} {before}."
        for what, now, before in (
            ("org", granted.org_id, pinned.org_id),
            ("user", granted.user_id, pinned.user_id),
        )
        # Ids of 15 and 18 characters are equivalent: the last three only encode upper and lower case.
        if now and before and now[:15] != before[:15]
    ]
    if moved:
        if refresh := _refresh(known):
            moved.append(refresh[0])
        elif known.is_sandbox:
            moved.append("The host is a sandbox: it was probably refreshed.")
        yield _finding(known, Cause.IDENTITY_CHANGED, Certainty.CERTAIN, moved)


# Findings independent of the org's answer


def _beside(known: Known) -> Iterator[Finding]:
    granted = known.exchange.granted
    for problem in known.credential.problems:  # a grant proves that key and certificate work
        severity = Severity.WARNING if granted else None
        yield _finding(known, problem.cause, Certainty.CERTAIN, [problem.detail], severity)
    yield from _of_certificate(known)
    if known.offset and known.clock_is_off:
        milder = granted and abs(known.offset) < CLOCK_USELESS
        severity = Severity.WARNING if milder else None
        yield _finding(known, Cause.CLOCK_SKEWED, Certainty.CERTAIN, clock_evidence(known), severity)


def _refresh(known: Known) -> tuple[str, bool] | None:
    """What the production org said of this sandbox's latest refresh, and whether it is in progress."""
    sandbox = known.connection.sandbox[1]
    return known.production.refresh_of(sandbox, known.last_success) if known.production and sandbox else None


def _of_certificate(known: Known) -> Iterator[Finding]:
    ends = known.certificate_span
    if ends is None:
        return
    (begin, end), bands, left = ends, known.connection.expiry, ends[1] - known.now
    critical, warning = bands.critical.of(end - begin), bands.warning.of(end - begin)
    if left <= timedelta(0):
        said = (
            f"The certificate expired on {minute(end)}. Salesforce does not document whether it refuses"
            " expired certificates."
        )
        yield _finding(known, Cause.CERTIFICATE_EXPIRED, Certainty.CERTAIN, [said])
    elif left <= max(warning, critical):
        said = f"The certificate expires on {minute(end)}, in {span(left)}."
        severity = Severity.CRITICAL if left <= critical else Severity.WARNING
        yield _finding(known, Cause.CERTIFICATE_EXPIRING, Certainty.CERTAIN, [said], severity)
    elif begin > known.now:
        said = f"The certificate becomes valid on {minute(begin)}, in {span(begin - known.now)}."
        yield _finding(known, Cause.CERTIFICATE_NOT_YET_VALID, Certainty.CERTAIN, [said])


def _of_forecast(known: Known) -> Iterator[Finding]:
    foreseen = known.forecast
    if foreseen is None or known.now < foreseen.warns_from:
        return
    audited = known.history.audit if foreseen.grounds is Grounds.READ else None
    contested = bool(audited and audited.policy and audited.policy.permitted != "self")
    certainty = Certainty.POSSIBLE if foreseen.grounds is Grounds.SIBLINGS or contested else Certainty.LIKELY
    left = foreseen.at - known.now
    when = f"in {span(left)}" if left > timedelta(0) else f"{span(-left)} ago, but logins are still granted"
    expected = "is" if left > timedelta(0) else "was"
    evidence = [f"The approval {expected} expected to end on {minute(foreseen.at)}, {when}.", foreseen.reason]
    if contested:
        evidence.append(CONTESTED)
    # If the org still grants after the end, the forecast was wrong.
    near = timedelta(0) < left < CRITICAL and not contested
    severity = Severity.CRITICAL if near else Severity.WARNING
    yield _finding(known, Cause.APPROVAL_EXPIRING, certainty, evidence, severity)


def _of_audit(known: Known, wrong_steps: WrongSteps) -> Iterator[Finding]:
    """Wrong steps of the guide while the org still grants, combined by cause."""
    seen = _seen(known)
    wrong = wrong_steps(seen) if seen else ()
    for cause in dict.fromkeys(step.cause for step in wrong if step.cause):
        alike = sorted(
            (step for step in wrong if step.cause is cause),
            key=lambda step: list(Severity).index(step.severity),
        )
        evidence = [step.said for step in alike]
        yield _finding(known, cause, alike[0].certainty, evidence, alike[0].severity)


def _of_refresh(known: Known) -> Iterator[Finding]:
    if (refresh := _refresh(known)) and refresh[1]:
        yield _finding(known, Cause.SANDBOX_REFRESHING, Certainty.CERTAIN, [refresh[0]])


def _finding(
    known: Known,
    cause: Cause,
    certainty: Certainty,
    evidence: Iterable[str],
    severity: Severity | None = None,
) -> Finding:
    entry = CATALOGUE[cause]
    responsible = entry.responsible
    if responsible is Responsible.ORG_ADMIN and known.is_everybodys(cause):
        responsible = Responsible.OPERATOR
    return Finding(cause, severity or entry.severity, responsible, certainty, tuple(evidence), known.now)


def _distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    first: dict[Cause, Finding] = {}
    for finding in findings:
        first.setdefault(finding.cause, finding)
    return tuple(first.values())
