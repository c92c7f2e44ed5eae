"""What is in memory stays there: keys, assertions and tokens reach no core file and no other process."""

import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4
"""prctl(2)."""


def keep_private() -> None:
    """Forbid core dumps, and on Linux other processes of this user to read or trace this one.

    A core file would hold the keys as they are. Children that run another program are traceable again, but
    leave no core file either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Never fatal: a sandbox may forbid it, and the limit above holds all the same.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
