"""The pure core: no clock, file, socket, log line or random number; `now` is an argument.

Words (values that everything else speaks in): causes, catalogue, outcome, answer, connection, credential,
assertion, finding, history. Judgement (functions over words): diagnosis, approval, cadence, status.
"""
