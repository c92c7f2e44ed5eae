"""Why a rotation can't begin or go on."""

from monitor.core.problem import OperatorError


class RotateError(OperatorError):
    """The rotation can't begin or go on; the message says why, and what would be right."""
