"""Alerts about the monitor itself: absent, late, incomplete, or unable to remember or to tell.

The credentials' owners are never told of these: they are the operator's. What the daemon can tell of itself
it tells in the same words, which stand in the core.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from monitor.config.words import written_duration
from monitor.core.alerts_of_daemon import (
    CHECKS_LATE,
    LASTING,
    RELOAD_FAILED,
    SAVED,
    STANDING,
    STORE_FAILING,
    WATCHES_NOTHING,
    Trouble,
)
from monitor.core.causes import Severity
from monitor.core.holds import SCRAPE, Holds
from monitor.core.wording import SHOWN, Links
from monitor.rules.document import Alert
from monitor.rules.replicas import BUT_CUT_OFF
from monitor.rules.wording import looked_up

JOB = "bearerwatch"
"""The name of the scrape job in deploy/. Only BearerwatchDown depends on it."""

RESTART = timedelta(minutes=3)
"""A restart, or a move to another node, takes one to two minutes."""

RECENTLY = "15m"
"""Counters that should not count: what happened within this time is still news."""

UNTOLD = timedelta(minutes=20)
"""A receiver that restarts, or is upgraded, was back ten minutes ago, and is news for ten more."""

BUDGET_HELD = timedelta(hours=1)
"""The login budget is one of an hour: once it has been short for so long, it is too small and not unlucky."""

AT = "{{ $labels.instance }}"

_DUE = "bearerwatch_connection_next_exchange_timestamp_seconds"
_RESTART = f"{written_duration(RESTART)}: a restart, or a move to another node, is over by then."
_TWICE = f"{written_duration(2 * SCRAPE)}: two scrapes saw it."
_RUNS = "See whether the process runs: `systemctl status bearerwatch`, or the pod's state and its last log."


@dataclass(frozen=True, slots=True)
class _Rule:
    """A trouble, and how Prometheus finds it."""

    trouble: Trouble
    expression: str
    why: str
    names: str = ""
    """A template with those concerned."""


def alerts(holds: Holds, links: Links) -> Iterator[Alert]:
    """The alerts about the daemon, the gravest first."""
    for rule in (*PRESENCE, _checks_late(holds), COVERAGE, *REPLICAS, *CONFIGURATION, *WORK):
        trouble = rule.trouble
        yield Alert(
            name=trouble.name,
            expression=rule.expression,
            hold=trouble.hold,
            why=rule.why,
            labels=trouble.labels,
            annotations=trouble.annotations(
                links,
                daemon=f"bearerwatch at {AT}",
                count="{{ $value }}",
                names=rule.names,
            ),
        )


PRESENCE = (
    _Rule(
        Trouble(
            "BearerwatchAbsent",
            Severity.CRITICAL,
            RESTART,
            "No bearerwatch is there: nothing watches the credentials",
            "Prometheus has no series of bearerwatch: it does not run, or can't be scraped. What it"
            " found last stands as an alert for an hour; nothing new will be found.",
            (
                _RUNS,
                (
                    "If it runs, open Status > Targets in Prometheus: the address, a firewall, or the access"
                    " rules of the page are wrong."
                ),
                (
                    "If it does not start, `bearerwatch config check FILE` says what is wrong with the"
                    " configuration."
                ),
            ),
        ),
        "absent(bearerwatch_build_info)",
        _RESTART,
    ),
    _Rule(
        Trouble(
            "BearerwatchDown",
            Severity.CRITICAL,
            RESTART,
            "DAEMON can't be scraped",
            f"The daemon at {AT} does not answer Prometheus. Its connections are not watched, unless"
            " another daemon has them too.",
            (_RUNS, "If it runs, open Status > Targets in Prometheus for the reason."),
        ),
        f'up{{job="{JOB}"}} == 0',
        f"One daemon of several. The job's name is that of the scrape configuration in deploy/. {_RESTART}",
    ),
)


def _checks_late(holds: Holds) -> _Rule:
    behind = f"max by (connection) (time() - {_DUE} {BUT_CUT_OFF})"
    overdue = f"{behind} > {holds.late.total_seconds():.0f}"
    watched = 'max by (connection) (bearerwatch_connection_state{state="paused"}) == 0'
    each = "{{ $one.Labels.connection }} ({{ $one.Value | humanizeDuration }})"
    names = f"{{{{ range $place, $one := . }}}}{{{{ if $place }}}}, {{{{ end }}}}{each}{{{{ end }}}}"
    return _Rule(
        CHECKS_LATE,
        f"count(\n  {overdue}\n  or ({watched} unless on (connection) ({_DUE} {BUT_CUT_OFF}))\n) > 0",
        f"{holds.late.total_seconds():.0f} s behind the moment that the daemon itself has set (an interval,"
        " but at least 2m for a full queue, at most 1h), or no such moment though not paused. Paused"
        f" connections and those that are looked at less often after a refusal are not late. {_TWICE}",
        looked_up(f"topk({SHOWN}, {behind})", f"\nThe latest: {names}."),
    )


_EXPORTED = 'count by (job, instance) (bearerwatch_connection_state{state="healthy"})'
_CONFIGURED = "max by (job, instance) (bearerwatch_connections_configured)"

COVERAGE = _Rule(
    Trouble(
        "BearerwatchCoverageIncomplete",
        Severity.CRITICAL,
        2 * SCRAPE,
        f"Configured connections without a series at {AT}: COUNT",
        "The configuration has more or other connections than the metrics page shows: some are"
        " not watched, and no other alert can tell.",
        (
            "Compare the connections on the status page with the configuration.",
            "Restart the daemon, and report the difference: this is a fault of bearerwatch.",
        ),
    ),
    f"{_CONFIGURED}\n- ({_EXPORTED} or {_CONFIGURED} * 0)\n!= 0",
    f"Connections that are configured, less those that have a state; where none has, all of them. {_TWICE}",
)

REPLICAS = (
    _Rule(
        Trouble(
            "BearerwatchDatabaseUnreachable",
            Severity.CRITICAL,
            RESTART,
            "Replicas of bearerwatch that can't reach their database: COUNT",
            "A replica that can't reach the shared database checks nothing, since it can't know what"
            " the others check. Where it is all replicas, no connection is watched.",
            (
                "`/-/ready` of a replica says what the database, or the way to it, answers.",
                "See whether PostgreSQL runs, takes connections, and has room on its disk.",
                (
                    "Nothing is to be restarted: replicas go on, and write what they still know, once it"
                    " answers."
                ),
            ),
        ),
        "count by (job) (bearerwatch_database_reachable == 0)",
        f"Replicas that the shared database does not answer. {_RESTART}",
    ),
    _Rule(
        Trouble(
            "BearerwatchScheduleIncomplete",
            Severity.CRITICAL,
            SAVED,
            "Connections without an appointment for their next check: COUNT",
            "Connections are configured and not paused, and yet no replica will check them.",
            (
                "If BearerwatchReplicasDiffer is firing as well, give all replicas the same configuration.",
                "If not, restart one replica, and report the difference: this is a fault of bearerwatch.",
            ),
        ),
        "max by (job) (\n"
        "  abs(\n"
        "    bearerwatch_connections_configured\n"
        '    - on (job, instance) bearerwatch_connections{state="paused"}\n'
        "    - on (job, instance) bearerwatch_connections_scheduled\n"
        f"    {BUT_CUT_OFF}\n"
        "  )\n"
        ") > 0",
        f"{written_duration(SAVED)}: appointments are compared with the configuration every 30 seconds.",
    ),
    _Rule(
        Trouble(
            "BearerwatchReplicasDiffer",
            Severity.WARNING,
            LASTING,
            "Replicas of bearerwatch run with COUNT different configurations",
            "A connection that only some replicas have is watched by those alone, and what was"
            " removed from some of them is watched still.",
            (
                (
                    "Compare `bearerwatch_config_last_reload_success_timestamp_seconds` of the replicas: the"
                    " eldest is the one that was left behind."
                ),
                "Give it the configuration of the others, and see its log for why it was not taken on.",
            ),
        ),
        f"max by (job) (bearerwatch_replicas_configurations {BUT_CUT_OFF}) > 1",
        f"{written_duration(LASTING)}: while a new configuration reaches one after the other, they differ.",
    ),
)
"""Where several daemons watch together: once for all of them, whoever sees it."""

CONFIGURATION = (
    _Rule(
        WATCHES_NOTHING,
        "bearerwatch_connections_configured == 0",
        f"{written_duration(LASTING)}: a daemon that is being set up may be empty for a while.",
    ),
    _Rule(
        RELOAD_FAILED,
        "bearerwatch_config_last_reload_successful == 0",
        f"{written_duration(SAVED)}: who saves a file with a mistake sees it, and saves again.",
    ),
)

WORK = (
    _Rule(
        STORE_FAILING,
        "increase(bearerwatch_store_errors_total[2m]) > 0",
        f"{written_duration(STANDING)}: a write that fails is tried again within 30s; one that then succeeds"
        " has lost nothing.",
    ),
    _Rule(
        Trouble(
            "BearerwatchNotificationsFailing",
            Severity.CRITICAL,
            UNTOLD,
            "Notifications of DAEMON do not arrive",
            "A receiver of notifications refuses them, or is away. They are sent again until they arrive.",
            (
                "See the log for the receiver and its answer.",
                (
                    "Once that is mended, `bearerwatch alerts test --cause approval_decayed --to SINK"
                    " --config FILE` sends a marked drill."
                ),
            ),
        ),
        "increase(bearerwatch_notifications_failed_total[10m]) > 0",
        f"{written_duration(UNTOLD)}: a receiver that is away is tried every 5m at least, and one that is"
        " back within 10m is no alert: nothing is lost meanwhile.",
    ),
    _Rule(
        Trouble(
            "BearerwatchLogErrors",
            Severity.WARNING,
            2 * SCRAPE,
            "DAEMON logs errors",
            "Something in the daemon went wrong that should not: it logs errors for faults of its own alone.",
            (
                (
                    "Read the error in the log: `journalctl --unit bearerwatch --priority err`, or the"
                    " container's log."
                ),
                "If it is not about your configuration or disk, report it with the log line.",
            ),
        ),
        f'increase(bearerwatch_log_messages_total{{level=~"error|critical"}}[{RECENTLY}]) > 0',
        f"Any error of the daemon's own within {RECENTLY}: it logs none for what Salesforce answers."
        f" {_TWICE}",
    ),
    _Rule(
        Trouble(
            "BearerwatchScheduleMissed",
            Severity.WARNING,
            2 * SCRAPE,
            "DAEMON missed appointments",
            "Appointments came up and brought no check.",
            (
                (
                    "See the log around that time, and whether the machine was suspended or short of"
                    " processor time."
                ),
            ),
        ),
        f"increase(bearerwatch_schedule_missed_total[{RECENTLY}]) > 0",
        f"Any appointment within {RECENTLY} that brought no check. {_TWICE}",
    ),
    _Rule(
        Trouble(
            "BearerwatchLoginBudgetShort",
            Severity.WARNING,
            BUDGET_HELD,
            f"Checks at {AT} are put off: the login budget is used up",
            "For an hour, connections that share a username have wanted more logins than"
            " login_budget_per_hour allows, and are checked less often than configured.",
            (
                (
                    "Lengthen the interval of the connections that share a username, or raise"
                    " login_budget_per_hour: Salesforce allows a user 3,600 an hour, production's included."
                ),
            ),
        ),
        "increase(bearerwatch_logins_deferred_total[1h]) > 0",
        f"{written_duration(BUDGET_HELD)}: the budget is one of an hour. Checks put off once in a while are"
        " what it is for.",
    ),
)
