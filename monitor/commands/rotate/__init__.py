"""Guided key rotation: creates the next pair, says what to do with it, and waits until the org accepts it.

The progress is derived from files, configuration and the org's answers, so it can be interrupted and
continued.
"""
