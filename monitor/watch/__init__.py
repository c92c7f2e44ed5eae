"""The watch over all connections: when each is looked at, the look itself, and what the fleet knows.

1. `check`: one check, by way of the probe. `fleet`: the connections now. `budget`: logins left.
2. `schedule`: the appointments of one daemon. `replicas` and `engine`: those of several over one PostgreSQL.
3. `clock`: the time. `own_metrics`: what is measured of all this.
"""
