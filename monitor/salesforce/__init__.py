"""Talks to orgs: HTTP (`transport`), one login (`exchange`), with a key (`probe`), and audits (`org`)."""
