"""New files: nothing is overwritten, no link followed, and what was written outlasts a power cut.

A directory may belong to another user than the one who writes (to whom root rotates a key, say): it is held
open, and every file is named within it, so that nothing that is put in the way leads elsewhere.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Owner = tuple[int, int]
"""User and group, by number."""


class Directory:
    """A directory that is held open. What its methods raise is an OSError that names the path."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self, name: str) -> bytes:
        """The content of a file, which is not a link."""
        with _naming(self.path / name), os.fdopen(self._open(name, os.O_RDONLY), "rb") as file:
            return file.read()

    def create(self, name: str, content: bytes, *, mode: int, owner: Owner | None = None) -> None:
        """Make a file that was not there, with its mode from the first moment: all of it, or nothing."""
        with _naming(self.path / name), self._new(name, content, mode) as descriptor:
            if owner:
                os.fchown(descriptor, *owner)

    def copy(self, name: str, to: str) -> None:
        """Copy a file to a name that was not there."""
        self._make_like(name, to, self.read(name))

    def replace(self, name: str, content: bytes) -> None:
        """Replace the content of a file as a whole; its mode, owner and attributes stay."""
        fresh = f".{name}.{secrets.token_hex(8)}"
        self._make_like(name, fresh, content)
        self.move(fresh, name)

    def move(self, name: str, to: str) -> None:
        """Put a file in the place of another one."""
        with _naming(self.path / to):
            os.replace(name, to, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            os.fsync(self._descriptor)

    def remove(self, name: str) -> None:
        """Take a file away."""
        with _naming(self.path / name):
            os.unlink(name, dir_fd=self._descriptor)

    def _make_like(self, model: str, name: str, content: bytes) -> None:
        with _naming(self.path / name), self._new(name, content, 0o600) as descriptor:
            pattern = self._open(model, os.O_RDONLY)
            try:
                found = os.fstat(pattern)
                if os.geteuid() == 0:
                    os.fchown(descriptor, found.st_uid, found.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
                for attribute in os.listxattr(pattern) if hasattr(os, "listxattr") else ():
                    with suppress(OSError):  # of a kind that only the system sets
                        os.setxattr(descriptor, attribute, os.getxattr(pattern, attribute))
            finally:
                os.close(pattern)

    @contextmanager
    def _new(self, name: str, content: bytes, mode: int) -> Iterator[int]:
        """Makes a file, lets the block say whose it is, and only then writes into it."""
        descriptor = self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield descriptor
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.fsync(self._descriptor)
        except BaseException:
            self.remove(name)
            raise

    def _open(self, name: str, flags: int, mode: int = 0) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self._descriptor)


@contextmanager
def directory(path: Path) -> Iterator[Directory]:
    """Hold a directory open. Raises OSError, which names the path."""
    with _naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Directory(path, descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def created(path: Path, content: bytes, *, mode: int, owner: Owner | None = None) -> Iterator[None]:
    """Make a file that was not there, and take it away again where the block raises.

    Raises OSError, which names the path.
    """
    with directory(path.parent) as place:
        place.create(path.name, content, mode=mode, owner=owner)
        try:
            yield
        except BaseException:
            place.remove(path.name)
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    except ValueError as error:  # a path that no file can have
        raise OSError(errno.EINVAL, str(error), str(path)) from error
