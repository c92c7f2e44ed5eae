"""Talks to orgs: the exchange with a token endpoint, and the probe that performs one with a key."""
