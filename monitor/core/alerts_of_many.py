"""The alert about many connections with the same cause at once: one event, told in place of single ones."""

import math
from collections.abc import Sequence
from functools import partial

from monitor.core.alert import Alert, Moment, Seen, Topic
from monitor.core.catalogue import CATALOGUE
from monitor.core.causes import Cause
from monitor.core.grouping import shared_by_all
from monitor.core.holds import MANY, MANY_SHARE, seen_again
from monitor.core.maintenance import until
from monitor.core.wording import MANY_AT_ONCE, SHOWN, told

AFFECTED = "BearerwatchManyConnectionsAffected"
UNREACHABLE = "BearerwatchManyConnectionsUnreachable"


def alert_of_many(topic: Topic, those: Sequence[Seen], moment: Moment) -> Alert | None:
    """The one alert about all of them, if they are many and for long enough, or are still told to be."""
    cause, holds = topic.cause, moment.terms.holds
    if cause is Cause.PROPAGATION_PENDING:
        return None
    if len(those) < MANY:
        return None
    # Who is in a maintenance makes no event, and yet the event goes on: its end would be told as mended.
    news = [one for one in those if not until(one.status.connection.maintenance, moment.now)]
    since = sorted(one.finding.since for one in news or those)
    enough = max(MANY, math.ceil(MANY_SHARE * len(moment.watched)))
    transient = CATALOGUE[cause].transient
    hold = holds.many_transient if transient else holds.many_confirmed
    concerned = tuple(one.status.connection for one in those)
    return Alert(
        labels={"alertname": UNREACHABLE if transient else AFFECTED, **topic.labels},
        texts=partial(_texts, topic, those, moment),
        since=since[0],
        concerns=concerned,
        # Until the refused were looked at again nobody knows who is well again.
        lingers=holds.lingers if transient else seen_again(concerned),
        group=f"many {cause} {topic.severity} {topic.responsible}",
        stays=len(news) < enough or not moment.lasted(since[enough - 1], hold),
        held_back=moment.maintenance(None if news else those[0].status.connection),
    )


def _texts(topic: Topic, those: Sequence[Seen], moment: Moment) -> dict[str, str]:
    affected, watched = f"{len(those):,}", f"{len(moment.watched):,}"
    names = ", ".join(one.status.name for one in those[:SHOWN])
    more = f" and {len(those) - SHOWN:,} more" if len(those) > SHOWN else ""
    alike = [f"All of them share {what}." for what in shared_by_all(one.status.connection for one in those)]
    return {
        "summary": f"{CATALOGUE[topic.cause].title}: {affected} of {watched} connections at once",
        "description": told(
            f"The same cause, {topic.cause}, holds for {affected} of {watched} connections: something that"
            " they share is the likely reason, be it an app, a key, an address, the network, or Salesforce."
            f" Single connections are not told of meanwhile.\nAmong them: {names}{more}."
            f" {' '.join(alike)}".rstrip(),
            who="the operator first, who finds out what they share",
            steps=(step.replace("CAUSE", topic.cause) for step in MANY_AT_ONCE),
        ),
        **moment.terms.links.to(cause=topic.cause),
    }
