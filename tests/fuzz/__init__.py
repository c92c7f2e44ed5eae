"""Hostile input: what is made at random for each way into the program, and what must hold of it.

`make test` runs every target briefly; `make fuzz` runs each for ten minutes (`python -m tests.fuzz`).
"""
