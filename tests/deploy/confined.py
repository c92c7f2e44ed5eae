"""Runs a command under what the systemd unit takes away, for machines on which systemd can't run it.

`confined.py UNIT COMMAND…`: no capabilities, no new privileges, no core files, no memory that is writable and
executable, and only the system calls and address families that the unit allows, each with the unit's errno.
"""

import ctypes
import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_MDWE = 38, 24, 65
MDWE_REFUSE_EXEC_GAIN = 1
LAST_CAPABILITY = 40
SECCOMP_ALLOW, SECCOMP_EPERM = 0x7FFF0000, 0x00050000 | errno.EPERM
COMPARE_EQUAL = 4
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}


class Comparison(ctypes.Structure):
    """libseccomp's `scmp_arg_cmp`."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def option(unit: str, name: str) -> Iterator[str]:
    """The values of an option, in their order."""
    yield from re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def system_calls(group: str) -> set[str]:
    """The system calls of a systemd group, with those of the groups in it."""
    if not group.startswith("@"):
        return {group}
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, check=True, text=True
    ).stdout
    names = [line.strip() for line in listed.splitlines()[1:]]
    return {call for name in names if name and not name.startswith("#") for call in system_calls(name)}


def allowed_calls(unit: str) -> set[str]:
    """What the SystemCallFilter= lines leave over; a list that begins with ~ takes away."""
    allowed = set[str]()
    for line in option(unit, "SystemCallFilter"):
        calls = {call for group in line.removeprefix("~").split() for call in system_calls(group)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed | system_calls("@default")


def filter_calls(calls: set[str], families: list[str]) -> None:
    """Let only these system calls pass, from here on, in all that is started as well."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(SECCOMP_EPERM)))
    for call in calls - {"socket"}:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:
            library.seccomp_rule_add(context, ctypes.c_uint32(SECCOMP_ALLOW), number, 0)
    socket = library.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        family_is = Comparison(0, COMPARE_EQUAL, FAMILIES[family], 0)
        library.seccomp_rule_add_array(
            context, ctypes.c_uint32(SECCOMP_ALLOW), socket, 1, ctypes.byref(family_is)
        )
    if library.seccomp_load(context) != 0:
        raise OSError("the filter can't be loaded")


def main() -> None:
    """Confine this process, then become the command."""
    unit = Path(sys.argv[1]).read_text(encoding="utf-8")
    calls = allowed_calls(unit)
    (families,) = (line.split() for line in option(unit, "RestrictAddressFamilies"))
    process = ctypes.CDLL(None, use_errno=True)
    assert "MemoryDenyWriteExecute=yes" in unit
    if process.prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        sys.exit("This kernel has no PR_SET_MDWE (Linux 6.3).")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for capability in range(LAST_CAPABILITY + 1):
        process.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # without root there are none to drop
    process.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    filter_calls(calls, families)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
