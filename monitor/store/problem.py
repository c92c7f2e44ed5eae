"""What is wrong with a database, for the operator."""

from monitor.core.problem import OperatorError


class StoreError(OperatorError):
    """The database can't be used: one sentence for the operator."""


class DamagedError(StoreError):
    """It is damaged, or no database at all."""
