"""The daemon over HTTP: pages, JSON, metrics, health, reload.

1. `app`: routes and common headers.
2. `selection`: filters and order of connections, as query parameters.
3. `pages` and `templates/`: the pages. `drawing`: the geometry of their charts.
4. `api`: the same Snapshot as JSON.
5. `words`: times and people in words. `record`: a connection's past. `reproduce`: a command to reproduce it.
6. `metrics`: the Snapshot for Prometheus. `calendar`: expiry dates for calendars.
7. `access`: who may request what, and how often. `connections`: limits on open connections.
"""
