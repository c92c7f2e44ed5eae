"""The stage of a rotation to the next pair, and when to try its key.

The next key is tried after the current one, during regular checks. Only while the app's certificate is
changing is it tried separately. The result never affects the verdict on the current key.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from monitor.core.catalogue import CATALOGUE, Kind
from monitor.core.connection import Connection
from monitor.core.history import History, Rotation, Slot, Stage
from monitor.core.keys.credential import CredentialFacts
from monitor.core.outcome import Exchange, Granted, Outcome, Refused
from monitor.core.verdict import meaning

LOGINS_PER_HOUR = 12
"""Tries of next keys per username and hour, separate from the budget for checks: most of them are refused,
and repeated refusals can get the source address blocked (Salesforce knowledge article 000212767)."""

SOON = timedelta(minutes=1)
"""Between tries while the current key's signature is refused, or the certificate is changing."""

AT_FIRST = timedelta(minutes=10)
"""Between tries of a new key: its certificate is probably being uploaded."""

LATELY = timedelta(hours=2)

SELDOM = timedelta(hours=1)
"""Between tries of an older key, or one that is already accepted."""

STEP = timedelta(minutes=2)
"""Between separate tries while the certificate changes, which takes 2 to 10 minutes (step 2)."""


def proven(outcome: Outcome | None, connection: Connection) -> bool | None:
    """Whether the app's certificate verifies the signing key; None if the answer does not tell."""
    if isinstance(outcome, Granted):
        return True
    if isinstance(outcome, Refused):
        cause = meaning.of_refusal(outcome, connection).cause
        return False if CATALOGUE[cause].refuses_signature else None
    return None


def planned(
    history: History,
    connection: Connection,
    was: Exchange | None,
    asked: Outcome | None,
    tried: Outcome | None,
    turn: datetime | None,
    now: datetime,
) -> tuple[History, datetime | None, datetime | None]:
    """The history as in `advanced`, when to check the current key again, and when to try only the next one.

    `turn` is the current key's regular time. It is soon if the org has just switched to the next key: that
    changes what a refusal of the current one means, and who must act.
    """
    after = advanced(history, connection, was, asked, tried, now)
    if turn and after.superseded and not history.superseded:
        turn = min(turn, now + SOON)
    return after, turn, own_look(after, connection, now)


def with_pairs(
    history: History,
    connection: Connection,
    current: CredentialFacts,
    following: CredentialFacts,
    now: datetime,
) -> History:
    """The history with both pairs. A new next key begins a rotation; none, or the current key, ends it."""
    begun, key = history.rotation, following.key
    if connection.next and key is None:
        return history
    if key is None or (current.key and current.key.fingerprint == key.fingerprint):
        return replace(history, rotation=None, keys_accepted=_without_next(history.keys_accepted))
    if begun and begun.key_fingerprint == key.fingerprint:
        return history
    return replace(
        history,
        rotation=Rotation(key.fingerprint, now, Stage.PREPARED, now),
        keys_accepted=_without_next(history.keys_accepted),
    )


def _without_next(accepted: Mapping[Slot, bool]) -> dict[Slot, bool]:
    return {slot: was for slot, was in accepted.items() if slot is not Slot.NEXT}


def due(
    history: History, connection: Connection, was: Exchange | None, asked: Outcome | None, now: datetime
) -> bool:
    """Whether to try the next key.

    `was`: the last verdict on the current key before this check; `asked`: this check's outcome with it.
    """
    rotation = history.rotation
    if rotation is None:
        return False
    refused = proven(asked, connection) is False
    if rotation.tried_at is None or (refused and was and proven(was.outcome, connection)):
        return True
    if rotation.stage is Stage.PROPAGATING or refused:
        gap = SOON
    elif history.keys_accepted.get(Slot.NEXT) or now - rotation.prepared_at >= LATELY:
        gap = SELDOM
    else:
        gap = AT_FIRST
    return now - rotation.tried_at >= gap


def advanced(
    history: History,
    connection: Connection,
    was: Exchange | None,
    asked: Outcome | None,
    tried: Outcome | None,
    now: datetime,
) -> History:
    """The history after exchanges with the current key (`asked`), the next one (`tried`), or both.

    None means no exchange with that key; `was` is the last verdict on the current key before. A refusal of
    the next key counts if it concerns the signature, or if the current key was just granted: then only the
    key differs, unless Salesforce or the network is at fault.
    """
    rotation = history.rotation
    if rotation is None:
        return history
    before = proven(was.outcome, connection) if was else None
    current, found = proven(asked, connection), proven(tried, connection)
    accepted = history.keys_accepted.get(Slot.NEXT)
    if isinstance(tried, Refused) and isinstance(asked, Granted):
        cause = meaning.of_refusal(tried, connection).cause
        found = False if CATALOGUE[cause].kind is Kind.CREDENTIAL else None
    following = accepted if found is None else found
    moved = bool(following) if accepted is None else following is not accepted
    moved = moved or (None not in {before, current} and before is not current)
    current = before if current is None else current
    moved_at = now if moved else rotation.moved_at
    settling = moved_at is not None and now - moved_at < connection.settle
    stage = _stage(current=current, following=following, settling=settling)
    return replace(
        history,
        keys_accepted=history.keys_accepted
        if following is None
        else {**history.keys_accepted, Slot.NEXT: following},
        rotation=replace(
            rotation,
            stage=stage,
            since=rotation.since if stage is rotation.stage else now,
            tried_at=rotation.tried_at if tried is None else now,
            moved_at=moved_at,
        ),
    )


def _stage(*, current: bool | None, following: bool | None, settling: bool) -> Stage:
    if following and current is False:
        return Stage.CURRENT_REFUSED
    if settling:
        return Stage.PROPAGATING
    return Stage.ACCEPTED if following else Stage.PREPARED


def own_look(history: History, connection: Connection, now: datetime) -> datetime | None:
    """When to try only the next key; None if regular checks suffice."""
    rotation = history.rotation
    if rotation is None or rotation.stage is not Stage.PROPAGATING:
        return None
    return now + min(STEP, connection.interval)
