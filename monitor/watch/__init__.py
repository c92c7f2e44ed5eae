"""Watches all connections: schedule, checks, and the state of the fleet.

1. `watch`: all of it as one object.
2. `check`: one check, using the probe. `fleet`: the connections' current status. `budget`: logins left.
3. `schedule`: timing for a single daemon. `replicas` and `worker`: for several daemons with one PostgreSQL.
4. `clock`: the time. `own_metrics`: metrics about all this.
"""
