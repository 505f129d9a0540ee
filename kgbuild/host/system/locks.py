# SPDX-License-Identifier: GPL-2.0-or-later
"""Lock files that the system frees when their owner dies, and that can be removed while others wait for them.

A lock is flock() on a file. Whoever gets it looks whether the file still has that name, and begins again where it
does not: so an owner may remove the file, and no two ever hold locks of one name by different files. A lock is
exclusive, or shared by any number.

A directory for work in progress outside of the cache, in the system's directory for temporary files, is locked itself
while its owner lives. What a killed run left has no lock, and the next run removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kgbuild.errors import ToolError

_PREFIX = "kgbuild-work-"
_BUSY = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)


class Lock:
    """A lock that this process holds on a file, until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back. `remove` takes the file away first, which only the owner of an exclusive lock may do."""
        if self._descriptor < 0:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


def take(path: Path, *, shared: bool = False, wait: bool = True) -> Lock | None:
    """Lock the file `path`, which is made where there is none; its directory must exist.

    With `wait`, returns when the lock is free; else None where another run, or another part of this one, holds it.
    Raises OSError where the file can't be opened, ToolError where the file system has no locks.
    """
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, mode)
            if _is_file(path, descriptor):
                return Lock(path, descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                return None
            raise ToolError(
                f"the file system has no locks ({error.strerror})",
                place=str(path),
                remedy="set XDG_CACHE_HOME to a directory on a local disk",
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_free(path: Path) -> bool:
    """Whether nobody holds a lock on this file, which is not made. A file that is gone is not free."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _is_file(path, descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_file(path: Path, descriptor: int) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


@contextmanager
def temporary_directory(kind: str) -> Iterator[Path]:
    """A new, empty directory, named by `kind`, which is removed when the context ends. Raises OSError where none can be
    made."""
    import shutil

    path, descriptor = _make(kind)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def sweep_temporary() -> None:
    """Remove the directories of this user that killed runs left."""
    import shutil
    import tempfile

    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if path.lstat().st_uid != os.getuid():
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _make(kind: str) -> tuple[Path, int]:
    """A directory and the descriptor that holds its lock."""
    import tempfile

    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-"))
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks: nobody removes it then
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.is_dir():  # no other run has taken it for one that was left
            return path, descriptor
        os.close(descriptor)
