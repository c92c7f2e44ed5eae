"""What only the operator can mend: every room tells it as an OperatorError, and a command ends with it."""


class OperatorError(Exception):
    """The work can't begin or go on; the message says where, what is wrong, and what would be right."""
