"""Which replicas count: what one shows that is cut off from the database stands still, and is left out.

It shows all connections as it knew them then, later as unknown, and their checks as late, while the others
go on. Where all are cut off all count, for then nobody knows more.
"""

from monitor.rules.document import Record

CUT_OFF = "instance:bearerwatch_replica:cut_off"
"""The replicas that are cut off while others of their job are not; a daemon without replicas is none."""

BUT_CUT_OFF = f"unless on (job, instance) {CUT_OFF}"
"""What ends the choice of series wherever replicas are aggregated, but for what each has from its own files:
which connections are paused, or in a maintenance."""

CUT_OFF_NOW = Record(
    CUT_OFF,
    "bearerwatch_database_reachable == 0\nand on (job) bearerwatch_database_reachable == 1",
    "Replicas that their database does not answer, while it answers others of the job: what they show stands"
    " still, and counts nowhere below.",
)
