"""The files that a configuration names: read within bounds, as a pipe may never end, and seen to change."""

import os
import ssl
import stat
from pathlib import Path

PEM_AT_MOST = 4 * 1024**2
"""Bytes of a file of certificates: the roots of a whole system are some 250 KB."""


Stamp = int
"""What tells that a path holds another content: device, inode, size, and when content and inode changed.

The last also tells of a change of permissions, and of a copy that keeps the time of its content. All in one
number: there are two for each connection.
"""


def stamp(path: str | Path) -> Stamp | None:
    """Follows symbolic links, so that Kubernetes' swap of one is seen; None where there is nothing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - at each check: quicker than a Path's, and smaller
    except (OSError, ValueError):
        return None
    return hash((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


class FileError(Exception):
    """Why a file can't be used, in words that follow its name."""


def read(path: str | Path, at_most: int, *, or_pipe: bool = False) -> bytes:
    """The content of a file of at most so many bytes: a regular one, or a pipe as well. Raises FileError."""
    try:
        with open(path, "rb", opener=None if or_pipe else _without_waiting) as file:
            if not or_pipe and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError("is a pipe or a device: use a regular file.")
            content = file.read(at_most + 1)
    except FileNotFoundError:
        raise FileError("does not exist: create it, or correct the path.") from None
    except IsADirectoryError:
        raise FileError("is a directory: name a file in it.") from None
    except PermissionError:
        raise FileError(
            "is not readable by this process: give its user permission, for the directories too."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"cannot be read ({reason}): replace it with a readable file.") from None
    if len(content) > at_most:
        most = f"{at_most // 1024**2} MiB" if at_most >= 1024**2 else f"{at_most // 1024} KiB"
        raise FileError(f"is larger than {most}.")
    return content


def _without_waiting(path: str, flags: int) -> int:
    """Opens a named pipe without a writer too, which would hold the thread forever."""
    return os.open(path, flags | os.O_NONBLOCK)


def trust_authorities(context: ssl.SSLContext, path: Path) -> None:
    """Have a context trust the certificate authorities of a PEM file. Raises FileError."""
    pem = read(path, PEM_AT_MOST).decode("ascii", "ignore")
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise FileError("holds no certificate in PEM.") from None
