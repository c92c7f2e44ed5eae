"""Benchmarks for `make bench`: costs relative to baselines in the same run, and guarantees under load."""
