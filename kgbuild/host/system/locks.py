# SPDX-License-Identifier: GPL-2.0-or-later
"""Lock files that the system frees when their owner dies, and that can be removed while others wait for them.

A lock is flock() on a file. Whoever gets it looks whether the file still has that name, and begins again where it
does not: so an owner may remove the file, and no two ever hold locks of one name by different files. A lock is
exclusive, or shared by any number.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from kgbuild.errors import ToolError

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
