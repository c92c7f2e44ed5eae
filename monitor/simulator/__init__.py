"""The other end of the wire: orgs that answer as Salesforce does, for tests, benches and the demo.

`org`, `login` and `rest` are written from Salesforce's documents and from what was seen in the field, and
import nothing of the monitor's: a wrong belief that both ends shared would pass every test.
"""
