"""Reads files named in the configuration, within bounds (a pipe may never end), and detects changes."""

import os
import ssl
import stat
from pathlib import Path

PEM_AT_MOST = 4 * 1024**2
"""Largest certificate file, in bytes: a system's root certificates have about 250 KB."""


Stamp = int
"""Identifies a file's version: a hash of device, inode, size, mtime and ctime.

ctime also changes with permissions, and with a copy that preserves mtime. A single number, as there are two
per connection.
"""


def stamp(path: str | Path) -> Stamp | None:
    """A path's stamp; None if missing. Follows symbolic links, which Kubernetes swaps."""
    try:
        found = os.stat(path)  # noqa: PTH116 - faster than Path.stat, and runs at each check
    except (OSError, ValueError):
        return None
    return hash((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


class FileError(Exception):
    """A file can't be used. The text continues a sentence that begins with its name."""


def read(path: str | Path, at_most: int, *, or_pipe: bool = False) -> bytes:
    """The content of a regular file (or a pipe) of at most `at_most` bytes. Raises FileError."""
    waiting = 0 if or_pipe else os.O_NONBLOCK  # even a named pipe that has no writer
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | waiting)) as file:
            if not or_pipe and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError("is a pipe or a device: use a regular file.")
            content = file.read(at_most + 1)
    except FileNotFoundError:
        raise FileError("does not exist: create it, or correct the path.") from None
    except IsADirectoryError:
        raise FileError("is a directory: use a file in it.") from None
    except PermissionError:
        raise FileError(
            "is not readable by this process: give its user permission, for the directories too."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: an invalid path
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"cannot be read ({reason}): replace it with a readable file.") from None
    if len(content) > at_most:
        most = f"{at_most // 1024**2} MiB" if at_most >= 1024**2 else f"{at_most // 1024} KiB"
        raise FileError(f"is larger than {most}.")
    return content


def trust_authorities(context: ssl.SSLContext, path: Path) -> None:
    """Make a context trust the certificate authorities in a PEM file. Raises FileError."""
    pem = read(path, PEM_AT_MOST).decode("ascii", "ignore")
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise FileError("contains no PEM certificate.") from None
