"""What is remembered of a connection, exchange by exchange."""

from dataclasses import replace
from datetime import timedelta

from monitor.core.causes import Cause
from monitor.core.finding import State
from monitor.core.history import (
    LIFETIMES_KEPT,
    PINNED_AGAIN_AFTER,
    Change,
    EventKind,
    History,
    Identity,
    Slot,
    changes,
    reconfigured,
    rekeyed,
)
from monitor.core.inside import Facts
from monitor.core.keys.credential import KeyFacts
from monitor.core.outcome import NotSent
from tests.making import (
    ACME,
    GRANTED,
    NOT_APPROVED,
    NOW,
    UNREACHABLE,
    connection,
    diagnosis,
    exchange,
    history,
    remember,
)

DAY = timedelta(days=1)
HEALTHY = diagnosis(State.HEALTHY)
DECAYED = diagnosis(State.FAILING, Cause.APPROVAL_DECAYED)
AWAY = diagnosis(State.UNKNOWN, Cause.NETWORK_UNREACHABLE)


def granted(before: History, after_days: float = 0) -> History:
    return remember(before, exchange(at=NOW + after_days * DAY), HEALTHY)


def decayed(before: History, after_days: float) -> History:
    at = NOW + after_days * DAY
    return remember(
        before, exchange(NOT_APPROVED, at), diagnosis(State.FAILING, Cause.APPROVAL_DECAYED, at=at)
    )


def test_a_grant_is_counted_keeps_the_identity_and_begins_an_approval() -> None:
    after = granted(history())

    assert (after.exchanges, after.failures, after.consecutive_successes) == (1, 0, 1)
    assert after.first_success == after.last_success == after.approval_since == NOW
    assert after.identity == Identity(GRANTED.org_id, GRANTED.user_id)
    assert after.keys_accepted == {Slot.CURRENT: True}
    assert (after.state, after.state_since) == (State.HEALTHY, NOW)


def test_a_refusal_keeps_the_time_it_began() -> None:
    once = decayed(granted(history()), 30)
    twice = decayed(once, 31)

    assert twice.failing_since == once.failing_since == NOW + 30 * DAY
    assert twice.findings[0].since == NOW + 30 * DAY
    assert twice.consecutive_refusals == 2
    assert twice.failures_by_cause == {Cause.APPROVAL_DECAYED: 2}
    assert twice.keys_accepted == {Slot.CURRENT: False}


def test_refusals_while_a_change_settles_are_not_definitive() -> None:
    settling = diagnosis(State.SETTLING, Cause.PROPAGATION_PENDING)
    once = remember(history(), exchange(NOT_APPROVED), settling)

    assert once.consecutive_refusals == 0
    assert decayed(once, 1).consecutive_refusals == 1


def test_a_changed_configuration_is_one_event() -> None:
    before = granted(history())

    after = reconfigured(before, connection(username="other@acme.com"), NOW + DAY)

    assert [event.kind for event in changes(before, after)] == [EventKind.CONFIGURATION]


def test_earlier_refusals_do_not_prevent_settling_after_a_change() -> None:
    refused = decayed(decayed(granted(history()), 30), 31)
    changed = connection(audience="https://login.salesforce.com")

    assert reconfigured(refused, changed, NOW + 32 * DAY).consecutive_refusals == 0
    known = replace(refused, key_fingerprint="a")
    assert rekeyed(known, KeyFacts("rsa", 2048, "b"), NOW + 32 * DAY).consecutive_refusals == 0


def test_an_unknown_host_name_does_not_remain_after_another_fault() -> None:
    gone = remember(history(), exchange(UNREACHABLE), diagnosis(State.FAILING, Cause.SUBDOMAIN_UNKNOWN))

    after = remember(gone, exchange(UNREACHABLE, NOW + DAY), AWAY)

    assert [found.cause for found in after.findings] == [Cause.NETWORK_UNREACHABLE]


def test_a_decay_ends_the_approval_and_keeps_its_lifetime_once() -> None:
    after = decayed(decayed(granted(history()), 30), 31)

    assert [approval.days for approval in after.approvals] == [30]
    assert after.approval_since is None


def test_a_new_approval_begins_with_the_grant_after_a_decay() -> None:
    after = granted(decayed(granted(history()), 30), 32)

    assert after.approval_since == NOW + 32 * DAY
    assert len(after.approvals) == 1


def test_a_refusal_for_an_unassigned_permission_set_ends_the_approval_but_gives_no_lifetime() -> None:
    verdict = diagnosis(State.FAILING, Cause.USER_NOT_ADMIN_APPROVED)

    after = remember(granted(history()), exchange(NOT_APPROVED, NOW + DAY), verdict)

    assert after.approval_since is None
    assert after.approvals == ()


def test_only_the_latest_lifetimes_are_kept() -> None:
    after = history()
    for month in range(LIFETIMES_KEPT + 3):
        after = decayed(granted(after, month * 31), month * 31 + 30)

    assert len(after.approvals) == LIFETIMES_KEPT


def test_while_the_network_is_down_the_last_verdict_remains() -> None:
    failing = decayed(granted(history()), 30)

    after = remember(failing, exchange(UNREACHABLE, NOW + 31 * DAY), AWAY)

    assert after.state is State.UNKNOWN
    assert [found.cause for found in after.findings] == [Cause.NETWORK_UNREACHABLE, Cause.APPROVAL_DECAYED]
    assert after.findings[1].since == NOW + 30 * DAY
    assert after.last_verdict == failing.last_verdict
    assert after.keys_accepted == {Slot.CURRENT: False}


def test_one_network_fault_does_not_outlive_the_next() -> None:
    after = remember(history(), exchange(UNREACHABLE), AWAY)
    after = remember(
        after, exchange(UNREACHABLE, NOW + DAY), diagnosis(State.UNKNOWN, Cause.SALESFORCE_UNAVAILABLE)
    )

    assert [found.cause for found in after.findings] == [Cause.SALESFORCE_UNAVAILABLE]
    assert after.consecutive_faults == 2


def test_an_unsent_request_is_not_an_exchange_but_its_cause_counts() -> None:
    verdict = diagnosis(State.FAILING, Cause.KEY_UNREADABLE)

    after = remember(history(), exchange(NotSent("no key")), verdict)

    assert (after.exchanges, after.failures) == (0, 0)
    assert after.failures_by_cause == {Cause.KEY_UNREADABLE: 1}


def test_a_changed_identity_is_a_finding_for_a_week() -> None:
    other = replace(GRANTED, org_id="00Dyy0000000009AAA")
    pinned = granted(history())

    def seen(before: History, days: float) -> History:
        at = NOW + days * DAY
        verdict = diagnosis(State.DEGRADED, Cause.IDENTITY_CHANGED, at=at)
        return remember(before, exchange(other, at), verdict)

    once = seen(pinned, 1)
    later = seen(once, 1 + PINNED_AGAIN_AFTER / DAY)

    assert once.identity.org_id == GRANTED.org_id
    assert later.identity.org_id == other.org_id


def test_a_change_of_the_request_starts_a_settle_time_and_drops_the_known_identity() -> None:
    before = granted(history())

    after = reconfigured(before, connection(username="integration@acme.com.dev"), NOW + DAY)

    assert (after.changed, after.changed_at) == (Change.CONFIGURATION, NOW + DAY)
    assert after.identity == Identity()
    assert after.approval_since is None
    assert after.first_success == NOW


def test_a_change_of_the_interval_does_not_change_what_is_sent() -> None:
    before = granted(history())

    assert reconfigured(before, connection(interval=DAY), NOW + DAY) == before


def test_an_audit_is_dropped_with_its_observer_or_if_audits_are_turned_off() -> None:
    known = replace(history(), audit=Facts(NOW, observer="observer"))
    observed = connection(observer=connection(name="observer"))

    assert reconfigured(known, observed, NOW + DAY).audit is known.audit
    assert reconfigured(known, connection(), NOW + DAY).audit is None
    assert reconfigured(known, replace(observed, audit=False), NOW + DAY).audit is None


def test_a_second_key_is_a_change_and_the_first_is_not() -> None:
    first = rekeyed(history(), KeyFacts("rsa", 2048, "aa"), NOW)
    other = rekeyed(first, KeyFacts("rsa", 2048, "bb"), NOW + DAY)

    assert first.changed is Change.FIRST_SEEN
    assert (other.changed, other.changed_at) == (Change.KEY, NOW + DAY)


def test_events_record_all_changes_of_a_connection() -> None:
    before = history()
    well = granted(before)
    ill = decayed(well, 30)

    assert [event.kind for event in changes(before, well)] == [EventKind.STATE, EventKind.APPROVAL]
    assert {event.kind for event in changes(well, ill)} == {
        EventKind.STATE,
        EventKind.CAUSE,
        EventKind.APPROVAL,
    }
    assert all(event.failure for event in changes(well, ill))
    assert changes(ill, ill) == ()


def test_without_a_change_there_is_no_event() -> None:
    well = granted(history(ACME))

    assert changes(well, granted(well, 1)) == ()
