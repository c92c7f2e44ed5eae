"""Keeps keys, assertions and tokens in memory out of core files and other processes."""

import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4
"""prctl(2)."""


def keep_private() -> None:
    """Disable core dumps and, on Linux, access by other processes of the same user.

    A core file would contain the keys. Children that run another program are traceable again, but leave no
    core file either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Never fatal: a sandbox may forbid it, and the limit above still applies.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
