"""Errors that only the operator can fix. All packages raise them; they end a command."""


class OperatorError(Exception):
    """The program can't start or continue. The message says where, what is wrong, and how to fix it."""
