"""The watch over all connections: when each is looked at, the look itself, and what the fleet knows.

1. `watch`: all of it as one object.
2. `check`: one check, by way of the probe. `fleet`: the connections now. `budget`: logins left.
3. `schedule`: the appointments of one daemon. `replicas` and `engine`: those of several over one PostgreSQL.
4. `clock`: the time. `own_metrics`: what is measured of all this.
"""
