"""Talks to orgs: the exchange with a token endpoint over HTTP, and the probe that performs one with a key."""
