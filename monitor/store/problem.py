"""Database errors, worded for the operator."""

from monitor.core.problem import OperatorError


class StoreError(OperatorError):
    """The database can't be used. The text is one sentence for the operator."""


class DamagedError(StoreError):
    """The file is damaged, or isn't a database."""
