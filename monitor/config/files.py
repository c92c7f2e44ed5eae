"""Reads the files that a configuration names, within bounds: a pipe or a device may never end."""

import os
import ssl
import stat
from pathlib import Path

PEM_AT_MOST = 4 * 1024**2
"""Bytes of a file of certificates: the roots of a whole system are some 250 KB."""


class FileError(Exception):
    """Why a file can't be used, in words that follow its name."""


def read(path: Path, at_most: int, *, or_pipe: bool = False) -> bytes:
    """The content of a file of at most so many bytes: a regular one, or a pipe as well. Raises FileError."""
    try:
        with open(path, "rb", opener=None if or_pipe else _without_waiting) as file:
            if not or_pipe and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError("is a pipe or a device. Name a regular file.")
            content = file.read(at_most + 1)
    except FileNotFoundError:
        raise FileError("does not exist.") from None
    except IsADirectoryError:
        raise FileError("is a directory. Name a file.") from None
    except PermissionError:
        raise FileError("may not be read by this user.") from None
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"cannot be read: {reason}.") from None
    if len(content) > at_most:
        raise FileError(f"is larger than {at_most // 1024**2} MiB.")
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
