"""Alerts about the monitor itself: absent, late, incomplete, or unable to remember or to tell.

The credentials' owners are never told of these: they are the operator's.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

from monitor.config.words import written_duration
from monitor.core.causes import Cause, Responsible, Severity
from monitor.core.holds import SCRAPE, Holds
from monitor.core.wording import WHO, Links, told
from monitor.rules.document import Alert
from monitor.rules.wording import looked_up

JOB = "bearerwatch"
"""The name of the scrape job in deploy/. Only BearerwatchDown depends on it."""

RESTART = timedelta(minutes=3)
"""A restart, or a move to another node, takes one to two minutes."""

SAVED = timedelta(minutes=5)
"""Who saves a file with a mistake sees it, and saves again."""

STANDING = timedelta(minutes=5)
"""A disk that is full stays full; a database that another process reads is free again within seconds."""

RECENTLY = "15m"
"""Counters that should not count: what happened within this time is still news."""

LASTING = timedelta(minutes=15)
"""A daemon that is being set up has its connections by then."""

UNTOLD = timedelta(minutes=20)
"""A receiver that restarts, or is upgraded, was back ten minutes ago, and is news for ten more."""

BUDGET_HELD = timedelta(hours=1)
"""The login budget is one of an hour: once it has been short for so long, it is too small and not unlucky."""

SHOWN = 5
"""Connections that an alert about many names."""

AT = "{{ $labels.instance }}"

_DUE = "bearerwatch_connection_next_exchange_timestamp_seconds"
_RESTART = f"{written_duration(RESTART)}: a restart, or a move to another node, is over by then."
_TWICE = f"{written_duration(2 * SCRAPE)}: two scrapes saw it."
_RUNS = "See whether the process runs: `systemctl status bearerwatch`, or the pod's state and its last log."


def alerts(holds: Holds, links: Links) -> Iterator[Alert]:
    """The alerts about the daemon, the gravest first."""

    def alert(
        name: str,
        severity: Severity,
        expression: str,
        hold: timedelta,
        why: str,
        *,
        summary: str,
        description: str,
        steps: tuple[str, ...],
    ) -> Alert:
        return Alert(
            name=name,
            expression=expression,
            hold=hold,
            why=why,
            labels={"severity": severity.value, "responsible": Responsible.OPERATOR.value},
            annotations={
                "summary": summary,
                "description": told(description, who=WHO[Responsible.OPERATOR], steps=steps),
                **links.to(cause=Cause.MONITOR_FAULT),
            },
        )

    yield alert(
        "BearerwatchAbsent",
        Severity.CRITICAL,
        "absent(bearerwatch_build_info)",
        RESTART,
        _RESTART,
        summary="No bearerwatch is there: nothing watches the credentials",
        description="Prometheus has no series of bearerwatch: it does not run, or can't be scraped. What it"
        " found last stands as an alert for an hour; nothing new will be found.",
        steps=(
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
    )
    yield alert(
        "BearerwatchDown",
        Severity.CRITICAL,
        f'up{{job="{JOB}"}} == 0',
        RESTART,
        f"One daemon of several. The job's name is that of the scrape configuration in deploy/. {_RESTART}",
        summary=f"bearerwatch at {AT} can't be scraped",
        description=f"The daemon at {AT} does not answer Prometheus. Its connections are not watched, unless"
        " another daemon has them too.",
        steps=(_RUNS, "If it runs, open Status > Targets in Prometheus for the reason."),
    )
    yield alert(
        "BearerwatchChecksLate",
        Severity.CRITICAL,
        _late(holds),
        2 * SCRAPE,
        f"{holds.late.total_seconds():.0f} s behind the moment that the daemon itself has set (an interval,"
        " but at least 2m for a full queue, at most 1h), or no such moment though not paused. Paused"
        f" connections and those that are looked at less often after a refusal are not late. {_TWICE}",
        summary="{{ $value }} connections are not checked in time",
        description="The daemon is behind its own appointments for {{ $value }} connections, so that what"
        f" it says of them is old.{_late_ones()}",
        steps=(
            (
                "If it is all of them, see the daemon's processor time and"
                " `bearerwatch_exchanges_in_flight`: at max_in_flight, raise that or the intervals."
            ),
            "If it is a few, see the log for their names.",
            "Restart the daemon if it does not catch up: nothing that it remembers is lost.",
        ),
    )
    yield alert(
        "BearerwatchCoverageIncomplete",
        Severity.CRITICAL,
        _not_covered(),
        2 * SCRAPE,
        "Connections that are configured, less those that have a state; where none has, all of them."
        f" {_TWICE}",
        summary=f"{{{{ $value }}}} configured connections have no series at {AT}",
        description="The configuration has more or other connections than the metrics page shows: some are"
        " not watched, and no other alert can tell.",
        steps=(
            "Compare the connections on the status page with the configuration.",
            "Restart the daemon, and report the difference: this is a fault of bearerwatch.",
        ),
    )
    yield from _of_replicas(alert)
    yield alert(
        "BearerwatchWatchesNothing",
        Severity.WARNING,
        "bearerwatch_connections_configured == 0",
        LASTING,
        f"{written_duration(LASTING)}: a daemon that is being set up may be empty for a while.",
        summary=f"bearerwatch at {AT} has no connections",
        description="The daemon runs with a configuration that holds no connection.",
        steps=(
            "`bearerwatch config check FILE` says which files were read.",
            "See that the patterns of connections_from find the files that they should.",
        ),
    )
    yield alert(
        "BearerwatchReloadFailed",
        Severity.WARNING,
        "bearerwatch_config_last_reload_successful == 0",
        SAVED,
        f"{written_duration(SAVED)}: who saves a file with a mistake sees it, and saves again.",
        summary=f"bearerwatch at {AT} keeps an old configuration",
        description="The configuration was changed, and can't be read: the daemon goes on with the one"
        " before. A restart would fail.",
        steps=(
            "`bearerwatch config check FILE` names every problem, with its place and what would be right.",
            "Save the file once it is right: the daemon takes it on by itself.",
        ),
    )
    yield alert(
        "BearerwatchStoreFailing",
        Severity.WARNING,
        "increase(bearerwatch_store_errors_total[2m]) > 0",
        STANDING,
        f"{written_duration(STANDING)}: a write that fails is tried again within 30s; one that then succeeds"
        " has lost nothing.",
        summary=f"bearerwatch at {AT} can't write its database",
        description="What is learnt now is kept in memory only: a restart would forget it, and with it how"
        " long approvals lived.",
        steps=(
            "See the log for the reason: a full disk, a directory that may not be written, a damaged file.",
            "Mend that: what is held in memory is written by itself as soon as it can be.",
        ),
    )
    yield alert(
        "BearerwatchNotificationsFailing",
        Severity.CRITICAL,
        "increase(bearerwatch_notifications_failed_total[10m]) > 0",
        UNTOLD,
        f"{written_duration(UNTOLD)}: a receiver that is away is tried every 5m at least, and one that is"
        " back within 10m is no alert: nothing is lost meanwhile.",
        summary=f"Notifications of bearerwatch at {AT} do not arrive",
        description="A receiver of notifications refuses them, or is away. They are sent again until they"
        " arrive.",
        steps=(
            "See the log for the receiver and its answer.",
            "`bearerwatch alerts test --cause approval_decayed` sends a marked drill once that is mended.",
        ),
    )
    yield alert(
        "BearerwatchLogErrors",
        Severity.WARNING,
        f'increase(bearerwatch_log_messages_total{{level=~"error|critical"}}[{RECENTLY}]) > 0',
        2 * SCRAPE,
        f"Any error of the daemon's own within {RECENTLY}: it logs none for what Salesforce answers."
        f" {_TWICE}",
        summary=f"bearerwatch at {AT} logs errors",
        description="Something in the daemon went wrong that should not: it logs errors for faults of its"
        " own alone.",
        steps=(
            (
                "Read the error in the log: `journalctl --unit bearerwatch --priority err`, or the"
                " container's log."
            ),
            "If it is not about your configuration or disk, report it with the log line.",
        ),
    )
    yield alert(
        "BearerwatchScheduleMissed",
        Severity.WARNING,
        f"increase(bearerwatch_schedule_missed_total[{RECENTLY}]) > 0",
        2 * SCRAPE,
        f"Any appointment within {RECENTLY} that brought no check. {_TWICE}",
        summary=f"bearerwatch at {AT} missed appointments",
        description="Appointments came up and brought no check.",
        steps=(
            "See the log around that time, and whether the machine was suspended or short of processor time.",
        ),
    )
    yield alert(
        "BearerwatchLoginBudgetShort",
        Severity.WARNING,
        "increase(bearerwatch_logins_deferred_total[1h]) > 0",
        BUDGET_HELD,
        f"{written_duration(BUDGET_HELD)}: the budget is one of an hour. Checks put off once in a while are"
        " what it is for.",
        summary=f"Checks at {AT} are put off: the login budget is used up",
        description="For an hour, connections that share a username have wanted more logins than"
        " login_budget_per_hour allows, and are checked less often than configured.",
        steps=(
            (
                "Lengthen the interval of the connections that share a username, or raise"
                " login_budget_per_hour: Salesforce allows a user 3,600 an hour, production's included."
            ),
        ),
    )


def _late(holds: Holds) -> str:
    overdue = f"max by (connection) (time() - {_DUE}) > {holds.late.total_seconds():.0f}"
    watched = 'max by (connection) (bearerwatch_connection_state{state="paused"}) == 0'
    return f"count(\n  {overdue}\n  or ({watched} unless on (connection) {_DUE})\n) > 0"


def _late_ones() -> str:
    query = f"topk({SHOWN}, max by (connection) (time() - {_DUE}))"
    each = "{{ $one.Labels.connection }} ({{ $one.Value | humanizeDuration }})"
    names = f"{{{{ range $place, $one := . }}}}{{{{ if $place }}}}, {{{{ end }}}}{each}{{{{ end }}}}"
    return looked_up(query, f"\nThe latest: {names}.")


def _of_replicas(alert: Callable[..., Alert]) -> Iterator[Alert]:
    """Alerts where several daemons watch together: once for all of them, whoever sees it."""
    yield alert(
        "BearerwatchDatabaseUnreachable",
        Severity.CRITICAL,
        "count by (job) (bearerwatch_database_reachable == 0)",
        RESTART,
        f"Replicas that the shared database does not answer. {_RESTART}",
        summary="{{ $value }} replicas of bearerwatch can't reach their database",
        description="A replica that can't reach the shared database checks nothing, since it can't know what"
        " the others check. Where it is all replicas, no connection is watched.",
        steps=(
            "`/-/ready` of a replica says what the database, or the way to it, answers.",
            "See whether PostgreSQL runs, takes connections, and has room on its disk.",
            "Nothing is to be restarted: replicas go on, and write what they still know, once it answers.",
        ),
    )
    yield alert(
        "BearerwatchScheduleIncomplete",
        Severity.CRITICAL,
        "max by (job) (\n"
        "  abs(\n"
        "    bearerwatch_connections_configured\n"
        '    - on (job, instance) bearerwatch_connections{state="paused"}\n'
        "    - on (job, instance) bearerwatch_connections_scheduled\n"
        "  )\n"
        ") > 0",
        SAVED,
        f"{written_duration(SAVED)}: appointments are compared with the configuration every 30 seconds.",
        summary="{{ $value }} connections have no appointment for their next check",
        description="Connections are configured and not paused, and yet no replica will check them.",
        steps=(
            "If BearerwatchReplicasDiffer is firing as well, give all replicas the same configuration.",
            "If not, restart one replica, and report the difference: this is a fault of bearerwatch.",
        ),
    )
    yield alert(
        "BearerwatchReplicasDiffer",
        Severity.WARNING,
        "max by (job) (bearerwatch_replicas_configurations) > 1",
        LASTING,
        f"{written_duration(LASTING)}: while a new configuration reaches one after the other, they differ.",
        summary="Replicas of bearerwatch run with {{ $value }} different configurations",
        description="A connection that only some replicas have is watched by those alone, and what was"
        " removed from some of them is watched still.",
        steps=(
            (
                "Compare `bearerwatch_config_last_reload_success_timestamp_seconds` of the replicas: the"
                " eldest is the one that was left behind."
            ),
            "Give it the configuration of the others, and see its log for why it was not taken on.",
        ),
    )


def _not_covered() -> str:
    exported = 'count by (job, instance) (bearerwatch_connection_state{state="healthy"})'
    configured = "max by (job, instance) (bearerwatch_connections_configured)"
    return f"{configured}\n- ({exported} or {configured} * 0)\n!= 0"
