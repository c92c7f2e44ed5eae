"""Talks to orgs: the exchange with a token endpoint, and the probe that performs one with a key.

1. `transport`: HTTP and its faults; notifications use it as well.
2. `exchange`: one login, and calls with its token.
3. `org`: what an audit asks an org.
4. `probe`: an exchange with a key and a login budget.
"""
