"""The pure core: no clock, file, socket, log line or random number; `now` is an argument.

`keys`: keys and certificates. `verdict`: turns an outcome into a diagnosis. The other modules: the values
used everywhere (connection, outcome, finding, history, status), the catalogue of causes, what an audit reads
inside an org (reads, inside, policy), when to check next (cadence, rotation), what is an alert and a message
about it (alerts, holds, maintenance, telling, wording), and availability.
"""
