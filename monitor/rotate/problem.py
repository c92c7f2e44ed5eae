"""Why a rotation can't begin or go on."""


class RotateError(Exception):
    """The rotation can't begin or go on; the message says why, and what would be right."""
