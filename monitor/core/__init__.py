"""The pure core: no clock, file, socket, log line or random number; `now` is an argument.

`keys`: keys and certificates. `verdict`: turns an outcome into a diagnosis. The other modules: the values
used everywhere (connection, outcome, finding, history, status), the catalogue of causes, when to check next
(cadence, rotation), and what is an alert (alerts, telling, holds, maintenance).
"""
