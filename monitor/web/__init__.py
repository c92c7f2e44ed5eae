"""What a person or a program sees of the daemon over HTTP: pages, JSON, metrics, health, reload.

1. `app`: the routes, and what holds for every answer.
2. `selection`: which connections are asked for, and in which order; it lives in the address.
3. `pages` and `templates/`: the two pages. `drawing`: the geometry of what is drawn on them.
4. `api`: the same Snapshot as JSON.
5. `words`: moments and people in words. `record`: the past of a connection. `reproduce`: a command to try it.
6. `metrics`: the Snapshot for Prometheus. `calendar`: what will end when, for calendars.
7. `access`: who may ask, and how often. `connections`: how many may be open, and for how long.
"""
