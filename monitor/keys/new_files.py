"""Creates files safely: overwrites nothing, follows no links, and survives a power cut.

The directory may belong to another user, for example if root rotates that user's key. It is held open and
files are addressed relative to it, so that a planted link can't redirect a write.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Owner = tuple[int, int]
"""Numeric user and group."""


class Directory:
    """An open directory. Its methods raise OSError with the path."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self, name: str) -> bytes:
        """A file's content. Does not follow links."""
        with _naming(self.path / name), os.fdopen(self._open(name, os.O_RDONLY), "rb") as file:
            return file.read()

    def create(self, name: str, content: bytes, *, mode: int, owner: Owner | None = None) -> None:
        """Create a new file with this mode from the start, completely or not at all."""
        with _naming(self.path / name), self._new(name, content, mode) as descriptor:
            if owner:
                os.fchown(descriptor, *owner)

    def copy(self, name: str, to: str) -> None:
        """Copy a file to a new name."""
        self._make_like(name, to, self.read(name))

    def replace(self, name: str, content: bytes) -> None:
        """Replace a file's content atomically, keeping mode, owner and attributes."""
        fresh = f".{name}.{secrets.token_hex(8)}"
        self._make_like(name, fresh, content)
        self.move(fresh, name)

    def move(self, name: str, to: str) -> None:
        """Rename a file, replacing an existing one."""
        with _naming(self.path / to):
            os.replace(name, to, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            os.fsync(self._descriptor)

    def remove(self, name: str) -> None:
        """Delete a file."""
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
                    with suppress(OSError):  # attributes that only the system sets
                        os.setxattr(descriptor, attribute, os.getxattr(pattern, attribute))
            finally:
                os.close(pattern)

    @contextmanager
    def _new(self, name: str, content: bytes, mode: int) -> Iterator[int]:
        """Create a file, let the block set its owner, and only then write the content."""
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
    """Open a directory. Raises OSError with the path."""
    with _naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Directory(path, descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def created(path: Path, content: bytes, *, mode: int, owner: Owner | None = None) -> Iterator[None]:
    """Create a new file, and delete it if the block raises. Raises OSError with the path."""
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
