"""The way to an org: one exchange at its token endpoint, and the probe that makes one with a key."""
