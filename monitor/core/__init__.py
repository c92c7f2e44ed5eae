"""The pure core: no clock, file, socket, log line or random number; `now` is an argument.

`keys`: keys and certificates. `verdict`: an outcome in, a diagnosis out. Beside them the values that
everything else speaks in (connection, outcome, finding, history, status), the catalogue of causes, when to
look next (cadence, rotation), and what is an alert (alert, alerts, telling, holds, maintenance).
"""
