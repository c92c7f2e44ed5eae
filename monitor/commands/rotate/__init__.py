"""A guided rotation: the next pair, what to do with it, and a look now and then until the org takes it.

Where a rotation stands is read from what is there (the files, the configuration, what the org answers), so it
may be stopped at any point and started again.
"""

from monitor.commands.rotate.guide import AGAIN, rotate
from monitor.commands.rotate.pair import Options, RotateError

__all__ = ["AGAIN", "Options", "RotateError", "rotate"]
