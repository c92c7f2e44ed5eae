"""What is wrong with a database, for the operator."""


class StoreError(Exception):
    """The database can't be used: one sentence for the operator."""
