"""Simulated orgs that answer as Salesforce does, for tests, benchmarks and the demo.

They are written from Salesforce's documentation and from observations, and import nothing from the monitor:
an error in code that both sides shared would pass every test.
"""
